"""The files of the test rig: a line a cycle, values parted by tabs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmcl.api import DataError, SampleRef, Sequence

from . import CONDITIONS, SECONDS, SENSORS


class Rig:
    """Cycles by their number. A file of pressures has 90 MB: where its lines begin is looked up once, and one line is read at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._starts: dict[str, list[int]] = {}

    def samples(self) -> list[SampleRef]:
        """Every cycle, in the order in which they were run."""
        path = self.root / "profile.txt"
        if not path.is_file():
            raise DataError(
                f"{path}: is missing; the folder of the data set 'Condition monitoring of hydraulic systems' (UCI) was expected at {self.root}"
            )
        sources = {
            name: f"{files[0]}.txt"
            for name, (files, _) in SENSORS.items()
            if all((self.root / f"{file}.txt").is_file() for file in files)
        }
        refs: list[SampleRef] = []
        before, run = None, -1
        for k in range(len(self._places("profile"))):
            setting = self._line("profile", k).split()
            run += setting != before
            before = setting
            refs.append(
                SampleRef(
                    f"cycle-{k:04d}", f"run-{run:03d}", sources, {task: _class(path, k, setting, task) for task in CONDITIONS}
                )
            )
        return refs

    def read(self, id: str, source: str) -> Sequence:
        """One source of one cycle: [seconds · rate, channels]."""
        files, rate = SENSORS[source]
        cycle = int(id.removeprefix("cycle-"))
        channels = []
        for name in files:
            path, lines = self.root / f"{name}.txt", len(self._places(name))
            if cycle >= lines:
                raise DataError(f"{path}: has {lines} lines, and cycle {cycle} is line {cycle + 1}")
            try:
                values = np.array(self._line(name, cycle).split(), np.float32)
            except ValueError as error:
                raise DataError(f"{path}: line {cycle + 1} has a value that is not a number ({error})") from error
            if values.shape != (SECONDS * rate,) or not np.isfinite(values).all():
                raise DataError(
                    f"{path}: line {cycle + 1} has {len(values)} values; {SECONDS * rate} finite ones were expected"
                )
            channels.append(values)
        return Sequence(np.stack(channels, 1), rate=float(rate))

    def _places(self, name: str) -> list[int]:
        """Where each line of a file begins, in bytes."""
        if name not in self._starts:
            path, starts, place = self.root / f"{name}.txt", [], 0
            try:
                with path.open("rb") as file:
                    for line in file:
                        if line.strip():
                            starts.append(place)
                        place += len(line)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
            self._starts[name] = starts
        return self._starts[name]

    def _line(self, name: str, cycle: int) -> str:
        path = self.root / f"{name}.txt"
        try:
            with path.open("rb") as file:
                file.seek(self._places(name)[cycle])
                return file.readline().decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: line {cycle + 1} is no text of numbers ({error})") from error


def _class(path: Path, cycle: int, setting: list[str], task: str) -> int:
    column, classes = list(CONDITIONS).index(task), list(CONDITIONS[task])
    try:
        return classes.index(int(float(setting[column])))
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: line {cycle + 1} has no condition of the {task}; one of {classes} was expected") from error


def write_sample(root: Path, n: int, seed: int) -> None:
    """Cycles in the publisher's layout; a worn part shows as less pressure, more heat and more vibration."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    profile, lines = [], {name: [] for files, _ in SENSORS.values() for name in files}
    for k in range(n):
        worn = (k // 2) % 3
        setting = [list(classes)[worn % len(classes)] for classes in CONDITIONS.values()]
        profile.append("\t".join(map(str, [*setting, 0])))
        for number, (files, rate) in enumerate(SENSORS.values()):
            time = np.arange(SECONDS * rate) / rate
            for file in files:
                wave = np.sin(2 * np.pi * time * (0.1 + 0.05 * worn)) + 10 * (number + worn) + rng.normal(0, 0.2, len(time))
                lines[file].append("\t".join(f"{value:.3f}" for value in wave))
    (root / "profile.txt").write_text("\n".join(profile) + "\n", encoding="utf-8")
    for name, rows in lines.items():
        (root / f"{name}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
