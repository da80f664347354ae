"""Heads on frozen features: fitted on training rows, chosen on validation rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..api.batch import Encoded
from ..api.dataset import Task
from ..api.head import Deciding, Head, Labelled, OwnLoss, SelfFitting
from ..data.batches import epoch_batches
from ..engine.optim import build_optimizer
from ..evaluate.answers import finite_or_none, in_unit, loss_of, positive_weight, target_scale
from ..plugins import network_of
from ..recipe.plan import Part
from ..seeding import address


def fit_head(
    part: Part, task: Task, train: Labelled, valid: Labelled, training: Any, where: tuple[str | int, ...]
) -> tuple[Head, dict[str, Any]]:
    """A head fitted on `train` and chosen on `valid`: by its own solver if it has one, else by the loop below; and how that went.

    training  the recipe's `probe.training`
    where     the address of all that is drawn
    """
    widths = {name: encoded.vector.shape[1] for name, encoded in train.encoded.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*where, "init"))
        head: Head = network_of(part.spec.build(part.params, task, widths), part.spec, "head")
        if isinstance(head, SelfFitting):
            chosen = head.fit(train, valid, torch.Generator().manual_seed(address(*where, "fit")))
            return head, {name: finite_or_none(value) for name, value in chosen.items()}
        return head, _train_head(cast(nn.Module, head), task, train, valid, training, where)


def _train_head(
    head: nn.Module, task: Task, train: Labelled, valid: Labelled, training: Any, where: tuple[str | int, ...]
) -> dict[str, Any]:
    """Minibatch training with early stopping on the validation loss; the best weights are kept.

    Values of a regression are learned centred and scaled by training rows, unless the head brings its own loss or way of deciding.
    """
    if task.type == "regression" and not isinstance(head, OwnLoss | Deciding):
        in_unit(head, *target_scale(train.target))
    optimizer = build_optimizer(training.optimizer, head)
    weight = positive_weight(task, train.target)
    best, best_loss, best_epoch, epoch = copy.deepcopy(head.state_dict()), math.inf, 0, 0
    for epoch in range(1, training.epochs + 1):
        head.train()
        for k, rows in enumerate(epoch_batches(range(len(train.target)), training.batch_size, *where, epoch)):
            torch.manual_seed(address(*where, "step", epoch, k))
            index = torch.tensor(rows)
            loss = loss_of(head, task, head(_rows_of(train.encoded, index)), train.target[index], weight)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        head.eval()
        with torch.no_grad():
            valid_loss = float(loss_of(head, task, head(valid.encoded), valid.target, weight))
        if valid_loss < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(head.state_dict()), valid_loss, epoch
        if epoch - best_epoch >= training.patience:
            break
    head.load_state_dict(best)
    head.eval()
    return {"epochs": epoch, "best_epoch": best_epoch, "valid_loss": finite_or_none(best_loss)}


def _rows_of(encoded: Mapping[str, Encoded], index: Tensor) -> dict[str, Encoded]:
    return {
        name: Encoded(vector=one.vector[index], present=None if one.present is None else one.present[index])
        for name, one in encoded.items()
    }
