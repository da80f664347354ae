"""Folders that save_to_disk wrote: what is read of them, what is left alone, and what a folder says that cannot be read."""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
import socket
import subprocess
import sys

import datasets
import mmcl_hub_arrow
import numpy as np
import pytest
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Image, Value
from mmcl_hub_arrow import HubArrowParams
from mmcl_hub_arrow.tiny import rows_of

from mmcl.api import DataError
from mmcl.testing import check_dataset
from mmcl.testing.corpora import dataset_of, real_data

SPEC = dataset_of(mmcl_hub_arrow)


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def wav(seconds=0.1, rate=8000, level=0.25):
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.full(round(seconds * rate), level), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def png(colour=(200, 10, 30)):
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.new("RGB", (16, 8), colour).save(file, "PNG")
    return file.getvalue()


def cell(content, path=None):
    return {"bytes": content, "path": path}


def sounds(count=4, **more):
    """Rows of a speaker, a ClassLabel and a sound each, and what else is given: name → (feature, cells)."""
    columns = {
        "audio": (Audio(), [cell(wav(level=0.1 * (i + 1))) for i in range(count)]),
        "speaker": (Value("string"), [f"s{i % 2}" for i in range(count)]),
        "mood": (ClassLabel(names=["sad", "calm"]), [i % 2 for i in range(count)]),
        **more,
    }
    features = Features({name: feature for name, (feature, _) in columns.items()})
    cells = {name: cells for name, (_, cells) in columns.items()}
    return rows_of(datasets, features, [{name: cells[name][i] for name in cells} for i in range(count)])


def build(root, **options):
    return SPEC.build(HubArrowParams(**options), root)


def info(root, **options):
    return SPEC.info(SPEC.complete(HubArrowParams(**options), root))


def test_it_keeps_the_contract_with_every_sort_of_column(tmp_path):
    check_dataset(SPEC, tmp_path, HubArrowParams(sources={"audio": {}, "image": {}, "text": {}, "wrist": {"rate": 25.0}}))


def test_one_dataset_is_read_without_a_word_of_its_columns(tmp_path):
    sounds().save_to_disk(tmp_path / "one", num_shards=3)
    dataset, about = build(tmp_path / "one"), info(tmp_path / "one")
    refs = dataset.samples()
    assert [ref.id for ref in refs] == ["row-0", "row-1", "row-2", "row-3"]
    assert [ref.group for ref in refs] == ["s0", "s1", "s0", "s1"]
    assert [ref.targets for ref in refs] == [{"mood": i % 2} for i in range(4)]
    assert (about.group, about.official, about.tasks["mood"].classes) == ("speaker", (), ("sad", "calm"))
    for i, ref in enumerate(refs):  # across the files
        assert dataset.read(ref.id, "audio").samples == pytest.approx(0.1 * (i + 1), abs=1e-4)
        assert (tmp_path / "one" / ref.sources["audio"]).is_file()
    assert len({ref.sources["audio"] for ref in refs}) == 3


def test_parts_are_splits_by_their_names_or_as_the_recipe_says(tmp_path):
    DatasetDict({"train": sounds(), "dev": sounds(2), "clean.test": sounds(2)}).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=r"part 'clean.test' is no split by its name; .*dataset.parts: \{train: train\}"):
        build(tmp_path).samples()
    parts = {"train": "train", "clean.test": "test"}
    refs = build(tmp_path, parts=parts).samples()
    assert [(ref.split, ref.id) for ref in refs][3:] == [
        ("train", "train-3"),
        ("test", "clean.test-0"),
        ("test", "clean.test-1"),
    ]
    assert info(tmp_path, parts=parts).official == ("train", "test")
    with pytest.raises(DataError, match="has no part 'eval' .dataset.parts.; it has train, dev, clean.test"):
        build(tmp_path, parts={"eval": "test"}).samples()


