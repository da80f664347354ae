"""Messages, and machines that lack something: packages, and what the command brings that a message names; memory."""

from __future__ import annotations

import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path

import pytest

from mmcl.api import MmclError


def told(act: Callable[[], object], pattern: str) -> str:
    """What the error of an act gives where the pattern has its group: the value that it says is right."""
    with pytest.raises(MmclError) as error:
        act()
    match = re.search(pattern, str(error.value))
    assert match, str(error.value)
    return match[1]


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """As where these modules, by their whole names, are not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in modules:
            patch.setitem(sys.modules, name, None)
        yield


def brings(extra: str) -> set[str]:
    """The packages that pip install 'mmcl[EXTRA]' asks for, without those of other extras that it names."""
    wanted = [line for line in requires("mmcl") or () if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    return {re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0] for line in wanted}


def begin_in_little_memory(folder: Path, room: int) -> tuple[Callable[[int], int], Callable[[], Mapping[str, int]]]:
    """What readers begin with, on a machine whose memory holds so many of them."""
    with (folder / "readers").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n")
        file.seek(0)
        if len(file.readlines()) > room:
            raise MemoryError
    return lambda job: job + 1, dict
