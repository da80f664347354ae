"""What a task asks and how an output answers it: targets, loss, decisions, scores and predictions.

An output is what a head gives, [n, outputs]: logits of a single-label task (before softmax) or of a multi-label task (before
sigmoid, yes above 0), values of a regression.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..api.batch import Encoded
from ..api.dataset import Task
from ..api.head import Deciding, Head, OwnLoss, Penalised
from .metrics import evaluate, thresholds

Floats = NDArray[np.float64]

UNIT = ("target_mean", "target_deviation")
"""Buffers of a head that learns deviations and answers in the unit of its targets."""
UNKNOWN = -1
"""The class of a recording that has no label of a single-label task. An unknown value is NaN."""


BLOCK = 2**14
"""Recordings whose values are Python's numbers at a time."""


def group_numbers(groups: Sequence[str]) -> Tensor:
    """A number for each recording's group (int64 [n]): equal for equal names, and of no other meaning."""
    numbers = {name: number for number, name in enumerate(sorted(set(groups)))}
    return torch.tensor([numbers[name] for name in groups], dtype=torch.int64)


def target_of(task: Task, targets: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """A task's targets of some recordings, as `target_tensor` has them, and which recordings have one (bool [n])."""
    known = np.fromiter((each.get(task.name) is not None for each in targets), bool, len(targets))
    return target_tensor(task, targets), torch.from_numpy(known)


def target_tensor(task: Task, targets: Sequence[Mapping[str, Any]]) -> Tensor:
    """A task's targets of some recordings: classes (int64 [n]) of a single-label task, else values (float32 [n, classes]).

    targets  of each recording, by name of the task; where it has none of this task stands UNKNOWN, or NaN
    """
    if task.type == "single-label":
        classes = (UNKNOWN if (value := each.get(task.name)) is None else int(value) for each in targets)
        return torch.from_numpy(np.fromiter(classes, np.int64, len(targets)))
    width = max(1, len(task.classes))
    blocks = [torch.zeros(0, width)]
    for first in range(0, len(targets), BLOCK):
        values = [each.get(task.name) for each in targets[first : first + BLOCK]]
        lists = [[None] * width if v is None else v if isinstance(v, list | tuple) else [v] for v in values]
        rows = [[math.nan if one is None else one for one in each] for each in lists]
        blocks.append(torch.tensor(rows, dtype=torch.float32).reshape(len(rows), width))
    return torch.cat(blocks)


def loss_of(head: Head | nn.Module, task: Task, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """The head's own loss if it has one, else the one of the task's type, and the head's penalty: a scalar.

    A head that learns `in_unit` has the loss of targets centred and scaled.
    """
    deviation = getattr(head, UNIT[1], None)
    if deviation is not None:
        output, target = output / deviation, target / deviation
    loss = head.loss(output, target) if isinstance(head, OwnLoss) else task_loss(task, output, target, weight)
    return loss + head.penalty(output) if isinstance(head, Penalised) else loss


def in_unit(head: nn.Module, mean: Tensor, deviation: Tensor) -> None:
    """Let a head's own numbers be deviations of values [outputs] from a mean, so that what it gives is in the values' unit.

    Both are buffers, kept with its weights. A head begins near 0, and would spend its training on the way to a mean of 30.
    """
    for name, value in zip(UNIT, (mean, deviation), strict=True):
        head.register_buffer(name, value)
    head.register_forward_hook(_to_unit)


def _to_unit(head: nn.Module, given: Any, output: Tensor) -> Tensor:
    mean, deviation = (getattr(head, name).to(output.dtype) for name in UNIT)
    return cast(Tensor, output * deviation + mean)


def target_scale(target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each value [outputs] over the rows where it is known; 0 and 1 where none is, 1 for one that does not vary."""
    known = ~target.isnan()
    count = known.sum(0).clamp_min(1)
    mean = target.nan_to_num().double().sum(0) / count
    deviation = (((target.double() - mean).nan_to_num() * known).square().sum(0) / count).sqrt()
    varies = deviation > 1e-6 * (1 + mean.abs())
    return mean.to(target.dtype), torch.where(varies, deviation, torch.ones_like(deviation)).to(target.dtype)


def mixed(loss: Tensor, contrast: Tensor, share: float, mix: str, head: Head | nn.Module, output: Tensor) -> Tensor:
    """The loss of labels and penalty, and a contrast, as one.

    mix  add: loss + share · contrast; share: (1 − share) · labels + share · contrast + penalty
    """
    if mix == "add":
        return loss + share * contrast
    penalty = head.penalty(output) if isinstance(head, Penalised) else torch.zeros_like(loss)
    return (1 - share) * (loss - penalty) + share * contrast + penalty


def task_loss(task: Task, output: Tensor, target: Tensor, positive_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy, BCE with weighted positives, or mean squared error, by type of task; unknown values (NaN) count nothing."""
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
    """Negatives per positive of each class [classes], from training rows; None but for a multi-label task.

    MPUC-MER's code gives such weights.
    """
    if task.type != "multi-label":
        return None
    known = ~target.isnan()
    positive = (target.nan_to_num() * known).sum(0)
    return (known.sum(0) - positive) / positive.clamp_min(1)


def constant_output(task: Task, target: Tensor) -> Floats:
    """The output [outputs] that knows the training targets only: the most frequent class, or the mean."""
    if task.type == "single-label":
        counts = Counter(target.tolist())
        best = min(counts, key=lambda c: (-counts[c], c)) if counts else 0
        return cast("Floats", np.eye(len(task.classes))[best])
    mean = target.double().nanmean(0).numpy()
    return np.where(mean > 0.5, 1.0, -1.0) if task.type == "multi-label" else np.asarray(mean)


@torch.inference_mode()
def output_of(head: Head, encoded: Mapping[str, Encoded]) -> Floats:
    """The decided output of a fitted head, without gradient."""
    return decided(head, head(encoded))


def decided(head: Head | nn.Module, output: Tensor) -> Floats:
    """An output as metrics read it: in the head's own way of deciding, if it has one."""
    value = head.decide(output) if isinstance(head, Deciding) else output
    return cast("Floats", value.detach().cpu().double().numpy())


def shift_of(how: str, task: Task, target: Tensor, output: Callable[[], Floats]) -> Floats | float:
    """What is taken from outputs before they are read: a threshold a class [classes], or 0.

    how             "valid" where the recipe asks for thresholds of a multi-label task
    target, output  of validation rows alone; without any, 0
    """
    if how != "valid" or task.type != "multi-label" or not len(target):
        return 0.0
    return thresholds(target.double().numpy(), output())


def scores_of(about: Mapping[str, Any], task: Task, target: Tensor, output: Floats) -> list[dict[str, Any]]:
    """Every metric of a decided output, as rows of scores.jsonl; undefined ones are None."""
    measured = evaluate(task.type, task.classes, target.double().numpy(), output, task.extra)
    return [{**about, "metric": metric, "value": finite_or_none(value), "n": n} for metric, (value, n) in measured.items()]


def predictions_of(
    about: Mapping[str, Any], task: Task, ids: Sequence[str], target: Tensor, output: Floats
) -> Iterator[dict[str, Any]]:
    """What a decided output predicts of each recording, as rows of predictions.jsonl; unknown values are None."""
    for first in range(0, len(ids), BLOCK):
        some = slice(first, first + BLOCK)
        for id, truth, values in zip(ids[some], target[some].tolist(), output[some].tolist(), strict=True):
            known = [finite_or_none(value) for value in truth] if isinstance(truth, list) else truth
            yield {**about, "id": id, "target": known, "prediction": _prediction(task, values)}


def predicted(task: Task, output: Floats) -> Floats:
    """The same predictions as numbers: the class [n] of a single-label task, else which classes, or the values [n, outputs]."""
    if task.type == "single-label":
        return cast("Floats", output.argmax(1).astype(np.float64))
    if task.type == "multi-label":
        return (output > 0).astype(np.float64)
    blocks = [output[first : first + BLOCK] for first in range(0, len(output), BLOCK)]
    return np.concatenate(
        [np.zeros((0, output.shape[1])), *(np.reshape([round(v, 6) for v in b.flat], b.shape) for b in blocks)]
    )


def _prediction(task: Task, values: Sequence[float] | Floats) -> int | list[int] | list[float]:
    """The class, which classes, or the values that an output of one recording means."""
    if task.type == "single-label":
        return int(np.argmax(values))
    if task.type == "multi-label":
        return [int(value > 0) for value in values]
    return [round(value, 6) for value in values]


def named(task: Task, values: Sequence[float] | Floats) -> str | list[str]:
    """The class, or the classes, that an output of one recording means, by name; not of a regression."""
    meant = _prediction(task, values)
    if task.type == "single-label":
        return task.classes[cast(int, meant)]
    return [name for name, there in zip(task.classes, cast("list[int]", meant), strict=True) if there]


def finite_or_none(value: float) -> float | None:
    """A number as JSON has it: null where it is undefined."""
    return float(value) if math.isfinite(value) else None
