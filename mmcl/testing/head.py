"""The checks of a head: shapes, learning, missing rows, what is kept after fitting."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..api.batch import Encoded
from ..api.dataset import Task
from ..api.head import Deciding, HeadSpec, Labelled, OwnLoss, SelfFitting, Showing, Shown
from .checks import Check, expect, run_checks
from .general import expect_finite, general_checks, process_check
from .networks import expect_close, through_safetensors

if TYPE_CHECKING:
    from torch import Tensor, nn

_WIDTHS = {"voice": 8, "face": 6}


def check_head(spec: HeadSpec, params: Any = None) -> None:
    """A head gives outputs of the right shape for each of its tasks, learns, and takes missing rows."""
    run_checks(head_checks(spec, params))


@dataclass(frozen=True)
class _Case:
    spec: HeadSpec
    params: Any
    task: Task

    @property
    def subject(self) -> str:
        return f"head '{self.spec.name}' for {self.task.type}"

    @property
    def outputs(self) -> int:
        return len(self.task.classes)

    def build(self, widths: Mapping[str, int] | None = None, seed: int = 0) -> nn.Module:
        import torch
        from torch import nn

        torch.manual_seed(seed)
        head: Any = self.spec.build(self.params, self.task, _WIDTHS if widths is None else widths)
        expect(isinstance(head, nn.Module), f"{self.subject}: build gives a torch.nn.Module, found {type(head).__name__}")
        return head  # type: ignore[no-any-return]  # a Module, checked above

    def rows(self, count: int, seed: int, missing: bool = False) -> Labelled:
        """Separable rows: each modality shows the target through a fixed random matrix, with a little noise."""
        import torch

        rng = torch.Generator().manual_seed(seed)
        if self.task.type == "single-label":
            target = torch.arange(count) % self.outputs
            shown = torch.nn.functional.one_hot(target, self.outputs).float() * 3 - 1
        elif self.task.type == "multi-label":
            target = (torch.rand(count, self.outputs, generator=rng) < 0.5).float()
            shown = target * 2 - 1
        else:
            target = torch.randn(count, self.outputs, generator=rng)
            shown = target
        fixed = torch.Generator().manual_seed(99)
        encoded = {}
        for name, width in _WIDTHS.items():
            vector = shown @ torch.randn(self.outputs, width, generator=fixed) + 0.1 * torch.randn(count, width, generator=rng)
            present = torch.ones(count, dtype=torch.bool)
            if missing and name == "face":
                present[::4] = False
            encoded[name] = Encoded(vector * present[:, None], present=present)
        return Labelled(encoded, target)

    @functools.cached_property
    def fitted(self) -> nn.Module:
        """The head, fitted on rows of which nothing is missing."""
        return _fitted(self, self.rows(96, 1), self.rows(48, 2))


def expect_tasks(spec: HeadSpec) -> None:
    """A head names the types of task that it answers."""
    known = ("single-label", "multi-label", "regression")
    expect(
        bool(spec.tasks) and set(spec.tasks) <= set(known),
        f"head '{spec.name}': tasks names types of task ({', '.join(known)}); found {list(spec.tasks)}",
    )


def head_checks(spec: HeadSpec, params: Any = None) -> Iterator[Check]:
    """What a head promises for each of its types of task."""
    params = spec.params() if params is None else params
    if spec.tasks:
        case = _Case(spec, params, _task(spec.tasks[0]))
        yield process_check(spec, f"head '{spec.name}'", params, functools.partial(_trial, case))
    for kind in spec.tasks:
        case = _Case(spec, params, _task(kind))
        for name, check in _CHECKS.items():
            yield f"{name} ({kind})", functools.partial(check, case)
    if spec.tasks:
        case = _Case(spec, params, _task(spec.tasks[0]))
        yield from general_checks(f"head '{spec.name}'", params, functools.partial(_trial, case), tensors=not spec.solver)


def _task(kind: str) -> Task:
    return Task("made-up", kind, ("happy", "sad", "angry") if kind != "regression" else ("x", "y"))


def _trial(case: _Case, params: Any, moved: Callable[[Any], None]) -> None:
    """Build it, fit it if it fits itself, and answer once."""
    import torch

    head: Any = case.spec.build(params, case.task, _WIDTHS)
    rows = case.rows(24, 1)
    moved(head)
    moved(rows)
    if isinstance(head, SelfFitting):
        head.fit(rows, case.rows(12, 2), torch.Generator().manual_seed(0))
    output = head(rows.encoded)
    expect_finite(output, "what it answers")


def _fitted(case: _Case, train: Labelled, valid: Labelled, steps: int = 150) -> nn.Module:
    """The head after `fit`, or after a plain loop of so many steps where it has none."""
    import torch
    from torch.nn import functional

    head = case.build()
    expect(
        isinstance(head, SelfFitting) == case.spec.solver,
        f"{case.subject}: HeadSpec.solver is {case.spec.solver}, but what it builds {'has' if isinstance(head, SelfFitting) else 'has no'} "
        "`fit`; solver: True tells recipes that encoders cannot be trained through this head",
    )
    if isinstance(head, SelfFitting):
        chosen = head.fit(train, valid, torch.Generator().manual_seed(0))
        expect(
            isinstance(chosen, Mapping) and all(isinstance(value, int | float) for value in chosen.values()),
            f"{case.subject}: fit tells what it chose, as a mapping of numbers for the log; found {chosen!r}",
        )
        if getattr(head, "draws", True) is False:
            other = case.build(seed=7)
            expect(
                isinstance(other, SelfFitting) and other.fit(train, valid, torch.Generator().manual_seed(1)) == chosen,
                f"{case.subject} says draws = False, but another seed makes another head of the same rows",
            )
        return head.eval()
    losses: dict[str, Callable[..., Tensor]] = {
        "single-label": functional.cross_entropy,
        "multi-label": functional.binary_cross_entropy_with_logits,
        "regression": functional.mse_loss,
    }
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        output = head(train.encoded)
        make = cast(OwnLoss, head).loss if isinstance(head, OwnLoss) else losses[case.task.type]
        torch.autograd.backward(make(output, train.target))
        optimizer.step()
    return head.eval()


def _shapes(case: _Case) -> None:
    for widths in (_WIDTHS, {"voice": 8}):
        head = case.build(widths).eval()
        for count in (5, 1):
            encoded = {name: one for name, one in case.rows(count, 0).encoded.items() if name in widths}
            output = head(encoded)
            expect(
                tuple(output.shape) == (count, case.outputs) and output.is_floating_point(),
                f"{case.subject} with {', '.join(widths)}: gives [rows, outputs] = {(count, case.outputs)}, one output for "
                f"each of {', '.join(case.task.classes)}; found {output.dtype} {tuple(output.shape)}",
            )


def _learns(case: _Case) -> None:
    import torch

    head = case.fitted
    test = case.rows(96, 3)
    with torch.no_grad():
        output = head(test.encoded)
        output = head.decide(output) if isinstance(head, Deciding) else output
    if case.task.type == "single-label":
        score, chance, measure = float((output.argmax(1) == test.target).float().mean()), 1 / case.outputs, "accuracy"
    elif case.task.type == "multi-label":
        score, chance, measure = float(((output > 0) == (test.target > 0.5)).float().mean()), 0.5, "accuracy"
    else:
        error = (output - test.target).square().mean() / test.target.square().mean()
        score, chance, measure = 1 - float(error), 0.0, "R²"
    wanted = (1 + chance) / 2
    expect(
        score >= wanted,
        f"{case.subject}: on separable data it reaches {measure} {score:.2f} where guessing gives {chance:.2f}; at least "
        f"{wanted:.2f} is expected. Outputs stand in the order of task.classes, before softmax or sigmoid",
    )


def _state(case: _Case) -> None:
    """Answers are a row's own: the same asked twice, and after other rows."""
    import torch

    head, rows = case.fitted, case.rows(32, 3).encoded
    with torch.no_grad():
        wanted = head(rows)
        head(case.rows(17, 4).encoded)
        again = head(rows)
    expect(
        torch.equal(wanted, again),
        f"{case.subject}: in eval mode, the same rows are answered otherwise once other rows have been asked about; keep nothing between calls, "
        "and drop nothing but in training",
    )


