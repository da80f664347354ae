"""A dataset of as many tiny clips as one likes, made as they are read: what growth costs apart from what clips cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcl.api import DatasetInfo, DatasetSpec, Field, Params, Raw, Register, SampleRef, Source, Task, hookimpl
from mmcl.api import Sequence as Series

STEPS, CHANNELS, RATE, CLASSES = 4, 8, 4.0, ("calm", "glad", "cross")


class Options(Params):
    """How many."""

    clips: int = Field(1000, ge=10, description="clips; a person has a hundred of them")


class Clips(Sequence[SampleRef]):
    """Each made when it is asked for: a tenth of the people validate, two tenths test."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i < self.count:
            raise IndexError(i)
        person = i % max(10, self.count // 100)
        return SampleRef(
            id=f"clip-{i:08d}",
            group=f"person-{person:06d}",
            sources={"left": f"{i}", "right": f"{i}"},
            targets={"mood": i % len(CLASSES)},
            split=("test", "test", "valid")[person % 10] if person % 10 < 3 else "train",
        )


class Tiny:
    """Clips of two sensors that see one motion."""

    def __init__(self, clips: int) -> None:
        self.clips = clips

    def samples(self) -> Sequence[SampleRef]:
        """Every clip."""
        return Clips(self.clips)

    def read(self, id: str, source: str) -> Raw:
        """The clip's class, its own motion and noise."""
        i = int(id.removeprefix("clip-"))
        shared = np.random.default_rng(i).standard_normal((STEPS, CHANNELS))
        shared[:, i % len(CLASSES)] += 1
        noise = np.random.default_rng((i, source == "left")).standard_normal((STEPS, CHANNELS))
        return Series((shared + noise).astype(np.float32), RATE)


def info(params: Options) -> DatasetInfo:
    """Two sensors, one label."""
    sensor = Source("sequence", "a sensor", RATE, {"shape": [CHANNELS], "axes": ["channel"]})
    return DatasetInfo(
        sources={"left": sensor, "right": sensor},
        tasks={"mood": Task("mood", "single-label", CLASSES)},
        group="person",
        official=("train", "valid", "test"),
        synthetic=True,
    )


def build(params: Options, root: Path | None) -> Tiny:
    """The dataset."""
    return Tiny(params.clips)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer the dataset."""
    register(
        DatasetSpec(
            name="tiny",
            summary="tiny clips of two sensors; needs no files",
            params=Options,
            info=info,
            build=build,
            needs_root=False,
        )
    )
