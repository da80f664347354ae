"""Films by parts: what comes a block at a time is what is read whole, to the bit, and no more than a block is in memory."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from mmcl.api import DataError, Source, Video
from mmcl.media import film, frames, grouped_frames, joined, nearest_frames, open_film, read_film, read_pictures, retimed
from mmcl.media.frames import LongFilm
from mmcl.testing.raw import raw_problem

SIZE = (12, 16)


def drawn(count, seed=0):
    """Frames in colour that differ, [count, 24, 32, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)


@pytest.fixture
def long_from_the_start(monkeypatch):
    """Every film is long, and blocks are of five frames."""
    monkeypatch.setattr(film, "LONG_FILM", 0)
    monkeypatch.setattr(frames, "BLOCK_BYTES", 5 * 3 * SIZE[0] * SIZE[1])


def uneven(path, steps):
    """A film whose frames are shown for so many 25ths of a second each."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        at = 0
        for picture, step in zip(drawn(len(steps)), steps, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, at = at, at + step
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("kind", ["even", "uneven", "pictures"])
def test_a_long_film_by_parts_is_the_film(kind, tmp_path, long_from_the_start):
    path = tmp_path / "film.mp4"
    if kind == "uneven":
        uneven(path, [1, 1, 3, 1, 1, 1, 7, 1, 1, 1, 1, 1, 1, 2, 1])
    elif kind == "even":
        pytest.importorskip("av")
        film.write_film(path, drawn(23), 25)
    else:
        from PIL import Image

        path = tmp_path / "film"
        path.mkdir()
        for i, picture in enumerate(drawn(13)):
            Image.fromarray(picture).save(path / f"{i:03d}.png")
    whole, parted = read_film(path, SIZE, 25.0), open_film(path, SIZE, 25.0)
    assert isinstance(parted, LongFilm)
    blocks = list(parted.blocks())
    assert [len(block) for block in blocks[:-1]] == [5] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), whole.frames)
    assert parted.rate == whole.rate
    assert "frames" not in vars(parted), "the film was put together"
    other = pickle.loads(pickle.dumps(parted))
    np.testing.assert_array_equal(other.frames, whole.frames)
    assert type(other) is Video
    slower = retimed(parted, 24.9)
    assert (slower.rate, type(slower)) == (24.9, LongFilm)
    np.testing.assert_array_equal(slower.frames, whole.frames)


def test_a_short_film_is_read_at_once(tmp_path):
    pytest.importorskip("av")
    film.write_film(tmp_path / "film.mp4", drawn(5), 25)
    assert type(open_film(tmp_path / "film.mp4", SIZE, 25.0)) is Video


def test_damage_behind_the_head_of_a_long_film_is_met_where_it_is_read(tmp_path, long_from_the_start):
    pytest.importorskip("av")
    path = tmp_path / "film.mkv"
    film.write_film(path, drawn(60), 25)
    path.write_bytes(path.read_bytes()[:-30_000])
    with pytest.raises(DataError, match=r"film\.mkv: "):
        list(open_film(path, SIZE, 25.0).blocks())


@pytest.mark.parametrize("wanted", [None, 3.0, 8.0, 24.99, 25.0])
@pytest.mark.parametrize("count", [1, 2, 24, 25, 26, 63])
@pytest.mark.parametrize("together", [1, 4, 64])
def test_frames_at_a_rate_are_the_same_however_a_film_is_cut(wanted, count, together):
    whole = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    at = None if wanted is None else nearest_frames(25.0, wanted)
    places = (
        range(count)
        if wanted is None
        else [min(int(k * 25 / wanted + 0.5), count - 1) for k in range(int((count - 1) * wanted / 25 + 1e-6) + 1)]
    )
    for lengths in ([count], [1] * count, [count // 2, 0, count - count // 2]):
        cuts = np.cumsum([0, *lengths])
        blocks = [whole[first:last] for first, last in itertools.pairwise(cuts)]
        groups = list(grouped_frames(blocks, together, at))
        np.testing.assert_array_equal(joined(groups).ravel(), list(places))
        assert all(len(group) == together for group in groups[:-1])


def test_the_kit_tells_a_film_whose_blocks_are_not_its_frames():
    source = Source("video", "a film", 25.0, {"shape": [3, 12, 16]})
    pictures = np.random.default_rng(0).integers(0, 256, (7, 3, 12, 16), dtype=np.uint8)
    make = lambda given: LongFilm("film", lambda: iter(given), 25.0, (3, 12, 16), 7)  # noqa: E731 - one film, whole and wrong
    assert raw_problem(source, make(pictures)) is None

    class Forgetful(LongFilm):
        def blocks(self):
            return list(super().blocks())[:-1]

    vars(wrong := Forgetful("film", lambda: iter(pictures), 25.0, (3, 12, 16), 7))["frames"] = pictures
    assert "are not its frames" in raw_problem(source, wrong)


def test_pictures_without_a_clock_are_read_in_the_order_of_their_names(tmp_path):
    from PIL import Image

    for name, level in (("b.png", 9), ("a.jpg", 200), (".hidden.png", 3)):
        Image.fromarray(np.full((24, 32, 3), level, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    several = read_pictures(tmp_path, SIZE).pictures
    assert several.shape == (2, 3, *SIZE)
    assert [int(one.mean()) for one in several] == [200, 9]
    np.testing.assert_array_equal(read_pictures(tmp_path / "b.png", SIZE).pictures, several[1:])
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png: a picture was expected"):
        read_pictures(tmp_path, SIZE)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        read_pictures(tmp_path / "none", SIZE)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_a_frame_that_the_end_of_the_film_decides_on_waits_for_it(count):
    """The picture that is shown nearest to each second of a film of 1.5 a second, the last one where none is left."""
    whole = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)

    def at(step, n):
        return np.minimum(np.round(np.arange(step, max(1, int(np.ceil(n / 1.5)))) * 1.5).astype(np.intp), n - 1)

    for length in (1, 2, 3, count):
        groups = grouped_frames((whole[k : k + length] for k in range(0, count, length)), 4, at)
        np.testing.assert_array_equal(joined(groups).ravel(), at(0, count))
