"""A folder of one's own: what its table may look like, what is inferred of it, what is refused."""

from __future__ import annotations

import importlib.util
import json

import mmcl_folder
import numpy as np
import pytest
from mmcl_folder import FolderParams, SourceOptions

from mmcl.api import DataError, HasHeaders, Sequence, Table, Video, Words
from mmcl.media import write_audio
from mmcl.testing import check_dataset
from mmcl.testing.corpora import dataset_of, expect_refusal, expect_seeded, real_data, tiny_copies

SPEC = dataset_of(mmcl_folder)
root, spoilt = tiny_copies(SPEC, 12)


def study(folder, table, files=(), name="recordings.csv", encoding="utf-8"):
    """A folder with a table and sounds of half a second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(table.encode(encoding))
    for file in files:
        write_audio(folder / file, np.full(4000, 0.1), 8000)
    return folder


def completed(folder, **options):
    return SPEC.complete(FolderParams.model_validate(options), folder)


WAVS = [f"{letter}.wav" for letter in "abcdef"]
ROWS = ("a.wav,p1,glad", "b.wav,p1,sad", "c.wav,p2,glad", "d.wav,p2,sad", "e.wav,p3,glad", "f.wav,p3,sad")
PLAIN = "\n".join(("audio,speaker,mood", *ROWS))


def test_the_contract(tmp_path):
    check_dataset(SPEC, tmp_path)


def test_one_seed_writes_one_sample(root, tmp_path):
    expect_seeded(SPEC, root, 12, tmp_path, "sound/r000.wav")


def test_everything_is_inferred_from_the_tiny_table(root):
    info = SPEC.info(completed(root))
    assert {name: source.type for name, source in info.sources.items()} == {
        "sound": "audio",
        "film": "video",
        "film-sound": "audio",
        "hand": "table",
        "text": "words",
    }
    assert {name: (task.type, task.classes) for name, task in info.tasks.items()} == {
        "mood": ("single-label", ("calm", "tense")),
        "tags": ("multi-label", ("fast", "high", "low", "slow")),
        "valence": ("regression", ("valence",)),
    }
    assert (info.group, info.official) == ("speaker", ("train", "valid", "test"))
    assert info.sources["hand"].rate == 25.0


def test_labels_and_missing_cells_of_the_tiny_table(root):
    dataset = SPEC.build(FolderParams(), root)
    refs = list(dataset.samples())
    assert [refs[i].targets["mood"] for i in (0, 3)] == [0, 1]
    assert refs[0].targets["tags"] == [0, 0, 1, 1]
    assert "film" in refs[0].sources
    assert {"film", "film-sound"}.isdisjoint(refs[-1].sources)
    film, words, hand = (dataset.read("r000", name) for name in ("film", "text", "hand"))
    assert isinstance(film, Video) and film.frames.shape[1:] == (3, 120, 160)
    assert isinstance(words, Words) and words.words == ("all", "is", "well", "here", "today")
    assert isinstance(hand, Table) and hand.columns == ("timestamp", "x", "y", "z")


@pytest.mark.parametrize(
    ("table", "encoding", "name"),
    [
        (PLAIN, "utf-8", "recordings.csv"),
        (PLAIN, "utf-8-sig", "recordings.csv"),
        (PLAIN, "utf-16", "recordings.csv"),
        (PLAIN.replace("\n", "\r\n"), "utf-8", "recordings.csv"),
        (PLAIN.replace(",", ";"), "utf-8-sig", "recordings.csv"),
        ("sep=;\n" + PLAIN.replace(",", ";"), "utf-8", "recordings.csv"),
        (PLAIN.replace(",", "\t"), "utf-8", "recordings.tsv"),
        (PLAIN.replace("\n", ",,\n") + ",,\n,,,,\n", "utf-8", "recordings.csv"),
        (
            "\n".join(json.dumps(dict(zip(("audio", "speaker", "mood"), row.split(","), strict=True))) for row in ROWS),
            "utf-8",
            "recordings.jsonl",
        ),
    ],
    ids=["utf-8", "bom", "utf-16", "crlf", "semicolons", "sep", "tsv", "empty-columns", "json-lines"],
)
def test_every_way_of_writing_a_table_gives_the_same_recordings(tmp_path, table, encoding, name):
    folder = study(tmp_path, table, WAVS, name, encoding)
    refs = SPEC.build(FolderParams(), folder).samples()
    assert [(ref.id, ref.group, dict(ref.sources), dict(ref.targets)) for ref in refs] == [
        ("a", "p1", {"audio": "a.wav"}, {"mood": 0}),
        ("b", "p1", {"audio": "b.wav"}, {"mood": 1}),
        ("c", "p2", {"audio": "c.wav"}, {"mood": 0}),
        ("d", "p2", {"audio": "d.wav"}, {"mood": 1}),
        ("e", "p3", {"audio": "e.wav"}, {"mood": 0}),
        ("f", "p3", {"audio": "f.wav"}, {"mood": 1}),
    ]


def test_a_decimal_comma_is_a_number(tmp_path):
    rows = ["audio;valence", "a.wav;0,5", "b.wav;-1,25", "c.wav;", "d.wav;2"]
    refs = SPEC.build(FolderParams(), study(tmp_path, "\n".join(rows), WAVS)).samples()
    assert [ref.targets.get("valence") for ref in refs] == [0.5, -1.25, None, 2.0]


def test_columns_of_0_and_1_are_one_label_and_several_numbers_another(tmp_path):
    rows = ["audio,joy,fear,v,a", "a.wav,1,0,0.5,1", "b.wav,1,1,0.25,2", "c.wav,,1,,2", "d.wav,0,0,1,1"]
    labels = {"feelings": {"columns": ("joy", "fear")}, "place": {"columns": ("v", "a"), "type": "regression"}}
    options = completed(study(tmp_path, "\n".join(rows), WAVS), labels=labels)
    assert {name: (task.type, task.classes) for name, task in SPEC.info(options).tasks.items()} == {
        "feelings": ("multi-label", ("joy", "fear")),
        "place": ("regression", ("v", "a")),
    }
    refs = SPEC.build(options, tmp_path).samples()
    assert refs[1].targets == {"feelings": [1, 1], "place": [0.25, 2.0]}
    assert refs[2].targets == {}


def test_an_order_of_classes_that_is_given_is_kept(tmp_path):
    folder = study(tmp_path, PLAIN, WAVS)
    options = completed(folder, labels={"mood": {"classes": ("sad", "glad", "angry")}})
    assert SPEC.info(options).tasks["mood"].classes == ("sad", "glad", "angry")
    assert [ref.targets["mood"] for ref in SPEC.build(options, folder).samples()] == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("ending", ["npy", "npz", "mat", "safetensors"])
def test_arrays_are_sequences_at_the_rate_that_is_given(tmp_path, ending):
    from safetensors.numpy import save_file
    from scipy.io import savemat

    values = np.arange(24, dtype=np.float32).reshape(8, 3)
    write = {"npy": np.save, "npz": lambda path, x: np.savez(path, x=x)}
    write |= {"mat": lambda path, x: savemat(path, {"x": x}), "safetensors": lambda path, x: save_file({"x": x}, path)}
    for name in "ab":
        write[ending](tmp_path / f"{name}.{ending}", values)
    study(tmp_path, f"imu\na.{ending}\nb.{ending}\n")
    expect_refusal(lambda: completed(tmp_path), "dataset.sources.imu.rate", "steps a second")
    options = completed(tmp_path, sources={"imu": {"rate": 4.0}})
    dataset = SPEC.build(options, tmp_path)
    raw = dataset.read("a", "imu")
    assert isinstance(raw, Sequence) and np.array_equal(raw.values, values) and raw.rate == 4
    assert isinstance(dataset, HasHeaders) and dataset.header("a", "imu").seconds == 2
    assert SPEC.info(options).sources["imu"].notes == {"shape": [3], "axes": ["channel"]}


@pytest.mark.parametrize(
    ("name", "text", "words", "times"),
    [
        ("t.txt", "we shall see", ("we", "shall", "see"), None),
        ("t.srt", "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>we</i> shall\r\n\r\n", ("we", "shall"), [[1, 1.5], [1.5, 2]]),
        ("t.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nwe\nshall\n", ("we", "shall"), [[1, 1.5], [1.5, 2]]),
        ("t.json", '{"segments": [{"words": [{"word": " we", "start": 0.1, "end": 0.3}]}]}', ("we",), [[0.1, 0.3]]),
        ("t.csv", "word,start,end\nsee,0.5,0.75\nwe,0,0.5\n", ("we", "see"), [[0, 0.5], [0.5, 0.75]]),
    ],
)
def test_transcripts(tmp_path, name, text, words, times):
    study(tmp_path, f"said\n{name}\n").joinpath(name).write_text(text, encoding="utf-8")
    raw = SPEC.build(FolderParams(sources={"said": SourceOptions(reads="words")}), tmp_path).read("line-2", "said")
    assert raw.words == words
    assert raw.times is None if times is None else np.allclose(raw.times, times)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("mood", "split"), ("'glad'", "split", "train, valid and test")),
        (("a.wav,p1,glad", "a.wav,p1,gald"), ("recordings.csv:2", "'gald'", "did you mean 'glad'", "labels.mood.classes")),
        (("a.wav", "../a.wav"), ("recordings.csv:2", "leads outside", "dataset.outside")),
        (("a.wav", "/etc/a.wav"), ("leads outside",)),
        (("a.wav", "C:\\a.wav"), ("leads outside",)),
        (("c.wav,p2", "c.wav,"), ("recordings.csv:4", "has no speaker")),
        (("b.wav,p1", ",p1"), ("recordings.csv:3", "none of the sources audio")),
        (("sad\n", "sad,1\n"), ("recordings.csv:3", "4 cells", "header 3")),
        (("speaker", "audio"), ("named twice",)),
        ((".wav", ".xyz"), ("no column holds paths",)),
        ((".wav", ".flac"), ("none of them is there",)),
    ],
)
def test_a_mistake_in_the_table_is_refused_by_its_line(tmp_path, change, words):
    folder = study(tmp_path, PLAIN.replace(*change), WAVS)
    expect_refusal(lambda: completed(folder), *words)
    expect_refusal(lambda: SPEC.build(FolderParams(), folder).samples(), *words)


@pytest.mark.parametrize(("word", "meant"), [("val", "valid"), ("Dev", "valid"), ("training", "train"), ("TEST", "test")])
def test_a_word_that_others_use_for_a_split_is_refused_and_ours_offered(tmp_path, word, meant):
    folder = study(tmp_path, f"audio,split\na.wav,train\nb.wav,{word}\n", WAVS)
    expect_refusal(lambda: completed(folder), "recordings.csv:3", f"'{word}'", f"write '{meant}'")


def test_a_column_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    folder = study(tmp_path, PLAIN, WAVS)
    expect_refusal(lambda: completed(folder, group="speakr"), "no column 'speakr'", "did you mean 'speaker'", "dataset.group")
    expect_refusal(lambda: completed(folder, labels=("moods",)), "'moods'", "did you mean 'mood'")


def test_paths_may_lead_outside_where_that_is_allowed(tmp_path):
    folder = study(tmp_path / "study", PLAIN.replace("a.wav", "../a.wav"), WAVS[1:])
    write_audio(tmp_path / "a.wav", np.zeros(800), 8000)
    dataset = SPEC.build(FolderParams(outside=True), folder)
    assert len(dataset.read("a", "audio").samples) == 800


@pytest.mark.parametrize("slip", ["a.wvv", '"a.wav\nb"', "a" * 5000 + ".wav"], ids=["ending", "two-lines", "long"])
def test_a_slip_in_one_path_costs_one_recording(tmp_path, slip):
    table = PLAIN.replace("audio,speaker", "id,audio,speaker").replace("a.wav", f"1,{slip}")
    for i, name in enumerate("bcdef", 2):
        table = table.replace(f"{name}.wav", f"{i},{name}.wav")
    dataset = SPEC.build(FolderParams(), study(tmp_path, table, WAVS))
    assert [ref.id for ref in dataset.samples()] == ["1", "2", "3", "4", "5", "6"]
    expect_refusal(lambda: dataset.read("1", "audio"), "is not there", "'1'")
    assert len(dataset.read("2", "audio").samples) == 4000


def test_a_file_that_is_not_there_is_refused_when_it_is_read(tmp_path):
    dataset = SPEC.build(FolderParams(), study(tmp_path, PLAIN, WAVS[:3]))
    expect_refusal(lambda: dataset.read("d", "audio"), "d.wav", "is not there", "'d'")


def test_another_rate_than_the_first_file_has_is_refused(spoilt):
    path = spoilt / "hand/r001.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{i / 50},1,2,3" for i in range(20))]))
    expect_refusal(lambda: SPEC.build(FolderParams(), spoilt).read("r001", "hand"), "r001.csv", "50.00", "25")


def test_parquet_is_read_where_pyarrow_is_there_and_else_it_is_asked_for(tmp_path):
    if importlib.util.find_spec("pyarrow") is None:
        folder = study(tmp_path, "nothing", name="recordings.parquet")
        expect_refusal(lambda: completed(folder), "pyarrow", "pip install pyarrow")
        return
    import pyarrow
    from pyarrow import parquet

    study(tmp_path, "", WAVS).joinpath("recordings.csv").unlink()
    columns = {"audio": WAVS[:4], "speaker": ["p1", "p1", "p2", "p2"], "valence": [0.5, None, 1.5, 2.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "recordings.parquet")
    refs = SPEC.build(FolderParams(), tmp_path).samples()
    assert [ref.targets.get("valence") for ref in refs] == [0.5, None, 1.5, 2.0]


@pytest.mark.real
def test_the_wavs_of_ravdess_as_a_plain_folder(tmp_path):
    data = real_data("ravdess")
    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    wavs = sorted((data / "ravdess").glob("Actor_*/03-01-*.wav"))
    assert len(wavs) == 1440
    (tmp_path / "wavs").mkdir()
    rows = ["file,actor,emotion"]
    for path in wavs:
        (tmp_path / "wavs" / path.name).symlink_to(path)
        rows.append(f"wavs/{path.name},{path.stem[-2:]},{emotions[int(path.stem[6:8]) - 1]}")
    study(tmp_path, "\n".join(rows))
    dataset = SPEC.build(FolderParams(), tmp_path)
    refs = dataset.samples()
    info = SPEC.info(completed(tmp_path))
    assert info.group == "actor" and info.tasks["emotion"].classes == tuple(sorted(emotions))
    assert len(refs) == 1440 and len({ref.group for ref in refs}) == 24
    counts = {name: sum(ref.targets["emotion"] == i for ref in refs) for i, name in enumerate(info.tasks["emotion"].classes)}
    assert counts == {name: 96 if name == "neutral" else 192 for name in emotions}
    first = dataset.read(refs[0].id, "file")
    assert len(first.samples) / first.rate == pytest.approx(dataset.header(refs[0].id, "file").seconds)


def test_a_path_with_a_blank_is_a_path(tmp_path):
    study(tmp_path, "text\nmy words/w0.txt\n", ())
    (tmp_path / "my words").mkdir()
    (tmp_path / "my words" / "w0.txt").write_text("all is well", encoding="utf-8")
    dataset = SPEC.build(FolderParams(sources={"text": SourceOptions(reads="words")}), tmp_path)
    (ref,) = dataset.samples()
    assert dataset.read(ref.id, "text").words == ("all", "is", "well")


def arrays(folder, header, rows):
    """A folder with a table of arrays of 20 steps of two channels."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        np.save(folder / row.split(",")[0], np.arange(40.0).reshape(20, 2))
    (folder / "recordings.csv").write_text("\n".join((header, *rows)))
    return folder


