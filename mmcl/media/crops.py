"""What a film says of its main face: 68 points over time, and pictures of it, upright and all of one size."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from ..api.raw import Table, Video
from .files import cached_folder
from .film import LONG_FILM, film_frames
from .finder import SHA256, require_faces
from .frames import LongFilm
from .track import FaceTrack, track_face

VERSION = 1
"""Raised whenever a film gives other points: what the cache holds is then found again."""
SIZE = 112
"""Height and width in pixels of a crop, unless another is asked for."""
TEMPLATE = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
"""Where the centres of the eyes, the tip of the nose and the corners of the mouth lie in a crop of 112 × 112 (ArcFace: Deng et al. 2019)."""
FACE_COLUMNS = ("timestamp", "confidence", "success", *(f"x_{i}" for i in range(68)), *(f"y_{i}" for i in range(68)))
"""Of a table of points, named as OpenFace does; `timestamp` in seconds."""
NO_FACE = "frames of films without the main face, left as gaps"
OTHERS = "frames of films with another face alone"


def face_landmarks(path: Path, rate: float, seen: Counter[str] | None = None) -> Table:
    """68 points of a film's main face, a row for each 1 / rate s (see FACE_COLUMNS), in pixels of the film.

    path  a film, or a folder of numbered pictures that are shown at `rate`
    seen  counts frames that are gaps, for a dataset's `counts`

    Where the face is not seen `success`, `confidence` and all points are 0. The points are kept in the cache by the film's content, so that a
    film is searched once. Raises DataError as `read_film` does, if no frame has a face, or without the extra `faces`.
    """
    track = _kept(path, rate, seen)
    steps = len(track.points)
    values = np.zeros((steps, len(FACE_COLUMNS)), np.float32)
    values[:, 0] = np.arange(steps) / rate
    values[:, 1], values[:, 2] = track.confidence, track.present
    values[:, 3:71], values[:, 71:] = track.points[:, :, 0], track.points[:, :, 1]
    return Table(values, FACE_COLUMNS, rate)


def face_crops(path: Path, rate: float, size: int = SIZE, seen: Counter[str] | None = None) -> Video:
    """A film's main face, cut out a frame for each 1 / rate s: turned and scaled so that eyes, nose and mouth lie where ArcFace wants them.

    uint8 [T, 3, size, size]. Frames without the face are black, and `present` says which. Raises DataError as `face_landmarks` does.
    """
    track = _kept(path, rate, seen)
    steps, shape = len(track.points), (3, size, size)
    film = LongFilm(path, partial(_crops, path, track, rate, size), rate, shape, steps, track.present)
    return film if steps * 3 * size * size > LONG_FILM else Video(film.frames, rate, track.present)


def _crops(path: Path, track: FaceTrack, rate: float, size: int) -> Iterator[NDArray[np.uint8]]:
    """The face at each step of its track, [3, size, size]; black where it was not seen."""
    black, frames = np.zeros((3, size, size), np.uint8), film_frames(path, rate)
    for points, confidence in zip(track.points, track.confidence, strict=True):
        frame = next(frames, None)
        yield black if frame is None or confidence <= 0 else aligned(frame, points, size).transpose(2, 0, 1)
    for _ in frames:
        pass  # to its end, where damage shows


def aligned(frame: NDArray[np.uint8], points: NDArray[np.floating], size: int = SIZE) -> NDArray[np.uint8]:
    """The face with these 68 points cut out of a frame uint8 [height, width, 3]; black where the frame ends. uint8 [size, size, 3]."""
    from PIL import Image

    five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]).astype(np.float64)
    # points count pixels by their middles, Pillow by their edges
    turn, move = similarity((TEMPLATE + 0.5) * (size / 112), five + 0.5)
    shrink = max(1, int(np.linalg.norm(turn[0])))  # of a face larger than the crop, several pixels become one
    picture = Image.fromarray(frame).reduce(shrink)
    turn, move = turn / shrink, move / shrink
    given = (turn[0, 0], turn[0, 1], move[0], turn[1, 0], turn[1, 1], move[1])
    crop = picture.transform((size, size), Image.Transform.AFFINE, given, Image.Resampling.BILINEAR)
    return np.asarray(crop, np.uint8)


def similarity(points: NDArray[np.float64], onto: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The turn, scale and move that bring points [n, 2] nearest to others by least squares: a matrix [2, 2] and a vector [2]."""
    one, other = (pair[:, 0] + 1j * pair[:, 1] for pair in (points, onto))
    centred = one - one.mean()
    factor = (centred.conj() * (other - other.mean())).sum() / (np.abs(centred) ** 2).sum()
    move = other.mean() - factor * one.mean()
    return np.array([[factor.real, -factor.imag], [factor.imag, factor.real]]), np.array([move.real, move.imag])


def _kept(path: Path, rate: float, seen: Counter[str] | None) -> FaceTrack:
    """A film's face, from the cache if the film was searched before. Raises DataError if there is none."""
    from safetensors.numpy import load_file, save_file

    require_faces()
    name = hashlib.sha256(f"{VERSION} {SHA256} {rate!r} {_content(path)}".encode()).hexdigest()[:32]

    def write(folder: Path) -> None:
        track = track_face(film_frames(path, rate), rate)
        counts = np.array([track.faces, track.others], np.int64)
        save_file({"points": track.points, "confidence": track.confidence, "counts": counts}, folder / "track.safetensors")

    kept = load_file(cached_folder(f"face-{name}", write) / "track.safetensors")
    faces, others = (int(count) for count in kept["counts"])
    track = FaceTrack(points=kept["points"], confidence=kept["confidence"], faces=faces, others=others)
    if not track.present.any():
        raise DataError(
            f"{path}: no face was seen in its {len(track.points)} frames; a face that looks into the camera was expected"
        )
    if seen is not None:
        seen[NO_FACE] += int((~track.present).sum())
        seen[OTHERS] += others
    return track


def _content(path: Path) -> str:
    """A digest of a film, or of all pictures of a folder."""
    digest = hashlib.sha256()
    for file in sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
        digest.update(file.name.encode() if path.is_dir() else b"")
    return digest.hexdigest()
