"""Writes a tiny made-up REACT-Nao in the true format: drawn faces that smile, open their mouths and turn their heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import CONDITIONS, GAZE_POSE, UNITS
from .arrays import save, save_rows

LENGTH = 104
"""Frames of a sequence: two pieces of 5 s, and four frames that are left."""


def write(root: Path, n: int, seed: int) -> None:
    """About n pieces of 5 s, two a sequence, by three people or more; every sixth person is one of the official `valid`.

    One sequence has no landmarks. What face, units and pose share are a smile, an open mouth, raised brows and the head's turns.
    """
    root.mkdir(parents=True, exist_ok=True)
    sequences = max(3, -(-n // 2))
    people = min(sequences, 18)
    table, points, units, pose, ids = [], [], [], [], []
    for i in range(sequences):
        person, game = i % people, i // people + 1
        rng = np.random.default_rng((seed, i))
        male = person % 2 == 1
        drawn = _moods(rng, LENGTH)
        ids.append(f"PP{101 + person}_g{game}")
        points.append(_face(drawn, np.random.default_rng((seed, 1, person)), male))
        units.append(_units(drawn, rng))
        pose.append(_pose(drawn, rng))
        condition = CONDITIONS[person % 4]
        framing, timing = "Team" if condition in "AC" else "Individual", "Before" if condition in "AB" else "After"
        split = "valid" if person % 6 == 2 else "train"
        last = 6 * (LENGTH - 1)
        labels = (condition, framing, timing, "Male" if male else "Female", 20 + person, split)
        table.append((i, ids[-1], ids[-1][:5], game, LENGTH, 0, last, 0.975, *labels))
    save_rows(root / "sequences.csv", table)
    kept = [i for i in range(sequences) if i != 2 or sequences == 1]
    save(root / "landmarks.npz", [points[i].astype(np.float16) for i in kept], [ids[i] for i in kept])
    save(root / "action_units.npz", [x.astype(np.float16) for x in units], ids, names=UNITS)
    save(root / "gaze_pose.npz", [x.astype(np.float32) for x in pose], ids, names=GAZE_POSE)


def _moods(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Smile, open mouth, raised brows (0 to 1) and the head's yaw, pitch, roll (about −1 to 1), smooth over time [T, 6]."""
    walk = np.cumsum(rng.normal(0, 1, (frames + 20, 6)), axis=0)
    smooth = np.stack([np.convolve(column, np.ones(9) / 9, "same") for column in walk.T], axis=1)[10:-10]
    smooth = (smooth - smooth.mean(axis=0)) / (smooth.std(axis=0) + 1e-9)
    smooth[:, :3] = 1 / (1 + np.exp(-3 * smooth[:, :3]))
    smooth[:, 3:] = np.tanh(smooth[:, 3:] / 2)
    return np.asarray(smooth)


def _still(male: bool) -> NDArray[np.float64]:
    """68 points of a face at rest, x to the right and y down, in distances between the eyes [68, 2]."""
    t = np.linspace(np.pi, 0, 17)
    jaw = np.column_stack([(1.3 if male else 1.2) * np.cos(t), 0.1 + 1.6 * np.sin(t)])
    arc = np.linspace(0, np.pi, 5)
    brow = np.column_stack([np.linspace(-0.95, -0.25, 5), -0.4 - 0.12 * np.sin(arc)])
    bridge = np.column_stack([np.zeros(4), np.linspace(-0.05, 0.5, 4)])
    nostrils = np.column_stack([np.linspace(-0.25, 0.25, 5), 0.6 + 0.06 * np.sin(arc)])
    around = np.array([(-1, 0), (-0.4, -1), (0.4, -1), (1, 0), (0.4, 1), (-0.4, 1)])
    eye = around * (0.2, 0.08)
    outer = np.array([(np.cos(a), np.sin(a)) for a in np.pi + np.arange(12) * np.pi / 6]) * (0.42, 0.16) + (0, 1.05)
    inner = np.array([(np.cos(a), np.sin(a)) for a in np.pi + np.arange(8) * np.pi / 4]) * (0.32, 0.05) + (0, 1.05)
    return np.concatenate(
        [jaw, brow, brow[::-1] * (-1, 1), bridge, nostrils, eye - np.array([0.5, 0]), eye + np.array([0.5, 0]), outer, inner]
    )