@pytest.mark.parametrize("column", ["rate", "imu_rate", "imu hz", "IMU-fps", "imu_sampling_rate"])
def test_a_column_says_the_rate_of_arrays_and_is_no_label(tmp_path, column):
    rows = [f"{letter}.npy,{'p1' if letter < 'd' else 'p2'},{'glad' if letter in 'ace' else 'sad'},50" for letter in "abcdef"]
    folder = arrays(tmp_path / "study", f"imu,speaker,mood,{column}", rows)
    whole = completed(folder)
    assert whole.sources["imu"].rate == 50.0
    assert list(whole.labels) == ["mood"]
    dataset = SPEC.build(whole, folder)
    assert dataset.read("a", "imu").rate == 50.0
    assert dataset.header("a", "imu").seconds == 0.4
    assert completed(folder, sources={"imu": {"rate": 25}}, labels=["mood"]).sources["imu"].rate == 25.0


def test_no_rate_two_rates_and_words_for_a_rate_are_refused(tmp_path):
    for rate, words in (("", "write it into a column 'imu_rate' or 'rate'"), ("fast", "is no rate"), ("-1", "is no rate")):
        folder = arrays(tmp_path / (rate or "none"), "imu,speaker,mood,rate", [f"a.npy,p1,glad,{rate}", f"b.npy,p1,sad,{rate}"])
        with pytest.raises(DataError, match=words):
            completed(folder)
    folder = arrays(tmp_path / "two", "imu,speaker,mood,rate", ["a.npy,p1,glad,50", "b.npy,p1,sad,25"])
    with pytest.raises(DataError, match=r"recordings\.csv:3: column 'rate' has 25, and 50 above"):
        completed(folder)