def test_a_single_part_is_no_split_and_a_column_may_be_one(tmp_path):
    rows = sounds(split=(Value("string"), ["train", "validation", "test", None]))
    DatasetDict({"train": rows}).save_to_disk(tmp_path)
    assert {ref.split for ref in build(tmp_path).samples()} == {None}
    assert [ref.split for ref in build(tmp_path, split="split").samples()] == ["train", "valid", "test", None]
    assert info(tmp_path, split="split").official == ("train", "valid", "test")
    with pytest.raises(DataError, match="'s0' in column 'speaker' is no split|'s1' in column 'speaker' is no split"):
        build(tmp_path, split="speaker").samples()


def test_labels_of_every_sort_of_column(tmp_path):
    rows = sounds(
        4,
        word=(Value("string"), ["b", "a", "", None]),
        stars=(Value("int64"), [3, 1, 2, None]),
        valence=(Value("float64"), [0.5, float("nan"), None, -1.0]),
        arousal=(Value("float32"), [1.0, 0.0, 0.0, 0.5]),
        known=(ClassLabel(names=["x", "y"]), [1, -1, None, 0]),
        tags=([Value("string")], [["p", "q"], [], None, ["q"]]),
    )
    rows.save_to_disk(tmp_path)
    labels = {
        "word": {},
        "stars": {"type": "single-label"},
        "valence": {},
        "va": {"columns": ["valence", "arousal"]},
        "known": {},
        "tags": {},
    }
    assert [ref.targets for ref in build(tmp_path, labels=labels).samples()] == [
        {"word": 1, "stars": 2, "valence": 0.5, "va": [0.5, 1.0], "known": 1, "tags": [1, 1]},
        {"word": 0, "stars": 0, "tags": [0, 0]},
        {"stars": 1},
        {"valence": -1.0, "va": [-1.0, 0.5], "known": 0, "tags": [0, 1]},
    ]
    tasks = info(tmp_path, labels=labels).tasks
    assert (tasks["stars"].classes, tasks["va"].type, tasks["tags"].type) == (("1", "2", "3"), "regression", "multi-label")
    with pytest.raises(DataError, match="'stars' holds whole numbers; dataset.labels.stars.type says"):
        build(tmp_path, labels=["stars"]).samples()


def test_sources_of_every_sort_of_column(tmp_path):
    struct = {"array": [Value("float32")], "sampling_rate": Value("int64")}
    rows = sounds(
        2,
        photo=(Image(), [cell(png()), None]),
        photos=([Image()], [[cell(png()), cell(png((0, 0, 255)))], [cell(png())]]),
        speech=(Value("string"), ["all is well", "  "]),
        wave=([Value("float32")], [[0.5] * 80, [0.25] * 40]),
        struct=(struct, [{"array": [0.5] * 80, "sampling_rate": 8000}] * 2),
        skeleton=(datasets.Array3D((None, 2, 3), "float32"), np.arange(24.0).reshape(4, 2, 3)[None].repeat(2, 0).tolist()),
        answers=([Value("int64")], [[1, 2, 3], [4, 5, 6]]),
        age=(Value("int64"), [31, 47]),
    )
    rows.save_to_disk(tmp_path)
    sources = {
        "photo": {"size": [8, 16]},
        "photos": {},
        "speech": {},
        "wave": {"reads": "sound", "rate": 8000},
        "struct": {},
        "skeleton": {"rate": 25},
        "answers": {"reads": "still"},
        "age": {},
    }
    dataset, about = build(tmp_path, sources=sources), info(tmp_path, sources=sources)
    first, second = dataset.samples()
    assert set(first.sources) == set(sources)
    assert set(second.sources) == set(sources) - {"photo", "speech"}
    assert {name: one.type for name, one in about.sources.items()} == {
        **dict.fromkeys(("photo", "photos"), "pictures"),
        **dict.fromkeys(("wave", "struct"), "audio"),
        **dict.fromkeys(("answers", "age"), "still"),
        "speech": "words",
        "skeleton": "sequence",
    }
    assert (about.sources["skeleton"].rate, about.sources["skeleton"].notes) == (
        25,
        {"shape": [2, 3], "axes": ["joint", "channel"]},
    )
    read = {name: dataset.read(first.id, name) for name in sources}
    assert read["photo"].pictures.shape == (1, 3, 8, 16) and tuple(read["photo"].pictures[0, :, 0, 0]) == (200, 10, 30)
    assert read["photos"].pictures.shape == (2, 3, 120, 160)
    assert read["speech"].words == ("all", "is", "well")
    assert all(read[name].rate == 8000 and read[name].samples.tolist() == [0.5] * 80 for name in ("wave", "struct"))
    assert np.array_equal(read["skeleton"].values, np.arange(24.0).reshape(4, 2, 3))
    assert (read["answers"].values.tolist(), read["age"].values.tolist()) == ([1, 2, 3], [31])


