"""MELD: what is listed, whose clips are offered, what is read, what is refused."""

from __future__ import annotations

import csv
import shutil
import sys
from collections import Counter
from pathlib import Path

import mmcl_meld
import numpy as np
import pytest
import soundfile
from mmcl_meld import BROKEN, EMOTIONS, SENTIMENTS, MeldParams

from mmcl.testing import check_dataset
from mmcl.testing.corpora import dataset_of, expect_refusal, expect_seeded, real_data, tiny_copies

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"


MELD = dataset_of(mmcl_meld)
_, tiny = tiny_copies(MELD, 20)


def open_corpus(root: Path | None, **options):
    return MELD.build(MeldParams(**options), root)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _line(**cells: str) -> str:
    """One line of a table."""
    usual = {
        "Sr No.": "1",
        "Utterance": "Hi.",
        "Speaker": "Ana",
        "Emotion": "joy",
        "Sentiment": "positive",
        "Dialogue_ID": "0",
        "Utterance_ID": "0",
        "Season": "1",
        "Episode": "1",
        "StartTime": '"00:00:01,000"',
        "EndTime": '"00:00:02,000"',
    }
    return ",".join((usual | cells)[name] for name in HEADER.split(",")) + "\r\n"


def _put(root: Path, *lines: str, split: str = "dev", header: str = HEADER) -> Path:
    """Another table in place of the one that is there."""
    path = root / f"{split}_sent_emo.csv"
    path.write_bytes((header + "\r\n" + "".join(lines)).encode())
    return path


def test_every_row_is_listed_once_in_the_order_of_the_tables(tiny):
    samples = open_corpus(tiny).samples()
    rows = [(split, row) for split in ("train", "dev", "test") for row in _rows(tiny / f"{split}_sent_emo.csv")]
    assert Counter(split for split, _ in rows) == {"train": 12, "dev": 4, "test": 4}
    assert len({s.id for s in samples}) == len(samples) == len(rows)
    for s, (split, row) in zip(samples, rows, strict=True):
        assert s.id == f"{split}_dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
        assert s.group == f"{split}_dia{row['Dialogue_ID']}"
        assert s.split == {"train": "train", "dev": "valid", "test": "test"}[split]
        assert EMOTIONS[s.targets["emotion"]] == row["Emotion"]
        assert SENTIMENTS[s.targets["sentiment"]] == row["Sentiment"]
        assert s.sources["text"] == f"{split}_sent_emo.csv"
        assert (s.facts["speaker"], s.facts["utterance"]) == (row["Speaker"], int(row["Utterance_ID"]))


def test_ids_of_utterances_are_kept_with_their_gaps_and_splits_do_not_mix(tiny):
    samples = open_corpus(tiny).samples()
    assert [s.facts["utterance"] for s in samples if s.group == "train_dia0"] == [0, 1, 3, 4]
    assert {"train_dia0_utt0", "dev_dia0_utt0", "test_dia0_utt0"} <= {s.id for s in samples}
    assert len({(s.group, s.split) for s in samples}) == len({s.group for s in samples})


def test_the_tiny_copy_has_what_readers_stumble_over(tiny):
    raw = (tiny / "train_sent_emo.csv").read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == 13
    assert "’".encode() in raw
    numbers = [row["Sr No."] for row in _rows(tiny / "train_sent_emo.csv")]
    assert len(set(numbers)) < len(numbers)
    assert any("," in row["Utterance"] for row in _rows(tiny / "train_sent_emo.csv"))
    assert any(row["StartTime"] == row["EndTime"] for row in _rows(tiny / "test_sent_emo.csv"))


def test_the_same_seed_writes_the_same_files_and_another_seed_others(tiny, tmp_path):
    expect_seeded(MELD, tiny, 20, tmp_path, differs="train_sent_emo.csv")


def test_words_are_what_stands_between_blanks_curly_quotes_and_all(tiny):
    path = _put(tiny, _line(Utterance='"You must’ve had  your ""hands"" full, right?"'))
    words = open_corpus(tiny).read("dev_dia0_utt0", "text")
    assert words.words == ("You", "must’ve", "had", "your", '"hands"', "full,", "right?")
    assert words.times is None
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Excel saves it
    assert open_corpus(tiny).read("dev_dia0_utt0", "text") == words


