"""Frozen features as heads take them: in deviations from the mean of the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..api.batch import Encoded
from ..recipe.plan import Plan
from .frozen import Features


@dataclass
class Scale:
    """Mean and deviation of each modality's features, from training rows that have it."""

    mean: dict[str, Tensor]  # [width] by modality
    deviation: dict[str, Tensor]

    def encoded(self, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor], rows: Tensor) -> dict[str, Encoded]:
        """Standardised features of some rows; a missing modality is zeros, which is the training mean."""
        encoded = {}
        for name, vector in vectors.items():
            here = present[name][rows]
            values = (vector[rows] - self.mean[name]) / self.deviation[name]
            encoded[name] = Encoded(vector=values * here[:, None].to(values.dtype), present=here)
        return encoded


def scale_of(plan: Plan, train: Mapping[str, Features]) -> Scale:
    """Mean and deviation over the training rows that have a modality."""
    return fitted_scale({name: vector[train[name].present] for name, vector in _vectors(plan, train, list(train)).items()})


def fitted_scale(vectors: Mapping[str, Tensor]) -> Scale:
    """Mean and deviation of each set of vectors [n, width]; a constant feature stays as it is."""
    mean, deviation = {}, {}
    for name, vector in vectors.items():
        values = vector.double() if len(vector) else torch.zeros(1, vector.shape[1], dtype=torch.float64)
        mean[name] = values.mean(0).float()
        spread = values.std(0, correction=0).float()
        deviation[name] = torch.where(spread > 1e-6 * (1 + mean[name].abs()), spread, torch.ones_like(spread))
    return Scale(mean=mean, deviation=deviation)


def encoded_of(
    plan: Plan, scale: Scale, features: Mapping[str, Features], modalities: Sequence[str], rows: Tensor
) -> dict[str, Encoded]:
    """Standardised features of some rows, as heads take them."""
    return scale.encoded(_vectors(plan, features, modalities), {name: features[name].present for name in modalities}, rows)


def any_present(features: Mapping[str, Features], modalities: Sequence[str]) -> Tensor:
    """Rows with at least one of the modalities; the others cannot be predicted from them and are not counted."""
    return torch.stack([features[name].present for name in modalities]).any(0)


def _vectors(plan: Plan, features: Mapping[str, Features], modalities: Sequence[str]) -> dict[str, Tensor]:
    """What the recipe's `probe.features` asks for: the backbone's vectors, or the projections."""
    projection = plan.recipe.probe.features == "projection"
    return {name: features[name].projection if projection else features[name].vector for name in modalities}
