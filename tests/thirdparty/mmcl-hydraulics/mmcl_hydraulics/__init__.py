"""Sensors of a hydraulic test rig as a dataset of mmcl. Nothing heavy is imported here: every command of mmcl imports this file."""

from __future__ import annotations

from pathlib import Path

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, NoParams, Register, Source, Task, hookimpl

MMCL_API = "1.1"

SENSORS = {
    "pressure": (("PS1", "PS2", "PS3", "PS4", "PS5", "PS6"), 100),
    "flow": (("FS1", "FS2"), 10),
    "temperature": (("TS1", "TS2", "TS3", "TS4"), 1),
    "vibration": (("VS1",), 1),
}
"""Source → the files that hold its channels, and values a second; each file has a line a cycle."""

SECONDS = 60
CONDITIONS = {
    "cooler": {3: "close to failure", 20: "reduced", 100: "full"},
    "valve": {73: "close to failure", 80: "severe lag", 90: "small lag", 100: "optimal"},
    "pump": {0: "no leakage", 1: "weak leakage", 2: "severe leakage"},
    "accumulator": {90: "close to failure", 100: "severely reduced", 115: "slightly reduced", 130: "optimal"},
}
"""Task → value in its column of profile.txt → class; columns in this order."""


def info(params: NoParams) -> DatasetInfo:
    """What is known before any file is read."""
    return DatasetInfo(
        sources={
            name: Source("sequence", name, rate=float(rate), notes={"shape": [len(files)], "axes": ["channel"]})
            for name, (files, rate) in SENSORS.items()
        },
        tasks={
            name: Task(name, "single-label", tuple(classes.values()), f"condition of the {name}")
            for name, classes in CONDITIONS.items()
        },
        group="run of cycles under one setting",
        licence="CC BY 4.0",
        paper="Helwig, Pignanelli, Schütze: Condition Monitoring of a Complex Hydraulic System Using Multivariate Statistics, I2MTC 2015",
        get="UCI Machine Learning Repository, 'Condition monitoring of hydraulic systems'; unpack it into DIR/hydraulics.",
    )


def build(params: NoParams, root: Path | None) -> Dataset:
    """The recordings below a folder."""
    from .rig import Rig

    assert root is not None
    return Rig(root)


def sample(root: Path, n: int, seed: int) -> None:
    """A tiny copy of n cycles in the true file format."""
    from .rig import write_sample

    write_sample(root, n, seed)


HYDRAULICS = DatasetSpec("hydraulics", "sensors of a hydraulic test rig, cycle by cycle", NoParams, info, build, sample)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer the dataset."""
    register(HYDRAULICS)