def test_a_break_inside_a_quoted_utterance_is_a_blank_and_no_end_of_the_row(tiny):
    _put(tiny, _line(Utterance='"Two\r\nlines\u2028here"'), _line(Utterance_ID="1"))
    data = open_corpus(tiny)
    assert [s.id for s in data.samples() if s.split == "valid"] == ["dev_dia0_utt0", "dev_dia0_utt1"]
    assert data.read("dev_dia0_utt0", "text").words == ("Two", "lines", "here")


def test_a_row_without_words_has_no_text_and_is_counted(tiny):
    _put(tiny, _line(Utterance='" "'))
    data = open_corpus(tiny)
    assert "text" not in next(s for s in data.samples() if s.id == "dev_dia0_utt0").sources
    assert data.defects().no_words == ("dev_dia0_utt0",)
    expect_refusal(lambda: data.read("dev_dia0_utt0", "text"), "dev_dia0_utt0", "has no text")


def test_clips_give_voice_and_picture_to_the_rows_that_have_one(tiny):
    data = open_corpus(tiny, video_size=(18, 32))
    clips = Counter(s.facts["clip"] for s in data.samples())
    assert clips == {"there": 17, "absent": 1, "broken": 2}
    for s in data.samples():
        whole = {"text", "audio", "video"} if s.facts["clip"] == "there" else {"text"}
        assert set(s.sources) == whole
    s = data.samples()[1]
    audio, video = data.read(s.id, "audio"), data.read(s.id, "video")
    assert abs(len(audio.samples) / audio.rate - s.facts["seconds"]) < 0.05
    assert abs(len(video.frames) / video.rate - s.facts["seconds"]) < 0.05
    assert video.frames.shape[1:] == (3, 18, 32)


def test_each_split_has_its_own_clip_of_the_same_name(tiny):
    data = open_corpus(tiny)
    voices = [data.read(f"{split}_dia0_utt0", "audio").samples for split in ("train", "dev", "test")]
    assert len({len(v) for v in voices}) == 3
    for s in data.samples():
        folder = {"train": "train_splits", "valid": "dev_splits_complete", "test": "output_repeated_splits_test"}[s.split]
        assert all(where.split("/")[0] == folder for name, where in s.sources.items() if name != "text")


def test_broken_and_missing_clips_and_those_without_a_row_are_counted(tiny):
    defects = open_corpus(tiny).defects()
    assert set(defects.broken) == {"train_dia125_utt3", "test_dia0_utt4"}
    assert "cannot be decoded" in defects.broken["train_dia125_utt3"]
    assert "no length" in defects.broken["test_dia0_utt4"]
    assert defects.absent == ("dev_dia0_utt4",)
    assert defects.without_row == ("dev_splits_complete/dia66_utt9.mp4",)
    expect_refusal(
        lambda: open_corpus(tiny).read("train_dia125_utt3", "video"), "train_dia125_utt3", "has no video", "cannot be decoded"
    )


def test_a_clip_known_to_be_wrongly_cut_is_not_offered_whatever_lies_there(tiny):
    assert ("test", 38, 4) in BROKEN
    _put(tiny, _line(Dialogue_ID="38", Utterance_ID="4"), _line(Dialogue_ID="38", Utterance_ID="5"), split="test")
    for number in (4, 5):
        soundfile.write(tiny / "output_repeated_splits_test" / f"dia38_utt{number}.wav", np.zeros(800), 8000)
    test = {s.id: set(s.sources) for s in open_corpus(tiny).samples() if s.split == "test"}
    assert test == {"test_dia38_utt4": {"text"}, "test_dia38_utt5": {"text", "audio"}}


def test_leaving_the_clips_out_leaves_them_out_everywhere(tiny):
    assert set(MELD.info(MeldParams(clips="none")).sources) == {"text"}
    samples = open_corpus(tiny, clips="none").samples()
    assert {tuple(s.sources) for s in samples} == {("text",)}
    assert [s.id for s in samples] == [s.id for s in open_corpus(tiny).samples()]


