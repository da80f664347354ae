"""A finished run that answers: `mmcl.open`, `mmcl embed`, `predict`, `search`, on files that it has never seen and on its own."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file

import mmcl
from mmcl.api import Audio, DataError, SampleRef, Source, StageError, Table, Timed, Video, Words
from mmcl.api import Sequence as Steps
from mmcl.cli import main
from mmcl.data.prepared import load_prepared
from mmcl.data.remarks import remarks_on
from mmcl.data.store import Store
from mmcl.media import write_audio
from mmcl.plugins import plugins
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.report import run_and_report
from mmcl.runs import RunFolder, read_jsonl
from mmcl.stages.supervise import supervise
from mmcl.use.embedding import embed_items
from mmcl.use.files import Finder
from mmcl.use.learned import read_learned
from mmcl.use.publish import publish
from mmcl.use.session import Session

RECIPE = """\
format: 1
name: study
seed: [0, 1]
dataset: {{use: folder, root: {root}, group: speaker}}
modalities:
  voice: {{source: sound, features: {{use: log-mel, bands: 8, window: 0.05, hop: 0.05}}, backbone: {{use: tcn, channels: [8]}}}}
  hand: {{source: hand, features: {{use: signals, columns: [x, y, z]}}, backbone: {{use: tcn, channels: [8]}}}}
  words: {{source: text, features: {{use: hashed-words, dim: 8}}, backbone: {{use: mlp, hidden: [8], width: 8}}}}
