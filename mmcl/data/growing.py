"""Tables that grow, in memory while they are short and from then on in a file without a name: one of any length is made in little memory.

The file lies where the system keeps temporary ones ($TMPDIR), unless a folder is given, and is gone with the table or its process.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

HELD = 2**20
"""Bytes of a table that are held in memory."""


class Spool:
    """Bytes that are added at the end, and then read as an array.

    folder  where they lie once they are many; left out: where the system keeps temporary files
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        self._count = 0

    def __len__(self) -> int:
        """Bytes so far."""
        return self._count

    def add(self, values: bytes | bytearray | memoryview) -> None:
        """Add some. Raises OSError where the disk is full."""
        self._count += len(values)
        if len(self._held) + len(values) <= HELD:
            self._held += values
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - it goes with the table
        self._file.write(self._held)
        self._file.write(values)
        self._held = bytearray()

    def array(self, kind: str | np.dtype[Any] = "u1") -> NDArray[Any]:
        """All of them as one row of numbers; mapped where they lie in a file. Nothing may be added after that."""
        if self._file is None:
            return np.frombuffer(bytes(self._held), kind)
        self._file.write(self._held)
        self._held = bytearray()
        self._file.flush()
        return np.memmap(self._file, kind, mode="r")


class Numbers:
    """Numbers of one type that are added at the end, one or some at a time; `code` as the standard library's `array` has it."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._last = array(code)
        self._most = HELD // self._last.itemsize
        self._spool = Spool()

    def __len__(self) -> int:
        return len(self._spool) // self._last.itemsize + len(self._last)

    def append(self, value: float) -> None:
        """Add one. Raises TypeError or OverflowError if the type cannot hold it."""
        self._last.append(value)  # type: ignore[arg-type]  # which of int and float it is, the code says
        if len(self._last) >= self._most:
            self._pass_on()

    def extend(self, values: Iterable[float]) -> None:
        """Add some."""
        self._last.extend(values)  # type: ignore[arg-type]  # likewise
        if len(self._last) >= self._most:
            self._pass_on()

    def fill(self, value: float, count: int) -> None:
        """Add one so many times."""
        for first in range(0, count, self._most):
            self.extend([value] * min(self._most, count - first))

    def array(self) -> NDArray[Any]:
        """All of them; mapped where they are many. Nothing may be added after that."""
        self._pass_on()
        return self._spool.array(np.dtype(self._code))

    def _pass_on(self) -> None:
        self._spool.add(self._last.tobytes())
        self._last = array(self._code)