def test_an_unpacked_sound_goes_before_the_film_it_came_from(tiny, monkeypatch):
    folder = tiny / "dev_splits_complete"
    for path in list(folder.glob("dia0_utt1*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "dia0_utt1.mp4").write_bytes(b"film")
    before = next(s for s in open_corpus(tiny).samples() if s.id == "dev_dia0_utt1")
    assert before.sources["audio"] == before.sources["video"] == "dev_splits_complete/dia0_utt1.mp4"
    wave = np.linspace(-0.5, 0.5, 1600)
    soundfile.write(folder / "dia0_utt1.wav", np.stack([wave, -wave], 1), 16000)
    data = open_corpus(tiny)
    after = next(s for s in data.samples() if s.id == "dev_dia0_utt1")
    assert after.sources["audio"].endswith(".wav")
    assert after.sources["video"].endswith(".mp4")
    audio = data.read(after.id, "audio")
    assert (audio.rate, len(audio.samples)) == (16000, 1600)
    assert np.abs(audio.samples).max() < 1e-4  # the two channels cancel
    monkeypatch.setitem(sys.modules, "av", None)
    expect_refusal(lambda: data.read(after.id, "video"), "dia0_utt1.mp4", "pip install 'mmcl[video]'")


def test_an_mp4_gives_sound_and_picture(tiny):
    av = pytest.importorskip("av", reason="PyAV is not installed, so no mp4 can be read")
    data = open_corpus(tiny, video_size=(36, 64))
    s = data.samples()[0]
    assert s.sources["audio"].endswith(".mp4")
    with av.open(str(tiny / s.sources["video"])) as film:
        slow = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    video = data.read(s.id, "video")
    assert video.frames.shape == (len(slow), 3, 36, 64)
    assert video.rate == pytest.approx(24000 / 1001)
    assert np.abs(video.frames.transpose(0, 2, 3, 1).astype(int) - np.stack(slow)).mean() < 2
    path = tiny / s.sources["audio"]
    path.write_bytes(path.read_bytes()[:-400])
    for source in ("audio", "video"):
        expect_refusal(lambda source=source: data.read(s.id, source), path.name)


def test_the_tables_may_be_called_meld_and_the_folders_stand_anywhere(tiny):
    ids = [(s.id, s.facts["clip"]) for s in open_corpus(tiny).samples()]
    raw = tiny / "MELD.Raw"
    raw.mkdir()
    for folder in ("train_splits", "dev_splits_complete", "output_repeated_splits_test"):
        (tiny / folder).rename(raw / folder)
    for split in ("train", "dev", "test"):
        (tiny / f"{split}_sent_emo.csv").rename(tiny / f"meld_{split}.csv")
    assert [(s.id, s.facts["clip"]) for s in open_corpus(tiny).samples()] == ids
    (tiny / "data").mkdir()
    for split in ("train", "dev", "test"):
        (tiny / f"meld_{split}.csv").rename(tiny / "data" / f"{split}_sent_emo.csv")
    assert [(s.id, s.facts["clip"]) for s in open_corpus(tiny).samples()] == ids


def test_two_tables_or_two_folders_of_a_split_are_refused(tiny):
    shutil.copy(tiny / "dev_sent_emo.csv", tiny / "meld_dev.csv")
    expect_refusal(lambda: open_corpus(tiny).samples(), "meld_dev.csv", "dev_sent_emo.csv", "leave one")
    (tiny / "meld_dev.csv").unlink()
    shutil.copytree(tiny / "train_splits", tiny / "copy" / "train_splits")
    expect_refusal(lambda: open_corpus(tiny).samples(), "copy/train_splits", "leave one")


def test_a_missing_table_or_folder_is_refused_with_the_names_and_the_address(tiny, tmp_path):
    (tmp_path / "none").mkdir()
    for root in (None, tmp_path / "nowhere", tmp_path / "none"):
        expect_refusal(
            lambda root=root: open_corpus(root).samples(), "train_sent_emo.csv", "https://github.com/declare-lab/MELD"
        )
    (tiny / "dev_sent_emo.csv").unlink()
    expect_refusal(lambda: open_corpus(tiny).samples(), "has no dev_sent_emo.csv")


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"Emotion": "happy"}, ("line 3", "'Emotion'", "'happy'", "joy")),
        ({"Sentiment": "mixed"}, ("line 3", "'Sentiment'", "'mixed'")),
        ({"Speaker": " "}, ("line 3", "'Speaker'")),
        ({"Dialogue_ID": "-1"}, ("line 3", "'Dialogue_ID'", "'-1'")),
        ({"Utterance_ID": "1.0"}, ("line 3", "'Utterance_ID'", "'1.0'")),
        ({"StartTime": "12.5"}, ("line 3", "'StartTime'", "'12.5'", "00:16:16,059")),
        ({"EndTime": '"00:61:00,000"'}, ("line 3", "'EndTime'")),
        ({"Utterance": "Well, now"}, ("line 3", "12 cells", "11")),
        ({"Utterance_ID": "0"}, ("line 3", "dialogue 0, utterance 0", "line 2")),
        ({"Utterance": '"never closed'}, ("line 3", "cut short")),
    ],
)
def test_a_row_that_cannot_be_right_is_refused_by_line_and_column(tiny, cells, words):
    path = _put(tiny, _line(), _line(**({"Utterance_ID": "1"} | cells)))
    expect_refusal(lambda: open_corpus(tiny).samples(), str(path), *words)


