"""Checks that compute again, from the files of a run, what training rows and validation rows give, and hold it against what is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...api.dataset import Task
from ...api.errors import StageError
from ...api.head import Labelled
from ...data.predictions import Way, read_predictions
from ...data.store import Store
from ...evaluate import metrics
from ...recipe.plan import Part, main_input
from ...runs import read_json, read_jsonl, read_tensors
from .case import SPLITS, Case, Leak

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Choice = Mapping[str, Any]
"""A row of chosen.jsonl: what a head was chosen by."""
Address = tuple[str, str, str, str, int]
"""Where a probe's head stands in the run's files: task, input, head, encoder, seed of the head."""

SOLVING = ("steps", "gradient")
"""What heads write of how their solver went, which is no choice and differs between machines."""
NEARLY = 1e-3
"""How far outputs that were derived again may lie from what was written, as other machines round otherwise."""


def normalisation(case: Case) -> Iterator[Leak]:
    """Mean and deviation in the encoders' weights are those of the training rows; if not, whether they are those of all rows."""
    for number, seed, folder in case.units("pretrain"):
        weights = read_tensors(folder / "encoders.safetensors")
        fold = case.folds[number]
        for name, store in case.prepared.stores.items():
            kept = _kept_moments(weights, name)
            if kept is not None and not _agree(kept, _moments(store, fold.train)):
                everything = _agree(kept, _moments(store, [*fold.train, *fold.valid, *fold.test]))
                what = "are those of all splits together" if everything else "are not those of the training rows"
                yield Leak(f"fold {number}, seed {seed}: mean and deviation of '{name}' {what}")


