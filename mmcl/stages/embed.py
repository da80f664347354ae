"""embed: frozen features of every recording, taken once, for all probes.

For each fold, seed and encoder (pretrained, random): writes <encoder>-<split>.safetensors with, per modality, `vector` (backbone,
[n, width]), `projection` ([n, D]) and `present` ([n]); ids, groups and targets stand beside it in <split>.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..api.batch import Batch
from ..data.batches import ahead
from ..data.folds import Fold
from ..data.stack import batch
from ..data.store import Store
from ..data.windows import Span, slide
from ..engine.devices import arithmetic, pick_device
from ..model.encoder import Augmentation, Encoder
from ..model.joint import Joint, load_joint
from ..model.keep import load_encoders
from ..recipe.plan import JOINT, Plan
from ..runs import RunFolder, fingerprint, finish, finished, read_json, restart, write_json
from ..screen import progress
from .prepare import Prepared, load_prepared
from .pretrain import build_encoders, build_joint_of, fit_joint, fit_normalise, pretrain_key

SPLITS = ("train", "valid", "test")
WINDOWS = 64
"""Windows encoded at a time."""


@dataclass
class Features:
    """One modality's frozen features of some recordings."""

    vector: Tensor  # [n, width]; zeros where missing
    projection: Tensor  # [n, D]; zeros where missing
    present: Tensor  # bool [n]


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


def windows_of(plan: Plan, stores: Mapping[str, Store], rows: Sequence[int]) -> Iterator[tuple[Tensor, Batch]]:
    """The windows from which features are taken, in batches: which of `rows` each is of (int64 [n]), and its streams."""
    window = plan.recipe.window
    cuts: list[tuple[int, int, Span]] = []
    for i, row in enumerate(rows):
        cuts += [(i, row, span) for span in slide(stores, row, window.seconds, window.embed, window.hop)]
    cuts.sort(
        key=lambda c: sum(stores[name].length(c[1]) for name in stores if c[1] in stores[name]) if c[2].seconds is None else 0
    )
    parts = [cuts[k : k + WINDOWS] for k in range(0, len(cuts), WINDOWS)]
    jobs = [partial(batch, stores, [row for _, row, _ in part], [span for _, _, span in part]) for part in parts]
    for part, made in zip(parts, ahead(jobs), strict=True):
        yield torch.tensor([i for i, _, _ in part]), made


@torch.inference_mode()
def encode_joint(
    plan: Plan, joint: Joint, stores: Mapping[str, Store], rows: Sequence[int], device: torch.device
) -> dict[str, Features]:
    """The frozen vector of all modalities together: eval mode, mean over windows."""
    joint.eval().to(device)
    total, count = torch.zeros(len(rows), joint.width), torch.zeros(len(rows))
    for index, made in windows_of(plan, stores, rows):
        with arithmetic(plan.recipe.pretrain.precision, device):
            vector, present = joint(made, device)
        mine = index[present.cpu()]
        total.index_add_(0, mine, vector[present].float().cpu())
        count.index_add_(0, mine, torch.ones(len(mine)))
    vector = total / count.clamp_min(1)[:, None]
    return {JOINT: Features(vector, torch.nn.functional.normalize(vector, dim=-1), count > 0)}


@torch.inference_mode()
def encode_rows(
    plan: Plan,
    encoders: Mapping[str, Encoder],
    stores: Mapping[str, Store],
    rows: Sequence[int],
    device: torch.device,
    spoil: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Features]:
    """Frozen features of some recordings: eval mode, mean over the windows in which a modality is present.

    spoil, generator  what is done to every normalised stream first, to see how much the features suffer
    """
    features: dict[str, Features] = {}
    sums: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for name, encoder in encoders.items():
        encoder.eval().to(device)
        vector = torch.zeros(len(rows), encoder.width)
        sums[name] = (vector, torch.zeros(len(rows), plan.recipe.projection.width), torch.zeros(len(rows)))
    for index, made in windows_of(plan, stores, rows):
        for name, encoder in encoders.items():
            stream = made.streams[name].to(device)
            if not bool(stream.present.any()):
                continue
            with arithmetic(plan.recipe.pretrain.precision, device):
                encoded, present = encoder.encode(stream, spoil, generator)
                projected = encoder.project(encoded)
            mine = index[present.cpu()]
            sums[name][0].index_add_(0, mine, encoded.vector.float().cpu())
            sums[name][1].index_add_(0, mine, torch.nn.functional.normalize(projected.float(), dim=-1).cpu())
            sums[name][2].index_add_(0, mine, torch.ones(len(mine)))
    for name, (vector, projection, count) in sums.items():
        share = count.clamp_min(1)[:, None]
        features[name] = Features(vector / share, projection / share, count > 0)
    return features


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
        "format": 1, "ids": [s.id for s in samples], "groups": [s.group for s in samples],
        "targets": [dict(s.targets) for s in samples], "facts": [dict(s.facts) for s in samples],
    }  # fmt: skip
