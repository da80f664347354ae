"""What a dataset hands to a modality: one raw recording from one source, as plain numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Audio:
    """A waveform: samples float32 [n] (mono) in [-1, 1] and its rate in Hz."""

    samples: NDArray[np.float32]
    rate: int

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The samples in their order, a part [n] at a time. A long sound may be decoded while they are asked for, and only then show damage."""
        yield self.samples


@dataclass(frozen=True)
class Video:
    """Frames uint8 [T, channel, height, width] and their rate in frames per second.

    present  bool [T]: frames that show what the source is of, such as a face; the others are black. None: all of them
    """

    frames: NDArray[np.uint8]
    rate: float
    present: NDArray[np.bool_] | None = None

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """The frames in their order, a part [n, channel, height, width] at a time. A long film may be decoded while they are asked for, and only then show damage."""
        yield self.frames


@dataclass(frozen=True)
class Words:
    """Words and the times at which each is spoken, float64 [n, 2] in seconds; times None where nobody measured them."""

    words: tuple[str, ...]
    times: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Table:
    """Named columns over time, float32 [T, columns], such as an OpenFace CSV; rate None where there is one row per recording."""

    values: NDArray[np.float32]
    columns: tuple[str, ...]
    rate: float | None = None


@dataclass(frozen=True)
class Sequence:
    """A ready array over time [T, ...] and its steps per second."""

    values: NDArray[Any]
    rate: float


@dataclass(frozen=True)
class Pictures:
    """Pictures without a clock, uint8 [n, channel, height, width]: photographs of a person, pages, views of a thing, in no order that counts."""

    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Still:
    """Numbers that hold for the whole recording, of any shape [...]: answers to a questionnaire, an embedding that somebody else computed."""

    values: NDArray[Any]


Raw = Audio | Video | Words | Table | Sequence | Pictures | Still
"""Everything a source can hand out. `Source.type` names one of these in lower case."""


@dataclass(frozen=True)
class Source:
    """One stream of raw recordings that a dataset offers, described without reading any.

    type   "audio", "video", "words", "table", "sequence", "pictures" or "still": the class of what `Dataset.read` returns
    rate   its rate where every recording has the same one
    notes  what a modality may need: {"columns": [...]} of a table, {"shape": [20, 3], "axes": ["joint", "channel"],
           "graph": "kinect-20"} of a sequence, {"shape": [1, 48, 64]} of a video or of each picture, {"shape": [12]} of what is still
    """

    type: str
    summary: str
    rate: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Timed:
    """Steps that carry their own times: values [T, ...] and times float64 [T, 2] in seconds (words, irregular sensors)."""

    values: NDArray[Any]
    times: NDArray[np.float64]
