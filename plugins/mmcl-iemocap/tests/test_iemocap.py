"""IEMOCAP's turns: names, classes, splits, words with and without times, and files that are not as they should be."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
from mmcl_iemocap import FOUR, IEMOCAP, SIX, IemocapParams

from mmcl.api import DataError
from mmcl.testing import check_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iemocap")
    IEMOCAP.sample(folder, 80, 0)
    return folder


def dataset(root, **options):
    return IEMOCAP.build(IemocapParams(**options), root)


@pytest.mark.parametrize("options", [{}, {"group": "speaker", "undecided": "keep"}], ids=str)
def test_the_toolkits_own_checks_pass(options, tmp_path):
    check_dataset(IEMOCAP, tmp_path, IemocapParams(**options))


def test_session_5_is_left_out_and_no_session_stands_on_both_sides(root):
    samples = dataset(root).samples()
    assert {s.facts["session"] for s in samples if s.split == "test"} == {5}
    assert {s.group for s in samples} == {f"session-{i}" for i in range(1, 6)}
    speakers = {s.group for s in dataset(root, group="speaker").samples()}
    assert speakers == {f"Ses0{i}{sex}" for i in range(1, 6) for sex in "FM"}


def test_classes_follow_the_codes_of_the_evaluation_files(root):
    wanted = {}
    for path in root.rglob("EmoEvaluation/Ses*.txt"):
        for line in path.read_text().splitlines():
            if line.startswith("["):
                _, turn, code, vad = line.split("\t")
                wanted[turn] = code, [float(v) for v in vad.strip("[]").split(",")]
    samples = {s.id: s for s in dataset(root).samples()}
    assert set(samples) == {turn for turn, (code, _) in wanted.items() if code not in ("xxx", "oth")}
    names = {"neu": "neutral", "hap": "happy", "sad": "sad", "ang": "angry", "exc": "excited", "fru": "frustrated"}
    for turn, sample in samples.items():
        name = names[wanted[turn][0]]
        assert sample.targets["vad"] == pytest.approx(wanted[turn][1])
        assert sample.targets["emotion-6"] == SIX.index(name)
        assert sample.targets.get("emotion-4-strict") == (FOUR.index(name) if name in FOUR else None)
        assert sample.targets.get("emotion-4") == {"excited": 1, "frustrated": None}.get(
            name, FOUR.index(name) if name in FOUR else None
        )
        assert sample.targets.get("emotions") == ([int(name == one) for one in FOUR] if name in FOUR else None)
    kept = dataset(root, undecided="keep").samples()
    assert {s.id for s in kept} == set(wanted)
    assert set(next(s for s in kept if wanted[s.id][0] == "xxx").targets) == {"vad"}


def test_words_have_times_where_they_were_aligned_and_only_there(root):
    made = dataset(root)
    aligned = next(s for s in made.samples() if s.sources.get("words", "").endswith(".wdseg"))
    got = made.read(aligned.id, "words")
    rows = [line.split() for line in (root / aligned.sources["words"]).read_text().splitlines()]
    spoken = [
        (row[3].split("(")[0], int(row[0]), int(row[1]))
        for row in rows
        if len(row) == 4 and row[0].isdigit() and not row[3].startswith("<")
    ]
    assert got.words == tuple(word for word, _, _ in spoken)
    np.testing.assert_allclose(got.times, [(a / 100, (b + 1) / 100) for _, a, b in spoken])
    plain = next(s for s in made.samples() if s.sources.get("words", "").endswith(".txt"))
    assert made.read(plain.id, "words").times is None
    assert len(made.read(plain.id, "words").words) > 2
    audio = made.read(plain.id, "audio")
    assert len(audio.samples) == soundfile.info(root / plain.sources["audio"]).frames


def test_what_is_odd_is_counted(root):
    made = dataset(root)
    made.samples()
    counts = made.counts()
    assert counts["turns without a wav"] == sum("audio" not in s.sources for s in dataset(root).samples()) > 0
    assert counts["lines of transcriptions without a turn"] == 2 * 10
    assert counts["turns that begin before the other's ends"] == 10
    assert counts["turns on whose emotion nobody agreed, or of another one"] > 10


def test_damaged_files_give_one_sentence(root, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(root, bad)
    path = bad / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    whole = path.read_text()
    path.write_text(whole.replace("\tneu\t", " neu "))
    with pytest.raises(DataError, match=r"Ses01F_impro01.txt:\d+: '\[.*' is no turn"):
        dataset(bad).samples()
    path.write_text(whole.replace("Ses01F_impro01_F000", "Ses02F_impro01_F000"))
    with pytest.raises(DataError, match="is no turn of session 1"):
        dataset(bad).samples()
    path.write_text(whole)
    made = dataset(bad)
    turn = next(s for s in made.samples() if s.sources.get("words", "").endswith(".wdseg"))
    (bad / turn.sources["words"]).write_text("nothing\n")
    with pytest.raises(DataError, match="holds no word"):
        made.read(turn.id, "words")
    (bad / turn.sources["audio"]).write_bytes(b"RIFF")
    with pytest.raises(DataError, match=turn.id):
        made.read(turn.id, "audio")
    with pytest.raises(DataError, match="has no Session1"):
        dataset(tmp_path).samples()
