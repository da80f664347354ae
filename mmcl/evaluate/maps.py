"""Embeddings in two dimensions, for looking at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


ITERATIONS = 500
"""Of t-SNE: half of scikit-learn's default, after which the divergence of 300 points is 0.1 % from where it ends, and of 100 points 3 %."""


def flatten(z: NDArray[Any], method: str, seed: int) -> Floats:
    """Embeddings [n, D] as points [n, 2], centred, the longer side of the map from −1 to 1.

    method  pca; tsne (van der Maaten & Hinton 2008, perplexity 30, or a third of n where there are few); umap (McInnes et al. 2018)
    seed    t-SNE and UMAP begin with it; equal input and seed give equal points
    """
    x = np.asarray(z, np.float64)
    largest = np.abs(x).max(initial=0.0)
    x = x - x.mean(0)
    if np.abs(x).max(initial=0.0) <= 1e-12 * largest:  # all the same: what is left is rounding, which would fill the map
        x = np.zeros_like(x)
    if len(x) < 4 or not np.any(x):
        method = "pca"
    if method == "pca":
        left, size, right = np.linalg.svd(x, full_matrices=False)
        # a singular vector's sign is arbitrary: its largest weight is made positive
        signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
        points = (left * size * np.where(signs == 0, 1, signs))[:, :2]
    elif method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, max(2.0, math.floor((len(x) - 1) / 3)))
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed % 2**32, max_iter=ITERATIONS).fit_transform(x)
    elif method == "umap":
        import umap

        points = umap.UMAP(n_components=2, n_neighbors=min(15, len(x) - 1), random_state=seed % 2**32).fit_transform(x)
    else:
        raise ValueError(f"no map is named '{method}'; pca, tsne or umap was expected")
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    middle = (points.max(0) + points.min(0)) / 2
    reach = float(np.abs(points - middle).max())
    scaled: Floats = np.asarray((points - middle) / (reach or 1.0), np.float64)
    return scaled
