"""audit: looks in a finished run's files for anything by which the test set could have been seen, and says where.

Trusts no statement of the run: splits, statistics, chosen epochs, and what heads with a solver of their own chose and predict, are
derived again from the files beside them. Of heads that were trained and not kept, only what can be read is checked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from ..api.dataset import Task
from ..api.errors import MmclError, StageError
from ..api.head import Labelled
from ..data.prepared import Prepared, load_prepared
from ..data.stack import stack
from ..data.store import Store
from ..evaluate.answers import output_of, shift_of, target_of
from ..evaluate.metrics import LESS_IS_BETTER, thresholds
from ..model.encoder import Normalise
from ..model.frozen import Features
from ..model.heads import fit_head
from ..model.scale import any_present, encoded_of, scale_of
from ..recipe.plan import Plan, main_input
from ..runs import RunFolder, read_json, read_jsonl
from ..stages.embed import read_features
from ..stages.supervise import validation_outputs
from ..stages.units import encoder_kinds
from .rerun import plan_of

SPLITS = ("train", "valid", "test")
ALIKE = 0.9995
"""Correlation of two recordings' shapes from which they count as near-duplicates in any company."""
SIMILAR, APART = 0.95, 0.25
"""Or from which they do if each is the other's nearest, and what parts them is so small a share of what parts them from the next."""
JITTER = 0.85
"""Correlation of their second differences that near-duplicates have besides: two who do the same don't tremble alike."""
STEPS, SHARES = 32, 8
"""A recording's shape: so many steps of at most so many groups of channels."""
FINE = 256
"""Groups of channels whose second differences are compared."""
SHORT = 16
"""Steps below which recordings are alike by chance, so that only identical ones count."""
LENGTHS = 1.05
"""Recordings are compared over the longest beginning that both have, in lengths that grow by this factor."""
SOLVING = ("steps", "gradient")
"""What heads say of how their solver went, which is no choice and differs between machines."""
NEARLY = 1e-3
"""How far outputs that were derived again may lie from what was said, as other machines round otherwise."""


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
    left_out: Mapping[str, str] = field(default_factory=dict)  # check → why it could not be made


def audit(run: RunFolder) -> Audited:
    """Every check over a run. Raises StageError if it is not a run, or is not finished."""
    plan = read_json(run.root / "plan.json")
    prepared = load_prepared(run)
    if not _units(run, "probe", prepared, plan):
        raise StageError(f"{run.root}: has no finished probe; audit a run that `mmcl run` has finished")
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "no recording in two splits": lambda: _recordings(prepared),
        "no group in two splits": lambda: _groups(prepared, plan),
        "no recording twice under two names, across splits": lambda: _duplicates(run, prepared, plan),
        "pretraining saw training inputs alone, and no labels": lambda: _asked(plan),
        "normalisation from training rows alone": lambda: _statistics(run, prepared, plan),
        "epochs chosen by validation loss": lambda: _epochs(run, prepared, plan),
        "features of each split are of that split": lambda: _features(run, prepared, plan),
        "heads chosen on validation rows": lambda: _chosen(run, prepared, plan),
        "probes fitted on training rows and chosen on validation rows": lambda: _probes(run, prepared, plan),
        "thresholds of trained models from validation rows": lambda: _thresholds(run, prepared, plan),
        "few labels were few, and of training rows": lambda: _few_labels(run, prepared, plan),
        "predictions are of test recordings": lambda: _predictions(run, prepared, plan),
        "the test set opened once": lambda: _opened(run, prepared, plan),
    }
    findings: list[Finding] = []
    left_out: dict[str, str] = {}
    for name, check in checks.items():
        try:
            for one in check():
                findings.append(Finding(name, one.evidence, one.asked))
        except MmclError as error:
            left_out[name] = str(error)
    return Audited(tuple(checks), tuple(findings), left_out)


def _units(run: RunFolder, stage: str, prepared: Prepared, plan: Mapping[str, Any]) -> list[tuple[int, int, Path]]:
    """What a stage has finished of the plan's folds and seeds; what an earlier recipe left beside them is not looked at."""
    said = plan["plan"]
    asked = said["pretrain"]["epochs"] if stage == "pretrain" else stage in ("embed", "probe") or said.get(stage)
    if not asked:
        return []
    numbers = {fold.number for fold in prepared.folds}
    return [unit for unit in run.units(stage) if unit[0] in numbers and unit[1] in said["seed"]]


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


