"""The attention baseline of MPUC-MER, and what its code really computes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcl.api import Encoded, Task

from . import AttentionParams, outputs


class Attention(nn.Module):
    """Modalities as tokens → self-attention among those present → mean or one after the other → fc → ReLU → fc."""

    def __init__(self, params: AttentionParams, task: Task, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(widths)
        self.single, self.concat = params.tokens == "single", params.join == "concat"
        width = _divisible(sum(widths.values()) if self.single else params.width, params.heads)
        self.enter = nn.ModuleDict(
            {"all": nn.Identity() if sum(widths.values()) == width else nn.Linear(sum(widths.values()), width)}
            if self.single
            else {name: nn.Linear(size, width) for name, size in widths.items()}
        )
        self.attend = nn.MultiheadAttention(width, params.heads, dropout=params.dropout, batch_first=True)
        joined = width * len(widths) if self.concat and not self.single else width
        self.hidden = nn.Linear(joined, params.hidden)
        self.dropout = nn.Dropout(params.dropout)
        self.output = nn.Linear(params.hidden, outputs(task))

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Logits or values."""
        vectors = [encoded[name].vector for name in self.names]
        if self.single:
            token = self.enter["all"](torch.cat(vectors, 1))[:, None]
            joined = self.attend(token, token, token, need_weights=False)[0].squeeze(1)
        else:
            tokens = torch.stack([self.enter[name](v) for name, v in zip(self.names, vectors, strict=True)], 1)  # [B, M, width]
            here = torch.stack([_present(encoded[name]) for name in self.names], 1)  # [B, M]
            seen = here | ~here.any(1, keepdim=True)  # a row without any modality would be a softmax over nothing
            tokens = self.attend(tokens, tokens, tokens, key_padding_mask=~seen, need_weights=False)[0] * here[..., None]
            joined = tokens.flatten(1) if self.concat else tokens.sum(1) / here.sum(1, keepdim=True).clamp_min(1)
        output: Tensor = self.output(self.dropout(self.hidden(joined).relu()))
        return output


def _divisible(width: int, heads: int) -> int:
    """The next width that the heads divide."""
    return -(-width // heads) * heads


def _present(encoded: Encoded) -> Tensor:
    """Which rows have a modality."""
    if encoded.present is not None:
        return encoded.present
    return torch.ones(len(encoded.vector), dtype=torch.bool, device=encoded.vector.device)
