"""audit: looks in a finished run's files for anything by which the test set could have been seen, and says where.

Trusts no statement of the run: splits, statistics, chosen epochs and thresholds are derived again from the files beside them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from ..api.errors import StageError
from ..data.stack import stack
from ..data.store import Store
from ..evaluate.metrics import LESS_IS_BETTER
from ..model.encoder import Normalise
from ..runs import RunFolder, read_json, read_jsonl
from .prepare import Prepared, load_prepared

SPLITS = ("train", "valid", "test")
ALIKE = 0.9995
"""Correlation of two recordings' shapes from which they count as near-duplicates, where their lengths agree too."""
STEPS, SHARES = 32, 8
"""A recording's shape: so many steps of at most so many groups of channels."""


@dataclass(frozen=True)
class Finding:
    """One leak, or what looks like one."""

    check: str
    evidence: str
    asked: bool = False  # the recipe says so in so many words


@dataclass(frozen=True)
class Audited:
    """What was looked at, and what was found."""

    checks: tuple[str, ...]
    findings: tuple[Finding, ...]


def audit(run: RunFolder) -> Audited:
    """Every check over a run. Raises StageError if it is not a run, or is not finished."""
    plan = read_json(run.root / "plan.json")
    prepared = load_prepared(run)
    units = run.units("probe")
    if not units:
        raise StageError(f"{run.root}: has no finished probe; audit a run that `mmcl run` has finished")
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "no recording in two splits": lambda: _recordings(prepared),
        "no group in two splits": lambda: _groups(prepared, plan),
        "no recording twice under two names, across splits": lambda: _duplicates(prepared),
        "pretraining saw training inputs alone, and no labels": lambda: _asked(plan),
        "normalisation from training rows alone": lambda: _statistics(run, prepared, plan),
        "epochs chosen by validation loss": lambda: _epochs(run, plan),
        "features of each split are of that split": lambda: _features(run, prepared),
        "heads chosen on validation rows": lambda: _chosen(run),
        "predictions are of test recordings": lambda: _predictions(run, prepared),
        "the test set opened once": lambda: _opened(run),
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        findings += [Finding(name, one.evidence, one.asked) for one in check()]
    return Audited(tuple(checks), tuple(findings))


def _of(prepared: Prepared) -> Iterator[tuple[int, dict[str, Sequence[int]]]]:
    for fold in prepared.folds:
        yield fold.number, {"train": fold.train, "valid": fold.valid, "test": fold.test}


def _recordings(prepared: Prepared) -> Iterator[Finding]:
    for number, splits in _of(prepared):
        for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
            both = sorted(set(splits[a]) & set(splits[b]))
            if both:
                yield Finding(
                    "", f"fold {number}: {len(both)} recordings stand in {a} and {b}, such as '{prepared.samples[both[0]].id}'"
                )


