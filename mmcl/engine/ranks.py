"""Training in several processes (ranks) under `torchrun`: one global batch, one objective, one gradient, however many there are.

Each rank cuts and encodes its share of the batch. What the networks make of it is gathered, padded to the largest share, before an objective sees it, so that
every rank works out the same objective on the whole batch: losses, positives and plug-ins never hear of ranks. Backwards, every rank
goes on with the gradient of its own rows alone, and the gradients of all ranks are added up. No rank divides by the number of ranks, and
none takes a mean of means: the gradient is that of one process.

Every rank runs every collective, whatever its share has: what follows from the batch alone is never communicated, and what
depends on the streams (who has which modality) is exchanged before anything is decided by it.

What one rank decides (files, finished work) goes through the store of the launch, which is asked again and again: it may take hours.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ..api.errors import StageError
from ..screen import launched
from ..stopping import SilentEnd, Stopped, Witness, asked

T = TypeVar("T")

ASKING = 0.05
"""Seconds between two looks for what the first rank says."""
BUCKET = 16 * 2**20
"""Numbers of gradients that are added up at a time (64 MB in float32)."""
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""What embeddings may be made of; a number stands for each while they are gathered."""
LOST = "another process of this run ended, or can no longer be reached; run the same command again to go on from the last checkpoint"


class Parted(StageError, Witness):
    """Another rank is gone, and this is the one that says so."""


@dataclass
class Gathered:
    """What all ranks made of one batch, in the order of its rows."""

    whole: dict[str, Tensor]  # [n, D] of all ranks; leaves of the graph where there are several
    rows: dict[str, Tensor]  # int64 [n]: their rows in the batch, ascending
    own: dict[str, tuple[Tensor, slice]] = field(
        default_factory=dict
    )  # of this rank: with its graph, and where it stands in `whole`


