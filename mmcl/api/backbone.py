"""Backbone: turns a stream into a vector (and, if it keeps time, a sequence)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .batch import Encoded, Stream
from .kinds import Layout
from .params import Params


@runtime_checkable
class Backbone(Protocol):
    """A torch.nn.Module with a width; there is nothing to inherit.

    The toolkit hands over present rows only, so BatchNorm never sees filler; padded steps are zeros and must not change
    the result (`mmcl.testing` checks it).
    """

    width: int

    def __call__(self, stream: Stream) -> Encoded:
        """The stream's rows, encoded: vector [B, width]."""
        ...


def _always_fits(params: Any, layout: Layout) -> None:
    return None


@dataclass(frozen=True)
class BackboneSpec:
    """What a backbone plug-in registers.

    accepts  the axes it can take, such as (("time", "channel"),); any kind with these axes fits
    fits     (params, layout) → None; raises ValueError with a sentence if a fitting kind still can't be taken (21 joints for
             a graph of 20, say). Light: `mmcl check` calls it without torch
    build    (params, layout) → Backbone; heavy imports happen here
    follows  what it follows and where it differs from it, for `mmcl describe`
    rebuild  (params, layout) → the same network with any weights, for saved ones to be laid over; left out: build. For a backbone
             whose build reads weights from elsewhere, so that what was saved needs nothing but itself
    departs  which rule of the contract it breaks on purpose, in a sentence (an authors' slip, kept to be measured); every
             report that uses it says so. "" for all that are to be trusted
    """

    name: str
    summary: str
    accepts: tuple[tuple[str, ...], ...]
    params: type[Params]
    build: Callable[[Any, Layout], Backbone]
    fits: Callable[[Any, Layout], None] = _always_fits
    paper: str = ""
    follows: str = ""
    departs: str = ""
    rebuild: Callable[[Any, Layout], Backbone] | None = None