@pytest.mark.parametrize("how", ["controls", "bytes", "utf-16"])
def test_quotes_of_old_tables_are_those_of_the_repaired_ones(tiny, how):
    """Tables of 2018 to 2020 have U+0092 for the apostrophe; a spreadsheet saves Windows-1252, or UTF-16."""
    _put(tiny, _line(Utterance="I’m here — don’t"))
    repaired = open_corpus(tiny)
    wanted = repaired.read("dev_dia0_utt0", "text").words
    assert wanted == ("I’m", "here", "—", "don’t")
    path = tiny / "dev_sent_emo.csv"
    text = path.read_text(encoding="utf-8")
    old = text.encode("cp1252") if how != "utf-16" else text.encode("utf-16")
    path.write_bytes(old.decode("latin-1").encode() if how == "controls" else old)
    corpus = open_corpus(tiny)
    assert corpus.read("dev_dia0_utt0", "text").words == wanted
    counted = corpus.counts().get("characters of Windows-1252 in text, decoded", 0)
    assert counted == (0 if how == "utf-16" else 3)


def test_a_table_of_another_sort_is_refused(tiny):
    expect_refusal(lambda: open_corpus(_put(tiny, header="a,b").parent).samples(), "lacks the column 'Utterance'")
    expect_refusal(lambda: open_corpus(_put(tiny).parent).samples(), "no rows")
    (tiny / "dev_sent_emo.csv").write_bytes(b"")
    expect_refusal(lambda: open_corpus(tiny).samples(), "dev_sent_emo.csv", "is empty")
    (tiny / "dev_sent_emo.csv").write_bytes(HEADER.encode() + b"\r\n1,Don\xffLt\r\n")
    expect_refusal(lambda: open_corpus(tiny).samples(), "dev_sent_emo.csv", "UTF-8")


def test_columns_count_by_name_and_times_of_two_digits_are_thousandths(tiny):
    names = HEADER.split(",")
    line = dict(zip(names, next(csv.reader([_line(StartTime='"00:06:45,489"', EndTime='"0:06:47,28"')])), strict=True))
    order = [*reversed(names[1:]), "Old_Dialogue_ID"]  # without Sr No., as in other releases
    with (tiny / "dev_sent_emo.csv").open("w", newline="") as file:
        csv.writer(file).writerows([order, [line.get(name, "7") for name in order]])
    sample = next(s for s in open_corpus(tiny).samples() if s.split == "valid")
    assert sample.facts["seconds"] == pytest.approx(47.028 - 45.489)


def test_the_dataset_keeps_the_contract_without_clips_too(tmp_path):
    check_dataset(MELD, tmp_path, MeldParams(clips="none"))


def test_words_lean_with_the_emotion_in_the_tiny_copy(tmp_path):
    MELD.sample(tmp_path, 100, 0)
    data = open_corpus(tmp_path, clips="none")
    seen = {e: Counter() for e in range(7)}
    for s in data.samples():
        if s.split == "train":
            seen[s.targets["emotion"]].update(data.read(s.id, "text").words)
    hits = []
    for s in data.samples():
        if s.split == "test":
            scores = [sum(seen[e][w] for w in data.read(s.id, "text").words) for e in range(7)]
            hits.append(np.argmax(scores) == s.targets["emotion"])
    assert np.mean(hits) > 0.5  # chance is 1/7


