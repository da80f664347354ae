"""The first files of a study: a table of what lies in a folder, a recipe for a table."""

from __future__ import annotations

import csv
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mmcl.begin.recipe import recipe_of
from mmcl.begin.table import draft_table, write_table
from mmcl.cli import main
from mmcl.media import write_audio
from mmcl.plugins import plugins
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.testing.corpora import expect_refusal, write_pictures


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def lay(root: Path, *files: str) -> Path:
    """A folder with these files; sounds are sounds, tables have three columns at 25 Hz."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".wav":
            write_audio(path, np.full(4000, 0.1), 8000)
        elif path.suffix == ".csv":
            path.write_text("timestamp,x,y\n" + "".join(f"{i / 25},{i},1\n" for i in range(20)))
        else:
            path.write_text("words of a kind")
    return root


def rows(root: Path, pattern: str | None = None) -> list[dict[str, str]]:
    return [dict(row) for row in draft_table(root, pattern).rows]


def test_equal_names_across_folders_and_endings_are_one_recording(tmp_path):
    lay(tmp_path, "wavs/a.wav", "wavs/b.wav", "face/a.csv", "face/b.csv", "words/a.txt")
    assert rows(tmp_path) == [
        {"id": "a", "face": "face/a.csv", "wavs": "wavs/a.wav", "words": "words/a.txt"},
        {"id": "b", "face": "face/b.csv", "wavs": "wavs/b.wav", "words": ""},
    ]
    assert any("1 recordings lack words" in note for note in draft_table(tmp_path).notes)


@pytest.mark.parametrize("ending", ["npz", "mat", "safetensors"])
def test_rates_that_arrays_say_themselves_stand_in_the_table_and_the_dataset_reads_them(tmp_path, ending):
    from safetensors.numpy import save_file
    from scipy.io import savemat

    for i in range(8):
        arrays = {"imu": np.ones((50, 6)), "fps": np.array([50.0])}
        path = tmp_path / f"{'calm' if i % 2 else 'tense'}/r{i}.{ending}"
        path.parent.mkdir(exist_ok=True)
        {"npz": lambda p, a: np.savez(p, **a), "mat": savemat, "safetensors": lambda p, a: save_file(a, p)}[ending](
            path, arrays
        )
    draft = write_table(tmp_path)
    assert {row["array_rate"] for row in draft.rows} == {"50"}
    assert not any("do not say" in note for note in draft.notes)
    text, notes = recipe_of(tmp_path / "recordings.csv")
    assert notes == []
    plan = make_plan(parse_recipe(text, "the recipe"))
    assert plan.info.sources["array"].rate == 50
    assert plan.info.sources["array"].notes["shape"] == [6]


def test_what_does_not_say_its_rate_is_named_and_no_column_is_invented(tmp_path):
    lay(tmp_path, "imu/a.wav", "imu/b.wav")
    for folder, name, rate in (("hand", "a", {"rate": 30}), ("hand", "b", {}), ("hand", "c", {"rate": -1})):
        (tmp_path / folder).mkdir(exist_ok=True)
        np.savez(tmp_path / folder / f"{name}.npz", x=np.zeros((4, 2)), **rate)
    (tmp_path / "gaze").mkdir()
    (tmp_path / "gaze/a.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "pose").mkdir()
    np.save(tmp_path / "pose/a.npy", np.zeros((4, 2)))
    draft = draft_table(tmp_path)
    assert [row["hand_rate"] for row in draft.rows] == ["30", "", ""]
    assert not {"gaze_rate", "pose_rate", "imu_rate"} & set(draft.columns)
    text = "\n".join(draft.notes)
    for words in (
        "hand: 2 of 3 arrays do not say",
        "gaze: tables without a column 'timestamp' do not say",
        "pose: arrays do not say",
    ):
        assert words in text
    assert "'pose_rate', or set dataset.sources.pose.rate in the recipe" in text


def test_equal_names_beside_each_other_are_one_recording_by_kind(tmp_path):
    lay(tmp_path, "a.wav", "a.txt", "b.wav")
    assert rows(tmp_path) == [
        {"id": "a", "sound": "a.wav", "transcript": "a.txt"},
        {"id": "b", "sound": "b.wav", "transcript": ""},
    ]


def test_folders_of_people_and_of_labels_are_told_apart_and_equal_names_in_them_are_not_one(tmp_path):
    lay(tmp_path, *(f"speaker{p}/{mood}/{i}.wav" for p in (1, 2) for mood in ("glad", "sad") for i in (1, 2)))
    table = rows(tmp_path)
    assert len(table) == 8
    assert table[0] == {"id": "speaker1-glad-1", "speaker": "speaker1", "label": "glad", "sound": "speaker1/glad/1.wav"}


def test_two_levels_of_words_are_not_guessed_at(tmp_path):
    lay(tmp_path, *(f"{who}/{mood}/{i}.wav" for who in ("anna", "ben") for mood in ("glad", "sad") for i in (1, 2)))
    draft = draft_table(tmp_path)
    assert draft.columns == ("id", "sound")
    unknown = [note for note in draft.notes if "not known what they are" in note]
    assert [note.partition(":")[0] for note in unknown] == ["folders anna, ben", "folders glad, sad"]
    (pattern,) = {re.search("--pattern '(.*)'", note)[1] for note in unknown}
    assert rows(tmp_path, pattern)[0] == {"id": "anna-glad-1", "speaker": "anna", "emotion": "glad", "sound": "anna/glad/1.wav"}


def test_commands_of_the_page_do_what_it_says(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "study", *(f"speaker{p}/{mood}/0{i}.wav" for p in range(1, 8) for mood in ("happy", "sad") for i in (1, 2)))
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^ {4}mmcl (.+)$", page, re.M)]
    assert [command[0] for command in commands] == ["new-dataset", "new-dataset", "new-recipe", "data", "data", "run", "run"]
    for command in commands[:4]:
        writes = command[-1] if ">" in command else None
        if command[0] == "new-recipe":
            command.append("--overwrite")  # the page's reader has printed it there before
        assert call(*(command[: command.index(">")] if writes else command)) == 0, command
        text = capsys.readouterr().out
        if writes:
            Path(writes).write_text(text, encoding="utf-8")
    assert "28 of 7 speakers" in text
    assert call(*commands[4]) == 0, "one recording is shown"
    assert "speaker1-happy-01" in Path("page.html").read_text(encoding="utf-8")
    table = (tmp_path / "study/recordings.csv").read_text().splitlines()
    assert "\n    ".join(table[:2]) in page
    for command in commands[5:]:
        assert call("check", *command[1:]) == 0, "what the page runs can be run"


def test_sources_below_people_are_sources(tmp_path):
    lay(tmp_path, *(f"p{p}/{folder}/1.{end}" for p in (1, 2) for folder, end in (("mic", "wav"), ("imu", "csv"))))
    assert rows(tmp_path) == [
        {"id": f"p{p}-1", "speaker": f"p{p}", "imu": f"p{p}/imu/1.csv", "mic": f"p{p}/mic/1.wav"} for p in (1, 2)
    ]


def test_folders_of_splits_get_our_words(tmp_path):
    lay(tmp_path, "train/a.wav", "val/b.wav", "test/c.wav")
    assert [(row["id"], row["split"]) for row in rows(tmp_path)] == [("c", "test"), ("a", "train"), ("b", "valid")]


def test_pattern_names_columns(tmp_path):
    lay(tmp_path, "s1_glad_1.wav", "s1_sad_1.wav", "s2_glad_1.wav", "noise.wav")
    table = rows(tmp_path, r"(?P<speaker>s\d)_(?P<emotion>[a-z]+)")
    assert [(row["speaker"], row["emotion"]) for row in table] == [("", ""), ("s1", "glad"), ("s1", "sad"), ("s2", "glad")]
    assert any("fits 1 recordings not, such as noise" in note for note in draft_table(tmp_path, r"(?P<a>s\d)").notes)


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "no regular expression"), (r"s\d", "names no group"), (r"(?P<a>zz)", "fits no path")]
)
def test_pattern_that_helps_nobody_is_refused(tmp_path, pattern, words):
    lay(tmp_path, "s1.wav")
    expect_refusal(lambda: draft_table(tmp_path, pattern), "--pattern", words)


def test_folder_of_pictures_is_one_source(tmp_path):
    lay(tmp_path, "wavs/a.wav")
    write_pictures(tmp_path / "film/a", np.zeros((2, 8, 8, 3)))
    assert rows(tmp_path) == [{"id": "a", "film": "film/a", "wavs": "wavs/a.wav"}]


def test_a_cover_beside_sounds_makes_no_folder_of_pictures(tmp_path):
    lay(tmp_path, "ann/a.wav", "ann/b.wav", "ann/cover.jpg")
    assert len(rows(tmp_path)) == 2


def test_what_is_no_recording_is_left_out_and_named(tmp_path):
    lay(tmp_path, "wavs/a.wav", "wavs/b.wav", "labels.csv", "notes.docx")
    draft = draft_table(tmp_path)
    assert [row["id"] for row in draft.rows] == ["a", "b"]
    assert any("labels.csv: left out" in note for note in draft.notes)
    assert any(".docx" in note for note in draft.notes)


def test_folder_without_recordings_is_refused(tmp_path):
    expect_refusal(lambda: draft_table(lay(tmp_path, "a.docx")), "holds no recordings")


def test_table_is_never_overwritten_unless_asked(tmp_path):
    lay(tmp_path, "a.wav")
    (tmp_path / "recordings.csv").write_text("mine")
    expect_refusal(lambda: write_table(tmp_path), "is there already", "--overwrite")
    assert (tmp_path / "recordings.csv").read_text() == "mine"
    write_table(tmp_path, overwrite=True)
    assert (tmp_path / "recordings.csv").read_text().startswith("id,")


@pytest.mark.parametrize("out", ["../recordings.csv", "/tmp/recordings.csv", "recordings.xlsx"])
def test_table_is_written_into_its_folder(tmp_path, out):
    lay(tmp_path, "a.wav")
    expect_refusal(lambda: write_table(tmp_path, out), "--out")


def test_written_table_is_read_back(tmp_path):
    write_table(lay(tmp_path, "speaker1/glad, very/a.wav", "speaker2/glad, very/b.wav"))
    with (tmp_path / "recordings.csv").open(newline="") as file:
        assert [row["sound"] for row in csv.DictReader(file)] == ["speaker1/glad, very/a.wav", "speaker2/glad, very/b.wav"]


def test_recipe_for_a_table_is_runnable_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins().get("dataset", "folder").spec.sample(tmp_path / "study", 12, 0)
    text, notes = recipe_of(Path("study/recordings.csv"))
    assert notes == []
    plan = make_plan(parse_recipe(text, "r.yaml"))
    assert {m.name: m.features.use for m in plan.modalities} == {
        "sound": "log-mel",
        "film": "frames",
        "film-sound": "log-mel",
        "hand": "signals",
        "text": "hashed-words",
    }
    assert plan.modalities[3].features.params.columns == ("x", "y", "z")
    assert plan.recipe.protocol.use == "official"
    assert [task.name for task in plan.tasks] == ["mood", "tags", "valence"]
    silent = ("format:", "dataset:", "use:", "table:", "source:", "features:", "backbone:", "mood:", "tags:", "valence:")
    for line in text.splitlines():
        assert "#" in line or line.strip().startswith(silent), line


def test_recipe_for_one_modality_contrasts_windows_of_a_recording(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "study", *(f"{mood}/{i}{mood[0]}.wav" for mood in ("glad", "sad") for i in range(6)))
    write_table(Path("study"))
    text, _ = recipe_of(Path("study/recordings.csv"))
    plan = make_plan(parse_recipe(text, "r.yaml"))
    assert (plan.pairs, plan.recipe.pretrain.views) == ((("sound", "sound"),), 2)
    assert "one person may stand on both sides" in text
    assert plan.recipe.protocol.use == "k-fold"


def test_new_dataset_writes_the_table_and_prints_the_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "study", *(f"speaker{p}/{mood}/{i}.wav" for p in range(3) for mood in ("glad", "sad") for i in (1, 2)))
    assert call("new-dataset", "study") == 0
    captured = capsys.readouterr()
    assert "folders speaker0, speaker1, speaker2: taken for the speaker" in captured.err
    Path("study.yaml").write_text(captured.out)
    assert call("check", "study.yaml") == 0
    assert "12 of 3 speakers" in capsys.readouterr().out
    assert call("new-dataset", "study") == 2
    assert "--overwrite" in capsys.readouterr().err
    Path("study.yaml").write_text("mine")
    assert call("new-recipe", "study/recordings.csv", "--out", "study.yaml") == 2
    assert Path("study.yaml").read_text() == "mine"
    assert call("new-recipe", "study/recordings.csv", "--out", "study.yaml", "--overwrite") == 0
    assert Path("study.yaml").read_text() == captured.out


def test_without_labels_the_recipe_learns_and_predicts_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "study", *(f"{i}.wav" for i in range(6)))
    assert call("new-dataset", "study") == 0
    captured = capsys.readouterr()
    for words in ("who is in them is not known", "no label is known", "can be embedded and searched"):
        assert words in captured.err
    Path("study.yaml").write_text(captured.out)
    assert call("check", "study.yaml") == 0
    assert "there are no labels" in capsys.readouterr().out


def test_commands_that_are_named_can_be_pasted_whatever_the_folder_is_called(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = "my study; all (1) é"
    lay(tmp_path / folder, *(f"speaker{i}/{mood}/1.wav" for i in range(3) for mood in ("glad", "sad")))
    assert call("new-dataset", folder) == 0
    written = capsys.readouterr().err
    assert call(*shlex.split(re.search(r"then: mmcl (data check .*)", written)[1])) == 0
    out = "my recipe.yaml"
    Path(out).touch()  # as `> my recipe.yaml` leaves it where there was no recipe
    assert call("new-recipe", f"{folder}/recordings.csv", "--out", out) == 0
    assert call(*shlex.split(re.search(r"next: mmcl (check .*)", capsys.readouterr().err)[1])) == 0
    assert shlex.split(re.search(r"#   mmcl (check .*), then", Path(out).read_text())[1]) == ["check", out]
    assert call("new-recipe", f"{folder}/recordings.csv", "--out", out) == 2


def test_a_name_that_is_no_text_is_left_out_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "study", *(f"speaker{i}/{mood}/1.wav" for i in range(3) for mood in ("glad", "sad")))
    try:
        Path(os.fsdecode(b"study/speaker0/glad/b\xff.wav")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes text alone")
    assert call("new-dataset", "study") == 0
    assert "b\\udcff.wav: left out; its name is no text" in capsys.readouterr().err
    assert len(Path("study/recordings.csv").read_text().splitlines()) == 1 + 6


def test_a_column_of_people_that_is_called_otherwise_is_offered(tmp_path, capsys):
    lay(tmp_path, *(f"{i}.wav" for i in range(6)))
    lines = [f"{i}.wav,S0{i % 3},{i},glad" for i in range(6)]
    (tmp_path / "recordings.csv").write_text("\n".join(["file,Sprecher,note,alike", *lines]))
    assert call("data", "check", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "then write group: Sprecher" in shown
    assert "alike (1 value): kept, not learned" in shown


def test_the_pattern_that_is_offered_keeps_what_folders_told(tmp_path):
    for speaker in ("anna1b", "ben2c", "cora"):
        for split in ("train", "val"):
            for word in ("yes", "no"):
                for k in range(2):
                    write_audio(tmp_path / speaker / split / word / f"{k}.wav", np.zeros(800), 8000)
    first = draft_table(tmp_path)
    assert set(first.columns) == {"id", "split", "label", "sound"}
    offered = next(note for note in first.notes if "not known what they are" in note).partition("--pattern '")[2].rstrip("'")
    second = draft_table(tmp_path, offered)
    assert {*first.columns, "speaker"} == set(second.columns)
    assert {row["split"] for row in second.rows} == {"train", "valid"}
    kept = [{name: row[name] for name in first.columns} for row in second.rows]
    assert kept == [dict(row) for row in first.rows]
