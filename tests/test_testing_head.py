"""The kit for plug-in authors is kept honest by mutants: each breaks one rule of a head, and must be caught for that."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mmcl.api import HeadSpec, NoParams, Shown
from mmcl.testing import check_head


class Layer(nn.Module):
    def __init__(self, params, task, widths):
        super().__init__()
        self.task = task
        self.layer = nn.Linear(sum(widths.values()), len(task.classes))

    def features(self, encoded):
        return torch.cat([one.vector for one in encoded.values()], 1)

    def forward(self, encoded):
        return self.layer(self.features(encoded))


class LeastSquares(Layer):
    """Brings its own solver."""

    def fit(self, train, valid, generator):
        target = train.target
        if self.task.type == "single-label":
            target = functional.one_hot(target, len(self.task.classes)).float()
        if self.task.type == "multi-label":
            target = target * 2 - 1
        ones = torch.ones(len(target), 1)
        x = torch.cat([self.features(train.encoded), ones], 1).double()
        solution = torch.linalg.lstsq(x.T @ x + 1e-3 * torch.eye(x.shape[1]), x.T @ target.double()).solution.float()
        with torch.no_grad():
            self.layer.weight.copy_(solution[:-1].T)
            self.layer.bias.copy_(solution[-1])
        return {"l2": 1e-3}


class LearnsNothing(Layer):
    def forward(self, encoded):
        return super().forward(encoded).detach() + 0 * self.layer.bias.sum()


class CentresTheBatch(Layer):
    def features(self, encoded):
        features = super().features(encoded)
        return features - features.mean(0)


class DividesByTheVector(Layer):
    def features(self, encoded):
        return torch.cat([one.vector / one.vector.norm(dim=1, keepdim=True) for one in encoded.values()], 1)


class GivesOneOutputMore(Layer):
    def forward(self, encoded):
        return torch.cat([super().forward(encoded)] * 2, 1)


class KeepsWhatItFound(LeastSquares):
    shift = 0.0

    def fit(self, train, valid, generator):
        self.shift = float(len(train.target))
        return super().fit(train, valid, generator)

    def forward(self, encoded):
        return super().forward(encoded) + 1e-3 * self.shift


class DrawsInFit(LeastSquares):
    def fit(self, train, valid, generator):
        facts = super().fit(train, valid, generator)
        self.layer.weight.data += (
            1e-4 * torch.from_numpy(np.random.default_rng().standard_normal(self.layer.weight.shape)).float()
        )
        return facts


class HasAnIdleLayer(Layer):
    def __init__(self, params, task, widths):
        super().__init__(params, task, widths)
        self.idle = nn.Linear(2, 2)


class ShowsItsWeights(Layer):
    """A good one: a table with a hole."""

    def show(self):
        rows = tuple((*row[1:], None) for row in self.layer.weight.tolist())
        return (Shown("weights", self.task.classes, tuple(f"feature {i}" for i in range(len(rows[0]))), rows),)


class ShowsAColumnTooFew(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=tuple(row[:-1] for row in one.values)),)


class ShowsARowTooMany(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=(*one.values, one.values[0])),)


class ShowsInfinity(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=((math.inf, *one.values[0][1:]), *one.values[1:])),)


class ShowsTensors(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=tuple(tuple(torch.ones(len(one.columns))) for _ in one.rows)),)


class ShowsNumbersAlone(ShowsItsWeights):
    def show(self):
        return (super().show()[0].values,)


class ShowsOneTitleTwice(ShowsItsWeights):
    def show(self):
        return (*super().show(), *super().show())


def head(build, tasks=("single-label", "multi-label", "regression")):
    return HeadSpec("tiny", "a tiny head", tasks, NoParams, build, solver=hasattr(build, "fit"))


@pytest.mark.parametrize("build", [Layer, LeastSquares])
def test_head_whose_spec_is_wrong_about_its_solver_is_caught(build):
    spec = HeadSpec("tiny", "a tiny head", ("single-label",), NoParams, build, solver=not hasattr(build, "fit"))
    with pytest.raises(AssertionError, match="HeadSpec.solver is"):
        check_head(spec)


@pytest.mark.parametrize("build", [Layer, LeastSquares, ShowsItsWeights])
def test_good_heads_pass(build):
    check_head(head(build))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (LearnsNothing, "on separable data it reaches"),
        (CentresTheBatch, "a row alone gets another output"),
        (DividesByTheVector, "not finite|missing"),
        (GivesOneOutputMore, r"\[rows, outputs\]"),
        (KeepsWhatItFound, "it gives other outputs"),
        (DrawsInFit, "fitted twice"),
        (HasAnIdleLayer, "'idle.weight' gets no gradient"),
        (ShowsAColumnTooFew, "'weights': has a value for each of 3 rows and 14 columns; found 3 rows of 13 values"),
        (ShowsARowTooMany, "found 4 rows of 14 values"),
        (ShowsInfinity, "plain finite numbers"),
        (ShowsTensors, "plain finite numbers"),
        (ShowsNumbersAlone, "Shown tables, found tuple"),
        (ShowsOneTitleTwice, "have one title"),
    ],
)
def test_head_that_breaks_a_rule_is_caught_for_it(build, words):
    with pytest.raises(AssertionError, match=words):
        check_head(head(build, ("single-label",)))
