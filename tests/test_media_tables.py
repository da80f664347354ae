"""Tables of recordings, transcripts, arrays and heads of files: read whole, or refused in a sentence that names the file."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.io import savemat

from mmcl.api import Audio
from mmcl.media import (
    array_shape,
    film_header,
    folder_header,
    has_sound,
    read_array,
    read_listing,
    read_sound,
    read_table,
    read_words,
    sound_header,
    to_number,
    write_audio,
    write_film,
)
from mmcl.testing.corpora import expect_refusal, write_pictures


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0),
        ("01", 1.0),
        ("-0.5", -0.5),
        ("0,5", 0.5),
        (".5", 0.5),
        ("1e-3", 1e-3),
        *((text, None) for text in ("", "nan", "inf", "1e999", "1_000", "1,2,3", "a")),
    ],
)
def test_numbers_of_cells(text, number):
    assert to_number(text) == number


def test_quotes_keep_delimiters_and_line_breaks_become_blanks(tmp_path):
    listing = read_listing(write(tmp_path / "t.csv", 'id,"a;b",text\n1,"x, y","two\nlines"\n\n2,,\n'))
    assert listing.columns == ("id", "a;b", "text")
    assert listing.rows == ({"id": "1", "a;b": "x, y", "text": "two lines"}, {"id": "2", "a;b": "", "text": ""})
    assert [listing.place(row).rpartition(":")[2] for row in (0, 1)] == ["3", "5"]


def test_json_lines_may_lack_keys_and_hold_lists_numbers_and_truth(tmp_path):
    text = '{"id": 1, "tags": ["a", "b"], "v": 0.5, "is": true}\n\n{"id": 2, "v": null}\n'
    listing = read_listing(write(tmp_path / "t.jsonl", text))
    assert listing.rows == ({"id": "1", "tags": "a;b", "v": "0.5", "is": "1"}, {"id": "2", "tags": "", "v": "", "is": ""})
    assert listing.lines == (1, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"a,b\n", "no rows"),
        ("t.csv", "a,ö\n1,2\n".encode("latin-1"), "save it again as UTF-8"),
        ("t.csv", b"a\0b\n", "is not text"),
        ("t.csv", b"a,a\n1,2\n", "'a' is named twice"),
        ("t.csv", b"a,,b\n1,2,3\n", "column 2 has no name"),
        ("t.csv", b"a,b\n1\n", "t.csv:2: has 1 cells"),
        ("t.csv", b"a,b\n1," + b"x" * 200_000 + b"\n", "cannot be read as CSV"),
        ("t.jsonl", b'{"a": 1}\n{"a"\n', "t.jsonl:2: is no JSON"),
        ("t.jsonl", b"[1]\n", "an object such as"),
    ],
)
def test_damaged_table_is_refused(tmp_path, name, content, words):
    expect_refusal(lambda: read_listing(write(tmp_path / name, content)), name, words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.txt", b" \n", "holds no words"),
        ("t.srt", b"no cue", "holds no words"),
        ("t.json", b"{", "damaged or cut short"),
        ("t.json", b'{"text": "a"}', "a list of words"),
        ("t.json", b'[{"word": "a", "start": 1}]', "word 1: needs word, start and end"),
        ("t.csv", b"word,start,end\na,2,1\n", "lasts from 2 to 1 s"),
        ("t.csv", b"word,begin,end\na,2,1\n", "t.csv:2: needs word, start and end"),
        ("t.doc", b"a", "a transcript ends in"),
    ],
)
def test_damaged_transcript_is_refused(tmp_path, name, content, words):
    expect_refusal(lambda: read_words(write(tmp_path / name, content)), name, words)


def test_a_cue_without_words_swallows_none_of_the_next(tmp_path):
    text = "1\n00:00:00,000 --> 00:00:01,000\n\n2\n00:00:03,000 --> 00:00:04,000\nso it was\n"
    assert read_words(write(tmp_path / "t.srt", text)).words == ("so", "it", "was")


def test_half_a_character_is_refused_wherever_it_stands(tmp_path):
    path = tmp_path / "recordings.jsonl"
    for line in (r'{"id": "\udcff"}', r'{"id\ud800": "a"}', r'{"tags": ["calm", ["\udcff"]]}'):
        path.write_text('{"id": "a"}\n' + line)
        expect_refusal(lambda: read_listing(path), f"{path.name}:2", "half of a character")


def test_signs_that_end_lines_elsewhere_end_none_in_json_lines(tmp_path):
    listing = read_listing(write(tmp_path / "a.jsonl", '{"id": "a\u2028b"}\n{"id": "c"}\n'))
    assert listing.lines == (1, 2)


@pytest.mark.parametrize(("name", "read"), [("t.json", read_words), ("t.jsonl", read_listing)])
def test_json_that_is_nested_without_end_is_one_sentence(tmp_path, name, read):
    expect_refusal(lambda: read(write(tmp_path / name, "[" * 100_000)), name)


def test_cells_of_a_tsv_are_parted_by_tabs(tmp_path):
    table = read_table(write(tmp_path / "t.tsv", "timestamp\tx\n0.0\t1\n0.5\t2\n"))
    assert (table.columns, table.rate, table.values.tolist()) == (("timestamp", "x"), 2.0, [[0.0, 1.0], [0.5, 2.0]])
    expect_refusal(lambda: read_table(write(tmp_path / "u.tsv", "a\tb\n1\tx\n")), "u.tsv", "line 2, column 'b'")


def test_hours_of_a_subtitle_count(tmp_path):
    words = read_words(write(tmp_path / "t.srt", "1\n01:02:03,5 --> 01:02:04,500\na b\n"))
    np.testing.assert_allclose(words.times, [[3723.5, 3724.0], [3724.0, 3724.5]])


VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
WRITERS = {
    "npy": lambda path, x: np.save(path, x),
    "npz": lambda path, x: np.savez(path, x=x),
    "mat": lambda path, x: savemat(path, {"x": x}),
    "safetensors": lambda path, x: save_file({"x": x}, path),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_arrays_come_back_whole_with_their_shape_or_are_refused(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    WRITERS[ending](path, VALUES)
    np.testing.assert_array_equal(read_array(path), VALUES)
    assert array_shape(path) == (4, 3)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) * 2 // 3], b"nonsense" * 20):
        write(path, content)
        expect_refusal(lambda: read_array(path), path.name)
        expect_refusal(lambda: (array_shape(path), read_array(path)), path.name)
    bad = VALUES.copy()
    bad[2, 1] = np.nan
    WRITERS[ending](path, bad)
    expect_refusal(lambda: read_array(path), path.name, "NaN or infinite at [2, 1]")


def test_what_numpy_opens_but_is_no_array_is_damage(tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npz").read_bytes())  # numpy goes by what a file begins with
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("x.npy", b"no head of numpy's")
    for name in ("a.npy", "b.npz"):
        for read in (read_array, array_shape):
            expect_refusal(lambda: read(tmp_path / name), f"{name}: an array", "damaged or cut short")  # noqa: B023 - called at once


def test_several_arrays_need_a_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES, y=VALUES[:2])
    expect_refusal(lambda: read_array(tmp_path / "a.npz"), "several arrays", "x, y")
    expect_refusal(lambda: array_shape(tmp_path / "a.npz", "z"), "no array 'z'", "x, y")
    assert array_shape(tmp_path / "a.npz", "y") == (2, 3)


def test_nothing_in_an_array_file_is_run(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    expect_refusal(lambda: read_array(tmp_path / "a.npy"), "a.npy")


def test_heads_say_what_reading_gives(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(12_000), 8000)
    assert (sound_header(tmp_path / "a.wav").seconds, sound_header(tmp_path / "a.wav").rate) == (1.5, 8000)
    write(tmp_path / "b.wav", (tmp_path / "a.wav").read_bytes()[:9000])
    expect_refusal(lambda: sound_header(tmp_path / "b.wav"), "b.wav", "cut short")
    write_pictures(tmp_path / "film", np.zeros((10, 8, 8, 3)))
    assert folder_header(tmp_path / "film", 4.0).seconds == 2.5
    expect_refusal(lambda: folder_header(tmp_path / "nowhere", 4.0), "nowhere", "holds no pictures")


def test_head_of_a_film_and_of_its_sound(tmp_path):
    pytest.importorskip("av")
    sound = Audio(np.zeros(8000, np.float32), 8000)
    write_film(tmp_path / "a.mp4", np.zeros((20, 36, 64, 3), np.uint8), 20, sound)
    write_film(tmp_path / "b.mp4", np.zeros((20, 36, 64, 3), np.uint8), 20)
    header = film_header(tmp_path / "a.mp4")
    assert (header.seconds, header.rate, header.shape) == (1.0, 20.0, (36, 64))
    sounding = read_sound(tmp_path / "a.mp4")
    assert film_header(tmp_path / "a.mp4", sound=True).seconds == pytest.approx(len(sounding.samples) / sounding.rate, abs=0.2)
    assert (has_sound(tmp_path / "a.mp4"), has_sound(tmp_path / "b.mp4")) == (True, False)
    expect_refusal(lambda: film_header(tmp_path / "b.mp4", sound=True), "b.mp4", "has no sound")