window: {{seconds: 0.5}}
projection: {{hidden: 8, width: 4}}
pretrain: {{batch_size: 8, epochs: 2}}
probe: {{inputs: [voice, hand, all], heads: {{linear: {{use: linear, l2: [0.1, 1]}}}}}}
protocol: official
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of files. Tests leave all but its search index as it is."""
    root = tmp_path_factory.mktemp("use")
    plugins().get("dataset", "folder").spec.sample(root / "data", 48, 0)
    plan = make_plan(parse_recipe(RECIPE.format(root=root / "data"), "study.yaml"))
    run_and_report(plan, RunFolder(root / "runs" / "study"), workers=1)
    return root / "runs" / "study"


@pytest.fixture
def session(study: Path) -> Session:
    return mmcl.open(study)


def data_of(study: Path) -> Path:
    return study.parents[1] / "data"


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    return int(ended.value.code or 0)


def test_what_is_opened_says_what_it_reads_and_answers(session):
    assert session.modalities == ["voice", "hand", "words"]
    assert session.parts == [(0, 0), (0, 1)]
    assert "answers  mood (single-label): calm, tense" in repr(session)
    assert set(session.encoders) == {"voice", "hand", "words"}
    assert {head.input for head in session.heads} == {"voice", "hand", "all"}


@pytest.mark.parametrize("how", ["table", "ids", "folder of the run's files"])
def test_features_equal_the_runs_own(study, session, how):
    own = mmcl.features(study, "test", seed=1)
    names = {
        "table": [data_of(study) / "recordings.csv"],
        "ids": own["id"],
        "folder of the run's files": [data_of(study) / "sound"],
    }
    embedded = session.embed(names[how], seed=1)
    assert set(own["id"]) <= set(embedded.ids)
    rows = [embedded.ids.index(id) for id in own["id"]]
    given = {name: one for name, one in embedded.features.items() if bool(one.present.any())}
    assert list(given) == (["voice"] if how == "folder of the run's files" else ["voice", "hand", "words"])
    for name, one in given.items():
        there = np.array([[own[f"{name}.{i}"][k] for i in range(one.vector.shape[1])] for k in range(len(rows))])
        np.testing.assert_allclose(one.vector[rows].numpy(), there, atol=1e-6, rtol=0)
    assert set(session.sides(embedded)) <= {"train", "valid", "test"}


def test_a_copy_of_a_file_is_a_new_recording_with_the_same_features(study, session, tmp_path):
    shutil.copy(data_of(study) / "sound" / "r005.wav", tmp_path / "another.wav")
    new, own = session.embed(tmp_path / "another.wav"), session.embed(["r005"])
    torch.testing.assert_close(new.features["voice"].vector, own.features["voice"].vector, atol=1e-6, rtol=0)
    assert session.sides(new) == ["new"]
    assert session.sides(own) == ["test"]
    assert new.features["hand"].present.tolist() == [False]


def test_answers_equal_the_runs_own_predictions(study, session):
    rows = [one for one in read_jsonl(study / "fold-00/seed-0/probe/predictions.jsonl") if one["encoder"] == "pretrained"]
    for task in ("mood", "tags", "valence"):
        these = {one["id"]: one["prediction"] for one in rows if (one["task"], one["input"]) == (task, "all")}
        answers = session.predict(list(these), tasks=[task], input="all", seed=0)
        assert [one.id for one in answers] == list(these)
        for one in answers:
            classes = one.task.classes
            if task == "mood":
                assert classes.index(one.prediction) == these[one.id]
                assert math.isclose(one.probabilities.sum(), 1, rel_tol=1e-9)
            elif task == "tags":
                assert [int(name in one.prediction) for name in classes] == these[one.id]
            else:
                assert one.prediction == pytest.approx(these[one.id][0], abs=1e-5)
                assert one.probabilities is None


def test_an_answer_about_silence_says_so(study, session, tmp_path, capsys):
    (tmp_path / "sound").mkdir()
    for name, samples in {"quiet": np.zeros(16_000), "one": np.ones(1) / 2, "both": np.full(20, 0.25)}.items():
        soundfile.write(tmp_path / "sound" / f"{name}.wav", samples, 16_000)
    shutil.copy(data_of(study) / "sound" / "r003.wav", tmp_path / "sound" / "r3.wav")
    (tmp_path / "hand").mkdir()
    header = (data_of(study) / "hand" / "r003.csv").read_text().splitlines()[0]
    rows = [",".join("0" if name != "timestamp" else f"{k / 25:.2f}" for name in header.split(",")) for k in range(25)]
    (tmp_path / "hand" / "r3.csv").write_text("\n".join([header, *rows]) + "\n")
    answers = {one.id: one for one in session.predict(tmp_path, tasks=["mood"])}
    assert answers["quiet"].remarks == ("sound: is silent",)
    assert answers["one"].remarks == ("sound: is one sample of sound, too short to tell anything by",)
    assert answers["both"].remarks[0].startswith("sound: is 0.001 s of sound")
    (remark,) = answers["r3"].remarks
    assert remark.startswith("hand: ")
    assert answers["quiet"].to_json()["remarks"] == ["sound: is silent"]
    assert "quiet: sound: is silent" in capsys.readouterr().err
    (own,) = session.predict(["r003"], tasks=["mood"])
    assert own.remarks == ()
    assert session.embed(tmp_path / "sound" / "quiet.wav").items[0].remarks == ("sound: is silent",)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (Audio(np.zeros(8000, np.float32), 8000), "is silent"),
        (Audio(np.full(8000, 0.3, np.float32), 8000), "is silent"),
        (Audio(np.linspace(-1, 1, 500, dtype=np.float32), 8000), "is 0.062 s of sound, too short"),
        (Audio(np.linspace(-1, 1, 5000, dtype=np.float32) * 0.01, 8000), None),
        (Video(np.zeros((5, 3, 4, 4), np.uint8), 5), "a single colour"),
        (Video(np.tile(np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4), (5, 1, 1, 1)), 5), "one picture that never changes"),
        (Video(np.arange(96, dtype=np.uint8).reshape(2, 3, 4, 4), 5), None),
        (Words(("?", "…")), "only signs"),
        (Words(("no",)), None),
        (Table(np.ones((4, 2), np.float32), ("a", "b"), 5), "the same numbers"),
        (Table(np.ones((1, 2), np.float32), ("a", "b")), None),
        (Steps(np.zeros((1, 2)), 5.0), "nothing but zeros"),
        (Steps(np.array([[np.nan, 1], [2, 1]]), 5.0), None),
    ],
)
def test_what_tells_nothing_is_remarked_on(raw, words):
    remarks = list(remarks_on("it", raw))
    assert bool(remarks) == (words is not None)
    assert words is None or words in remarks[0]


def test_the_head_that_suits_what_is_there_answers_and_the_rest_is_named(study, session, tmp_path):
    shutil.copy(data_of(study) / "sound" / "r003.wav", tmp_path / "r3.wav")
    (answer,) = session.predict(tmp_path, tasks=["mood"])
    assert (answer.input, answer.modalities, answer.missing) == ("voice", ("voice",), ("hand", "words"))
    assert answer.asked == 2  # seeds
    shutil.copy(data_of(study) / "hand" / "r003.csv", tmp_path / "r3.csv")
    (answer,) = session.predict(tmp_path, tasks=["mood"])
    assert (answer.modalities, answer.missing) == (("voice", "hand"), ("words",))
    (answer,) = session.predict(["r003"], tasks=["mood"])
    assert (answer.input, answer.missing, answer.recording) == ("all", (), "train")


def test_the_mean_over_seeds_answers(session):
    alone = [session.predict(["r005"], tasks=["mood"], input="all", seed=seed)[0].probabilities for seed in (0, 1)]
    (both,) = session.predict(["r005"], tasks=["mood"], input="all")
    np.testing.assert_allclose(both.probabilities, (alone[0] + alone[1]) / 2)


def test_windows_give_a_course_over_time(study, tmp_path):
    t = np.arange(3 * 8000) / 8000
    write_audio(tmp_path / "long.wav", 0.3 * np.sin(2 * np.pi * np.where(t < 1.5, 220, 330) * t), 8000)
    session = mmcl.open(study)
    answers = session.predict(tmp_path / "long.wav", tasks=["mood"], windows=True, seconds=1.0, hop=0.5)
    starts = [one.start for one in answers]
    assert starts[0] == 0
    assert all(0 < b - a <= 0.5 for a, b in itertools.pairwise(starts))
    assert all(one.end == pytest.approx(one.start + 1) for one in answers)
    assert answers[-1].end == pytest.approx(3, abs=0.06)  # the last spectrum may reach beyond the end
    embedded = session.embed(tmp_path / "long.wav", windows=True, seconds=1.0, hop=0.5)
    assert embedded.features["voice"].vector.shape == (len(answers), 8)
    assert not torch.equal(embedded.features["voice"].vector[0], embedded.features["voice"].vector[-1])


def test_what_cannot_be_read_is_named_and_the_others_are_answered(study, tmp_path, capsys):
    shutil.copy(data_of(study) / "sound" / "r003.wav", tmp_path / "fine.wav")
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "notes.xyz").write_text("passed over: no source has this ending")
    assert command("predict", study, tmp_path, "--task", "mood") == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["fine"]
    assert "broken.wav" in err
    assert "empty.wav" in err
    assert "1 of 1 answers lacked hand, words" in err


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["gone.wav"], "gone.wav: is no file, no folder, and no recording of the run"),
        (["r00"], "did you mean 'r0"),
        (["only.xyz"], "is nothing that this run reads"),
        (["broken.wav"], "broken.wav"),
        (["empty"], "holds no recording"),
    ],
)
def test_names_that_mean_nothing_are_refused_in_a_sentence(study, tmp_path, monkeypatch, capsys, names, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only.xyz").write_text("x")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "empty").mkdir()
    assert command("predict", study, *names) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert "Traceback" not in err
    assert not out


def test_what_the_run_lacks_is_refused_with_what_it_has(session, tmp_path):
    with pytest.raises(StageError, match="has no task 'joy'; it has mood, tags, valence"):
        session.predict(["r005"], tasks=["joy"])
    with pytest.raises(StageError, match="has no seed 7 in fold 0; it has 0, 1"):
        session.embed(["r005"], seed=7)
    with pytest.raises(StageError, match="is no run folder"):
        mmcl.open(tmp_path)
    with pytest.raises(StageError, match="is not there; a run folder"):
        mmcl.open(tmp_path / "gone")


def test_features_are_written_and_nothing_is_written_over(study, tmp_path, capsys):
    out = tmp_path / "x.npz"
    assert command("embed", study, "r005", "r011", "--out", out) == 0
    with np.load(out) as kept:
        assert kept["ids"].tolist() == ["r005", "r011"]
        assert kept["voice/vector"].shape == (2, 8)
        assert kept["recording"].tolist() == ["test", "test"]
    out.write_bytes(b"mine")
    assert command("embed", study, "r005", "--out", out) == 2
    assert "is there already; give --overwrite to write it again" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert command("embed", study, "r005", "r011", "--out", out, "--overwrite") == 0
    with np.load(out) as kept:
        assert kept["ids"].tolist() == ["r005", "r011"]
    assert command("embed", study, "r005", "--out", tmp_path / "x.safetensors") == 0
    assert load_file(tmp_path / "x.safetensors")["hand/projection"].shape == (1, 4)
    assert json.loads((tmp_path / "x.json").read_text())["ids"] == ["r005"]
    assert command("embed", study, "r005", "--out", tmp_path / "x.txt") == 2


def test_answers_as_a_table(study, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    assert command("predict", study, "r005", "--out", out) == 0
    before = out.read_bytes()
    out.write_bytes(b"mine")
    assert command("predict", study, "r005", "--out", out) == 2
    assert "is there already; give --overwrite to write it again" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert command("predict", study, "r005", "--out", out, "--overwrite") == 0
    assert out.read_bytes() == before
    rows = {row["task"]: row for row in csv.DictReader(out.open(newline=""))}
    assert rows["mood"]["prediction"] in ("calm", "tense")
    assert float(rows["mood"]["p calm"]) + float(rows["mood"]["p tense"]) == pytest.approx(1, abs=1e-5)
    assert rows["valence"]["p calm"] == ""
    float(rows["valence"]["prediction"])


def test_search_finds_the_copy_first_and_keeps_its_index(study, tmp_path):
    shutil.copytree(data_of(study) / "sound", tmp_path / "many")
    shutil.copy(tmp_path / "many" / "r007.wav", tmp_path / "query.wav")
    first = mmcl.open(study).search(tmp_path / "query.wav", tmp_path / "many", n=3)
    assert first[0].id == "r007"
    assert first[0].similarity == pytest.approx(1, abs=1e-5)
    kept = set((study / "search").iterdir())
    assert mmcl.open(study).search(tmp_path / "query.wav", tmp_path / "many", n=3) == first
    assert set((study / "search").iterdir()) == kept
    (tmp_path / "many" / "r007.wav").unlink()  # a changed folder has another index
    assert mmcl.open(study).search(tmp_path / "query.wav", tmp_path / "many", n=1)[0].id != "r007"
    assert set((study / "search").iterdir()) > kept


@pytest.mark.parametrize("spoilt", ["broken JSON", "other rows", "no tensors", "a lone surrogate"])
def test_a_damaged_index_is_written_anew(study, tmp_path, capsys, spoilt):
    shutil.copytree(data_of(study) / "sound", tmp_path / "many")
    ask = {"query": tmp_path / "many" / "r007.wav", "among": tmp_path / "many", "n": 3}
    first = mmcl.open(study).search(**ask)
    (kept,) = [path for path in (study / "search").glob("*.json") if str(tmp_path) in path.read_text()]
    text = kept.read_text()
    if spoilt == "no tensors":
        kept.with_suffix(".safetensors").unlink()
    else:
        spoilt_text = {
            "broken JSON": "[",
            "other rows": text.replace('"r000",', ""),
            "a lone surrogate": text.replace("r000", r"\udcff"),
        }
        kept.write_text(spoilt_text[spoilt])
    assert mmcl.open(study).search(**ask) == first
    assert "is damaged, and is made anew" in capsys.readouterr().err
    assert kept.read_text() == text


def test_a_run_that_cannot_be_written_is_searched_and_it_is_told(study, tmp_path, capsys, monkeypatch):
    shutil.copytree(study, tmp_path / "run")
    shutil.copytree(data_of(study) / "sound", tmp_path / "many")

    def closed(path: Path, value: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("mmcl.use.nearest.write_tensors", closed)
    session = mmcl.open(tmp_path / "run")
    ask = {"query": tmp_path / "many" / "r007.wav", "among": tmp_path / "many", "n": 3}
    first = session.search(**ask)
    assert "the index cannot be kept there (Read-only file system)" in capsys.readouterr().err
    monkeypatch.setattr(
        "mmcl.use.nearest.embed_items",
        lambda run, items, *rest, **more: (
            pytest.fail("embedded again") if len(items) > 1 else embed_items(run, items, *rest, **more)
        ),
    )
    assert session.search(**ask) == first, "an open run remembers it"


def test_lengths_that_no_window_can_have_are_refused(study, capsys):
    for option, value in (
        ("--hop", "0.0001"),
        ("--seconds", "0.0001"),
        ("--hop", "nan"),
        ("--seconds", "nan"),
        ("--hop", "inf"),
    ):
        assert command("predict", study, "r005", "--windows", option, value) == 2, (option, value)
        assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(StageError, match="0.04 seconds or more"):
        mmcl.open(study).embed(["r005"], windows=True, hop=float("nan"))


def test_a_file_that_is_named_twice_is_asked_once(study, tmp_path):
    shutil.copy(data_of(study) / "sound" / "r003.wav", tmp_path / "clip.wav")
    assert len(mmcl.open(study).embed([tmp_path / "clip.wav", tmp_path / "clip.wav"]).ids) == 1
    assert mmcl.open(study).embed(["r003", "r003"]).ids == ["r003"]


def test_an_empty_name_is_not_the_current_folder(study, tmp_path, monkeypatch, capsys):
    shutil.copy(data_of(study) / "sound" / "r003.wav", tmp_path / "clip.wav")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(study), ""])
    assert "one of the names is empty" in capsys.readouterr().err


def test_a_name_that_is_no_text_is_refused_in_a_sentence(study, tmp_path):
    shutil.copy(data_of(study) / "sound" / "r003.wav", tmp_path / "clip.wav")
    try:
        shutil.copy(tmp_path / "clip.wav", os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.wav"))
    except OSError:
        pytest.skip("this file system takes text alone")
    session = mmcl.open(study)
    assert session.embed(tmp_path).ids == ["clip"]
    (refused,) = session.refused
    assert refused.reason.endswith("b\\udcff.wav: its name is no text in UTF-8; rename it")
    session.search(tmp_path / "clip.wav", tmp_path)
    session.search(tmp_path / "clip.wav", tmp_path)  # by the index that was kept


def test_the_table_of_a_folder_is_no_recording_of_it(study):
    session = mmcl.open(study)
    ids = session.embed(data_of(study)).ids
    assert "recordings" not in ids
    assert not any("recordings.csv" in one.reason for one in session.refused)


@pytest.mark.parametrize(
    ("runs_own", "expected"),
    [
        ({"face": "pictures/a.png"}, {"r0": "photos/r0.png", "r1": "photos/r1.png"}),
        ({"face": "pictures"}, {"photos": "photos"}),
        ({"face": "pictures/a.png", "film": "pictures"}, {"photos": "photos"}),
    ],
)
def test_pictures_in_a_folder_are_a_recording_each_where_those_of_the_run_are(tmp_path, runs_own, expected):
    (tmp_path / "photos").mkdir()
    for name in ("r0", "r1"):
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"")
    sources = {"face": Source("pictures", ""), "film": Source("video", "")}
    items, refused = Finder(sources, [SampleRef(id="a", group="p", sources=runs_own, targets={})], None).items([tmp_path])
    assert not refused
    assert {item.id: str(Path(item.files["face"]).relative_to(tmp_path)) for item in items} == expected


def test_the_ending_is_looked_at_before_anything_is_read(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmcl.use.session.embed_items", lambda *given, **more: pytest.fail("embedded"))
    assert command("embed", study, "r005", "--out", tmp_path / "x.txt") == 2
    monkeypatch.setattr("mmcl.use.embedding.find_spec", lambda name: None)
    assert command("embed", study, "r005", "--out", tmp_path / "x.parquet") == 2
    assert "needs pyarrow" in capsys.readouterr().err


def test_a_search_among_nothing_else_says_so(study, capsys):
    clip = data_of(study) / "sound" / "r003.wav"
    assert command("search", study, clip, "--in", clip) == 0
    assert "nothing is near" in capsys.readouterr().err


def test_search_from_one_modality_to_another(study):
    session = mmcl.open(study)
    near = session.search(["r005"], data_of(study) / "recordings.csv", n=48, ask="hand", modality="voice")
    assert len(near) == 47  # itself left out
    voice, hand = (session.embed(["r005", near[0].id]).features[name].projection for name in ("voice", "hand"))
    cosine = torch.nn.functional.cosine_similarity(hand[0], voice[1], dim=0)
    assert near[0].similarity == pytest.approx(float(cosine), abs=1e-5)
    with pytest.raises(DataError, match="is no modality of the run"):
        session.search(["r005"], data_of(study) / "recordings.csv", ask="face")


def test_a_run_answers_after_its_recordings_and_streams_are_gone(study, tmp_path):
    shutil.copytree(study, tmp_path / "moved")
    plan = json.loads((tmp_path / "moved" / "plan.json").read_text())
    plan["plan"]["dataset"]["root"] = str(tmp_path / "gone")
    (tmp_path / "moved" / "plan.json").write_text(json.dumps(plan))
    write_audio(tmp_path / "new.wav", np.sin(np.arange(8000) / 9) * 0.3, 8000)
    (answer,) = mmcl.open(tmp_path / "moved").predict(tmp_path / "new.wav", tasks=["mood"])
    assert answer.prediction in ("calm", "tense")
    with pytest.raises(DataError, match=r"gone: the run's own recordings were there and are not"):
        mmcl.open(tmp_path / "moved").embed(["r005"])


def test_features_as_a_table_name_classes_and_leave_gaps(study):
    table = mmcl.features(study, "train")
    assert set(table["mood"]) == {"calm", "tense"}
    assert {"id", "group", "tags.low", "valence", "voice.0", "hand.7"} <= set(table)
    assert len({len(column) for column in table.values()}) == 1
    with pytest.raises(StageError, match="there are train, valid, test"):
        mmcl.features(study, "dev")


def test_a_script_without_a_guard_can_run_a_recipe_with_workers(tmp_path):
    plugins().get("dataset", "folder").spec.sample(tmp_path / "data", 160, 0)
    (tmp_path / "study.yaml").write_text(RECIPE.format(root=tmp_path / "data").replace("seed: [0, 1]", "seed: 0"))
    script = tmp_path / "script.py"
    script.write_text(
        f"import mmcl\nprint('once')\nmmcl.run({str(tmp_path / 'study.yaml')!r}, out='run', workers=2, stop_after='prepare')\n"
    )
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout) == (0, "once\n"), ended.stderr


NOTEBOOK = """
import asyncio, sys

