"""A tiny recipe that every stage can run in seconds, and its runner."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from mmcl.installed import code_of
from mmcl.plugins import plugins
from mmcl.recipe.plan import Plan
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.runs import RunFolder
from mmcl.workers import fork_context

TWO_MODALITIES = """\
format: 1
name: tiny
seed: 3
dataset: {use: toy, samples: 96, speakers: 12}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [8], dropout: 0.1}}
"""
"""How both recipes begin."""

LEAST = """\
modalities:
  text: {features: {use: hashed-words, dim: 4}, backbone: {use: mlp, hidden: [4], width: 4}}
  audio: {features: {use: log-mel, bands: 4, hop: 0.1, window: 0.2}, backbone: {use: tcn, channels: [4], dropout: 0.1}}
window: {seconds: 0.8}
projection: {hidden: 4, width: 4}
"""
"""Two modalities of the smallest networks, for what is run many times."""

TINY = (
    TWO_MODALITIES
    + """\
  landmarks: {features: {use: face-landmarks}, backbone: {use: st-gcn, channels: [4], strides: [1]}}
window: {seconds: 0.8}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 16, epochs: 3, optimizer: {use: adamw, lr: 1e-3}, checkpoint_minutes: 0}
probe: {inputs: [audio, all], heads: {linear: {use: linear, l2: [0.1, 1.0]}}}
protocol: {use: official}
"""
)

SMALL = (
    TWO_MODALITIES
    + """\
window: {seconds: 0.8}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 16, epochs: 3, optimizer: {use: adamw, lr: 1e-3}}
probe: {inputs: [audio, all], heads: {linear: {use: linear, l2: [0.1, 1.0]}}}
worth: {few_shot: [0.2, 0.5], draws: 2, robustness: {noise: [1.0], loss: [0.5], late: [0.2]}, maps: [pca], points: 20}
protocol: {use: official}
"""
)


def measured(code: str, folder: Path) -> list[int]:
    """What a program of its own prints as JSON, given a folder: memory that it held, in kB."""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="session", autouse=True)
def readers_share_what_is_loaded() -> Iterator[None]:
    """Readers of all tests in this process are copies of one that has loaded what any of them needs, whatever the first one needed."""
    loaded = ["mmcl.stages.loaded", "librosa.filters", "scipy.io", "scipy.ndimage", "scipy.signal", "torch.nn.functional"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.data.readers.fork_context", lambda preload: fork_context([*preload, *loaded]))
        yield


@pytest.fixture
def small_recipe() -> str:
    """The text of a recipe of two modalities that measures everything of `worth`."""
    return SMALL


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two finished runs of that recipe that differ in their pretraining. Tests read them and leave them as they are."""
    from mmcl.report import run_and_report as run_all

    root = tmp_path_factory.mktemp("pair") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.stages.WORTH_SAYING", 0.0)  # on a fast machine so small a stage would count as nothing to do
        for name, sets in (("one", ()), ("two", ("pretrain.epochs=1",))):
            run_all(make_plan(parse_recipe(SMALL, "tiny.yaml", sets), overrides=sets), RunFolder(root / name), workers=1)
    return root / "one", root / "two"


@pytest.fixture(scope="session")
def tiny_plan() -> Callable[..., Plan]:
    """The plan of the tiny recipe, with overrides."""

    def make(*overrides: str, text: str = TINY, data: Path | None = None) -> Plan:
        return make_plan(parse_recipe(text, "tiny.yaml", overrides), data, overrides=overrides)

    return make


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """An empty run folder."""
    return RunFolder(tmp_path / "runs" / "tiny")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of the tiny recipe. Tests read it and leave it as it is."""
    from mmcl.report import run_and_report as run_all

    folder = RunFolder(tmp_path_factory.mktemp("session") / "runs" / "tiny")
    run_all(make_plan(parse_recipe(TINY, "tiny.yaml")), folder, workers=1)
    return folder


STUDY = """
import numpy as np

from mmcl.api import Audio, DatasetInfo, DatasetSpec, NoParams, SampleRef, Sequence, Source, Task, hookimpl

from . import reading


class Study:
    def __init__(self, params, root):
        pass

    def samples(self):
        return [
            SampleRef(f"r{k}", f"p{k // 4}", {"left": f"r{k}", "right": f"r{k}"}, {"mood": k % 2}, ("train", "valid", "test")[k // 4 % 3])
            for k in range(48)
        ]

    def read(self, id, source):
        return Sequence(reading.values(int(id[1:]), source), 10.0)


@hookimpl
def register_datasets(register):
    notes = {"shape": [3], "axes": ["channel"]}
    sources = {name: Source("sequence", name, 10.0, notes) for name in ("left", "right")}
    info = DatasetInfo(sources, {"mood": Task("mood", "single-label", ("low", "high"))}, "person", ("train", "valid", "test"))
    register(DatasetSpec("study", "a study", NoParams, lambda params: info, Study, needs_root=False))
"""
"""A stranger's package with one dataset, whose streams are made by its second module."""
STUDY_READING = """
import numpy as np


def values(k, source):
    rng = np.random.default_rng([k, source == "left"])
    return (rng.normal(size=(12, 3)) + SIGN * (k % 2)).astype(np.float32)


SIGN = 0.2
"""


class Study:
    """A stranger's package in a folder on the path, installed by its metadata; its dataset is `study`."""

    def __init__(self, site: Path) -> None:
        self.folder, self.reading = site / "acme_study", STUDY_READING
        self.folder.mkdir(parents=True)
        (self.folder / "__init__.py").write_text(STUDY)
        (self.folder / "reading.py").write_text(STUDY_READING)
        self.info = site / "acme_study-1.0.dist-info"
        self.info.mkdir()
        (self.info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-study\nVersion: 1.0\n")
        (self.info / "entry_points.txt").write_text("[mmcl]\nstudy = acme_study\n")

    def add(self, code: str) -> None:
        """More code for the module of its entry point."""
        with (self.folder / "__init__.py").open("a") as file:
            file.write(code)
        self.forget()

    def forget(self) -> None:
        """What a new process would not know: modules of the stranger, its offers, the hash of its files."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "acme_study"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        plugins.cache_clear()
        code_of.cache_clear()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """That package, installed for one test; the current folder is the test's own."""
    site = tmp_path / "site"
    one = Study(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files change within one second here
    monkeypatch.chdir(tmp_path)
    one.forget()
    yield one
    monkeypatch.undo()
    one.forget()


def split_of(root):
    """What `prepare` left in a run, as plain values: stores, samples, folds."""
    from mmcl.data.prepared import kept_by
    from mmcl.runs import RunFolder

    kept = kept_by(RunFolder(root))
    sides = ("train", "valid", "test", "held")
    folds = [{"fold": one.number, **{side: list(getattr(one, side)) for side in sides}} for one in kept.folds]
    return {"stores": dict(kept.stores), "samples": [asdict(one) for one in kept.samples], "folds": folds}


def keep_split(root, kept):
    """Write such values as `prepare` does."""
    from mmcl.api import SampleRef
    from mmcl.data.folds import Fold
    from mmcl.data.prepared import keep
    from mmcl.data.recordings import Recordings
    from mmcl.runs import RunFolder

    folds = [Fold(one["fold"], **{side: rows for side, rows in one.items() if side != "fold"}) for one in kept["folds"]]
    keep(RunFolder(root), kept["stores"], Recordings.of([SampleRef(**one) for one in kept["samples"]]), folds)
