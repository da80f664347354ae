"""A linear probe with its penalty chosen over parts of whole groups, against a loop of scikit-learn's LogisticRegression at equal loss."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.side_by_side import Row, gather
from mmcl.api import Encoded, Labelled, Task
from mmcl.plugins import plugins

CLASSES, GROUPS = 8, 5
PENALTIES = tuple(float(value) for value in np.logspace(1, -4, 60))
EVERY = 10  # of the penalties, one in so many is fitted by scikit-learn, on one of the parts; its time is counted so many times
EQUAL = 1e-5  # by how much its losses may be above ours, as a share: the loosest tolerance of its that reaches this is timed
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)


def recordings(n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of deviation 1 with a falling spectrum [n, d], classes that hang on them [n], and groups [n]."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, d, generator=generator) * torch.arange(1, d + 1) ** -0.7
    x = hidden @ torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    x = (x - x.mean(0)) / x.std(0)
    hint = x @ torch.randn(d, CLASSES, generator=generator) / d**0.5 + 0.7 * torch.randn(n, CLASSES, generator=generator)
    return x, hint.argmax(1), torch.arange(n) % GROUPS


def ours(x: Tensor, target: Tensor, group: Tensor) -> dict[str, float]:
    """The head `linear`, its penalty chosen by leaving each group out, as a run fits it."""
    spec = plugins().get("head", "linear").spec
    head = spec.build(spec.params(l2=PENALTIES), Task("mood", "single-label", tuple("abcdefgh")), {"all": x.shape[1]})
    nobody = Labelled({"all": Encoded(x[:0])}, target[:0], group[:0])
    return dict(head.fit(Labelled({"all": Encoded(x)}, target, group), nobody, torch.Generator()))


def theirs(x: Tensor, target: Tensor, penalties: Sequence[float], tolerance: float) -> list[float]:
    """scikit-learn in single precision, one penalty after the other; the losses that it ends with."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    losses = []
    with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
        warnings.simplefilter("ignore", ConvergenceWarning)
        for l2 in penalties:
            model = LogisticRegression(C=1 / (len(x) * l2), tol=tolerance, max_iter=10_000).fit(x.numpy(), target.numpy())
            weight, bias = torch.from_numpy(model.coef_).double(), torch.from_numpy(model.intercept_).double()
            logits = functional.linear(x.double(), weight, bias)
            losses.append(float(functional.cross_entropy(logits, target) + l2 / 2 * weight.square().sum()))
    return losses


def smallest(x: Tensor, target: Tensor, penalties: Sequence[float]) -> list[float]:
    """The losses that the toolkit's solver ends with."""
    from mmcl_heads.solver import SOFTMAX, minimise

    wide, labels = x.double(), functional.one_hot(target).double()
    share = torch.full((1, *labels.shape), 1 / len(x), dtype=torch.float64)
    solution = minimise(SOFTMAX, wide, labels, share, labels.mean(0).log()[None], penalties)
    losses = []
    for l2, weight, bias in zip(penalties, solution.weight[0], solution.bias[0], strict=True):
        losses.append(float(functional.cross_entropy(wide @ weight + bias, target) + l2 / 2 * weight.square().sum()))
    return losses


def probe(n: int, d: int, rounds: int) -> Iterator[Row]:
    """60 penalties × 5 parts, and the fit with the best of them."""
    x, target, group = recordings(n, d)
    some, fitted = PENALTIES[EVERY // 2 :: EVERY], group != 0
    least = smallest(x[fitted], target[fitted], some)
    for tolerance in TOLERANCES:
        losses = theirs(x[fitted], target[fitted], some, tolerance)
        above = max((loss - best) / best for loss, best in zip(losses, least, strict=True))
        if above <= EQUAL:
            break
    measured = []
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        ours(x, target, group)
        middle = time.process_time(), time.perf_counter()
        theirs(x[fitted], target[fitted], some, tolerance)
        times = GROUPS * len(PENALTIES) / len(some)
        end = times * (time.process_time() - middle[0]), times * (time.perf_counter() - middle[1])
        measured.append(((middle[0] - cpu, middle[1] - wall), end))
    facts = {"scikit-learn's tol": tolerance, "its losses above ours by": above}
    yield Row(f"probe, {n} x {d}, 60 penalties x 5 parts", gather(measured, "cpu"), 10.0, 20.0, facts)


WORKLOADS = {"probe-5k-512": partial(probe, 5_000, 512, 3), "probe-23k-2048": partial(probe, 23_000, 2_048, 1)}
