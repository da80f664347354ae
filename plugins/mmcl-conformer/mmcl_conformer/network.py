"""A Conformer whose convolutions and normalisations see real steps alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

from . import ConformerParams


class Conformer(nn.Module):
    """linear → layers → read-out over real steps."""

    def __init__(self, params: ConformerParams, layout: Layout) -> None:
        super().__init__()
        self.enter = nn.Linear(layout.sizes["channel"], params.units)
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.ModuleList(Layer(params) for _ in range(params.layers))
        self.parts = params.parts
        read = params.units * params.parts
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the steps, and every step."""
        steps = stream.steps
        hidden = self.dropout(self.enter(stream.values))
        distances = positions(steps.shape[1], hidden.shape[2], hidden)
        for layer in self.layers:
            hidden = layer(hidden, steps, distances)
        hidden = hidden * steps[..., None]
        vector = read_out(hidden, steps, self.parts)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, steps, self.width, self.project), steps=steps)


class Layer(nn.Module):
    """½ feed-forward, attention, convolution, ½ feed-forward, each added to its input; a normalisation at the end."""

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        self.first, self.second = FeedForward(params), FeedForward(params)
        self.attention, self.convolution = Attention(params), Convolution(params)
        self.norm = nn.LayerNorm(params.units)

    def forward(self, hidden: Tensor, steps: Tensor, distances: Tensor) -> Tensor:
        """[B, T, units] → the same."""
        hidden = hidden + self.first(hidden) / 2
        hidden = hidden + self.attention(hidden, steps, distances)
        hidden = hidden + self.convolution(hidden, steps)
        hidden = hidden + self.second(hidden) / 2
        normed: Tensor = self.norm(hidden)
        return normed


class FeedForward(nn.Sequential):
    """norm → linear → Swish → dropout → linear → dropout."""

    def __init__(self, params: ConformerParams) -> None:
        widen, narrow = nn.Linear(params.units, params.feedforward), nn.Linear(params.feedforward, params.units)
        super().__init__(
            nn.LayerNorm(params.units), widen, nn.SiLU(), nn.Dropout(params.dropout), narrow, nn.Dropout(params.dropout)
        )


class Attention(nn.Module):
    """Of step i to step j by (q_i + u) · k_j + (q_i + v) · r_(i − j), r a linear map of sinusoids (Dai et al.: Transformer-XL, ACL 2019)."""

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        size = params.units // params.heads
        self.heads, self.rate = params.heads, params.dropout
        self.norm = nn.LayerNorm(params.units)
        self.attend = nn.Linear(params.units, 3 * params.units)
        self.place = nn.Linear(params.units, params.units, bias=False)
        self.content, self.distance = (nn.Parameter(torch.zeros(params.heads, 1, size)) for _ in range(2))
        self.join, self.dropout = nn.Linear(params.units, params.units), nn.Dropout(params.dropout)

    def forward(self, hidden: Tensor, steps: Tensor, distances: Tensor) -> Tensor:
        """[B, T, units] → the same; padded steps are never looked at."""
        batch, length, _ = hidden.shape
        queries, keys, values = self.attend(self.norm(hidden)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        places = self.place(distances).view(2 * length - 1, self.heads, -1).permute(1, 2, 0)  # [heads, size, distances]
        by_distance = (queries + self.distance) @ places  # [B, heads, T, 2 T − 1]
        time = torch.arange(length, device=hidden.device)
        which = (time[:, None] - time[None, :] + length - 1).expand(batch, self.heads, -1, -1)
        scores = ((queries + self.content) @ keys.transpose(2, 3) + by_distance.gather(3, which)) / math.sqrt(queries.shape[3])
        weights = scores.masked_fill(~steps[:, None, None, :], torch.finfo(scores.dtype).min).softmax(3)
        mixed = functional.dropout(weights, self.rate, self.training).to(values.dtype) @ values
        joined: Tensor = self.dropout(self.join(mixed.transpose(1, 2).flatten(2)))
        return joined


class Convolution(nn.Module):
    """norm → linear → gate → depthwise convolution over time → norm → Swish → linear → dropout."""

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(params.units)
        self.widen = nn.Linear(params.units, 2 * params.units)
        self.near = nn.Conv1d(params.units, params.units, params.kernel, padding=params.kernel // 2, groups=params.units)
        self.normed = BatchNorm(params.units) if params.norm == "batch" else nn.LayerNorm(params.units)
        self.narrow, self.dropout = nn.Linear(params.units, params.units), nn.Dropout(params.dropout)

    def forward(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """[B, T, units] → the same."""
        gated = functional.glu(self.widen(self.norm(hidden)), 2) * steps[..., None]  # biases would reach over a row's end
        moved = self.near(gated.transpose(1, 2)).transpose(1, 2)
        if isinstance(self.normed, BatchNorm) and self.training:
            real = self.normed(moved[steps])
            moved = real.new_zeros(moved.shape).index_put((steps,), real)
        else:
            moved = self.normed(moved.flatten(0, 1)).view_as(moved)
        narrowed: Tensor = self.dropout(self.narrow(functional.silu(moved)))
        return narrowed


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of [n, C]; by its running statistics if there is but one value."""

    def forward(self, input: Tensor) -> Tensor:
        """The values, normalised."""
        if self.training and len(input) < 2:  # a single value has no deviation
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def positions(length: int, units: int, like: Tensor) -> Tensor:
    """Sinusoids of the distances 1 − length to length − 1: [2 · length − 1, units], sines before cosines."""
    distance = torch.arange(1 - length, length, device=like.device, dtype=torch.float32)
    half = torch.arange(units // 2, device=like.device, dtype=torch.float32)
    angle = distance[:, None] / 10_000 ** (2 * half / units)
    return torch.cat([angle.sin(), angle.cos()], 1).to(like.dtype)
