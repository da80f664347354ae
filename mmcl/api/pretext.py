"""Pretext: learns one vector of all modalities together, by a task of its own, without labels and without pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .batch import Encoded, Stream
from .kinds import Layout
from .loss import Scored
from .params import Params


@runtime_checkable
class Pretext(Protocol):
    """A torch.nn.Module over the streams of one batch, one of each modality, normalised by the toolkit.

    width  size of the joint vector
    """

    width: int

    def __call__(self, streams: Mapping[str, Stream]) -> Encoded:
        """The joint vector of every recording, [B, width]. A missing modality is zeros, and `present` says so."""
        ...

    def learn(self, streams: Mapping[str, Stream]) -> Scored:
        """The loss of a batch, a mean over recordings, to be minimised while pretraining."""
        ...


@dataclass(frozen=True)
class PretextSpec:
    """What a pretext plug-in registers.

    build  (params, layouts of the modalities by name) → Pretext; heavy imports happen here
    fits   (params, layouts): raises ValueError with one sentence where the modalities cannot be joined
    """

    name: str
    summary: str
    params: type[Params]
    build: Callable[[Any, Mapping[str, Layout]], Pretext]
    fits: Callable[[Any, Mapping[str, Layout]], None] = lambda params, layouts: None
    paper: str = ""
    follows: str = ""
