"""Inter-modality attention: what each modality's class token finds in each other modality, multiplied together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import DataError, Encoded, Task

from . import ImaParams


class ImaFusion(nn.Module):
    """X → Y for every ordered pair: queries are X's class token, keys and values Y's whole sequence, Y stays as it is.

    A modality that is missing gives zeros where it would be the core; what others would find in it is left out of their
    product (1), or their class token as it is (concat). One modality alone is its class token.
    """

    def __init__(self, params: ImaParams, task: Task, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.params, self.task, self.widths = params, task, dict(widths)
        names = list(widths)
        self.pairs = [(x, y) for x in names for y in names if x != y and params.fusion != "none"]
        self.stacks = nn.ModuleDict(
            {
                f"{x}>{y}": nn.ModuleList(CrossLayer(widths[x], widths[y], params) for _ in range(params.layers))
                for x, y in self.pairs
            }
        )
        each = len(names) - 1 if params.fusion == "concat" and self.pairs else 1
        size = sum(width * each for width in widths.values())
        self.mix, self.out = nn.Linear(size, size), nn.Linear(size, max(1, len(task.classes)))

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Logits or values [B, outputs]."""
        parts = []
        for name in self.widths:
            views = self.views(encoded, name)
            here = _present(encoded[name])[:, None]
            parts += [view * here.to(view.dtype) for view in views]
        output: Tensor = self.out(self.mix(torch.cat(parts, 1)).tanh())
        return output

    def views(self, encoded: Mapping[str, Encoded], core: str) -> list[Tensor]:
        """What a modality's class token becomes: one product, or one view of each other modality."""
        token = encoded[core].vector
        others = [y for x, y in self.pairs if x == core]
        if not others:
            return [token]
        views = []
        for other in others:
            view = token
            keys, real = self._sequence(encoded[other], other)
            for layer in self.stacks[f"{core}>{other}"]:
                view = layer(view, keys, real)
            there = _present(encoded[other])[:, None]
            neutral = torch.ones_like(view) if self.params.fusion == "hadamard" else token
            views.append(torch.where(there, view, neutral))
        if self.params.fusion == "concat":
            return views
        product = views[0]
        for view in views[1:]:
            product = product * view
        alone = torch.stack([_present(encoded[other]) for other in others]).any(0)[:, None]
        return [torch.where(alone, product, token)]

    def _sequence(self, one: Encoded, name: str) -> tuple[Tensor, Tensor]:
        """Keys and values [B, T, width] and which are real; the vector as a single step where there is no sequence."""
        if one.sequence is None or one.steps is None:
            return one.vector[:, None], torch.ones(len(one.vector), 1, dtype=torch.bool, device=one.vector.device)
        if one.sequence.shape[2] != self.widths[name]:
            raise DataError(
                f"head ima-fusion: '{name}' has steps of {one.sequence.shape[2]} and a vector of {self.widths[name]} numbers; a backbone whose "
                "steps are as wide as its vector is needed, such as cls-transformer"
            )
        steps = one.steps
        return one.sequence, torch.where(steps.any(1, keepdim=True), steps, torch.ones_like(steps))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, binary cross-entropy, or absolute (squared) error, each a mean; unknown labels (NaN) count nothing."""
        if self.task.type == "single-label":
            return functional.cross_entropy(output.float(), target)
        known = ~target.isnan()
        wanted = target.nan_to_num()
        if self.task.type == "multi-label":
            each = functional.binary_cross_entropy_with_logits(output.float(), wanted.float(), reduction="none")
        else:
            apart = output.float() - wanted.float().view_as(output)
            each = apart.abs() if self.params.regression == "l1" else apart.square()
        return (each * known.view_as(each)).sum() / known.sum().clamp_min(1)


class CrossLayer(nn.Module):
    """A class token asks another modality's sequence: attention, then feed-forward, each added to its input and normalised after."""

    def __init__(self, width: int, other: int, params: ImaParams) -> None:
        super().__init__()
        self.heads, self.rate = math.gcd(params.heads, width), params.dropout
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(other, width), nn.Linear(other, width)
        self.join = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, params.feedforward), nn.Linear(params.feedforward, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(params.dropout)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, token: Tensor, keys: Tensor, real: Tensor) -> Tensor:
        """[B, width], and [B, T, other] with which steps are real → [B, width]."""
        batch, size = token.shape[0], token.shape[1] // self.heads

        def split(values: Tensor) -> Tensor:
            return values.view(batch, -1, self.heads, size).transpose(1, 2)

        rate = self.rate if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            split(self.query(token)), split(self.key(keys)), split(self.value(keys)), real[:, None, None, :], rate
        )
        token = self.first(token + self.dropout(self.join(mixed.transpose(1, 2).flatten(1))))
        return self.second(token + self.dropout(self.narrow(functional.gelu(self.widen(token)))))


def _present(one: Encoded) -> Tensor:
    return torch.ones(len(one.vector), dtype=torch.bool, device=one.vector.device) if one.present is None else one.present
