"""Which recordings form the batches of a pretraining epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..api.errors import PluginError
from ..api.sampler import Pool
from ..data.batches import balanced, epoch_batches
from ..data.folds import Fold
from ..data.prepared import Prepared
from ..data.store import shard_of
from ..data.windows import whole_seconds
from ..evaluate.answers import group_numbers, target_tensor
from ..recipe.plan import Part, Plan
from ..seeding import address

if TYPE_CHECKING:
    from torch import Tensor


def rows_beside(plan: Plan, fold: Fold) -> list[int]:
    """Recordings of other splits whose inputs are contrasted beside the training rows, where the recipe asks for that."""
    beside = {"valid": fold.choosing, "test": fold.test}
    return [row for split in plan.recipe.pretrain.transductive for row in beside[split]]


def rows_of_epoch(plan: Plan, prepared: Prepared, fold: Fold, *where: str | int) -> Sequence[int]:
    """The recordings of one epoch: those of training, unless the recipe asks for more or for equal classes."""
    section = plan.recipe.pretrain
    rows = [*fold.train, *rows_beside(plan, fold)]
    if section.balance is None:
        return rows
    labels = [cast("int | None", prepared.samples[row].targets.get(section.balance)) for row in rows]
    return balanced(rows, labels, *where)


def batches_of_epoch(
    plan: Plan, prepared: Prepared, fold: Fold, *where: str | int, epoch: int, seen: Mapping[str, Tensor] | None = None
) -> list[list[int]]:
    """The recordings of each batch of an epoch, counted from 0, by address `where` alone: in random order, or as the recipe's sampler has them.

    seen  what encoders made of every recording, by modality [recordings, D], for a sampler that asks
    """
    rows, size = rows_of_epoch(plan, prepared, fold, *where, epoch), plan.recipe.pretrain.batch_size
    if plan.sampler is None:
        return epoch_batches(rows, size, *where, "epoch", epoch)
    return sampled(plan, plan.sampler, prepared, rows, size, *where, "epoch", epoch, seen=seen if epoch else None)


def batches_of_labels(
    plan: Plan, prepared: Prepared, rows: Sequence[int], size: int, *where: str | int, epoch: int
) -> list[list[int]]:
    """The same of an epoch of `supervise`, whose rows have labels."""
    sampler = None if plan.supervised is None else plan.supervised.sampler
    if sampler is None:
        return epoch_batches(rows, size, *where, "epoch", epoch)
    return sampled(plan, sampler, prepared, rows, size, *where, "epoch", epoch, section="supervise")


def sampled(
    plan: Plan,
    sampler: Part,
    prepared: Prepared,
    rows: Sequence[int],
    size: int,
    *where: str | int,
    seen: Mapping[str, Tensor] | None = None,
    section: str = "pretrain",
) -> list[list[int]]:
    """Rows as a sampler of a section puts them into batches. Raises PluginError if it does not keep its contract."""
    pool = pool_of(plan, sampler, prepared, rows, seen)
    drawn: Any = sampler.spec.build(sampler.params)(pool, size, np.random.default_rng(address(*where, "order")))
    batches = [[int(place) for place in one] for one in drawn]
    wrong = sorted(place for one in batches for place in one) != list(range(len(rows)))
    if wrong or any(not min(2, len(rows)) <= len(one) <= size + 1 for one in batches):
        lengths = sorted({len(one) for one in batches})
        raise PluginError(
            f"sampler '{sampler.use}' ({section}.sampler; package {sampler.package} {sampler.version}): puts each of the {len(rows)} recordings into "
            f"exactly one batch of 2 to {size} (one more where it would stand alone); it gave {sum(map(len, batches))} places, in batches of "
            f"{', '.join(map(str, lengths[:4])) or 'none'}"
        )
    return [[rows[place] for place in one] for one in batches]


def pool_of(
    plan: Plan, sampler: Part, prepared: Prepared, rows: Sequence[int], seen: Mapping[str, Tensor] | None = None
) -> Pool:
    """What a sampler is told of some recordings."""
    samples = [prepared.samples[row] for row in rows]
    return Pool(
        row=np.array(rows, dtype=np.int64),
        group=group_numbers([sample.group for sample in samples]).numpy(),
        seconds=np.array([whole_seconds(prepared.stores, row) for row in rows], dtype=np.float64),
        targets={
            name: target_tensor(plan.info.tasks[name], [sample.targets for sample in samples]).numpy()
            for name in sampler.spec.needs(sampler.params)
        },
        embeddings={name: vectors.cpu().numpy()[list(rows)] for name, vectors in (seen or {}).items()},
        shard=shard_of(list(prepared.stores.values()), rows),
    )
