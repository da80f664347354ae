"""Canonical correlation: a linear space that modalities share, the baseline that learned projections have to beat in retrieval.

Each stream is averaged over equal parts of its time, brought to its principal components, and turned so that modalities agree
(Hotelling 1936). With more than two modalities the turn is that of MAXVAR (Kettenring 1971), which is the same for two. No
network, no draw, no label: whoever owns the data could have it in an afternoon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.store import Store
from ..data.windows import WHOLE, Span, cut
from .pooled import part_means
from .scale import Scale, fitted_scale

Floats = NDArray[np.float64]

COMPONENTS = 20
"""Principal components of a modality that are correlated: more would fit chance where recordings are few."""

DIRECTIONS = 10
"""Dimensions of the space in common."""

LEAST = 1e-8
"""Smallest variance of a component that is divided by, as a share of the largest."""


@dataclass
class Canonical:
    """A space in common that has been fitted; a modality that no training recording has is not in it."""

    scale: Scale
    turn: dict[str, Floats]  # [width, DIRECTIONS] by modality, each direction weighted by the root of its correlation

    def project(self, stores: Mapping[str, Store], rows: Sequence[int], span: Span = WHOLE) -> dict[str, Tensor]:
        """Where some recordings lie, float32 [n, DIRECTIONS] by modality; zeros where they lack it, no column where it is not in it."""
        spaces = {}
        for name, store in stores.items():
            values, present = _means(store, rows, span)
            if name not in self.turn:
                spaces[name] = torch.zeros(len(rows), 0)
                continue
            inside = _standardised(self.scale, name, values, present) @ self.turn[name]
            spaces[name] = torch.from_numpy((inside * present[:, None]).astype(np.float32))
        return spaces


def fit_canonical(
    stores: Mapping[str, Store], rows: Sequence[int], floor: float, clip: float | None, span: Span = WHOLE
) -> Canonical:
    """The space in common of some recordings. Of every two modalities those count that have both.

    floor, clip  how features are standardised first, as for a probe
    span         what is read of each recording
    """
    means = {name: _means(store, rows, span) for name, store in stores.items()}
    means = {name: (values, present) for name, (values, present) in means.items() if present.sum() > 1}
    scale = fitted_scale({name: torch.from_numpy(v[p]).float() for name, (v, p) in means.items()}, floor, clip)
    white, axes = {}, {}
    for name, (values, present) in means.items():
        standardised = _standardised(scale, name, values, present)
        axes[name] = _whitening(standardised[present])
        white[name] = standardised @ axes[name] * present[:, None]
    if len(white) < 2:
        return Canonical(scale, {})
    ends = np.cumsum([0, *(axis.shape[1] for axis in axes.values())])
    place = {name: slice(a, b) for name, a, b in zip(axes, ends[:-1], ends[1:], strict=True)}
    agree = np.zeros((ends[-1], ends[-1]))
    for a in white:
        for b in white:
            both = int((means[a][1] & means[b][1]).sum())
            if a != b and both:
                agree[place[a], place[b]] = white[a].T @ white[b] / both
    correlations, directions = np.linalg.eigh(agree)
    best = np.argsort(-correlations)[: min(DIRECTIONS, *(axis.shape[1] for axis in axes.values()))]
    weighted = directions[:, best] * np.sqrt(np.maximum(correlations[best], 0.0))
    return Canonical(scale, {name: axes[name] @ weighted[place[name]] for name in axes})


def _means(store: Store, rows: Sequence[int], span: Span) -> tuple[Floats, NDArray[np.bool_]]:
    """Means over parts of some recordings [n, width], and which of them have the modality."""
    cuts = [cut(store, row, span) for row in rows]
    present = np.array([one is not None for one in cuts], dtype=bool)
    whole = [part_means(np.asarray(one), store.layout) for one in cuts if one is not None]
    values = np.zeros((len(rows), len(whole[0]) if whole else 0))
    if whole:
        values[present] = np.stack(whole)
    return values, present


def _standardised(scale: Scale, name: str, values: Floats, present: NDArray[np.bool_]) -> Floats:
    rows = torch.ones(len(values), dtype=torch.bool)
    encoded = scale.encoded({name: torch.from_numpy(values).float()}, {name: torch.from_numpy(present)}, rows)
    return encoded[name].vector.double().numpy()


def _whitening(values: Floats) -> Floats:
    """The principal components of standardised values [n, width], each divided by its deviation: [width, components]."""
    from sklearn.utils.extmath import randomized_svd

    wanted = min(COMPONENTS, values.shape[1], len(values) - 1)
    _, singular, directions = randomized_svd(values, wanted, n_iter=7, random_state=0)
    variance = singular**2 / len(values)
    kept = variance > LEAST * variance[0]
    return np.asarray(directions[kept].T / np.sqrt(variance[kept]))