def _face(moods: NDArray[np.float64], own: np.random.Generator, male: bool) -> NDArray[np.float64]:
    """The face as it moves, its mean taken out, divided by the distance between the eyes' centres [T, 68, 2]."""
    smile, mouth, brows, yaw, pitch, roll = (mood[:, None] for mood in moods.T)
    still = _still(male) + own.normal(0, 0.02, (68, 2))
    points = np.repeat(still[None], len(moods), axis=0)
    points[:, 17:27, 1] -= 0.15 * brows
    for corner, side in ((48, -1), (54, 1), (60, -1), (64, 1)):
        points[:, corner] += smile * (side * 0.12, -0.1)
    for lower in (*range(55, 60), *range(65, 68), *range(5, 12)):
        points[:, lower, 1] += 0.25 * mouth[:, 0]
    depth = 0.5 - 0.35 * still[None, :, 0] ** 2  # how far each point stands before the ears
    points[..., 0] = points[..., 0] * np.cos(0.35 * yaw) + depth * np.sin(0.35 * yaw)
    points[..., 1] = points[..., 1] * np.cos(0.25 * pitch) + depth * np.sin(0.25 * pitch)
    angle = 0.1 * roll
    turned = np.stack(
        [
            points[..., 0] * np.cos(angle) - points[..., 1] * np.sin(angle),
            points[..., 0] * np.sin(angle) + points[..., 1] * np.cos(angle),
        ],
        axis=2,
    )
    eyes = turned[:, 42:48].mean(axis=1) - turned[:, 36:42].mean(axis=1)
    return np.asarray((turned - turned.mean(axis=1, keepdims=True)) / np.linalg.norm(eyes, axis=1)[:, None, None])


def _units(moods: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Intensities and presences of action units [T, 35]; a unit is present above an intensity of 1."""
    smile, mouth, brows = moods[:, 0], moods[:, 1], moods[:, 2]
    leads = {"AU06": smile, "AU12": smile, "AU25": mouth, "AU26": mouth, "AU01": brows, "AU02": brows}
    columns = {}
    for name in UNITS:
        unit = name[:4]
        if name.endswith("_r"):
            lead = 2.0 * leads[unit] if unit in leads else np.full(len(moods), 0.4)
            columns[name] = np.clip(lead + rng.normal(0, 0.2, len(moods)), 0, 5)
        else:
            columns[name] = (columns[f"{unit}_r"] > 1).astype(np.float64) if unit != "AU28" else np.zeros(len(moods))
    return np.stack([columns[name] for name in UNITS], axis=1)


def _pose(moods: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaze and pose [T, 14]: eyes that stay on the screen while the head turns, at arm's length."""
    yaw, pitch, roll = 0.35 * moods[:, 3], 0.25 * moods[:, 4], 0.1 * moods[:, 5]
    angle = np.column_stack([-0.4 * yaw, 0.25 - 0.4 * pitch]) + rng.normal(0, 0.01, (len(moods), 2))
    eyes = [
        np.column_stack([np.sin(angle[:, 0] + squint), np.sin(angle[:, 1]), -np.cos(angle[:, 1])]) for squint in (0.06, -0.06)
    ]
    place = np.column_stack([120 * yaw, 60 * pitch, np.full(len(moods), 600.0)]) + rng.normal(0, 2, (len(moods), 3))
    return np.concatenate([*eyes, angle, place, np.column_stack([pitch, yaw, roll])], axis=1)
