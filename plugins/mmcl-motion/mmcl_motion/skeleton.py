"""A body as four streams: joints, bones, and the motion of both."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Sequence, Source

from . import SkeletonStreamsParams, pair_of
from .bones import parents_of
from .steps import between, require_promised, speed


class SkeletonStreams:
    """Gaps filled, centred, turned, scaled; then what the options ask for. y, the second coordinate, is taken as vertical."""

    def __init__(self, params: SkeletonStreamsParams, source: Source) -> None:
        assert source.rate is not None
        self.params, self.notes, self.rate = params, dict(source.notes), source.rate
        self.shape = tuple(int(n) for n in source.notes["shape"])
        self.pair = pair_of(source, params.view) if params.view != "none" else None
        wants_bones = params.scale == "bones" or bool({"bone", "bone-motion"} & set(params.streams))
        self.parents = list(parents_of(source.notes, self.shape[0])) if wants_bones else []
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, joint, coordinates · streams]. Raises DataError if no joint is seen, a value is infinite, or the body has no size."""
        assert isinstance(raw, Sequence)
        require_promised(raw, self.rate, self.shape)
        points = self._seen(raw.values.astype(np.float64))
        if self.params.root != "none":
            root = points[:, int(self.notes["root"])][:, None]
            points = points - (root[:1] if self.params.root == "first-frame" else root)
        if self.pair is not None:
            points = self._turned(points, *self.pair)
        points = points / self._size(points)
        bones = points - points[:, self.parents] if self.parents else points
        streams = {"joint": points, "bone": bones, "joint-motion": points, "bone-motion": bones}
        wanted = [speed(streams[name], self.rate) if name.endswith("motion") else streams[name] for name in self.params.streams]
        return np.concatenate(wanted, axis=2).astype(np.float32)

    def counts(self) -> dict[str, int]:
        """What was not seen so far."""
        return dict(self._counts)

    def _seen(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The joints, those that were not seen filled in; a joint that never was lies where the root is."""
        lacking = np.asarray(np.isnan(points).any(axis=2))
        if self.params.gaps == "interpolate":
            lacking |= (points == 0).all(axis=2)
        elif lacking.any():
            frame, joint = np.argwhere(lacking)[0]
            raise DataError(
                f"frame {frame + 1}, joint {joint} is NaN; a finite number was expected (gaps: interpolate fills it)"
            )
        if np.isinf(points).any():
            frame, joint = np.argwhere(np.isinf(points))[0][:2]
            raise DataError(f"frame {frame + 1}, joint {joint} is infinite; a finite number was expected")
        if lacking.all():
            raise DataError(f"none of its {len(points)} frames has a joint that was seen; all lie at zero")
        if not lacking.any():
            return points
        never = np.asarray(lacking.all(axis=0))
        root = int(self.notes.get("root", 0))
        if never[root]:  # at zero throughout: the positions were given from the root on
            points[:, root], lacking[:, root], never[root] = 0.0, False, False
        self._counts["joints of single frames that were not seen"] += int(lacking[:, ~never].sum())
        self._counts["joints that are not seen in a whole recording"] += int(never.sum())
        for joint in np.flatnonzero(lacking.any(axis=0) & ~never):
            points[:, joint] = between(points[:, joint], ~lacking[:, joint])
        points[:, never] = points[:, root][:, None]
        return points

    def _turned(self, points: NDArray[np.float64], first: int, second: int) -> NDArray[np.float64]:
        """Turned about the vertical axis so that the way from one joint to the other lies along x on average."""
        x, _, z = (points[:, second] - points[:, first]).mean(axis=0)
        width = float(np.hypot(x, z))
        if width < 1e-9:
            self._counts["recordings that do not say where the body faces"] += 1
            return points
        cosine, sine = x / width, z / width
        turned = points.copy()
        turned[..., 0] = points[..., 0] * cosine + points[..., 2] * sine
        turned[..., 2] = points[..., 2] * cosine - points[..., 0] * sine
        return turned

    def _size(self, points: NDArray[np.float64]) -> float:
        """What positions are divided by."""
        if self.params.scale == "none":
            return 1.0
        if self.params.scale == "bones":
            lengths = np.linalg.norm(points - points[:, self.parents], axis=2).sum(axis=1) / (points.shape[1] - 1)
        else:
            top, bottom = (int(joint) for joint in self.notes["torso"])
            lengths = np.linalg.norm(points[:, top] - points[:, bottom], axis=1)
        size = float(np.median(lengths))
        if size <= 1e-9:
            raise DataError(f"its {self.params.scale} have no length in most frames; the skeleton was not tracked")
        return size
