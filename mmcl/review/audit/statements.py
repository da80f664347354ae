"""Checks of what a run's files say: who is on which side, what was chosen by which figure, what was predicted, what was opened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from ...data.predictions import read_predictions
from ...data.whose import has_whose, read_whose
from ...evaluate.metrics import LESS_IS_BETTER
from ...runs import read_json, read_jsonl
from ..openings import openings_of
from .case import SPLITS, Case, Leak


def recordings(case: Case) -> Iterator[Leak]:
    """No recording stands in two splits."""
    for number, fold in case.folds.items():
        for a, b in combinations(SPLITS, 2):
            both = sorted(set(getattr(fold, a)) & set(getattr(fold, b)))
            if both:
                example = case.samples[both[0]].id
                yield Leak(f"fold {number}: {len(both)} recordings stand in {a} and {b}, such as '{example}'")


def groups(case: Case) -> Iterator[Leak]:
    """No group stands in two splits, unless the recipe splits by sample."""
    asked = str(case.about.get("protocol", "")).endswith("by sample")
    for number, fold in case.folds.items():
        sides = {split: {case.samples[row].group for row in getattr(fold, split)} for split in SPLITS}
        for a, b in combinations(SPLITS, 2):
            both = sorted(sides[a] & sides[b])
            if both:
                yield Leak(f"fold {number}: {len(both)} groups stand in {a} and {b}, such as '{both[0]}'", asked)


def streams(case: Case) -> Iterator[Leak]:
    """Prepared streams are to the byte what `prepare` wrote."""
    for name, store in case.prepared.stores.items():
        for sentence in store.changed():
            yield Leak(f"{name}: {sentence}")


def pretraining(case: Case) -> Iterator[Leak]:
    """Pretraining read no input of other splits and no label, unless the recipe says so."""
    pretrain = case.settings["pretrain"]
    if pretrain.get("transductive") and pretrain["epochs"]:
        yield Leak(f"pretrain.transductive: inputs of {', '.join(pretrain['transductive'])} were contrasted", asked=True)
    if case.about.get("uses_labels"):
        how = pretrain["objective"]["positives"]["use"]
        sampler = (pretrain.get("sampler") or {}).get("use")
        more = f", sampler '{sampler}'" if sampler else ""
        yield Leak(
            f"labels or scores of training recordings were read (positives '{how}', balance {pretrain.get('balance')}{more})",
            asked=True,
        )


def epochs(case: Case) -> Iterator[Leak]:
    """The epochs that were kept are those with the best validation figure of the history."""
    for fold, seed, folder in case.units("pretrain"):
        history, facts = read_jsonl(folder / "history.jsonl"), read_json(folder / "finished.json")
        by_retrieval = case.settings["pretrain"].get("choose") == "retrieval"
        monitored = [-row["valid_retrieval"] for row in history] if by_retrieval else [_loss(row) for row in history]
        if monitored and facts["best_epoch"] != 1 + int(np.argmin(monitored)):
            yield Leak(
                f"fold {fold}, seed {seed}: pretraining says epoch {facts['best_epoch']} was best; the "
                f"{'best validation retrieval' if by_retrieval else 'lowest validation loss'} was that of epoch {1 + int(np.argmin(monitored))}"
            )
    for fold, seed, folder in case.units("supervise"):
        for path in sorted((folder / "models").glob("*.json")):
            facts = read_json(path)
            monitored = [_monitored(row, facts["metric"], case.settings["supervise"]["choose"]) for row in facts["history"]]
            if monitored and facts["best_epoch"] != 1 + int(np.argmin(monitored)):
                yield Leak(
                    f"fold {fold}, seed {seed}: {path.stem} says epoch {facts['best_epoch']} was best; on validation rows {1 + int(np.argmin(monitored))} was"
                )


def _loss(row: Mapping[str, Any]) -> float:
    """The loss of one epoch by which encoders are chosen: on validation rows, where any batch of them had a pair."""
    return float(row["train_loss"] if row["valid_loss"] is None else row["valid_loss"])


def _monitored(row: Mapping[str, Any], metric: str, choose: str) -> float:
    """The figure of one epoch by which a supervised model is chosen, turned so that less is better."""
    score = row[f"valid_{metric}"]
    if choose == "score" and score is not None and math.isfinite(score):
        return float(score if metric in LESS_IS_BETTER else -score)
    return float(row["valid_loss"])


def features(case: Case) -> Iterator[Leak]:
    """The features of each split are of recordings of that split."""
    for fold, seed, folder in case.units("embed"):
        for split in SPLITS:
            if not has_whose(folder, split):
                continue
            wanted = case.ids(fold, split)
            strange = [id for id in read_whose(folder, split)["ids"] if id not in wanted]
            if strange:
                yield Leak(
                    f"fold {fold}, seed {seed}: {len(strange)} recordings in the features of {split} are not of it, such as '{strange[0]}'"
                )


def choices(case: Case) -> Iterator[Leak]:
    """What a head was chosen by must be called a validation figure."""
    for fold, seed, folder in case.units("probe"):
        for row in read_jsonl(folder / "chosen.jsonl"):
            strange = [key for key in row if "test" in key.lower()]
            if strange:
                yield Leak(f"fold {fold}, seed {seed}: head '{row['head']}' on {row['input']} was chosen by '{strange[0]}'")


def predictions(case: Case) -> Iterator[Leak]:
    """Predictions are of test recordings alone."""
    for stage in ("probe", "supervise"):
        for fold, seed, folder in case.units(stage):
            ways, wanted = read_predictions(folder), case.ids(fold, "test")
            there = np.unique(np.concatenate([np.zeros(0, np.int32), *(way.places for way in ways)])).tolist()
            strange = sorted(id for id in map(ways[0].recorded.id, there) if id not in wanted) if ways else []
            if strange:
                yield Leak(
                    f"{stage}, fold {fold}, seed {seed}: {len(strange)} predictions are of no test recording, such as '{strange[0]}'"
                )


def openings(case: Case) -> Iterator[Leak]:
    """Nothing was chosen anew, and nothing left out, after the test set had been opened; reading it again for what was chosen before is none."""
    known = openings_of(read_jsonl(case.run.root / "log.jsonl"))
    units = [(stage, fold, seed) for stage in ("probe", "supervise", "worth") for fold, seed, _ in case.units(stage)]
    for where in sorted({*units, *known}):
        stage, fold, seed = where
        words, one = f"{stage}, fold {fold}, seed {seed}", known.get(where)
        if one is None:
            yield Leak(f"{words}: has results, but log.jsonl does not say when the test set was opened")
        elif not one.fixed:
            what = [f"{_few(names)} {how}" for names, how in ((one.changed, "chosen anew"), (one.dropped, "left out")) if names]
            after = f", and {' and '.join(what)} after it" if what else "; nothing says what was chosen in between"
            yield Leak(f"{words}: the test set was opened {one.count} times (log.jsonl){after}")


def _few(names: tuple[str, ...]) -> str:
    """The first names, in words."""
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} {'was' if len(names) == 1 else 'were'}"
