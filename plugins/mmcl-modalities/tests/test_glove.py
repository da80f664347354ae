"""GloVe's text files: lines from the right, words with blanks, gaps counted, a cache that follows the file; and face-clip, torch's log-mel."""

from __future__ import annotations

import numpy as np
import pytest
from mmcl_modalities import MODALITIES
from mmcl_modalities.audio_torch import TorchLogMel
from mmcl_modalities.video import middle

from mmcl.api import Audio, DataError, Source, Video, Words
from mmcl.testing import check_modality

SPECS = {spec.name: spec for spec in MODALITIES}
WORDS = Source("words", "words")
LINES = {
    "the": [1, 2, 3],
    "Apple": [4, 5, 6],
    "apple": [-4, -5, -6],
    "at name@domain.com": [7, 8, 9],
    ". . .": [0.5, 0.25, -1e-3],
    "film": [1e2, 0, 0],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))


def write(path, lines=LINES, head="", tail=""):
    body = "".join(f"{word} {' '.join(map(str, values))}\n" for word, values in lines.items())
    path.write_text(head + body + tail, encoding="utf-8", newline="\n")
    return path


def make(path, **options):
    spec = SPECS["glove"]
    params = spec.params(**{"file": str(path), "dim": 3, **options})
    assert spec.layout(params, WORDS).sizes == {"channel": 3}
    return spec.build(params, WORDS)


def test_every_word_of_the_file_has_its_numbers_even_one_with_blanks(tmp_path):
    glove = make(write(tmp_path / "glove.3d.txt"))
    for word, values in LINES.items():
        got = glove.extract(Words((word,), np.array([[0.0, 1.0]])))
        np.testing.assert_allclose(got.values, [values], rtol=1e-6)
    assert glove.counts()["words"] == len(LINES)
    assert glove.counts().get("words that are not in the vocabulary", 0) == 0


def test_capitals_count_where_the_file_knows_them_and_punctuation_around_a_word_does_not(tmp_path):
    glove = make(write(tmp_path / "glove.3d.txt"))
    got = glove.extract(Words(("Apple", "APPLE,", "The", "“film”"))).values
    np.testing.assert_allclose(got, [LINES["Apple"], LINES["apple"], LINES["the"], LINES["film"]])


@pytest.mark.parametrize(("unknown", "wanted"), [("zero", [0, 0, 0]), ("mean", None), ("skip", "left out")])
def test_words_that_the_file_lacks_are_counted(tmp_path, unknown, wanted):
    glove = make(write(tmp_path / "glove.3d.txt"), unknown=unknown)
    times = np.array([[0, 1], [1, 2], [2, 3]], float)
    got = glove.extract(Words(("the", "xyzzy", "film"), times))
    assert glove.counts() == {"words": 3, "words that are not in the vocabulary": 1}
    if wanted == "left out":
        np.testing.assert_array_equal(got.times, times[[0, 2]])
        with pytest.raises(DataError, match="none of its 2 words is in"):
            glove.extract(Words(("xyzzy", "plugh")))
    else:
        mean = np.mean(list(LINES.values()), axis=0)
        np.testing.assert_allclose(got.values[1], mean if wanted is None else wanted, rtol=1e-5)


def test_a_heading_is_passed_over_and_of_a_word_given_twice_the_first_counts(tmp_path):
    path = write(tmp_path / "w2v.txt", head="6 3\n", tail="the 9 9 9\n")
    np.testing.assert_allclose(make(path).extract(Words(("the",))).values, [LINES["the"]])


@pytest.mark.parametrize("how", ["blank at the end", "mark", "windows", "utf-16", "tabs", "heading and blank"])
def test_files_of_vectors_as_other_tools_write_them(tmp_path, how):
    """fastText ends each line with a blank; editors put a mark before the first word."""
    plain = make(write(tmp_path / "plain.txt")).extract(Words(("the", "at name@domain.com", "film"))).values
    path = write(tmp_path / "a.vec", head="6 3 \n" if how == "heading and blank" else "")
    text = path.read_text(encoding="utf-8")
    if "blank" in how:
        text = text.replace("\n", " \n")
    if how == "windows":
        text = text.replace("\n", "\r\n")
    if how == "tabs":
        text = "".join("\t".join(line.rsplit(" ", 3)) + "\n" for line in text.splitlines())
    path.write_bytes(text.encode({"mark": "utf-8-sig", "utf-16": "utf-16"}.get(how, "utf-8")))
    modality = make(path)
    np.testing.assert_array_equal(modality.extract(Words(("the", "at name@domain.com", "film"))).values, plain)
    assert not modality.counts().get("words that are not in the vocabulary")


