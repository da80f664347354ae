"""What the command line says beside errors, in remarks, lists and what it prints, followed: whoever does it gets what was promised."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from mmcl.begin.table import draft_table
from mmcl.cli import main
from mmcl.recipe.planner import load_plan
from mmcl.runs import read_json, write_json
from tests.test_begin import lay
from tests.test_environment import RECIPE


def code_of(*words: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(one) for one in words])
    return int(done.value.code or 0)


def told(capsys, *words: object, code: int = 0) -> str:
    """What a command prints to stdout and stderr."""
    capsys.readouterr()
    ended = code_of(*words)
    printed = capsys.readouterr()
    assert ended == code, printed.err
    return printed.out + printed.err


# ---------------------------------------------------------------------------------------------------- tables and recipes


def sounds(root: Path) -> Path:
    """A folder whose names say nothing of people and labels."""
    return lay(root, *(f"{row:02d}.wav" for row in range(24)))


def fill(table: Path, **columns: str) -> None:
    """Fill in columns of a table, a row's number modulo a count behind each word."""
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    kinds = {"speaker": 6, "Sprecher": 6, "emotion": 2}
    lines = [f"{row},{','.join(f'{word}{at % kinds[name]}' for name, word in columns.items())}" for at, row in enumerate(rows)]
    table.write_text("\n".join([f"{head},{','.join(columns)}", *lines]) + "\n", encoding="utf-8")


def test_columns_of_people_and_labels_that_are_filled_in_are_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sounds(tmp_path / "study")
    output = told(capsys, "new-dataset", "study")
    for words in (
        "fill in a column `speaker`",
        "fill in a column such as `emotion`, or",
        "fill in a column such as `emotion` for more",
    ):
        assert words in output
    fill(tmp_path / "study" / "recordings.csv", speaker="spk", emotion="mood")
    written = told(capsys, "new-recipe", "study/recordings.csv", "--out", "r.yaml")
    assert "fill in" not in written
    plan = load_plan(tmp_path / "r.yaml")
    assert plan.dataset.params.group == "speaker"
    assert [(task.name, list(task.classes)) for task in plan.tasks] == [("emotion", ["mood0", "mood1"])]


def test_a_pattern_says_who_is_in_recordings_and_what(tmp_path):
    lay(tmp_path, *(f"s{who}-{mood}-{k}.wav" for who in range(3) for mood in ("glad", "sad") for k in range(2)))
    notes = "\n".join(draft_table(tmp_path).notes)
    assert "or give --pattern; else" in notes
    assert "or give --pattern with (?P<emotion>…)" in notes
    draft = draft_table(tmp_path, r"(?P<speaker>s\d)-(?P<emotion>[a-z]+)")
    assert not any("not known" in note or "no label" in note for note in draft.notes)
    assert {(row["speaker"], row["emotion"]) for row in draft.rows} == {
        (f"s{k}", mood) for k in range(3) for mood in ("glad", "sad")
    }


def test_a_pattern_reads_folders_of_different_depths_and_one_that_fits_all_leaves_no_cell_empty(tmp_path):
    lay(tmp_path, "anna/glad/1.wav", "anna/glad/2.wav", "ben/sad/3.wav", "ben/4.wav")
    assert any("--pattern says who and what is in them" in note for note in draft_table(tmp_path).notes)
    some = draft_table(tmp_path, r"^(?P<speaker>[^/]+)/(?P<emotion>[^/]+)/")
    assert any("--pattern fits 1 recordings not, such as ben/4: their cells are empty" in note for note in some.notes)
    assert [(row["speaker"], row["emotion"]) for row in some.rows][1] == ("anna", "glad")
    every = draft_table(tmp_path, r"^(?P<speaker>[^/]+)/((?P<emotion>[^/]+)/)?")
    assert not any("--pattern" in note for note in every.notes)
    assert {row["id"]: (row["speaker"], row["emotion"]) for row in every.rows}["4"] == ("ben", "")


