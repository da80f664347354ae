"""CoMM: contrast of two windows of the fused recording, and of each modality with the fused one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcl.api import Group, Scored, StageError

from . import CommParams
from .softmax import mean_of, softmax_loss, unit


class Comm(nn.Module):
    """NCE(Z', Z'') + Σ_m ½ [NCE(Z_m, Z') + NCE(Z_m, Z'')] (Dufumier et al. 2025, Eq. 6 and 7).

    A transformer reads one token a modality and one of its own, whose place gives Z; Z_m is its reading of one modality alone. The
    candidates of a window are all other windows: those of the same recording are positives, the window itself counts neither
    way between two fusions. Z_m is contrasted with the fusions of the other windows of the recording and, as in the paper's second
    term, with its own window's.
    """

    reduction = "mean"

    def __init__(self, params: CommParams, widths: Mapping[str, int]) -> None:
        super().__init__()
        width = max(widths.values())
        if width % params.heads:
            raise StageError(
                f"comm: {params.heads} heads do not divide embeddings of {width} numbers; set heads to a divisor of it"
            )
        self.scale = 1 / params.temperature
        self.tokens = nn.ModuleDict({f"modality_{name}": nn.Linear(n, width) for name, n in widths.items()})
        self.mine = nn.Parameter(torch.randn(width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, params.heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.fusion = nn.TransformerEncoder(layer, params.layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, params.width))

    def fuse(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """Unit vectors [N, width] of recordings that have just these modalities."""
        tokens = [self.tokens[f"modality_{name}"](z.to(self.mine.dtype)) for name, z in embeddings.items()]
        mine = self.mine.expand(len(tokens[0]), -1)
        return unit(self.head(self.fusion(torch.stack([mine, *tokens], 1))[:, 0]))

    def forward(self, group: Group) -> Scored:
        """The loss; metrics: accuracy (of two fusions), and the loss of each term."""
        positive, negative = group.positive & ~group.ignore, ~(group.positive | group.ignore)
        elsewhere = positive & ~group.itself
        counts = elsewhere.any(1)
        fused, candidates = self.fuse(group.left), self.fuse(group.right)
        each, nearest = softmax_loss(fused @ candidates.T * self.scale, elsewhere, negative)
        both = mean_of(each, counts)
        alone = []
        for name, z in group.left.items():
            one = self.fuse({name: z}) @ candidates.T * self.scale
            halves = [softmax_loss(one, mask, negative)[0] for mask in (positive & group.itself, elsewhere)]
            alone.append(mean_of(sum(halves) / 2, counts))
        single = torch.stack(alone).sum()
        accuracy = (nearest & counts).sum() / counts.sum().clamp_min(1).to(each.dtype)
        return Scored(both + single, counts.sum(), {"accuracy": accuracy, "fused": both.detach(), "alone": single.detach()})
