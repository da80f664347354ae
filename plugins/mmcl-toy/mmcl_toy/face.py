"""A face: 68 landmarks moved by expression and speech, and a drawing of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import FACE_RATE, FACE_SIZE, LANDMARK_RATE
from .clip import Clip, course, syllables

Points = NDArray[np.float64]


def _template() -> Points:
    """A neutral face: iBUG's 68 points, x to the right, y down, about two units wide."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.95 * np.cos(angle), 0.05 + 1.05 * np.sin(angle)], axis=1)
    arch = np.linspace(0, 1, 5)
    brow = np.stack([0.2 + 0.55 * arch, -0.52 - 0.1 * np.sin(np.pi * arch)], axis=1)
    left = brow * [-1, 1]
    bridge = np.stack([np.zeros(4), np.linspace(-0.3, 0.1, 4)], axis=1)
    nostrils = np.stack([np.linspace(-0.18, 0.18, 5), [0.2, 0.23, 0.25, 0.23, 0.2]], axis=1)
    turn = np.array([np.pi, 1.35 * np.pi, 1.65 * np.pi, 0, 0.35 * np.pi, 0.65 * np.pi])
    eye = np.stack([0.17 * np.cos(turn), 0.09 * np.sin(turn)], axis=1)
    outer = np.linspace(np.pi, 3 * np.pi, 12, endpoint=False)
    inner = np.linspace(np.pi, 3 * np.pi, 8, endpoint=False)
    mouth = np.stack([0.36 * np.cos(outer), 0.55 + 0.13 * np.sin(outer)], axis=1)
    lips = np.stack([0.26 * np.cos(inner), 0.55 + 0.04 * np.sin(inner)], axis=1)
    return np.concatenate(
        [jaw, left[::-1], brow, bridge, nostrils, eye + np.array([-0.45, -0.28]), eye + np.array([0.45, -0.28]), mouth, lips]
    )


TEMPLATE = _template()
BROWS, EYES, MOUTH = slice(17, 27), slice(36, 48), slice(48, 68)


def moved(
    clip: Clip,
    person: NDArray[np.float64],
    speech: NDArray[np.float64],
    grown: NDArray[np.float64],
    mouth: float,
    brow: float,
    eyes: float,
) -> Points:
    """The face [T, 68, 2] of a speaker, moved by an expression that has come as far as `grown`, while speaking."""
    face = TEMPLATE * [1 + 0.08 * person[4], 1 + 0.08 * person[5]]
    face[BROWS, 1] += 0.05 * person[6]
    face[EYES, 0] += 0.05 * person[7] * np.sign(face[EYES, 0])
    face[MOUTH] = (face[MOUTH] - [0, 0.55]) * [1 + 0.12 * person[8], 1 + 0.12 * person[9]] + [0, 0.55 + 0.04 * person[10]]
    points = np.repeat(face[None], len(grown), axis=0)
    width = np.abs(face[MOUTH, 0]) / 0.36
    points[:, MOUTH, 1] -= 0.15 * mouth * grown[:, None] * (width - 0.4)  # corners up or down
    points[:, MOUTH, 1] += 0.10 * speech[:, None] * np.sign(face[MOUTH, 1] - face[MOUTH, 1].mean())
    points[:, 5:12, 1] += 0.06 * speech[:, None]
    points[:, BROWS, 1] -= 0.12 * brow * grown[:, None]
    points[:, [20, 21, 22, 23], 1] -= 0.05 * brow * grown[:, None]
    centre = face[EYES].reshape(2, 6, 2).mean(1).repeat(6, 0)[:, 1]
    points[:, EYES, 1] = centre + (points[:, EYES, 1] - centre) * np.clip(1 + 0.6 * eyes * grown, 0.15, 2)[:, None]
    return points


def landmarks(
    clip: Clip, person: NDArray[np.float64], times: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """[T, 68, 2] in pixels of a camera: mouth and brow show the expression; the head moves, and tracking is not exact."""
    at = np.arange(max(2, round(clip.seconds * LANDMARK_RATE))) / LANDMARK_RATE
    speech = syllables(clip, times, at) * rng.uniform(0.7, 1.3)
    points = moved(clip, person, speech, course(clip, at, rng), clip.cues[2], clip.cues[3], 0.3 * rng.standard_normal())
    sway = np.cumsum(rng.standard_normal((len(at), 3)), axis=0) / np.sqrt(LANDMARK_RATE)
    angle = 0.06 * sway[:, 0] + 0.12 * rng.standard_normal()
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], axis=1)
    points = points * [1 + 0.1 * np.tanh(rng.standard_normal()), 1.0]  # a head half turned away is narrower
    points = np.einsum("tij,tpj->tpi", turn, points) + 0.05 * sway[:, None, 1:]
    points += 0.012 * rng.standard_normal(points.shape)
    return (120 + rng.uniform(40, 80) * points + rng.uniform(-30, 30, 2)).astype(np.float32)


