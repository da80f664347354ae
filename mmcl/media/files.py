"""Files and folders that are there, or a DataError of one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..api.errors import DataError


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
