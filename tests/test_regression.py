"""A head that the shared loop trains answers a regression in its own unit, whatever mean and deviation the targets have."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmcl.api import Encoded, HeadSpec, Labelled, NoParams, Task
from mmcl.evaluate.answers import UNIT, loss_of, target_scale
from mmcl.model.heads import fit_head
from mmcl.model.kept import rebuilt
from mmcl.recipe.optimisers import AdamW
from mmcl.recipe.plan import Part
from mmcl.recipe.schema import HeadTraining, Probe

AGE = Task("age", "regression", ("years", "centimetres"))


class Plain(nn.Module):
    """A stranger's head: one linear layer."""

    def __init__(self, params, task, widths):
        super().__init__()
        self.output = nn.Linear(sum(widths.values()), len(task.classes))

    def forward(self, encoded):
        return self.output(torch.cat([one.vector for one in encoded.values()], 1))


class Own(Plain):
    def loss(self, output, target):
        return (output - target).abs().mean()


def part(head):
    spec = HeadSpec("plain", "one linear layer", ("regression",), NoParams, head)
    return Part("head", "plain", spec, NoParams(), "acme", "1.0")


def rows(n, seed, unknown=0.0):
    """Features, and two values of them: about 40 ± 2 and 170 ± 0.01."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=rng)
    target = torch.stack([40 + 2 * x[:, 0] + 0.1 * x[:, 1], 170 + 0.01 * x[:, 2]], 1)
    target[torch.rand(n, 2, generator=rng) < unknown] = torch.nan
    return Labelled({"audio": Encoded(x)}, target)


def fitted(head=Plain, unknown=0.0):
    training = HeadTraining(epochs=60, batch_size=16, optimizer=AdamW(use="adamw", lr=1e-2))
    return fit_head(part(head), AGE, rows(200, 1, unknown), rows(60, 2, unknown), training, (0,))[0]


def test_a_plain_head_is_far_better_than_a_constant_whatever_the_unit():
    train, test = rows(200, 1), rows(100, 3)
    head = fitted(unknown=0.2)
    with torch.no_grad():
        error = (head(test.encoded) - test.target).abs().mean(0)
    constant = (train.target.mean(0) - test.target).abs().mean(0)
    assert (error < 0.3 * constant).all(), (error, constant)


def test_the_same_targets_in_another_unit_give_the_same_head_in_that_unit():
    def moved(one):
        return Labelled(one.encoded, one.target * torch.tensor([100.0, 0.5]) + torch.tensor([-7.0, 3.0]))

    training = Probe().training.model_copy(update={"epochs": 5})
    plain, _ = fit_head(part(Plain), AGE, rows(80, 1), rows(40, 2), training, (0,))
    other, _ = fit_head(part(Plain), AGE, moved(rows(80, 1)), moved(rows(40, 2)), training, (0,))
    test = rows(30, 3)
    with torch.no_grad():
        wanted = moved(Labelled(test.encoded, plain(test.encoded))).target
        torch.testing.assert_close(other(test.encoded), wanted, rtol=1e-3, atol=1e-2)


def test_mean_and_deviation_are_those_of_known_training_rows():
    target = torch.tensor([[1.0, 5.0, float("nan")], [3.0, 5.0, float("nan")], [float("nan"), 5.0, float("nan")]])
    mean, deviation = target_scale(target)
    assert mean.tolist() == [2, 5, 0]
    assert deviation.tolist() == [1, 1, 1]  # of what does not vary, and what nobody knows, 1


def test_the_loss_is_that_of_deviations():
    head = fitted()
    mean, deviation = (getattr(head, name) for name in UNIT)
    test = rows(20, 5)
    with torch.no_grad():
        inner = head.output(test.encoded["audio"].vector)  # what the head's own layer says
        wanted = (inner - (test.target - mean) / deviation).square().mean()
        torch.testing.assert_close(loss_of(head, AGE, head(test.encoded), test.target, None), wanted, rtol=1e-3, atol=1e-5)


def test_a_kept_head_answers_as_the_fitted_one_and_one_from_before_as_it_did():
    head, test = fitted(), rows(20, 5)
    again = rebuilt(part(Plain), AGE, {"audio": 4}, head.state_dict(), "here")
    with torch.no_grad():
        assert torch.equal(again(test.encoded), head(test.encoded))
        assert torch.equal(copy.deepcopy(head)(test.encoded), head(test.encoded))
        before = Plain(NoParams(), AGE, {"audio": 4})
        old = rebuilt(part(Plain), AGE, {"audio": 4}, before.state_dict(), "here")
        assert torch.equal(old(test.encoded), before(test.encoded))


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_other_tasks_and_heads_with_a_loss_of_their_own_are_left_as_they_are(kind):
    assert not hasattr(fitted(Own), UNIT[0])
    task = Task("mood", kind, ("low", "high"))
    one = rows(40, 1)
    target = (one.target[:, 0] > 40).long() if kind == "single-label" else (one.target > 40).float()
    labelled = Labelled(one.encoded, target)
    training = Probe().training.model_copy(update={"epochs": 1})
    assert not hasattr(fit_head(part(Plain), task, labelled, labelled, training, (0,))[0], UNIT[0])
