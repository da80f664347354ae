"""The main face of a film over time: found, followed from frame to frame, and nowhere made up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .finder import Box, Finder, finder

NEW = 0.0
"""Least score of a face that was not known: the detector's own threshold."""
KNOWN = -0.25
"""Least score near the place where a face was in the frame before."""
MOST = 6
"""Faces that are followed at a time."""
EVERY = 0.25
"""Seconds between searches of the whole frame while faces are followed; without one, every frame is searched."""
LOST = 1.0
"""Seconds for which a face that was lost is looked for around its last place, before the whole frame is searched instead."""
SAME = 0.3
"""Overlap from which on two boxes are the same face."""


@dataclass(frozen=True)
class FaceTrack:
    """The main face of a film.

    points      float32 [T, 68, 2], pixels of the frame, x before y, in iBUG's order; 0 where the face is not seen
    confidence  float32 [T] in (0, 1), from the detector's score (0.5: it would just report it; no probability); 0 where it is not seen
    faces       how many faces were followed
    others      frames in which another face is seen, and the main one is not
    """

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    faces: int
    others: int

    @property
    def present(self) -> NDArray[np.bool_]:
        """Frames in which the face is seen, bool [T]."""
        return self.confidence > 0


@dataclass
class _Face:
    """One person, as long as nothing speaks against it."""

    box: Box
    last: int  # frame in which it was seen
    weight: float = 0.0  # how long and how large it is seen: the sum of its widths
    boxes: dict[int, Box] = field(default_factory=dict)
    points: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def add(self, number: int, box: Box, points: NDArray[np.float32]) -> None:
        """It is seen in this frame."""
        self.box, self.last = box, number
        self.weight += box.width
        self.boxes[number], self.points[number] = box, points


def track_face(frames: Iterable[NDArray[np.uint8]], rate: float, find: Finder | None = None) -> FaceTrack:
    """The face that is longest and largest in view, in the frames uint8 [height, width, 3] of a film, one in memory at a time.

    rate  frames per second

    A face is followed by its place: the one that overlaps most with where it was, each for one person at most. One that comes back where it
    was lost, in a like size, is the same; elsewhere, it is another. Every point is of a face that the detector sees in that very frame.

    Raises DataError if the extra `faces` is not installed.
    """
    find = find or finder()
    people: list[_Face] = []
    count = 0
    for number, frame in enumerate(frames):
        _follow(people, frame, number, rate, find)
        count = number + 1
    points, confidence = np.zeros((count, 68, 2), np.float32), np.zeros(count, np.float32)
    if not people:
        return FaceTrack(points=points, confidence=confidence, faces=0, others=0)
    main = max(people, key=lambda face: face.weight)
    for number, box in main.boxes.items():
        points[number], confidence[number] = main.points[number], box.confidence
    seen = {number for face in people for number in face.boxes}
    return FaceTrack(points=points, confidence=confidence, faces=len(people), others=len(seen - set(main.boxes)))


def _follow(people: list[_Face], frame: NDArray[np.uint8], number: int, rate: float, find: Finder) -> None:
    """Give the faces of one frame to the people that are known; the others are new."""
    live = [face for face in people if number - face.last <= max(1, LOST * rate)]
    live = sorted(live, key=lambda face: -face.weight)[:MOST]
    here = [box for face in live for box in find.around(frame, face.box, KNOWN)]
    if not here or number % max(1, round(EVERY * rate)) == 0:
        here += find.everywhere(frame, NEW)
    boxes: list[Box] = []
    for box in sorted(here, key=lambda one: -one.score):
        if all(box.overlap(other) < SAME for other in boxes):
            boxes.append(box)
    pairs = [(box.overlap(face.box), i, face) for i, box in enumerate(boxes) for face in live if box.near(face.box)]
    taken: dict[int, _Face] = {}
    for _, i, face in sorted(pairs, key=lambda one: -one[0]):
        if i not in taken and not any(face is other for other in taken.values()):
            taken[i] = face
    for i, box in enumerate(boxes):
        owner = taken.get(i) or (_returned(people, taken, box) if box.score >= NEW else None)
        if owner is None and box.score >= NEW and len(live) < MOST:
            owner = _Face(box=box, last=number)
            people.append(owner)
        if owner is not None:
            taken[i] = owner
            owner.add(number, box, find.points(frame, box))


def _returned(people: list[_Face], taken: dict[int, _Face], box: Box) -> _Face | None:
    """The person who was lost at this place last."""
    gone = [face for face in people if box.near(face.box) and not any(face is other for other in taken.values())]
    return max(gone, key=lambda face: face.last, default=None)
