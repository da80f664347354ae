"""How a stream is laid out: its kind (which axes) and its layout (how long each axis is, how many steps a second)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of stream and the names of its axes, the batch axis left out.

    `time` is the axis that is padded and windowed and always comes first; a kind without it (`vector`) is one value per
    recording. `channel` is the axis over which a stream is normalised (one mean and deviation per channel). A kind without it
    holds no measurements but whole numbers that stand for something, such as ids of tokens: they are neither normalised nor
    changed at random, and reach the backbone as they are.
    """

    name: str
    axes: tuple[str, ...]
    summary: str

    @property
    def timed(self) -> bool:
        """Whether the kind has a time axis."""
        return "time" in self.axes


@dataclass(frozen=True)
class Layout:
    """What a modality's streams look like, known before any of them is read.

    kind   name of a registered Kind
    axes   the axes of that kind
    sizes  length of every axis but `time`
    rate   steps per second; None where steps carry their own times (words) or where there is no time axis
    scale  stored values are multiplied by this when a batch is made (1/255 for uint8 frames)
    notes  facts that a backbone may need, such as {"graph": "kinect-20"} for a skeleton, {"vocab": 21128} where ids are below
           that; JSON values only
    """

    kind: str
    axes: tuple[str, ...]
    sizes: Mapping[str, int]
    rate: float | None = None
    scale: float = 1.0
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Whether streams of this layout have a time axis."""
        return "time" in self.axes

    @property
    def measured(self) -> bool:
        """Whether streams of this layout hold measurements, which may be normalised, and not ids, which may not."""
        return "channel" in self.axes

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of one step (every axis but time), in the order of the axes."""
        return tuple(self.sizes[a] for a in self.axes if a != "time")

    def __str__(self) -> str:
        inside = " × ".join(a if a == "time" else f"{a} {self.sizes[a]}" for a in self.axes)
        return f"{self.kind} ({inside}{f', {self.rate:g} steps/s' if self.rate else ''})"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json and encoders.json."""
        return {
            "kind": self.kind,
            "axes": list(self.axes),
            "sizes": dict(self.sizes),
            "rate": self.rate,
            "scale": self.scale,
            "notes": dict(self.notes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Layout:
        """The layout that `to_json` wrote."""
        return cls(
            kind=value["kind"],
            axes=tuple(value["axes"]),
            sizes=dict(value["sizes"]),
            rate=value["rate"],
            scale=value["scale"],
            notes=dict(value["notes"]),
        )