def _unknown_targets(case: _Case) -> None:
    """A loss of its own leaves out what is not labelled."""
    import torch

    head = case.build()
    if not isinstance(head, OwnLoss) or case.task.type == "single-label":
        return
    rows = case.rows(16, 1)
    target = rows.target.clone()
    target[::3] = math.nan
    loss = head.loss(head(rows.encoded), target)
    expect(
        bool(torch.isfinite(loss)),
        f"{case.subject}: a target that is NaN (unknown) makes its loss {float(loss.detach())}; leave such targets out",
    )


def _missing(case: _Case) -> None:
    import torch

    head = _fitted(case, case.rows(64, 1, missing=True), case.rows(32, 2, missing=True), steps=20)
    rows = case.rows(32, 3, missing=True)
    with torch.no_grad():
        output = head(rows.encoded)
        first = head(
            {
                name: Encoded(one.vector[:1], present=one.present[:1])
                for name, one in rows.encoded.items()
                if one.present is not None
            }
        )
    expect(
        bool(output.isfinite().all()),
        f"{case.subject}: a row whose modality is missing (zeros, present=False) gives a value that is not finite",
    )
    expect_close(
        first,
        output[:1],
        1e-5,
        f"{case.subject}: in eval mode, a row alone gets another output than among others",
    )


