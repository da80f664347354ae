"""Turns the tables that OpenFace wrote of REACT-Nao's films into the arrays that the dataset reads.

    python -m mmcl_react.convert CSV_FOLDER OUT_FOLDER [PEOPLE.csv]

CSV_FOLDER  facialfeatures_PP102_g3.csv …, 714 columns each, as published
PEOPLE.csv  participant, and what is known of condition, framing, timing, gender, age and split (train, valid); what is left out stays unknown
"""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError
from mmcl.media import progress, read_text

from . import GAZE_POSE, UNITS
from .arrays import save, save_rows

POINTS = tuple(f"{axis}_{i}" for axis in "xy" for i in range(68))
ABOUT = ("condition", "framing", "timing", "gender", "age", "split")

_NAME = re.compile(r"facialfeatures_(PP\d+)_g(\d+)")


def convert(source: Path, target: Path, people: Path | None = None) -> tuple[int, int]:
    """Write sequences.csv and the three .npz files; how many sequences there are, and how many frames lacked a face.

    A frame without a face, or whose row is missing, keeps its place in time: it lies on the straight line between the frames beside it.

    Raises DataError if there is no table, one is misnamed, or one lacks a column or holds no number where one belongs.
    """
    files = sorted(path for path in source.glob("facialfeatures_*.csv"))
    if not files:
        raise DataError(f"{source}: has no facialfeatures_PP102_g3.csv or the like")
    known = {} if people is None else read_people(people)
    target.mkdir(parents=True, exist_ok=True)
    rows, points, units, pose, ids = [], [], [], [], []
    lost = 0
    with progress("convert", len(files)) as tick:
        for number, path in enumerate(files):
            named = _NAME.fullmatch(path.stem)
            if named is None:
                raise DataError(f"{path}: is misnamed; facialfeatures_PP102_g3.csv or the like was expected")
            frames, confidence, face, seen, gaze = read_table(path)
            where = places(frames)
            lost += int(where[-1]) + 1 - len(where)
            face, seen, gaze = (in_time(values, where) for values in (face, seen, gaze))
            ids.append(f"{named[1]}_g{named[2]}")
            points.append(aligned(face).astype(np.float16))
            units.append(seen.astype(np.float16))
            pose.append(gaze.astype(np.float32))
            about = known.get(named[1], {})
            mean = round(float(confidence.mean()), 3)
            rows.append(
                (
                    number,
                    ids[-1],
                    named[1],
                    named[2],
                    len(face),
                    frames[0],
                    frames[-1],
                    mean,
                    *(about.get(name) or "" for name in ABOUT),
                )
            )
            tick(number + 1, path.name)
    save_rows(target / "sequences.csv", rows)
    save(target / "landmarks.npz", points, ids)
    save(target / "action_units.npz", units, ids, names=UNITS)
    save(target / "gaze_pose.npz", pose, ids, names=GAZE_POSE)
    return len(ids), lost


def places(frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which step each row is [T], from 0, by the numbers of the film's frames: a gap of three usual steps leaves two steps out."""
    if len(frames) < 2:
        return np.zeros(len(frames), np.int64)
    apart = np.diff(frames)
    steps = np.maximum(1, np.rint(apart / np.median(apart)).astype(np.int64))
    return np.concatenate([[0], np.cumsum(steps)])


def in_time(values: NDArray[np.float64], where: NDArray[np.int64]) -> NDArray[np.float64]:
    """The rows [T, …] at their places, and between them, where a step has no row, what lies on the straight line."""
    steps = np.arange(where[-1] + 1)
    after = np.searchsorted(where, steps).clip(0, len(where) - 1)
    before = np.where(where[after] == steps, after, after - 1)
    share = (steps - where[before]) / np.maximum(1, where[after] - where[before])
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values[before] + share * (values[after] - values[before]))


Read = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def read_table(path: Path) -> Read:
    """Frame numbers, confidence, points [T, 68, 2], action units and gaze with pose of one film.

    Of a frame number that stands twice the first row counts, and rows whose eyes lie in one place, or in none, have no face and are left out.
    """
    text = read_text(path)
    header = [name.strip() for name in next(csv.reader(io.StringIO(text, newline="")), [])]
    wanted = ("frame", "confidence", *POINTS, *UNITS, *GAZE_POSE)
    lacking = [name for name in wanted if name not in header]
    if lacking:
        raise DataError(f"{path}: lacks the column '{lacking[0]}'; a table as OpenFace writes it was expected")
    try:
        values = np.loadtxt(
            io.StringIO(text),
            delimiter=",",
            skiprows=1,
            ndmin=2,
            usecols=[header.index(name) for name in wanted],
            converters=_number,
        )
    except ValueError as error:
        raise DataError(f"{path}: a table of numbers was expected ({' '.join(str(error).split())})") from error
    broken = ~np.isfinite(values).all(axis=1)
    seen = np.isfinite(values[:, 2:138]).all(axis=1)
    if (broken & seen).any() or not np.isfinite(values[:, 0]).all():
        row = (
            int(np.argwhere(broken & seen)[0][0])
            if (broken & seen).any()
            else int(np.argwhere(~np.isfinite(values[:, 0]))[0][0])
        )
        raise DataError(f"{path}: row {row + 1} has a value that is not finite")
    values = values[np.unique(values[:, 0], return_index=True)[1]] if len(values) else values
    face = values[:, 2:138].reshape(-1, 2, 68).transpose(0, 2, 1)
    good = eyes_apart(face) > 0
    if not good.any():
        raise DataError(f"{path}: has no row with a face")
    values, face = values[good], face[good]
    return values[:, 0].astype(np.int64), values[:, 1], face, values[:, 138 : 138 + len(UNITS)], values[:, 138 + len(UNITS) :]


def _number(cell: str) -> float:
    """The number in a cell; NaN for none, which OpenFace writes as nan, -nan(ind) or nothing."""
    text = cell.strip().lower()
    return float("nan") if not text or text.lstrip("+-").startswith("nan") else float(text)


def eyes_apart(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance between the centres of the eyes in each frame."""
    return np.asarray(np.linalg.norm(points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1), axis=1))


def aligned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points with their mean taken out, divided by the distance between the eyes."""
    return np.asarray((points - points.mean(axis=1, keepdims=True)) / eyes_apart(points)[:, None, None])


def read_people(path: Path) -> dict[str, dict[str, str]]:
    """What is known of each participant. Raises DataError if the file is missing or has no column `participant`."""
    if not path.is_file():
        raise DataError(f"{path}: is not there; a CSV file with a row a participant was expected")
    with io.StringIO(read_text(path), newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "participant" not in rows[0]:
        raise DataError(f"{path}: has no column 'participant'")
    return {row["participant"]: row for row in rows}


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    if len(arguments) not in (2, 3):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of files that a terminal cannot show end nothing
    try:
        count, lost = convert(Path(arguments[0]), Path(arguments[1]), Path(arguments[2]) if len(arguments) == 3 else None)
    except (DataError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{arguments[1]}: {count} sequences; {lost} frames without a face lie between those beside them\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