def _groups(prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    asked = str(plan.get("protocol", "")).endswith("by sample")
    for number, splits in _of(prepared):
        groups = {name: {prepared.samples[row].group for row in rows} for name, rows in splits.items()}
        for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
            both = sorted(groups[a] & groups[b])
            if both:
                yield Finding("", f"fold {number}: {len(both)} groups stand in {a} and {b}, such as '{both[0]}'", asked)


def _duplicates(prepared: Prepared) -> Iterator[Finding]:
    """By content: the same prepared values; and by shape, which a copy at another loudness or with little noise keeps."""
    for name, store in prepared.stores.items():
        rows = list(store.rows)
        hashes: dict[str, list[int]] = {}
        for row in rows:
            values = np.ascontiguousarray(store.values(row))
            digest = hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()
            hashes.setdefault(digest, []).append(row)
        same = [tuple(each) for each in hashes.values() if len(each) > 1]
        near = _alike(store, rows) if store.layout.timed else []
        for number, splits in _of(prepared):
            where = {row: split for split, members in splits.items() for row in members}
            for kind, sets in (("the same", same), ("almost the same", near)):
                crossing = [
                    (a, b) for each in sets for i, a in enumerate(each) for b in each[i + 1 :]
                    if where.get(a) and where.get(b) and where[a] != where[b]
                ]  # fmt: skip
                if crossing:
                    a, b = crossing[0]
                    yield Finding(
                        "",
                        f"fold {number}: {len(crossing)} pairs of recordings in different splits have {kind} {name}, such as "
                        f"'{prepared.samples[a].id}' ({where[a]}) and '{prepared.samples[b].id}' ({where[b]})",
                    )


def _alike(store: Store, rows: Sequence[int]) -> list[tuple[int, ...]]:
    """Pairs whose shapes correlate by ALIKE and whose lengths agree within two hundredths; identical ones are left to the hash."""
    if len(rows) < 2:
        return []
    shapes = np.stack([_shape(store.values(row)) for row in rows])
    lengths = np.array([store.length(row) for row in rows], np.float64)
    found: list[tuple[int, ...]] = []
    for start in range(0, len(rows), 512):
        close = shapes[start : start + 512] @ shapes.T
        for i, j in np.argwhere(close > ALIKE):
            a, b = start + int(i), int(j)
            as_long = abs(lengths[a] - lengths[b]) <= 0.02 * max(lengths[a], lengths[b])
            if a < b and as_long and not np.array_equal(store.values(rows[a]), store.values(rows[b])):
                found.append((rows[a], rows[b]))
    return found


def _shape(values: NDArray[Any]) -> NDArray[np.float32]:
    """A recording as a vector of length 1: STEPS steps of at most SHARES groups of channels, each about its own mean."""
    flat = np.asarray(values, np.float32).reshape(len(values), -1)
    groups = np.stack([part.mean(1) for part in np.array_split(flat, min(SHARES, flat.shape[1]), axis=1)], 1)
    edges = np.linspace(0, len(groups), STEPS + 1)
    rows = [groups[int(a) : max(int(a) + 1, int(b))].mean(0) for a, b in pairwise(edges)]
    shape = np.stack(rows)
    shape = shape - shape.mean(0)
    norm = float(np.linalg.norm(shape))
    unit: NDArray[np.float32] = (shape / norm if norm > 0 else np.zeros_like(shape)).ravel().astype(np.float32)
    return unit


def _asked(plan: Mapping[str, Any]) -> Iterator[Finding]:
    pretrain = plan["plan"]["pretrain"]
    if pretrain.get("transductive") and pretrain["epochs"]:
        yield Finding("", f"pretrain.transductive: inputs of {', '.join(pretrain['transductive'])} were contrasted", True)
    if plan.get("uses_labels"):
        how = pretrain["objective"]["positives"]["use"]
        yield Finding(
            "",
            f"labels or scores of training recordings were read (positives '{how}', balance {pretrain.get('balance')})",
            True,
        )


def _statistics(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """Mean and deviation in the encoders' weights against those of the training rows, and of all rows to say which they are."""
    folds = {fold.number: fold for fold in prepared.folds}
    for number, seed, folder in run.units("pretrain"):
        weights = load_file(str(folder / "encoders.safetensors"))
        for name, store in prepared.stores.items():
            kept = _kept_statistics(weights, name)
            if kept is None:
                continue
            fold = folds[number]
            if not _agree(kept, _fitted(store, fold.train)):
                everything = _agree(kept, _fitted(store, [*fold.train, *fold.valid, *fold.test]))
                what = "are those of all splits together" if everything else "are not those of the training rows"
                yield Finding("", f"fold {number}, seed {seed}: mean and deviation of '{name}' {what}")


def _kept_statistics(weights: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
    for prefix in (f"{name}/normalise.", f"joint/normalise.{name}."):
        if f"{prefix}mean" in weights:
            return weights[f"{prefix}mean"], weights[f"{prefix}deviation"]
    return None


def _fitted(store: Store, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    normalise = Normalise(store.layout)
    normalise.fit(stack([store.values(row)], store.layout) for row in rows if row in store)
    return normalise.mean, normalise.deviation


def _agree(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(one, other, strict=True))


def _epochs(run: RunFolder, plan: Mapping[str, Any]) -> Iterator[Finding]:
    for number, seed, folder in run.units("pretrain"):
        history, facts = read_jsonl(folder / "history.jsonl"), read_json(folder / "finished.json")
        losses = [row["valid_loss"] if row["valid_loss"] is not None else row["train_loss"] for row in history]
        if losses and facts["best_epoch"] != 1 + int(np.argmin(losses)):
            yield Finding(
                "",
                f"fold {number}, seed {seed}: pretraining says epoch {facts['best_epoch']} was best; the lowest validation loss was that of "
                f"epoch {1 + int(np.argmin(losses))}",
            )
    supervise = plan["plan"].get("supervise")
    for number, seed, folder in run.units("supervise") if supervise else ():
        for path in sorted((folder / "models").glob("*.json")):
            facts = read_json(path)
            metric = f"valid_{facts['metric']}"
            worst = []
            for row in facts["history"]:
                value = row[metric]
                worse = math.nan if value is None else value if facts["metric"] in LESS_IS_BETTER else -value
                worst.append(worse if supervise["choose"] == "score" and math.isfinite(worse) else row["valid_loss"])
            if worst and facts["best_epoch"] != 1 + int(np.argmin(worst)):
                yield Finding(
                    "",
                    f"fold {number}, seed {seed}: {path.stem} says epoch {facts['best_epoch']} was best; on validation rows {1 + int(np.argmin(worst))} was",
                )


def _features(run: RunFolder, prepared: Prepared) -> Iterator[Finding]:
    by_fold = dict(_of(prepared))
    for number, seed, folder in run.units("embed"):
        for split in SPLITS:
            path = folder / f"{split}.json"
            if not path.exists():
                continue
            wanted = {prepared.samples[row].id for row in by_fold[number][split]}
            strange = [id for id in read_json(path)["ids"] if id not in wanted]
            if strange:
                yield Finding(
                    "",
                    f"fold {number}, seed {seed}: {len(strange)} recordings in the features of {split} are not of it, such as '{strange[0]}'",
                )


def _chosen(run: RunFolder) -> Iterator[Finding]:
    """What a head was chosen by must be called a validation figure."""
    for number, seed, folder in run.units("probe"):
        for row in read_jsonl(folder / "chosen.jsonl"):
            strange = [key for key in row if "test" in key.lower()]
            if strange:
                yield Finding(
                    "", f"fold {number}, seed {seed}: head '{row['head']}' on {row['input']} was chosen by '{strange[0]}'"
                )


def _predictions(run: RunFolder, prepared: Prepared) -> Iterator[Finding]:
    by_fold = dict(_of(prepared))
    for stage in ("probe", "supervise"):
        for number, seed, folder in run.units(stage):
            wanted = {prepared.samples[row].id for row in by_fold[number]["test"]}
            strange = sorted({row["id"] for row in read_jsonl(folder / "predictions.jsonl")} - wanted)
            if strange:
                yield Finding(
                    "",
                    f"{stage}, fold {number}, seed {seed}: {len(strange)} predictions are of no test recording, such as '{strange[0]}'",
                )


def _opened(run: RunFolder) -> Iterator[Finding]:
    """More than one opening means that something was looked at before something was changed."""
    counts: dict[tuple[str, int, int], int] = {}
    for row in read_jsonl(run.root / "log.jsonl"):
        if row["event"] == "test opened":
            spot = (row.get("stage", "probe"), row["fold"], row["seed"])
            counts[spot] = counts.get(spot, 0) + 1
    for (stage, fold, seed), count in sorted(counts.items()):
        if count > 1:
            yield Finding(
                "",
                f"{stage}, fold {fold}, seed {seed}: the test set was opened {count} times (log.jsonl); the recipe was changed between",
            )


def audit_folder(folder: Path) -> Audited:
    """`audit` of a path. Raises StageError if it is no run folder."""
    if not (folder / "plan.json").is_file():
        raise StageError(f"{folder}: is no run folder (it has no plan.json); name one such as runs/NAME")
    return audit(RunFolder(folder))