def cells(data):
    yield "import mmcl, mmcl.plugins, sys; print('once')"
    yield f"report = mmcl.run({data!r}, out='run', workers=2, stop_after='pretrain', set=SETS)"
    yield f"report = mmcl.run({data!r}, out='run', workers=2, more_epochs=True, set=[*SETS, 'pretrain.epochs=2'])"
    yield "session = mmcl.open('run'); print(len(session.predict('data/sound/r003.wav', tasks=['mood'])))"
    yield "print(sorted(mmcl.features('run'))[0])"

async def kernel(scope):
    for number, cell in enumerate(cells("study.yaml")):
        exec(compile(cell, f"<ipython-input-{number}>", "exec"), scope)
        await asyncio.sleep(0)

scope = sys.modules["__main__"].__dict__
del scope["__file__"]
sys.argv = [""]
SETS = ["pretrain.epochs=1", "probe.tasks=[mood]", "probe.inputs=[voice]", "report.against=[]"]
asyncio.run(kernel(scope))
"""
"""Cells one by one in a main module without a file, while an event loop turns: what a notebook's kernel does."""


def test_cells_of_a_notebook_run_a_recipe_go_on_with_it_and_ask_it(study, tmp_path):
    shutil.copytree(data_of(study), tmp_path / "data")
    (tmp_path / "study.yaml").write_text(RECIPE.format(root="data").replace("seed: [0, 1]", "seed: 0"))
    (tmp_path / "kernel.py").write_text(NOTEBOOK)
    ended = subprocess.run(
        [sys.executable, "kernel.py"], cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "once\n1\ngroup\n"), ended.stderr
    facts = json.loads((tmp_path / "run" / "fold-00" / "seed-0" / "pretrain" / "finished.json").read_text())
    assert (facts["epochs"], facts["continued"]) == (2, [1])


