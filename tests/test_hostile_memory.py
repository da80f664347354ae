"""Somebody's run folder promises far more than it holds; every command that takes one is measured while it opens it, with all its processes."""

from __future__ import annotations

import json
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmcl.runs import read_arrays, read_json, write_arrays, write_json
from mmcl.shapes import FOLD
from tests.test_hostile import LISTENED_APART, WAYS

MEASURED = """
import json, os, resource, sys, time
from pathlib import Path
own, asked = sys.argv[1], json.loads(sys.argv[2])
import torch, matplotlib.figure, matplotlib.backends.backend_agg, scipy.stats, mmcl, mmcl.cli, mmcl.report.page, mmcl.use.opened, mmcl.review.audit
import mmcl.stages.prepare, mmcl.stages.pretrain
from mmcl.api.errors import MmclError
from mmcl.plugins import plugins
plugins().all("dataset")
sys.dont_write_bytecode = True

def words(*command):
    return lambda: mmcl.cli.cli.main(list(command), standalone_mode=False)

def ways(run):
    file, inner = os.path.join(own, "new.wav"), lambda name: os.path.join(run + "-own", name)
    os.makedirs(run + "-own", exist_ok=True)
    return {
        "report": words("report", run), "audit": words("audit", run), "compare": words("compare", run),
        "tables": words("tables", "mpuc-mer", run), "runs list": words("runs", "list", os.path.dirname(run)),
        "runs rm": words("runs", "rm", run), "runs prune": words("runs", "prune", os.path.dirname(run)),
        "data show": words("data", "show", run, "toy-00000", "--out", inner("one.html")), "replay": words("replay", run),
        "embed": words("embed", run, file, "--out", inner("features.npz")), "predict": words("predict", run, file),
        "search": words("search", run, file), "export onnx": words("export", run, inner("onnx"), "--to", "onnx"),
        "export torch-export": words("export", run, inner("torch"), "--to", "torch-export"),
        "export webdataset": words("export", run, inner("tars"), "--to", "webdataset"), "publish": words("publish", run, inner("published")),
        "rerun": lambda: __import__("mmcl.review.rerun", fromlist=["x"]).plan_of(Path(run)),
        "upload": words("upload", run, "file://" + inner("uploaded")), "sweep": words("sweep", os.path.join(own, "sweep.yaml"), "--out", run),
        "run": words("run", os.path.join(own, "recipe.yaml"), "--out", run, "--workers", "1"),
        "prepare": words("prepare", os.path.join(own, "recipe.yaml"), "--shard", "1/1", "--out", run, "--workers", "1"),
        "profile": words("profile", os.path.join(own, "recipe.yaml"), "--out", run, "--workers", "1", "--steps", "1", "--device", "cpu"),
        "serve": words("serve", run, "--port", "0", "--device", "cpu"),
        "features": lambda: mmcl.features(run), "itself": lambda: len(b"x" * 1_500_000_000),
    }

def below(process):
    for thread in os.listdir(f"/proc/{process}/task"):
        for child in open(f"/proc/{process}/task/{thread}/children").read().split():
            yield int(child)
            yield from below(child)

def megabytes(process, name):
    return int(open(f"/proc/{process}/status").read().split(name + ":")[1].split()[0]) // 1024

def measured(way):
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        resource.setrlimit(resource.RLIMIT_DATA, (8 * 2**30,) * 2)  # so that a test which fails takes no machine with it
        try:
            way()
            told = "done"
        except MmclError as error:
            told = f"refused: {error}"
        except SystemExit as error:
            told = f"exit {error.code}"
        except BaseException as error:
            told = f"ERROR {type(error).__name__}: {error}"
        os.write(writing, told.encode(errors="replace")[:2000])
        os._exit(0)
    os.close(writing)
    first, most, told = megabytes(child, "RssAnon"), 0, "ERROR ended without a word"
    while True:
        try:
            most = max(most, megabytes(child, "RssAnon") - first + sum(megabytes(one, "RssAnon") for one in below(child)))
        except (OSError, IndexError):
            pass  # one of them has just ended
        if os.waitpid(child, os.WNOHANG)[0]:
            told = os.read(reading, 4096).decode() or told
            break
        if time.monotonic() - began > 200:
            os.killpg(child, 9)
            os.waitpid(child, 0)
            told = "ERROR took more than 200 s"
            break
        time.sleep(0.003)
    os.close(reading)
    return most, told

for run, names in asked:
    for name in names:
        print(json.dumps([run, name, *measured(ways(run)[name])]), flush=True)
"""
"""What opens folders, each in a copy of this process: megabytes that it took beyond what was loaded before, with all that it started."""


