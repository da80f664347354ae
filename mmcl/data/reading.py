"""Reading a dataset: whatever its plug-in raises comes out as one sentence that says who was reading what."""

from __future__ import annotations

import stat
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.dataset import Dataset, HasHeaders, Header, SampleRef
from ..api.errors import DataError, MmclError, PluginError
from ..api.kinds import Layout
from ..api.modality import Modality
from ..api.raw import Raw, Timed
from .recordings import Recordings


@dataclass(frozen=True)
class Unread:
    """Stands for a stream that could not be had.

    reason  the sentence that says why, with the file, the recording and what was to be done
    alike   what recordings have in common that fail by the same fault of a plug-in, rather than each by its file; "" where it is the file's
    error   an error that a plug-in may have with all recordings, to be raised if it has
    """

    reason: str
    alike: str = ""
    error: PluginError | None = None


def samples_of(dataset: Dataset, name: str, root: Path | None) -> list[SampleRef]:
    """Every recording that a dataset lists.

    name  by which the recipe reaches the dataset

    Raises DataError if listing fails, whatever it fails by.
    """
    with _named(dataset, f"{root or name}: dataset '{name}' could not list its recordings"):
        return list(dataset.samples())


def recordings_of(dataset: Dataset, name: str, root: Path | None) -> Recordings:
    """The same in columns: of a dataset that hands out each when it is asked for, none is held as an object."""
    with _named(dataset, f"{root or name}: dataset '{name}' could not list its recordings"):
        return Recordings.of(dataset.samples())


def read_source(dataset: Dataset, name: str, id: str, source: str, where: str) -> Raw:
    """One source of a recording.

    where  the file it is in, as the dataset lists it

    Raises DataError if reading fails, whatever it fails by.
    """
    with _named(dataset, f"{where}: dataset '{name}' could not read '{source}' of recording '{id}'"):
        return dataset.read(id, source)


def read_header(dataset: Dataset, id: str, source: str, where: str) -> Header:
    """What the head of one source's file says; nothing where the dataset doesn't look at heads. Raises DataError as `read_source` does."""
    if not isinstance(dataset, HasHeaders):
        return Header()
    with _named(dataset, f"{where}: the head of '{source}' of recording '{id}' could not be read"):
        return dataset.header(id, source)


def extracted(modality: Modality, raw: Raw, layout: Layout, id: str, where: str) -> NDArray[Any] | Timed:
    """The stream that a modality makes of one recording's raw data.

    where  the file that it was read from

    Raises DataError, in one sentence, if this recording cannot be used, whatever the modality fails by; PluginError if the stream is not of
    the layout.
    """
    with _named(modality, f"{where}: {layout.kind} of recording '{id}' could not be extracted"):
        stream = modality.extract(raw)
    _check_stream(stream, layout, id, where)
    return stream


def _check_stream(stream: Any, layout: Layout, id: str, where: str) -> None:
    values = stream.values if isinstance(stream, Timed) else stream
    shape = values.shape[1:] if layout.timed else values.shape
    if tuple(shape) != layout.shape or values.ndim != len(layout.axes):
        raise PluginError(f"recording '{id}': the modality returned shape {tuple(values.shape)}, its layout is {layout}")
    if layout.timed and len(values) == 0:
        raise DataError(f"{where}: is too short to give a single step of {layout.kind}")
    if values.dtype != np.uint8 and not np.isfinite(values).all():
        place = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"{where}: {layout.kind} of recording '{id}' has {values[tuple(place)]} at index {place.tolist()}")
    if isinstance(stream, Timed) and (stream.times.shape != (len(values), 2) or not np.isfinite(stream.times).all()):
        raise DataError(f"{where}: recording '{id}' needs a start and an end in seconds for each of its {len(values)} steps")


def value_or_reason(read: Callable[[], Any], where: str, root: Path | None) -> Any:
    """What reading one recording gives, or, as `Unread`, why it gives nothing.

    where, root  its file and the folder of the data, to see whether that is one

    Raises errors of mmcl other than DataError and PluginError, and MemoryError: they are not the recording's.
    """
    try:
        _require_file(root, where)
        return read()
    except DataError as error:
        unforeseen = isinstance(error, _Fault) and not isinstance(error.__cause__, OSError)
        return Unread(str(error), type(error.__cause__).__name__ if unforeseen else "")
    except PluginError as error:
        return Unread(f"{where}: {error}", type(error).__name__, error)


def _require_file(root: Path | None, where: str) -> None:
    """Refuse a pipe, a socket or a device where a recording's file should be: reading one may never end."""
    path = None if root is None else root / where
    try:
        mode = path.stat().st_mode if path else None
    except (OSError, ValueError):
        return  # what it is, its reader says
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{where}: is neither a file nor a folder, but a pipe, a socket or a device; recordings are files")


@contextmanager
def _named(plugin: Any, words: str) -> Iterator[None]:
    """Whatever a plug-in raises as a DataError that begins with these words; our own errors stay what they are."""
    try:
        yield
    except (MmclError, MemoryError):
        raise
    except PermissionError as error:
        raise DataError(
            f"{words}: {error.filename or 'it'} may not be read ({error.strerror}); give yourself the right to"
        ) from error
    except Exception as error:
        raise _Fault(f"{words}: {_reason(plugin, error)}") from error


class _Fault(DataError):
    """What a plug-in stumbled over without a word of its own: the recording's fault, or the plug-in's."""


def _reason(plugin: Any, error: Exception) -> str:
    """What went wrong, and the plug-in's last line on the way there."""
    package = type(plugin).__module__.partition(".")[0]
    text = str(error).strip() or "no reason given"
    words = f"{type(error).__name__}: {text}"
    if isinstance(error, KeyError):
        words = f"there is no {error} (KeyError)"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).stem != Path(__file__).stem]
    mine = [frame for frame in own if package in Path(frame.filename).parts or Path(frame.filename).stem == package]
    last = (mine or own)[-1]
    return f"{words} ({package}, {Path(last.filename).name} line {last.lineno}); mend the file, or the plug-in where the file is right"
