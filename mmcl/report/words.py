"""The report's sentences: what was compared with what, and each picture in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluate.statistics import Summary
from ..recipe.plan import JOINT

METRICS: Mapping[str, tuple[str, str]] = {
    "accuracy": ("accuracy", "share of recordings predicted right"),
    "uar": (
        "unweighted average recall",
        "mean of the recalls of the classes that occur in the test set; every class weighs the same",
    ),
    "f1_macro": ("macro F1", "mean of the F1 of every class that occurs in truth or prediction"),
    "w_acc": (
        "weighted accuracy",
        "mean of the true-positive and the true-negative rate; guessing gives 0.5 (Tong et al. 2017)",
    ),
    "binary_accuracy": (
        "binary accuracy",
        "share of right answers, present or absent; of a rare class high by always saying no",
    ),
    "f1_binary": ("F1 of the positive class", "harmonic mean of precision and recall of “present”"),
    "f1_weighted": ("weighted F1", "mean F1 over classes (or over present and absent), weighted by how often each occurs"),
    "auroc": ("area under the ROC curve", "chance that a positive is ranked above a negative; guessing gives 0.5"),
    "average_precision": ("average precision", "area under the precision–recall curve"),
    "jaccard": (
        "Jaccard index",
        "mean over recordings of |true ∧ said| / |true ∨ said|, 0 where both are empty; “accuracy” in some papers",
    ),
    "hamming_loss": ("Hamming loss", "share of wrong labels; lower is better"),
    "f1_micro": ("micro F1", "F1 over all labels of all recordings together"),
    "acc7": ("7-class accuracy", "share of sentiments right when both are rounded to whole numbers, half to even"),
    "acc7_away": ("7-class accuracy, rounded away", "as acc7, halves rounded away from 0 (the SDK’s README)"),
    "acc2_nonneg": ("2-class accuracy, zeros kept", "below 0 against 0 and above"),
    "f1_nonneg": ("weighted F1, zeros kept", "of below 0 against 0 and above"),
    "acc2_nonzero": ("2-class accuracy, zeros left out", "below against above 0; recordings of sentiment 0 do not count"),
    "f1_nonzero": ("weighted F1, zeros left out", "of below against above 0; recordings of sentiment 0 do not count"),
    "mae": ("mean absolute error", "mean distance between prediction and truth; lower is better"),
    "pearson": ("Pearson correlation", "linear correlation between prediction and truth"),
    "ccc": ("concordance correlation", "agreement with the truth in trend, scale and level; 1 is perfect, 0 none (Lin 1989)"),
}
"""Metric → its name in words, and what it is."""

FLOOR: Mapping[str, str] = {
    "single-label": "always guessing the most frequent class",
    "multi-label": "always guessing each label’s more frequent answer",
    "regression": "always guessing the training mean",
}
"""What the majority baseline does, by type of task."""

FLOOR_NAME: Mapping[str, str] = {
    "single-label": "most frequent class",
    "multi-label": "more frequent answer",
    "regression": "training mean",
}
"""The same in two or three words."""

FEW = 6
"""Groups, folds or seeds below which it is said that an interval over them is a rough guess, and recordings below which a class is left
out of what is mixed up most."""

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def plain(value: float | None, digits: int = 3) -> str:
    """A number with a true minus; "undefined" where there is none."""
    if value is None:
        return "undefined"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign."""
    text = plain(value, digits)
    return text if value is None or text.startswith("−") or float(text) == 0 else f"+{text}"


def whole(value: float) -> str:
    """A count with its thousands apart."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A span of time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plural(noun: str) -> str:
    """More than one of them."""
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"


def many(n: int, noun: str) -> str:
    """So many of them: "1 fold", "5 folds"."""
    return f"{whole(n)} {noun if n == 1 else plural(noun)}"


def number(n: int) -> str:
    """A small number as a word."""
    return _NUMBERS[n] if n < len(_NUMBERS) else whole(n)


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names in a sentence: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else "nothing"


def metric(name: str) -> str:
    """A metric's name in words."""
    known = METRICS.get(name.rsplit("/", 1)[-1])
    return known[0] if known else name


