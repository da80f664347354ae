"""A run folder may come from a stranger: nothing outside it is written, read or run, and nobody's own files are lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmcl.api import PluginError, StageError, UnknownNameError
from mmcl.cli import main
from mmcl.data.prepared import load_prepared
from mmcl.plugins import plugins, require_offered
from mmcl.report.page import write_report
from mmcl.report.several import report_runs
from mmcl.review.audit import audit_folder
from mmcl.review.compare import compare_runs
from mmcl.review.published import runs_of
from mmcl.review.rerun import plan_of
from mmcl.runs import (
    PART,
    RunFolder,
    claim,
    files,
    locked,
    read_arrays,
    read_json,
    read_jsonl,
    read_tensors,
    read_text,
    remove_run,
    write_arrays,
    write_json,
    write_text,
)
from mmcl.stages.prepare import prepare

READERS = {
    "report": lambda folder: write_report(folder),
    "report of several": lambda folder: report_runs([folder, folder.parent / "other"]),
    "audit": lambda folder: audit_folder(folder),
    "compare": lambda folder: compare_runs([folder]),
    "rerun": lambda folder: plan_of(folder),
    "tables": lambda folder: runs_of([folder]),
}


@pytest.fixture
def foreign(tiny_run, tmp_path):
    """A copy of a finished run, with the prepared streams beside it."""
    shutil.copytree(tiny_run.root, tmp_path / "runs" / "tiny")
    shutil.copytree(tiny_run.prepared, tmp_path / "runs" / "prepared")
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def secret(tmp_path):
    """A file of the reader's own, outside of every run."""
    path = tmp_path / "home" / ".bashrc"
    path.parent.mkdir()
    path.write_text("my own words", encoding="utf-8")
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "name",
    ["recipe.yaml", "plan.json", "log.jsonl", "report.json", "report.html", ".lock", "fold-00/seed-3/probe/scores.jsonl"],
)
def test_a_link_in_a_run_is_refused_by_whoever_opens_it(reader, name, foreign, secret):
    (foreign / name).unlink(missing_ok=True)
    (foreign / name).symlink_to(secret)
    with pytest.raises(StageError, match=r"is a link, which a run folder may not hold"):
        READERS[reader](foreign)
    assert secret.read_text(encoding="utf-8") == "my own words"


@pytest.mark.parametrize("reader", ["report", "audit", "compare", "rerun"])
def test_a_folder_that_is_a_link_is_refused_too(reader, foreign, secret):
    shutil.move(foreign / "fold-00", secret.parent / "elsewhere")
    (foreign / "fold-00").symlink_to(secret.parent / "elsewhere")
    with pytest.raises(StageError, match="fold-00: is a link"):
        READERS[reader](foreign)


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_in_a_run_hangs_nobody(reader, foreign):
    (foreign / "recipe.yaml").unlink()
    os.mkfifo(foreign / "recipe.yaml")
    with pytest.raises(StageError, match="recipe.yaml: is neither a file nor a folder"):
        READERS[reader](foreign)


@pytest.mark.parametrize("name", ["report.html.tmp", "report.json.tmp", f".report.html.0{PART}"])
def test_no_name_that_can_be_foreseen_leads_to_other_files(name, foreign, secret):
    """The link is laid after the folder was looked through, as by somebody who watches."""
    run = RunFolder(foreign)
    (foreign / name).symlink_to(secret)
    write_text(run.root / "report.html", "a page")
    write_json(run.root / "report.json", {})
    assert secret.read_text(encoding="utf-8") == "my own words"


def _hold(path):
    with locked(path):
        pass


@pytest.mark.parametrize("name", ["report.html", "log.jsonl", ".lock", "plan.json"])
def test_a_link_laid_at_the_last_moment_is_not_followed(name, foreign, secret):
    run = RunFolder(foreign)
    (foreign / name).unlink(missing_ok=True)
    (foreign / name).symlink_to(secret)
    if name == "report.html":
        write_text(foreign / name, "a page")  # takes the place of the link
        assert not (foreign / name).is_symlink()
    else:
        touch = {"log.jsonl": lambda: run.log("event"), ".lock": lambda: _hold(foreign / name), "plan.json": None}[name]
        with pytest.raises(StageError, match=f"{name}: is a link"):
            (touch or (lambda: read_json(foreign / name)))()
    assert secret.read_text(encoding="utf-8") == "my own words"