def _duplicates(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """By content: the same prepared values; and by shape, which a copy at another loudness or with little noise keeps.

    Words are not looked at: people say the same, and actors read the same lines.
    """
    words = _words(run, plan)
    for name, store in prepared.stores.items():
        rows = [row for row in store.rows if name not in words]
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
                    (a, b)
                    for each in sets
                    for i, a in enumerate(each)
                    for b in each[i + 1 :]
                    if where.get(a) and where.get(b) and where[a] != where[b]
                ]
                if crossing:
                    a, b = crossing[0]
                    yield Finding(
                        "",
                        f"fold {number}: {len(crossing)} pairs of recordings in different splits have {kind} {name}, such as "
                        f"'{prepared.samples[a].id}' ({where[a]}) and '{prepared.samples[b].id}' ({where[b]})",
                    )


def _words(run: RunFolder, plan: Mapping[str, Any]) -> set[str]:
    """The modalities that are made of words."""
    sources = plan_of(run.root).info.sources
    return {name for name, one in plan["plan"]["modalities"].items() if sources[one["source"]].type == "words"}


def _alike(store: Store, rows: Sequence[int]) -> list[tuple[int, ...]]:
    """Pairs that are almost the same over a beginning that both have; identical ones are left to the hash.

    Loudness, brightness and a little noise leave a shape as it is, and an end that was cut off is not compared. Repetitions of one
    movement are alike too, but they differ in what is too quick to be meant, and no two of them stand out: so a pair must be nearer to
    each other than anything else is to either, and tremble alike.
    """
    lengths = _lengths(max((store.length(row) for row in rows), default=0))
    level = {row: int(np.searchsorted(lengths, store.length(row), "right")) - 1 for row in rows}
    found: set[tuple[int, int]] = set()
    for at, length in enumerate(lengths):
        company = [row for row in rows if level[row] in (at, at + 1)]  # so that a little shorter is still compared
        if len(company) > 1 and length >= SHORT:
            found |= {pair for pair in _near(store, company, length) if pair not in found}
    return sorted(found)


def _lengths(longest: int) -> list[int]:
    """1, 2, 3, … and on by LENGTHS, up to `longest`."""
    found, length = [], 1.0
    while length <= longest:
        found.append(int(length))
        length *= LENGTHS
    return sorted(set(found))


def _near(store: Store, rows: Sequence[int], length: int) -> Iterator[tuple[int, int]]:
    """Of recordings that have `length` steps at least, pairs whose beginnings are almost the same."""
    shapes = np.stack([_shape(store.values(row, 0, length)) for row in rows])
    best, second, which = (np.zeros(len(rows), kind) for kind in (np.float32, np.float32, np.int64))
    close: list[tuple[int, int]] = []
    for start in range(0, len(rows), 512):
        likeness = shapes[start : start + 512] @ shapes.T
        likeness[np.arange(len(likeness)), start + np.arange(len(likeness))] = -1
        here = slice(start, start + len(likeness))
        which[here] = likeness.argmax(1)
        best[here] = likeness.max(1)
        second[here] = np.partition(likeness, -2, axis=1)[:, -2]
        close += [(start + int(i), int(j)) for i, j in np.argwhere(likeness > ALIKE)]
    for a, b in enumerate(which.tolist()):
        parted = APART * (1 - max(second[a], second[b]))
        if which[b] == a and best[a] > SIMILAR and 1 - best[a] < parted:
            close.append((a, b))
    for a, b in {(min(pair), max(pair)) for pair in close}:
        one, other = store.values(rows[a], 0, length), store.values(rows[b], 0, length)
        if float(_jitter(one) @ _jitter(other)) > JITTER and not np.array_equal(store.values(rows[a]), store.values(rows[b])):
            yield rows[a], rows[b]


def _shape(values: NDArray[Any]) -> NDArray[np.float32]:
    """A recording as a vector of length 1: STEPS steps of at most SHARES groups of channels, each about its own mean."""
    groups = _grouped(values, SHARES)
    edges = np.linspace(0, len(groups), STEPS + 1)
    shape = np.stack([groups[int(a) : max(int(a) + 1, int(b))].mean(0) for a, b in pairwise(edges)])
    return _of_length_one(shape - shape.mean(0))


def _jitter(values: NDArray[Any]) -> NDArray[np.float32]:
    """What is quick in a recording, as a vector of length 1: second differences of at most FINE groups of channels."""
    return _of_length_one(np.diff(_grouped(values, FINE), n=2, axis=0))


