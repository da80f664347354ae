"""Changed code is noticed: results hold what the plug-ins' files held, and another content is another result."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import pytest

from mmcl.cli import main
from mmcl.installed import code_of
from mmcl.plugins import plugins
from mmcl.runs import read_json, read_jsonl

PACKAGE = """
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
READING = """
import numpy as np


def values(k, source):
    rng = np.random.default_rng([k, source == "left"])
    return (rng.normal(size=(12, 3)) + SIGN * (k % 2)).astype(np.float32)


SIGN = 0.2
"""
RECIPE = """
format: 1
name: study
seed: 1
dataset: {use: study}
modalities:
  left: {source: left, features: {use: signals}, backbone: {use: mlp, hidden: [4], width: 4}}
  right: {source: right, features: {use: signals}, backbone: {use: mlp, hidden: [4], width: 4}}
projection: {hidden: 4, width: 4}
pretrain: {batch_size: 8, epochs: 1, optimizer: {use: adamw, lr: 1e-3}}
probe: {inputs: [left], heads: {linear: {use: linear}}}
report: {against: []}
protocol: {use: official}
"""


def forget() -> None:
    """What a new process would not know: modules of the stranger, its offers, its hash."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_study"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    plugins.cache_clear()
    code_of.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stranger's package in a folder on the path; its dataset is `study`."""
    site = tmp_path / "site"
    folder = site / "acme_study"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "reading.py").write_text(READING)
    info = site / "acme_study-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-study\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmcl]\nstudy = acme_study\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files change within one second here
    monkeypatch.chdir(tmp_path)
    forget()
    yield folder
    monkeypatch.undo()
    forget()


def mmcl(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main([*arguments])
    return int(left.value.code or 0)


def contents(root: Path) -> dict[str, bytes]:
    files = [file for file in root.rglob("*") if file.is_file() and file.name not in (".lock", "log.jsonl")]
    return {str(file): file.read_bytes() for file in files}


def test_scores_of_a_changed_read_are_never_those_of_the_old_one_and_never_replace_them_unasked(package, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(RECIPE)
    command, run = ("run", "study.yaml", "--workers", "1"), tmp_path / "runs" / "study"
    assert mmcl(*command) == 0
    assert mmcl(*command) == 0  # nothing has changed, and nothing is done
    first, before = read_jsonl(run / "fold-00/seed-1/probe/scores.jsonl"), contents(run)
    streams = set((tmp_path / "runs").rglob("store.json"))
    capsys.readouterr()

    (package / "reading.py").write_text(READING.replace("SIGN = 0.2", "SIGN = 9"))
    forget()
    assert mmcl(*command) == 2
    told = capsys.readouterr().err
    assert "holds finished work that this would replace (pretrain, embed, probe)" in told
    assert "the code of plug-in 'study' (dataset; package acme-study 1.0) has changed" in told
    assert "--out" in told
    assert "--overwrite" in told
    assert "Traceback" not in told
    assert contents(run) == before

    assert mmcl(*command, "--overwrite") == 0
    assert read_jsonl(run / "fold-00/seed-1/probe/scores.jsonl") != first
    assert len(set((tmp_path / "runs").rglob("store.json")) - streams) == 2  # streams were prepared anew
    assert mmcl(*command) == 0

    capsys.readouterr()
    (package / "reading.py").write_text(READING)
    forget()
    from mmcl.use.opened import stated_plan

    stated_plan(run)
    assert "the code of plug-in 'study' (dataset; package acme-study 1.0) has changed since this run" in capsys.readouterr().err


def test_work_from_before_code_was_kept_is_not_replaced_unasked(package, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(RECIPE)
    assert mmcl("run", "study.yaml", "--workers", "1") == 0
    file = tmp_path / "runs" / "study" / "plan.json"
    about = read_json(file)
    assert about["plan"]["modalities"]["left"]["backbone"]["code"] == code_of("mmcl_mlp")

    file.write_text(json.dumps(about, indent=1).replace(f'"code": "{about["plan"]["dataset"]["code"]}"', '"was": ""'))
    capsys.readouterr()
    assert mmcl("run", "study.yaml", "--workers", "1") == 2
    assert "before mmcl kept what the code of plug-ins is" in capsys.readouterr().err


def test_every_file_of_a_package_counts_and_what_python_and_editors_leave_does_not(package):
    def code() -> str:
        code_of.cache_clear()
        return code_of("acme_study", "acme-study")

    known = [code()]
    for name, text in (("reading.py", "1"), ("table.csv", "a,b"), ("inner/deep.py", ""), ("inner/other.py", "")):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
        known.append(code())
    (package / "table.csv").rename(package / "words.csv")
    known.append(code())
    (package / "big.bin").write_bytes(bytes(5 * 2**20))
    known.append(code())
    with (package / "big.bin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"1")
    known.append(code())
    (package / "words.csv").unlink()
    known.append(code())
    assert len(set(known)) == len(known)

    for name in ("__pycache__/reading.cpython-312.pyc", ".reading.py.swp", "reading.py~", ".git/HEAD"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("anything")
        assert code() == known[-1]


def test_an_installed_wheel_and_an_editable_one_of_the_same_files_have_the_same_code(package, tmp_path):
    alone = code_of("acme_study", "acme-study")  # no list of files, as an editable installation
    record = package.parent / "acme_study-1.0.dist-info" / "RECORD"
    record.write_text("acme_study/__init__.py,,\nacme_study/reading.py,,\n../../bin/acme,,\n__editable___acme_finder.py,,\n")
    code_of.cache_clear()
    assert code_of("acme_study", "acme-study") == alone
    (package.parent / "acme_more.py").write_text("A = 1\n")
    record.write_text(record.read_text() + "acme_more.py,,\n")
    code_of.cache_clear()
    assert code_of("acme_study", "acme-study") != alone  # another module of the distribution counts


def test_a_module_in_no_file_has_no_code():
    assert code_of("sys") == ""
    assert code_of("nobody_has_this") == ""
