"""IEMOCAP's turns: names, classes, splits, words with and without times, films cut to the speaker, and files that are not as they should be."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict

import numpy as np
import pytest
import soundfile
from mmcl_iemocap import FOUR, IEMOCAP, SIX, IemocapParams

from mmcl.testing import check_dataset
from mmcl.testing.corpora import calls_of, expect_refusal, expect_seeded, tiny_copies, write_pictures

CODED = {
    "neu": "neutral",
    "hap": "happy",
    "sad": "sad",
    "ang": "angry",
    "exc": "excited",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgusted",
}


root, spoilt = tiny_copies(IEMOCAP, 80)


def dataset(root, **options):
    return IEMOCAP.build(IemocapParams(**options), root)


def written(root):
    """Turn → start, end, code, VAD of every summary line, read in the plainest way."""
    turns = {}
    for path in sorted(root.rglob("EmoEvaluation/Ses*.txt")):
        for line in path.read_text().splitlines():
            if line.startswith("["):
                times, turn, code, vad = line.split("\t")
                start, end = times.strip("[]").split(" - ")
                turns[turn] = float(start), float(end), code, [float(v) for v in vad.strip("[]").split(",")]
    return turns


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group": "speaker", "undecided": "keep", "words": "transcribed", "side": "whole", "video_size": (32, 48)},
        {"films": "none"},
    ],
    ids=["default", "speaker", "no-films"],
)
def test_the_toolkits_own_checks_pass(options, tmp_path):
    check_dataset(IEMOCAP, tmp_path, IemocapParams(**options))


def test_session_5_is_left_out_and_no_session_stands_on_both_sides(root):
    samples = dataset(root).samples()
    assert {s.facts["session"] for s in samples if s.split == "test"} == {5}
    assert {s.facts["session"] for s in samples if s.split == "train"} == {1, 2, 3, 4}
    assert {s.group for s in samples} == {f"session-{i}" for i in range(1, 6)}
    speakers = {s.group for s in dataset(root, group="speaker").samples()}
    assert speakers == {f"Ses0{i}{sex}" for i in range(1, 6) for sex in "FM"}


def test_the_speaker_is_the_last_letter_and_not_the_dialogues(root):
    for s in dataset(root).samples():
        assert s.facts["speaker"] == s.id[:5] + s.id[-4]
        assert s.facts["dialogue"] == s.id[:-5]
        assert s.facts["played"] == ("script" if "script" in s.id else "improvised")
    assert any(s.id[5] != s.id[-4] for s in dataset(root).samples())


def test_classes_follow_the_codes_of_the_evaluation_files(root):
    wanted = {turn: one for turn, one in written(root).items() if one[1] > one[0]}
    samples = {s.id: s for s in dataset(root).samples()}
    assert set(samples) == {turn for turn, (_, _, code, _) in wanted.items() if code in CODED}
    for turn, sample in samples.items():
        start, end, code, vad = wanted[turn]
        name = CODED[code]
        assert sample.targets["vad"] == pytest.approx(vad)
        assert sample.facts["seconds"] == pytest.approx(end - start, abs=0.001)
        assert sample.targets.get("emotion-6") == (SIX.index(name) if name in SIX else None)
        assert sample.targets.get("emotion-4-strict") == (FOUR.index(name) if name in FOUR else None)
        assert sample.targets.get("emotion-4") == (
            FOUR.index("happy") if code in ("hap", "exc") else FOUR.index(name) if name in FOUR else None
        )
        assert sample.targets.get("emotions") == ([int(name == one) for one in FOUR] if name in FOUR else None)
    kept = dataset(root, undecided="keep").samples()
    assert {s.id for s in kept} == set(wanted)
    assert set(next(s for s in kept if wanted[s.id][2] == "xxx").targets) == {"vad"}


def test_the_four_classes_of_the_text_have_excited_and_no_neutral(root):
    four = ("happy", "sad", "angry", "excited")
    params = IemocapParams(strict="excited")
    tasks = IEMOCAP.info(params).tasks
    assert tasks["emotions"].classes == tasks["emotion-4-strict"].classes == four
    codes = {turn: one[2] for turn, one in written(root).items()}
    for sample in dataset(root, strict="excited").samples():
        name = CODED[codes[sample.id]]
        assert sample.targets.get("emotions") == ([int(name == one) for one in four] if name in four else None)
        assert sample.targets.get("emotion-4-strict") == (four.index(name) if name in four else None)


def test_every_class_of_every_task_is_in_both_splits_of_the_tiny_copy(root):
    samples = dataset(root).samples()
    for task in ("emotion-4", "emotion-4-strict", "emotion-6"):
        for split in ("train", "test"):
            classes = {s.targets[task] for s in samples if s.split == split and task in s.targets}
            assert classes == set(range(len(IEMOCAP.info(IemocapParams()).tasks[task].classes)))


def test_turns_stand_in_the_order_of_time_whatever_the_order_of_the_lines(spoilt):
    before = [s.id for s in dataset(spoilt).samples()]
    path = spoilt / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    blocks = path.read_text().split("\n\n")
    path.write_text("\n\n".join([blocks[0], *reversed([b for b in blocks[1:] if b.strip()])]) + "\n")
    assert [s.id for s in dataset(spoilt).samples()] == before


def test_words_have_times_where_they_were_aligned_and_only_there(root):
    corpus = dataset(root)
    aligned = next(s for s in corpus.samples() if s.sources.get("words", "").endswith(".wdseg"))
    got = corpus.read(aligned.id, "words")
    rows = [line.split() for line in (root / aligned.sources["words"]).read_text().splitlines()]
    spoken = [
        (row[3].split("(")[0].lower(), int(row[0]), int(row[1]))
        for row in rows
        if len(row) == 4 and row[0].isdigit() and row[3][0] not in "<+"
    ]
    assert any("++" in row[-1] for row in rows)
    assert any("(2)" in row[-1] for row in rows)
    assert got.words == tuple(word for word, _, _ in spoken)
    np.testing.assert_allclose(got.times, [(a / 100, (b + 1) / 100) for _, a, b in spoken])
    plain = next(s for s in corpus.samples() if s.sources.get("words", "").endswith(".txt"))
    line = next(
        line for line in (root / plain.sources["words"]).read_bytes().splitlines() if line.startswith(plain.id.encode())
    )
    assert corpus.read(plain.id, "words").words == tuple(line.decode().split("]: ")[1].split())
    assert corpus.read(plain.id, "words").times is None


def test_transcribed_words_keep_their_marks_and_have_no_times(root):
    corpus = dataset(root, words="transcribed")
    assert all(s.sources["words"].endswith(".txt") for s in corpus.samples() if "words" in s.sources)
    aligned = next(s.id for s in dataset(root).samples() if s.sources.get("words", "").endswith(".wdseg"))
    got = corpus.read(aligned, "words")
    assert got.times is None
    assert got.words[-1].endswith(".")
    assert "with times" not in IEMOCAP.info(IemocapParams(words="transcribed")).sources["words"].summary


def test_sound_is_the_turns_own_wav_at_the_published_rate(spoilt):
    corpus = dataset(spoilt)
    s = next(s for s in corpus.samples() if "audio" in s.sources)
    path = spoilt / s.sources["audio"]
    wave, rate = soundfile.read(path, dtype="float32")
    got = corpus.read(s.id, "audio")
    assert path.stem == s.id
    assert got.rate == rate == 16000
    np.testing.assert_array_equal(got.samples, wave)
    soundfile.write(path, wave, 8000)
    expect_refusal(lambda: corpus.read(s.id, "audio"), path.name, "8,000", "16,000")


def test_a_film_is_cut_to_the_turn_and_to_the_half_of_who_speaks(root):
    times = written(root)
    corpus, other, both = (
        dataset(root, side=side, video_size=size)
        for side, size in (("markers-left", (32, 24)), ("markers-right", (32, 24)), ("whole", (32, 48)))
    )
    overlaps = set(corpus.defects().overlaps)
    dark = 0
    for s in corpus.samples():
        if s.facts["dialogue"] not in ("Ses01F_impro01", "Ses05M_script01_1b") or s.id in overlaps:
            continue
        start, end = times[s.id][:2]
        got, beside, whole = (one.read(s.id, "video") for one in (corpus, other, both))
        assert got.rate == pytest.approx(30000 / 1001)
        assert len(got.frames) == round(end * got.rate) - round(start * got.rate)
        assert got.frames.shape[1:] == (3, 32, 24)
        assert whole.frames.shape[1:] == (3, 32, 48)
        inner = slice(4, -4)  # away from the edge between the halves, which compression blurs
        # The tiny films are bright (above 100) where and while somebody speaks and dark (40) elsewhere.
        assert got.frames[..., inner].min() > 90
        if beside.frames[..., inner].max() < 60:
            dark += 1
        order = (got, beside) if s.id[5] == s.id[-4] else (beside, got)
        np.testing.assert_allclose(
            np.concatenate([one.frames for one in order], axis=3).astype(int), whole.frames.astype(int), atol=1
        )
    assert dark > 4


def test_a_turn_is_its_own_part_of_the_film(root, monkeypatch):
    import mmcl_iemocap.turns as module

    read_film, calls = module.read_film, calls_of(monkeypatch, module, "read_film")
    corpus, times = dataset(root, side="whole", video_size=(24, 32)), written(root)
    turns = [s for s in corpus.samples() if s.facts["session"] == 1 and "video" in s.sources]
    assert len(turns) > 6
    for s in turns:
        start, end = times[s.id][:2]
        got = corpus.read(s.id, "video")
        whole = read_film(root / s.sources["video"], (24, 32), 25.0)
        np.testing.assert_array_equal(got.frames, whole.frames[round(start * whole.rate) : round(end * whole.rate)])
    assert [call[3:] for call in calls] == [times[s.id][:2] for s in turns]


def test_a_film_that_ends_too_early_is_refused_and_a_moment_is_forgiven(spoilt):
    corpus = dataset(spoilt, picture_rate=100, video_size=(8, 8))
    s = next(s for s in corpus.samples() if s.facts["dialogue"] == "Ses01F_impro01")
    start, end = written(spoilt)[s.id][:2]
    folder = spoilt / "Session1/dialog/avi/DivX/Ses01F_impro01"
    long = round(end * 100)
    write_pictures(folder, np.zeros((long - 2, 8, 8, 3)), "{:05d}.png")
    corpus = dataset(spoilt, picture_rate=100, video_size=(8, 8))
    assert len(corpus.read(s.id, "video").frames) == long - 2 - round(start * 100)
    for i in range(long - 2 - round(0.2 * (end - start) * 100), long - 2):
        (folder / f"{i:05d}.png").unlink()
    expect_refusal(lambda: corpus.read(s.id, "video"), s.facts["dialogue"], f"turn '{s.id}'", "ends after")


def test_a_folder_of_pictures_goes_before_the_film(spoilt, monkeypatch):
    folder = spoilt / "Session1/dialog/avi/DivX/Ses01F_impro01"
    shutil.rmtree(folder, ignore_errors=True)
    write_pictures(folder, (np.full((32, 48, 3), i) for i in range(250)), "{:04d}.png")
    monkeypatch.setitem(sys.modules, "av", None)
    corpus = dataset(spoilt, picture_rate=25, video_size=(8, 8))
    s = next(s for s in corpus.samples() if s.facts["dialogue"] == "Ses01F_impro01")
    start, end = written(spoilt)[s.id][:2]
    got = corpus.read(s.id, "video")
    assert got.rate == 25
    assert got.frames[:, 0, 0, 0].tolist() == list(range(round(start * 25), round(end * 25)))


def test_an_avi_without_pyav_names_what_to_install(spoilt, monkeypatch):
    folder = spoilt / "Session1/dialog/avi/DivX"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "Ses01F_impro01.avi").write_bytes(b"RIFF film")
    monkeypatch.setitem(sys.modules, "av", None)
    corpus = dataset(spoilt)
    s = next(s for s in corpus.samples() if "video" in s.sources)
    expect_refusal(lambda: corpus.read(s.id, "video"), "Ses01F_impro01.avi", "pip install 'mmcl[video]'")


def test_without_films_none_is_offered_or_missed(root):
    assert "video" not in IEMOCAP.info(IemocapParams(films="none")).sources
    corpus = dataset(root, films="none")
    assert all("video" not in s.sources for s in corpus.samples())
    assert corpus.defects().no_film == []


def test_values_beyond_the_scale_are_kept_as_published_and_counted(root):
    beyond = [turn for turn, one in written(root).items() if one[1] > one[0] and not 1 <= min(one[3]) <= max(one[3]) <= 5]
    corpus = dataset(root)
    assert corpus.counts()["turns with a value beyond 1 to 5, kept as published"] == len(beyond) > 0
    assert corpus.defects().beyond == beyond


def test_what_is_odd_is_listed_and_counted(root):
    corpus = dataset(root)
    samples, defects, wanted = {s.id: s for s in corpus.samples()}, corpus.defects(), written(root)
    assert set(defects.undecided) == {turn for turn, one in wanted.items() if one[2] in ("xxx", "oth")}
    assert defects.no_length == [turn for turn, one in wanted.items() if one[1] <= one[0]] == ["Ses03F_impro01_F008"]
    assert defects.no_audio == [turn for turn, s in samples.items() if not list(root.rglob(f"{turn}.wav"))] != []
    assert defects.no_words == [turn for turn, s in samples.items() if "words" not in s.sources] != []
    assert defects.no_film == [turn for turn in samples if turn.startswith("Ses02M_script01_1")] != []
    slow = [
        turn
        for turn, one in wanted.items()
        if one[1] > one[0] and any(o[0] < one[0] < o[1] and t[:-5] == turn[:-5] for t, o in wanted.items() if t != turn)
    ]
    assert sorted(defects.overlaps) == sorted(slow)
    assert len(slow) == 10
    hidden = {path.relative_to(root).as_posix() for path in root.rglob("._*")}
    assert set(defects.hidden) == hidden
    assert len(hidden) == 6
    lines = set()
    for path in root.rglob("transcriptions/*.txt"):
        for number, line in enumerate(path.read_bytes().decode("latin-1").split("\n"), 1):
            if line.strip() and not (line.startswith("Ses") and "_XX" not in line):
                lines.add(f"{path.relative_to(root).as_posix()}:{number}")
    assert set(defects.lines) == lines
    assert defects.sessions == []
    unreadable = sum(path.read_bytes().count(b"\xe9") for path in root.rglob("transcriptions/*.txt"))
    assert corpus.counts()["characters that cannot be decoded"] == unreadable > 0
    assert sorted(corpus.counts().values()) == sorted([unreadable, *(len(one) for one in asdict(defects).values())])
    assert corpus.counts()["turns without a film"] == len(defects.no_film)


def test_a_session_that_is_not_there_is_counted_and_the_others_are_read(spoilt):
    everything = [s for s in dataset(spoilt).samples() if s.facts["session"] != 3]
    shutil.rmtree(spoilt / "Session3")
    corpus = dataset(spoilt)
    assert list(corpus.samples()) == everything
    assert corpus.defects().sessions == ["Session3"]


def test_the_release_folder_may_stand_in_between(root, tmp_path):
    (tmp_path / "IEMOCAP_full_release").symlink_to(root, target_is_directory=True)
    corpus = dataset(tmp_path)
    assert [s.id for s in corpus.samples()] == [s.id for s in dataset(root).samples()]
    s = next(s for s in corpus.samples() if "audio" in s.sources)
    assert s.sources["audio"].startswith("IEMOCAP_full_release/Session1/")
    assert len(corpus.read(s.id, "audio").samples) > 1000


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\tneu\t", " neu ", ["Ses01F_impro01.txt:", "is no turn; [start - end]"]),
        ("Ses01F_impro01_F000", "Ses02F_impro01_F000", ["is no turn of session 1, dialogue Ses01F_impro01"]),
        ("Ses01F_impro01_F000", "Ses01F_impro02_F000", ["is no turn of session 1, dialogue Ses01F_impro01"]),
        ("Ses01F_impro01_F002", "Ses01F_impro01_F000", ["'Ses01F_impro01_F000' stands in line 3 already"]),
        ("\tneu\t", "\tbored\t", ["the emotion 'bored' is none of neu, hap"]),
        ("[0.5000 - ", "[0.5.00 - ", ["Ses01F_impro01.txt:3", "is no turn"]),
    ],
)
def test_a_summary_line_that_cannot_be_right_is_refused_by_file_and_line(spoilt, old, new, words):
    path = spoilt / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    expect_refusal(lambda: dataset(spoilt).samples(), *words)


def test_other_damaged_files_give_one_sentence(spoilt, tmp_path):
    corpus = dataset(spoilt)
    turn = next(s for s in corpus.samples() if s.sources.get("words", "").endswith(".wdseg"))
    alignment = spoilt / turn.sources["words"]
    alignment.write_text("nothing\n")
    expect_refusal(lambda: corpus.read(turn.id, "words"), alignment.name, "holds no word")
    alignment.write_text("\t    9     3      -1000 WORD\n")
    expect_refusal(lambda: corpus.read(turn.id, "words"), f"{alignment.name}:1", "'WORD' ends in frame 3, before frame 9")
    (spoilt / turn.sources["audio"]).write_bytes(b"RIFF")
    expect_refusal(lambda: corpus.read(turn.id, "audio"), turn.id)
    expect_refusal(lambda: corpus.read("Ses09F_impro01_F000", "audio"), "is not there")
    silent = next(s.id for s in corpus.samples() if "audio" not in s.sources)
    expect_refusal(lambda: corpus.read(silent, "audio"), silent, "has no audio")
    (spoilt / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt").write_text("")
    expect_refusal(lambda: dataset(spoilt).samples(), "Ses02F_impro01.txt", "holds no turn")
    (spoilt / "Session1/dialog/transcriptions/Ses01F_impro01.txt").write_text("M: hello\n")
    expect_refusal(lambda: dataset(spoilt).samples(), "transcriptions/Ses01F_impro01.txt", "holds nothing that a turn says")
    expect_refusal(lambda: dataset(tmp_path / "nowhere").samples(), "is not there", "https://sail.usc.edu/iemocap/")
    (tmp_path / "empty").mkdir()
    expect_refusal(lambda: dataset(tmp_path / "empty").samples(), "has no Session1")


def test_the_same_seed_writes_the_same_files_and_another_seed_others(root, tmp_path):
    differs = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    expect_seeded(IEMOCAP, root, 80, tmp_path, differs)


def test_the_lines_that_tutorials_quote_are_read(tmp_path):
    """The head of Ses01F_impro01's evaluation and transcription, as tutorials and loaders print it; what is said is shortened."""
    base = tmp_path / "Session1"
    evaluation = [
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
        "",
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]",
        "C-E2:\tNeutral;\t()",
        "C-E3:\tNeutral;\t()",
        "C-E4:\tNeutral;\t()",
        "C-F1:\tNeutral;\t(curious)",
        "A-E3:\tval 3; act 2; dom  2;\t()",
        "A-E4:\tval 2; act 3; dom  3;\t(mad)",
        "A-F1:\tval 3; act 2; dom  1;\t()",
        "",
        "[10.0100 - 11.3925]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]",
        "C-E2:\tNeutral;\t()",
    ]
    texts = ["Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.", "Ses01F_impro01_M000 [007.5712-010.4750]: Do you?"]
    for folder, lines in (("EmoEvaluation", evaluation), ("transcriptions", texts)):
        path = base / "dialog" / folder / "Ses01F_impro01.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines) + "\n")
    wav = base / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav"
    wav.parent.mkdir(parents=True)
    soundfile.write(wav, np.zeros(31_129), 16_000)
    data = dataset(tmp_path, films="none")
    (turn,) = data.samples()
    assert (turn.id, turn.group, turn.split) == ("Ses01F_impro01_F000", "session-1", "train")
    assert turn.targets["emotion-4"] == FOUR.index("neutral")
    assert turn.targets["vad"] == [2.5, 2.5, 2.5]
    assert turn.facts["seconds"] == pytest.approx(1.946, abs=1e-3)
    assert data.read(turn.id, "words").words == ("Excuse", "me.")
