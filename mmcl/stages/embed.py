"""embed: frozen features of every recording, taken once, for all probes.

For each fold, seed and encoder (pretrained, random): writes <encoder>-<split>.safetensors with, per modality, `vector` (backbone,
[n, width]), `projection` ([n, D]) and `present` ([n]); ids, groups and targets stand beside it in <split>.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..data.folds import Fold
from ..data.prepared import Prepared, load_prepared
from ..engine.devices import pick_device
from ..model.build import build_encoders, build_joint_of, fit_joint, fit_normalise
from ..model.encoder import Encoder
from ..model.frozen import Features, encode_joint, encode_rows
from ..model.joint import load_joint
from ..model.keep import load_encoders
from ..recipe.plan import Plan
from ..runs import RunFolder, fingerprint, finish, finished, read_json, restart, write_json
from ..screen import progress
from .pretrain import pretrain_key

SPLITS = ("train", "valid", "test")


def embed(plan: Plan, run: RunFolder, device: str = "auto", splits: Sequence[str] = SPLITS) -> None:
    """Write the features of every fold and seed that are not there yet.

    splits  whose features are taken; a sweep leaves the test recordings alone
    """
    prepared = load_prepared(run)
    where = pick_device(device)
    units = [(fold, seed) for fold in prepared.folds for seed in plan.seeds]
    todo = [
        (fold, seed)
        for fold, seed in units
        if not finished(run.stage("embed", fold.number, seed), embed_key(plan, prepared, fold, seed, splits))
    ]
    if not todo:
        return
    with progress("embed", len(todo)) as tick:
        for done, (fold, seed) in enumerate(todo, 1):
            began = time.monotonic()
            folder = run.stage("embed", fold.number, seed)
            restart(folder)
            for kind in encoder_kinds(plan):
                encode = _encoder_of(plan, run, prepared, fold, seed, kind, where)
                for split in splits:
                    features = encode(getattr(fold, split))
                    _write(folder / f"{kind}-{split}.safetensors", features)
            for split in splits:
                write_json(folder / f"{split}.json", _who(prepared, getattr(fold, split)))
            finish(
                folder,
                embed_key(plan, prepared, fold, seed, splits),
                seconds=round(time.monotonic() - began, 3),
                encoders=encoder_kinds(plan),
            )
            run.log("embed", fold=fold.number, seed=seed, seconds=round(time.monotonic() - began, 3))
            tick(done, f"fold {fold.number}, seed {seed}")


def _encoder_of(
    plan: Plan, run: RunFolder, prepared: Prepared, fold: Fold, seed: int, kind: str, device: torch.device
) -> Callable[[Sequence[int]], dict[str, Features]]:
    """What turns recordings into frozen features: the plan's pretrained or random encoders."""
    spot = (seed, "fold", fold.number)
    if plan.pretext is not None:
        joint = load_joint(run.stage("pretrain", fold.number, seed)) if kind == "pretrained" else build_joint_of(plan, *spot)
        if kind != "pretrained":
            fit_joint(joint, prepared.stores, fold.train)
        return partial(encode_joint, plan, joint, prepared.stores, device=device)
    encoders = encoders_of(plan, run, prepared, fold, seed, kind)
    return partial(encode_rows, plan, encoders, prepared.stores, device=device)


def encoders_of(plan: Plan, run: RunFolder, prepared: Prepared, fold: Fold, seed: int, kind: str) -> dict[str, Encoder]:
    """The plan's pretrained or random encoders of one fold and seed."""
    if kind == "pretrained":
        return load_encoders(run.stage("pretrain", fold.number, seed))
    encoders = build_encoders(plan, seed, "fold", fold.number)
    fit_normalise(encoders, prepared.stores, fold.train)
    return encoders


def embed_key(plan: Plan, prepared: Prepared, fold: Fold, seed: int, splits: Sequence[str] = SPLITS) -> str:
    """Fingerprint of everything that the features depend on."""
    parts = [pretrain_key(plan, prepared, fold, seed), prepared.key, fold.test, encoder_kinds(plan)]
    return fingerprint(parts if tuple(splits) == SPLITS else [*parts, list(splits)])


def encoder_kinds(plan: Plan) -> list[str]:
    """Which encoders are compared: pretrained (unless epochs is 0) and, beside them, random ones."""
    kinds = ["pretrained"] if plan.recipe.pretrain.epochs > 0 else []
    return kinds + (["random"] if "random" in plan.recipe.report.against or not kinds else [])


def read_features(folder: Path, kind: str, split: str) -> tuple[dict[str, Features], dict[str, Any]]:
    """Features that `embed` wrote, and who they belong to."""
    tensors = load_file(str(folder / f"{kind}-{split}.safetensors"))
    names = dict.fromkeys(key.rsplit("/", 1)[0] for key in json.loads(json.dumps(list(tensors))))
    found = {name: Features(*(tensors[f"{name}/{what}"] for what in ("vector", "projection", "present"))) for name in names}
    return found, read_json(folder / f"{split}.json")


def _write(path: Path, features: Mapping[str, Features]) -> None:
    tensors = {
        f"{name}/{what}": getattr(f, what).contiguous()
        for name, f in features.items()
        for what in ("vector", "projection", "present")
    }
    part = path.with_name(f"{path.name}.tmp")
    save_file(tensors, str(part))
    part.replace(path)


def _who(prepared: Prepared, rows: Sequence[int]) -> dict[str, Any]:
    samples = [prepared.samples[row] for row in rows]
    return {
        "format": 1,
        "ids": [s.id for s in samples],
        "groups": [s.group for s in samples],
        "targets": [dict(s.targets) for s in samples],
        "facts": [dict(s.facts) for s in samples],
    }
