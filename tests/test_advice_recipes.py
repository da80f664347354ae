"""Advice about recipes, searches, reports and reviews that arrives in a run, or by a line of a command, is followed and works."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from mmcl.api import DataError, MmclError, RecipeError, StageError
from mmcl.data.prepared import load_prepared
from mmcl.engine.places import Died
from mmcl.media import finder, speech
from mmcl.plugins import plugins
from mmcl.report.page import _next
from mmcl.report.several import report_runs
from mmcl.review import machine
from mmcl.review.audit import audit_folder
from mmcl.review.compare import compare_runs
from mmcl.review.rerun import plan_of
from mmcl.runs import RunFolder, locked, read_json, read_jsonl
from tests.advice.core import call
from tests.advice.plans import planned, printed

# -------------------------------------------------------------------------------------------------------- what pip would bring


def named(requirement: str) -> set[str]:
    """The packages of a requirement; of mmcl itself those that it, or one of its extras, asks for."""
    wanted = Requirement(requirement)
    if wanted.name != "mmcl":
        return {wanted.name}
    asked = [Requirement(one) for one in requires("mmcl") or []]
    return {
        name
        for extra in wanted.extras or {""}
        for one in asked
        if (one.marker is None or one.marker.evaluate({"extra": extra})) and (extra == "" or one.marker is not None)
        for name in named(str(one).partition(";")[0])
    }


class Pip:
    """What pip does to packages that are not there ("absent") or not whole ("damaged"), by what a message says to run."""

    def __init__(self, **states: str) -> None:
        self.states = {name.replace("_", "-"): state for name, state in states.items()}

    def run(self, advice: str) -> None:
        """A line as doctor gives it. An installation leaves what is there as it is, unless it is forced."""
        for command in advice.partition(", in an environment of its own")[0].split(" && "):
            pip, what, *words = shlex.split(command)
            assert pip == "pip"
            names = {name for one in words if not one.startswith("-") for name in named(one)}
            assert names
            for name in names & self.states.keys():
                if what == "uninstall":
                    self.states[name] = "absent"
                elif self.states[name] == "absent" or {"--force-reinstall", "--upgrade"} & set(words):
                    self.states[name] = "whole"

    def version(self, name: str) -> str:
        """As importlib.metadata has it; a package that is not there in this environment is there in a version that suits."""
        if self.states.get(name) == "absent":
            raise PackageNotFoundError(name)
        if self.states.get(name) == "damaged":
            return "0.0.1"
        with suppress(PackageNotFoundError):
            return version(name)
        return next(
            one.version
            for text in requires("mmcl") or []
            for one in Requirement(text).specifier
            if Requirement(text).name == name
        )


def line_of(name: str) -> machine.Line:
    return next(line for line in machine.examined() if line.name == name)


EXTRAS = sorted(set(metadata("mmcl").get_all("Provides-Extra") or ()) - set(machine.FOR_WORK_ON_MMCL))


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_is_whole_after_the_command_of_doctor(extra, monkeypatch):
    pip = Pip(**dict.fromkeys(named(f"mmcl[{extra}]"), "absent"))
    monkeypatch.setattr(machine, "version", pip.version)
    lines = {line.name: line for line in machine._extras()}
    assert lines[f"extra {extra}"].state == "missing"
    pip.run(lines[f"extra {extra}"].remedy)
    assert {line.name: line for line in machine._extras()}[f"extra {extra}"].state == "ok"


def test_packages_that_mmcl_needs_are_brought_by_the_command_of_doctor(monkeypatch):
    pip = Pip(torch="damaged", numpy="absent")
    monkeypatch.setattr(machine, "version", pip.version)
    (line,) = machine._packages()
    assert (line.state, line.remedy.partition(" mmcl")[0]) == ("wrong", "pip install --upgrade")
    pip.run(line.remedy)
    assert next(machine._packages()).state == "ok"
    unfit = Pip(torchaudio="damaged")

    def import_module(name: str) -> None:
        if unfit.states.get(name) == "damaged":
            raise OSError("undefined symbol")

    monkeypatch.setattr(machine, "import_module", import_module)
    (line,) = machine._packages()
    assert line.state == "wrong"
    unfit.run(line.remedy)
    assert next(machine._packages()).state == "ok"


@pytest.mark.parametrize(
    ("module", "library", "kept", "what"),
    [(finder, "dlib", "weights_file", "faces"), (speech, "faster_whisper", "_folder", "words")],
    ids=["faces", "words"],
)
@pytest.mark.parametrize("state", ["absent", "damaged"])
def test_weights_that_lack_or_are_damaged_are_right_after_the_command_of_doctor(
    module, library, kept, what, state, monkeypatch
):
    if (
        find_spec(library) is None or find_spec(module.PACKAGE) is None
    ):  # looked for alone: once imported, a package is the one that is there
        pytest.skip("the weights are not installed")
    package = module.PACKAGE.replace("_", "-") + ("-ng" if what == "faces" else "")
    pip, real = Pip(**{package: state}), module.packaged_files

    def packaged_files(name: str, files: dict[str, str], absent: str, install: str) -> Path:
        if pip.states[package] == "absent":
            name = "no_such_package"
        elif pip.states[package] == "damaged":
            files = dict.fromkeys(files, "0" * 64)
        return real(name, files, absent, install)

    monkeypatch.setattr(module, "packaged_files", packaged_files)
    getattr(module, kept).cache_clear()
    line = line_of(f"weights {what}")
    assert line.state == "missing"
    pip.run(line.remedy)
    assert line_of(f"weights {what}").state == "ok"


@pytest.mark.parametrize(("module", "sets"), [("umap", "worth={maps: [umap]}"), ("tensorboard", "track=[tensorboard]")])
def test_what_a_recipe_needs_and_lacks_is_brought_by_the_extra_that_is_named(module, sets, tmp_path, monkeypatch):
    package = {"umap": "umap-learn"}.get(module, module)
    pip = Pip(**{package: "absent"})
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: (find_spec("json") if pip.states[package] == "whole" else None) if name == module else find_spec(name),
    )
    with pytest.raises(RecipeError, match=f"{module} is not installed: ") as error:
        planned(tmp_path, sets)
    pip.run(str(error.value).rpartition(": ")[2])
    assert sets in planned(tmp_path, sets).overrides


# ---------------------------------------------------------------------------------------------------------------- the machine


def test_as_many_threads_as_doctor_says_do_not_wait_for_each_other():
    before, cores = torch.get_num_threads(), os.cpu_count() or 1
    torch.set_num_threads(cores + 3)
    try:
        line = next(one for one in machine._processor() if one.name == "threads")
    finally:
        torch.set_num_threads(before)
    assert (line.state, line.remedy) == ("missing", f"export OMP_NUM_THREADS={cores}")
    code = "from mmcl.review.machine import _processor; print(*(one.state for one in _processor() if one.name == 'threads'))"
    command = f"{line.remedy}; {shlex.join([sys.executable, '-c', code])}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ok"]


def test_where_bf16_is_emulated_precision_stays_at_float32_unless_it_is_asked_for(monkeypatch, tmp_path):
    for name, value in {"is_available": True, "is_bf16_supported": False, "get_device_name": "an old one"}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    (line,) = [one for one in machine._processor() if one.name == "GPU"]
    assert line.text.endswith("bf16 is emulated: leave precision at float32")
    labels = "supervise={heads: {one: mlp}}"
    recipe = planned(tmp_path, labels).recipe
    assert recipe.supervise is not None
    assert {recipe.pretrain.precision, recipe.supervise.precision} == {"float32"}
    assert planned(tmp_path, labels).halves == ()


def test_folders_that_doctor_offers_are_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "file"))
    name, _, folder = line_of("cache").remedy.removeprefix("export ").removesuffix(" that may be written").partition("=")
    monkeypatch.setenv(name, str(tmp_path / folder))
    assert line_of("cache").state == "ok"
    if not Path("/proc/self").is_dir():
        pytest.skip("there is no folder here that nobody may write to")
    monkeypatch.chdir("/proc")
    line = line_of("current folder")
    assert (line.state, line.remedy) == ("wrong", "work in another folder, or give --out")
    (tmp_path / "recipe.yaml").write_text(TINY)
    call("run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"), "--stop-after", "prepare")
    assert (tmp_path / "run" / "folds.json").is_file()
    monkeypatch.chdir(tmp_path)
    assert line_of("current folder").state == "ok"


# ------------------------------------------------------------------------------------------------------------------- searches

TINY = """\
format: 1
name: tiny
dataset: {use: toy, samples: 48, speakers: 6}
modalities:
  text: {features: {use: hashed-words, dim: 4}, backbone: {use: mlp, hidden: [4], width: 4}}
  audio: {features: {use: log-mel, bands: 4, hop: 0.1, window: 0.2}, backbone: {use: tcn, channels: [4]}}
