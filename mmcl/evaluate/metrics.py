"""Metrics, each with its definition in its name. Undefined values are NaN, never 0 and never left out.

single-label   accuracy; uar: mean recall of the classes that occur (unweighted average recall, = balanced accuracy);
               f1_macro, f1_weighted over the classes that occur in truth or guess
multi-label    per class and their mean: w_acc = (TPR + TNR) / 2 (Tong et al. 2017; MPUC-MER, Tables II and IV); f1_binary of the
               positive class; f1_weighted = support-weighted mean of the F1 of present and absent; auroc; average_precision
regression     mae; pearson; ccc (concordance correlation coefficient, Lin 1989)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HEADLINE = {"single-label": "accuracy", "multi-label": "w_acc", "regression": "ccc"}
"""The metric that a report puts first, by type of task."""

LESS_IS_BETTER = frozenset({"mae"})


def evaluate(kind: str, classes: Sequence[str], target: Floats, output: Floats) -> dict[str, tuple[float, int]]:
    """Every metric of a task: name → (value, number of recordings). Outputs are logits [n, classes] or values [n, outputs]."""
    if kind == "single-label":
        return single_label(target.astype(np.int64), output.argmax(1))
    if kind == "multi-label":
        return multi_label(classes, target, output)
    return regression(classes, target, output)


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
    found: dict[str, tuple[float, int]] = {}
    for i, name in enumerate(classes):
        known = ~np.isnan(target[:, i])
        truth, score = target[known, i] > 0.5, output[known, i]
        guess, n = score > 0, int(known.sum())
        both = truth.any() and not truth.all()
        values = {
            "w_acc": weighted_accuracy(truth, guess),
            "f1_binary": float(f1_score(truth, guess, zero_division=0)) if truth.any() or guess.any() else float("nan"),
            "f1_weighted": float(f1_score(truth, guess, average="weighted", zero_division=0)) if n else float("nan"),
            "auroc": float(roc_auc_score(truth, score)) if both else float("nan"),
            "average_precision": float(average_precision_score(truth, score)) if truth.any() else float("nan"),
        }
        for metric, value in values.items():
            per_class.setdefault(metric, []).append(value)
            found[f"{name}/{metric}"] = (value, n)
    for metric, each in per_class.items():
        found[metric] = (
            float(np.mean(each)),
            len(target),
        )  # NaN if any class is undefined: a mean over fewer classes is another metric
    return found


def weighted_accuracy(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> float:
    """Mean of the true-positive and the true-negative rate, in [0, 1]; NaN if one class does not occur (Tong et al. 2017)."""
    if truth.all() or not truth.any():
        return float("nan")
    return float((guess[truth].mean() + (~guess[~truth]).mean()) / 2)


def regression(names: Sequence[str], target: Floats, output: Floats) -> dict[str, tuple[float, int]]:
    """Metrics of one or several values; with several, each by name and their mean."""
    target, output = target.reshape(len(target), -1), output.reshape(len(output), -1)
    kinds: dict[str, Callable[[Floats, Floats], float]] = {"mae": _mae, "pearson": pearson, "ccc": concordance}
    found: dict[str, tuple[float, int]] = {}
    for metric, function in kinds.items():
        each = [function(target[:, i], output[:, i]) for i in range(target.shape[1])]
        if len(names) > 1:
            found |= {f"{name}/{metric}": (value, len(target)) for name, value in zip(names, each, strict=True)}
        found[metric] = (float(np.mean(each)), len(target))
    return found


def _mae(target: Floats, output: Floats) -> float:
    return float(np.abs(target - output).mean()) if len(target) else float("nan")


def pearson(target: Floats, output: Floats) -> float:
    """Linear correlation in [-1, 1]; NaN where either never changes."""
    if len(target) < 2 or target.std() == 0 or output.std() == 0:
        return float("nan")
    return float(np.corrcoef(target, output)[0, 1])


def concordance(target: Floats, output: Floats) -> float:
    """Concordance correlation coefficient in [-1, 1] (Lin 1989); NaN where both never change."""
    if len(target) < 2:
        return float("nan")
    spread = target.var() + output.var() + (target.mean() - output.mean()) ** 2
    covariance = ((target - target.mean()) * (output - output.mean())).mean()
    return float(2 * covariance / spread) if spread > 0 else float("nan")
