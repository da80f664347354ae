"""embed: frozen features of every recording, taken once, for all probes.

For each fold, seed and encoder (pretrained, random): writes <encoder>-<split>.safetensors with, per modality, `vector` (backbone,
[n, width]), `projection` ([n, D]) and `present` ([n]); ids, groups and targets stand beside it in <split>.safetensors. Unless the recipe leaves
them out, the streams' own statistics stand there too, as pooled-<split>.safetensors, and the linear space that they share, for
retrieval alone, as canonical-<split>.safetensors. Recordings are taken AT_ONCE at a time: what is held does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ..data.folds import Fold
from ..data.whose import Whose, read_whose, write_whose
from ..data.windows import WHOLE, Span
from ..engine.devices import pick_device
from ..model.build import encoders_of, joint_of
from ..model.canonical import fit_canonical
from ..model.frozen import Features, encode_joint, encode_rows, load_features, save_features, save_in_parts
from ..model.pooled import pool, pool_joined
from ..recipe.plan import Plan
from ..runs import RunFolder, finish, finished, restart
from ..screen import progress
from .units import ALL, CANONICAL, SPLITS, Only, Unit, embed_key, encoder_kinds, feature_kinds, pooled_key, units_of

AT_ONCE = 2**14
"""Recordings that are encoded together: those of like length in batches, and then written down and forgotten."""


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
                    for split, count, parts in _features_of(unit, kind, splits, where):
                        save_in_parts(folder / f"{kind}-{split}.safetensors", count, parts)
                for split in splits:
                    write_whose(folder, split, unit.prepared.samples, getattr(unit.fold, split))
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


def read_features(folder: Path, kind: str, split: str) -> tuple[dict[str, Features], Whose]:
    """Features that `embed` wrote, and who they belong to."""
    return load_features(folder / f"{kind}-{split}.safetensors"), read_whose(folder, split)


def _features_of(
    unit: Unit, kind: str, splits: Sequence[str], device: torch.device
) -> Iterator[tuple[str, int, Iterator[dict[str, Features]]]]:
    """Of each split how many recordings it has, and part by part their features from the plan's pretrained or random encoders."""
    plan, stores = unit.plan, unit.prepared.stores
    trained, fitted_on = unit.folder("pretrain"), unit.fold.train
    take: Callable[..., dict[str, Features]]
    if plan.pretext is not None:
        take = partial(encode_joint, plan, joint_of(plan, kind, trained, stores, fitted_on, *unit.address), stores)
    else:
        take = partial(encode_rows, plan, encoders_of(plan, kind, trained, stores, fitted_on, *unit.address), stores)
    for split in splits:
        rows = getattr(unit.fold, split)
        yield split, len(rows), (take(rows[k : k + AT_ONCE], device) for k in range(0, max(1, len(rows)), AT_ONCE))