def test_a_rate_goes_into_the_column_or_the_recipe_and_the_recipe_that_was_missing_is_written_then(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "study" / "recordings.csv"
    for who in range(3):
        for mood in ("glad", "sad"):
            (path := tmp_path / "study" / f"speaker{who}" / mood / f"{who}{mood}.npy").parent.mkdir(parents=True)
            np.save(path, np.random.default_rng(who).normal(size=(40, 2)))
    output = told(capsys, "new-dataset", "study")
    assert "write it into a column 'array_rate', or set dataset.sources.array.rate in the recipe" in output
    (after,) = re.findall(r"mend the table, then: mmcl (new-recipe .+)", output)
    bare = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([f"{bare[0]},array_rate", *(f"{row},20" for row in bare[1:])]) + "\n", encoding="utf-8")
    told(capsys, *shlex.split(after))
    recipe = tmp_path / after.split()[-1]
    assert load_plan(recipe).info.sources["array"].rate == 20
    table.write_text("\n".join(bare) + "\n", encoding="utf-8")
    assert "does not say its rate" in told(capsys, "check", recipe, code=2)
    assert load_plan(recipe, ("dataset.sources.array.rate=10",)).info.sources["array"].rate == 10


def test_a_name_that_is_no_text_is_taken_in_once_it_is_renamed(tmp_path):
    lay(tmp_path, "a.wav")
    try:
        odd = shutil.copy(tmp_path / "a.wav", os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.wav"))
    except OSError:
        pytest.skip("this file system takes text alone")
    draft = draft_table(tmp_path)
    assert any(note.endswith("its name is no text in UTF-8, rename it") for note in draft.notes)
    assert [row["id"] for row in draft.rows] == ["a"]
    Path(odd).rename(tmp_path / "b.wav")
    assert [row["id"] for row in draft_table(tmp_path).rows] == ["a", "b"]


def test_the_first_lines_of_a_recipe_run_as_they_stand_and_data_may_lie_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sides = ("train", "valid", "test")
    lay(tmp_path / "study", *(f"{side}/speaker{k}/{mood}/{k}.csv" for k, side in enumerate(sides) for mood in ("glad", "sad")))
    told(capsys, "new-dataset", "study")
    told(capsys, "new-recipe", "study/recordings.csv", "--out", "r.yaml")
    text = (tmp_path / "r.yaml").read_text(encoding="utf-8")
    (first, second) = re.findall(r"^#   mmcl (check .+), then mmcl (run .+), a dry run", text, re.M)[0]
    assert "6 of 3 speakers" in told(capsys, *shlex.split(first))
    assert "from the current folder, or from --data DIR" in text
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert "is not there" in told(capsys, "check", "../r.yaml", code=2)
    assert "6 of 3 speakers" in told(capsys, "check", "../r.yaml", "--data", "..")
    monkeypatch.chdir(tmp_path)
    told(capsys, *shlex.split(second))
    assert read_json(tmp_path / "runs" / "study-limit-20" / "report.json")


def test_the_command_that_tries_a_sample_runs_and_data_may_be_given_both_ways(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MMCL_DATA", raising=False)
    assert "DIR is still to be given: --data DIR, or MMCL_DATA." in told(capsys, "check", "react_faces")
    line = re.search(r"^try it: mmcl (.+)$", told(capsys, "sample", "react_faces", tmp_path / "d", "-n", "12"), re.M)
    assert line
    for way in ("--data", "MMCL_DATA"):
        if way == "MMCL_DATA":
            monkeypatch.setenv("MMCL_DATA", str(tmp_path / "d"))
        output = told(capsys, "check", "react_faces", *(("--data", tmp_path / "d") if way == "--data" else ()))
        assert f"in {tmp_path / 'd' / 'react'}" in output
        assert "still to be given" not in output
    monkeypatch.delenv("MMCL_DATA")
    told(capsys, *shlex.split(line[1]))
    assert read_json(tmp_path / "d" / "runs" / "react_faces" / "report.json")


def test_datasets_are_looked_for_where_describe_says(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MMCL_DATA", raising=False)
    for name in ("folder", "utd-mhad"):
        assert f"looked for in: DIR/{name} (DIR: --data DIR or $MMCL_DATA), or dataset.root" in told(
            capsys, "describe", "dataset", name
        )
        told(capsys, "sample", name, tmp_path, "-n", "8")
        source, features, backbone = {
            "folder": ("sound", "log-mel", "tcn"),
            "utd-mhad": ("inertial", "signals", "tcn"),
        }[name]
        one = f"{{source: {source}, features: {{use: {features}}}, backbone: {{use: {backbone}}}}}"
        (tmp_path / "r.yaml").write_text(
            f"format: 1\nname: one\ndataset: {{use: {name}}}\nmodalities: {{one: {one}}}\npretrain: {{epochs: 0}}\nprotocol: {{use: hold-out}}\n"
        )
        check = ("check", tmp_path / "r.yaml")
        ways = [(*check, "--data", tmp_path), (*check, "--set", f"dataset.root={tmp_path / name}")]
        for way in ways:
            assert f"{name} in {tmp_path / name}" in told(capsys, *way)
        monkeypatch.setenv("MMCL_DATA", str(tmp_path))
        assert f"{name} in {tmp_path / name}" in told(capsys, *check)
        monkeypatch.delenv("MMCL_DATA")
    assert "'mmcl data check FOLDER' says which" in told(capsys, "describe", "dataset", "folder")
    output = told(capsys, "data", "check", tmp_path / "folder")
    assert re.search(r"^  sound +audio: ", output, re.M) and re.search(r"^  mood +single-label: ", output, re.M)


# -------------------------------------------------------------------------------------------------------- data and reports


def test_a_column_of_people_that_is_offered_becomes_the_group(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sounds(tmp_path / "study")
    told(capsys, "new-dataset", "study")
    fill(tmp_path / "study" / "recordings.csv", Sprecher="S", emotion="mood")
    output = told(capsys, "data", "check", "study")
    assert "24 of 24 recordings" in output
    (line,) = re.findall(r"then write (group: \w+)", output)
    told(capsys, "new-recipe", "study/recordings.csv", "--out", "r.yaml")
    text = (tmp_path / "r.yaml").read_text(encoding="utf-8")
    (tmp_path / "r.yaml").write_text(text.replace("  table: recordings.csv\n", f"  table: recordings.csv\n  {line}\n"))
    assert "24 of 6 " in told(capsys, "data", "check", "r.yaml")


@pytest.fixture
def spoilt(tmp_path, monkeypatch) -> Path:
    """A recipe for a folder of which thirty recordings are damaged, and in which thirty words stand in training alone."""
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "study", *(f"{row:02d}.wav" for row in range(90)))
    for row in range(30):
        (tmp_path / "study" / f"{row:02d}.wav").write_bytes(b"RIFF")
    rows = [
        f"{row:02d},{row:02d}.wav,{('train', 'train', 'train', 'test', 'valid')[row % 5]},w{row % 45 % 30:02d}"
        for row in range(90)
    ]
    (tmp_path / "study" / "recordings.csv").write_text("id,sound,split,word\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert code_of("new-recipe", "study/recordings.csv", "--out", "r.yaml") == 0
    return tmp_path / "r.yaml"


def test_json_lists_all_that_data_check_leaves_out_and_strict_ends_a_run_at_what_it_would_skip(spoilt, tmp_path, capsys):
    output = told(capsys, "data", "check", spoilt)
    more = [int(count) for count in re.findall(r"… and (\d+) more \(--json lists them\)", output)]
    about = json.loads(told(capsys, "data", "check", spoilt, "--json"))
    assert len(more) == 2
    assert [len(about["concerns"]) - 20, len(about["defects"]) - 20] == more
    assert more[1] == 10
    assert "a run lists these 30 and skips them; with --strict it ends there" in output
    run = ("run", spoilt, "--out", tmp_path / "run", "--stop-after", "prepare", "--workers", "1")
    ended = told(capsys, *run, "--strict", code=2)
    assert re.search(r"\b[012]\d\.wav", ended)
    assert not (tmp_path / "run" / "prepare.json").exists()
    told(capsys, *run)
    kept = read_json(tmp_path / "run" / "prepare.json")
    assert (kept["samples"], kept["usable"]) == (90, 60)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory) -> Path:
    """A finished run of it; read, and left as it is."""
    folder = tmp_path_factory.mktemp("done") / "runs" / "small"
    assert code_of("run", recipe, "--out", folder, "--workers", 1) == 0
    return folder


@pytest.fixture
def mine(done, tmp_path) -> Path:
    """A copy of it, with its streams."""
    shutil.copytree(done.parent, tmp_path / "runs")
    return tmp_path / "runs" / done.name


def test_a_recording_of_a_run_is_shown_without_set_and_a_page_is_never_written_over(
    done, recipe, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    name = "toy-00009"
    output = told(capsys, "data", "show", done, name, "--set", "window.seconds=0.4", code=2)
    assert "--set belongs to a recipe; a run is shown as it was made" in output
    told(capsys, "data", "show", recipe, name, "--set", "window.seconds=0.4", "--out", "of-recipe.html")
    told(capsys, "data", "show", done, name)
    (page,) = [path for path in tmp_path.iterdir() if path.name != "of-recipe.html"]
    page.write_text("mine", encoding="utf-8")
    assert "is there already; name another with --out, which may write over it" in told(
        capsys, "data", "show", done, name, code=2
    )
    for out in ("other.html", "other.html", page.name):
        told(capsys, "data", "show", done, name, "--out", out)
        assert name in (tmp_path / out).read_text(encoding="utf-8")


def test_several_runs_have_a_page_where_out_says_and_one_has_its_own(done, mine, tmp_path, capsys):
    output = told(capsys, "report", mine, "--out", tmp_path / "page.html", code=2)
    assert "--out is for several runs; the report of one lies in its folder" in output
    told(capsys, "report", mine, done, "--out", tmp_path / "page.html")
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
    (mine / "report.html").unlink()
    told(capsys, "report", mine)
    assert "<html" in (mine / "report.html").read_text(encoding="utf-8")


def test_json_has_all_scores_of_a_repetition_that_differ(mine, capsys):
    about = read_json(mine / "report.json")
    (first, *_) = about["scores"]
    about["scores"] += [{**first, "metric": f"other{k:02d}"} for k in range(60)]
    write_json(mine / "report.json", about)
    rerun = ("rerun", mine, "--out", mine.parent / "again", "--workers", 1)
    assert "  … and 10 more (--json has all)" in told(capsys, *rerun, code=1)
    text = told(capsys, *rerun, "--json", code=1)
    assert len(json.loads(text[text.index("{\n") : text.rindex("}") + 1])["differences"]) == 60


def test_a_run_begins_anew_or_goes_on_and_not_both(mine, recipe, capsys):
    run = ("run", recipe, "--out", mine, "--workers", 1)
    both = told(capsys, *run, "--overwrite", "--continue", code=2)
    assert "--overwrite begins anew and --continue goes on; give one of them" in both
    told(capsys, *run, "--continue", "--set", "pretrain.epochs=2")
    assert read_json(mine / "plan.json")["plan"]["pretrain"]["epochs"] == 2
    told(capsys, *run, "--overwrite", "--set", "pretrain.batch_size=8")
    assert read_json(mine / "plan.json")["plan"]["pretrain"]["batch_size"] == 8


def test_streams_are_pruned_with_yes(mine, capsys):
    told(capsys, "runs", "rm", mine, "--yes")
    output = told(capsys, "runs", "prune", mine.parent)
    (size,) = re.findall(r"nothing was removed; the same with --yes frees (.+)$", output, re.M)
    before = sum(path.stat().st_size for path in mine.parent.rglob("*") if path.is_file())
    assert size == f"{before / 1000:.1f} kB"
    told(capsys, "runs", "prune", mine.parent, "--yes")
    assert not list(mine.parent.rglob("store.json"))


def test_answers_are_written_by_the_ending_that_is_given(done, tmp_path, capsys):
    predict = ("predict", done, "toy-00009", "--out")
    assert "answers are written as .jsonl or .csv" in told(capsys, *predict, tmp_path / "a.txt", code=2)
    for name in ("a.jsonl", "a.csv"):
        told(capsys, *predict, tmp_path / name)
        assert "toy-00009" in (tmp_path / name).read_text(encoding="utf-8")


def test_a_server_that_is_exposed_answers_at_any_address_of_the_machine(done, capsys):
    pytest.importorskip("fastapi", reason="the extra serve is not installed: pip install 'mmcl[serve]'")
    line = ["serve", str(done), "--device", "cpu", "--port", "0", "--host", "0.0.0.0"]
    assert "say --expose if that is meant" in told(capsys, *line, code=2)
    serving = subprocess.Popen([sys.executable, "-m", "mmcl", *line, "--expose"], stderr=subprocess.PIPE, text=True)
    try:
        assert serving.stderr is not None
        port = re.search(r"answers at http://.+:(\d+)/", next(one for one in serving.stderr if "answers at" in one))
        assert port
        with urllib.request.urlopen(
            f"http://127.0.0.2:{port[1]}/health", timeout=60
        ) as reply:  # not where it listens otherwise
            assert json.load(reply)["run"] == "small"
    finally:
        serving.terminate()
        serving.wait(60)


def test_what_works_in_one_process_is_started_without_torchrun(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "mmcl list-recipes works in one process; start it without torchrun" in told(capsys, "list-recipes", code=2)
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    assert "quickstart" in told(capsys, "list-recipes")


def test_a_run_on_a_device_that_is_not_there_runs_on_the_processor(recipe, tmp_path, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = ("run", recipe, "--out", tmp_path / "run", "--workers", 1, "--stop-after", "pretrain", "--device")
    assert "--device cuda: torch sees no CUDA device here; use --device cpu" in told(capsys, *run, "cuda", code=2)
    told(capsys, *run, "cpu")
    assert list((tmp_path / "run").rglob("encoders.safetensors"))


# ------------------------------------------------------------------------------------------------------------- the machine


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_another_place_or_the_same_command_later_ends_well(number, tmp_path, monkeypatch, capsys):
    lay(tmp_path / "study", *(f"speaker{k}/{mood}/{k}.wav" for k in range(3) for mood in ("glad", "sad")))
    told(capsys, "new-dataset", tmp_path / "study")
    new = ("new-recipe", tmp_path / "study" / "recordings.csv", "--out")
    real, bad = os.open, tmp_path / "bad"
    bad.mkdir()

    def refusing(path, *more, **named):
        if bad in Path(os.fsdecode(path)).parents:
            raise OSError(number, os.strerror(number), os.fspath(path))
        return real(path, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        output = told(capsys, *new, bad / "r.yaml", code=2)
        told(capsys, *new, tmp_path / "good.yaml")
    advice = {
        errno.ENOSPC: "make room, or write elsewhere; the same command goes on then",
        errno.EIO: "look after the disk, or give another place; the same command goes on then",
        errno.EACCES: "give a place that can be read and written",
    }
    assert output.endswith(f"{os.strerror(number)}; {advice[number]}\n")
    told(capsys, *new, bad / "r.yaml")
    texts = [path.read_text(encoding="utf-8").replace(str(path), "R") for path in (bad / "r.yaml", tmp_path / "good.yaml")]
    assert texts[0] == texts[1]


LESS = {
    "batch_size": ("pretrain.batch_size=4",),
    "micro_batch": ("pretrain.micro_batch=4",),
    "widths": ("modalities.audio.backbone.channels=[2]",),
    "windows": ("window.seconds=0.2",),
}


@pytest.mark.parametrize("less", LESS)
def test_less_memory_is_taken_by_what_the_message_says(less, recipe, tmp_path, monkeypatch, capsys):
    """Memory of which a batch takes more than there is: rows × steps × channels that a network gives at a time."""
    from mmcl_tcn.network import Tcn

    real = Tcn.forward

    def measured(self, stream):
        encoded = real(self, stream)
        if stream.values.shape[0] * stream.values.shape[1] * self.width > 16 * 8 * 4 // 2:
            raise MemoryError
        return encoded

    run = ("run", recipe, "--out", tmp_path / "run", "--workers", 1, "--stop-after", "pretrain")
    with monkeypatch.context() as patch:
        patch.setattr(Tcn, "forward", measured)
        output = told(capsys, *run, code=2)
        assert "make batch_size or micro_batch, widths or windows smaller, or use a larger machine" in output
        told(capsys, *run, "--set", *LESS[less])
    shutil.rmtree(tmp_path / "run")
    told(capsys, *run)  # the larger machine
    assert list((tmp_path / "run").rglob("encoders.safetensors"))
