"""Frozen features of recordings: eval mode, mean over windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..api.batch import Batch
from ..data.batches import ahead
from ..data.stack import batch
from ..data.store import Store
from ..data.windows import Span, slide
from ..engine.devices import arithmetic
from ..recipe.plan import JOINT, Plan
from .encoder import Augmentation, Encoder
from .joint import Joint

WINDOWS = 64
"""Windows encoded at a time."""


@dataclass
class Features:
    """One modality's frozen features of some recordings."""

    vector: Tensor  # [n, width]; zeros where missing
    projection: Tensor  # [n, D]; zeros where missing
    present: Tensor  # bool [n]


def windows_of(plan: Plan, stores: Mapping[str, Store], rows: Sequence[int]) -> Iterator[tuple[Tensor, Batch]]:
    """The windows from which features are taken, in batches: which of `rows` each is of (int64 [n]), and its streams."""
    window = plan.recipe.window
    cuts: list[tuple[int, int, Span]] = []
    for i, row in enumerate(rows):
        cuts += [(i, row, span) for span in slide(stores, row, window.seconds, window.embed, window.hop)]
    cuts.sort(
        key=lambda c: sum(stores[name].length(c[1]) for name in stores if c[1] in stores[name]) if c[2].seconds is None else 0
    )
    parts = [cuts[k : k + WINDOWS] for k in range(0, len(cuts), WINDOWS)]
    jobs = [partial(batch, stores, [row for _, row, _ in part], [span for _, _, span in part]) for part in parts]
    for part, made in zip(parts, ahead(jobs), strict=True):
        yield torch.tensor([i for i, _, _ in part]), made


@torch.inference_mode()
def encode_joint(
    plan: Plan, joint: Joint, stores: Mapping[str, Store], rows: Sequence[int], device: torch.device
) -> dict[str, Features]:
    """The frozen vector of all modalities together: eval mode, mean over windows."""
    joint.eval().to(device)
    total, count = torch.zeros(len(rows), joint.width), torch.zeros(len(rows))
    for index, made in windows_of(plan, stores, rows):
        with arithmetic(plan.recipe.pretrain.precision, device):
            vector, present = joint(made, device)
        mine = index[present.cpu()]
        total.index_add_(0, mine, vector[present].float().cpu())
        count.index_add_(0, mine, torch.ones(len(mine)))
    vector = total / count.clamp_min(1)[:, None]
    return {JOINT: Features(vector, torch.nn.functional.normalize(vector, dim=-1), count > 0)}


@torch.inference_mode()
def encode_rows(
    plan: Plan,
    encoders: Mapping[str, Encoder],
    stores: Mapping[str, Store],
    rows: Sequence[int],
    device: torch.device,
    spoil: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Features]:
    """Frozen features of some recordings: eval mode, mean over the windows in which a modality is present.

    spoil, generator  what is done to every normalised stream first, to see how much the features suffer
    """
    features: dict[str, Features] = {}
    sums: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for name, encoder in encoders.items():
        encoder.eval().to(device)
        vector = torch.zeros(len(rows), encoder.width)
        sums[name] = (vector, torch.zeros(len(rows), plan.recipe.projection.width), torch.zeros(len(rows)))
    for index, made in windows_of(plan, stores, rows):
        for name, encoder in encoders.items():
            stream = made.streams[name].to(device)
            if not bool(stream.present.any()):
                continue
            with arithmetic(plan.recipe.pretrain.precision, device):
                encoded, present = encoder.encode(stream, spoil, generator)
                projected = encoder.project(encoded)
            mine = index[present.cpu()]
            sums[name][0].index_add_(0, mine, encoded.vector.float().cpu())
            sums[name][1].index_add_(0, mine, torch.nn.functional.normalize(projected.float(), dim=-1).cpu())
            sums[name][2].index_add_(0, mine, torch.ones(len(mine)))
    for name, (vector, projection, count) in sums.items():
        share = count.clamp_min(1)[:, None]
        features[name] = Features(vector / share, projection / share, count > 0)
    return features
