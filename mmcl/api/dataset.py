"""Dataset: which recordings there are, who is in them, what they are labelled with, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .params import Params
from .raw import Raw, Source


@dataclass(frozen=True)
class Task:
    """Something to predict.

    type     "single-label" (target: index into classes), "multi-label" (target: list of 0/1 in the order of classes) or
             "regression" (target: a number, or a list in the order of classes)
    classes  names, so that nobody ever relies on an order
    extra    further metrics of its field, by name: "sentiment" for values from −3 to 3 (Acc-7, Acc-2 and F1 in their variants)
    """

    name: str
    type: str
    classes: tuple[str, ...]
    summary: str = ""
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a dataset before any file of it is read; `mmcl check` works from this alone.

    group      what must never stand on both sides of a split ("actor", "video")
    official   names of the official splits it carries, of "train", "valid", "test"; () for none
    synthetic  True for made-up data: every report says so
    get        how to obtain the data, in a sentence or two
    """

    sources: Mapping[str, Source]
    tasks: Mapping[str, Task]
    group: str
    official: tuple[str, ...] = ()
    synthetic: bool = False
    licence: str = ""
    paper: str = ""
    get: str = ""


@dataclass(frozen=True)
class SampleRef:
    """One recording, as cheaply as it can be known.

    id       unique within the dataset
    group    speaker, actor, video: never on both sides of a split
    sources  source name → the file it is in, relative to the root (or any text that identifies it). A source that this
             recording lacks is not named
    targets  task name → int, float, or list of these; a missing label is left out
    split    its official split, or None
    facts    anything a report may colour or group by (sentence, intensity, take)
    """

    id: str
    group: str
    sources: Mapping[str, str]
    targets: Mapping[str, int | float | list[int] | list[float]]
    split: str | None = None
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


@runtime_checkable
class Dataset(Protocol):
    """Lists recordings and reads them one source at a time."""

    def samples(self) -> Sequence[SampleRef]:
        """Every recording, in a stable order, from names and tables alone.

        Raises DataError if the folder is missing or not laid out as expected, saying what was expected and how to get it.
        """
        ...

    def read(self, id: str, source: str) -> Raw:
        """One recording's raw data. Raises DataError naming the file if it is cut short or malformed."""
        ...


@runtime_checkable
class Counting(Protocol):
    """What a dataset or a modality may do besides: count what is odd in what it has read so far."""

    def counts(self) -> Mapping[str, int]:
        """What was found and how often, for the data card: {"words not in the vocabulary": 31}. Zeros may stand there too."""
        ...


@dataclass(frozen=True)
class Header:
    """What the head of one source of one recording says, without decoding it.

    seconds  how long it lasts; None where that is not known before it is read
    rate     samples, frames or rows a second; None where it has none
    shape    of one step of an array, or height and width of pictures, as they lie in the file; () where there is none
    """

    seconds: float | None = None
    rate: float | None = None
    shape: tuple[int, ...] = ()


@runtime_checkable
class HasHeaders(Protocol):
    """What a dataset may do besides: look at the head of a file, so that `mmcl data check` need not read all of it."""

    def header(self, id: str, source: str) -> Header:
        """The head of one recording's source. Raises DataError naming the file if it is missing, cut short or malformed."""
        ...


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset plug-in registers.

    needs_root  False for a dataset that makes its own data
    info        params → DatasetInfo; reads no data
    build       (params, root) → Dataset; root is None only if needs_root is False
    complete    (params, root) → params: what the options leave open and the root's own table says, such as names of columns and classes.
                Called while a plan is made, where the root is there; `info` then works from the result, which the plan states. Reads
                tables and headers alone, gives equal results for equal files, and leaves complete options as they are. Raises DataError
    read_file   (path, source) → Raw: one file, wherever it lies, read as such a source; for recordings that a finished run is asked about.
                Raises DataError naming the file if it cannot be that. Left out: the readers of the built-in dataset of one's own folder
    sample      (root, n, seed) → None: writes a tiny copy of about n recordings in the true file format, for tests and demos
    sample_for  (params, root, n, seed) → None: the same, with the files that these options read; left out: one copy suits all options
    """

    name: str
    summary: str
    params: type[Params]
    info: Callable[[Any], DatasetInfo]
    build: Callable[[Any, Path | None], Dataset]
    sample: Callable[[Path, int, int], None] | None = None
    needs_root: bool = True
    paper: str = ""
    complete: Callable[[Any, Path], Any] | None = None
    read_file: Callable[[Path, Source], Raw] | None = None
    sample_for: Callable[[Any, Path, int, int], None] | None = None