def repeats(folds: int, seeds: int) -> str:
    """How often everything was repeated."""
    return f"{many(folds, 'fold')} × {many(seeds, 'seed')}"


def over(score: Summary | None) -> str:
    """What a summary's spread is over, as a phrase."""
    if score is None or score.over == "nothing":
        return "a single measurement, which has neither deviation nor interval"
    if score.over == "folds":
        inside = f", {number(score.seeds)} seeds averaged in each" if score.seeds > 1 else ""
        return f"over {number(score.units)} folds{inside}"
    return f"over {number(score.units)} {score.over}, test set fixed"


def caption(what: str, task: str, head: str, score: Summary | None) -> str:
    """What stands above a table of scores."""
    start = f"{what[:1].upper()}{what[1:]} of {task} with the head “{head}”: "
    if score is None or score.over == "nothing":
        return start + over(score) + "."
    rough = few(score.units, score.over)
    return f"{start}mean ± deviation and 95% interval, {over(score)}." + (f" {rough}" if rough else "")


def few(units: int, of: str) -> str:
    """What is to be said of an interval over so many of something, or a comparison on them; nothing where there are enough, or just one."""
    if not 1 < units < FEW:
        return ""
    return (
        f"Only {number(units)} {of}: an interval over fewer than {number(FEW)} is a rough guess and says little about others."
    )


def inputs(names: Sequence[str], of: int) -> str:
    """The modalities that something is predicted from: "all four modalities"."""
    if (len(names) == of or list(names) == [JOINT]) and of > 1:
        return f"{'both' if of == 2 else f'all {number(of)}'} modalities"
    return listed(list(names))


def _objective_words(objective: Mapping[str, Any]) -> tuple[str, str]:
    """The losses of an objective, and what stands behind its positives: the pairs, where there is no loss of a group beside them."""
    weights = objective.get("weights") or [1.0] * len(objective["pairs"])
    named = zip(objective["pairs"], weights, strict=True)
    pairs = listed([" ~ ".join(pair) + (f" (weight {weight:g})" if weight != 1 else "") for pair, weight in named])
    losses = f"“{objective['loss']['use']}”"
    on = f" on {pairs}" if objective["pairs"] else ""
    if group := objective.get("group"):
        together = f"“{group['use']}” on {listed(group['modalities'])} at once"
        together += f" (weight {group['weight']:g})" if group["weight"] != 1 else ""
        losses, on = (f"{losses}{on}, plus {together},", "") if on else (together, "")
    return losses, on


def _frozen_words(modalities: Mapping[str, Any]) -> str:
    """Which backbones learned nothing, as a sentence with a space before it."""
    still = [name for name, one in modalities.items() if one.get("frozen")]
    return (
        f" The backbone{'s' if len(still) > 1 else ''} of {listed(still)} stayed as built; only what projects {'them' if len(still) > 1 else 'it'} learned."
        if still
        else ""
    )


def _sides_words(objective: Mapping[str, Any]) -> str:
    """How anchors and candidates were made unlike, where they were, as a sentence with a space behind it."""
    momentum, queue = objective.get("momentum"), objective.get("queue")
    ways = ["anchors went through a predictor"] if objective.get("predictor") else []
    ways += [f"candidates came from a teacher (momentum {momentum:g})"] if momentum is not None else []
    ways += [f"the {whole(queue)} newest embeddings of earlier batches were further negatives"] if queue else []
    sentence = listed(ways)
    return f"{sentence[0].upper()}{sentence[1:]}. " if ways else ""


