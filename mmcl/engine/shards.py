"""Weights that are sharded: each rank holds a part of every matrix, its gradient and its optimiser's state (FSDP2, `fully_shard`).

A network is divided at its blocks; a block's weights are whole on a rank while the block runs, and no longer. Gradients are added up, not
averaged, as everywhere here. Checkpoints are written by all ranks at once, each its shards, in safetensors (`torch.distributed.checkpoint`):
they are read again by any number of ranks, and no code is in them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils import _pytree

from ..api.batch import Encoded
from .ranks import Ranks, is_sharded


def shard(network: nn.Module, ranks: Ranks) -> None:
    """Divide a network's weights among all ranks, in place: block by block where it is built of blocks that are alike."""
    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    if Encoded not in _pytree.SUPPORTED_NODES:  # else gradients that come back through it are not seen
        _pytree.register_dataclass(Encoded)
    for module in [*blocks(network), network]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The modules that stand in lists of several that are alike, such as a transformer's layers; none of them inside another."""
    if isinstance(network, nn.ModuleList) and len(network) > 1 and len({type(one) for one in network}) == 1:
        yield from (one for one in network if any(True for _ in one.parameters()))
        return
    for child in network.children():
        yield from blocks(child)


def whole(module: nn.Module, keep: bool) -> dict[str, Tensor]:
    """All that a module's checkpoint would hold, each tensor whole, in the processor's memory. Every rank calls it; {} where none is to keep it."""
    tensors = {}
    for name, value in module.state_dict().items():
        all_of_it = value.full_tensor().detach() if isinstance(value, DTensor) else value.detach()
        if keep:
            tensors[name] = all_of_it.cpu().contiguous()
    return tensors


@torch.no_grad()
def fill(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Lay whole weights over those of a module, which may be sharded."""
    state = module.state_dict()
    module.load_state_dict(
        {
            name: distribute_tensor(value.to(state[name].device), one.device_mesh, one.placements, src_data_rank=None)
            if isinstance(one := state.get(name), DTensor)
            else value
            for name, value in weights.items()
        }
    )


def clip(model: nn.Module, most: float, ranks: Ranks) -> None:
    """Scale the gradient, where its norm over all weights is larger than `most`, as `torch.nn.utils.clip_grad_norm_` does."""
    grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
    here = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in grads]
    squares = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    for grad, part in zip(grads, here, strict=True):
        squares[int(is_sharded(grad))] += part.double().square().sum()
    squares[0] = squares[0] if ranks.first else 0.0  # what every rank has whole counts once
    ranks.add_up(squares)
    factor = most / (math.sqrt(float(squares.sum())) + 1e-6)
    for part in here:
        part.mul_(min(1.0, factor))


def save_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, of those that are sharded each rank its own part. Every rank calls it with the same folder, which is there."""
    save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def names_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """What lies in a folder that `save_shards` wrote: the shape of each tensor."""
    metadata = HuggingFaceStorageReader(str(folder)).read_metadata()
    return {name: tuple(getattr(one, "size", ())) for name, one in metadata.state_dict_metadata.items()}


def load_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Read into tensors, which may be sharded over another number of ranks than they were written by, or be whole."""
    alone = not any(is_sharded(value) for value in tensors.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one process is meant
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)