def test_a_changed_file_is_read_anew_and_an_unchanged_one_is_not(tmp_path):
    path = write(tmp_path / "glove.3d.txt")
    make(path).extract(Words(("the",)))
    folders = sorted((tmp_path / "cache").iterdir())
    assert len(folders) == 1
    before = folders[0].stat().st_mtime_ns
    make(path).extract(Words(("the",)))
    assert folders[0].stat().st_mtime_ns == before
    write(path, {**LINES, "the": [3, 2, 1]}, tail="new 1 1 1\n")
    np.testing.assert_allclose(make(path).extract(Words(("the",))).values, [[3, 2, 1]])


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("short 1 2\n", r"glove.3d.txt:7: has 2 numbers after the word; 3 were expected"),
        ("bad 1 two 3\n", r"glove.3d.txt:7: 'two' is no number, after the word 'bad'"),
        ("inf 1 inf 3\n", r"glove.3d.txt:7: the word 'inf' has a value that is not finite"),
    ],
)
def test_a_broken_line_is_named_and_leaves_no_cache(tmp_path, tail, words):
    path = write(tmp_path / "glove.3d.txt", tail=tail)
    with pytest.raises(DataError, match=words):
        make(path).extract(Words(("the",)))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match="is not there.*nlp.stanford.edu"):
        make(tmp_path / "none.txt").extract(Words(("the",)))
    with pytest.raises(ValueError, match="set file: to the path"):
        SPECS["glove"].layout(SPECS["glove"].params(), WORDS)


def test_the_toolkits_own_checks_pass_with_a_file(tmp_path):
    spec = SPECS["glove"]
    check_modality(spec, params=spec.params(file=str(write(tmp_path / "glove.3d.txt")), dim=3))


# ------------------------------------------------------------------------------------------------------------- face-clip


def test_a_clip_has_the_wanted_size_rate_and_proportions():
    source = Source("video", "a video", 30.0, {"shape": [3, 40, 60]})
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (30, 3, 40, 60), dtype=np.uint8)
    spec = SPECS["face-clip"]
    assert spec.layout(spec.params(), source).sizes == {"channel": 3, "height": 112, "width": 112}
    squeezed = spec.build(spec.params(size=(20, 20)), source).extract(Video(frames, 30.0))
    assert squeezed.shape == (8, 3, 20, 20)
    whole = spec.build(spec.params(size=(20, 20), keep_proportions=True), source).extract(Video(frames, 30.0))
    np.testing.assert_array_equal(middle(frames, 20, 20), frames[:, :, :, 10:50])
    wanted = np.rint(frames[0, :, :, 10:50].reshape(3, 20, 2, 20, 2).mean((2, 4)))
    assert np.abs(whole[0].astype(float) - wanted).max() <= 1
    assert not np.array_equal(whole, squeezed)


# ------------------------------------------------------------------------------------------------------ torch's log-mel


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sample_rate": 22_050, "window": 2048 / 22_050, "hop": 735 / 22_050, "bands": 128},  # MPUC-MER's
        {"bands": 40, "reference": "absolute", "mean": "subtract", "fmin": 50.0, "fmax": 7000.0},
    ],
    ids=["default", "mpuc", "other"],
)
def test_torchs_twin_agrees_to_a_thousandth_of_a_decibel_alone_and_in_a_batch(options):
    spec = SPECS["log-mel"]
    source = Source("audio", "sound", 16_000.0)
    plain = spec.build(spec.params(**options), source)
    twin = spec.build(spec.params(**options, engine="torch"), source)
    assert isinstance(twin, TorchLogMel)
    rng = np.random.default_rng(0)
    clock = np.arange(30_000) / 16_000
    tone = 0.9 * np.sin(2 * np.pi * 220 * clock) + 1e-5 * rng.standard_normal(len(clock))
    recordings = [
        Audio(x.astype(np.float32), 16_000) for x in (tone, 0.1 * rng.standard_normal(9_001), tone[:500], np.zeros(4000))
    ]
    together = twin.batch(recordings)
    for one, got in zip(recordings, together, strict=True):
        wanted = plain.extract(one)
        np.testing.assert_allclose(got, wanted, atol=1e-3)
        np.testing.assert_allclose(twin.extract(one), wanted, atol=1e-3)