def test_a_number_named_rate_beside_sounds_is_a_label_as_before(tmp_path):
    rows = [f"{wav},p{1 + i // 3},{i}" for i, wav in enumerate(WAVS)]
    folder = study(tmp_path / "study", "\n".join(("audio,speaker,rate", *rows)), WAVS)
    assert list(completed(folder).labels) == ["rate"]


def test_a_film_of_another_rate_than_the_option_is_refused_by_its_header_as_when_it_is_read(root):
    pytest.importorskip("av")
    dataset = SPEC.build(
        FolderParams.model_validate({"sources": {"sound": {}, "film": {"reads": "pictures", "rate": 11.0}}}), root
    )
    id = next(ref.id for ref in dataset.samples() if "film" in ref.sources)
    for look in (dataset.read, dataset.header):
        with pytest.raises(DataError, match="11 were expected"):
            look(id, "film")


def test_a_label_that_is_too_large_to_be_learned_is_refused_and_a_long_number_is_no_path(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(800), 8000)
    rows = [f"r{i},{i}e300,{10**400 + i},a.wav" for i in range(6)]
    (tmp_path / "recordings.csv").write_text("\n".join(["id,value,number,sound", *rows]))
    expect_refusal(lambda: mmcl_folder._complete(FolderParams(), tmp_path), "recordings.csv:3", "1e+300", "'value'")
    named = FolderParams.model_validate({"labels": {}})
    assert list(mmcl_folder._complete(named, tmp_path).sources or {}) == ["sound"]