def _kept_moments(weights: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation of a modality among saved weights; None where it is not normalised."""
    for prefix in (f"{name}/normalise.", f"joint/normalise.{name}."):
        if f"{prefix}mean" in weights:
            return weights[f"{prefix}mean"], weights[f"{prefix}deviation"]
    return None


def _moments(store: Store, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of some rows, as encoders are normalised."""
    from ...data.stack import stack
    from ...model.encoder import Normalise

    normalise = Normalise(store.layout)
    normalise.fit(stack([store.values(row)], store.layout) for row in rows if row in store)
    return normalise.mean, normalise.deviation


def _agree(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(a.allclose(b, rtol=1e-4, atol=1e-5) for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class _Probe:
    """A head of the probe, and the features that it was fitted on, chosen on and tested on."""

    address: Address
    task: Task
    part: Part
    labelled: Mapping[str, Labelled]  # by split
    test_ids: Sequence[str]  # whose rows labelled["test"] has
    seed_path: tuple[str | int, ...]  # from which its first weights and batches are drawn


def probes(case: Case) -> Iterator[Leak]:
    """Heads with a solver have one minimum: fitted again, they must have chosen the same, and predict the same of test recordings.

    A trained head is not kept, and would be trained for as long again: of it, thresholds are looked at alone, that they could be
    applied, and that nothing was chosen where validation rows show nothing.
    """
    threshold = case.plan.recipe.probe.threshold
    for fold, seed, folder in case.units("probe"):
        features = case.embedded(fold, seed)
        choices = {_address(row): row for row in read_jsonl(folder / "chosen.jsonl")}
        predictions: dict[Address, list[Way]] = {}
        for way in read_predictions(folder):
            predictions.setdefault(_address(way.about), []).append(way)
        for probe in _probes(case, fold, seed, features):
            task, input_name, head, encoder, _ = probe.address
            choice = choices.get(probe.address)
            if choice is None:
                problems = iter(["nothing is written of how it was chosen"])
            elif probe.part.spec.solver:
                problems = _refitted(case, probe, choice, predictions.get(probe.address, ()))
            else:
                problems = _applicable(threshold, probe.task, probe.labelled["valid"].target, choice)
            for problem in problems:
                yield Leak(f"fold {fold}, seed {seed}: head '{head}' on {input_name} ({encoder}, {task}): {problem}")


def _address(row: Mapping[str, Any]) -> Address:
    return row["task"], row["input"], row["head"], row["encoder"], row["head_seed"]


def _probes(case: Case, fold: int, seed: int, features: Path) -> Iterator[_Probe]:
    """Every head of one fold and seed, in the order in which they were fitted."""
    from ...evaluate.answers import target_of
    from ...model.scale import any_present, encoded_of, scale_of, sides_of
    from ...stages.embed import read_features
    from ...stages.units import feature_kinds

    plan = case.plan
    targets_of = {sample.id: sample.targets for sample in case.samples}
    for encoder in feature_kinds(plan):
        sides = {split: read_features(features, encoder, split) for split in SPLITS}
        if any(len(one.present) != len(who["ids"]) for side, who in sides.values() for one in side.values()):
            raise StageError(f"{features}: has not as many features as recordings; what rests on them cannot be derived again")
        scale = scale_of(plan, sides["train"][0])
        grouped = dict(zip(sides, sides_of(plan, *(who for _, who in sides.values())), strict=True))
        for task in plan.tasks:
            targets = {split: target_of(task, [targets_of[id] for id in who["ids"]]) for split, (_, who) in sides.items()}
            for input_name, modalities in plan.inputs.items():
                rows = {split: targets[split][1] & any_present(side, modalities) for split, (side, _) in sides.items()}
                ids = [id for id, here in zip(sides["test"][1]["ids"], rows["test"].tolist(), strict=True) if here]
                for head, part in plan.heads.items():
                    labelled = {
                        split: Labelled(
                            encoded_of(plan, scale, side, modalities, rows[split], grouped[split].within(part)),
                            targets[split][0][rows[split]],
                            grouped[split].of(rows[split]),
                        )
                        for split, (side, _) in sides.items()
                    }
                    for head_seed in plan.recipe.probe.seeds:
                        yield _Probe(
                            address=(task.name, input_name, head, encoder, head_seed),
                            task=task,
                            part=part,
                            labelled=labelled,
                            test_ids=ids,
                            seed_path=(seed, "fold", fold, "head", head, encoder, task.name, input_name, head_seed),
                        )


def _refitted(case: Case, probe: _Probe, choice: Choice, ways: Sequence[Way]) -> Iterator[str]:
    """What is otherwise when a head is fitted on training rows and chosen on validation rows once more."""
    from ...evaluate.answers import output_of, shift_of
    from ...model.heads import fit_head

    section, task = case.plan.recipe.probe, probe.task
    train, valid, test = (probe.labelled[split] for split in SPLITS)
    head, facts = fit_head(probe.part, task, train, valid, section.training, probe.seed_path)
    for key, value in facts.items():
        if key not in SOLVING and not _same(choice.get(key), value):
            yield f"{key} was {choice.get(key)}; fitted on training rows and chosen on validation rows it is {value}"
    output = partial(output_of, head, valid.encoded)
    shift = shift_of(section.threshold, task, valid.target, output)
    if isinstance(shift, float):
        if choice.get("thresholds"):
            yield "thresholds were applied, which the recipe does not ask for"
    else:
        yield from _other_thresholds(task, valid.target.double().numpy(), output(), shift, choice.get("thresholds"))
        if len(choice.get("thresholds") or ()) == len(shift):
            shift = np.asarray(choice["thresholds"], np.float64)
    predictions = {id: one for way in ways for id, one in zip(way.ids, way.prediction, strict=True)}
    outputs = zip(probe.test_ids, output_of(head, test.encoded) - shift, strict=True)
    other = [id for id, values in outputs if id in predictions and not _predicted(task, values, predictions[id])]
    if other:
        yield (
            f"{len(other)} of {len(probe.test_ids)} predictions are not those of a head fitted on training rows, such as that of '{other[0]}'"
        )


def _same(written: Any, refitted: Any) -> bool:
    if isinstance(written, int | float) and isinstance(refitted, int | float):
        return math.isclose(written, refitted, rel_tol=NEARLY, abs_tol=1e-6)
    return bool(written == refitted)


def _predicted(task: Task, output: Floats, prediction: Any) -> bool:
    """Whether the outputs of one recording, [outputs], give its prediction, ties and rounding aside."""
    near = NEARLY * (1 + float(np.abs(output).max()))
    if task.type == "single-label":
        return bool(output[int(prediction)] >= output.max() - near)
    values = np.asarray(prediction, np.float64)
    if task.type == "multi-label":
        return bool((((output > 0) == (values > 0.5)) | (np.abs(output) < near)).all())
    return bool((np.abs(output - values) < near).all())


def thresholds(case: Case) -> Iterator[Leak]:
    """Trained models are kept: their outputs on validation recordings give their thresholds again."""
    units = case.units("supervise")
    asked = bool(units) and case.settings["supervise"]["threshold"] == "valid"
    for fold, seed, folder in units:
        facts = {path.stem: read_json(path) for path in sorted((folder / "models").glob("*.json"))}
        if asked:
            yield from _models_thresholds(case, fold, seed, facts)
            continue
        for stem in (stem for stem, one in facts.items() if one.get("thresholds")):
            yield Leak(f"fold {fold}, seed {seed}: {stem} has thresholds, which the recipe does not ask for")


def _models_thresholds(case: Case, fold: int, seed: int, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Leak]:
    """Thresholds of one fold's and seed's models that are not those of validation rows. `facts` are the models' files, by stem."""
    import torch

    from ...stages.supervise import validation_outputs

    cpu = torch.device("cpu")
    for model, target, output in validation_outputs(case.plan, case.run, case.prepared, case.folds[fold], seed, cpu):
        if model.task.type == "multi-label":
            best, written = metrics.thresholds(target, output), facts[model.stem].get("thresholds")
            for problem in _other_thresholds(model.task, target, output, best, written):
                yield Leak(f"fold {fold}, seed {seed}: {model.stem}: {problem}")


def _other_thresholds(
    task: Task, target: Floats, output: Floats, best: Floats, written: Sequence[float] | None
) -> Iterator[str]:
    """Thresholds that part validation rows otherwise than the best ones, rows that lie on a threshold aside.

    target, output  of validation rows [n, classes]
    best            one a class
    """
    if written is None or len(written) != len(best):
        yield f"{len(written or ())} thresholds are written for {len(best)} classes"
        return
    for k, name in enumerate(task.classes):
        mine, known = output[:, k], ~np.isnan(target[:, k])
        near = NEARLY * (1 + float(np.abs(mine).max(initial=0.0)))
        clear = known & (np.abs(mine - written[k]) > near) & (np.abs(mine - best[k]) > near)
        groundless = best[k] == 0 and abs(written[k]) > near
        if groundless or bool(((mine > written[k]) != (mine > best[k]))[clear].any()):
            yield f"the threshold of '{name}' was {written[k]:.4g}; on validation rows it is {best[k]:.4g}"


def _applicable(how: str, task: Task, target: Tensor, choice: Choice) -> Iterator[str]:
    """What is wrong with the thresholds of a head that was not kept, given the validation targets [n, classes]."""
    written = choice.get("thresholds")
    if how != "valid" or task.type != "multi-label":
        if written:
            yield "thresholds were applied, which the recipe does not ask for"
        return
    if not len(target):
        return
    if written is None or len(written) != len(task.classes) or not all(math.isfinite(v) for v in written):
        yield f"{len(written or ())} thresholds are written for {len(task.classes)} classes"
        return
    for k, name in enumerate(task.classes):
        known = target[:, k][~target[:, k].isnan()] > 0.5
        if written[k] and (bool(known.all()) or not bool(known.any())):
            yield f"the threshold of '{name}' was {written[k]:.4g}, though validation rows have it one way only"


def few_labels(case: Case) -> Iterator[Leak]:
    """A head with a share of the labels had no more than that share of the training rows that have one."""
    for fold, seed, folder in case.units("worth"):
        counts: dict[tuple[str, str], int] = {}
        for row in read_jsonl(folder / "worth.jsonl"):
            if "labels" not in row:
                continue
            encoder, task = row["encoder"], row["task"]
            if (encoder, task) not in counts:
                counts[encoder, task] = _labels(case, case.embedded(fold, seed), encoder, task)
            count = counts[encoder, task]
            most = math.ceil(row.get("share", 1.0) * count - 1e-9)
            if row["labels"] > most:
                share = f"with {row['share']:.3g} of the labels" if "share" in row else "with all labels"
                yield Leak(
                    f"fold {fold}, seed {seed}: a head for {task} ({encoder}) {share} was fitted on {row['labels']} recordings; "
                    f"{most} of {count} labelled training recordings were expected"
                )
                break


def _labels(case: Case, embedded: Path, encoder: str, task: str) -> int:
    """Training recordings that have a label of the task and something of the input with most modalities."""
    from ...model.scale import any_present
    from ...stages.embed import read_features

    inputs = case.settings["probe"]["inputs"]
    features, who = read_features(embedded, encoder, "train")
    present = any_present(features, inputs[main_input(inputs)]).tolist()
    targets_of = {sample.id: sample.targets for sample in case.samples}
    labelled = [targets_of[id].get(task) is not None for id in who["ids"]]
    return sum(label and here for label, here in zip(labelled, present, strict=True))