def stream_of(store: Store, row: int) -> np.ndarray | Timed:
    """A stream as whoever has a published folder prepares it."""
    times = store.times(row)
    return np.array(store.values(row)) if times is None else Timed(np.array(store.values(row)), np.array(times))


def test_without_a_projection_embeddings_are_as_wide_as_the_vectors(tiny_plan, tmp_path):
    """In windows and in a folder that was given away as much as in the run itself."""
    sets = ("projection=none", "modalities.landmarks.backbone.channels=[8]", "pretrain.epochs=1", "dataset.samples=48")
    run = RunFolder(tmp_path / "runs" / "tiny")
    run_and_report(tiny_plan(*sets), run, workers=1)
    session = mmcl.open(run.root)
    ids = mmcl.features(run.root)["id"][:3]
    for one in session.embed(ids, windows=True).features.values():
        assert one.projection.shape == one.vector.shape
    publish(read_learned(run.root), tmp_path / "given")
    given = mmcl.load(tmp_path / "given")
    prepared = load_prepared(run)
    rows = [row for row in range(48) if all(row in store for store in prepared.stores.values())][:2]
    streams = {name: [stream_of(store, row) for row in rows] for name, store in prepared.stores.items()}
    whole = session.embed([prepared.samples[row].id for row in rows]).features
    for name, one in given.embed(streams).items():
        torch.testing.assert_close(one.projection, whole[name].projection, atol=1e-5, rtol=0)
        torch.testing.assert_close(one.vector, whole[name].vector, atol=1e-5, rtol=0)


