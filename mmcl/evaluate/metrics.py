"""Metrics, each with its definition in its name. Undefined values are NaN, never 0 and never left out.

single-label   accuracy; uar: mean recall of the classes that occur (unweighted average recall, = balanced accuracy);
               f1_macro, f1_weighted over the classes that occur in truth or guess
multi-label    per class and their mean: w_acc = (TPR + TNR) / 2 (Tong et al. 2017; MPUC-MER, Tables II and IV); f1_binary of the
               positive class; binary_accuracy = share of right answers, yes or no (SSE-FT, Table 4); f1_weighted = support-weighted mean of the F1 of present and absent; auroc; average_precision.
               Over rows whose labels are all known: jaccard = mean over rows of |true ∧ guessed| / |true ∨ guessed|, 0 where both are
               empty (the "accuracy" of UniVA and others); hamming_loss = share of wrong labels; f1_micro over all labels;
               f1_macro = mean of the classes' F1, a class that never occurs and is never guessed counting 0
regression     mae; pearson; ccc (concordance correlation coefficient, Lin 1989)
               of sentiment from −3 to 3 besides: acc7 (rounded, half to even) and acc7_away (rounded away from 0 by sign, as the SDK's
               README); acc2_nonneg and f1_nonneg (below 0 against 0 and above, all rows); acc2_nonzero and f1_nonzero (below
               against above 0, rows of sentiment 0 left out); F1 weighted by support. Papers mix these; here each has its name
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..api.dataset import Task

Floats = NDArray[np.float64]

HEADLINE = {"single-label": "accuracy", "multi-label": "w_acc", "regression": "ccc"}
"""The metric that a report puts first, by type of task."""

LESS_IS_BETTER = frozenset({"mae", "hamming_loss", "median_rank"})

RETRIEVAL = ("R@1", "R@5", "R@10", "median_rank")
"""Metrics of how well one modality finds a recording in another (`evaluate.retrieval`), the first one first in a report."""

AMONG = 32
"""Recordings among which the right one is searched, beside the search among all: R@k depends on how many there are."""


def evaluate(
    kind: str, classes: Sequence[str], target: Floats, output: Floats, extra: Sequence[str] = ()
) -> dict[str, tuple[float, int]]:
    """Every metric of a task: name → (value, number of recordings). Outputs are logits [n, classes] or values [n, outputs]."""
    if kind == "single-label":
        return single_label(target.astype(np.int64), output.argmax(1))
    if kind == "multi-label":
        return multi_label(classes, target, output)
    metrics = regression(classes, target, output)
    return metrics | sentiment(target, output) if "sentiment" in extra else metrics


def metric_names(task: Task) -> tuple[str, ...]:
    """Every metric that a task has."""
    width = max(1, len(task.classes))
    two = np.zeros((2, width)) if task.type != "single-label" else np.zeros(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two made-up rows most metrics are undefined; their names are asked for
        return tuple(evaluate(task.type, task.classes, two, np.zeros((2, width)), task.extra))


def sentiment(target: Floats, output: Floats) -> dict[str, tuple[float, int]]:
    """Metrics of one value from −3 to 3, as the papers on CMU-MOSI and CMU-MOSEI have them, each under its own name."""
    from sklearn.metrics import f1_score

    truth, guess = target.reshape(-1), output.reshape(-1)
    known = ~np.isnan(truth)
    truth, guess = truth[known], guess[known]

    def share(a: NDArray[np.generic], b: NDArray[np.generic]) -> tuple[float, int]:
        return (float((a == b).mean()) if len(a) else float("nan"), len(a))

    def f1(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[float, int]:
        return (float(f1_score(a, b, average="weighted", zero_division=0)) if len(a) else float("nan"), len(a))

    def clamped(values: Floats) -> Floats:
        return np.clip(values, -3, 3)

    def away(values: Floats) -> Floats:
        return np.copysign(np.floor(np.abs(clamped(values)) + 0.5), values) + 0.0

    apart = truth != 0
    return {
        "acc7": share(np.round(clamped(truth)), np.round(clamped(guess))),
        "acc7_away": share(away(truth), away(guess)),
        "acc2_nonneg": share(truth >= 0, guess >= 0),
        "f1_nonneg": f1(truth >= 0, guess >= 0),
        "acc2_nonzero": share(truth[apart] > 0, guess[apart] > 0),
        "f1_nonzero": f1(truth[apart] > 0, guess[apart] > 0),
    }


def single_label(target: NDArray[np.int64], guess: NDArray[np.int64]) -> dict[str, tuple[float, int]]:
    """Metrics of one class out of several."""
    from sklearn.metrics import f1_score, recall_score

    n = len(target)
    if n == 0:
        return {name: (float("nan"), 0) for name in ("accuracy", "uar", "f1_macro", "f1_weighted")}
    occurring = np.unique(target)
    return {
        "accuracy": (float((target == guess).mean()), n),
        "uar": (float(recall_score(target, guess, labels=occurring, average="macro", zero_division=0)), n),
        "f1_macro": (float(f1_score(target, guess, average="macro", zero_division=0)), n),
        "f1_weighted": (float(f1_score(target, guess, average="weighted", zero_division=0)), n),
    }


def multi_label(classes: Sequence[str], target: Floats, output: Floats) -> dict[str, tuple[float, int]]:
    """Metrics of several yes-or-no classes; outputs are logits, yes above 0. Rows whose target is NaN are left out per class."""
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    per_class: dict[str, list[float]] = {}
    metrics: dict[str, tuple[float, int]] = {}
    for i, name in enumerate(classes):
        known = ~np.isnan(target[:, i])
        truth, score = target[known, i] > 0.5, output[known, i]
        guess, n = score > 0, int(known.sum())
        both = truth.any() and not truth.all()
        values = {
            "w_acc": weighted_accuracy(truth, guess),
            "binary_accuracy": float((truth == guess).mean()) if n else float("nan"),
            "f1_binary": float(f1_score(truth, guess, zero_division=0)) if truth.any() or guess.any() else float("nan"),
            "f1_weighted": float(f1_score(truth, guess, average="weighted", zero_division=0)) if n else float("nan"),
            "auroc": float(roc_auc_score(truth, score)) if both else float("nan"),
            "average_precision": float(average_precision_score(truth, score)) if truth.any() else float("nan"),
        }
        for metric, value in values.items():
            per_class.setdefault(metric, []).append(value)
            metrics[f"{name}/{metric}"] = (value, n)
    for metric, each in per_class.items():
        # NaN if any class is undefined: a mean over fewer classes is another metric
        metrics[metric] = (float(np.mean(each)), len(target))
    return metrics | _together(target, output)


def _together(target: Floats, output: Floats) -> dict[str, tuple[float, int]]:
    """Metrics over rows rather than classes, of the rows whose labels are all known."""
    from sklearn.metrics import f1_score

    rows = ~np.isnan(target).any(1)
    n = int(rows.sum())
    if n == 0:
        return {name: (float("nan"), 0) for name in ("jaccard", "hamming_loss", "f1_micro", "f1_macro")}
    truth, guess = target[rows] > 0.5, output[rows] > 0
    both, either = (truth & guess).sum(1), (truth | guess).sum(1)
    return {
        "jaccard": (float((both / np.maximum(either, 1)).mean()), n),
        "hamming_loss": (float((truth != guess).mean()), n),
        "f1_micro": (float(f1_score(truth.ravel(), guess.ravel(), zero_division=0)), n),
        "f1_macro": (float(np.mean([f1_score(truth[:, i], guess[:, i], zero_division=0) for i in range(truth.shape[1])])), n),
    }


def thresholds(target: Floats, output: Floats) -> Floats:
    """For each class the value above which saying yes gives the best w_acc; 0 where a class does not occur both ways.

    Of equally good cuts the one nearest to 0 is taken, so that nothing moves without a reason. To be called with validation rows.
    """
    best_cuts = np.zeros(output.shape[1])
    for i in range(output.shape[1]):
        known = ~np.isnan(target[:, i])
        truth, score = target[known, i] > 0.5, output[known, i]
        if truth.all() or not truth.any():
            continue
        order = np.sort(np.unique(score))
        cuts = np.concatenate([[0.0, order[0] - 1, order[-1] + 1], (order[1:] + order[:-1]) / 2])  # yes and no to all, too
        values = [weighted_accuracy(truth, score > cut) for cut in cuts]
        best = max(values)
        best_cuts[i] = min((cut for cut, value in zip(cuts, values, strict=True) if value >= best - 1e-12), key=abs)
    return best_cuts


def weighted_accuracy(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> float:
    """Mean of the true-positive and the true-negative rate, in [0, 1]; NaN if one class does not occur (Tong et al. 2017)."""
    if truth.all() or not truth.any():
        return float("nan")
    return float((guess[truth].mean() + (~guess[~truth]).mean()) / 2)


def regression(names: Sequence[str], target: Floats, output: Floats) -> dict[str, tuple[float, int]]:
    """Metrics of one or several values; with several, each by name and their mean. Rows whose target is NaN are left out per value."""
    width = output.shape[1] if output.ndim > 1 else 1
    target, output = target.reshape(len(target), width), output.reshape(len(output), width)
    known = ~np.isnan(target)
    kinds: dict[str, Callable[[Floats, Floats], float]] = {"mae": _mae, "pearson": pearson, "ccc": concordance}
    metrics: dict[str, tuple[float, int]] = {}
    for metric, function in kinds.items():
        each = [(function(target[known[:, i], i], output[known[:, i], i]), int(known[:, i].sum())) for i in range(width)]
        if len(names) > 1:
            metrics |= {f"{name}/{metric}": one for name, one in zip(names, each, strict=True)}
        metrics[metric] = (float(np.mean([value for value, _ in each])), int(known.any(1).sum()))
    return metrics


def _mae(target: Floats, output: Floats) -> float:
    return float(np.abs(target - output).mean()) if len(target) else float("nan")


def _constant(values: Floats) -> bool:
    """Whether nothing ever changes. (The deviation of equal numbers may be a little above 0.)"""
    return bool((values == values[0]).all())


def pearson(target: Floats, output: Floats) -> float:
    """Linear correlation in [-1, 1]; NaN where either never changes."""
    if len(target) < 2 or _constant(target) or _constant(output):
        return float("nan")
    correlation = float(np.corrcoef(target, output)[0, 1])
    return min(1.0, max(-1.0, correlation))


def concordance(target: Floats, output: Floats) -> float:
    """Concordance correlation coefficient in [-1, 1] (Lin 1989); NaN where both never change and are the same."""
    if len(target) < 2 or (_constant(target) and _constant(output) and target[0] == output[0]):
        return float("nan")
    spread = target.var() + output.var() + (target.mean() - output.mean()) ** 2
    covariance = ((target - target.mean()) * (output - output.mean())).mean()
    return float(2 * covariance / spread) if spread > 0 else float("nan")
