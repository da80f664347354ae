"""Changed code is noticed: results hold what the plug-ins' files held, and another content is another result."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmcl.cli import main
from mmcl.installed import code_of
from mmcl.runs import read_json, read_jsonl

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


def mmcl(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main([*arguments])
    return int(left.value.code or 0)


def contents(root: Path) -> dict[str, bytes]:
    files = [file for file in root.rglob("*") if file.is_file() and file.name not in (".lock", "log.jsonl")]
    return {str(file): file.read_bytes() for file in files}


def test_scores_of_a_changed_read_are_never_those_of_the_old_one_and_never_replace_them_unasked(study, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(RECIPE)
    command, run = ("run", "study.yaml", "--workers", "1"), tmp_path / "runs" / "study"
    assert mmcl(*command) == 0
    assert mmcl(*command) == 0  # nothing has changed, and nothing is done
    first, before = read_jsonl(run / "fold-00/seed-1/probe/scores.jsonl"), contents(run)
    streams = set((tmp_path / "runs").rglob("store.json"))
    capsys.readouterr()

    (study.folder / "reading.py").write_text(study.reading.replace("SIGN = 0.2", "SIGN = 9"))
    study.forget()
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
    (study.folder / "reading.py").write_text(study.reading)
    study.forget()
    from mmcl.use.opened import stated_plan

    stated_plan(run)
    assert "the code of plug-in 'study' (dataset; package acme-study 1.0) has changed since this run" in capsys.readouterr().err


def test_work_from_before_code_was_kept_is_not_replaced_unasked(study, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(RECIPE)
    assert mmcl("run", "study.yaml", "--workers", "1") == 0
    file = tmp_path / "runs" / "study" / "plan.json"
    about = read_json(file)
    assert about["plan"]["modalities"]["left"]["backbone"]["code"] == code_of("mmcl_mlp")

    file.write_text(json.dumps(about, indent=1).replace(f'"code": "{about["plan"]["dataset"]["code"]}"', '"was": ""'))
    capsys.readouterr()
    assert mmcl("run", "study.yaml", "--workers", "1") == 2
    assert "before mmcl kept what the code of plug-ins is" in capsys.readouterr().err


def test_every_file_of_a_package_counts_and_what_python_and_editors_leave_does_not(study):
    def code() -> str:
        code_of.cache_clear()
        return code_of("acme_study", "acme-study")

    known = [code()]
    for name, text in (("reading.py", "1"), ("table.csv", "a,b"), ("inner/deep.py", ""), ("inner/other.py", "")):
        (study.folder / name).parent.mkdir(exist_ok=True)
        (study.folder / name).write_text(text)
        known.append(code())
    (study.folder / "table.csv").rename(study.folder / "words.csv")
    known.append(code())
    (study.folder / "big.bin").write_bytes(bytes(5 * 2**20))
    known.append(code())
    with (study.folder / "big.bin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"1")
    known.append(code())
    (study.folder / "words.csv").unlink()
    known.append(code())
    assert len(set(known)) == len(known)

    for name in ("__pycache__/reading.cpython-312.pyc", ".reading.py.swp", "reading.py~", ".git/HEAD"):
        (study.folder / name).parent.mkdir(exist_ok=True)
        (study.folder / name).write_text("anything")
        assert code() == known[-1]


def test_an_installed_wheel_and_an_editable_one_of_the_same_files_have_the_same_code(study, tmp_path):
    alone = code_of("acme_study", "acme-study")  # no list of files, as an editable installation
    record = study.folder.parent / "acme_study-1.0.dist-info" / "RECORD"
    record.write_text("acme_study/__init__.py,,\nacme_study/reading.py,,\n../../bin/acme,,\n__editable___acme_finder.py,,\n")
    code_of.cache_clear()
    assert code_of("acme_study", "acme-study") == alone
    (study.folder.parent / "acme_more.py").write_text("A = 1\n")
    record.write_text(record.read_text() + "acme_more.py,,\n")
    code_of.cache_clear()
    assert code_of("acme_study", "acme-study") != alone  # another module of the distribution counts


def test_a_module_in_no_file_has_no_code():
    assert code_of("sys") == ""
    assert code_of("nobody_has_this") == ""
