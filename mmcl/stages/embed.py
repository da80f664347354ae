"""embed: frozen features of every recording, taken once, for all probes.

For each fold, seed and encoder (pretrained, random): writes <encoder>-<split>.safetensors with, per modality, `vector` (backbone,
[n, width]), `projection` ([n, D]) and `present` ([n]); ids, groups and targets stand beside it in <split>.json. Unless the recipe leaves
them out, the streams' own statistics stand there too, as pooled-<split>.safetensors, and the linear space that they share, for
retrieval alone, as canonical-<split>.safetensors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.folds import Fold
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
from .units import ALL, CANONICAL, SPLITS, Only, Unit, embed_key, encoder_kinds, feature_kinds, pooled_key, units_of


def embed(plan: Plan, run: RunFolder, device: str = "auto", splits: Sequence[str] = SPLITS, only: Only = ALL) -> None:
    """Write the features of every fold and seed that are not there yet.

    splits  whose features are taken; a sweep leaves the test recordings alone
    only    which folds and seeds
    """
    units = units_of(plan, run, only)
    where = pick_device(device)
    keys = [embed_key(plan, unit.prepared, unit.fold, unit.seed, splits) for unit in units]
    todo = [(unit, key) for unit, key in zip(units, keys, strict=True) if not finished(unit.folder("embed"), key)]
    if todo:
        with progress("embed", len(todo)) as tick:
            for done, (unit, key) in enumerate(todo, 1):
                began = time.monotonic()
                folder = unit.folder("embed")
                restart(folder)
                for kind in encoder_kinds(plan):
                    for split, features in _features_of(unit, kind, splits, where):
                        save_features(folder / f"{kind}-{split}.safetensors", features)
                for split in splits:
                    write_json(folder / f"{split}.json", _who(unit.prepared, getattr(unit.fold, split)))
                seconds = round(time.monotonic() - began, 3)
                finish(folder, key, seconds=seconds, encoders=encoder_kinds(plan))
                run.log("embed", fold=unit.fold.number, seed=unit.seed, seconds=seconds)
                tick(done, str(unit))
    if "pooled" in feature_kinds(plan):
        _pool(plan, units, splits)


def _pool(plan: Plan, units: Sequence[Unit], splits: Sequence[str]) -> None:
    """Write the pooled streams that are not there yet; the seeds of a fold have the same ones."""
    keys = [pooled_key(plan, unit.prepared, unit.fold, splits) for unit in units]
    todo = [(unit, key) for unit, key in zip(units, keys, strict=True) if not unit.pooled(key)]
    known: tuple[Fold | None, dict[str, dict[str, Features]]] = (None, {})  # a fold, and its features by name of the file
    if not todo:
        return
    with progress("embed, pooled", len(todo)) as tick:
        for done, (unit, key) in enumerate(todo, 1):
            if known[0] != unit.fold:
                known = unit.fold, _statistics(plan, unit, splits)
            for name, features in known[1].items():
                save_features(unit.folder("embed") / f"{name}.safetensors", features)
            finish(unit.folder("embed"), key, "pooled.json", [f"{name}.safetensors" for name in known[1]])
            tick(done, str(unit))


def _statistics(plan: Plan, unit: Unit, splits: Sequence[str]) -> dict[str, dict[str, Features]]:
    """Of each split, by name of the file: the statistics of what encoders see, and where it lies in a linear space fitted on training rows."""
    stores, window = unit.prepared.stores, plan.recipe.window
    span = Span(0.0, window.seconds) if window.seconds is not None and window.embed == "start" else WHOLE
    rows = {split: getattr(unit.fold, split) for split in splits}
    if plan.pretext is not None:
        return {f"pooled-{split}": pool_joined(stores, rows[split], span) for split in splits}
    train, section = unit.fold.train, plan.recipe.probe
    groups = [unit.prepared.samples[row].group for row in train]
    canonical = fit_canonical(stores, train, section.floor, section.clip, span, groups)
    features = {}
    for split in splits:
        features[f"pooled-{split}"] = pooled = pool(stores, rows[split], span)
        if split == "train":  # nobody is searched for among training rows
            continue
        spaces = canonical.project(stores, rows[split], span)
        features[f"{CANONICAL}-{split}"] = {
            name: replace(one, vector=torch.zeros(len(rows[split]), 0), projection=spaces[name]) for name, one in pooled.items()
        }
    return features


def read_features(folder: Path, kind: str, split: str) -> tuple[dict[str, Features], dict[str, Any]]:
    """Features that `embed` wrote, and who they belong to."""
    return load_features(folder / f"{kind}-{split}.safetensors"), read_json(folder / f"{split}.json")


def _features_of(
    unit: Unit, kind: str, splits: Sequence[str], device: torch.device
) -> Iterator[tuple[str, dict[str, Features]]]:
    """Each split's frozen features by modality, from the plan's pretrained or random encoders."""
    plan, stores = unit.plan, unit.prepared.stores
    if plan.pretext is not None:
        joint = joint_of(plan, kind, unit.folder("pretrain"), stores, unit.fold.train, *unit.address)
        for split in splits:
            yield split, encode_joint(plan, joint, stores, getattr(unit.fold, split), device)
        return
    encoders = encoders_of(plan, kind, unit.folder("pretrain"), stores, unit.fold.train, *unit.address)
    for split in splits:
        yield split, encode_rows(plan, encoders, stores, getattr(unit.fold, split), device)


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
