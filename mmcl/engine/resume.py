"""Checkpoints from which a killed run goes on to bit-identical weights: tensors in safetensors, counters in JSON.

No generator state is kept: every draw has an address (seed, fold, purpose, step), so there is none. The checkpoint before stays
until the training ends: if the newest one is damaged, the training goes on from that.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..api.errors import StageError
from ..runs import digest, folder_in_place_of, read_json, read_tensors, write_json, write_tensors
from ..screen import say
from .ranks import Ranks


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


def save_sharded_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, torch.Tensor],
    counters: Mapping[str, Any],
    ranks: Ranks,
) -> None:
    """As `save_checkpoint`, of weights that are sharded: each rank writes its own. Every rank calls it."""
    from .shards import save_shards

    tensors = {f"now/{name}": value.detach() for name, value in module.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for name, parameter in module.named_parameters():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer/{name}/{what}": value.detach() for what, value in state.items() if value is not None}
    with ExitStack() as stack:
        part = Path(ranks.first_says(lambda: str(stack.enter_context(folder_in_place_of(folder)))))
        save_shards(part, tensors)
        if ranks.first:
            hashes = {file.name: digest(file) for file in sorted(part.glob("*.safetensors"))}
            write_json(part / "state.json", {**counters, "shards": hashes})
            if folder.exists():
                shutil.rmtree(_before(folder), ignore_errors=True)
                folder.replace(_before(folder))
    ranks.agree(0)  # nobody goes on, or leaves, before it is in its place


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
            best = (_load_shards if "shards" in counters else _load_whole)(one, counters, module, optimizer)
        except StageError as error:
            problems.append(error)
            continue
        if problems:
            say(f"{problems[0]}; going on from the checkpoint before, of epoch {counters.get('epoch')}")
        counters.pop("sha256", None)
        counters.pop("shards", None)
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
            counters = _counters(one)
            _check_shards(one, counters["shards"]) if "shards" in counters else _tensors(one, counters)
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


def _check_shards(one: Path, hashes: Mapping[str, str]) -> None:
    """Raise StageError if a checkpoint's shards are not all there, or not what was written."""
    for name, written in hashes.items():
        if Path(name).name != name or not (one / name).is_file():
            raise StageError(f"{one}: lacks {name}, one of its shards")
        if digest(one / name) != written:
            raise StageError(f"{one / name}: is not what was written")


def _load_shards(
    one: Path, counters: Mapping[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """As `_load`, from the shards that any number of ranks wrote. A module that is sharded has to be so on every rank, each of which calls it."""
    from .shards import load_shards, names_in

    _check_shards(one, counters["shards"])
    state, parameters, shapes = module.state_dict(), dict(module.named_parameters()), names_in(one)
    room: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        kind, _, rest = name.partition("/")
        like = parameters.get(rest.rpartition("/")[0]) if kind == "optimizer" else state.get(rest)
        if like is None or (shape and tuple(like.shape) != shape):
            raise StageError(f"{one}: its weights do not fit the networks ({name} has the shape {list(shape)})")
        room[name] = torch.empty_like(like) if shape == tuple(like.shape) else torch.empty(shape)
    if missing := sorted(f"now/{name}" for name in state if f"now/{name}" not in shapes):
        raise StageError(f"{one}: its weights do not fit the networks (it lacks {missing[0]})")
    load_shards(one, room)
    best = {name.removeprefix("best/"): value for name, value in room.items() if name.startswith("best/")}
    module.load_state_dict({name.removeprefix("now/"): value for name, value in room.items() if name.startswith("now/")})
    index = {id(parameter): name for name, parameter in module.named_parameters()}
    numbered = [index[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for k, name in enumerate(numbered):
        mine = {key.rpartition("/")[2]: value for key, value in room.items() if key.startswith(f"optimizer/{name}/")}
        if mine:
            kept[k] = mine
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
    return best


def _load_whole(
    one: Path, counters: Mapping[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    return _load(one, _tensors(one, counters), module, optimizer)


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
