"""mmcl runs: what lies in a folder of runs, and what may be removed from it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mmcl.api import StageError
from mmcl.cli import main
from mmcl.review.runs import prune, remove, runs_in
from mmcl.runs import RunFolder, kind_of, read_json, write_json


@pytest.fixture
def root(tiny_run, tmp_path) -> Path:
    """A folder with one finished run, its streams, and what is no run."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    (tmp_path / "runs" / "thesis").mkdir()
    (tmp_path / "runs" / "thesis" / "plan.json").write_text('{"format": 1}')
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    return tmp_path / "runs"


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock"}


def test_a_run_is_listed_with_recipe_state_score_time_and_size(root):
    (one,) = runs_in(root)
    assert (one.folder, one.kind, one.recipe, one.state) == ("tiny", "run", "tiny", "finished")
    summary = read_json(root / "tiny" / "report.json")["summary"]
    (mine,) = [
        row
        for row in summary
        if (row["input"], row["head"], row["encoder"], row["metric"]) == ("all", "linear", "pretrained", "accuracy")
    ]
    assert (one.task, one.metric, one.score) == ("emotion", "accuracy", mine["mean"])
    assert one.size == sum(path.stat().st_size for path in (root / "tiny").rglob("*") if path.is_file())
    assert one.time == max(
        path.stat().st_mtime for path in (root / "tiny").iterdir() if path.is_file() and path.name != ".lock"
    )
    assert [other.folder for other in runs_in(root / "tiny")] == ["."]


def test_states_are_told_apart(root):
    one, unit = root / "tiny", root / "tiny" / "fold-00" / "seed-3"

    def state() -> str:
        return runs_in(root)[0].state

    with RunFolder(one).held():
        assert state() == "at work, finished"
    (one / "report.json").rename(one / "elsewhere.json")
    assert state() == "finished, no report"
    (unit / "probe" / "finished.json").unlink()
    assert state() == "probe 0 of 1"
    (unit / "pretrain" / "finished.json").unlink()
    assert state() == "pretrain 0 of 1"
    (one / "prepare.json").unlink()
    assert state() == "begun"
    (one / "plan.json").write_text("{")
    assert state().startswith("damaged: ")
    (one / "plan.json").unlink()
    (one / "plan.json").symlink_to("/etc/passwd")
    assert state().startswith("damaged: ")


def test_a_run_of_before_there_was_a_marker_is_listed_and_nothing_is_written_into_it(root):
    (root / "tiny" / ".mmcl").unlink()
    before = files(root)
    assert [one.folder for one in runs_in(root)] == ["tiny"]
    assert kind_of(root / "thesis") is None
    assert files(root) == before


def test_a_sweep_is_listed_as_one(root):
    sweep = root / "search"
    (sweep / "trials" / "0000").mkdir(parents=True)
    (sweep / ".mmcl").write_text("sweep\n")
    write_json(sweep / "sweep.json", {"format": 1})
    assert next(one for one in runs_in(root) if one.kind == "sweep").state == "begun"
    write_json(sweep / "trials.json", {"name": "it", "metric": "uar", "trials": [{}, {}], "final": {"mean": 0.5}})
    one = next(one for one in runs_in(root) if one.kind == "sweep")
    assert (one.recipe, one.state, one.metric, one.score) == ("it", "2 trials", "uar", 0.5)
    remove([sweep], really=True)
    assert not sweep.exists()


def test_nothing_is_removed_without_yes(root, capsys):
    before = files(root)
    assert call("runs", "rm", str(root / "tiny")) == 0
    assert "would be removed" in capsys.readouterr().out
    assert call("runs", "prune", str(root)) == 0
    assert files(root) == before
    assert call("runs", "rm", str(root / "tiny"), "--yes") == 0
    assert not (root / "tiny").exists()
    assert (root / "notes.txt").exists()
    assert (root / "thesis" / "plan.json").exists()


@pytest.mark.parametrize("what", ["thesis", "missing", "notes.txt", "prepared", "."])
def test_what_is_no_run_is_never_removed_and_nothing_else_is_then(root, what):
    before = files(root)
    with pytest.raises(StageError, match="is no run of mmcl"):
        remove([root / "tiny", root / what], really=True)
    assert files(root) == before


