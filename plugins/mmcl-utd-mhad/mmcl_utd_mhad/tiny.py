"""Writes a tiny made-up UTD-MHAD in the true format: a stick figure that moves its right hand as each action would have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_STANDING = np.array(
    [
        (0.0, 0.5),
        (0.0, 0.3),
        (0.0, 0.0),
        (0.0, -0.1),
        (-0.2, 0.2),
        (-0.25, -0.05),
        (-0.25, -0.25),
        (-0.25, -0.35),
        (0.2, 0.2),
        (0.25, -0.05),
        (0.25, -0.25),
        (0.25, -0.35),
        (-0.1, -0.2),
        (-0.1, -0.65),
        (-0.1, -1.0),
        (-0.1, -1.1),
        (0.1, -0.2),
        (0.1, -0.65),
        (0.1, -1.0),
        (0.1, -1.1),
    ]
)
"""x and y of the joints in metres; everybody stands 2.8 m from the camera."""

_ARM = {9: 0.4, 10: 0.8, 11: 1.0}
"""How far elbow, wrist and hand of the right arm follow the movement."""


def write(root: Path, n: int, seed: int) -> None:
    """About n samples by eight people, four actions or more; one sample has no inertial file and one no depth file.

    Depth is written as published: uint16 240 × 320 at 30 Hz. Samples last about 0.8 s.
    """
    n = max(1, min(n, 27 * 8 * 4))
    actions = min(27, max(4, -(-n // 32)))
    for i in range(n):
        subject, k = i % 8 + 1, i // 8
        action, trial = (k + subject) % actions + 1, k // actions + 1
        name, rng = f"a{action}_s{subject}_t{trial}", np.random.default_rng((seed, i))
        frames = int(rng.integers(20, 29))
        move = _movement(action, subject, rng)
        _save(root / "Skeleton" / f"{name}_skeleton.mat", "d_skel", _skeleton(move, frames, subject, rng))
        if i != 6:
            _save(root / "Inertial" / f"{name}_inertial.mat", "d_iner", _inertial(move, round(frames * 50 / 30), rng))
        if i != 5:
            _save(root / "Depth" / f"{name}_depth.mat", "d_depth", _depth(move, frames, rng))


def _movement(action: int, subject: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Amplitude, frequency and phase of the hand along x, y and z [3, 3]; alike whenever the action is alike."""
    habit = np.random.default_rng(action)
    amplitude = habit.uniform(-0.5, 0.5, 3) * (1 + 0.05 * (subject - 4.5)) * rng.uniform(0.85, 1.15)
    frequency = habit.uniform(0.5, 2.5, 3) * rng.uniform(0.9, 1.1)
    return np.stack([amplitude, frequency, habit.uniform(0, 2 * np.pi, 3) + rng.normal(0, 0.2, 3)])


def _hand(move: NDArray[np.float64], steps: int, rate: float) -> NDArray[np.float64]:
    """How far the hand is from where it hangs [T, 3], in metres."""
    amplitude, frequency, phase = move
    away: NDArray[np.float64] = amplitude * np.sin(2 * np.pi * frequency * np.arange(steps)[:, None] / rate + phase)
    return away


def _skeleton(move: NDArray[np.float64], steps: int, subject: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[20, 3, T] in metres."""
    joints = np.tile(np.column_stack([_STANDING * (0.9 + 0.025 * subject), np.full(20, 2.8)]), (steps, 1, 1))
    for joint, share in _ARM.items():
        joints[:, joint] += share * _hand(move, steps, 30)
    joints += rng.normal(0, 0.1, 3) + rng.normal(0, 0.01, joints.shape)
    return joints.transpose(1, 2, 0)


def _inertial(move: NDArray[np.float64], steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[T, 6]: acceleration of the hand in g, gravity along y, and a turning in degrees per second that goes with its speed."""
    hand = _hand(move, steps + 2, 50)
    acceleration = np.diff(hand, 2, axis=0) * 50**2 / 9.81 - (0, 1, 0)
    turning = np.diff(hand, axis=0)[1:] * 50 * 60
    return np.column_stack([acceleration + rng.normal(0, 0.05, (steps, 3)), turning + rng.normal(0, 3, (steps, 3))])


def _depth(move: NDArray[np.float64], steps: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """[240, 320, T] in millimetres: a body before nothing, and a hand that moves."""
    frames = np.zeros((steps, 240, 320), np.uint16)
    left = 140 + int(rng.integers(-10, 11))
    frames[:, 60:220, left : left + 40] = 2800
    for frame, (x, y, z) in zip(frames, _hand(move, steps, 30), strict=True):
        top, side = int(110 - 80 * y), int(left + 50 + 80 * x)
        frame[top : top + 20, side : side + 20] = int(2700 + 500 * z)
    return frames.transpose(1, 2, 0)


def _save(path: Path, key: str, array: NDArray[np.float64] | NDArray[np.uint16]) -> None:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: array}, do_compression=array.dtype == np.uint16)
