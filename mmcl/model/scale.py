"""Frozen features as heads take them: in deviations from the mean of the training rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..api.batch import Encoded
from ..api.errors import StageError
from ..evaluate.answers import group_numbers
from ..recipe.plan import Part, Plan
from .frozen import Features


@dataclass
class Scale:
    """Mean and deviation of each modality's features, from training rows that have it."""

    mean: dict[str, Tensor]  # [width] by modality
    deviation: dict[str, Tensor]
    clip: float | None = None  # largest standardised value, either side of 0
    floor: float = 0.0  # that deviations were fitted with

    def encoded(
        self,
        vectors: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        rows: Tensor,
        groups: Tensor | None = None,
    ) -> dict[str, Encoded]:
        """Standardised features of some rows; a missing modality is zeros, which is the mean.

        groups  int64 [n]: each group's rows are centred and scaled by themselves, all that are here, whether among `rows` or not; no
                label is read. Raises StageError if a group has one row of a modality alone, which would be nothing but zeros
        """
        encoded = {}
        for name, vector in vectors.items():
            here = present[name][rows]
            if groups is None:
                values = (vector[rows] - self.mean[name]) / self.deviation[name]
            else:
                values = self._within(name, vector, present[name], groups)[rows]
            if self.clip is not None:
                values = values.clamp(-self.clip, self.clip)
            encoded[name] = Encoded(vector=values * here[:, None].to(values.dtype), present=here)
        return encoded

    def _within(self, name: str, vector: Tensor, present: Tensor, groups: Tensor) -> Tensor:
        """Every row in deviations from its own group's mean; no deviation is below a tenth of that of all training rows."""
        values = torch.zeros_like(vector)
        for group in sorted(set(groups[present].tolist())):
            mine = present & (groups == group)
            if int(mine.sum()) < 2:
                raise StageError(
                    f"standardise: group centres each group by its own recordings, and one group has a single recording of '{name}'; "
                    "use standardise: train"
                )
            own = vector[mine].double()
            deviation = torch.maximum(own.std(0, correction=0), 0.1 * self.deviation[name].double())
            values[mine] = ((own - own.mean(0)) / deviation).to(values.dtype)
        return values


def scale_of(plan: Plan, train: Mapping[str, Features]) -> Scale:
    """Mean and deviation over the training rows that have a modality, with the recipe's floor and clip."""
    vectors = {name: vector[train[name].present] for name, vector in _vectors(plan, train, list(train)).items()}
    return fitted_scale(vectors, plan.recipe.probe.floor, plan.recipe.probe.clip)


def fitted_scale(vectors: Mapping[str, Tensor], floor: float = 0.0, clip: float | None = None) -> Scale:
    """Mean and deviation of each set of vectors [n, width]; a constant feature stays as it is.

    floor  smallest deviation, in median deviations of the set's features that vary: what hardly varies here may vary elsewhere
    """
    mean, deviation = {}, {}
    for name, vector in vectors.items():
        values = vector.double() if len(vector) else torch.zeros(1, vector.shape[1], dtype=torch.float64)
        mean[name] = values.mean(0).float()
        spread = values.std(0, correction=0).float()
        varies = spread > 1e-6 * (1 + mean[name].abs())
        if floor and bool(varies.any()):
            spread = spread.clamp_min(floor * float(spread[varies].median()))
        deviation[name] = torch.where(varies, spread, torch.ones_like(spread))
    return Scale(mean=mean, deviation=deviation, clip=clip, floor=floor)


def encoded_of(
    plan: Plan,
    scale: Scale,
    features: Mapping[str, Features],
    modalities: Sequence[str],
    rows: Tensor,
    groups: Tensor | None = None,
) -> dict[str, Encoded]:
    """Standardised features of some rows, as heads take them; by group where `groups` (int64 [n]) says which rows are of one."""
    present = {name: features[name].present for name in modalities}
    return scale.encoded(_vectors(plan, features, modalities), present, rows, groups)


@dataclass(frozen=True)
class Sides:
    """The groups of a split's rows, as heads are told of them and as features are standardised by them."""

    numbers: Tensor  # int64 [n]
    known: bool  # whether groups may be told to heads: not where single recordings were split

    def of(self, rows: Tensor) -> Tensor | None:
        """What a head is told of some rows."""
        return self.numbers[rows] if self.known else None

    def within(self, part: Part) -> Tensor | None:
        """The groups by which a head's features are standardised; None where they are by training rows."""
        return self.numbers if part.standardise == "group" else None


def sides_of(plan: Plan, *splits: Mapping[str, Any]) -> list[Sides]:
    """The groups of each split's recordings; numbers mean the same in all of them."""
    numbers = group_numbers([name for who in splits for name in who["groups"]])
    ends = itertools.accumulate(len(who["groups"]) for who in splits)
    parts = [numbers[end - len(who["groups"]) : end] for who, end in zip(splits, ends, strict=True)]
    return [Sides(numbers=part, known=plan.recipe.protocol.by == "group") for part in parts]


def any_present(features: Mapping[str, Features], modalities: Sequence[str]) -> Tensor:
    """Rows with at least one of the modalities; the others cannot be predicted from them and are not counted."""
    return torch.stack([features[name].present for name in modalities]).any(0)


def vectors_of(which: str, features: Mapping[str, Features], modalities: Sequence[str]) -> dict[str, Tensor]:
    """The backbone's vectors, or the projections where `which` is "projection" and there are any."""
    return {
        name: features[name].projection
        if which == "projection" and features[name].projection.shape[1]
        else features[name].vector
        for name in modalities
    }


def _vectors(plan: Plan, features: Mapping[str, Features], modalities: Sequence[str]) -> dict[str, Tensor]:
    """What the recipe's `probe.features` asks for."""
    return vectors_of(plan.recipe.probe.features, features, modalities)
