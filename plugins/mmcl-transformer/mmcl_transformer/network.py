"""Transformer encoder with positions along time, a padding mask and a masked mean.

Only the real steps go through the linear layers, one after another [steps of all rows, width]; attention alone needs rows of
equal length. So padding costs little.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import TransformerParams


class Transformer(nn.Module):
    """(linear →) + positions → encoder layers → mean over real steps."""

    def __init__(self, params: TransformerParams, layout: Layout, by_row: bool = False) -> None:
        super().__init__()
        channels = layout.sizes["channel"]
        inner = params.width or channels
        self.enter = nn.Linear(channels, inner) if inner != channels else nn.Identity()
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.ModuleList(Layer(inner, params) for _ in range(params.layers))
        self.leave = nn.LayerNorm(inner) if params.norm == "pre" else nn.Identity()
        self.positions = "rows" if by_row else params.positions
        self.project = nn.Linear(inner, params.output) if params.output else None
        self.width = params.output or inner

    def forward(self, stream: Stream) -> Encoded:
        """The mean of the real steps, and every step."""
        steps = stream.steps
        row, time = _places(steps)
        hidden = self.enter(stream.values[row, time])
        if self.positions != "none":
            count, place = (steps.shape[0], row) if self.positions == "rows" else (steps.shape[1], time)
            hidden = hidden + positions(count, hidden.shape[1], hidden)[place]
        hidden = self.dropout(hidden)
        for layer in self.layers:
            hidden = layer(hidden, row, time, steps)
        hidden = self.leave(hidden)
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        sequence = _unpack(hidden, row, time, steps)
        vector = sequence.sum(1) / steps.sum(1, keepdim=True).clamp_min(1)
        if self.project is not None:
            vector = self.project(self.dropout(vector))
        return Encoded(vector=vector, sequence=sequence, steps=steps)


class Layer(nn.Module):
    """Self-attention, then a feed-forward network, each added to its input and normalised after (post) or before (pre)."""

    def __init__(self, width: int, params: TransformerParams) -> None:
        super().__init__()
        self.heads, self.pre = params.heads, params.norm == "pre"
        self.attend = nn.Linear(width, 3 * width)  # queries, keys, values
        self.join = nn.Linear(width, width)
        self.widen = nn.Linear(width, params.feedforward)
        self.narrow = nn.Linear(params.feedforward, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.activation = nn.GELU() if params.activation == "gelu" else nn.ReLU()
        self.dropout = nn.Dropout(params.dropout)
        nn.init.xavier_uniform_(self.attend.weight)  # as PyTorch's attention begins
        nn.init.zeros_(self.attend.bias)
        nn.init.zeros_(self.join.bias)

    def forward(self, hidden: Tensor, row: Tensor, time: Tensor, steps: Tensor) -> Tensor:
        """The next layer's input, for the real steps that `steps` [B, T] has at (row, time)."""
        if self.pre:
            hidden = hidden + self._attention(self.first(hidden), row, time, steps)
            hidden = hidden + self._feedforward(self.second(hidden))
        else:
            hidden = self.first(hidden + self._attention(hidden, row, time, steps))
            hidden = self.second(hidden + self._feedforward(hidden))
        return hidden

    def _attention(self, hidden: Tensor, row: Tensor, time: Tensor, steps: Tensor) -> Tensor:
        batch, length = steps.shape
        joined = _unpack(self.attend(hidden), row, time, steps)
        queries, keys, values = joined.view(batch, length, 3, self.heads, hidden.shape[1] // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if not torch.compiler.is_exporting() and len(row) == steps.numel() else steps[:, None, None, :]
        rate = self.dropout.p if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(queries, keys, values, mask, rate)  # [B, heads, T, width / heads]
        mixed = self.join(mixed.transpose(1, 2)[row, time].flatten(1))
        return functional.dropout(mixed, rate)

    def _feedforward(self, hidden: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.widen(hidden)))
        return functional.dropout(self.narrow(hidden), self.dropout.p, self.training)


def _places(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Row and time of every real step; of every step while a graph is exported, which has no sizes that depend on values."""
    if not torch.compiler.is_exporting():
        row, time = steps.nonzero(as_tuple=True)
        return row, time
    row = torch.arange(steps.shape[0], device=steps.device)[:, None].expand(steps.shape)
    time = torch.arange(steps.shape[1], device=steps.device)[None, :].expand(steps.shape)
    return row.flatten(), time.flatten()


def _unpack(hidden: Tensor, row: Tensor, time: Tensor, steps: Tensor) -> Tensor:
    """Rows of equal length, [B, T, ...], with zeros where nothing is real."""
    if torch.compiler.is_exporting():
        return hidden.view(*steps.shape, hidden.shape[1]) * steps[..., None]
    if len(row) == steps.numel():
        return hidden.view(*steps.shape, hidden.shape[1])
    return hidden.new_zeros(*steps.shape, hidden.shape[1]).index_put((row, time), hidden)


def positions(steps: int, width: int, like: Tensor) -> Tensor:
    """Sinusoidal positions [steps, width], on the device and in the type of `like` (Vaswani et al. 2017, §3.5).

    Sine in even places, cosine in odd ones, wavelengths from 2π to 10,000 · 2π.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    time = torch.arange(steps, dtype=exact, device=like.device)[:, None]
    even = torch.arange(0, width, 2, dtype=exact, device=like.device)
    angle = time * torch.exp(-math.log(10_000.0) * even / width)
    table = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)  # sine, cosine, sine, …
    return table[:, :width].to(like.dtype)