def draw(clip: Clip, person: NDArray[np.float64], times: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """[T, 1, 32, 32]: eyes, and a little of the mouth, show the expression; light, background and place say nothing."""
    at = np.arange(max(2, round(clip.seconds * FACE_RATE))) / FACE_RATE
    speech = syllables(clip, times, at) * rng.uniform(0.7, 1.3)
    points = moved(clip, person, speech, course(clip, at, rng), 0.8 * clip.cues[2], 0.3 * rng.standard_normal(), clip.cues[4])
    place = rng.uniform(-0.08, 0.08, 2) + 0.03 * np.cumsum(rng.standard_normal((len(at), 2)), axis=0) / np.sqrt(FACE_RATE)
    size = rng.uniform(0.85, 1.1)
    points = (points * size + place[:, None]).astype(np.float32)
    grid = np.linspace(-1.35, 1.35, FACE_SIZE, dtype=np.float32)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    light = rng.standard_normal(3)
    picture = 0.35 + 0.06 * light[0] * x + 0.06 * light[1] * y + 0.06 * np.sin(rng.uniform(1, 5) * x + rng.uniform(1, 5) * y)
    picture = np.repeat(picture[None].astype(np.float32), len(at), axis=0)
    skin = np.float32(0.62 + 0.08 * person[11])
    middle = points[:, :17].mean(1) - [0, 0.35 * size]

    def paint(inside: NDArray[np.float32], value: float | NDArray[np.float32]) -> None:
        nonlocal picture
        picture = picture + (value - picture) * inside

    def ellipse(centre: Points, width: NDArray[np.float32] | float, height: NDArray[np.float32] | float) -> NDArray[np.float32]:
        wide, high = np.asarray(width, np.float32).reshape(-1, 1, 1), np.asarray(height, np.float32).reshape(-1, 1, 1)
        distance = np.hypot((x - centre[:, 0, None, None]) / wide, (y - centre[:, 1, None, None]) / high)
        return (1 / (1 + np.exp(np.clip(8 * (distance - 1), -30, 30)))).astype(np.float32)

    paint(ellipse(middle, 0.95 * size, 1.2 * size), skin + np.float32(0.06 * light[2]) * x)
    for first in (36, 42):
        eye = points[:, first : first + 6]
        open_ = (eye[:, 3:, 1].mean(1) - eye[:, :3, 1].mean(1)).clip(0.01)
        paint(ellipse(eye.mean(1), 0.2 * size, 0.04 + 1.3 * open_), np.float32(0.95))
        paint(ellipse(eye.mean(1), 0.08 * size, np.minimum(0.1 * size, 0.03 + 1.1 * open_)), np.float32(0.05))
    for brow in (points[:, 17:22], points[:, 22:27]):
        paint(0.8 * ellipse(brow.mean(1), 0.26 * size, 0.06), np.float32(0.2))
    bottom, corners = points[:, 57], points[:, [48, 54]].mean(1)
    curve = (corners[:, 1] - points[:, [51, 57]].mean(1)[:, 1])[:, None, None]
    centre = points[:, 48:60].mean(1)
    bent = y - centre[:, 1, None, None] - curve * (((x - centre[:, 0, None, None]) / 0.36) ** 2 - 0.5)
    high = (0.05 + 0.5 * (bottom[:, 1] - points[:, 51, 1]).clip(0))[:, None, None]
    distance = np.hypot((x - centre[:, 0, None, None]) / (0.38 * size), bent / high)
    paint((1 / (1 + np.exp(np.clip(8 * (distance - 1), -30, 30)))).astype(np.float32), np.float32(0.25))
    picture = picture * rng.uniform(0.75, 1.2) + 0.03 * rng.standard_normal(picture.shape)
    return np.round(255 * picture.clip(0, 1)).astype(np.uint8)[:, None]
