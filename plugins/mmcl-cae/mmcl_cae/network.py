"""Encoder and decoder of CAE-LR, and the matrix they see."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Scored, Stream

from . import CaeParams, columns

KERNELS = (3, 3, 5, 5)


class Cae(nn.Module):
    """[B, 1, steps, features] → four convolutions with halving → vector → mirrored decoder."""

    def __init__(self, params: CaeParams, layouts: Mapping[str, Layout]) -> None:
        super().__init__()
        self.steps, self.indices = params.steps, params.unpool == "indices"
        self.names = tuple(layouts)
        self.columns = tuple(columns(layout) for layout in layouts.values())
        widths = (1, *params.channels)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=2) for a, b, kernel in zip(widths[:-1], widths[1:], KERNELS, strict=True)
        )
        self.norm = nn.ModuleList(nn.BatchNorm2d(width) for width in params.channels[:-1])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, kernel, padding=2)
            for a, b, kernel in reversed(list(zip(widths[:-1], widths[1:], KERNELS, strict=True)))
        )
        self.up_norm = nn.ModuleList(nn.BatchNorm2d(width) for width in reversed(params.channels[:-1]))
        rows, cols = params.steps, sum(self.columns)
        for kernel in KERNELS:
            rows, cols = (rows + 5 - kernel) // 2, (cols + 5 - kernel) // 2
        self.width = params.channels[-1] * rows * cols

    def forward(self, streams: Mapping[str, Stream]) -> Encoded:
        """The bottleneck, flattened."""
        hidden, _, _ = self._encode(self.matrix(streams)[0])
        present = torch.stack([streams[name].present for name in self.names]).any(0)
        return Encoded(hidden.flatten(1), present=present)

    def learn(self, streams: Mapping[str, Stream]) -> Scored:
        """Mean squared error over the features of the modalities that are there."""
        matrix, known = self.matrix(streams)
        hidden, sizes, places = self._encode(matrix)
        error = (self._decode(hidden, sizes, places) - matrix).square() * known
        here = known.flatten(1).any(1)
        each = error.flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
        return Scored(each.sum() / here.sum().clamp_min(1), here.sum())

    def matrix(self, streams: Mapping[str, Stream]) -> tuple[Tensor, Tensor]:
        """All modalities side by side, averaged into rows of equal time, and which entries are known: [B, 1, steps, features]."""
        parts, known = [], []
        for name in self.names:
            stream = streams[name]
            flat = stream.values.reshape(*stream.steps.shape, -1)
            rows = shares(stream.steps, self.steps).to(flat.dtype) @ flat
            parts.append(rows)
            known.append((stream.present & stream.steps.any(1))[:, None, None].expand_as(rows))
        return torch.cat(parts, 2)[:, None], torch.cat(known, 2)[:, None].to(parts[0].dtype)

    def _encode(self, hidden: Tensor) -> tuple[Tensor, list[torch.Size], list[Tensor]]:
        sizes, places = [], []
        for i, convolution in enumerate(self.down):
            hidden = convolution(hidden)
            if i < len(self.norm):
                hidden = functional.gelu(self.norm[i](hidden))
            sizes.append(hidden.shape[2:])
            hidden, where = functional.max_pool2d(hidden, 2, return_indices=True)
            places.append(where)
        return hidden, sizes, places

    def _decode(self, hidden: Tensor, sizes: list[torch.Size], places: list[Tensor]) -> Tensor:
        for i, convolution in enumerate(self.up):
            size, where = sizes[-1 - i], places[-1 - i]
            if self.indices:
                hidden = functional.max_unpool2d(hidden, where, 2, output_size=size)
            else:
                hidden = functional.interpolate(hidden, size=size, mode="nearest")
            hidden = convolution(hidden)
            if i < len(self.up_norm):
                hidden = functional.gelu(self.up_norm[i](hidden))
        return hidden


def shares(steps: Tensor, rows: int) -> Tensor:
    """How much of each of so many equal stretches of a recording each real step [B, T] fills: [B, rows, T], summing to 1."""
    count = steps.sum(1, keepdim=True)  # [B, 1]
    length = (count / rows)[:, None]  # steps in a stretch
    place = (steps.cumsum(1) - 1)[:, None]  # [B, 1, T]: how many real steps come before
    row = torch.arange(rows, device=steps.device)[None, :, None]
    overlap = torch.minimum((row + 1) * length, place + 1.0) - torch.maximum(row * length, place.float())
    return overlap.clamp_min(0) * steps[:, None] / length.clamp_min(1e-9)