class Ranks:
    """The processes of one training, and which of them this one is. Left empty: this one alone, to whom nothing here costs anything."""

    def __init__(
        self, rank: int = 0, size: int = 1, store: Any = None, device: torch.device | None = None, group: Any = None
    ) -> None:
        self.rank, self.size, self.device, self._group = rank, size, device or torch.device("cpu"), group
        self._store, self._times = store, 0

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    # ------------------------------------------------------------------------------------------ what each rank has

    def share(self, n: int) -> slice:
        """The rows of a batch of n that this rank cuts and encodes; none, where there are more ranks than rows."""
        return self._share_of(self.rank, n)

    def shares(self, n: int) -> tuple[int, ...]:
        """How many rows of a batch of n each rank has."""
        shares = [self._share_of(rank, n) for rank in range(self.size)]
        return tuple(share.stop - share.start for share in shares)

    def _share_of(self, rank: int, n: int) -> slice:
        return slice(n * rank // self.size, n * (rank + 1) // self.size)

    @property
    def where(self) -> tuple[str | int, ...]:
        """What the address of a draw ends with that each rank makes for its own rows; nothing where this one is alone."""
        return ("rank", self.rank, self.size) if self.size > 1 else ()

    # -------------------------------------------------------------------------------------- one batch, one gradient

    def gather(self, own: Mapping[str, tuple[Tensor, Tensor]], n: int) -> Gathered:
        """The embeddings of all ranks by modality, and their rows in the batch of n.

        own  of this rank: [k, D], and which rows of its share they are (int64 [k]); k may be 0, and D anything then
        """
        if self.size == 1:
            return Gathered({name: z for name, (z, _) in own.items()}, {name: rows for name, (_, rows) in own.items()})
        largest = -(-n // self.size)
        about = torch.full((len(own), 2 + largest), -1, dtype=torch.int64)
        for line, (z, rows) in zip(about, own.values(), strict=True):
            if len(rows):
                line[0], line[1] = DTYPES.index(z.dtype), z.shape[1]
                line[2 : 2 + len(rows)] = rows.cpu() + self.share(n).start
        tables = torch.stack(self._all(about.to(self.device))).cpu()  # [ranks, modalities, …]
        gathered = Gathered({}, {})
        for k, (name, (z, _)) in enumerate(own.items()):
            places = [row[row >= 0] for row in tables[:, k, 2:]]
            counts = [len(one) for one in places]
            width, kinds = int(tables[:, k, 1].max()), tables[:, k, 0]
            rows = torch.cat(places).to(z.device)
            gathered.rows[name] = rows
            if max(counts) == 0:
                gathered.whole[name] = z
                continue
            dtype = DTYPES[int(kinds[kinds >= 0].min())]  # float32 before bf16, where ranks differ
            padded = torch.zeros(max(counts), width, dtype=dtype, device=z.device)
            padded[: counts[self.rank]] = z.detach().reshape(counts[self.rank], width)
            parts = [part[:count] for part, count in zip(self._all(padded), counts, strict=True)]
            gathered.whole[name] = torch.cat(parts).requires_grad_(torch.is_grad_enabled())
            begin = sum(counts[: self.rank])
            gathered.own[name] = z, slice(begin, begin + counts[self.rank])
        return gathered

    def backward(self, loss: Tensor | None, gathered: Gathered | None, model: nn.Module) -> None:
        """Leave the gradient of a loss of the whole batch in a model's weights, on every rank.

        loss      None: this rank has no part in it
        gathered  what the loss was made of; None: it is this rank's part of a loss, all parts of which are to be added up
        """
        if loss is not None and (self.size == 1 or loss.requires_grad):
            torch.autograd.backward(loss)
        if self.size == 1:
            return
        if gathered is not None:
            if not self.first:  # weights of the objective itself: every rank has their whole gradient, and one of them counts
                for weight in model.parameters():
                    weight.grad = None
            mine = [(z, gathered.whole[name].grad, rows) for name, (z, rows) in gathered.own.items()]
            met = [(z, _part(grad, rows, z)) for z, grad, rows in mine if grad is not None and z.requires_grad]
            if met:
                torch.autograd.backward([z for z, _ in met], [grad for _, grad in met])
        self._add_up([weight for weight in model.parameters() if weight.requires_grad and not is_sharded(weight)])

    def _add_up(self, weights: Sequence[nn.Parameter]) -> None:
        """The sum of all ranks' gradients; a weight that no rank has one for has none, as in one process."""
        known = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.int32, device=self.device)
        self._reduce(known)
        chosen = [weight for weight, ranks in zip(weights, known.tolist(), strict=True) if ranks]
        for dtype in dict.fromkeys(weight.dtype for weight in chosen):
            for bucket in _buckets([weight for weight in chosen if weight.dtype == dtype]):
                flat = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).reshape(-1) for w in bucket])
                self._reduce(flat)
                for weight, grad in zip(bucket, torch.split(flat, [w.numel() for w in bucket]), strict=True):
                    weight.grad = grad.view_as(weight).clone()

    def add_up(self, value: Tensor) -> None:
        """Make figures the sum of all ranks' figures, in place."""
        if self.size > 1:
            self._reduce(value)

    def every(self, value: Tensor) -> Tensor:
        """The figures of all ranks, alike in shape, one below the other: [ranks, …]."""
        return value[None] if self.size == 1 else torch.stack(self._all(value))

    def sum_of(self, value: Tensor) -> Tensor:
        """The sum of a figure over all ranks, without its graph."""
        if self.size == 1:
            return value.detach()
        total = value.detach().to(self.device, torch.float64).clone()
        self._reduce(total)
        return total

    def as_first(self, model: nn.Module, weights: bool = False) -> None:
        """Make what a model has learned beside its weights (running statistics) that of the first rank; with `weights`, those too."""
        if self.size == 1:
            return
        parameters = dict(model.named_parameters())
        tensors = [
            value for name, value in model.state_dict().items() if (weights or name not in parameters) and not is_sharded(value)
        ]
        with torch.no_grad():
            for dtype in dict.fromkeys(value.dtype for value in tensors):
                same = [value for value in tensors if value.dtype == dtype]
                flat = torch.cat([value.reshape(-1) for value in same]).to(self.device)
                _reached(lambda: dist.broadcast(flat, 0, group=self._group), self._store)  # noqa: B023 - called at once
                for value, same_value in zip(same, torch.split(flat, [v.numel() for v in same]), strict=True):
                    value.copy_(same_value.view_as(value))

    # ------------------------------------------------------------------------------------------- what all agree upon

    def agree(self, *values: int) -> tuple[int, ...]:
        """The largest of all ranks' values, one by one."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.int64, device=self.device)
        self._reduce(tensor, dist.ReduceOp.MAX)
        return tuple(tensor.tolist())

    def asked(self) -> int:
        """The signal by which any rank was asked for an end; 0: none was."""
        return self.agree(asked() or 0)[0]

    def first_number(self, value: float) -> float:
        """The first rank's figure: what is decided by it is decided alike everywhere."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        _reached(lambda: dist.broadcast(tensor, 0, group=self._group), self._store)
        return float(tensor)

    def first_says(self, value: Callable[[], T]) -> T:
        """What the first rank works out, as JSON; the others wait for it, however long it takes. All ask for the same things in one order."""
        if self.size == 1:
            return value()
        key = f"mmcl/{self._times}"
        self._times += 1
        if self.first:
            answer = value()
            self._store.set(key, json.dumps(answer))
            return answer
        return cast(T, self._wait(key))

    def _wait(self, key: str) -> Any:
        while not _reached(lambda: self._store.check([key]), self._store):
            if _reached(lambda: self._store.check(["mmcl/ended"]), self._store):
                raise SilentEnd("the first process of this run has ended, and told why")
            time.sleep(ASKING)
        return json.loads(self._store.get(key))

    def ended(self) -> None:
        """Tell the others that this one goes no further."""
        with contextlib.suppress(RuntimeError):  # they, or the store, are gone already
            self._store.set("mmcl/ended", "")

    # ---------------------------------------------------------------------------------------------------- collectives

    def _all(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        _reached(lambda: dist.all_gather(parts, tensor.contiguous(), group=self._group), self._store)
        return parts

    def _reduce(self, tensor: Tensor, how: Any = dist.ReduceOp.SUM) -> None:
        _reached(lambda: dist.all_reduce(tensor, how, group=self._group), self._store)


ALONE = Ranks()
"""One process."""


def is_sharded(weight: Any) -> bool:
    """Whether a weight is held in parts by all ranks (a DTensor, whose class takes long to import): its gradient is added up as it comes."""
    return hasattr(weight, "full_tensor")


def _part(grad: Tensor, rows: slice, z: Tensor) -> Tensor:
    """The gradient of a rank's own embeddings, out of that of all; of none of them where it sent filler through its network."""
    return grad[rows].to(z.dtype) if len(z) else torch.zeros_like(z)


def _buckets(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Weights, as many at a time as are added up together."""
    bucket: list[nn.Parameter] = []
    for weight in weights:
        if bucket and sum(w.numel() for w in bucket) + weight.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket


def _reached(call: Callable[[], T], store: Any) -> T:
    """What a call to the other ranks gives. Where one is gone, the first to see it raises Parted, and the others end without words."""
    try:
        return call()
    except RuntimeError as error:  # torch's own error of distributed work is one
        try:
            saw = int(store.add("mmcl/lost", 1))
        except RuntimeError:
            saw = 1  # the store went with the process that kept it
        raise (Parted(LOST) if saw == 1 else SilentEnd(LOST)) from error


PATIENCE = timedelta(minutes=10)
"""For which a rank waits for the others of its launch."""


def _start_of(store: Store, rank: int, size: int) -> str:
    """A name for this start of a launch: the same on all ranks, and that of no start before.

    torchrun starts lost ranks again beside the store of those before them, where their addresses, and that they have ended, still stand; whoever
    reads these connects to nobody. How often it did so (TORCHELASTIC_RESTART_COUNT) each machine counts for itself. So every rank lays
    down a name that nobody had, the first one lays down which names it sees until all have answered to theirs, and its own is the start's.

    Raises RuntimeError if the others do not come within PATIENCE.
    """
    mine, until = uuid.uuid4().hex, time.monotonic() + PATIENCE.total_seconds()
    store.set(f"mmcl/here/{rank}", mine)
    here = [f"mmcl/here/{other}" for other in range(size)]
    while time.monotonic() < until:
        if rank == 0 and store.check(here):
            store.set("mmcl/start", json.dumps([store.get(key).decode() for key in here]))
            if store.check([f"mmcl/there/{mine}/{other}" for other in range(1, size)]):
                return mine
        elif rank and store.check(["mmcl/start"]):
            names = json.loads(store.get("mmcl/start"))
            if len(names) == size and names[rank] == mine:
                store.set(f"mmcl/there/{names[0]}/{rank}", "")
                return str(names[0])
        time.sleep(0.02)
    raise RuntimeError(f"not all of {size} came within {PATIENCE}")


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """All ranks that `torchrun` started, of which this process is one; this one alone where nobody did.

    On a processor they talk by gloo, on graphics processors by NCCL. A rank other than the first ends without words where the first one
    says the same: whoever loses a rank says so, once.

    Raises StageError if the launch cannot be joined.
    """
    rank, size = launched()
    if size == 1:
        yield ALONE
        return
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        store = PrefixStore(f"mmcl/{_start_of(store, rank, size)}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        raise StageError(f"the processes of this launch do not find each other ({str(error).splitlines()[0]})") from error
    ranks = Ranks(rank, size, PrefixStore("words", store), device)
    try:
        yield ranks
    except Stopped as stopped:
        ranks.ended()
        if not ranks.first:
            raise SilentEnd(str(stopped), stopped.code) from stopped
        raise
    except StageError as error:
        ranks.ended()
        if not ranks.first and not isinstance(error, Parted):
            raise SilentEnd(str(error)) from error
        raise
    except BaseException:
        ranks.ended()
        raise
    finally:
        with contextlib.suppress(RuntimeError, AssertionError):
            dist.destroy_process_group()


def device_of(device: torch.device) -> torch.device:
    """This rank's own device, where a machine has several graphics processors."""
    if device.type == "cuda" and launched()[1] > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % max(1, torch.cuda.device_count()))
    return device


def weighted(loss: Tensor | None, anchors: Tensor | float, ranks: Ranks) -> tuple[Tensor | None, float]:
    """This rank's part of a mean over anchors, and how many anchors all ranks have; None where this rank has none of them.

    The parts of all ranks add up to the mean, so that their gradients do too.
    """
    mine = float(anchors) if loss is not None else 0.0
    total = float(ranks.sum_of(torch.tensor(mine, dtype=torch.float64)))
    if loss is None or mine == 0 or not math.isfinite(total):
        return None, total
    return loss * (mine / total), total
