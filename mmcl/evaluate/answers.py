"""What a task asks and what an output answers: targets, loss, decisions, scores and predictions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..api.batch import Encoded
from ..api.dataset import Task
from ..api.head import Deciding, Head, OwnLoss
from .metrics import evaluate, thresholds


def loss_of(head: Head | nn.Module, task: Task, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """The head's own loss if it has one, else the one of the task's type."""
    return head.loss(output, target) if isinstance(head, OwnLoss) else task_loss(task, output, target, weight)


def task_loss(task: Task, output: Tensor, target: Tensor, positive_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy, BCE with weighted positives, or mean squared error, by type of task; unknown labels (NaN) count nothing."""
    if task.type == "single-label":
        return functional.cross_entropy(output.float(), target)
    known = ~target.isnan()
    if task.type == "multi-label":
        each = functional.binary_cross_entropy_with_logits(
            output.float(), target.nan_to_num(), reduction="none", pos_weight=positive_weight
        )
    else:
        each = (output.float() - target.nan_to_num()).square()
    return (each * known).sum() / known.sum().clamp_min(1)


def positive_weight(task: Task, target: Tensor) -> Tensor | None:
    """Negatives per positive of each class, from training rows (MPUC-MER's code gives such weights)."""
    if task.type != "multi-label":
        return None
    known = ~target.isnan()
    positive = (target.nan_to_num() * known).sum(0)
    return (known.sum(0) - positive) / positive.clamp_min(1)


def target_of(task: Task, targets: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """A task's targets of all rows, and which rows have one."""
    values = [t.get(task.name) for t in targets]
    known = torch.tensor([v is not None for v in values])
    if task.type == "single-label":
        return torch.tensor([0 if v is None else int(v) for v in values]), known
    width = max(1, len(task.classes))
    rows = [[math.nan] * width if v is None else list(v) if isinstance(v, list | tuple) else [v] for v in values]
    return torch.tensor(rows, dtype=torch.float32), known


def constant_output(task: Task, target: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The output that knows the training targets only: the most frequent class, or the mean."""
    if task.type == "single-label":
        counts = Counter(target.tolist())
        best = min(counts, key=lambda c: (-counts[c], c)) if counts else 0
        return cast("np.ndarray[Any, np.dtype[np.float64]]", np.eye(len(task.classes))[best])
    mean = target.double().nanmean(0).numpy()
    return np.where(mean > 0.5, 1.0, -1.0) if task.type == "multi-label" else np.asarray(mean)


@torch.inference_mode()
def output_of(head: Head, encoded: Mapping[str, Encoded]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What a fitted head says, without gradient."""
    return decided(head, head(encoded))


def decided(head: Head | nn.Module, output: Tensor) -> NDArray[np.float64]:
    """What a head gave, as metrics read it: in its own way of deciding, if it has one."""
    value = head.decide(output) if isinstance(head, Deciding) else output
    return cast("NDArray[np.float64]", value.detach().cpu().double().numpy())


def shift_of(how: str, task: Task, target: Tensor, output: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64] | float:
    """What is taken from outputs before they are read: thresholds of a multi-label task, from validation rows alone."""
    if how != "valid" or task.type != "multi-label" or not len(target):
        return 0.0
    return thresholds(target.double().numpy(), output())


def scores_of(about: Mapping[str, Any], task: Task, target: Tensor, output: Any) -> list[dict[str, Any]]:
    """Every metric of one output [n, outputs], as rows of scores.jsonl."""
    measured = evaluate(task.type, task.classes, target.double().numpy(), output, task.extra)
    return [{**about, "metric": metric, "value": finite_or_none(value), "n": n} for metric, (value, n) in measured.items()]


def predictions_of(
    about: Mapping[str, Any], task: Task, ids: Sequence[str], target: Tensor, output: Any
) -> list[dict[str, Any]]:
    """What was said of each recording, as rows of predictions.jsonl."""
    rows = []
    for id, truth, values in zip(ids, target.tolist(), output.tolist(), strict=True):
        if task.type == "single-label":
            said: Any = int(np.argmax(values))
        elif task.type == "multi-label":
            said = [int(v > 0) for v in values]
        else:
            said = [round(v, 6) for v in values]
        if isinstance(truth, list):
            truth = [finite_or_none(v) for v in truth]
        rows.append({**about, "id": id, "target": truth, "prediction": said})
    return rows


def finite_or_none(value: float) -> float | None:
    """A number as JSON has it: null where it is undefined."""
    return float(value) if math.isfinite(value) else None
