"""Checkpoints from which a killed run goes on to bit-identical weights: tensors in safetensors, counters in JSON.

No generator state is kept: every draw has an address (seed, fold, purpose, step), so there is none. The checkpoint before stays
until the training ends: if the newest one is damaged, the training goes on from that.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..api.errors import StageError
from ..runs import digest, folder_in_place_of, read_json, read_tensors, write_json, write_tensors
from ..screen import say


def has_checkpoint(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return (folder / "state.json").exists() or _before(folder).exists()


def checkpoint_key(folder: Path) -> str | None:
    """The fingerprint of the training that wrote a folder's checkpoints; None where none of them says it."""
    for one in (folder, _before(folder)):
        try:
            return str(_counters(one)["key"])
        except StageError:
            continue
    return None


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, torch.Tensor],
    counters: Mapping[str, Any],
) -> None:
    """Put a whole checkpoint, once it is on disk, in place of the one before, which is kept beside it."""
    tensors = {f"now/{name}": value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value.detach().cpu() for name, value in state.items() if value is not None}
    with folder_in_place_of(folder) as part:
        write_tensors(part / "state.safetensors", {name: value.clone() for name, value in tensors.items()})
        write_json(part / "state.json", {**counters, "sha256": digest(part / "state.safetensors")})
        if folder.exists():
            shutil.rmtree(_before(folder), ignore_errors=True)
            folder.replace(_before(folder))


def drop_checkpoint(folder: Path, before_only: bool = False) -> None:
    """Take away a folder's checkpoints, which a training that has ended no longer needs; with `before_only` the newest one stays."""
    for one in (_before(folder),) if before_only else (folder, _before(folder)):
        if one.exists():
            shutil.rmtree(one)


def load_checkpoint(
    folder: Path, key: str, module: nn.Module, optimizer: torch.optim.Optimizer, needs: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """The counters and best weights of the last whole checkpoint, its state loaded; None if there is none for this key.

    needs  what it must count

    Raises StageError if there is one, and neither it nor the one before is whole and fits the networks.
    """
    problems: list[StageError] = []
    for one in (folder, _before(folder)):
        if not one.exists():
            continue
        try:
            counters = _counters(one)
            if counters.get("key") != key:
                return None
            if missing := [name for name in needs if name not in counters]:
                raise StageError(f"{one / 'state.json'}: does not say {', '.join(missing)}")
            best = _load(one, _tensors(one, counters), module, optimizer)
        except StageError as error:
            problems.append(error)
            continue
        if problems:
            say(f"{problems[0]}; going on from the checkpoint before, of epoch {counters.get('epoch')}")
        counters.pop("sha256", None)
        return counters, best
    if problems:
        which = "neither of them can be used" if len(problems) > 1 else "there is no checkpoint before it that can be used"
        raise StageError(
            f"{'; '.join(map(str, problems))}; {which}; give --overwrite (and no --continue), which begins this training anew and keeps what is finished"
        )
    return None


def drop_damaged(folder: Path) -> bool:
    """Take away a folder's checkpoints if there are some and none of them is whole, so that a training begins anew; whether it does."""
    there = [one for one in (folder, _before(folder)) if one.exists()]
    for one in there:
        try:
            _tensors(one, _counters(one))
        except StageError:
            continue
        return False
    drop_checkpoint(folder)
    return bool(there)


def _counters(one: Path) -> dict[str, Any]:
    """What a checkpoint counts. Raises StageError if it is damaged."""
    counters: dict[str, Any] = read_json(one / "state.json")
    return counters


def _tensors(one: Path, counters: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint. Raises StageError if they are damaged, or not those that were written with what it counts."""
    written = counters.get("sha256")
    if written is not None and written != digest(one / "state.safetensors"):
        raise StageError(f"{one / 'state.safetensors'}: is not what was written")
    return read_tensors(one / "state.safetensors")


def _load(
    one: Path, tensors: Mapping[str, torch.Tensor], module: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Load the weights and the optimizer's state; gives the best weights. Raises StageError if they are not of these networks."""
    parts: dict[str, dict[str, torch.Tensor]] = {"now": {}, "best": {}, "optimizer": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        parts.setdefault(kind, {})[rest] = value
    state: dict[int, dict[str, torch.Tensor]] = {}
    groups = optimizer.state_dict()["param_groups"]
    parameters = dict(
        zip(
            (i for group in groups for i in group["params"]),
            (p for g in optimizer.param_groups for p in g["params"]),
            strict=True,
        )
    )
    try:
        for name, value in parts["optimizer"].items():
            index, what = name.split("/", 1)
            if value.ndim and value.shape != parameters[int(index)].shape:
                raise RuntimeError(f"{name} has the shape {list(value.shape)}")
            state.setdefault(int(index), {})[what] = value
        for kind in ("best", "now") if parts["best"] else ("now",):  # the best are used when the training ends
            module.load_state_dict(parts[kind])
    except (RuntimeError, KeyError, ValueError) as error:
        raise StageError(f"{one}: its weights do not fit the networks ({str(error).splitlines()[0]})") from error
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return parts["best"]


def _before(folder: Path) -> Path:
    """Where the checkpoint before lies."""
    return folder.with_name(f"{folder.name}.old")
