"""Tables of OpenFace, row by row in their own time: one face a frame, and a row for every frame, seen or not."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

LATE = 0.25
"""Of a step: rows that lie further from even steps have no frames' numbers in their times."""
ALIKE = 0.98
"""Of the largest sum of confidence: from here on another face is as sure."""
MOST_GAPS = 10
"""Rows that are missing for each that is there, from which times or numbers are not believed."""

FACES = "frames with several faces, of which one is read"
OTHERS = "frames with another face alone"
DROPPED = "frames without a row, filled in"

Table = tuple[NDArray[np.float64], tuple[str, ...]]
"""Rows, and the names of their columns."""


def one_face(rows: NDArray[np.float64], columns: tuple[str, ...], seen: Counter[str]) -> NDArray[np.float64]:
    """Of several rows a frame (columns `face_id` and `frame` or `timestamp`) that of one person: the surer one throughout.

    The surer has the larger sum of `confidence`, over the successful ones of the frames with several; of two alike the one nearer to
    the camera's axis (pose_Tx, pose_Ty), else the one of the smaller number. Where it was lost and another stays, the frame has no face.
    """
    by = next((name for name in ("frame", "timestamp") if name in columns), None)
    if by is None or "face_id" not in columns or len(rows) < 2:
        return rows
    place = {name: i for i, name in enumerate(columns)}
    order = np.argsort(rows[:, place[by]], kind="stable")
    rows = rows[order] if len(np.unique(rows[:, place[by]])) < len(rows) else rows
    times, ids = rows[:, place[by]], rows[:, place["face_id"]]
    together = np.isin(times, [time for time, count in zip(*np.unique(times, return_counts=True), strict=True) if count > 1])
    if not together.any():
        return rows
    sure = rows[:, place["confidence"]] if "confidence" in place else np.ones(len(rows))
    sure = sure * (rows[:, place["success"]] > 0.5) if "success" in place else sure
    axes = [place[name] for name in ("pose_Tx", "pose_Ty") if name in place]
    away = np.linalg.norm(rows[:, axes], axis=1) if axes else np.zeros(len(rows))
    people = np.unique(ids[together])
    sums = {one: float(sure[together & (ids == one)].sum()) for one in people}
    surest = [one for one in people if sums[one] >= ALIKE * max(sums.values())]
    chosen = min(surest, key=lambda one: (float(away[together & (ids == one)].mean()), one))
    beside = set(ids[np.isin(times, times[(ids == chosen) & together])]) - {chosen}
    kept = []
    for time in np.unique(times):
        here = np.flatnonzero(times == time)
        own = here[ids[here] == chosen]
        if len(own):
            kept.append(int(own[0]))
            seen[FACES] += len(here) > 1
        elif set(ids[here]) <= beside:
            seen[OTHERS] += 1  # no row: the frame is filled in with the others that have none
        else:
            kept.append(int(here[np.argmax(sure[here])]))
    return rows[kept]


def every_frame(rows: NDArray[np.float64], columns: tuple[str, ...], seen: Counter[str]) -> Table:
    """A row for each frame from the film's beginning on, so that row k stands at its own time.

    Columns `frame` and `timestamp` tell which rows are missing. Those have no face where the table has a column `success`; elsewhere
    they lie on the line between their neighbours. Rows whose times are not even steps stay as they are.
    """
    place = {name: i for i, name in enumerate(columns)}
    if "timestamp" not in place or len(rows) < 3:
        return rows, columns
    times = rows[:, place["timestamp"]]
    at = _places(times, rows[:, place["frame"]] if "frame" in place else None)
    if at is None:
        return rows, columns
    step = (times[-1] - times[0]) / at[-1]
    before = 0
    if "frame" in place and times[0] > step / 2 and abs(rows[0, place["frame"]] - times[0] / step) < 1.5:
        before = round(times[0] / step)  # a film's first frame has the number 0 or 1, and the time 0
    at = at + before
    missing = int(at[-1]) + 1 - len(rows)
    if missing == 0 or missing > MOST_GAPS * len(rows):
        return rows, columns
    seen[DROPPED] += missing
    there = np.zeros(at[-1] + 1, bool)
    there[at] = True
    whole = np.zeros((len(there), len(columns)))
    if "success" in place:
        whole[at] = rows
    else:
        whole = np.stack([np.interp(np.arange(len(there)), at, column) for column in rows.T], axis=1)
    whole[:, place["timestamp"]] = np.interp(np.arange(len(there)), at, times) if not before else np.arange(len(there)) * step
    if "frame" in place:
        whole[:, place["frame"]] = rows[0, place["frame"]] + np.arange(len(there)) - at[0]
    return whole, columns


def _places(times: NDArray[np.float64], frames: NDArray[np.float64] | None) -> NDArray[np.int64] | None:
    """The number of each row's frame, from 0 for the first; None where neither numbers nor times tell it."""
    steps = np.diff(times)
    if not (steps > 0).all():
        return None
    if frames is not None:
        counted = np.diff(frames)
        if (counted == np.round(counted)).all() and (counted > 0).all():
            each = steps / counted
            if np.abs(each / np.median(each) - 1).max() < LATE:  # times are rounded to milliseconds
                return np.concatenate([[0], np.cumsum(counted)]).astype(np.int64)
    usual = steps / np.median(steps)
    whole = np.round(usual)
    if np.abs(usual - whole).max() > LATE or whole.min() < 1:
        return None
    return np.concatenate([[0], np.cumsum(whole)]).astype(np.int64)