SUPERVISE = "supervise={heads: {fused: {use: mlp, hidden: 8}}, inputs: [voice, all], batch_size: 16, epochs: 2}"


@pytest.fixture(scope="module", params=[(), ("window.embed=sliding", "window.hop=0.25")], ids=["middle", "sliding"])
def supervised(request: pytest.FixtureRequest, study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with networks that labels trained beside its heads, of every task."""
    root = tmp_path_factory.mktemp("supervised")
    shutil.copytree(study.parent, root / "runs")
    run = RunFolder(root / "runs" / "study")
    sets = (SUPERVISE, *request.param)
    plan = make_plan(parse_recipe(RECIPE.format(root=data_of(study)), "study.yaml", sets), overrides=sets)
    supervise(plan, run)
    stated = json.loads((run.root / "plan.json").read_text())
    stated["plan"]["overrides"] = list(sets)  # as a run that was begun with them states it
    (run.root / "plan.json").write_text(json.dumps(stated))
    return run.root


def test_networks_that_labels_trained_answer_as_the_run_says_they_do(study, supervised):
    session = mmcl.open(supervised, device="cpu")
    rows = [row for seed in (0, 1) for row in read_jsonl(supervised / f"fold-00/seed-{seed}/supervise/predictions.jsonl")]
    compared = 0
    for task, input, seed in itertools.product(("mood", "tags", "valence"), ("voice", "all"), (0, 1)):
        these = {r["id"]: r["prediction"] for r in rows if (r["task"], r["input"], r["seed"]) == (task, input, seed)}
        answers = session.predict(list(these), tasks=[task], input=input, head="fused", seed=seed, supervised=True)
        assert [one.id for one in answers] == list(these)
        assert {(one.input, one.asked, one.recording) for one in answers} == {(input, 1, "test")}
        for one in answers:
            if task == "mood":
                assert one.task.classes.index(one.prediction) == these[one.id]
                assert one.probabilities.sum() == pytest.approx(1)
            elif task == "tags":
                assert [int(name in one.prediction) for name in one.task.classes] == these[one.id]
            else:
                assert one.prediction == pytest.approx(these[one.id][0], abs=1e-5)
            compared += 1
    assert compared > 50
    frozen = session.predict(list(these), tasks=["mood"], input="all", seed=0)
    fitted = session.predict(list(these), tasks=["mood"], input="all", seed=0, supervised=True)
    assert [one.probabilities.tolist() for one in frozen] != [one.probabilities.tolist() for one in fitted]


def test_the_network_that_suits_what_is_there_answers_files_and_windows(study, supervised, tmp_path, capsys):
    shutil.copy(data_of(study) / "sound" / "r005.wav", tmp_path / "new.wav")
    assert command("predict", supervised, tmp_path / "new.wav", "--task", "mood", "--supervised", "--device", "cpu") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["id"], answer["input"], answer["head"], answer["asked"]) == ("new", "voice", "fused", 2)
    assert (answer["missing"], answer["recording"]) == (["hand", "words"], "new")
    session = mmcl.open(supervised, device="cpu")
    (own,) = session.predict(["r005"], tasks=["mood"], input="voice", supervised=True)
    assert own.probabilities.tolist() == pytest.approx(list(answer["probabilities"].values()), abs=1e-5)
    course = session.predict(tmp_path / "new.wav", tasks=["mood"], windows=True, seconds=0.5, hop=0.25, supervised=True)
    assert len(course) > 2
    assert [one.start for one in course] == [
        one.start for one in session.predict(tmp_path / "new.wav", tasks=["mood"], windows=True, seconds=0.5, hop=0.25)
    ]
    if "sliding" in str(session.opened.plan.overrides):  # then a recording's answer is the mean over these windows
        mean = np.mean([one.outputs for one in course], axis=0)
        (whole,) = session.predict(tmp_path / "new.wav", tasks=["mood"], supervised=True)
        np.testing.assert_allclose(mean, whole.outputs, atol=1e-4)


def test_what_labels_did_not_train_is_refused_with_what_there_is(study, supervised):
    with pytest.raises(StageError, match="has no network that labels trained in fold 0, seed 0; its recipe has no `supervise`"):
        mmcl.open(study).predict(["r005"], supervised=True)
    with pytest.raises(StageError, match="has no head 'linear'; it has fused"):
        mmcl.open(supervised).predict(["r005"], head="linear", supervised=True)
    with pytest.raises(StageError, match="has no input 'hand'; it has "):
        mmcl.open(supervised).predict(["r005"], input="hand", supervised=True)