window: {seconds: 0.8}
projection: {hidden: 4, width: 4}
pretrain: {batch_size: 16, epochs: 1, checkpoint_minutes: 0}
probe: {inputs: [all], heads: {linear: {use: linear, l2: [1.0]}}}
protocol: official
report: {against: []}
sweep: {space: {pretrain.optimizer.lr: [1e-3, 1e-2]}, trials: 1}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Where the streams of all searches of this file are kept: prepared once."""
    return tmp_path_factory.mktemp("searches")


@pytest.fixture
def search(runs, request, tmp_path) -> Callable[..., None]:
    """`mmcl sweep` into a folder of the test's own."""
    pytest.importorskip("optuna")
    (tmp_path / "recipe.yaml").write_text(TINY)

    def run(name: str, *more: str) -> Path:
        out = runs / f"{request.node.originalname}-{name}"
        call("sweep", str(tmp_path / "recipe.yaml"), "--out", str(out), "--no-final", *more)
        return out

    return run


def trials_of(out: Path) -> int:
    return len(read_json(out / "trials.json")["trials"])


def test_a_search_goes_on_in_another_folder_and_in_one_that_was_deleted(search):
    other = ("--set", "sweep.space={projection.width: [2, 4]}")
    out = search("one")
    with pytest.raises(StageError, match="another space; give another --out, or delete the folder"):
        search("one", *other)
    assert trials_of(search("two", *other)) == 1
    shutil.rmtree(out)
    assert trials_of(search("one", *other)) == 1
    assert list(read_json(out / "sweep.json")["space"]) == ["projection.width"]
    with (out / "study.jsonl").open("r+b") as file:
        file.truncate(100_000_000)
    with pytest.raises(StageError, match="are expected; delete the folder, or give another --out"):
        search("one", *other)
    assert trials_of(search("three", *other)) == 1
    shutil.rmtree(out)
    assert trials_of(search("one", *other)) == 1