def test_a_link_whose_name_was_foreseen_after_all_is_not_written_through(secret, tmp_path, monkeypatch):
    monkeypatch.setattr("mmcl.runs.files.secrets.token_hex", lambda count: "00")
    (tmp_path / f".report.html.00{PART}").symlink_to(secret)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "report.html", "a page")
    assert secret.read_text(encoding="utf-8") == "my own words"


@pytest.mark.parametrize("moment", ["before it is written", "before it is given its rights"])
def test_a_link_that_takes_an_unfinished_files_name_is_not_followed(moment, secret, tmp_path, monkeypatch):
    """Somebody who may write into the folder watches it, and lays the link between two steps of ours."""
    secret.chmod(0o600)

    def swap(part):
        part.unlink()
        part.symlink_to(secret)

    if moment == "before it is written":
        real = files._opened
        monkeypatch.setattr(files, "_opened", lambda path, *how: (swap(path), real(path, *how))[1])
        with pytest.raises(StageError, match="is a link"):
            write_text(tmp_path / "report.html", "a page")
    else:
        with pytest.raises(OSError, match="symbolic links"), files.in_place_of(tmp_path / "report.html") as part:
            swap(part)
    assert (secret.read_text(encoding="utf-8"), secret.stat().st_mode & 0o777) == ("my own words", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(("read", "library"), [(read_tensors, "torch"), (read_arrays, "numpy")])
def test_weights_are_those_of_the_file_that_was_looked_at(read, library, tmp_path, monkeypatch):
    """A link is laid after the file was found to be none, before its library opens it."""
    module = __import__(f"safetensors.{library}", fromlist=["load_file"])
    for name, value in (("kept", 1.0), ("secret", 2.0)):
        write_arrays(tmp_path / f"{name}.safetensors", {"a": np.full(3, value)})
    path, real = tmp_path / "kept.safetensors", module.load_file

    def late(name):
        path.unlink()
        path.symlink_to(tmp_path / "secret.safetensors")
        return real(name)

    monkeypatch.setattr(module, "load_file", late)
    assert read(path)["a"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(StageError, match="is a link"):
        read(path)


@pytest.mark.parametrize(
    "where",
    [
        "/etc/x",
        "../../home/prepared/toy/x",
        "../prepared/../../home",
        "../prepared/toy/..",
        "../prepared/a/b/c",
    ],
)
def test_prepared_streams_lie_beside_the_run_or_are_refused(where, foreign):
    folds = read_json(foreign / "folds.json")
    folds["stores"]["audio"]["folder"] = where
    write_json(foreign / "folds.json", folds)
    with pytest.raises(StageError, match="they lie in a folder 'prepared' beside the run"):
        load_prepared(RunFolder(foreign))


def test_prepared_streams_behind_a_link_are_refused(foreign, secret, tiny_plan):
    load_prepared(RunFolder(foreign))
    prepared = foreign.parent / "prepared"
    shutil.move(prepared, secret.parent / "streams")
    prepared.symlink_to(secret.parent / "streams")
    with pytest.raises(StageError, match="prepared: is a link"):
        load_prepared(RunFolder(foreign))
    before = sorted(path for path in secret.parent.rglob("*"))
    plan = tiny_plan("dataset.samples=24")  # whose streams are not there yet: they are not written behind the link either
    with pytest.raises(StageError, match="prepared: is a link"):
        prepare(plan, RunFolder(foreign.parent / "new"), 1)
    assert sorted(path for path in secret.parent.rglob("*")) == before


ESCAPES = "\x1b]0;evil\x07\x1b[2J\x9b1m\u202etxt\r"
"""What titles a terminal, empties it, paints it, turns text round and goes back to the line's beginning."""


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "list", ".."),
        ("report", "."),
        ("compare", "."),
        ("audit", "."),
        ("rerun", ".", "--out", "new"),
        ("predict", ".", "x"),
    ],
)
def test_nothing_of_a_run_is_obeyed_by_the_terminal(words, foreign, monkeypatch, capsys):
    about = read_json(foreign / "plan.json")
    about["plan"]["name"] = f"x{ESCAPES}"
    about["plan"]["modalities"]["audio"]["backbone"] |= {"use": f"b{ESCAPES}", "package": f"p{ESCAPES}"}
    write_json(foreign / "plan.json", about)
    scores = next(foreign.rglob("scores.jsonl"))
    scores.write_text(scores.read_text().replace('"emotion"', json.dumps(f"emotion{ESCAPES}")), encoding="utf-8")
    monkeypatch.chdir(foreign)
    with pytest.raises(SystemExit):
        main([*words])
    told = capsys.readouterr()
    assert told.out + told.err
    assert not set(ESCAPES) - set("]0;evil[2J1mtxt") & set(told.out + told.err)
    assert sys.stdout.write is not None and not hasattr(sys.stdout, "stream")  # the stream is the caller's again


