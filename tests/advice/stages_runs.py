"""Small runs on which advice is followed: a made-up corpus of clips, and a folder of files. Each is made once a process, and copied."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from mmcl.plugins import plugins
from mmcl.recipe.plan import Plan
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.runs import RunFolder, read_json
from tests.advice.core import call
from tests.conftest import LEAST

TINY = (
    "format: 1\nname: tiny\nseed: 3\ndataset: {use: toy, samples: 36, speakers: 6}\n"
    + LEAST
    + """\
pretrain: {batch_size: 8, epochs: 2, optimizer: {use: sgd, lr: 1e-2}}
probe: {inputs: [audio, all], heads: {linear: {use: linear, l2: [0.1]}}}
protocol: {use: official}
"""
)
STUDY = """\
format: 1
name: study
dataset: {use: folder, root: data, group: speaker}
modalities:
  voice: {source: sound, features: {use: log-mel, bands: 4, window: 0.1, hop: 0.1}, backbone: {use: tcn, channels: [4]}}
  hand: {source: hand, features: {use: signals, columns: [x, y, z]}, backbone: {use: tcn, channels: [4]}}
window: {seconds: 0.5}
projection: {hidden: 4, width: 4}
pretrain: {batch_size: 8, epochs: 1}
probe: {tasks: [mood], inputs: [voice, all], heads: {per_speaker: {use: linear, l2: [0.1], standardise: group}}}
protocol: official
"""


def overriding(*sets: str) -> list[str]:
    """Keys of a recipe that say otherwise, as options of a command."""
    return [word for one in sets for word in ("--set", one)]


def tiny(folder: Path) -> str:
    """The recipe of the made-up corpus, in a folder."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return str(path)


def plan_of(*sets: str, text: str = TINY) -> Plan:
    """Its plan."""
    return make_plan(parse_recipe(text, "tiny.yaml", sets), overrides=sets)


def run(folder: Path, *words: str, name: str = "tiny") -> RunFolder:
    """`mmcl run` of that recipe in a folder, with some more words; the run's folder."""
    root = folder / "runs" / name
    call("run", tiny(folder), "--out", str(root), "--workers", "1", "--device", "cpu", *words)
    return RunFolder(root)


def pretrained(folder: Path, *sets: str, name: str = "tiny") -> int:
    """The epochs of a run that goes as far as its weights, which are there then."""
    kept = run(folder, "--stop-after", "pretrain", *overriding(*sets), name=name).stage("pretrain", 0, 3)
    assert (kept / "encoders.safetensors").is_file()
    return int(read_json(kept / "finished.json")["epochs"])


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    """Where runs lie until this process ends."""
    return tempfile.TemporaryDirectory(prefix="mmcl-advice-")


@cache
def _whole() -> Path:
    folder = Path(_kept().name) / "tiny"
    folder.mkdir()
    return run(folder).root


@cache
def _study() -> Path:
    folder = Path(_kept().name) / "study"
    plugins().get("dataset", "folder").spec.sample(folder / "data", 24, 0)
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    out = folder / "runs" / "study"
    call("run", str(folder / "study.yaml"), "--data", str(folder), "--out", str(out), "--workers", "1", "--device", "cpu")
    return out


def finished(folder: Path) -> RunFolder:
    """A finished run of that recipe in a folder, and the streams beside it."""
    root = folder / "runs" / "tiny"
    if not root.exists():
        shutil.copytree(_whole().parent, root.parent, dirs_exist_ok=True)
    return RunFolder(root)


def study(folder: Path) -> Path:
    """A finished run on a folder of files, which lie in `data` beside `runs`; they are the run's own only where they were first."""
    if not (folder / "runs" / "study").exists():
        shutil.copytree(_study().parents[1], folder, dirs_exist_ok=True)
    return folder / "runs" / "study"
