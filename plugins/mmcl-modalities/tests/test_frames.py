"""Frames of a film: shrunk, greyed, thinned in time, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from mmcl_modalities import MODALITIES

from mmcl.api import DataError, Source, Video
from mmcl.testing.modality import builders

make, layout_of = builders(MODALITIES)
RATE = 30.0


def film(shape=(3, 12, 16), rate=RATE):
    return Source("video", "", rate, {"shape": list(shape)})


def test_frames_are_kept_byte_for_byte_and_scaled_to_one(rng):
    frames = rng.integers(0, 256, (5, 3, 12, 16), np.uint8)
    np.testing.assert_array_equal(make("frames", film()).extract(Video(frames, RATE)), frames)
    assert layout_of("frames", film()).scale * 255 == pytest.approx(1)


def test_whole_blocks_of_pixels_become_their_mean(rng):
    frames = rng.integers(0, 256, (70, 2, 12, 16), np.uint8)  # more than are worked on at once
    got = make("frames", film((2, 12, 16)), size=(4, 8)).extract(Video(frames, RATE))
    for t, c, y, x in [(0, 0, 0, 0), (3, 1, 3, 7), (69, 0, 2, 5), (64, 1, 1, 1)]:
        pixels = [int(frames[t, c, 3 * y + dy, 2 * x + dx]) for dy in range(3) for dx in range(2)]
        assert abs(int(got[t, c, y, x]) - sum(pixels) / 6) <= 0.5
    assert got.shape == (70, 2, 4, 8)


def test_other_sizes_are_smoothed_before_they_shrink_and_keep_a_gradient():
    stripes = np.zeros((1, 1, 40, 40), np.uint8)
    stripes[..., ::2] = 255
    got = make("frames", film((1, 40, 40)), size=(15, 15)).extract(Video(stripes, RATE))
    assert np.abs(got[..., 2:-2].astype(int) - 127).max() < 40  # picking pixels would leave stripes of 0 and 255
    ramp = np.broadcast_to(np.arange(0, 200, 5, dtype=np.uint8), (1, 1, 40, 40))
    got = make("frames", film((1, 40, 40)), size=(16, 16)).extract(Video(ramp, RATE))[0, 0, 8]
    wanted = [5 * ((x + 0.5) * 40 / 16 - 0.5) for x in range(16)]
    np.testing.assert_allclose(got[1:-1], wanted[1:-1], atol=1.01)


def test_grey_is_brightness_after_bt_601():
    frames = np.zeros((4, 3, 2, 2), np.uint8)
    for k, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]):
        frames[k] = np.array(colour, np.uint8)[:, None, None]
    got = make("frames", film((3, 2, 2)), grey=True).extract(Video(frames, RATE))
    assert got.shape == (4, 1, 2, 2)
    assert got[:, 0, 0, 0].tolist() == [round(0.299 * 255), round(0.587 * 255), round(0.114 * 255), 255]


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 31])
@pytest.mark.parametrize(("rate", "wanted"), [(30.0, 15.0), (30.0, 10.0), (25.0, 10.0), (30000 / 1001, 8.0), (30.0, 30.0)])
def test_thinned_frames_are_the_nearest_to_their_times(n, rate, wanted):
    frames = np.arange(n, dtype=np.uint8)[:, None, None, None]
    got = make("frames", film((1, 1, 1), rate), rate=wanted).extract(Video(frames, rate)).ravel()
    assert len(got) == sum(k / wanted <= (n - 1) / rate + 1e-6 for k in range(n + 1))
    for k, frame in enumerate(got):
        distances = [abs(i / rate - k / wanted) for i in range(n)]
        assert distances[frame] <= min(distances) + 1e-9


def test_frames_come_at_the_promised_rate_even_where_the_recording_is_slower():
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None]
    got = make("frames", film((1, 1, 1), None), rate=20.0).extract(Video(frames, 10.0)).ravel()
    assert got.tolist()[::2] == list(range(10))


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (np.zeros((4, 1, 12, 16), np.uint8), r"\[frames, 3, height, width\]"),
        (np.zeros((4, 3, 12, 16), np.float32), "float32"),
        (np.zeros((4, 3, 10, 16), np.uint8), r"promises \[12, 16\]"),
    ],
)
def test_frames_other_than_promised_are_refused(frames, sentence):
    with pytest.raises(DataError, match=sentence):
        make("frames", film()).extract(Video(frames, RATE))


def test_frames_of_any_size_are_taken_where_they_are_resized(rng):
    frames = rng.integers(0, 256, (2, 3, 24, 24), np.uint8)
    assert make("frames", film(), size=(6, 6)).extract(Video(frames, RATE)).shape == (2, 3, 6, 6)


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        (film(), {"rate": 60.0}, "above the source's 30"),
        (film((2, 4, 4)), {"grey": True}, "1 or 3 channels"),
        (film(rate=None), {}, "set rate:"),
        (film(), {"size": (0, 4)}, "at least 1"),
        (Source("video", "", RATE), {}, "shape of a step"),
    ],
)
def test_frames_refuse_what_they_cannot_take(source, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        layout_of("frames", source, **options)