@pytest.mark.parametrize("package", ["x'; touch ran; echo '", "a b", "--index-url=http://evil", "$(ran)", ESCAPES])
def test_a_package_that_a_run_names_reaches_no_shell_by_the_advice_to_install_it(package):
    with pytest.raises(PluginError, match="no package is called so: the file was changed"):
        plugins().kept("backbone", {"use": "gone", "package": package, "version": "1"})
    with pytest.raises(PluginError, match="no package is called so: the file was changed"):
        require_offered({"backbone": {"use": "gone", "package": package, "version": "1"}}, "run")
    with pytest.raises(UnknownNameError) as unknown:
        plugins().kept("backbone", {"use": f"{package}:gone", "version": "1"})
    assert "install" not in str(unknown.value)
    with pytest.raises(PluginError, match="if you know that package: pip install acme==1.0"):
        require_offered({"backbone": {"use": "gone", "package": "acme", "version": "1.0"}}, "run")


@pytest.mark.parametrize("size", [2**40])
def test_a_file_that_says_it_is_huge_is_refused_before_it_is_read(size, foreign):
    with (foreign / "plan.json").open("r+b") as file:
        file.truncate(size)
    with pytest.raises(StageError, match=r"plan.json: says that it has 1,099,511,627,776 bytes, and next to none"):
        write_report(foreign)


@pytest.mark.parametrize("inside", ["[],", "{},", '{"a":1},', "[[0]],"])
@pytest.mark.parametrize("name", ["plan.json", "log.jsonl", "report.json"])
def test_text_whose_values_would_take_far_more_memory_than_it_is_long_is_refused(name, inside, tmp_path):
    """Lists of nothing take thirty times their text."""
    text = f'{{"x": [{inside * 500_000}0]}}'
    (tmp_path / name).write_text(text, encoding="utf-8")
    read = read_jsonl if name == "log.jsonl" else read_json
    with pytest.raises(
        StageError, match=rf"{name}: cannot be read as JSON \(its [\d,]+ characters would take 0\.\d GiB of memory"
    ):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, "{", "[]", "\x00", '{"a": 1}{'], ids=["deep", "long", "cut", "list", "zero", "two"]
)
def test_json_that_is_none_is_one_sentence(text, tmp_path):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    for read in (read_json, read_jsonl):
        with pytest.raises(StageError, match=r"a.json: .*run its recipe again"):
            read(tmp_path / "a.json")


def test_bytes_that_are_no_text_are_one_sentence(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StageError, match=r"a.json: cannot be read as text"):
        read_text(tmp_path / "a.json")
    with pytest.raises(StageError, match=r"a.json: is not a whole safetensors file"):
        read_tensors(tmp_path / "a.json")


# ------------------------------------------------------------------------------------------------------ whose folder it is


