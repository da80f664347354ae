"""Files and folders that are there, or a DataError of one sentence."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..api.errors import DataError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the small text begins that Git leaves where the file itself was not fetched."""


def require_folder(path: Path | None, expected: str, get: str, holds: Sequence[str] = ()) -> Path:
    """The folder itself, if it is there and, with `holds`, has something that matches one of these glob patterns.

    expected  what belongs in it, as it should stand in the message
    get       how to obtain it, in a sentence or two: `DatasetInfo.get`

    Raises DataError otherwise.
    """
    if path is None:
        raise DataError(f"no data folder was given; expected: {expected}. {get}")
    if not path.is_dir():
        raise DataError(f"{path}: {'is not a folder' if path.exists() else 'is not there'}; expected: {expected}. {get}")
    if holds and not any(next(path.glob(pattern), None) for pattern in holds):
        raise DataError(f"{path}: has none of {', '.join(holds)}; expected: {expected}. {get}")
    return path


def require_file(path: Path, expected: str) -> None:
    """Refuse what is not a file, or an empty one."""
    if not path.is_file():
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'is not there'}; {expected} was expected")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty; {expected} was expected")
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise DataError(
                f"{path}: is a pointer of Git LFS, and {expected} was expected; 'git lfs pull' fetches the file itself"
            )


def packaged_files(module: str, files: Mapping[str, str], absent: str, install: str) -> Path:
    """The folder of an installed package that carries these files, each seen to be the one that is expected; the package is not imported.

    files    path in the package → SHA-256, in hexadecimal
    absent   what to say if the package is not installed, up to the command that installs it
    install  that command

    Raises DataError if the package or a file is not there, or a file is another one.
    """
    spec = importlib.util.find_spec(module)
    where = list(spec.submodule_search_locations or ()) if spec else []
    if not where:
        raise DataError(f"{absent}: {install}")
    for name, expected in files.items():
        path = Path(where[0]) / name
        if not path.is_file():
            again = _install_again(module, install)
            raise DataError(f"{path}: is not there; the version was expected that this installs: {again}")
        with path.open("rb") as file:
            there = hashlib.file_digest(file, "sha256").hexdigest()
        if there != expected:
            again = _install_again(module, install)
            raise DataError(f"{path}: its SHA-256 is {there}, and {expected} was expected, which this installs: {again}")
    return Path(where[0])


def _install_again(module: str, install: str) -> str:
    """The command that brings a package's files anew: what is there in the right version, pip leaves as it is, damaged or not."""
    names = importlib.metadata.packages_distributions().get(module)
    return f"pip uninstall -y {names[0]} && {install}" if names else install


def require_room(path: Path, seconds: float, size: int, what: str) -> None:
    """Refuse a recording whose decoded sound or pictures, of so many bytes, this machine's memory cannot hold: the system would end the run."""
    if 2 * size > (room := memory()):  # what is decoded is put together once
        raise DataError(
            f"{path}: its {seconds / 3600:.1f} h of {what} take {2 * size / 1e9:.1f} GB while they are read, and this machine has "
            f"{room / 1e9:.1f} GB; cut it into shorter recordings"
            + (", or ask for a smaller size" if what == "pictures" else "")
        )


@functools.cache
def memory() -> float:
    """Bytes of memory that this process may use: those of the machine, or of its control group."""
    limits = [math.inf]
    with contextlib.suppress(ValueError, OSError, AttributeError):  # not known on this system
        limits.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            limits.append(float(Path(place).read_text(encoding="ascii")))
    return min(limits)


def cache_root() -> Path:
    """The folder of the cache, which need not be there: $MMCL_CACHE, else ~/.cache/mmcl. Raises DataError where there is no home either."""
    try:
        return Path(os.environ.get("MMCL_CACHE") or "~/.cache/mmcl").expanduser()
    except RuntimeError as error:
        raise DataError(
            "there is no home folder to keep a cache in: name a folder that can be written in MMCL_CACHE"
        ) from error


def cached_folder(name: str, write: Callable[[Path], None]) -> Path:
    """A folder of the cache, written whole on the first call by `write`, which is given an empty one.

    Raises DataError if the cache cannot be written.
    """
    cache = cache_root()
    folder = cache / name
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
    except OSError as error:
        where = "the folder that MMCL_CACHE names" if os.environ.get("MMCL_CACHE") else "the cache"
        raise DataError(
            f"{cache}: {where} cannot be written ({error.strerror}): name one that can be written in MMCL_CACHE"
        ) from error
    try:
        try:
            write(part)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DataError(f"{cache}: the disk is full ({error.strerror}): name a folder elsewhere in MMCL_CACHE") from error
        try:
            part.replace(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