def test_a_run_with_somebodys_file_a_link_or_a_process_in_it_stays(root):
    (root / "tiny" / "draft.txt").write_text("mine")
    with pytest.raises(StageError, match=r"holds draft\.txt, which mmcl did not write"):
        remove([root / "tiny"], really=True)
    (root / "tiny" / "draft.txt").unlink()
    with (
        RunFolder(root / "tiny").held(),
        pytest.raises(StageError, match="another mmcl process is writing this run; wait for it$"),
    ):
        remove([root / "tiny"], really=True)
    (root / "tiny" / "fold-00" / "way").symlink_to(root / "thesis")
    with pytest.raises(StageError, match="is a link"):
        remove([root / "tiny"], really=True)
    assert (root / "tiny" / "plan.json").exists()
    (root / "tiny" / "fold-00" / "way").unlink()
    (root / "alias").symlink_to(root / "tiny")
    remove([root / "alias"], really=True)
    assert not (root / "tiny").exists()


def test_streams_that_no_run_names_are_pruned_and_no_others(root):
    used = {str(path) for path in (root / "prepared").glob("*/*/store.json")}
    assert prune(root, really=True) == []
    assert {str(path) for path in (root / "prepared").glob("*/*/store.json")} == used
    one = json.loads(Path(min(used)).read_text())
    mine = root / "prepared" / "toy" / "mine"
    mine.mkdir()
    (mine / "store.json").write_text('{"key": "mine"}')
    (mine / "letter.txt").write_text("mine")
    other = root / "prepared" / "toy" / "other"
    other.mkdir()
    (other / "store.json").write_text(json.dumps({**one, "key": "something else"}))
    sweep = root / "search" / "trials" / "0000"
    sweep.mkdir(parents=True)
    folds = read_json(root / "tiny" / "folds.json")
    trial = {"stores": {"audio": {**folds["stores"]["audio"], "folder": "../../" + folds["stores"]["audio"]["folder"]}}}
    write_json(sweep / "folds.json", trial)
    remove([root / "tiny"], really=True)
    gone = prune(root, really=False)
    assert len(gone) == len(used) - 1  # the sweep's trial needs one
    assert {str(path) for path in (root / "prepared").glob("*/*/store.json")} >= used
    assert {one.folder for one in prune(root, really=True)} == {one.folder for one in gone}
    assert (mine / "letter.txt").exists()
    assert (other / "store.json").exists()
    kept = os.path.normpath(root / "tiny" / folds["stores"]["audio"]["folder"])
    assert Path(kept, "store.json").exists()


def test_nothing_is_pruned_while_a_run_is_written_or_cannot_be_read(root):
    shutil.copytree(root / "tiny", root / "second")
    (root / "tiny" / "folds.json").write_text("{")
    with pytest.raises(StageError, match=r"folds\.json: cannot be read"):
        prune(root, really=True)
    shutil.rmtree(root / "tiny")
    with (
        RunFolder(root / "second").held(),
        pytest.raises(StageError, match="another mmcl process is writing this run; wait for it$"),
    ):
        prune(root, really=True)
    (root / "prepared" / "toy" / "way").symlink_to(root / "thesis")
    with pytest.raises(StageError, match="is a link"):
        prune(root, really=True)


def test_the_command_lists_for_people_and_programs(root, tmp_path, capsys, monkeypatch):
    assert call("runs", str(root)) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:3] == ["run", "recipe", "state"]
    assert "tiny" in out
    assert "accuracy emotion" in out
    assert call("runs", str(root), "--json") == 0
    assert [one["folder"] for one in json.loads(capsys.readouterr().out)] == ["tiny"]
    monkeypatch.chdir(tmp_path)
    assert call("runs") == 0
    assert "finished" in capsys.readouterr().out
    assert call("runs", "nowhere") == 2
    assert "is no folder; name the one that your runs lie in, as in mmcl runs DIR" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert call("runs", "empty") == 0
    assert "holds no runs" in capsys.readouterr().err
