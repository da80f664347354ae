"""Finds UTD-MHAD's samples by the names of their files, and reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, SampleRef, Video
from mmcl.api import Sequence as Steps
from mmcl.media import Recordings, read_mat

from . import DEPTH, GET, UtdMhadParams

EXPECTED = "Skeleton/a1_s1_t1_skeleton.mat …, Inertial/a1_s1_t1_inertial.mat …, Depth/a1_s1_t1_depth.mat … (any of the three)"
FOLDERS = {"skeleton": "Skeleton", "inertial": "Inertial", "depth": "Depth"}
TRAIN_SUBJECTS = (1, 3, 5, 7)
"""The cross-subject protocol of the paper; the others are the test set."""

_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_(skeleton|inertial|depth)")


class UtdMhad:
    """The samples below one folder; 861 of the 27 × 8 × 4 were published."""

    def __init__(self, params: UtdMhadParams, root: Path | None) -> None:
        self.params = params
        self._recordings = Recordings(root, EXPECTED, GET, "sample", holds=tuple(FOLDERS.values()))

    def samples(self) -> Sequence[SampleRef]:
        """Every sample that has one of the three files, ordered by action, subject and trial."""
        return self._recordings.all(_listing)

    def read(self, id: str, source: str) -> Raw:
        """Joints [T, 20, 3], the sensor [T, 6], or depth [T, 1, height, width] in the size that the options ask for."""
        self.samples()
        sample, root = self._recordings.one(id, source), self._recordings.folder()
        path = root / sample.sources[source]
        if source == "skeleton":
            joints = _array(path, "d_skel", (20, 3, None))
            return Steps(np.ascontiguousarray(joints.transpose(2, 0, 1), dtype=np.float32), 30.0)
        if source == "inertial":
            samples = np.ascontiguousarray(_array(path, "d_iner", (None, 6)), dtype=np.float32)
            if self.params.clock == "common" and "skeleton" in sample.sources:
                frames = _array(root / sample.sources["skeleton"], "d_skel", (20, 3, None)).shape[2]
                samples = spread(samples, round(frames * 50 / 30))
            return Steps(samples, 50.0)
        return self._depth(path)

    def _depth(self, path: Path) -> Video:
        """Depth as the options ask for it, from the published files or from reduced ones."""
        (height, width), rate = DEPTH[self.params.depth]
        raw = read_mat(path, "d_depth")
        if raw.ndim == 3 and raw.shape[:2] == (240, 320) and raw.dtype == np.uint16:
            if self.params.depth == "reduced":
                raw = raw[:, :, ::2].reshape(48, 5, 64, 5, -1).mean(axis=(1, 3), dtype=np.float32)
            levels = np.minimum(raw // 16, 255).astype(np.uint8)
        elif raw.ndim == 3 and raw.shape[:2] == (48, 64) and raw.dtype == np.uint8:
            if self.params.depth == "original":
                raise DataError(f"{path}: holds reduced frames (uint8, 48 × 64), not the originals; set `depth: reduced`")
            levels = raw
        else:
            raise DataError(
                f"{path}: 'd_depth' is {raw.dtype} {list(raw.shape)}; "
                "uint16 [240, 320, frames] as published or uint8 [48, 64, frames] were expected"
            )
        frames = np.ascontiguousarray(levels.transpose(2, 0, 1)).reshape(-1, 1, height, width)
        return Video(frames, rate)


def _listing(root: Path) -> list[SampleRef]:
    sources: dict[tuple[int, int, int], dict[str, str]] = {}
    for source, folder in FOLDERS.items():
        for path in sorted((root / folder).glob("*.mat")):
            if not path.name.startswith("."):  # ._a1_… is what macOS leaves behind
                sources.setdefault(_place(path, source), {})[source] = path.relative_to(root).as_posix()
    if not sources:
        raise DataError(f"{root}: has no .mat file in {', '.join(FOLDERS.values())}; expected: {EXPECTED}. {GET}")
    return [_sample(*place, sources[place]) for place in sorted(sources)]


def spread(samples: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """The same movement [T, channel] in another number of evenly spaced steps, interpolated linearly; both ends stay."""
    places = np.linspace(0, len(samples) - 1, max(1, steps))
    known = np.arange(len(samples))
    return np.stack([np.interp(places, known, channel) for channel in samples.T], axis=1).astype(np.float32)


def _array(path: Path, key: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """An array of the given shape, None being time."""
    array = read_mat(path, key)
    fits = array.ndim == len(shape) and all(want is None or want == size for want, size in zip(shape, array.shape, strict=True))
    if not fits or array.size == 0:
        words = ", ".join("steps" if size is None else str(size) for size in shape)
        raise DataError(f"{path}: '{key}' is {list(array.shape)}; [{words}] was expected")
    return array


def _place(path: Path, source: str) -> tuple[int, int, int]:
    """Action, subject and trial by the name of a file. Raises DataError if it is not one of UTD-MHAD's names."""
    match = _NAME.fullmatch(path.stem)
    if match is not None and match[4] == source:
        action, subject, trial = (int(field) for field in match.groups()[:3])
        if 1 <= action <= 27 and 1 <= subject <= 8 and 1 <= trial <= 4:
            return action, subject, trial
    raise DataError(f"{path}: is misnamed; names are aA_sS_tT_{source}.mat with action 1–27, subject 1–8, trial 1–4")


def _sample(action: int, subject: int, trial: int, sources: dict[str, str]) -> SampleRef:
    return SampleRef(
        id=f"a{action}_s{subject}_t{trial}",
        group=f"subject-{subject}",
        sources=sources,
        targets={"action": action - 1},
        split="train" if subject in TRAIN_SUBJECTS else "test",
        facts={"trial": trial},
    )
