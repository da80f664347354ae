"""embed: frozen features of every recording, taken once, for all probes.

For each fold, seed and encoder (pretrained, random): writes <encoder>-<split>.safetensors with, per modality, `vector` (backbone,
[n, width]), `projection` ([n, D]) and `present` ([n]); ids, groups and targets stand beside it in <split>.json.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.prepared import Prepared
from ..data.windows import WHOLE, Span
from ..engine.devices import pick_device
from ..model.build import encoders_of, joint_of
from ..model.canonical import fit_canonical
from ..model.frozen import Features, encode_joint, encode_rows, load_features, save_features
from ..model.pooled import pool, pool_joined
from ..recipe.plan import Plan
from ..runs import RunFolder, finish, finished, read_json, restart, write_json
from ..screen import progress
from .units import SPLITS, Unit, embed_key, feature_kinds, units_of


def embed(plan: Plan, run: RunFolder, device: str = "auto", splits: Sequence[str] = SPLITS) -> None:
    """Write the features of every fold and seed that are not there yet.

    splits  whose features are taken; a sweep leaves the test recordings alone
    """
    units = units_of(plan, run)
    where = pick_device(device)
    keys = [embed_key(plan, unit.prepared, unit.fold, unit.seed, splits) for unit in units]
    todo = [(unit, key) for unit, key in zip(units, keys, strict=True) if not finished(unit.folder("embed"), key)]
    if not todo:
        return
    with progress("embed", len(todo)) as tick:
        for done, (unit, key) in enumerate(todo, 1):
            began = time.monotonic()
            folder = unit.folder("embed")
            restart(folder)
            for kind in feature_kinds(plan):
                for split, features in _features_of(unit, kind, splits, where):
                    save_features(folder / f"{kind}-{split}.safetensors", features)
            for split in splits:
                write_json(folder / f"{split}.json", _who(unit.prepared, getattr(unit.fold, split)))
            seconds = round(time.monotonic() - began, 3)
            finish(folder, key, seconds=seconds, encoders=feature_kinds(plan))
            run.log("embed", fold=unit.fold.number, seed=unit.seed, seconds=seconds)
            tick(done, str(unit))


def read_features(folder: Path, kind: str, split: str) -> tuple[dict[str, Features], dict[str, Any]]:
    """Features that `embed` wrote, and who they belong to."""
    return load_features(folder / f"{kind}-{split}.safetensors"), read_json(folder / f"{split}.json")


def _features_of(
    unit: Unit, kind: str, splits: Sequence[str], device: torch.device
) -> Iterator[tuple[str, dict[str, Features]]]:
    """Each split's frozen features by modality, from the plan's pretrained or random encoders, or pooled without any."""
    plan, stores = unit.plan, unit.prepared.stores
    if kind == "pooled":
        yield from zip(splits, _pooled(unit, splits), strict=True)
        return
    if plan.pretext is not None:
        joint = joint_of(plan, kind, unit.folder("pretrain"), stores, unit.fold.train, *unit.address)
        for split in splits:
            yield split, encode_joint(plan, joint, stores, getattr(unit.fold, split), device)
        return
    encoders = encoders_of(plan, kind, unit.folder("pretrain"), stores, unit.fold.train, *unit.address)
    for split in splits:
        yield split, encode_rows(plan, encoders, stores, getattr(unit.fold, split), device)


def _pooled(unit: Unit, splits: Sequence[str]) -> Iterator[dict[str, Features]]:
    """Of each split the statistics of what encoders see and, for a projection, where it lies in a linear space fitted on training rows."""
    plan, stores = unit.plan, unit.prepared.stores
    window = plan.recipe.window
    span = Span(0.0, window.seconds) if window.seconds is not None and window.embed == "start" else WHOLE
    if plan.pretext is not None:
        yield from (pool_joined(stores, getattr(unit.fold, split), span) for split in splits)
        return
    canonical = fit_canonical(stores, unit.fold.train, plan.recipe.probe.floor, plan.recipe.probe.clip, span)
    for split in splits:
        rows = getattr(unit.fold, split)
        spaces = canonical.project(stores, rows, span)
        yield {name: replace(one, projection=spaces[name]) for name, one in pool(stores, rows, span).items()}


def _who(prepared: Prepared, rows: Sequence[int]) -> dict[str, Any]:
    """Whose the features are: ids, groups, targets and facts of some recordings."""
    samples = [prepared.samples[row] for row in rows]
    return {
        "format": 1,
        "ids": [sample.id for sample in samples],
        "groups": [sample.group for sample in samples],
        "targets": [dict(sample.targets) for sample in samples],
        "facts": [dict(sample.facts) for sample in samples],
    }
