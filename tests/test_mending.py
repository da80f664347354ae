"""Files of a run that are gone, cut short or changed: `mmcl run` makes again what it can, to the byte, and names what it cannot.

What a message tells people to do is done here, and works.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from mmcl.api import StageError
from mmcl.cli import main
from mmcl.engine.progress import Progress
from mmcl.report import run_and_report as run_all
from mmcl.report.page import write_report
from mmcl.review.audit import audit_folder
from mmcl.review.rerun import plan_of
from mmcl.runs import RunFolder, digest, read_json, read_jsonl, read_tensors, read_text, write_json, write_tensors

SETS = (
    "dataset={use: toy, samples: 48, speakers: 6}",
    "pretrain.epochs=2",
    "probe={inputs: [audio], tasks: [emotion], heads: {linear: {use: linear, l2: [0.1]}}}",
    "report.against=[pooled]",
    "supervise={heads: {mlp: {use: mlp}}, inputs: [audio], tasks: [emotion], epochs: 1, batch_size: 32}",
    "worth={few_shot: [], draws: 1, transfer: false, missing: false, geometry: true, maps: [pca], points: 10}",
)
UNIT = "fold-00/seed-3"


@pytest.fixture(scope="module")
def whole(small_text, tmp_path_factory):
    """A finished run with every stage, and its plan."""
    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe

    plan = make_plan(parse_recipe(small_text, "tiny.yaml", SETS), overrides=SETS)
    run = RunFolder(tmp_path_factory.mktemp("whole") / "runs" / "tiny")
    run_all(plan, run, workers=1)
    return plan, run


@pytest.fixture(scope="module")
def small_text():
    from tests.conftest import SMALL

    return SMALL


@pytest.fixture
def broken(whole, tmp_path):
    """A copy of it, to be damaged."""
    plan, run = whole
    shutil.copytree(run.root.parent, tmp_path / "runs")
    return plan, RunFolder(tmp_path / "runs" / "tiny")


def content(root):
    """Every file that holds results, by its place in the run; times are no results."""
    files = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and re.search(
            r"\.safetensors$|/(scores|predictions|retrieval|searches|worth)\.jsonl$|^report\.json$", name
        ):
            files[name] = path.read_bytes()
    return files


FILES = [
    *(f"pretrain/{name}" for name in ("encoders.safetensors", "encoders.json", "history.jsonl", "finished.json")),
    *(
        f"embed/{name}"
        for name in (
            "pretrained-test.safetensors",
            "train.safetensors",
            "pooled-valid.safetensors",
            "pooled.json",
            "finished.json",
        )
    ),
    *(f"probe/{name}" for name in ("heads.safetensors", "heads.json", "scores.jsonl", "predictions.jsonl", "retrieval.jsonl")),
    *(f"probe/{name}" for name in ("predictions.safetensors", "searches.jsonl", "chosen.jsonl", "finished.json")),
    *(
        f"supervise/{name}"
        for name in ("models/emotion~audio~mlp.safetensors", "models/emotion~audio~mlp.json", "scores.jsonl")
    ),
    *(f"supervise/{name}" for name in ("predictions.jsonl", "predictions.safetensors", "finished.json")),
    *(f"worth/{name}" for name in ("worth.jsonl", "maps.json", "finished.json")),
]
HARMS = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "a line less": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1])),
    "zeros": lambda path: path.write_bytes(path.read_bytes()[:-64] + bytes(64)),
}


def test_every_file_of_every_stage_is_among_those_that_are_damaged_here(whole):
    """So that a file that a stage learns to write is tried too."""
    there = {p.relative_to(whole[1].root / UNIT).as_posix() for p in (whole[1].root / UNIT).rglob("*") if p.is_file()}
    alike = re.compile(
        r"embed/\w+-\w+\.safetensors|embed/(train|valid|test)\.safetensors|supervise/(chosen.jsonl|work.json)|pretrain/last/.*"
    )
    assert {name for name in there if not alike.fullmatch(name)} <= set(FILES)
    for stage in ("pretrain", "embed", "probe", "supervise", "worth"):
        known = read_json(whole[1].root / UNIT / stage / "finished.json")["files"]
        mine = {name.removeprefix(f"{stage}/") for name in FILES if name.startswith(stage)} - {"finished.json", "pooled.json"}
        assert {name for name in mine if not name.startswith("pooled-")} <= set(known)


@pytest.mark.parametrize("turn", range(3))
def test_a_run_with_damage_in_every_file_is_written_whole_again_to_the_byte(turn, whole, broken, capsys):
    """Each file of each stage, harmed in three ways out of five over the three turns; one run mends them all."""
    plan, run = broken
    for place, name in enumerate(FILES):
        list(HARMS.values())[(place + 2 * turn) % len(HARMS)](run.root / UNIT / name)
    run_all(plan, run, workers=1)
    assert content(run.root) == content(whole[1].root)
    assert "made again" in capsys.readouterr().err
    if not turn:
        audited = audit_folder(run.root)
        assert (audited.findings, audited.left_out) == ((), {})


@pytest.mark.parametrize(
    "name", ["probe/predictions.jsonl", "pretrain/history.jsonl", "supervise/predictions.jsonl", "worth/maps.json"]
)
def test_what_is_damaged_is_named_and_nothing_else_is_written_again(name, whole, broken, capsys):
    plan, run = broken
    stage = name.split("/")[0]
    before = {path: path.stat().st_mtime_ns for path in (run.root / UNIT).rglob("*") if path.is_file()}
    (run.root / UNIT / name).unlink()
    run_all(plan, run, workers=1)
    assert f"{run.root / UNIT / name}: is missing; it is made again" in capsys.readouterr().err
    other = {path for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert other <= {path for path in before if path.relative_to(run.root / UNIT).parts[0] == stage}
    if stage == "supervise":
        assert not any("models" in path.parts for path in other)
    assert content(run.root) == content(whole[1].root)


def test_a_log_that_was_cut_is_mended_and_what_is_lost_is_told(broken, capsys):
    plan, run = broken
    log = run.root / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join([*lines[:-1], '{"time": 1, "ev']), encoding="utf-8")
    with pytest.raises(StageError, match=r"log.jsonl: line \d+ cannot be read as JSON .*; run its recipe again") as words:
        write_report(run.root)
    assert "\n" not in str(words.value)
    run_all(plan, run, workers=1)
    assert f"{log}: 1 line cannot be read and is taken out; what happened then is no longer known" in capsys.readouterr().err
    assert all(json.loads(line)["event"] for line in log.read_text(encoding="utf-8").splitlines())
    write_report(run.root)
    assert audit_folder(run.root).findings == ()


def test_a_log_without_its_last_line_feed_loses_nothing(broken):
    plan, run = broken
    log = run.root / "log.jsonl"
    before = read_jsonl(log)
    log.write_text(log.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    run_all(plan, run, workers=1)
    assert read_jsonl(log)[: len(before)] == before


def test_a_log_that_is_gone_cannot_be_written_again_and_that_is_told(broken, capsys):
    plan, run = broken
    (run.root / "log.jsonl").unlink()
    run_all(plan, run, workers=1)
    assert "log.jsonl: is missing; when the test set was opened so far is no longer known" in capsys.readouterr().err
    assert any("does not say when the test set was opened" in one.evidence for one in audit_folder(run.root).findings)


def test_what_lies_in_the_run_itself_is_written_again(whole, broken):
    plan, run = broken
    before = {path: path.stat().st_mtime_ns for path in (run.root / UNIT).rglob("*") if path.is_file()}
    for name in ("plan.json", "folds.json", "prepare.json", "recipe.yaml"):
        for harm in ("gone", "cut"):
            HARMS[harm](run.root / name)
            run_all(plan, run, workers=1, stop_after="pretrain")
            assert (run.root / name).read_bytes()[:100] == (whole[1].root / name).read_bytes()[:100]
    for harm in ("gone", "cut"):
        for name in ("report.json", "report.html"):
            HARMS[harm](run.root / name)
        run_all(plan, run, workers=1)
        assert content(run.root) == content(whole[1].root)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("name", ["plan.json", "folds.json", "recordings.safetensors"])
@pytest.mark.parametrize("change", ["pretrain.epochs=1", "dataset={use: toy, samples: 42, speakers: 6}"])
def test_another_plan_does_not_replace_work_whose_own_plan_or_recordings_are_lost(
    name, change, broken, tiny_plan, small_recipe
):
    _, run = broken
    before = content(run.root / "fold-00")
    (run.root / name).unlink()
    other = tiny_plan(*SETS, change, text=small_recipe)
    for _ in range(2):  # asking twice changes nothing
        with pytest.raises(
            StageError, match=r"give --out for a folder of its own, or --overwrite to replace it|holds finished work"
        ):
            run_all(other, run, workers=1)
        assert content(run.root / "fold-00") == before
    run_all(other, run, workers=1, stop_after="pretrain", overwrite=True)
    assert read_json(run.root / "plan.json")["plan"] == json.loads(json.dumps(other.to_json()))


def test_prepared_streams_that_are_damaged_are_prepared_anew(whole, broken, capsys):
    plan, run = broken
    (folder,) = (run.root.parent / "prepared" / "toy").glob("log-mel-*")
    (good,) = (whole[1].root.parent / "prepared" / "toy").glob("log-mel-*")
    for name in ("index.safetensors", "shard-00000.safetensors", "store.json"):
        for harm in ("gone", "cut", "zeros"):
            HARMS[harm](folder / name)
            run_all(plan, run, workers=1, stop_after="prepare")
            assert {one.name: one.read_bytes() for one in folder.iterdir()} == {
                one.name: one.read_bytes() for one in good.iterdir()
            }
            words = capsys.readouterr().err
            assert (name, harm) == ("store.json", "gone") or "they are prepared anew" in words
    run_all(plan, run, workers=1, stop_after="pretrain")
    assert content(run.root) == content(whole[1].root)


@pytest.mark.parametrize("read", [read_json, read_jsonl, read_text, read_tensors])
def test_a_file_that_cannot_be_read_is_one_sentence_with_what_to_do(read, tmp_path):
    path = tmp_path / ("scores.jsonl" if read is read_jsonl else "weights.safetensors" if read is read_tensors else "plan.json")
    for bytes_ in (None, b"\xff\xfe{", b"[1", b"[]") if read is not read_text else (None, b"\xff\xfe"):
        if bytes_ is not None:
            path.write_bytes(bytes_)
        with pytest.raises(StageError, match=r"run its recipe again \(`mmcl run`\), which makes it anew$") as words:
            read(path)
        assert "\n" not in str(words.value)


def test_what_is_finished_is_looked_at_in_its_own_folder_alone(broken, tmp_path):
    """A mark from a stranger cannot have other files read."""
    plan, run = broken
    mark = run.root / UNIT / "worth" / "finished.json"
    about = json.loads(mark.read_text(encoding="utf-8"))
    (tmp_path / "secret").write_text("mine", encoding="utf-8")
    mark.write_text(json.dumps({**about, "files": {"../../../../../secret": "0"}}), encoding="utf-8")
    opened: list[str] = []
    import sys

    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    run_all(plan, run, workers=1, stop_after="worth")
    assert not any("secret" in name for name in opened)


def test_a_model_of_several_that_is_damaged_is_trained_again_alone(tiny_plan, small_recipe, run):
    heads = "supervise={heads: {mlp: {use: mlp}, wide: {use: mlp, hidden: 9}}, inputs: [audio], tasks: [emotion], epochs: 1, batch_size: 32}"
    plan = tiny_plan("pretrain.epochs=0", "worth=null", "report.against=[]", "probe.inputs=[audio]", heads, text=small_recipe)
    run_all(plan, run, workers=1)
    models = run.stage("supervise", 0, 3) / "models"
    whole = {path.name: path.read_bytes() for path in models.glob("*.safetensors")}
    times = {path.name: path.stat().st_mtime_ns for path in models.iterdir()}
    HARMS["cut"](models / "emotion~audio~mlp.safetensors")
    run_all(plan, run, workers=1)
    assert {path.name: path.read_bytes() for path in models.glob("*.safetensors")} == whole
    assert {path.stem for path in models.iterdir() if path.stat().st_mtime_ns != times[path.name]} == {"emotion~audio~mlp"}


def test_a_training_that_patience_ended_is_written_whole_again_and_trains_no_further(tiny_plan, small_recipe, run):
    plan = tiny_plan(
        "pretrain.epochs=6",
        "pretrain.patience=1",
        "pretrain.optimizer.lr=0.3",
        "worth=null",
        "report.against=[]",
        text=small_recipe,
    )
    run_all(plan, run, workers=1, stop_after="pretrain")
    folder = run.stage("pretrain", 0, 3)
    assert read_json(folder / "finished.json")["stopped"] == "patience"
    weights, history = ((folder / name).read_bytes() for name in ("encoders.safetensors", "history.jsonl"))
    (folder / "encoders.safetensors").unlink()
    run_all(plan, run, workers=1, stop_after="pretrain")
    assert ((folder / "encoders.safetensors").read_bytes(), (folder / "history.jsonl").read_bytes()) == (weights, history)


def test_without_the_last_checkpoint_training_starts_anew_to_the_same_weights(whole, broken, capsys):
    plan, run = broken
    folder = run.root / UNIT / "pretrain"
    (folder / "encoders.safetensors").unlink()
    HARMS["cut"](folder / "last" / "state.safetensors")
    run_all(plan, run, workers=1, stop_after="pretrain")
    assert "Training starts anew" in capsys.readouterr().err
    theirs = Path(whole[1].root / UNIT / "pretrain" / "encoders.safetensors").read_bytes()
    assert (folder / "encoders.safetensors").read_bytes() == theirs


@pytest.mark.parametrize("stage", ["pretrain", "supervise"])
@pytest.mark.parametrize("harm", ["cut", "empty", "gone"])
def test_two_bad_checkpoints_are_one_sentence_and_overwrite_begins_that_training_anew(stage, harm, whole, broken, capsys):
    plan, run = broken
    folder = run.root / UNIT / stage
    result = folder / {"pretrain": "encoders.safetensors", "supervise": "models/emotion~audio~mlp.safetensors"}[stage]
    for path in (folder / "finished.json", result, result.with_suffix(".json")):
        path.unlink()
    spoilt = {"resume": "state.safetensors" if stage == "pretrain" else "state.json", "resume.old": "state.json"}
    for name, file in spoilt.items():
        shutil.copytree(run.root / UNIT / "pretrain" / "last", folder / name)
        HARMS[harm](folder / name / file)
    shutil.rmtree(folder / "last", ignore_errors=True)
    names = ".*".join(f"{name}/{file}" for name, file in spoilt.items())
    with pytest.raises(
        StageError, match=f"{names}.*neither of them can be used; give --overwrite .and no --continue., which begins"
    ):
        run_all(plan, run, workers=1, stop_after=stage)
    run_all(plan, run, workers=1, stop_after=stage, overwrite=True)
    assert f"{stage} fold 0, seed 3: no checkpoint in" in capsys.readouterr().err
    assert result.read_bytes() == (whole[1].root / result.relative_to(run.root)).read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith("resume")]


@pytest.mark.parametrize("stage", ["pretrain", "supervise"])
@pytest.mark.parametrize("harm", ["a key", "a width", "the optimiser", "the best", "what is counted"])
def test_checkpoints_that_are_whole_and_do_not_fit_are_one_sentence_and_overwrite_begins_that_training_anew(
    stage, harm, whole, broken, capsys, monkeypatch
):
    plan, run = broken
    folder = run.root / UNIT / stage
    result = folder / {"pretrain": "encoders.safetensors", "supervise": "models/emotion~audio~mlp.safetensors"}[stage]
    for path in (folder / "finished.json", result, result.with_suffix(".json")):
        path.unlink()
    shutil.rmtree(folder / "last", ignore_errors=True)
    _stopped_after_an_epoch(plan, run, stage, monkeypatch)
    unfit = folder / "resume"
    _unfit(unfit, harm)
    shutil.copytree(unfit, folder / "resume.old")
    with pytest.raises(StageError, match=r"neither of them can be used; give --overwrite .and no --continue., which begins"):
        run_all(plan, run, workers=1, stop_after=stage)
    run_all(plan, run, workers=1, stop_after=stage, overwrite=True)
    assert "they were removed, and this training begins anew" in capsys.readouterr().err
    assert result.read_bytes() == (whole[1].root / result.relative_to(run.root)).read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith("resume")]


def _stopped_after_an_epoch(plan, run, stage, monkeypatch):
    """Train until a checkpoint is written, and end there as a kill does."""

    class Killed(BaseException):
        pass

    def killed(state, folder, model, optimizer):
        save(state, folder, model, optimizer)
        raise Killed

    save = Progress.save
    with monkeypatch.context() as here:
        here.setattr(Progress, "save", killed)
        if stage == "supervise":  # whose trainings of one epoch write none
            here.setattr(
                Progress,
                "stop_for",
                lambda state, number, folder, model, optimizer, *_: killed(state, folder, model, optimizer),
            )
        with pytest.raises(Killed):
            run_all(plan, run, workers=1, stop_after=stage)
    last = run.root / UNIT / stage / "last"
    if last.exists():
        last.rename(last.with_name("resume"))


def _unfit(folder, harm):
    """Change a checkpoint so that it is whole, and of other networks."""
    tensors, counters = read_tensors(folder / "state.safetensors"), read_json(folder / "state.json")
    if harm == "what is counted":
        del counters["best_epoch"]
    else:
        part = {"the optimiser": "optimizer/", "the best": "best/"}.get(harm, "now/")
        name = next(name for name, value in tensors.items() if name.startswith(part) and value.ndim == 2)
        value = tensors.pop(name)
        tensors[f"{name}s" if harm == "a key" else name] = value if harm == "a key" else value[:, :-1].contiguous()
    write_tensors(folder / "state.safetensors", tensors)
    write_json(folder / "state.json", {**counters, "sha256": digest(folder / "state.safetensors")})


@pytest.mark.parametrize("stage", ["pretrain", "supervise"])
def test_what_a_kill_between_the_last_two_steps_leaves_is_taken_away(stage, broken):
    plan, run = broken
    folder = run.root / UNIT / stage
    for name in ("resume", "resume.old", *(["last.old"] if stage == "pretrain" else [])):
        shutil.copytree(run.root / UNIT / "pretrain" / "last", folder / name)
    run_all(plan, run, workers=1)
    assert not [path for path in folder.iterdir() if path.name in ("resume", "resume.old", "last.old")]


def test_a_run_without_its_prepared_streams_is_reported_audited_and_gone_on_with(whole, broken):
    plan, run = broken
    shutil.rmtree(run.root.parent / "prepared")
    write_report(run.root)
    audited = audit_folder(run.root)
    assert audited.findings == ()
    assert set(audited.left_out) == {
        "prepared streams are those that were written",
        "no recording twice under two names, across splits",
        "normalisation from training rows alone",
    } | {name for name in audited.left_out if "trained models" in name}
    assert all("the run's prepared streams are not there" in why for why in audited.left_out.values())
    run_all(plan, run, workers=1)
    assert content(run.root) == content(whole[1].root)
    assert audit_folder(run.root).left_out == {}


@pytest.mark.parametrize("how", ["beside", "alone"])
def test_a_run_that_was_moved_is_reported_audited_and_gone_on_with(how, whole, broken, tmp_path):
    """With the prepared streams beside it, or alone; what is finished stays as it is."""
    plan, run = broken
    there = tmp_path / "else where" / "deeper" / "moved #1"
    there.parent.mkdir(parents=True)
    if how == "beside":
        shutil.move(run.root.parent / "prepared", there.parent / "prepared")
    shutil.move(run.root, there)
    shutil.rmtree(tmp_path / "runs")
    moved = RunFolder(there)
    write_report(there)
    assert audit_folder(there).findings == ()
    times = {path: path.stat().st_mtime_ns for path in there.glob("fold-*/**/finished.json")}
    run_all(plan, moved, workers=1)
    assert {path: path.stat().st_mtime_ns for path in there.glob("fold-*/**/finished.json")} == times
    assert content(there) == content(whole[1].root)
    assert plan_of(there).to_json()["seed"] == [3]


def test_a_repetition_keeps_its_own_prepared_streams_when_it_is_moved(whole, tmp_path):
    plan, _ = whole
    again = RunFolder(tmp_path / "again", tmp_path / "again" / "prepared")
    run_all(plan, again, workers=1, stop_after="probe")
    shutil.move(tmp_path / "again", tmp_path / "there")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*/*.safetensors")}
    times.pop(tmp_path / "there" / "recordings.safetensors", None)  # which is written again, as folds.json is
    run_all(plan, RunFolder(tmp_path / "there"), workers=1, stop_after="probe")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not (tmp_path / "prepared").exists()


def test_a_run_that_was_stopped_within_pretraining_goes_on_after_it_was_moved(whole, tmp_path, monkeypatch):
    plan, run = whole
    stopped = RunFolder(tmp_path / "runs" / "tiny")
    monkeypatch.setattr(Progress, "due", lambda self, minutes: True)
    monkeypatch.setattr(Progress, "save", lambda self, *args, _save=Progress.save: (_save(self, *args), killed_after(self)))

    def killed_after(state):
        if state.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(plan, stopped, workers=1, stop_after="pretrain")
    monkeypatch.undo()
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    run_all(plan, RunFolder(tmp_path / "moved" / "tiny"), workers=1, stop_after="pretrain")
    for name in ("encoders.safetensors", "last/state.safetensors"):
        assert (tmp_path / "moved" / "tiny" / UNIT / "pretrain" / name).read_bytes() == (
            run.root / UNIT / "pretrain" / name
        ).read_bytes()


def test_a_fault_of_ours_is_not_called_damage_where_the_files_are_as_they_were_written(broken, monkeypatch, capsys):
    """And the same fault, where a file was changed, names that file."""
    _, run = broken
    write_report(run.root)  # what it writes anew is not taken for damage

    def wrong(*args):
        raise KeyError("ours")

    monkeypatch.setattr("mmcl.report.page.report_json", wrong)
    with pytest.raises(KeyError, match="ours"):
        write_report(run.root)
    with pytest.raises(SystemExit) as done:
        main(["report", str(run.root)])
    assert done.value.code == 1
    assert "this is a bug in mmcl or in a plug-in" in capsys.readouterr().err
    scores = run.root / UNIT / "probe" / "scores.jsonl"
    HARMS["a line less"](scores)
    with pytest.raises(StageError, match=r"do not fit together \(KeyError: 'ours'.*probe/scores.jsonl is not what was written"):
        write_report(run.root)


@pytest.mark.parametrize("name", ["plan.json", "prepare.json", "folds.json", "report.json", "written.json"])
def test_damage_to_a_file_that_no_stage_answers_for_is_damage(name, broken, monkeypatch):
    _, run = broken
    (run.root / name).write_text(read_text(run.root / name) + " ", encoding="utf-8")
    if name == "written.json":
        (run.root / name).write_text('{"key": "run"}', encoding="utf-8")

    def wrong(*args):
        raise KeyError("theirs")

    monkeypatch.setattr("mmcl.report.page.report_json", wrong)
    with pytest.raises(StageError, match="its files do not fit together"):
        write_report(run.root)


def test_memory_that_ends_while_a_run_is_read_is_no_damage(broken, monkeypatch):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr("mmcl.report.page.report_json", full)
    with pytest.raises(MemoryError):
        write_report(broken[1].root)
