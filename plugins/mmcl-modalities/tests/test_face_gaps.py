"""Frames without a face: no steps of `face-clip`, or black ones that are counted; never another face's."""

from __future__ import annotations

import numpy as np
import pytest
from mmcl_modalities import FaceClipParams, FramesParams, build_face_clip, build_frames, face_clip_layout

from mmcl.api import DataError, Source, Timed, Video

SOURCE = Source("video", "a face", 8.0, {"shape": [3, 16, 16], "gaps": True})
PRESENT = np.array([True, False, True, True, False, False, True, True])
FRAMES = np.where(PRESENT[:, None, None, None], np.arange(10, 90, 10)[:, None, None, None], 0).astype(np.uint8) * np.ones(
    (1, 3, 16, 16), np.uint8
)


def test_frames_without_a_face_are_no_steps_and_the_others_carry_their_times():
    params = FaceClipParams(size=(16, 16), rate=4.0)
    assert face_clip_layout(params, SOURCE).rate is None
    clip = build_face_clip(params, SOURCE)
    got = clip.extract(Video(FRAMES, 8.0, PRESENT))
    assert isinstance(got, Timed)
    assert got.values[:, 0, 0, 0].tolist() == [10, 30, 70]  # frames 0, 2, 6 of 0, 2, 4, 6
    assert got.times.tolist() == [[0, 0.25], [0.25, 0.5], [0.75, 1.0]]
    assert clip.counts()["frames without a face, left out"] == 1
    with pytest.raises(DataError, match="none of its 4 frames has a face"):
        clip.extract(Video(FRAMES, 8.0, np.zeros(8, bool)))


def test_black_keeps_an_even_rate_and_counts_and_so_does_frames():
    params = FaceClipParams(size=(16, 16), rate=8.0, gaps="black")
    assert face_clip_layout(params, SOURCE).rate == 8
    for modality in (build_face_clip(params, SOURCE), build_frames(FramesParams(), SOURCE)):
        got = modality.extract(Video(FRAMES, 8.0, PRESENT))
        assert (got == FRAMES).all()
        assert modality.counts() == {"frames that show nothing of what they are of, black": 3}


def test_the_option_stands_in_no_plan_while_it_is_left_out():
    assert "gaps" not in FaceClipParams().stated()
    assert FaceClipParams(gaps="black").stated()["gaps"] == "black"