def test_a_folder_with_somebodys_files_is_never_written_into(tiny_plan, tmp_path):
    from mmcl.stages import run_all

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "report.html").write_text("mine", encoding="utf-8")
    before = {path: path.read_bytes() for path in (tmp_path / "thesis").iterdir()}
    with pytest.raises(StageError, match=r"thesis: holds report.html, which no run of mmcl wrote; give another --out"):
        run_all(tiny_plan(), RunFolder(tmp_path / "thesis"))
    assert {path: path.read_bytes() for path in (tmp_path / "thesis").iterdir()} == before


def test_a_claimed_folder_says_what_it_is(tmp_path):
    claim(tmp_path / "new", "run")
    claim(tmp_path / "new", "run")
    with pytest.raises(StageError, match="new: is the folder of a run, and not of a sweep; give another --out"):
        claim(tmp_path / "new", "sweep")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StageError, match="cannot be made a folder"):
        claim(tmp_path / "file" / "run", "run")


def test_a_run_of_an_older_mmcl_is_taken_for_one(foreign):
    (foreign / ".mmcl").unlink()
    claim(foreign, "run")
    assert (foreign / ".mmcl").read_text(encoding="utf-8") == "run\n"


@pytest.mark.parametrize("text", ["{}", '{"format": 1}', "not json"])
def test_a_plan_that_is_somebody_elses_makes_no_run(text, tmp_path):
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(StageError, match=r"holds plan.json, which no run of mmcl wrote"):
        claim(tmp_path, "run")


def test_a_run_with_a_strange_file_is_not_removed(foreign):
    (foreign / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(StageError, match=r"would be removed, and holds thesis.tex, which mmcl did not write"):
        remove_run(foreign)
    assert (foreign / "report.html").exists()
    (foreign / "thesis.tex").unlink()
    remove_run(foreign)
    assert not foreign.exists()


def test_files_have_the_rights_that_the_umask_gives(foreign):
    usual = (foreign / "plan.json").stat().st_mode
    assert {path.stat().st_mode for path in foreign.rglob("*.safetensors")} == {usual}


def test_what_a_killed_process_left_half_written_is_taken_away(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim()
    (run.root / f".report.html.abc{PART}").write_text("half", encoding="utf-8")
    (run.root / "fold-00").mkdir()
    (run.root / "fold-00" / f".resume.abc{PART}").mkdir()
    with run.held():
        assert not list(run.root.rglob(f"*{PART}"))


# ------------------------------------------------------------------------------------------------ code in the current folder


PLANTED = ("multiprocessing", "numpy", "torch", "click", "concurrent", "yaml", "optuna", "mmcl_toy")


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-m", "mmcl"], ["-c", "from mmcl.cli import main; main()"]], ids=["module", "script"])
def test_no_code_of_the_current_folder_runs(command, tmp_path):
    """In workers, Python puts the current folder first on its path."""
    here = tmp_path / "here"
    here.mkdir()
    for name in PLANTED:
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n", encoding="utf-8")
    safe = ["-P"] if command[0] == "-c" else []  # as the installed script starts: its own folder is on the path, not this one
    sets = ["dataset.samples=160", "pretrain.epochs=1", "worth=null"]
    done = subprocess.run(
        [
            *(sys.executable, *safe, *command, "run", "quickstart", "--workers", "2", "--stop-after", "prepare"),
            *(word for one in sets for word in ("--set", one)),
        ],
        cwd=here,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert json.loads((here / "runs" / "quickstart" / "prepare.json").read_text(encoding="utf-8"))["samples"] == 160


def test_workers_import_nothing_from_the_current_folder_when_the_api_is_used(tmp_path):
    here = Path(tmp_path / "here")
    here.mkdir()
    (here / "multiprocessing.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\n", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text(
        "from mmcl.workers import safe_path\n"
        "from multiprocessing import get_context\n"
        "if __name__ == '__main__':\n"
        "    with safe_path():\n"
        "        process = get_context('spawn').Process(target=print, args=('a worker',))\n"
        "        process.start()\n"
        "        process.join()\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], cwd=here, capture_output=True, text=True)
    assert (done.stdout, (tmp_path / "ran").exists()) == ("a worker\n", False), done.stderr
