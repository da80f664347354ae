"""replay: a batch whose loss was no number, once more, and where in it the numbers end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.errors import StageError
from ..data.windows import Span
from ..runs import RunFolder, distrusting, read_json, read_tensors
from ..stages.units import Unit, units_of
from .rerun import plan_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..api.batch import Batch
    from ..data.store import Store
    from ..stages.lost import Together


@distrusting
def replay(folder: Path, device: str = "cpu") -> list[str]:
    """What is seen in the batch that a run kept, a sentence each: its recordings, streams, embeddings and losses.

    Nothing is written. Of several processes each has to call this, as many as trained together, and the first one gives the sentences.

    Raises StageError if the run kept none, or if as many processes as trained together are not there.
    """
    import torch

    from ..stages.lost import together

    run = RunFolder(folder)
    kept = sorted(folder.glob("fold-*/seed-*/pretrain/lost.json"))
    if not kept:
        raise StageError(f"{folder}: kept no batch; one is kept where a loss in pretraining becomes no number")
    about, weights = read_json(kept[0]), read_tensors(kept[0].with_name("lost.safetensors"))
    with together(folder, about.get("processes", 1), torch.device(device)) as one_of:
        plan = plan_of(folder)
        unit = next(one for one in units_of(plan, run) if (one.fold.number, one.seed) == (about["fold"], about["seed"]))
        sentences = [*_about(kept[0].parent, about, unit), *_again(unit, about, weights, one_of)]
    return sentences if one_of.ranks.first else []


ROOM, FOLD = 2**29, 20
"""Bytes that a batch may take, and how many times those of the streams that it names: far more than windows and padding come to."""


def _require_modest(stores: Mapping[str, Store], about: Mapping[str, Any]) -> None:
    """Raise StageError for a batch that takes far more memory than its recordings have: nobody trained on it."""
    rows, seconds = about["rows"], [seconds for _, seconds in about["windows"]]
    asked = held = 0.0
    for store in stores.values():
        step = 4 * math.prod(store.layout.shape)
        rate, longest = store.layout.rate, 0.0
        lengths = {row: store.length(row) for row in set(rows) if row in store}
        for row, window in zip(rows, seconds, strict=True):
            steps = lengths.get(row, 0)
            longest = max(longest, steps if rate is None or window is None else min(steps, window * rate + 1))
        asked, held = asked + len(rows) * longest * step, held + sum(lengths.values()) * step
    if asked > ROOM + FOLD * held:
        raise StageError(
            f"a batch of {len(rows):,} windows would take {asked / 2**30:.1f} GiB, and the streams of its recordings have {held / 2**30:.3f}: "
            "lost.json was changed; train again to have the batch kept"
        )


def _about(folder: Path, about: Mapping[str, Any], unit: Unit) -> Iterator[str]:
    yield (
        f"{folder}: {unit}, epoch {about['epoch']}, step {about['step']}: the loss was {about['loss']}, in the pairs "
        f"{', '.join(about['pairs']) or 'none'}; {len(about['rows'])} windows of {len(set(about['rows']))} recordings"
    )


def _again(unit: Unit, about: Mapping[str, Any], weights: Mapping[str, Tensor], one_of: Together) -> Iterator[str]:
    """The batch once more, with the weights and draws that it had."""
    import torch

    from ..data.stack import batch as batch_of
    from ..stages.pretrain import replayed

    plan, stores = unit.plan, unit.prepared.stores
    _require_modest(stores, about)
    spans = [Span(start, seconds) for start, seconds in about["windows"]]
    batch = batch_of(stores, about["rows"], spans, about["views"])
    mine = one_of.ranks.share(len(spans))
    share = batch if one_of.ranks.size == 1 else batch_of(stores, about["rows"][mine], spans[mine], about["views"][mine])
    spoilt = [name for name, value in weights.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if spoilt:
        yield f"weights are no numbers already: {', '.join(spoilt[:4])}{' …' if len(spoilt) > 4 else ''}; a step before spoilt them"
    yield from _streams(batch, about)
    encoded, objective = replayed(unit, weights, share, batch.items, about["step"], one_of.device, one_of.ranks)
    for name, one in encoded.items():
        yield f"{name}: embeddings {_range(one.z)}{_whose(one.z, one.rows, about)}"
    for name, values in objective.pairs.items():
        words = ", ".join(f"{what} {float(value):.6g}" for what, value in values.items())
        yield f"{name}: {words}"
    yield f"loss: {'none' if objective.loss is None else f'{float(objective.loss.detach()):.6g}'}; {plan.name} was trained in {plan.recipe.pretrain.precision}"


def _streams(batch: Batch, about: Mapping[str, Any]) -> Iterator[str]:
    for name, stream in batch.streams.items():
        rows = stream.present.nonzero().squeeze(1)
        values = stream.values[rows].float()
        yield f"{name}: streams of {len(rows)} windows, {_range(values)}{_whose(values.flatten(1), rows, about)}"


def _range(values: Tensor) -> str:
    """Least and largest of the numbers that there are, and how many are none."""
    whole = values[values.isfinite()]
    none = values.numel() - whole.numel()
    between = f"from {float(whole.min()):.4g} to {float(whole.max()):.4g}" if whole.numel() else "without a number"
    return f"{between}{f', {none:,} of {values.numel():,} no numbers' if none else ''}"


def _whose(values: Tensor, rows: Tensor, about: Mapping[str, Any]) -> str:
    """Whose values are no numbers."""
    wrong = [about["recordings"][int(row)] for row, one in zip(rows, values, strict=True) if not bool(one.isfinite().all())]
    names = list(dict.fromkeys(wrong))
    return f" (of {', '.join(names[:4])}{' …' if len(names) > 4 else ''})" if names else ""