def _promise(path: Path, total: int = 20_000_000_000) -> None:
    """A safetensors file of the same names and types whose arrays are so long that they take `total` bytes, none of which is on the disk."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    at = 0
    for entry in header.values():
        begin, end = entry["data_offsets"]
        items = math.prod(entry["shape"])
        if entry["shape"] and items:
            width, row = (end - begin) // items, math.prod(entry["shape"][1:])
            entry["shape"][0] = max(1, total // len(header) // (width * row))
            end = begin + width * row * entry["shape"][0]
        entry["data_offsets"] = [at, at := at + end - begin]
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


def _holes(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100_000_000_000)


def _line(path: Path) -> None:
    """One line of 60 MB that is JSON, and then one of 80 MB that is none."""
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**first, "more": "x" * 60_000_000}) + "\n" + "x" * 80_000_000)


def _deep(path: Path) -> None:
    path.write_text(
        path.read_text(encoding="utf-8").rstrip()[:-1] + ', "more": ' + "[" * 4_000_000 + "]" * 4_000_000 + "}",
        encoding="utf-8",
    )


def _deep_recipe(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("about: " + "[" * 900_000 + "]" * 900_000 + "\n")


def _wide_recipe(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wide = text.replace("width: 8", "width: 1000000000").replace("[8]", "[1000000000]").replace("dim: 8", "dim: 1000000000")
    assert wide.count("1000000000") >= 3
    path.write_text(wide, encoding="utf-8")


def _numbers(path: Path) -> None:
    """Every number as large as a schema lets through."""

    def large(value: object) -> object:
        if isinstance(value, dict):
            return {name: large(one) for name, one in value.items()}
        if isinstance(value, list):
            return [large(one) for one in value]
        return 1_000_000 if isinstance(value, int) and not isinstance(value, bool) else value

    path.write_text(json.dumps(large(read_json(path))), encoding="utf-8")


def _many_rows(path: Path) -> None:
    """A lost batch of a million windows of one recording, each as long as it may be."""
    about = read_json(path) | {"rows": [0] * 1_000_000, "recordings": ["toy-00000"] * 1_000_000, "views": [0] * 1_000_000}
    path.write_text(json.dumps(about | {"windows": [[0.0, 1e9]] * 1_000_000}), encoding="utf-8")


def _one_stream(path: Path) -> None:
    """Every stream of a store is all of its shard."""
    index = np.array(read_arrays(path)["index"])
    longest = int((index[:, 2] + index[:, 3]).max())
    index[:, 2], index[:, 3] = 0, longest
    write_arrays(path, {"index": index})


UNIT = "runs/tiny/fold-00/seed-3"
STORE = "runs/prepared/toy/log-mel-*"
OWN = ("report", "audit", "compare", "tables", "runs list", "runs rm", "runs prune", "rerun")
"""Ways that need a run's folder alone."""
USED = ("embed", "predict", "search", "publish", "export webdataset")
STORED = ("audit", "data show", "replay", "upload", "export webdataset")
HOSTILE = {
    "promises encoders": (
        f"{UNIT}/pretrain/encoders.safetensors",
        _promise,
        (*OWN, *USED, "serve", "export torch-export", "export onnx"),
    ),
    "promises heads": (f"{UNIT}/probe/heads.safetensors", _promise, (*USED, "audit")),
    **{
        f"promises {name}": (f"{UNIT}/embed/{name}.safetensors", _promise, ("features", "search", "report", "audit"))
        for name in ("train",)
    },
    "promises recordings": ("runs/tiny/recordings.safetensors", _promise, ("report", "audit", "data show", "rerun", "run")),
    "promises a lost batch": (f"{UNIT}/pretrain/lost.safetensors", _promise, ("replay",)),
    "promises an index": (f"{STORE}/index.safetensors", _promise, (*STORED, "run", "profile")),
    "promises a shard": (f"{STORE}/shard-00000.safetensors", _promise, (*STORED, "prepare")),
    "holes in the plan": (
        "runs/tiny/plan.json",
        _holes,
        (*OWN, *USED, "data show", "replay", "upload", "run", "prepare", "profile", "sweep"),
    ),
    **{
        f"holes in {name}": (
            f"runs/tiny/{name}",
            _holes,
            ("report", "audit", "rerun", "predict", "publish", "upload", "runs list"),
        )
        for name in ("log.jsonl", "report.html", "report.json", "recipe.yaml", ".mmcl")
    },
    "holes in scores": (f"{UNIT}/probe/scores.jsonl", _holes, ("report", "compare", "tables")),
    "holes in heads": (f"{UNIT}/probe/heads.json", _holes, ("predict", "audit", "publish")),
    "a long line of the log": ("runs/tiny/log.jsonl", _line, ("report", "audit", "runs list")),
    "a long line of scores": (f"{UNIT}/probe/scores.jsonl", _line, ("report", "compare")),
    "a deep plan": ("runs/tiny/plan.json", _deep, ("report", "rerun", "predict")),
    "a deep report": ("runs/tiny/report.json", _deep, ("tables", "compare", "runs list")),
    "deep heads": (f"{UNIT}/probe/heads.json", _deep, ("predict",)),
    "a deep recipe": ("runs/tiny/recipe.yaml", _deep_recipe, ("rerun", "audit", "report")),
    "a wide recipe": ("runs/tiny/recipe.yaml", _wide_recipe, ("rerun", "audit", "predict", "replay")),
    "numbers of the plan": ("runs/tiny/plan.json", _numbers, ("report", "audit", "predict", "compare")),
    "numbers of the report": ("runs/tiny/report.json", _numbers, ("tables", "runs list")),
    "numbers of prepare": ("runs/tiny/prepare.json", _numbers, ("report", "audit")),
    "numbers of encoders": (f"{UNIT}/pretrain/encoders.json", _numbers, ("predict", "report")),
    "numbers of heads": (f"{UNIT}/probe/heads.json", _numbers, ("predict", "audit")),
    "many rows of a lost batch": (f"{UNIT}/pretrain/lost.json", _many_rows, ("replay",)),
    "every stream is the shard": (f"{STORE}/index.safetensors", _one_stream, ("replay", "data show", "export webdataset")),
}
"""What is wrong → the file, what does it, and the ways of opening it that come to that file."""