def _grouped(values: NDArray[Any], shares: int) -> NDArray[np.float64]:
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    return np.stack([part.mean(1) for part in np.array_split(flat, min(shares, flat.shape[1]), axis=1)], 1)


def _of_length_one(shape: NDArray[np.float64]) -> NDArray[np.float32]:
    norm = float(np.linalg.norm(shape))
    return (shape / norm if norm > 0 else np.zeros_like(shape)).ravel().astype(np.float32)


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
    for number, seed, folder in _units(run, "pretrain", prepared, plan):
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


def _epochs(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    for number, seed, folder in _units(run, "pretrain", prepared, plan):
        history, facts = read_jsonl(folder / "history.jsonl"), read_json(folder / "finished.json")
        losses = [row["valid_loss"] if row["valid_loss"] is not None else row["train_loss"] for row in history]
        if losses and facts["best_epoch"] != 1 + int(np.argmin(losses)):
            yield Finding(
                "",
                f"fold {number}, seed {seed}: pretraining says epoch {facts['best_epoch']} was best; the lowest validation loss was that of "
                f"epoch {1 + int(np.argmin(losses))}",
            )
    for number, seed, folder in _units(run, "supervise", prepared, plan):
        for path in sorted((folder / "models").glob("*.json")):
            facts = read_json(path)
            metric = f"valid_{facts['metric']}"
            worst = []
            for row in facts["history"]:
                value = row[metric]
                worse = math.nan if value is None else value if facts["metric"] in LESS_IS_BETTER else -value
                worst.append(
                    worse if plan["plan"]["supervise"]["choose"] == "score" and math.isfinite(worse) else row["valid_loss"]
                )
            if worst and facts["best_epoch"] != 1 + int(np.argmin(worst)):
                yield Finding(
                    "",
                    f"fold {number}, seed {seed}: {path.stem} says epoch {facts['best_epoch']} was best; on validation rows {1 + int(np.argmin(worst))} was",
                )


def _features(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    by_fold = dict(_of(prepared))
    for number, seed, folder in _units(run, "embed", prepared, plan):
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


def _chosen(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """What a head was chosen by must be called a validation figure."""
    for number, seed, folder in _units(run, "probe", prepared, plan):
        for row in read_jsonl(folder / "chosen.jsonl"):
            strange = [key for key in row if "test" in key.lower()]
            if strange:
                yield Finding(
                    "", f"fold {number}, seed {seed}: head '{row['head']}' on {row['input']} was chosen by '{strange[0]}'"
                )


def _probes(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """Heads with a solver have one minimum: fitted again, they must have chosen the same, and say the same of test recordings.

    A trained head is not kept, and would be trained for as long again: of it, thresholds are looked at alone, that they could be
    applied, and that nothing was chosen where validation rows show nothing.
    """
    made = plan_of(run.root)
    targets_of = {sample.id: sample.targets for sample in prepared.samples}
    for number, seed, folder in _units(run, "probe", prepared, plan):
        features = _features_of(run, number, seed)
        chosen = {_spot(row): row for row in read_jsonl(folder / "chosen.jsonl")}
        predictions: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in read_jsonl(folder / "predictions.jsonl"):
            predictions.setdefault(_spot(row), {})[row["id"]] = row["prediction"]
        for kind in encoder_kinds(made):
            parts = {split: read_features(features, kind, split) for split in SPLITS}
            if any(len(one.present) != len(who["ids"]) for part, who in parts.values() for one in part.values()):
                raise StageError(
                    f"{features}: has not as many features as recordings; what rests on them cannot be derived again"
                )
            scale = scale_of(made, parts["train"][0])
            for task in made.tasks:
                targets = {split: target_of(task, [targets_of[id] for id in who["ids"]]) for split, (_, who) in parts.items()}
                for name, modalities in made.inputs.items():
                    rows = {s: targets[s][1] & any_present(part, modalities) for s, (part, _) in parts.items()}
                    labelled = {
                        s: Labelled(encoded_of(made, scale, parts[s][0], modalities, rows[s]), targets[s][0][rows[s]])
                        for s in SPLITS
                    }
                    ids = [id for id, here in zip(parts["test"][1]["ids"], rows["test"].tolist(), strict=True) if here]
                    for head_name, part in made.heads.items():
                        for head_seed in made.recipe.probe.seeds:
                            spot = (task.name, name, head_name, kind, head_seed)
                            where = (seed, "fold", number, "head", head_name, kind, task.name, name, head_seed)
                            said = chosen.get(spot)
                            if said is None:
                                wrong: Iterable[str] = ["nothing is written of how it was chosen"]
                            elif part.spec.solver:
                                wrong = _fitted_again(made, part, task, labelled, where, said, ids, predictions.get(spot, {}))
                            else:
                                wrong = _applicable(made, task, labelled["valid"].target, said)
                            for text in wrong:
                                yield Finding(
                                    "",
                                    f"fold {number}, seed {seed}: head '{head_name}' on {name} ({kind}, {task.name}): {text}",
                                )


def _features_of(run: RunFolder, number: int, seed: int) -> Path:
    folder = run.stage("embed", number, seed)
    if not (folder / "finished.json").is_file():
        raise StageError(f"{folder}: has no features; what rests on them cannot be derived again")
    return folder


def _spot(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["task"], row["input"], row["head"], row["encoder"], row["head_seed"]


def _fitted_again(
    plan: Plan,
    part: Any,
    task: Task,
    labelled: Mapping[str, Labelled],
    where: tuple[str | int, ...],
    said: Mapping[str, Any],
    ids: Sequence[str],
    predictions: Mapping[str, Any],
) -> Iterator[str]:
    """What is otherwise when a head is fitted on training rows and chosen on validation rows once more."""
    head, facts = fit_head(part, task, labelled["train"], labelled["valid"], plan.recipe.probe.training, where)
    for key, value in facts.items():
        if key not in SOLVING and not _same(said.get(key), value):
            yield f"{key} was {said.get(key)}; fitted on training rows and chosen on validation rows it is {value}"
    again = partial(output_of, head, labelled["valid"].encoded)
    truth = labelled["valid"].target.double().numpy()
    shift = shift_of(plan.recipe.probe.threshold, task, labelled["valid"].target, again)
    if isinstance(shift, float):
        if said.get("thresholds"):
            yield "thresholds were applied, which the recipe does not ask for"
    else:
        yield from _cuts(task, truth, again(), shift, said.get("thresholds"))
        if len(said.get("thresholds") or ()) == len(shift):
            shift = np.asarray(said["thresholds"], np.float64)
    output = output_of(head, labelled["test"].encoded) - shift
    other = [
        id for id, values in zip(ids, output, strict=True) if id in predictions and not _said(task, values, predictions[id])
    ]
    if other:
        yield f"{len(other)} of {len(ids)} predictions are not those of a head fitted on training rows, such as that of '{other[0]}'"


def _same(said: Any, again: Any) -> bool:
    if isinstance(said, int | float) and isinstance(again, int | float):
        return math.isclose(said, again, rel_tol=NEARLY, abs_tol=1e-6)
    return bool(said == again)


def _said(task: Task, output: NDArray[np.float64], said: Any) -> bool:
    """Whether outputs are what was predicted, ties and rounding aside."""
    near = NEARLY * (1 + float(np.abs(output).max()))
    if task.type == "single-label":
        return bool(output[said] >= output.max() - near)
    values = np.asarray(said, np.float64)
    if task.type == "multi-label":
        return bool((((output > 0) == (values > 0.5)) | (np.abs(output) < near)).all())
    return bool((np.abs(output - values) < near).all())


def _cuts(
    task: Task, truth: NDArray[np.float64], output: NDArray[np.float64], best: NDArray[np.float64], said: Sequence[float] | None
) -> Iterator[str]:
    """Thresholds that part validation rows otherwise than the best ones, rows that lie on a threshold aside."""
    if said is None or len(said) != len(best):
        yield f"{len(said or ())} thresholds are written for {len(best)} classes"
        return
    for k, name in enumerate(task.classes):
        mine, known = output[:, k], ~np.isnan(truth[:, k])
        near = NEARLY * (1 + float(np.abs(mine).max(initial=0.0)))
        clear = known & (np.abs(mine - said[k]) > near) & (np.abs(mine - best[k]) > near)
        nothing = best[k] == 0 and abs(said[k]) > near
        if nothing or bool(((mine > said[k]) != (mine > best[k]))[clear].any()):
            yield f"the threshold of '{name}' was {said[k]:.4g}; on validation rows it is {best[k]:.4g}"


def _applicable(plan: Plan, task: Task, target: torch.Tensor, said: Mapping[str, Any]) -> Iterator[str]:
    found = said.get("thresholds")
    if plan.recipe.probe.threshold != "valid" or task.type != "multi-label":
        if found:
            yield "thresholds were applied, which the recipe does not ask for"
        return
    if not len(target):
        return
    if found is None or len(found) != len(task.classes) or not all(math.isfinite(v) for v in found):
        yield f"{len(found or ())} thresholds are written for {len(task.classes)} classes"
        return
    for k, name in enumerate(task.classes):
        known = target[:, k][~target[:, k].isnan()] > 0.5
        if found[k] and (bool(known.all()) or not bool(known.any())):
            yield f"the threshold of '{name}' was {found[k]:.4g}, though validation rows have it one way only"


def _thresholds(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """Trained models are kept: what they say of validation recordings gives their thresholds again."""
    units = _units(run, "supervise", prepared, plan)
    asked = bool(units) and plan["plan"]["supervise"]["threshold"] == "valid"
    folds = {fold.number: fold for fold in prepared.folds}
    for number, seed, folder in units:
        facts = {path.stem: read_json(path) for path in sorted((folder / "models").glob("*.json"))}
        if not asked:
            for stem in (stem for stem, one in facts.items() if one.get("thresholds")):
                yield Finding("", f"fold {number}, seed {seed}: {stem} has thresholds, which the recipe does not ask for")
            continue
        again = validation_outputs(plan_of(run.root), run, prepared, folds[number], seed, torch.device("cpu"))
        for model, truth, output in again:
            if model.task.type == "multi-label":
                for text in _cuts(model.task, truth, output, thresholds(truth, output), facts[model.stem].get("thresholds")):
                    yield Finding("", f"fold {number}, seed {seed}: {model.stem}: {text}")


def _few_labels(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """A head with a share of the labels had no more than that share of the training rows that have one."""
    inputs = plan["plan"]["probe"]["inputs"]
    samples = {sample.id: sample for sample in prepared.samples}
    for number, seed, folder in _units(run, "worth", prepared, plan):
        counts: dict[tuple[str, str], int] = {}
        for row in read_jsonl(folder / "worth.jsonl"):
            if "labels" not in row:
                continue
            spot = (row["encoder"], row["task"])
            if spot not in counts:
                features, who = read_features(_features_of(run, number, seed), row["encoder"], "train")
                here = _present(features, inputs[main_input(inputs)])
                labels = [samples[id].targets.get(row["task"]) is not None for id in who["ids"]]
                counts[spot] = sum(label and present for label, present in zip(labels, here, strict=True))
            most = math.ceil(row.get("share", 1.0) * counts[spot] - 1e-9)
            if row["labels"] > most:
                share = f"with {row['share']:.3g} of the labels" if "share" in row else "with all labels"
                yield Finding(
                    "",
                    f"fold {number}, seed {seed}: a head for {row['task']} ({row['encoder']}) {share} was fitted on {row['labels']} "
                    f"recordings; {most} of {counts[spot]} labelled training recordings were expected",
                )
                break


def _present(features: Mapping[str, Features], modalities: Sequence[str]) -> list[bool]:
    here: list[bool] = any_present(features, modalities).tolist()
    return here


def _predictions(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    by_fold = dict(_of(prepared))
    for stage in ("probe", "supervise"):
        for number, seed, folder in _units(run, stage, prepared, plan):
            wanted = {prepared.samples[row].id for row in by_fold[number]["test"]}
            strange = sorted({row["id"] for row in read_jsonl(folder / "predictions.jsonl")} - wanted)
            if strange:
                yield Finding(
                    "",
                    f"{stage}, fold {number}, seed {seed}: {len(strange)} predictions are of no test recording, such as '{strange[0]}'",
                )


def _opened(run: RunFolder, prepared: Prepared, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """More than one opening means that something was looked at before something was changed."""
    counts: dict[tuple[str, int, int], int] = {}
    for stage in ("probe", "supervise", "worth"):
        counts |= {(stage, number, seed): 0 for number, seed, _ in _units(run, stage, prepared, plan)}
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
        elif count == 0:
            yield Finding(
                "", f"{stage}, fold {fold}, seed {seed}: has results, but log.jsonl does not say when the test set was opened"
            )


def audit_folder(folder: Path) -> Audited:
    """`audit` of a path. Raises StageError if it is no run folder."""
    if not (folder / "plan.json").is_file():
        raise StageError(f"{folder}: is no run folder (it has no plan.json); name one such as runs/NAME")
    return audit(RunFolder(folder))
