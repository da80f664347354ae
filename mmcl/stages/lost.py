"""A batch whose loss became no number, kept so that it can be looked at: `mmcl replay RUN`.

lost.json          fold, seed, epoch, step, recordings, their windows in seconds, the pairs whose loss was none
lost.safetensors   the weights as they were before the step
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..api.batch import Items
from ..api.errors import StageError
from ..data.windows import Span
from ..engine.ranks import Ranks, device_of, joined
from ..recipe.schema import Pretrain, Supervise
from ..runs import write_json, write_tensors
from ..screen import launched
from .units import Unit

LOST = "batches left out, whose loss was no number"
"""How they are counted in the history, beside the pairs that were skipped."""


def remedies(section: Pretrain | Supervise, name: str) -> str:
    """What may keep the loss of a section of the recipe, of that name, a number: the end of a sentence."""
    ways = [f"lower {name}.optimizer.lr", f"set {name}.clip" if section.clip is None else f"set a lower {name}.clip"]
    if section.precision == "bf16":
        ways.append(f"set {name}.precision: float32")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"


def keep_lost(
    unit: Unit,
    weights: Mapping[str, torch.Tensor],
    items: Items,
    spans: Sequence[Span],
    loss: float,
    pairs: Sequence[str],
    epoch: int,
    step: int,
    processes: int,
) -> Path:
    """Write the batch and the weights; the description last. Returns its path.

    weights    all of the networks, whole
    items      who stands in the batch's rows
    spans      what was cut of each of the batch's rows
    epoch      counted from 0
    step       steps that were taken since training began: what the step's draws were seeded from
    processes  that trained together, each of which drew for its own rows
    """
    folder = unit.folder("pretrain")
    kept = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    write_tensors(folder / "lost.safetensors", kept)
    rows = [int(row) for row in items.row]
    about: dict[str, Any] = {
        "format": 1,
        "fold": unit.fold.number,
        "seed": unit.seed,
        "epoch": epoch + 1,
        "step": step,
        "processes": processes,
        "loss": str(loss),
        "pairs": list(pairs),
        "recordings": [unit.prepared.samples[row].id for row in rows],
        "rows": rows,
        "views": [int(view) for view in items.view],
        "windows": [[span.start, span.seconds] for span in spans],
    }
    write_json(folder / "lost.json", about)
    return folder / "lost.json"


@dataclass(frozen=True)
class Together:
    """One of the processes that lost a batch together: which, and on what."""

    ranks: Ranks
    device: torch.device


@contextmanager
def together(folder: Path, processes: int, device: torch.device) -> Iterator[Together]:
    """As many processes as lost a batch together, of which this is one.

    Raises StageError if there are fewer or more.
    """
    here = launched()[1]
    if processes != here:
        how = "mmcl" if processes == 1 else f"torchrun --nproc-per-node {processes} -m mmcl"
        trained = (
            f"{processes} processes, each of which drew its own augmentations and dropout" if processes > 1 else "one process"
        )
        raise StageError(
            f"{folder}: this batch was lost in {trained}, and here {'is one' if here == 1 else f'are {here}'}; "
            f"look at it with: {how} replay {folder}"
        )
    with joined(device_of(device)) as ranks:
        yield Together(ranks, device_of(device))


def buffers_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what a forward pass changes by itself, such as running statistics."""
    return {name: value.detach().clone() for name, value in model.named_buffers()}


def put_back(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """Make a model's buffers what they were."""
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
