"""The networks of MPUC-MER's recipes as a good engineer writes them in an afternoon: rows of equal length, PyTorch's own layers.

Weights come in the order in which the toolkit's have them, so that `same_weights` can copy them over and both can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """1×1 → PReLU → norm → depthwise → PReLU → norm → 1×1."""

    def __init__(self, inner: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.widen = nn.Conv1d(inner, hidden, 1)
        self.first, self.second = nn.PReLU(), nn.PReLU()
        self.norm, self.last_norm = nn.GroupNorm(1, hidden, eps=1e-8), nn.GroupNorm(1, hidden, eps=1e-8)
        self.along = nn.Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation, groups=hidden)
        self.narrow = nn.Conv1d(hidden, inner, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, C, T] → the same."""
        hidden = self.norm(self.first(self.widen(hidden)))
        return self.narrow(self.last_norm(self.second(self.along(hidden))))


class ConvTasnet(nn.Module):
    """Blocks of 1×1 and depthwise dilated convolutions, channels first, global layer norm."""

    def __init__(self, channels: int, width: int, inner: int = 64, hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=1e-8)
        self.enter = nn.Conv1d(channels, inner, 1)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(ConvBlock(inner, hidden, 2**i) for _ in range(2) for i in range(5))
        self.activation = nn.PReLU()
        self.project = nn.Linear(inner, width)

    def forward(self, values: Tensor) -> Tensor:
        """[B, T, C] → [B, width]."""
        hidden = self.dropout(self.enter(self.norm(values.transpose(1, 2))))
        for block in self.blocks:
            hidden = hidden + self.dropout(block(hidden))
        return self.project(self.activation(hidden.mean(2)))


class TimeBlock(nn.Module):
    """Three convolutions over time, one of them a gate."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.plain, self.gate, self.rest = (nn.Conv2d(channels, width, (3, 1)) for _ in range(3))

    def forward(self, values: Tensor) -> Tensor:
        """[B, C, T, V] → [B, 64, T − 2, V]."""
        return functional.relu(self.plain(values) + torch.sigmoid(self.gate(values)) + self.rest(values))


class Stgcn(nn.Module):
    """The traffic network of Yu et al. on landmarks."""

    def __init__(self, mixing: Tensor, channels: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mixing", mixing)
        self.blocks = nn.ModuleList(self._block(inner, len(mixing)) for inner in (channels, 64))
        self.last = TimeBlock(64)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(64, width)

    def _block(self, channels: int, joints: int) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                "theta": nn.Linear(64, 16, bias=False),
                "before": TimeBlock(channels),
                "after": TimeBlock(16),
                "norm": nn.BatchNorm2d(joints),
            }
        )

    def forward(self, values: Tensor) -> Tensor:
        """[B, T, V, C] → [B, width]."""
        hidden = values.permute(0, 3, 1, 2)
        for block in self.blocks:
            hidden = block["before"](hidden)
            mixed = torch.einsum("vw,bctw->btvc", self.mixing, hidden)
            hidden = block["after"](functional.relu(block["theta"](mixed)).permute(0, 3, 1, 2))
            hidden = block["norm"](hidden.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
        return self.project(self.dropout(self.last(hidden)).mean((2, 3)))


class Text(nn.Module):
    """PyTorch's encoder on padded rows with a mask, mean over real steps."""

    def __init__(
        self, channels: int, width: int, heads: int = 5, layers: int = 6, inner: int = 2048, dropout: float = 0.1
    ) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(channels, heads, inner, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(channels, width)
        time, even = torch.arange(512.0)[:, None], torch.arange(0, channels, 2)
        angle = time / 10_000 ** (even / channels)
        self.register_buffer("positions", torch.stack([angle.sin(), angle.cos()], 2).flatten(1))

    def forward(self, values: Tensor, steps: Tensor) -> Tensor:
        """[B, T, C] and which steps are real [B, T] → [B, width]."""
        hidden = self.dropout(values + self.positions[: values.shape[1]])
        hidden = self.encoder(hidden, src_key_padding_mask=~steps) * steps[..., None]
        return self.project(self.dropout(hidden.sum(1) / steps.sum(1, keepdim=True)))


class Video(nn.Module):
    """torchvision's R(2+1)D-18."""

    def __init__(self, width: int, dropout: float = 0.1) -> None:
        from torchvision.models.video import r2plus1d_18

        super().__init__()
        self.network = r2plus1d_18(weights=None)
        self.network.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, width))

    def forward(self, values: Tensor) -> Tensor:
        """[B, T, C, H, W] → [B, width]."""
        return self.network(values.transpose(1, 2))


def projection(width: int, hidden: int, out: int) -> nn.Module:
    """The two layers before the loss."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))


def same_weights(plain: nn.Module, ours: nn.Module) -> None:
    """Copy the toolkit's weights over, in order. Raises ValueError where the two do not have the same ones."""
    mine, theirs = list(plain.parameters()), list(ours.parameters())
    if [p.numel() for p in mine] != [p.numel() for p in theirs]:
        raise ValueError("the two networks do not have the same weights")
    with torch.no_grad():
        for one, other in zip(mine, theirs, strict=True):
            one.copy_(other.t() if one.shape != other.shape and one.shape == other.t().shape else other.view_as(one))


def contrast(embeddings: Sequence[Tensor], temperature: float = 0.07) -> Tensor:
    """Every ordered pair by itself: normalise, multiply, cross-entropy."""
    target = torch.arange(len(embeddings[0]), device=embeddings[0].device)
    terms = []
    for i, left in enumerate(embeddings):
        for j, right in enumerate(embeddings):
            if i != j:
                cosine = functional.normalize(left, dim=-1) @ functional.normalize(right, dim=-1).T
                terms.append(functional.cross_entropy(cosine / temperature, target))
    return torch.stack(terms).mean()


def without_dropout(modules: Mapping[str, nn.Module]) -> None:
    """Switch every dropout off, so that two networks can be compared."""
    for module in modules.values():
        for one in module.modules():
            if isinstance(one, nn.Dropout):
                one.p = 0.0
            if isinstance(one, nn.MultiheadAttention):
                one.dropout = 0.0