def _gradient(case: _Case) -> None:
    head = case.build()
    if isinstance(head, SelfFitting):
        return
    output = head(case.rows(32, 0).encoded)
    output.square().sum().backward()
    for name, parameter in head.named_parameters():
        expect(
            not parameter.requires_grad or parameter.grad is not None,
            f"{case.subject}: parameter '{name}' gets no gradient: it is unused or cut off by detach",
        )
    grads = [p.grad for p in head.parameters() if p.grad is not None]
    expect(
        not grads or any(bool(grad.any()) for grad in grads),
        f"{case.subject}: every parameter's gradient is zero everywhere, so nothing is learned",
    )


def _saving(case: _Case) -> None:
    import torch

    head = case.fitted
    other = case.build(seed=7).eval()
    other.load_state_dict(through_safetensors(head, case.subject))
    with torch.no_grad():
        rows = case.rows(32, 3).encoded
        same = torch.equal(head(rows), other(rows))
    expect(
        same,
        f"{case.subject}: saved after fitting and loaded into a newly built head, it gives other outputs; whatever fitting "
        "finds must be a parameter or a persistent buffer",
    )


def _repeats(case: _Case) -> None:
    import torch

    rows = case.rows(32, 3).encoded
    one, other = (_fitted(case, case.rows(96, 1), case.rows(48, 2), steps=20)(rows).detach() for _ in range(2))
    expect(
        torch.equal(one, other),
        f"{case.subject}: fitted twice on the same rows with the same seed, it differs; rng from the generator that fit is "
        "given alone",
    )


def _shows(case: _Case) -> None:
    head = case.fitted
    if not isinstance(head, Showing):
        return
    tables = list(head.show())
    for one in tables:
        expect(isinstance(one, Shown), f"{case.subject}: show gives mmcl.api.Shown tables, found {type(one).__name__}")
        where = f"{case.subject}, shown table '{one.title}'"
        names = (*one.rows, *one.columns)
        expect(
            bool(one.title)
            and isinstance(one.rows, tuple)
            and isinstance(one.columns, tuple)
            and all(isinstance(n, str) for n in names),
            f"{where}: has a title, and tuples of names for rows and columns",
        )
        lengths = sorted({len(row) for row in one.values})
        expect(
            len(one.values) == len(one.rows) and all(length == len(one.columns) for length in lengths),
            f"{where}: has a value for each of {len(one.rows)} rows and {len(one.columns)} columns; found {len(one.values)} rows of "
            f"{' or '.join(map(str, lengths)) or 'no'} values",
        )
        expect(
            all(v is None or (isinstance(v, int | float) and math.isfinite(v)) for row in one.values for v in row),
            f"{where}: its values are plain finite numbers (tensor.tolist()), or None where nothing stands",
        )
    titles = [one.title for one in tables]
    expect(
        len(set(titles)) == len(titles), f"{case.subject}: two of the tables that it shows have one title ({', '.join(titles)})"
    )


_CHECKS: Mapping[str, Callable[[_Case], None]] = {
    "outputs have the shape of the task": _shapes,
    "it learns what can be learned": _learns,
    "it keeps nothing between calls": _state,
    "unknown targets are left out": _unknown_targets,
    "missing rows are taken": _missing,
    "every parameter gets a gradient": _gradient,
    "what fitting found is saved": _saving,
    "fitting twice gives the same": _repeats,
    "what it shows are tables of numbers": _shows,
}