def test_columns_that_nobody_asks_for_are_not_read(tmp_path, monkeypatch):
    from mmcl_hub_arrow.shards import Shard

    broken = [cell(b"no picture")] * 4
    sounds(photo=(Image(), broken), note=(Value("string"), ["x"] * 4)).save_to_disk(tmp_path)
    asked, column = set(), Shard.column
    monkeypatch.setattr(Shard, "column", lambda self, name: asked.add(name) or column(self, name))
    dataset = build(tmp_path, sources=["audio"])
    for ref in dataset.samples():
        dataset.read(ref.id, "audio")
    assert asked == {"audio", "speaker", "mood"}
    with pytest.raises(DataError, match=r"\.arrow: row 0, column 'photo': a picture was expected"):
        build(tmp_path).read("row-0", "photo")


def rewrite(path, rows):
    """The Arrow file of a folder, as a writer leaves it that embeds nothing."""
    import pyarrow

    table = rows.data.table
    with pyarrow.ipc.new_stream(str(path), table.schema) as file:
        file.write_table(table)


def test_a_cell_that_is_no_sound_is_refused_by_file_row_and_column(tmp_path, monkeypatch):
    def no_network(*_):
        raise AssertionError("the network was asked")

    sounds().save_to_disk(tmp_path)
    cells = [cell(b""), cell(wav()[:-400]), cell(None, "https://example.org/a.wav"), cell(None, str(tmp_path / "state.json"))]
    (path,) = tmp_path.glob("*.arrow")
    rewrite(path, sounds(audio=(Audio(), cells)))
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    dataset = build(tmp_path)
    reasons = (
        "is empty; a sound file was expected",
        "cut short",
        r"names a file \('https://example.org/a.wav'\) and holds none of it; the bytes of one were expected",
        r"names a file .* and holds none of it",
    )
    for ref, reason in zip(dataset.samples(), reasons, strict=True):
        with pytest.raises(DataError, match=rf"\.arrow: row {ref.id[-1]}, column 'audio': {reason}") as refused:
            dataset.read(ref.id, "audio")
        assert "\n" not in str(refused.value) and str(refused.value).startswith(str(path))


