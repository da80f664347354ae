"""The report's first card: what was predicted how well, against what, from what, how sure, and where it falls behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..evaluate.statistics import Summary
from .words import (
    FLOOR,
    FLOOR_NAME,
    duration,
    few,
    inputs,
    listed,
    many,
    metric,
    number,
    over,
    plain,
    plural,
    repeats,
    signed,
    whole,
)

NO_ENCODER = "no encoder at all, the streams' own statistics"
"""What the pooled baseline is."""


@dataclass(frozen=True)
class Baseline:
    """What a score is compared with."""

    name: str  # random, pooled or majority
    score: Summary
    gain: Summary | None  # how much higher the score is, on the same folds and seeds


@dataclass(frozen=True)
class Behind:
    """An input whose score lies below what it should exceed: a baseline, or one of its own parts."""

    input: str
    score: float
    than: str  # random, pooled, or the name of an input
    other: float
    part: bool = False  # whether it is an input
    gain: Summary | None = None  # how much higher the score is than the other, unit by unit


def answer(
    about: Mapping[str, Any],
    prepare: Mapping[str, Any],
    *,
    task: str,
    kind: str,
    measure: str,
    main: str,
    subject: str,
    mine: Summary | None,
    baselines: Sequence[Baseline],
    alone: tuple[str, Summary] | None,
    behind: Sequence[Behind] = (),
    labelled: Sequence[tuple[str, Summary]] = (),
    bound: Baseline | None = None,
    recall: Summary | None = None,
) -> dict[str, Any]:
    """The answer in plain sentences: what was predicted how well, against what, from what, how sure.

    behind    inputs that score below what they should exceed
    labelled  models trained with labels on the input with most modalities: (head, score)
    bound     the highest of those that were trained from scratch on the very input of the answer; its name is that of its head
    recall    unweighted average recall, where the score is an accuracy
    """
    plan = about["plan"]
    modalities = plan["probe"]["inputs"][main]
    whence = inputs(modalities, len(plan["modalities"]))
    if mine is None or mine.mean is None:
        return {"lead": Markup("Predicting <b>{}</b> from {}: no score yet.").format(task, whence), "bars": [], "notes": []}
    spread = "" if mine.sd is None else f" ± {plain(mine.sd, 2)}"
    lead = Markup("Predicting <b>{}</b> from {}: <strong>{}</strong> {}").format(
        task, whence, plain(mine.mean, 2) + spread, metric(measure)
    )
    beside = "" if recall is None or recall.mean is None else f", {plain(recall.mean, 2)} {metric('uar')}"
    count = f"{beside} ({repeats(mine.folds, mine.seeds)})"
    others = []
    if labelled and subject == "random":  # nothing was pretrained: what labels taught is the answer
        head, first = labelled[0]
        spread = "" if first.sd is None else f" ± {plain(first.sd, 2)}"
        lead = Markup("Predicting <b>{}</b> from {}, trained with labels from end to end ({}): <strong>{}</strong> {}").format(
            task, whence, head, plain(first.mean or 0.0, 2) + spread, metric(measure)
        )
        others.append(f"a head fitted on random encoders {plain(mine.mean, 2)}")
    others += [f"{_baseline(one.name, kind)} {plain(one.score.mean, 2)}" for one in baselines if one.score.mean is not None]
    lead += count + ("; " + "; ".join(others) if others else "") + "."
    return {
        "lead": lead,
        "bars": _bars(kind, subject, mine, baselines, labelled),
        "notes": [
            ("What was learned", _learned(about)),
            ("From", _from(about, prepare)),
            ("Against what", _against(plan, kind, baselines, alone, measure)),
            ("How sure", _sure(mine, kind, baselines, prepare["group"])),
            *([("With labels from end to end", _bound(bound))] if bound is not None and subject == "pretrained" else []),
            *([("Where it falls behind", _behind(subject, behind))] if behind else []),
        ],
    }


def _baseline(name: str, kind: str) -> str:
    """What a baseline is, as a phrase."""
    return {"random": "the same encoders with random weights", "pooled": NO_ENCODER}.get(name) or FLOOR[kind]


def _bars(
    kind: str,
    subject: str,
    mine: Summary,
    baselines: Sequence[Baseline],
    labelled: Sequence[tuple[str, Summary]],
) -> list[tuple[str, str, Summary, float]]:
    """The bars under the answer: (colour, label, score, its share of the track)."""
    names = {
        "random": ("random", "random weights"),
        "pooled": ("pooled", "pooled streams"),
        "majority": ("floor", FLOOR_NAME[kind]),
    }
    frozen = [(subject, subject if subject == "pretrained" else "random weights", mine)]
    frozen += [(*names[one.name], one.score) for one in baselines if one.name == "random"]
    trained = [("pretrained", f"with labels: {head}", score) for head, score in labelled]
    bars = [*trained, *frozen] if subject == "random" else [*frozen, *trained]
    bars += [(*names[one.name], one.score) for one in baselines if one.name != "random"]
    return [(colour, label, score, max(0.0, min(1.0, score.mean or 0.0))) for colour, label, score in bars]


def _learned(about: Mapping[str, Any]) -> str:
    plan = about["plan"]
    pretrain = plan["pretrain"]
    names = list(plan["modalities"])
    if not pretrain["epochs"]:
        whose = f"the encoder of {names[0]} kept its" if len(names) == 1 else f"the encoders of {listed(names)} kept their"
        if plan.get("supervise"):
            heads = listed(list(plan["supervise"]["heads"]))
            return f"Encoders and heads together, from labels ({heads}). Beside them {whose} random weights, and only a head was fitted."
        return f"Nothing: {whose} random weights. Only the heads were fitted."
    pairs = pretrain["objective"]["pairs"]
    labels = "with labels" if about["uses_labels"] else "without a single label"
    encoders = "One encoder" if len(names) == 1 else f"{number(len(names)).capitalize()} encoders ({listed(names)})"
    more = "".join(f" {sentence[0].upper()}{sentence[1:]}." for sentence in about.get("going_on", ()))
    group = pretrain["objective"].get("group")
    ways = [f"contrasting {many(len(pairs), 'pair')} of modalities"] if pairs else []
    ways += [f"“{group['use']}” on {listed(group['modalities'])} at once"] if group else []
    return (
        f"{encoders}, {labels}, by {' and '.join(ways)}; then frozen. "
        f"Only the head ({plan['probe']['heads'][next(iter(plan['probe']['heads']))]['use']}) was fitted to labels.{more}"
    )


def _from(about: Mapping[str, Any], prepare: Mapping[str, Any]) -> str:
    folds = prepare["folds"]
    hours = max((m["hours"] for m in prepare["modalities"].values()), default=0.0)
    length = f" ({duration(3600 * hours)})" if hours else ""

    def between(part: str) -> str:
        counts = sorted(fold[part] for fold in folds)
        return whole(counts[0]) if counts[0] == counts[-1] else f"{whole(counts[0])}–{whole(counts[-1])}"

    split = f" {between('train')} to learn from, {between('valid')} to choose on, {between('test')} to test on" if folds else ""
    each = ", in each fold" if len(folds) > 1 else ""
    synthetic = " made-up" if prepare["synthetic"] else ""
    return f"{whole(prepare['samples'])}{synthetic} recordings of {many(prepare['groups'], prepare['group'])}{length}:{split}{each}."


def _against(
    plan: Mapping[str, Any], kind: str, baselines: Sequence[Baseline], alone: tuple[str, Summary] | None, measure: str
) -> str:
    parts = []
    names = [one.name for one in baselines]
    if "random" in names:
        parts.append("The same encoders with random weights, under the same heads, splits and seeds.")
    if "pooled" in names:
        parts.append("Mean, deviation, minimum, maximum and slope of the very streams, under the same heads.")
    if "majority" in plan["report"]["against"]:
        parts.append(f"{FLOOR[kind].capitalize()}.")
    if alone is not None:
        parts.append(f"Of the single modalities {alone[0]} scored highest, with {plain(alone[1].mean, 2)} {metric(measure)}.")
    return " ".join(parts) or "Nothing: the recipe leaves the baselines out."


def _sure(mine: Summary, kind: str, baselines: Sequence[Baseline], group: str) -> str:
    parts = []
    for one in baselines:
        if one.name == "random" and one.gain is not None and one.gain.mean is not None:
            verb = "adds" if one.gain.mean > 0 else "costs"
            small = abs(one.gain.mean) < 0.005
            parts += _told_apart(
                f"Pretraining makes next to no difference: {signed(one.gain.mean)}"
                if small
                else f"Pretraining {verb} {plain(abs(one.gain.mean), 2)}",
                one.gain,
            )
    best = max((one for one in baselines if one.score.mean is not None), key=lambda one: one.score.mean or 0.0, default=None)
    if best is not None and best.name != "random" and best.gain is not None and best.gain.mean is not None:
        side = "above" if best.gain.mean > 0 else "below"
        start = f"The highest baseline is {_baseline(best.name, kind)} ({plain(best.score.mean, 2)}): the answer lies"
        parts += _told_apart(f"{start} {plain(abs(best.gain.mean), 2)} {side} it", best.gain)
    if mine.over == "folds":
        parts.append(f"± is the deviation {over(mine)}.")
    elif mine.over == "nothing":
        parts.append("One fold and one seed: nothing says how far chance could have moved these numbers. Add seeds or folds.")
    else:
        parts.append(f"± is the deviation {over(mine)}: other {plural(group)} in the test set could move it further.")
    if mine.over != "nothing":
        parts.append(few(mine.units, mine.over))
    return " ".join(dict.fromkeys(part for part in parts if part))


def _told_apart(start: str, gain: Summary, who: str = "it was") -> list[str]:
    """Sentences on a difference: the first begins with `start`."""
    if gain.low is None:
        return [f"{start}, measured once."]
    sentences = [
        f"{start} (95% interval {signed(gain.low, 2)} to {signed(gain.high, 2)}); "
        f"{who} ahead in {gain.above} of {many(gain.units, gain.over[:-1])}."
    ]
    if rough := few(gain.units, gain.over):
        sentences.append(rough)
    if gain.low <= 0 <= (gain.high or 0.0):
        sentences.append("The interval holds zero: this run does not tell the two apart.")
    return sentences


def _bound(bound: Baseline) -> str:
    """How far frozen features are from the same encoders, trained with labels."""
    start = f"The same encoders, trained with labels from scratch, reach {plain(bound.score.mean, 2)} ({bound.name})"
    if bound.gain is None or bound.gain.mean is None:
        return f"{start}."
    side = "above" if bound.gain.mean > 0 else "below"
    start += f": frozen, they lie {plain(abs(bound.gain.mean), 2)} {side} that"
    return " ".join(_told_apart(start, bound.gain, "they were"))


def _hurt(one: Behind) -> str:
    """That pretraining took from an input, and how sure that is."""
    gain = one.gain
    if gain is None or gain.low is None or gain.high is None:
        return f"Pretraining hurt {one.input}, measured once."
    sure = f"95% interval of the difference {signed(gain.low, 2)} to {signed(gain.high, 2)}"
    if gain.low <= 0 <= gain.high:
        return f"Pretraining hurt {one.input}, as far as this run can tell ({sure})."
    return f"Pretraining hurt {one.input} ({sure})."


def _behind(subject: str, behind: Sequence[Behind]) -> str:
    """Which inputs score below a baseline, and which joint ones below one of their parts."""
    whose = "Pretrained" if subject == "pretrained" else "Random"
    parts = []
    for than, phrase in (("random", "random weights"), ("pooled", "the streams' own statistics")):
        each = [
            f"{one.input} ({plain(one.score)} against {plain(one.other)})"
            for one in behind
            if one.than == than and not one.part
        ]
        if each:
            parts.append(f"{whose} encoders score below {phrase} from {listed(each)}.")
        if each and than == "random":
            parts += [_hurt(one) for one in behind if one.than == than and not one.part]
    parts += [
        f"{one.input} ({plain(one.score)}) scores below its part {one.than} alone ({plain(one.other)})."
        for one in behind
        if one.part
    ]
    return " ".join(parts)