def test_a_search_whose_process_died_goes_on_with_fewer_jobs(search, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("mmcl.engine.places._Pool.answers", lambda *_: (_ for _ in ()).throw(Died(["trial 0"])))
        with pytest.raises(StageError, match="run the same command again, with fewer --jobs"):
            search("one", "--jobs", "2")
    assert trials_of(search("one", "--jobs", "1")) == 1


def test_a_sweep_needs_what_the_extra_that_is_named_brings(search, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)
        with pytest.raises(StageError, match="a sweep needs Optuna: ") as error:
            search("one")
    pip = Pip(optuna="absent")
    pip.run(str(error.value).rpartition(": ")[2])
    assert pip.states == {"optuna": "whole"}
    assert trials_of(search("one")) == 1


def test_the_command_in_best_yaml_runs_the_best_values(search, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (search("one") / "best.yaml").read_text()
    command = re.search(r"^# +(mmcl run .*)$", text, re.MULTILINE)
    assert command is not None
    call(*shlex.split(command[1])[1:])
    (run,) = (tmp_path / "runs").glob("*/report.json")
    assert read_json(run)["summary"]


# ------------------------------------------------------------------------------------------------------------------------ runs

STUDY = """\
format: 1
name: study
dataset: {use: folder, group: speaker}
modalities:
  sound: {features: {use: log-mel, bands: 4, hop: 0.1, window: 0.2}, backbone: {use: tcn, channels: [4]}}
  text: {features: {use: hashed-words, dim: 4}, backbone: {use: mlp, hidden: [4], width: 4}}
window: {seconds: 0.5}
projection: {hidden: 4, width: 4}
pretrain: {batch_size: 8, epochs: 1, checkpoint_minutes: 0}
probe: {tasks: [mood, valence], inputs: [sound, all], heads: {linear: {use: linear, l2: [1.0]}}}
protocol: official
report: {against: []}
sweep: {space: {pretrain.optimizer.lr: [1e-3, 1e-2]}, score: {task: mood}, trials: 1}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with recordings in data/folder, study.yaml, and its finished run in runs/study. Tests leave all of it as it is."""
    root = tmp_path_factory.mktemp("study")
    plugins().get("dataset", "folder").spec.sample(root / "data" / "folder", 24, 0)
    (root / "study.yaml").write_text(STUDY)
    call("run", str(root / "study.yaml"), "--data", str(root / "data"), "--out", str(root / "runs" / "study"), "--workers", "1")
    return root


@pytest.fixture
def own(study, tmp_path, monkeypatch) -> Path:
    """A copy of that folder in which a test may do what it likes; the current folder, and where data are looked for."""
    shutil.copytree(study, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    monkeypatch.setenv("MMCL_DATA", str(study / "data"))
    return tmp_path / "own"


def test_every_command_that_a_report_offers_goes_on_from_its_run(own):
    """Of a run with two tasks, folds from a file that lies elsewhere, and a value laid over its recipe."""
    pytest.importorskip("optuna")
    with (own / "data" / "folder" / "recordings.csv").open(encoding="utf-8") as file:
        groups = sorted({row["speaker"] for row in csv.DictReader(file)})
    (own / "by.csv").write_text("group,fold\n" + "".join(f"{group},{k % 3}\n" for k, group in enumerate(groups)))
    (own / "folds.yaml").write_text(STUDY.replace("protocol: official", "protocol: {use: folds, file: by.csv, only: [0]}"))
    call("run", "folds.yaml", "--set", "probe.inputs=[all]", "--out", "runs/mine", "--workers", "1")
    page = html.unescape((own / "runs" / "mine" / "report.html").read_text())
    offered = re.findall(r"<code>(mmcl \w+[^<]*)</code>", page)
    commands = {command.split()[1]: shlex.split(command)[1:] for command in offered}
    assert list(commands) == [command.split()[1] for command, _ in _next(own / "runs" / "mine")]
    sound = next((own / "data").rglob("*.wav"))
    assert "mood" in printed(*(str(sound) if word == "FILE" else word for word in commands["predict"]))
    assert "0 of them different" in printed(*commands["rerun"], "--workers", "1")
    beside = [word.replace("OTHER-RUN", "runs/mine-again") for word in commands["compare"]]
    assert "mine-again: pretrained all linear" in printed(*beside)
    assert {line.split()[0] for line in printed(*commands["audit"]).splitlines()} == {"ok"}
    swept = Path(printed(*commands["sweep"]).split()[-1])
    assert swept.name == "sweep.html"
    assert swept.is_file()
    about = read_json(swept.with_name("sweep.json"))["recipe"]
    assert (about["protocol"]["use"], about["probe"]["inputs"]) == ("folds", {"all": ["sound", "text"]})
    assert {"study", "mine", "mine-again", "study-sweep"} <= set(printed(*commands["runs"]).split())


def test_a_run_is_taken_where_a_folder_that_is_none_was_refused(study, tmp_path):
    name = study / "runs" / "study"
    taken: dict[str, Callable[[Path], object]] = {
        "name runs such as runs/NAME, that `mmcl run` has finished": lambda folder: compare_runs([folder], "mood").rows[0].name,
        "name one such as runs/NAME": lambda folder: plan_of(folder, study / "data").name,
        "it has no plan.json); name one such as runs/NAME": lambda folder: bool(audit_folder(folder).checks),
        "name runs such as runs/NAME, that": lambda folder: (
            report_runs([folder, name], tmp_path / "page.html").stat().st_size > 0
        ),
    }
    for words, read in taken.items():
        with pytest.raises(StageError, match=f"is no run folder.*{re.escape(words)}"):
            read(tmp_path)
    other = tmp_path / "runs" / "other"
    shutil.copytree(name, other)
    shutil.copytree(study / "runs" / "prepared", tmp_path / "runs" / "prepared")
    assert all(read(other) for read in taken.values())


def test_runs_are_each_named_once_in_a_report_of_several(own):
    shutil.copytree("runs/study", "runs/other")
    with pytest.raises(DataError, match="a run is named twice; name each once"):
        report_runs([Path("runs/study"), Path("runs/other"), Path("runs/study")])
    page = report_runs([Path("runs/study"), Path("runs/other")])
    assert page.name == "study+other.html"
    assert "other" in page.read_text()


def only(folder: Path, task: str) -> None:
    """Leave a run's answers about one task alone, as a recipe that names it alone has them, and no searches."""
    ((_, _, unit),) = RunFolder(folder).units("probe")
    rows = [row for row in read_jsonl(unit / "predictions.jsonl") if row["task"] == task]
    (unit / "predictions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (unit / "searches.jsonl").unlink()


def test_what_can_be_compared_is_named_and_taken(own):
    with pytest.raises(DataError, match=r"have 2 tasks in common \(mood, valence\); choose one with --task"):
        call("compare", "runs/study")
    for task in ("mood", "valence"):
        assert printed("compare", "runs/study", "--task", task).startswith(f"{task}: ")
    chosen = ("compare", "runs/study", "--task", "mood")
    with pytest.raises(DataError, match="nothing is left to compare; look at --inputs and --heads: ") as error:
        call(*chosen, "--inputs", "camera", "--heads", "mlp")
    listed = re.search(r"the inputs (.*) and the heads (.*)", str(error.value))
    assert listed is not None
    for input in set(listed[1].split(", ")) - {"none"}:
        assert f"study: pretrained {input} " in printed(*chosen, "--inputs", input, "--heads", listed[2].split(", ")[-1])
    for name, task in (("one", "mood"), ("other", "valence"), ("third", "mood")):
        shutil.copytree("runs/study", f"runs/{name}")
        only(Path("runs") / name, task)
    with pytest.raises(DataError, match="the runs have no task in common; choose runs that predict the same"):
        call("compare", "runs/one", "runs/other")
    assert printed("compare", "runs/one", "runs/third").startswith("mood: ")


def test_a_run_without_predictions_is_finished_and_compared(own):
    run = ("run", "study.yaml", "--out", "runs/half", "--workers", "1")
    call(*run, "--stop-after", "embed")
    compare = ("compare", "runs/half", "--task", "mood")
    with pytest.raises(StageError, match="has no predictions yet; let `mmcl run` finish it"):
        call(*compare)
    call(*run)
    assert "half: pretrained all linear" in printed(*compare)


def test_a_recording_of_a_run_without_streams_is_shown_by_its_recipe_and_after_the_run(own):
    (own / "runs" / "begun").mkdir()
    for name in ("plan.json", "recipe.yaml", "mmcl.json"):
        if (own / "runs" / "study" / name).exists():
            shutil.copy(own / "runs" / "study" / name, own / "runs" / "begun" / name)
    with pytest.raises(StageError, match="has no prepared streams; show the recipe, or run it first"):
        call("data", "show", "runs/begun", "r000", "--out", "page.html")
    for shown in ("runs/begun/recipe.yaml", "study.yaml"):
        call("data", "show", shown, "r000", "--out", "page.html")
        assert "r000" in Path("page.html").read_text()
        Path("page.html").unlink()
    call("run", "runs/begun/recipe.yaml", "--out", "runs/begun", "--workers", "1", "--stop-after", "prepare")
    call("data", "show", "runs/begun", "r000", "--out", "page.html")
    assert "r000" in Path("page.html").read_text()


def test_streams_that_are_being_prepared_are_pruned_later(own):
    shutil.rmtree("runs/study")
    prune = ("runs", "prune", "runs", "--yes")
    stores = sorted(path.parent for path in Path("runs/prepared").glob("*/*/store.json"))
    assert stores
    with (
        locked(stores[0].with_name(f".{stores[0].name}.lock")),
        pytest.raises(StageError, match="is preparing these streams; run the same command later"),
    ):
        call(*prune)
    assert stores[0].is_dir()
    assert printed(*prune).count("removed") >= 1
    assert not any(one.exists() for one in stores)


def test_recordings_at_a_url_are_copied_here_or_prepared_there_and_their_streams_uploaded(own, monkeypatch):
    """What another machine has, at a URL that is a folder here."""
    there = own / "bucket"
    shutil.copytree(own / "data", there / "corpora")
    monkeypatch.delenv("MMCL_DATA")
    shutil.rmtree("data")
    run = ("run", "study.yaml", "--workers", "1", "--stop-after", "prepare", "--out")
    with pytest.raises(MmclError, match="recordings are read from a folder, and this is a URL; copy them here by the tools"):
        call(*run, "runs/new", "--data", f"file://{there / 'corpora'}")
    shutil.copytree(there / "corpora", "data")
    call(*run, "runs/copied", "--data", "data")
    assert len(load_prepared(RunFolder(Path("runs/copied"))).samples) == 24
    # prepared where they are, then uploaded, and no recording is here
    call("upload", "runs/study", url := f"file://{there / 'streams'}")
    shutil.rmtree("data")
    shutil.rmtree("runs/prepared")
    options = json.dumps({"use": "folder", **read_json(Path("runs/study/plan.json"))["plan"]["dataset"]["params"]})
    call(*run, "elsewhere/new", "--prepared", url, "--set", f"dataset={options}")
    assert len(load_prepared(RunFolder(Path("elsewhere/new"), remote=url)).samples) == 24