def _laid(tiny_run, folder: Path, kind: str) -> tuple[Path, float]:
    """A hostile copy of a run, and the megabytes that its JSON has on the disk."""
    shutil.copytree(tiny_run.root, folder / "runs" / "tiny")
    shutil.copytree(tiny_run.prepared, folder / "runs" / "prepared")
    pretrain = folder / UNIT / "pretrain"
    shutil.copy(pretrain / "encoders.safetensors", pretrain / "lost.safetensors")
    lost = {"format": 1, "fold": 0, "seed": 3, "epoch": 1, "step": 0, "loss": "nan", "pairs": ["text~audio"], "rows": [0, 1]}
    write_json(pretrain / "lost.json", lost | {"recordings": ["a", "b"], "views": [0] * 2, "windows": [[0.0, 0.8]] * 2})
    where, change, _ = HOSTILE[kind]
    (path,) = folder.glob(where)
    change(path)
    held = sum(one.stat().st_blocks * 512 for one in (folder / "runs").rglob("*") if one.suffix in (".json", ".jsonl"))
    return folder / "runs" / "tiny", held / 2**20


def _measured(own: Path, asked: list[tuple[str, list[str]]]) -> list[tuple[str, str, int, str]]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURED, str(own), json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=1500,
        cwd=own,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured where the system tells it so")
@pytest.mark.parametrize("part", range(4))
def test_a_folder_that_promises_far_more_than_it_holds_takes_no_gigabyte(part, tiny_run, tmp_path):
    from mmcl.media import write_audio

    own = tmp_path / "own"
    own.mkdir()
    write_audio(own / "new.wav", np.sin(np.arange(16000) / 7) * 0.3, 16000)
    recipe = (tiny_run.root / "recipe.yaml").read_text(encoding="utf-8")
    (own / "recipe.yaml").write_text(recipe, encoding="utf-8")
    (own / "sweep.yaml").write_text(recipe + "sweep: {trials: 2, space: {seed: [1, 2]}}\n", encoding="utf-8")
    kinds, asked, held = {}, [], {}
    for at, kind in enumerate(HOSTILE):
        if at % 4 == part:
            run, held[kind] = _laid(tiny_run, tmp_path / f"{at:02d}", kind)
            kinds[str(run)] = kind
            asked.append((str(run), list(HOSTILE[kind][2])))
    rows = _measured(own, asked)
    assert len(rows) == sum(len(names) for _, names in asked)
    wrong = [
        (kinds[run], way, most, told)
        for run, way, most, told in rows
        if most > 1024 + FOLD * held[kinds[run]] or told.startswith("ERROR")
    ]
    assert not wrong
    refused = {kinds[run] for run, _, _, told in rows if told.startswith("refused")}
    assert {kind for kind in held if kind.startswith("promises")} <= refused


def test_the_measure_sees_memory_that_is_taken(tmp_path):
    ((_, _, most, told),) = _measured(tmp_path, [(str(tmp_path / "run"), ["itself"])])
    assert told == "done"
    assert most > 1400


def test_every_command_that_is_listened_to_is_measured():
    assert {way for _, _, ways in HOSTILE.values() for way in ways} == {*WAYS, *LISTENED_APART, "features"}