def test_numbers_unlike_the_first_row_are_refused(tmp_path):
    steps = [[], [[1.0, 2.0]] * 3, [[1.0, 2.0, 3.0]] * 3, [[1.0] * n for n in (1, 8, 15)]]
    sounds(imu=([[Value("float32")]], steps), still=([Value("float32")], [[1.0], [1.0, 2.0], None, [1.0]])).save_to_disk(
        tmp_path
    )
    dataset = build(tmp_path, sources={"imu": {"rate": 10}, "still": {"reads": "still"}})
    assert dataset.read("row-1", "imu").values.shape == (3, 2)
    for row, reason in (
        (0, r"has the shape \[0, "),
        (2, r"has the shape \[3, 3\]; \[steps, 2\]"),
        (3, "is no array of numbers"),
    ):
        with pytest.raises(DataError, match=rf"row {row}, column 'imu': {reason}"):
            dataset.read(f"row-{row}", "imu")
    with pytest.raises(DataError, match=r"row 1, column 'still': has the shape \[2\]; \[1\] was expected"):
        dataset.read("row-1", "still")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sources": ["audoi"]}, "has no column 'audoi' .dataset.sources.audoi.; did you mean 'audio'.; it has audio, speaker"),
        ({"labels": ["emotion"]}, "has no column 'emotion' .dataset.labels.emotion."),
        ({"group": "who"}, "has no column 'who' .dataset.group."),
        ({"group": "audio"}, "the column 'audio' is Audio.*, which dataset.group cannot be"),
        ({"labels": ["audio"]}, "the column 'audio' is Audio.*, which dataset.labels.audio cannot be"),
        ({"sources": ["mood"]}, "the column 'mood' is ClassLabel.*, which cannot be a source"),
        ({"sources": ["film"]}, "the column 'film' is Value..binary.., which cannot be a source"),
        ({"sources": {"audio": {"reads": "pictures"}}}, "cannot be read as pictures .dataset.sources.audio."),
        ({"sources": ["imu"]}, "'imu' holds numbers; dataset.sources.imu needs their rate"),
        ({"sources": {"imu": {"reads": "sequence"}}}, "dataset.sources.imu.rate must"),
        ({"labels": {"mood": {"type": "regression"}}}, "which is not regression .dataset.labels.mood."),
        (
            {"labels": {"mood": {"classes": ["calm", "glad"]}}},
            "row 0, column 'mood': 'sad' is no class; classes are calm, glad",
        ),
        ({"id": "speaker"}, r"row 2: recording 's0' stands in a row before it"),
        ({"parts": {"train": "train"}}, "has no parts, and dataset.parts names train"),
    ],
)
def test_options_that_do_not_fit_the_folder_are_refused_in_a_sentence(tmp_path, options, reason):
    sounds(imu=([Value("float32")], [[1.0]] * 4), film=(Value("binary"), [b"x"] * 4)).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=reason) as refused:
        build(tmp_path, **options).samples()
    assert str(refused.value).startswith(str(tmp_path)) and "\n" not in str(refused.value)


