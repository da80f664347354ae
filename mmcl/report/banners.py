"""The report's warnings: what a reader must know before believing a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .words import FEW, listed, many, number, plural, whole

Banner = tuple[str, str, str]
"""How grave it is ("strong" or "mild"), title, sentence."""


def banners(
    about: Mapping[str, Any],
    prepare: Mapping[str, Any],
    skipped: int,
    missing: Sequence[tuple[int, int]],
    undefined: int,
    pretraining: Sequence[Mapping[str, Any]],
    stale: Sequence[str] = (),
) -> list[Banner]:
    """Every warning that a run deserves, the gravest subjects first.

    about        plan.json
    skipped      streams and recordings that could not be used
    missing      (fold, seed) without scores
    undefined    scores without a value
    pretraining  what each fold and seed of pretraining wrote when it had finished
    stale        folders that an earlier plan left in the run
    """
    return [
        *_of_the_data(about["plan"], prepare),
        *_of_pretraining(about, pretraining),
        *_of_the_splits(about["plan"], prepare),
        *_of_what_is_missing(skipped, missing, undefined),
        *_of_what_is_left(stale),
        *_of_baselines(about["plan"]),
        *_of_standardising(about["plan"]),
    ]


def _of_the_data(plan: Mapping[str, Any], prepare: Mapping[str, Any]) -> list[Banner]:
    banners = []
    if (limit := plan.get("limit")) is not None:
        sentence = (
            f"The recipe takes {many(limit, 'recording')} of each split (limit), {whole(prepare['samples'])} in all: the scores say "
            "that it runs, and nothing more."
        )
        banners.append(("strong", "A dry run on a few recordings", sentence))
    if not prepare["synthetic"]:
        return banners
    sentence = (
        f"Every recording of “{plan['dataset']['use']}” was made by a program. The scores show that the machinery "
        "works; they say nothing about people."
    )
    return [*banners, ("strong", "Synthetic data", sentence)]


def _of_pretraining(about: Mapping[str, Any], pretraining: Sequence[Mapping[str, Any]]) -> list[Banner]:
    """What it saw beyond the inputs of training recordings, what it was built of, and what looked wrong while it ran."""
    plan, banners = about["plan"], []
    if about["uses_labels"]:
        needs = sorted({name for facts in pretraining for name in facts.get("labels", ())})
        read = f" ({listed(needs)})" if needs else ""
        positives = plan["pretrain"]["objective"]["positives"]["use"]
        sentence = (
            f"The positives “{positives}” or the drawing of recordings read the training recordings’ labels{read}: this is not "
            "learning without labels."
        )
        banners.append(("strong", "Pretraining saw labels", sentence))
    for name, why in plan.get("departs", {}).items():
        backbone = plan["modalities"][name]["backbone"]["use"]
        sentence = f"“{backbone}” keeps a slip of its authors: {why}."
        banners.append(("strong", f"Backbone of {name}: not to be trusted", sentence))
    warnings = list(dict.fromkeys(warning for facts in pretraining for warning in facts.get("warnings", ())))
    if warnings:
        more = f" … and {len(warnings) - 4} more, in pretrain/finished.json." if len(warnings) > 4 else ""
        banners.append(("strong", "Pretraining looks wrong", "; ".join(warnings[:4]).capitalize() + "." + more))
    if plan["pretrain"].get("transductive") and plan["pretrain"]["epochs"]:
        splits = {"valid": "validation", "test": "test"}
        sentence = (
            f"The encoders were trained on the {listed([splits[s] for s in plan['pretrain']['transductive']])} recordings too, "
            "without their labels: these scores say nothing about recordings that come later."
        )
        banners.append(("strong", "Pretraining saw inputs of other splits", sentence))
    return banners


def _of_the_splits(plan: Mapping[str, Any], prepare: Mapping[str, Any]) -> list[Banner]:
    group, banners = prepare["group"], []
    if prepare["crosses_groups"]:
        sentence = (
            f"Recordings of one {group} stand on both sides of a split, as the recipe asks: these scores say nothing about "
            f"a new {group}."
        )
        banners.append(("strong", f"The same {group} is trained on and tested on", sentence))
    tested = {one for fold in prepare["folds"] for one in fold["groups"]["test"]}
    if 0 < len(tested) < FEW:
        sentence = (
            f"All test recordings are of {many(len(tested), group)}: intervals over fewer than {number(FEW)} are rough guesses, and others may "
            "come out differently."
        )
        banners.append(("mild", f"Few {plural(group)} were tested on", sentence))
    window = plan.get("window", {}).get("seconds")
    longest = max((m.get("longest", 0.0) for m in prepare["modalities"].values()), default=0.0)
    if window and 0 < longest < window:
        sentence = (
            f"window.seconds is {window:g}, and the longest recording lasts {longest:.3g} seconds: whole recordings were taken."
        )
        banners.append(("mild", "The window is longer than any recording", sentence))
    return banners


def _of_what_is_missing(skipped: int, missing: Sequence[tuple[int, int]], undefined: int) -> list[Banner]:
    banners = []
    if missing:
        units = "; ".join(f"fold {fold}, seed {seed}" for fold, seed in missing[:6]) + (" …" if len(missing) > 6 else "")
        have = "has" if len(missing) == 1 else "have"
        sentence = f"{many(len(missing), 'unit')} of the plan {have} no scores yet: {units}."
        banners.append(("strong", "The run is not finished", sentence))
    if skipped:
        title = "1 skipped stream or recording" if skipped == 1 else f"{whole(skipped)} skipped streams or recordings"
        banners.append(("mild", title, "They could not be used; the reasons are under Data."))
    if undefined:
        sentence = "A metric has no value where a test set lacks what it measures. Means are over the others and say how many."
        banners.append(("mild", f"{many(undefined, 'score')} undefined", sentence))
    return banners


def _of_standardising(plan: Mapping[str, Any]) -> list[Banner]:
    """Heads whose features are standardised by the test recordings of a person, taken together."""
    heads = [name for name, head in plan["probe"]["heads"].items() if head.get("standardise") == "group"]
    if not heads:
        return []
    sentence = (
        f"What the {'head' if len(heads) == 1 else 'heads'} {listed([f'“{name}”' for name in heads])} sees is centred and scaled by each group's own "
        "recordings (standardise: group). That reads no label, but it reads all test recordings of a group together: such scores stand "
        "beside others of their kind alone."
    )
    return [("strong", "Test recordings of a group are read together", sentence)]


def _of_what_is_left(stale: Sequence[str]) -> list[Banner]:
    if not stale:
        return []
    few = listed([*stale[:3], *([f"{len(stale) - 3} more"] if len(stale) > 3 else [])])
    sentence = f"An earlier plan of this folder left {few}, which this plan does not name: nothing of it stands on this page."
    return [("mild", "Folders of an earlier plan", sentence)]


def _of_baselines(plan: Mapping[str, Any]) -> list[Banner]:
    """What the scores cannot be compared with."""
    banners = []
    names = {"random": "random encoders", "majority": "the majority class"}
    absent = [name for name in names if name not in plan["report"]["against"]]
    if plan["pretrain"]["epochs"] == 0:
        absent = [name for name in absent if name != "random"]
        sentence = (
            "The recipe sets pretrain.epochs to 0: the encoders have random weights, and the scores are what those give."
            + (" What was learned with labels stands under “Trained with labels”." if plan.get("supervise") else "")
        )
        banners.append(("mild", "Nothing was pretrained", sentence))
    if absent:
        sentence = f"The recipe leaves out {listed([names[a] for a in absent])} (report.against): read the scores with care."
        banners.append(("mild", "Without its usual baseline", sentence))
    return banners
