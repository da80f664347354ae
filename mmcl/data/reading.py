"""Reading a dataset: whatever its plug-in raises comes out as one sentence that says who was reading what."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.dataset import Dataset, HasHeaders, Header, SampleRef
from ..api.errors import DataError, MmclError, PluginError
from ..api.kinds import Layout
from ..api.modality import Modality
from ..api.raw import Raw, Timed


def samples_of(dataset: Dataset, name: str, root: Path | None) -> list[SampleRef]:
    """Every recording that a dataset lists.

    name  by which the recipe reaches the dataset

    Raises DataError if listing fails, whatever it fails by.
    """
    with _named(dataset, f"{root or name}: dataset '{name}' could not list its recordings"):
        return list(dataset.samples())


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

    Raises DataError, in one sentence, if this recording cannot be used; PluginError if the stream is not of the layout.
    """
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


@contextmanager
def _named(dataset: Dataset, words: str) -> Iterator[None]:
    """Whatever a dataset raises as a DataError that begins with these words; our own errors stay what they are."""
    try:
        yield
    except (MmclError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{words}: {_reason(dataset, error)}") from error


def _reason(dataset: Dataset, error: Exception) -> str:
    """What went wrong, and the plug-in's last line on the way there."""
    package = type(dataset).__module__.partition(".")[0]
    text = str(error).strip() or "no reason given"
    words = f"{type(error).__name__}: {text}"
    if isinstance(error, KeyError):
        words = f"there is no {error} (KeyError)"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).stem != Path(__file__).stem]
    mine = [frame for frame in own if package in Path(frame.filename).parts or Path(frame.filename).stem == package]
    last = (mine or own)[-1]
    return f"{words} ({package}, {Path(last.filename).name} line {last.lineno}); mend the file, or the plug-in where the file is right"