# --- the tables themselves ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Path:
    return real_data("text/meld_train.csv") / "text"


@pytest.mark.real
def test_the_real_tables_have_the_published_counts(real):
    samples = open_corpus(real).samples()
    assert Counter(s.split for s in samples) == {"train": 9989, "valid": 1109, "test": 2610}
    published = {  # train, dev, test
        "neutral": (4710, 470, 1256),
        "joy": (1743, 163, 402),
        "surprise": (1205, 150, 281),
        "anger": (1109, 153, 345),
        "sadness": (683, 111, 208),
        "disgust": (271, 22, 68),
        "fear": (268, 40, 50),
    }
    counts = Counter((EMOTIONS[s.targets["emotion"]], s.split) for s in samples)
    assert {e: tuple(counts[e, split] for split in ("train", "valid", "test")) for e in EMOTIONS} == published
    neutral = Counter(SENTIMENTS[s.targets["sentiment"]] == "neutral" for s in samples if s.targets["emotion"] == 0)
    assert neutral == {True: 4710 + 470 + 1256}


@pytest.mark.real
def test_the_real_dialogues_keep_their_ids_and_no_group_crosses_a_split(real):
    samples = open_corpus(real).samples()
    assert len({s.id for s in samples}) == len(samples)
    groups = {split: {s.group for s in samples if s.split == split} for split in ("train", "valid", "test")}
    assert [len(g) for g in groups.values()] == [1038, 114, 280]
    assert "train_dia60" not in groups["train"]
    gaps = Counter()
    for split, names in groups.items():
        numbers = {name: sorted(s.facts["utterance"] for s in samples if s.group == name) for name in names}
        gaps[split] = sum(n != list(range(len(n))) for n in numbers.values())
        if split == "train":
            assert sum(n[0] != 0 for n in numbers.values()) == 10
    assert gaps == {"train": 72, "valid": 2, "test": 2}


@pytest.mark.real
def test_the_real_texts_have_words_and_curly_quotes_and_the_broken_clips_are_rows(real):
    data = open_corpus(real)
    texts = [" ".join(data.read(s.id, "text").words) for s in data.samples()]
    assert all(texts)
    assert 0.2 < np.mean(["’" in t or "‘" in t or "“" in t or "”" in t for t in texts]) < 0.35
    assert set(data.defects().broken) == {f"{split}_dia{d}_utt{u}" for split, d, u in BROKEN}
    assert Counter(s.facts["clip"] for s in data.samples()) == {"absent": 13708 - 6, "broken": 6}


def test_the_rows_that_public_loaders_quote_are_read(tmp_path):
    """Layout, ids and times of the first rows of the dev table, as loaders on GitHub print them; what is said is shortened."""
    heading = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    dev = [
        '1,"Oh my God, he’s lost it.",Phoebe,sadness,negative,0,0,4,7,"00:20:57,256","00:21:00,049"',
        '2,What?,Monica,surprise,negative,0,1,4,7,"00:21:01,927","00:21:03,261"',
        '3,"Or! Or, we could go.",Ross,neutral,neutral,1,0,4,4,"00:12:24,660","00:12:30,915"',
    ]
    test = ['1,Why do they?,Mark,surprise,positive,0,0,3,19,"00:14:38,127","00:14:40,378"']
    for split, rows in (("train", test), ("dev", dev), ("test", test)):
        (tmp_path / f"{split}_sent_emo.csv").write_bytes("\r\n".join([heading, *rows, ""]).encode())
    data = MELD.build(MeldParams(clips="none"), tmp_path)
    rows = {sample.id: sample for sample in data.samples() if sample.split == "valid"}
    assert list(rows) == ["dev_dia0_utt0", "dev_dia0_utt1", "dev_dia1_utt0"]
    first = rows["dev_dia0_utt0"]
    assert EMOTIONS[first.targets["emotion"]] == "sadness"
    assert first.facts["speaker"] == "Phoebe"
    assert first.facts["seconds"] == pytest.approx(2.793)
    assert data.read(first.id, "text").words == ("Oh", "my", "God,", "he’s", "lost", "it.")
