"""Stacks cut streams into one padded, masked Stream per modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..api.batch import Batch, Items, Stream
from ..api.kinds import Layout
from .store import Store
from .windows import Span, cut


def stack(arrays: Sequence[NDArray[Any] | None], layout: Layout) -> Stream:
    """One modality of a batch. None is a missing row: zeros, not present. Padding is zeros, at the end."""
    steps = max((len(a) for a in arrays if a is not None), default=1)
    values = np.empty((len(arrays), steps, *layout.shape), np.float32)
    mask = np.zeros((len(arrays), steps), bool)
    for i, array in enumerate(arrays):
        length = 0 if array is None else len(array)
        if array is not None and layout.scale == 1.0:
            values[i, :length] = array
        elif array is not None:  # read once and written once: bytes of frames become floats on the way
            np.multiply(array, np.float32(layout.scale), out=values[i, :length], dtype=np.float32, casting="unsafe")
        values[i, length:] = 0
        mask[i, :length] = True
    tensor = torch.from_numpy(values)
    if not layout.timed:
        tensor = tensor.squeeze(1)
    real = torch.from_numpy(mask)
    return Stream(tensor, real, real.any(1))


def batch(stores: Mapping[str, Store], rows: Sequence[int], spans: Sequence[Span], views: Sequence[int] | None = None) -> Batch:
    """Recordings cut to their spans, in every modality."""
    streams = {
        name: stack([cut(store, row, span) for row, span in zip(rows, spans, strict=True)], store.layout)
        for name, store in stores.items()
    }
    view = torch.zeros(len(rows), dtype=torch.int64) if views is None else torch.tensor(list(views), dtype=torch.int64)
    return Batch(Items(torch.tensor(list(rows), dtype=torch.int64), view), streams)