def compared(about: Mapping[str, Any], prepare: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was compared with what, as terms and sentences."""
    plan = about["plan"]
    pretrain, probe, protocol = plan["pretrain"], plan["probe"], plan["protocol"]
    objective = pretrain["objective"]
    terms = []
    if pretrain["epochs"]:
        losses, on = _objective_words(objective)
        by_retrieval = pretrain.get("choose") == "retrieval"
        better = "better retrieval among validation recordings" if by_retrieval else "lower validation loss"
        patience = f", stopping after {number(pretrain['patience'])} epochs without a {better}" if pretrain["patience"] else ""
        best = "best retrieval among validation recordings" if by_retrieval else "lowest validation loss"
        terms.append(
            (
                "Pretrained",
                f"Encoders trained for up to {many(pretrain['epochs'], 'epoch')}{patience}, with the loss "
                f"{losses} and the positives “{objective['positives']['use']}”{on}. {_sides_words(objective)}"
                + ("The last epoch" if pretrain.get("keep") == "last" else f"The epoch with the {best}")
                + f" is kept, and frozen.{_frozen_words(plan['modalities'])}",
            )
        )
    if "random" in plan["report"]["against"] or not pretrain["epochs"]:
        terms.append(
            (
                "Random",
                "The same encoders, with the same normalisation, as they were before any training. What they score "
                "is due to the features and the heads.",
            )
        )
    if "pooled" in plan["report"]["against"]:
        terms.append(
            (
                "Pooled streams",
                "No encoder: mean, deviation, minimum, maximum and slope of every channel of the very streams (of pictures, their pixels), "
                "under the same heads, splits and seeds. An encoder is worth having where it is better than these.",
            )
        )
    if "majority" in plan["report"]["against"]:
        terms.append(
            (
                "Majority",
                "No input: the most frequent class (for several labels each one’s more frequent answer, for values the mean) "
                "of the training recordings.",
            )
        )
    heads = listed([name if name == head["use"] else f"{name} ({head['use']})" for name, head in probe["heads"].items()])
    how = {
        "whole": "the whole recording at once",
        "start": "the first window of each recording",
        "sliding": "the mean over windows sliding over each recording",
    }
    window = plan["window"]
    seen = how[window["embed"]] if window["seconds"] or window["embed"] == "whole" else "the whole recording"
    terms.append(
        (
            "Heads",
            f"{heads}. They read the frozen {probe['features']}’s vector: {seen}. Fitted on training recordings, chosen on "
            f"validation recordings, each with {many(len(probe['seeds']), 'seed')}.",
        )
    )
    group = prepare["group"]
    kept = f"no {group} stands on two sides" if not prepare["crosses_groups"] else f"the same {group} may stand on two sides"
    terms.append(
        ("Splits", f"{prepare['protocol']}: {kept}. The test recordings are read once, after every choice has been made.")
    )
    if protocol.get("only"):
        terms.append(("Folds run", f"Only {listed([str(n) for n in protocol['only']])}."))
    terms.append(
        (
            "± and interval",
            "Seeds are averaged within each fold first, and every fold weighs the same. ± is the standard deviation between "
            "folds, the 95% interval is Student’s t over them. Folds share training recordings, so the interval is, if "
            "anything, too narrow. With a single fold both are over seeds, with the test set fixed. Differences are taken "
            "pair by pair, on the same fold and seed.",
        )
    )
    return terms


def learning(runs: Sequence[Mapping[str, Any]], patience: int | None, last: bool = False) -> str:
    """How long pretraining went, in a sentence; `last` where the recipe keeps the last epoch, whatever its loss."""
    epochs, best = sorted(run["epochs"] for run in runs), sorted(run["lowest"] for run in runs)
    stopped = sum(run["stopped"] == "patience" for run in runs)

    def between(values: Sequence[int]) -> str:
        return str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"

    def share(n: int) -> str:
        return "every run" if n == len(runs) else "no run" if not n else f"{n} of {len(runs)} runs"

    text = f"{between(epochs)} epochs were run and the weights of epoch {between(best)} kept"
    if last:
        text = f"{between(epochs)} epochs were run and the weights of the last kept, as the recipe asks; "
        if runs[0]["retrieval"] is not None:
            text += f"retrieval among validation recordings was best in epoch {between(best)}"
        else:
            text += (
                f"the {'validation' if runs[0]['valid'] is not None else 'training'} loss was lowest in epoch {between(best)}"
            )
    elif runs[0]["retrieval"] is not None:
        text += ", where retrieval among validation recordings was best"
    if patience:
        text += f"; {share(stopped)} stopped early"
    late = sum(run["lowest"] == run["epochs"] for run in runs)
    text += "."
    if late and runs[0]["valid"] is not None:
        text += f" In {share(late)} the last epoch was the best: more epochs might help."
    return text


def retrieval(maps: Mapping[str, Mapping[tuple[str, str], float]], levels: Sequence[float], among: int | None) -> str:
    """How well one modality finds the same recording in another, in a sentence."""
    first, values = next(iter(maps.items()))
    where = f"among {whole(among)} test recordings" if among else "among all test recordings"
    if not values:
        return f"No pair has two test recordings in common ({where})."
    best, worst = max(values, key=lambda p: values[p]), min(values, key=lambda p: values[p])
    if levels and values[best] < 1.25 * levels[-1]:
        return (
            f"Given a recording in one modality, its counterpart is found {where} about as often as by guessing: "
            f"{plain(values[best])} at best, from {best[0]} to {best[1]}; guessing gives {_levels(levels)}."
        )
    text = f"Given a recording in one modality, its counterpart is the nearest {where} most often from {best[0]} to {best[1]}"
    text += f" ({plain(values[best], 2)})"
    if best != worst:
        text += f" and least from {worst[0]} to {worst[1]} ({plain(values[worst], 2)})"
    text += f"; guessing gives {_levels(levels)}."
    if first == "pretrained" and maps.get("random"):
        mean = sum(maps["random"].values()) / len(maps["random"])
        text += f" Random encoders reach {plain(mean, 2)} on average."
    if maps.get("pooled"):
        mean = sum(maps["pooled"].values()) / len(maps["pooled"])
        text += f" No encoder at all, canonical correlation of the streams themselves, reaches {plain(mean, 2)}."
    return text


def worst(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[tuple[str, str, int, int]]:
    """The three confusions with the largest share of their class, of classes with at least FEW: (true, predicted, how many, of how many)."""
    confusions = [
        (classes[i], classes[j], count, sum(row))
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count > 1 and sum(row) >= FEW
    ]
    return sorted(confusions, key=lambda f: (-f[2] / f[3], f[0], f[1]))[:3]


def dots_alt(task: str, what: str, rows: Mapping[str, Mapping[str, Summary]], floor: float | None) -> str:
    """A dot plot in words."""
    parts = []
    for label, row in rows.items():
        each = [
            f"{'random weights' if encoder == 'random' else encoder} {plain(score.mean)}"
            + (f", interval {plain(score.low)} to {plain(score.high)}" if score.low is not None else "")
            for encoder, score in row.items()
        ]
        parts.append(f"{label}: {'; '.join(each)}")
    end = "" if floor is None else f". Baseline: {plain(floor)}"
    return f"Dot plot of {what} for {task}. {'. '.join(parts)}{end}."


def ranks_alt(runs: Sequence[Mapping[str, Any]]) -> str:
    """Curves of retrieval in words."""
    each = [f"fold {r['fold']}, seed {r['seed']}: {plain(r['retrieval'])} at the kept epoch {r['best']}" for r in runs[:SPOKEN]]
    more = f"; and {len(runs) - SPOKEN} more in the table below" if len(runs) > SPOKEN else ""
    return f"Line chart of the mean reciprocal rank among validation recordings over epochs. {'; '.join(each)}{more}."


def curves_alt(runs: Sequence[Mapping[str, Any]]) -> str:
    """Loss curves in words."""
    each = [
        f"fold {r['fold']}, seed {r['seed']}: {r['epochs']} epochs, kept epoch {r['best']}, training loss {plain(r['train'])}"
        + (f", validation loss {plain(r['valid'])}" if r["valid"] is not None else "")
        for r in runs[:SPOKEN]
    ]
    more = f"; and {len(runs) - SPOKEN} more in the table below" if len(runs) > SPOKEN else ""
    return f"Line chart of the loss over epochs. {'; '.join(each)}{more}."


SPOKEN = 12
"""Items that a picture's words name before they point to the table."""


def confusion_alt(
    task: str, classes: Sequence[str], matrix: Sequence[Sequence[int]], worst: Sequence[tuple[str, str, int, int]]
) -> str:
    """A confusion matrix in words."""
    right, total = sum(row[i] for i, row in enumerate(matrix)), sum(map(sum, matrix))
    mixed = "; ".join(f"{a} taken for {b} {n} times of {of}" for a, b, n, of in worst)
    return (
        f"Confusion matrix of {task}, {len(classes)} classes: {right} of {total} predictions are right. "
        + (f"Most mixed up: {mixed}. " if mixed else "")
        + "The table below has every count."
    )


def recall_alt(classes: Sequence[str], recall: Mapping[str, Sequence[float | None]]) -> str:
    """Bars of recall in words."""
    main = next(iter(recall))
    each = ", ".join(
        f"{c} {'none in the test set' if r is None else f'{100 * r:.0f}%'}" for c, r in zip(classes, recall[main], strict=True)
    )
    return f"Bar chart of the recall of each class: {each}."


def retrieval_alt(maps: Mapping[str, Mapping[tuple[str, str], float]], levels: Sequence[float]) -> str:
    """Maps of R@1 in words."""
    parts = [
        f"{'random weights' if kind == 'random' else kind}: "
        + ", ".join(f"{a} to {b} {plain(v, 2)}" for (a, b), v in values.items())
        for kind, values in maps.items()
    ]
    return f"Heat map of R@1 between modalities. {'. '.join(parts)}. Guessing gives {_levels(levels)}."


def scatter_alt(task: str, outputs: Sequence[str], n: int, score: Summary | None) -> str:
    """A scatter plot in words."""
    agree = f" Concordance correlation {plain(score.mean)}." if score is not None else ""
    return f"Scatter plot of predicted against true {listed(list(outputs))} for {task}, {whole(n)} predictions.{agree}"


def _levels(levels: Sequence[float]) -> str:
    if not levels:
        return "nothing"
    low, high = plain(levels[0]), plain(levels[-1])
    return low if low == high else f"{low} to {high}"


def surroundings(about: Mapping[str, Any]) -> list[str]:
    """Where the recipe came from, on what it ran, and what makes sums come out the same: a line each, where plan.json says so."""
    lines = []
    if "git" in about:
        git = about["git"]
        if git is None:
            lines.append("Git: the recipe lies in no work tree.")
        else:
            changes = {True: "with uncommitted changes", False: "nothing uncommitted", None: "changes not known"}
            lines.append(f"Git: commit {git['commit'] or 'not made yet'}, {changes[git['uncommitted']]}.")
    if "hardware" in about:
        one = about["hardware"]
        parts = [f"{one['cores'] or 'an unknown number of'} logical cores"]
        parts += [f"{one['memory_gb']:g} GB of memory"] if one["memory_gb"] is not None else []
        parts += [one["gpu"]] if one["gpu"] else []
        lines.append(f"Hardware: {', '.join(parts)}.")
    if "determinism" in about:
        states = {True: "on", False: "off", None: "not set"}
        each = [
            f"{name.replace('_', ' ') if name.islower() else name} {states[v] if v is None or isinstance(v, bool) else v}"
            for name, v in about["determinism"].items()
        ]
        lines.append(f"Determinism: {', '.join(each)}.")
    return lines
