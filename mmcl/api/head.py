"""Head: turns encoded modalities into a prediction. Probes and fusions are heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .batch import Encoded
from .dataset import Task
from .params import Params

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@runtime_checkable
class Head(Protocol):
    """A torch.nn.Module from encoded modalities to logits (or values) [B, outputs].

    outputs is the number of classes, or of values for regression. Rows whose modality is missing have zeros in `vector`
    and False in `present`.
    """

    def __call__(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Logits (single-label: before softmax; multi-label: before sigmoid) or values, [B, outputs]."""
        ...


@dataclass
class Labelled:
    """Encoded recordings with the target of one task, for fitting a head. Targets are int64 [B], or float [B, outputs].

    group  int64 [B]: which recordings are of one group (a speaker, a video), so that a head can choose what it needs by leaving whole
           groups out; None where that is not known. Numbers mean the same in `train` and `valid`
    """

    encoded: Mapping[str, Encoded]
    target: Tensor
    group: Tensor | None = None


@runtime_checkable
class SelfFitting(Protocol):
    """A head that brings its own solver. Heads without `fit` are trained by the toolkit's loop (early stop on valid).

    One that draws nothing, so that it ends as the same whatever the generator, may say so by an attribute `draws = False`: it is then fitted
    once for all of `probe.seeds`.
    """

    def fit(self, train: Labelled, valid: Labelled, generator: torch.Generator) -> Mapping[str, float]:
        """Fit on `train`, choose on `valid`; what was chosen (such as l2), for the log. Features come standardised."""
        ...


@runtime_checkable
class OwnLoss(Protocol):
    """A head that brings its own loss. The others get cross-entropy, BCE with weighted positives, or mean squared error.

    As a probe they learn the values of a regression centred and scaled by training rows, and answer in the original unit; one with a loss of its
    own, or its own way of deciding, learns them as they are.
    """

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar with gradient, from what the head gave and the targets of one batch (NaN: unknown)."""
        ...


@runtime_checkable
class Penalised(Protocol):
    """A head with a term beside its loss that does not compare with the target (a prior, a penalty on weights)."""

    def penalty(self, output: Tensor) -> Tensor:
        """A scalar with gradient, from what the head gave for one batch; added to the loss with weight 1."""
        ...


@runtime_checkable
class Deciding(Protocol):
    """A head that decides in its own way. The others say yes to a class of a multi-label task above a logit of 0."""

    def decide(self, output: Tensor) -> Tensor:
        """From what the head gave [B, outputs], values of the same shape whose sign is the decision and whose order the ranking."""
        ...


@dataclass(frozen=True)
class Shown:
    """A table of numbers that a head has to show, such as what it has learned of its classes; reports draw it."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]  # [rows][columns], plain finite numbers; None: nothing stands there


@runtime_checkable
class Showing(Protocol):
    """What a head may do besides: show what it has learned, in tables."""

    def show(self) -> Sequence[Shown]:
        """What there is to see once the head is trained; empty where its options leave nothing. Titles differ from each other."""
        ...


@dataclass(frozen=True)
class HeadSpec:
    """What a head plug-in registers.

    tasks  types of task it can do
    build  (params, task, widths) → Head, widths being the size of each modality's vector; heavy imports happen here
    solver  True if what `build` makes is SelfFitting: it fits frozen features, and encoders cannot be trained through it
    """

    name: str
    summary: str
    tasks: tuple[str, ...]
    params: type[Params]
    build: Callable[[Any, Task, Mapping[str, int]], Head]
    paper: str = ""
    solver: bool = False
