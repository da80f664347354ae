"""The traffic network of Yu et al. 2018 on landmarks or joints, as MPUC-MER's code has it under the name of ST-GCN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import StgcnYuParams
from .graphs import graph_of
from .network import Packing

LOST = 10
"""Steps lost to five convolutions of 3 steps without padding."""


class StgcnYu(nn.Module):
    """(time block → Â·Θ → time block → norm over nodes)² → time block → dropout → read-out.

    A row of fewer than LOST + 1 real steps is repeated from its start until it has as many; so are, for `readout: flatten`,
    rows of fewer than `steps`, of which a longer row gives its first.
    """

    mixing: Tensor  # [V, V]

    def __init__(self, params: StgcnYuParams, layout: Layout) -> None:
        super().__init__()
        joints, channels = layout.sizes["joint"], layout.sizes["channel"]
        graph = graph_of(params.graph, params.edges, layout)
        mixing = torch.tensor(normalised(joints, graph.edges), dtype=torch.get_default_dtype())
        self.register_buffer("mixing", mixing, persistent=False)
        self.blocks = nn.ModuleList(Block(width, joints) for width in (channels, TimeBlock.WIDTH))
        self.last = TimeBlock(TimeBlock.WIDTH)
        self.dropout = nn.Dropout(params.dropout)
        self.fixed = params.steps if params.readout == "flatten" else None
        self.width = params.width
        if self.fixed is None:
            self.project = nn.Linear(TimeBlock.WIDTH, params.width)
        else:
            self.node = nn.Linear((self.fixed - LOST) * TimeBlock.WIDTH, params.width)
            self.project = nn.Linear(joints * params.width, params.width)

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width]; with `readout: mean` also the mean over nodes of every step that is left."""
        values, steps = self._long_enough(stream.values, stream.steps)
        for block in self.blocks:
            values, steps = block(values, steps, self.mixing)
        values, steps = self.last(values, steps)
        if values.dtype.itemsize < 4:
            values = values.float()  # sums over time need more digits than bf16 has
        values = self.dropout(values) * steps[..., None, None]
        if self.fixed is not None:
            nodes = self.node(values.transpose(1, 2).flatten(2))  # [B, V, width]
            return Encoded(vector=self.project(nodes.flatten(1)))
        joined = values.mean(2)
        vector = self.project(joined.sum(1) / steps.sum(1, keepdim=True).clamp_min(1))
        return Encoded(vector=vector, sequence=joined, steps=steps)

    def _long_enough(self, values: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Rows with enough real steps, cyclically repeated where they have too few."""
        length = steps.sum(1)
        least = self.fixed or LOST + 1
        exporting = torch.compiler.is_exporting()  # a graph has no sizes that depend on values
        if self.fixed is None and not exporting and bool((length >= least).all()):
            return values, steps
        wanted = torch.full_like(length, least) if self.fixed else length.clamp_min(least)
        longest = self.fixed or (torch.sym_max(values.shape[1], least) if exporting else int(wanted.max()))
        place = torch.arange(longest, device=values.device)
        source = place[None, :] % length.clamp_min(1)[:, None]
        real = place[None, :] < wanted[:, None]
        rows = torch.arange(values.shape[0], device=values.device)[:, None]
        return values[rows, source] * real[..., None, None], real


class TimeBlock(nn.Module):
    """ReLU(a(x) + sigmoid(b(x)) + c(x)) of three convolutions over 3 steps without padding."""

    WIDTH = 64

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.plain, self.gate, self.rest = (nn.Conv2d(channels, self.WIDTH, (3, 1)) for _ in range(3))

    def forward(self, values: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, V, C] → [B, T − 2, V, 64]; a step is real where all three were."""
        x = values.permute(0, 3, 1, 2)  # [B, C, T, V]
        hidden = functional.relu(self.plain(x) + self.gate(x).sigmoid() + self.rest(x))
        return hidden.permute(0, 2, 3, 1), steps[:, 2:]


class Block(nn.Module):
    """Time block → mixing of the nodes → Θ → ReLU → time block → BatchNorm over the axis of nodes."""

    INNER = 16

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        self.before, self.after = TimeBlock(channels), TimeBlock(self.INNER)
        self.theta = nn.Parameter(torch.empty(TimeBlock.WIDTH, self.INNER).uniform_(-(self.INNER**-0.5), self.INNER**-0.5))
        self.norm = nn.BatchNorm1d(joints)

    def forward(self, values: Tensor, steps: Tensor, mixing: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, V, C] → [B, T − 4, V, 64]."""
        values, steps = self.before(values, steps)
        mixed = torch.einsum("vw,btwc->btvc", mixing.to(values.dtype), values)
        values, steps = self.after(functional.relu(mixed @ self.theta), steps)
        packing = Packing(steps)
        return packing.unpack(self.norm(packing.pack(values))), steps


def normalised(joints: int, edges: tuple[tuple[int, int], ...]) -> list[list[float]]:
    """D^-1/2 (A + 2I) D^-1/2: the authors add the identity when they load the graph, and again when they normalise it."""
    matrix = [[2.0 * (a == b) for b in range(joints)] for a in range(joints)]
    for a, b in edges:
        matrix[a][b] = matrix[b][a] = 1.0
    degree = [sum(row) for row in matrix]
    return [[matrix[a][b] / (degree[a] * degree[b]) ** 0.5 for b in range(joints)] for a in range(joints)]
