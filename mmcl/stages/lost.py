"""A batch whose loss became no number, kept so that it can be looked at: `mmcl replay RUN`.

lost.json          fold, seed, epoch, step, recordings, their windows in seconds, the pairs whose loss was none
lost.safetensors   the weights as they were before the step
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..api.batch import Items
from ..data.windows import Span
from ..runs import write_json, write_tensors
from .units import Unit

LOST = "batches left out, whose loss was no number"
"""How they are counted in the history, beside the pairs that were skipped."""


def keep_lost(
    unit: Unit, model: nn.Module, items: Items, spans: Sequence[Span], loss: float, pairs: Sequence[str], epoch: int, step: int
) -> Path:
    """Write the batch and the weights; the description last. Returns its path.

    items  who stands in the batch's rows
    spans  what was cut of each of the batch's rows
    epoch  counted from 0
    step   steps that were taken since training began: what the step's draws were seeded from
    """
    folder = unit.folder("pretrain")
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    write_tensors(folder / "lost.safetensors", weights)
    rows = [int(row) for row in items.row]
    about: dict[str, Any] = {
        "format": 1,
        "fold": unit.fold.number,
        "seed": unit.seed,
        "epoch": epoch + 1,
        "step": step,
        "loss": str(loss),
        "pairs": list(pairs),
        "recordings": [unit.prepared.samples[row].id for row in rows],
        "rows": rows,
        "views": [int(view) for view in items.view],
        "windows": [[span.start, span.seconds] for span in spans],
    }
    write_json(folder / "lost.json", about)
    return folder / "lost.json"


def buffers_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what a forward pass changes by itself, such as running statistics."""
    return {name: value.detach().clone() for name, value in model.named_buffers()}


def put_back(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """Make a model's buffers what they were."""
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
