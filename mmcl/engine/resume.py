"""Checkpoints from which a killed run goes on to bit-identical weights: tensors in safetensors, counters in JSON.

No generator state is kept: every draw has an address (seed, fold, purpose, step), so there is none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def has_checkpoint(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return (folder / "state.json").exists() or _before(folder).exists()


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, torch.Tensor],
    counters: Mapping[str, Any],
) -> None:
    """Put a whole checkpoint in place of the one before."""
    part, old = folder.with_name(f"{folder.name}.tmp"), _before(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    tensors = {f"now/{name}": value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value.detach().cpu() for name, value in state.items() if value is not None}
    save_file({name: value.clone() for name, value in tensors.items()}, str(part / "state.safetensors"))
    (part / "state.json").write_text(json.dumps(dict(counters)) + "\n", encoding="utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, key: str, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """The counters and best weights of the last whole checkpoint, its state loaded; None if there is none for this key."""
    old = _before(folder)
    if not folder.exists() and old.exists():  # killed between the two renames
        old.replace(folder)
    if not (folder / "state.json").exists():
        return None
    counters: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if counters.get("key") != key:
        return None
    tensors = load_file(str(folder / "state.safetensors"))
    module.load_state_dict({name.removeprefix("now/"): value for name, value in tensors.items() if name.startswith("now/")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, what = name.split("/", 2)
            state.setdefault(int(index), {})[what] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return counters, {name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")}


def _before(folder: Path) -> Path:
    """Where the checkpoint before lies while the new one is put in its place."""
    return folder.with_name(f"{folder.name}.old")