def test_pictures_without_a_clock_and_numbers_without_time_are_sources(tmp_path):
    from PIL import Image

    study(tmp_path, "speaker,face,views,answers\n" + "".join(f"p{i},{i}.png,v{i},{i}.npy\n" for i in range(4)))
    for i in range(4):
        (tmp_path / f"v{i}").mkdir()
        Image.fromarray(np.full((40, 30, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
        for k, name in enumerate("cab"):
            Image.fromarray(np.full((20, 20, 3), 50 * k + i, np.uint8)).save(tmp_path / f"v{i}" / f"{name}.jpg")
        np.save(tmp_path / f"{i}.npy", np.arange(6.0).reshape(2, 3) + i)
    with pytest.raises(DataError, match=r"set dataset\.sources\.answers\.rate.* to still"):
        completed(tmp_path, sources=["answers"])
    with pytest.raises(DataError, match=r"set dataset\.sources\.views\.rate.* to photos"):
        completed(tmp_path, sources=["views"])
    options = completed(
        tmp_path, sources={"face": {"size": (8, 10)}, "views": {"reads": "photos"}, "answers": {"reads": "still"}}
    )
    info = SPEC.info(options)
    assert {name: (one.type, one.notes["shape"]) for name, one in info.sources.items()} == {
        "face": ("pictures", [3, 8, 10]),
        "views": ("pictures", [3, 120, 160]),
        "answers": ("still", [2, 3]),
    }
    dataset = SPEC.build(options, tmp_path)
    id = dataset.samples()[2].id
    assert dataset.read(id, "face").pictures.tolist() == np.full((1, 3, 8, 10), 20).tolist()
    assert dataset.read(id, "views").pictures.mean((1, 2, 3)).round(-1).tolist() == [50, 100, 0]  # a, b, c
    assert dataset.read(id, "answers").values.tolist() == [[2, 3, 4], [5, 6, 7]]
    assert dataset.header(id, "answers").shape == (2, 3)
    again = SPEC.read_file(tmp_path / "3.npy", info.sources["answers"])
    assert again.values[0, 0] == 3
    assert SPEC.read_file(tmp_path / "v3", info.sources["views"]).pictures.shape == (3, 3, 120, 160)
    np.save(tmp_path / "2.npy", np.zeros(5))
    for look in (dataset.read, dataset.header):
        with pytest.raises(DataError, match=r"2\.npy: has the shape \[5\]; \[2, 3\] was expected"):
            look(id, "answers")


def test_a_long_film_is_read_by_parts_at_the_rate_of_its_source(tmp_path, monkeypatch):
    pytest.importorskip("av")
    from mmcl.media import film, write_film

    frames = np.random.default_rng(0).integers(0, 256, (30, 24, 32, 3), dtype=np.uint8)
    study(tmp_path, "speaker,film\np1,a.mp4\n")
    write_film(tmp_path / "a.mp4", frames, 25)
    options = completed(tmp_path, sources={"film": {"rate": 25.2, "size": (12, 16)}})
    whole = SPEC.build(options, tmp_path).read("a", "film")
    monkeypatch.setattr(film, "LONG_FILM", 0)
    parted = SPEC.build(options, tmp_path).read("a", "film")
    assert type(whole) is Video
    assert (type(parted).__name__, parted.rate, whole.rate) == ("LongFilm", 25.2, 25.2)
    np.testing.assert_array_equal(np.concatenate(list(parted.blocks())), whole.frames)


def labelled(tmp_path, cells):
    """A study of six sounds whose cells of a label are these, again and again."""
    rows = [f"r{i},{WAVS[i % len(WAVS)]},p{i},{cells[i % len(cells)]}" for i in range(3 * len(cells))]
    return study(tmp_path, "\n".join(["id,audio,speaker,mood", *rows]) + "\n", WAVS)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["cr\u00e9", "cre\u0301"], ("recordings.csv:3", "other signs", "e\\u0301", "write both alike")),
        (["glad\u200b", "glad", "sad"], ("recordings.csv:3", "other signs")),
        (["glad", "Glad", "sad"], ("recordings.csv:3", "differ in capitals", "dataset.labels")),
        (["a;b", "b;A"], ("recordings.csv:3", "'A'", "differ in capitals")),
        (["glad", "NA", "sad"], ("recordings.csv:3", "'NA'", "nothing known", "labels.mood.classes")),
        (["0.5", "0.25", "#N/A"], ("recordings.csv:4", "'#N/A'", "empty the cell")),
        (['"glad', '"sad'], ("recordings.csv:3", "cannot be read as CSV")),
    ],
    ids=["accents", "no width", "capitals", "capitals in a list", "NA", "NA among numbers", "a quote left open"],
)
def test_labels_that_look_alike_or_mean_nothing_are_refused(tmp_path, cells, words):
    """Each would have been another class than the one that is meant, or no label, and nobody would have been told."""
    expect_refusal(lambda: completed(labelled(tmp_path, cells)), *words)