def test_a_folder_that_is_none_of_this_format_says_what_would_be_one(tmp_path):
    with pytest.raises(DataError, match="is not there; expected: a folder that save_to_disk"):
        build(tmp_path / "absent").samples()
    for name, what in (("a.parquet", "Parquet"), ("x-train.arrow", "Arrow files, as the cache of the library has them")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(
            DataError, match=rf"has neither dataset_dict.json nor state.json, though {what}.*save_to_disk\(FOLDER\)"
        ):
            build(tmp_path).samples()
        (tmp_path / name).unlink()


def _cut(folder):
    path = folder / "data-00001-of-00002.arrow"
    path.write_bytes(path.read_bytes()[:-8])  # what pyarrow reads without a word


def _gone(folder):
    (folder / "data-00001-of-00002.arrow").unlink()


def _other(folder):
    rewrite(folder / "data-00001-of-00002.arrow", sounds(mood=(ClassLabel(names=["calm", "sad"]), [0] * 4)))


def _text(folder):
    (folder / "data-00001-of-00002.arrow").write_bytes(b"text" * 100 + b"\xff\xff\xff\xff\0\0\0\0")


def _state(folder):
    (folder / "state.json").write_text("{", encoding="utf-8")


def _outside(folder):
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x.arrow"}]}), encoding="utf-8")


def _listless(folder):
    (folder / "state.json").write_text("[]", encoding="utf-8")


def _unnamed(folder):
    (folder / "state.json").write_text('{"_data_files": 3}', encoding="utf-8")


def _empty(folder):
    (folder / "state.json").write_text('{"_data_files": []}', encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_listless, r"state.json: is not the JSON that save_to_disk writes; copy the folder again"),
        (_unnamed, r"state.json: names no data; copy the folder again"),
        (_empty, r"state.json: names no data; copy the folder again"),
        (_cut, r"data-00001-of-00002.arrow: is cut short, or no stream of Arrow; copy it again"),
        (_gone, r"data-00001-of-00002.arrow: is not there"),
        (_other, r"data-00001-of-00002.arrow: its column 'mood' is not as in .*data-00000-of-00002.arrow"),
        (_text, r"data-00001-of-00002.arrow: an Arrow file .* was expected, and it cannot be read"),
        (_state, r"state.json: is not the JSON that save_to_disk writes"),
        (_outside, r"state.json: names '../x.arrow', which is no name of a file"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_spoilt_folder_is_refused_by_the_file_at_fault(tmp_path, spoil, reason):
    sounds().save_to_disk(tmp_path / "kept", num_shards=2)
    shutil.copytree(tmp_path / "kept", folder := tmp_path / "own")
    assert len(build(folder).samples()) == 4
    spoil(folder)
    with pytest.raises(DataError, match=reason):
        build(folder).samples()
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)  # copied again
    assert len(build(folder).samples()) == 4


def test_the_library_is_imported_when_data_are_read_and_named_where_it_is_missing(tmp_path, monkeypatch):
    sounds().save_to_disk(tmp_path)
    script = """
import sys
import mmcl_hub_arrow as ours
offered = []
ours.register_datasets(offered.append)
offered[0].info(ours.HubArrowParams(sources=["audio"]))
assert not {"datasets", "pyarrow", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "datasets", None)
        with pytest.raises(
            DataError, match=r"needs the library datasets, which is not installed: pip install 'mmcl\[hub-data\]'"
        ):
            build(tmp_path).samples()
        with pytest.raises(DataError, match=r"which is not installed: pip install 'mmcl\[hub-data\]'"):
            SPEC.sample(tmp_path / "more", 6, 0)
    brought = [
        one for one in importlib.metadata.requires("mmcl") or () if one.split("extra == ")[-1].strip("'\"") == "hub-data"
    ]
    assert [one.startswith("datasets") for one in brought] == [True]
    assert len(build(tmp_path).samples()) == 4  # with it
    SPEC.sample(tmp_path / "more", 6, 0)
    assert len(build(tmp_path / "more").samples()) == 6


def test_a_folder_without_parts_takes_no_names_of_parts_but_a_column_of_splits(tmp_path):
    sounds(set=(Value("string"), ["train", "train", "valid", "test"])).save_to_disk(tmp_path)
    with pytest.raises(DataError, match="has no parts, and .*; leave it out, or name a column by split"):
        build(tmp_path, parts={"train": "train"}).samples()
    assert {ref.split for ref in build(tmp_path).samples()} == {None}
    assert [ref.split for ref in build(tmp_path, split="set").samples()] == ["train", "train", "valid", "test"]


def test_columns_that_nobody_can_guess_are_read_by_their_names(tmp_path):
    columns = {"imu": (datasets.List(Value("float32")), [[1.0, 2.0, 3.0]] * 4), "mood": (Value("string"), list("abab"))}
    features = Features({name: feature for name, (feature, _) in columns.items()})
    rows = [{name: cells[i] for name, (_, cells) in columns.items()} for i in range(4)]
    rows_of(datasets, features, rows).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=r"name what is read \(dataset.sources\): imu, mood"):
        build(tmp_path).samples()
    data = build(tmp_path, sources={"imu": {"rate": 10.0}})
    assert data.read(data.samples()[0].id, "imu").values.tolist() == [[1], [2], [3]]


@pytest.mark.real
def test_clips_of_ravdess_are_the_same_out_of_arrow(tmp_path):
    from mmcl.media import read_audio

    root = real_data("ravdess") / "ravdess"
    emotions = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
    clips = [path for actor in (1, 2, 3) for path in sorted((root / f"Actor_{actor:02d}").glob("03-01-*.wav"))[::8]]
    rows = Dataset.from_dict(
        {
            "audio": [str(path) for path in clips],
            "actor": [int(path.stem[-2:]) for path in clips],
            "emotion": [int(path.stem[6:8]) - 1 for path in clips],
        }
    )
    rows = rows.cast_column("audio", Audio()).cast_column("emotion", ClassLabel(names=emotions))
    rows.save_to_disk(tmp_path, num_shards=2)
    dataset = build(tmp_path)
    refs = dataset.samples()
    assert len(refs) == len(clips) > 20
    assert {ref.group for ref in refs} == {"1", "2", "3"}
    for ref, path in zip(refs, clips, strict=True):
        sound, own = dataset.read(ref.id, "audio"), read_audio(path)
        assert ref.targets["emotion"] == int(path.stem[6:8]) - 1
        assert sound.rate == own.rate and np.array_equal(sound.samples, own.samples)
