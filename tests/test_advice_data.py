"""What mmcl says to do about recordings and prepared streams where no error shows it, or a run must go on: it is done here, and works."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mmcl
from mmcl.api import DataError, SampleRef, StageError, Task
from mmcl.data.folds import make_folds
from mmcl.data.labels import concerns
from mmcl.data.prepared import load_prepared
from mmcl.media import write_audio
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.report import run_and_report as run_all
from mmcl.review.audit import audit_folder
from mmcl.runs import RunFolder, digest, read_json, write_json
from mmcl.stages.prepare import prepare
from tests.advice.core import call
from tests.conftest import LEAST

RECIPE = (
    "format: 1\nname: tiny\nseed: 3\ndataset: {use: toy, samples: 24, speakers: 6}\n"
    + LEAST
    + "pretrain: {batch_size: 8, epochs: 1, optimizer: {use: sgd, lr: 1e-2}}\nprotocol: {use: official}\n"
    + "probe: {inputs: [audio], tasks: [emotion], heads: {linear: {use: linear, l2: [0.1]}}}\nreport: {against: []}\n"
    + "supervise: {heads: {mlp: {use: mlp}}, inputs: [audio], tasks: [emotion], epochs: 1, batch_size: 16}\n"
)


@pytest.fixture(scope="module", autouse=True)
def hardly_looked_at():
    """Of each file 64 bytes alone are looked at when it is opened, as of a large one hardly more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.data.store.BLOCK", 1)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run, and its plan."""
    plan = make_plan(parse_recipe(RECIPE, "tiny.yaml", ()))
    run = RunFolder(tmp_path_factory.mktemp("whole") / "runs" / "tiny")
    run_all(plan, run, workers=1)
    return plan, run


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of it, to be spoilt."""
    plan, run = whole
    shutil.copytree(run.root.parent, tmp_path / "runs")
    return plan, RunFolder(tmp_path / "runs" / "tiny")


# ---------------------------------------------------------------------------------------------------- recordings, folds


def test_a_class_that_is_not_taught_is_moved_to_training_or_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = [
        (f"{i:02d}.wav", f"p{i % 6}", ("train", "train", "train", "valid", "test", "test")[i % 6], "calm") for i in range(12)
    ]
    table = [(*row[:3], "glad" if row[0] in ("04.wav", "05.wav") else row[3]) for row in table]
    for i, row in enumerate(table):
        write_audio(tmp_path / "study" / row[0], 0.3 * np.sin(np.arange(2000 + 20 * i) / 5), 8000)

    def told(rows):
        lines = ["file,speaker,split,mood", *(",".join(row) for row in rows)]
        (tmp_path / "study" / "recordings.csv").write_text("\n".join(lines), encoding="utf-8")
        call("data", "check", "study")
        return " ".join(capsys.readouterr().out.split())

    words = "is in 2 of the test recordings and in no training recording: what was never shown is never answered"
    assert f"class 'glad' of 'mood' {words}; move some of their groups to training, or leave the class out" in told(table)
    assert "never shown" not in told([(*row[:2], "train" if row[1] == "p4" else row[2], row[3]) for row in table])
    assert "never shown" not in told([row for row in table if row[3] != "glad"])


def test_a_class_of_one_person_in_folds_is_shown_by_others_or_left_out():
    mood = Task("mood", "single-label", ("calm", "glad"))

    def told(*moods):
        """Of a person each, in as many folds."""
        samples = [SampleRef(f"r{i}", f"p{i}", {"sound": "x"}, {"mood": one}) for i, one in enumerate(moods)]
        section = SimpleNamespace(use="leave-one-group-out", by="group", only=None, valid=0.3)
        folds = make_folds(section, samples, range(len(samples)), 0)
        return [line for line in concerns([mood], samples, folds) if "never shown" in line]

    (line,) = told(0, 0, 0, 1)
    assert line.endswith("; add recordings of others who have it, or leave the class out")
    assert told(0, 0, 0, 1, 1, 1) == told(0, 0, 0, 0) == []


def test_a_sweep_of_too_few_people_for_parts_is_judged_by_the_validation_rows(tmp_path):
    pytest.importorskip("optuna")
    from mmcl.recipe.search import Source, make_sweep
    from mmcl.report import search_and_report

    def searched(validation):
        sets = (
            "protocol={use: hold-out, test: 0.6}",  # of six people, which leaves two
            f"sweep={{space: {{pretrain.optimizer.lr: [0.01]}}, trials: 1, validation: {validation}}}",
        )
        plan = make_sweep(Source(RECIPE, "tiny.yaml", Path(), sets, None, None))
        return search_and_report(plan, tmp_path / validation, final=False)

    for validation in ("each-group", "3"):
        with pytest.raises(DataError, match=r"^sweep.validation: .* fold 0.*; use validation: fold$"):
            searched(validation)
    assert searched("fold").best is not None


# ------------------------------------------------------------------------------------------------------ prepared streams


def store_of(run):
    """The folder of the streams of sound."""
    return load_prepared(run).stores["audio"].folder


@pytest.mark.parametrize("how", ["moved", "anew"])
def test_streams_behind_a_link_are_moved_here_or_prepared_anew(how, copied, tmp_path):
    plan, run = copied
    folder = store_of(run)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    words = "is a link, which prepared streams may not be; move them here, or delete the link and run again"
    for act in (lambda: load_prepared(run), lambda: prepare(plan, run, workers=1)):
        with pytest.raises(StageError) as error:
            act()
        assert f"{folder}: {words}" in str(error.value)
    folder.unlink()
    if how == "moved":
        shutil.move(tmp_path / "elsewhere", folder)
    else:
        run_all(plan, run, workers=1)
    assert {path.name: path.read_bytes() for path in store_of(run).iterdir()} == before
    assert audit_folder(run.root).findings == ()


@pytest.mark.parametrize("how", ["a changed byte", "no checksums"])
def test_streams_without_checksums_or_with_a_changed_byte_are_deleted_and_run_again(how, copied):
    plan, run = copied
    folder = store_of(run)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if how == "a changed byte":
        shard = folder / "shard-00000.safetensors"
        content = bytearray(before[shard.name])
        content[len(content) // 2 + 1] ^= 1
        shard.write_bytes(bytes(content))
        sentence = f"{shard} is not what was written; delete {folder} and run again"
    else:
        about = read_json(folder / "store.json")
        write_json(folder / "store.json", {name: value for name, value in about.items() if name not in ("sha256", "blocks")})
        sentence = f"{folder}: an older mmcl prepared these streams and kept no checksums; delete the folder and run again to have some"
    audited = audit_folder(run.root)
    assert sentence in str(audited)
    shutil.rmtree(folder)
    run_all(plan, run, workers=1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    audited = audit_folder(run.root)
    assert (audited.findings, audited.left_out) == ((), {})


def test_streams_of_other_recordings_under_their_name_are_prepared_anew(copied, capsys):
    """As where somebody has renamed or copied a folder of prepared streams."""
    plan, run = copied
    folder = store_of(run)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = make_plan(parse_recipe(RECIPE, "tiny.yaml", ("modalities.audio.features.hop=0.2",)))
    prepare(other, RunFolder(run.root.with_name("other")), workers=1)
    shutil.rmtree(folder)
    shutil.move(store_of(RunFolder(run.root.with_name("other"))), folder)
    with pytest.raises(StageError, match="holds other data than this run was prepared with; run its recipe again$"):
        load_prepared(run)
    run_all(plan, run, workers=1)
    assert "holds other streams than its name says; they are prepared anew" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in store_of(run).iterdir()} == before
    assert audit_folder(run.root).findings == ()


# -------------------------------------------------------------------------------------------------------- heads, networks


def test_a_probe_of_an_older_mmcl_has_heads_once_it_is_deleted_and_run_again(copied):
    """One that is finished, and of whose heads no file says anything."""
    plan, run = copied
    folder = run.stage("probe", 0, 3)
    for name in ("heads.json", "heads.safetensors"):
        (folder / name).unlink()
    done = read_json(folder / "finished.json")
    write_json(
        folder / "finished.json", {**done, "files": {name: one for name, one in done["files"].items() if "heads" not in name}}
    )
    run_all(plan, run, workers=1)
    with pytest.raises(DataError, match="has none until it is deleted and its recipe run again"):
        mmcl.load_heads(folder)
    shutil.rmtree(folder)
    run_all(plan, run, workers=1)
    assert [one.name for one in mmcl.load_heads(folder)] == ["linear"]


def test_a_network_of_an_older_mmcl_is_read_once_its_folder_is_deleted_and_run_again(copied):
    """One that is finished, and whose file does not say how to rebuild it."""
    plan, run = copied
    folder = run.stage("supervise", 0, 3)
    (path,) = (folder / "models").glob("*.json")
    write_json(path, {name: one for name, one in read_json(path).items() if name != "network"})
    done = read_json(folder / "finished.json")
    write_json(
        folder / "finished.json", {**done, "files": {**done["files"], path.relative_to(folder).as_posix(): digest(path)}}
    )
    run_all(plan, run, workers=1)
    with pytest.raises(DataError, match="delete its 'supervise' folder and run the recipe again"):
        mmcl.load_heads(folder)
    shutil.rmtree(folder)
    run_all(plan, run, workers=1)
    assert [one.name for one in mmcl.load_heads(folder)] == ["mlp"]