def test_classes_that_are_listed_may_look_alike_or_be_any_word_but_none_twice(tmp_path):
    folder = labelled(tmp_path, ["glad", "Glad", "NA"])
    assert completed(folder, labels={"mood": {"classes": ("glad", "Glad", "NA")}}).labels["mood"].type == "single-label"
    expect_refusal(lambda: completed(folder, labels={"mood": {"classes": ("glad", "Glad", "NA", "glad")}}), "'glad'", "twice")
    expect_refusal(lambda: completed(folder, labels={"mood": {"columns": ("mood", "mood")}}), "mood, mood", "once")


def test_one_person_written_in_two_ways_is_refused(tmp_path):
    """Their recordings would stand on both sides of a split."""
    table = "audio,speaker,split\na.wav,Ren\u00e9,train\nb.wav,Rene\u0301,test\n"
    expect_refusal(lambda: completed(study(tmp_path, table, WAVS)), "recordings.csv:3", "same group", "write both alike")


def test_columns_whose_names_become_one_are_two_labels_and_two_sources(tmp_path):
    rows = [f"r{i},{WAVS[i]},{WAVS[5 - i]},{'ab'[i % 2]},{'cd'[i // 3]},{'ef'[i % 2]},{'gh'[i % 2]}" for i in range(6)]
    table = "\n".join(["id,声音,录音,情绪,心情,my mood,my-mood", *rows]) + "\n"
    whole = completed(study(tmp_path, table, WAVS))
    assert {name: one.column for name, one in whole.sources.items()} == {"source": "声音", "source-2": "录音"}
    assert {name: one.column for name, one in whole.labels.items()} == {
        "label": "情绪",
        "label-2": "心情",
        "my-mood": "my mood",
        "my-mood-2": "my-mood",
    }


def test_numbers_as_names_stay_as_they_are_written_and_signs_of_csv_stand_in_classes(tmp_path):
    quoted = '"glad, ""so"""'
    rows = [f"00{i};{WAVS[i]};007;{(quoted, '喜び')[i % 2]};{i},5;;" for i in range(6)]
    table = "\ufeff" + "\r\n".join(["id;audio;speaker;mood;valence;;", *rows]) + "\r\n"
    folder = study(tmp_path, "", WAVS)
    (folder / "recordings.csv").write_bytes(table.encode())
    samples = SPEC.build(FolderParams(), folder).samples()
    assert [sample.id for sample in samples] == [f"00{i}" for i in range(6)]
    assert {sample.group for sample in samples} == {"007"}
    assert completed(folder).labels["mood"].classes == ('glad, "so"', "喜び")
    assert [sample.targets["valence"] for sample in samples] == [i + 0.5 for i in range(6)]


def test_a_folder_of_pictures_in_place_of_a_film_needs_a_rate(tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "0.png")
    source = SPEC.info(FolderParams(sources={"film": {"reads": "pictures"}}, labels={})).sources["film"]
    expect_refusal(lambda: SPEC.read_file(tmp_path, source), "how many are shown a second", "a film was expected")
