"""Frames of small made-up films, for the sample that a dataset writes of itself."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""


def nodding_oval(
    frames: int, rate: float, top: float, nods: float, left: float, skin: Colour, wall: Colour
) -> NDArray[np.uint8]:
    """A bright oval that nods before a wall, uint8 [frames, 36, 64, 3].

    top, left  pixels from the upper and the left edge to its centre, about which it moves up and down by 2
    nods       how often a second
    """
    seconds = np.arange(frames)[:, None, None] / rate
    y, x = np.mgrid[0:36, 0:64]
    oval = ((y - (top + 2 * np.sin(2 * np.pi * nods * seconds))) / 8) ** 2 + ((x - left) / 6) ** 2 < 1
    return np.where(oval[..., None], np.array(skin), np.array(wall)).astype(np.uint8)


def lit_wall(frames: int, height: int, width: int, lit: Iterable[tuple[int, int, slice, int]]) -> NDArray[np.uint8]:
    """A dark wall, uint8 [frames, height, width, 3], that is bright in places for a while.

    lit  first frame, frame after the last, columns, and how bright these are then, from 0 to 255
    """
    pixels = np.full((frames, height, width, 3), 40, np.uint8)
    for first, after, columns, bright in lit:
        pixels[first:after, :, columns] = bright
    return pixels
