"""The checks of a backbone: shapes, padding, rows, gradients, weights on disk, half precision."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..api.backbone import BackboneSpec
from ..api.batch import Encoded, Stream
from ..api.kinds import Layout
from .batch import make_stream, row_of
from .checks import Check, NotTried, expect, refusal, run_checks
from .general import expect_finite, general_checks, process_check
from .kinds import expect_axes, make_layouts
from .networks import PADDING, expect_close, through_safetensors

if TYPE_CHECKING:
    from torch import Tensor, nn


def check_backbone(spec: BackboneSpec, params: Any = None, layout: Layout | None = None) -> None:
    """A backbone keeps the contract: padding, rows, gradients, weights on disk, half precision.

    layout  made up for each of `accepts` if left out
    """
    run_checks(backbone_checks(spec, params, layout))


@dataclass(frozen=True)
class _Case:
    """One backbone with options, on one layout."""

    spec: BackboneSpec
    params: Any
    layout: Layout

    @property
    def subject(self) -> str:
        return f"backbone '{self.spec.name}' on {self.layout}"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Long, short and a single step, in one batch."""
        return (10, 3, 1, 6) if "height" in self.layout.axes else (24, 7, 1, 15)

    def stream(self, padding: int = 0, lengths: Sequence[int] | None = None) -> Stream:
        return make_stream(self.layout, self.lengths if lengths is None else lengths, padding)

    def build(self, seed: int = 0, params: Any = None) -> nn.Module:
        import torch
        from torch import nn

        torch.manual_seed(seed)
        network: Any = self.spec.build(self.params if params is None else params, self.layout)
        expect(
            isinstance(network, nn.Module),
            f"{self.subject}: build gives a torch.nn.Module, so that it can be trained and saved; found "
            f"{type(network).__name__}",
        )
        return network  # type: ignore[no-any-return]  # a Module, checked above

    def used(self, seed: int = 0, params: Any = None) -> nn.Module:
        """A network as after some training: at first many biases are 0 and hide what padding does."""
        import torch

        network = self.build(seed, params)
        with torch.no_grad():
            network.train()
            network(self.stream(lengths=(max(self.lengths),) * 6))  # BatchNorm's running statistics move
            for parameter in network.parameters():
                if parameter.dim() <= 1 or not parameter.any():  # those that begin at zero hide what stands before them
                    parameter.add_(torch.randn(parameter.shape), alpha=0.1)
        return network.eval()


def backbone_checks(spec: BackboneSpec, params: Any = None, layout: Layout | None = None) -> Iterator[Check]:
    """What a backbone promises, on each layout that it takes."""
    params = spec.params() if params is None else params
    chosen = [layout]
    if layout is None:
        chosen = []
        for axes in spec.accepts:
            fitting = [one for one in make_layouts(axes) if refusal(functools.partial(spec.fits, params, one)) is None]
            chosen.append(fitting[0] if fitting else None)
            if not fitting:
                yield f"a made-up {' × '.join(axes)} fits", functools.partial(_no_layout_fits, spec, params, axes)
    first = next((one for one in chosen if one is not None), None)
    fine = first is not None and refusal(functools.partial(spec.fits, params, first)) is None  # else `_fits` says so
    trial = functools.partial(_trial, spec, first) if first is not None and fine else None
    if trial is not None:
        yield process_check(spec, f"backbone '{spec.name}'", params, trial)
    for one in chosen:
        if one is None:
            continue
        case = _Case(spec, params, one)
        for name, check in _CHECKS.items():
            if spec.departs and name == "rows do not see each other":
                continue
            if one.timed or not name.startswith("more padding"):
                yield f"{name} ({' × '.join(one.axes)})", functools.partial(check, case)
    if trial is not None:
        yield from general_checks(f"backbone '{spec.name}'", params, trial)


def _trial(spec: BackboneSpec, layout: Layout, params: Any, moved: Callable[[Any], None]) -> None:
    """Build, encode and go back once; another layout where the options ask for it."""
    fitting = [
        one for one in (layout, *make_layouts(layout.axes)) if refusal(functools.partial(spec.fits, params, one)) is None
    ]
    if not fitting:
        raise ValueError("fits takes none of the made-up layouts")
    network: Any = spec.build(params, fitting[0])
    stream = make_stream(fitting[0], (5, 2))
    moved(network)
    moved(stream)
    encoded = network.train()(stream)
    expect(encoded.vector.shape[0] == 2 and encoded.vector.shape[1] == network.width, "the vector is not [rows, width]")
    expect_finite(encoded.vector, "the vector")
    if encoded.vector.requires_grad:
        encoded.vector.square().sum().backward()


def _no_layout_fits(spec: BackboneSpec, params: Any, axes: tuple[str, ...]) -> None:
    reasons = "; ".join(sorted({refusal(functools.partial(spec.fits, params, one)) or "" for one in make_layouts(axes)}))
    raise NotTried(
        f"backbone '{spec.name}' takes none of the layouts {' × '.join(axes)} made up here ({reasons}); give it one that it "
        "takes: check_backbone(spec, layout=…)"
    )


def expect_accepts(spec: BackboneSpec) -> None:
    """A backbone names the axes that it takes."""
    for axes in spec.accepts:
        expect_axes(f"backbone '{spec.name}'", axes)
    expect(bool(spec.accepts), f"backbone '{spec.name}': accepts names no axes, so no stream can ever reach it")


def ask_fits(spec: BackboneSpec) -> str:
    """Ask whether made-up layouts fit, as a plan does before anything is built."""
    for axes in spec.accepts:
        for layout in make_layouts(axes):
            refusal(functools.partial(spec.fits, spec.params(), layout))
    return f"fits of '{spec.name}'"


def _real_steps(encoded: Encoded, row: int) -> Tensor:
    """The sequence of one row without its padding."""
    assert encoded.sequence is not None
    assert encoded.steps is not None
    return encoded.sequence[row][encoded.steps[row]]


def _same_encoding(got: Encoded, wanted: Encoded, rows: Sequence[tuple[int, int]], tolerance: float, sentence: str) -> None:
    """Compare rows of two encodings, (row of the one, row of the other)."""
    for left, right in rows:
        expect_close(got.vector[left], wanted.vector[right], tolerance, f"{sentence}: the vector differs")
        if got.sequence is not None and wanted.sequence is not None:
            expect_close(_real_steps(got, left), _real_steps(wanted, right), tolerance, f"{sentence}: the sequence differs")


def _fits(case: _Case) -> None:
    expect(
        case.layout.axes in case.spec.accepts,
        f"{case.subject}: accepts names {case.spec.accepts}, so a recipe could never hand it this layout",
    )
    sentence = refusal(functools.partial(case.spec.fits, case.params, case.layout))
    if sentence is not None:
        raise AssertionError(f"{case.subject}: fits refuses this layout: {sentence}")


def _shapes(case: _Case) -> None:
    import torch

    network: Any = case.build().eval()
    width = getattr(network, "width", None)
    expect(
        isinstance(width, int) and width > 0,
        f"{case.subject}: `width`, the size of its vector, is an attribute of the network and a positive whole number; found "
        f"{width!r}",
    )
    for lengths in (case.lengths, (1,), (max(case.lengths),)):
        stream = case.stream(lengths=lengths)
        before = stream.values.clone(), stream.steps.clone()
        encoded = network(stream)
        where = f"{case.subject}, {len(lengths)} rows of {max(lengths)} steps"
        expect(isinstance(encoded, Encoded), f"{where}: gives an mmcl.api.Encoded, found {type(encoded).__name__}")
        expect(
            encoded.vector.shape == (len(lengths), width),
            f"{where}: the vector is [rows, width] = {(len(lengths), width)}, found {tuple(encoded.vector.shape)}",
        )
        expect(bool(encoded.vector.isfinite().all()), f"{where}: the vector holds a NaN or an infinite value")
        expect(
            torch.equal(before[0], stream.values) and torch.equal(before[1], stream.steps),
            f"{where}: the stream it was given is changed; the batch is used again after it",
        )
        if encoded.sequence is None and encoded.steps is None:
            continue
        expect(
            encoded.sequence is not None and encoded.steps is not None,
            f"{where}: a sequence comes together with its steps, since a head has to know which are real",
        )
        expect(
            encoded.sequence.dim() == 3
            and encoded.sequence.shape[0] == len(lengths)
            and encoded.steps.shape == encoded.sequence.shape[:2]
            and encoded.steps.dtype == torch.bool,
            f"{where}: sequence is [rows, T', D] and steps bool [rows, T']; found {tuple(encoded.sequence.shape)} and "
            f"{encoded.steps.dtype} {tuple(encoded.steps.shape)}",
        )
        expect(bool(encoded.steps.any(1).all()), f"{where}: a row of the sequence has no real step left")
        expect(bool(_real_steps(encoded, 0).isfinite().all()), f"{where}: the sequence holds a NaN or an infinite value")


def _extremes(case: _Case) -> None:
    """Long streams, constant ones, and ones in which nothing moves."""
    import torch

    network = case.used()
    long = (40 if "height" in case.layout.axes else 1100) if case.layout.timed else 1
    if isinstance(longest := case.layout.notes.get("longest"), int):  # streams of tokens say how long they are at most
        long = min(long, longest)
    with torch.no_grad():
        for what, lengths in ((f"a stream of {long:,} steps", (long,)), ("a stream of constant values", (9, 4))):
            stream = case.stream(lengths=lengths)
            if what.endswith("values"):
                stream.values = torch.where(_spread(stream), stream.values.new_ones(()), 0)
            try:
                vector = network(stream).vector
            except Exception as error:
                raise AssertionError(
                    f"{case.subject}: {what} raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; "
                    "recordings are as long as they are, and some sensors stand still"
                ) from error
            expect(bool(vector.isfinite().all()), f"{case.subject}: {what} gives a vector that is not finite")
        vector = network(case.stream()).vector
    far = float((vector - vector[:1]).abs().max())
    expect(
        far > 1e-7 * float(vector.abs().max()),
        f"{case.subject}: other recordings get the same vector: what it gives does not depend on what it is given",
    )


def _spread(stream: Stream) -> Tensor:
    """`steps`, of the shape of `values`."""
    if stream.steps.shape[1] == 1 and stream.values.shape[1] != 1:
        return stream.steps.view(-1, *[1] * (stream.values.ndim - 1)).expand_as(stream.values)
    return stream.steps.view(*stream.steps.shape, *[1] * (stream.values.ndim - 2)).expand_as(stream.values)


def _repeats(case: _Case) -> None:
    import torch

    one, other = case.build(seed=5), case.build(seed=5)
    weights, again = one.state_dict(), other.state_dict()
    for name in weights:
        expect(
            torch.equal(weights[name], again[name]),
            f"{case.subject}: two networks built under one torch seed differ in '{name}'; draw first weights from torch's "
            "generator alone, or no run can be repeated",
        )
    network, stream = case.used(), case.stream()
    expect(
        torch.equal(network(stream).vector, network(stream).vector),
        f"{case.subject}: in eval mode, two calls on one stream give different vectors; is a dropout applied without asking "
        "`self.training`?",
    )
    with torch.no_grad():
        wanted = network(stream).vector
        network(case.stream(lengths=case.lengths[::-1]))
        expect(
            torch.equal(network(stream).vector, wanted),
            f"{case.subject}: in eval mode, a stream gives another vector once another stream has been encoded; keep nothing between calls",
        )
        kept = {name: value.clone() for name, value in network.state_dict().items()}
        network(case.stream(lengths=(max(case.lengths),) * 3))
        moved = [name for name, value in network.state_dict().items() if not torch.equal(value, kept[name])]
    expect(not moved, f"{case.subject}: in eval mode a call changes {', '.join(moved)}; statistics move in training alone")


def _padding(case: _Case) -> None:
    import torch

    network = case.used()
    rows = [(i, i) for i in range(len(case.lengths))]
    with torch.no_grad():
        wanted = network(case.stream())
        for padding in (1, 9):
            got = network(case.stream(padding))
            sentence = f"{case.subject}: {padding} more padded steps change what it makes of a recording. {PADDING}"
            _same_encoding(got, wanted, rows, 1e-5, sentence)


def _without_dropout(case: _Case) -> nn.Module:
    """The network in train mode with nothing random left, as far as that can be reached from outside."""
    from torch import nn

    still = {
        name: 0.0 for name in type(case.params).model_fields if "drop" in name and isinstance(getattr(case.params, name), float)
    }
    network = case.used(params=case.params.model_copy(update=still))
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return network.train()


def _padding_in_training(case: _Case) -> None:
    import torch

    network = _without_dropout(case)
    copies = [copy.deepcopy(network) for _ in range(4)]
    rows = [(i, i) for i in range(len(case.lengths))]
    with torch.no_grad():
        torch.manual_seed(1)
        wanted = copies[0](case.stream())
        torch.manual_seed(2)
        again = copies[1](case.stream())
        if not torch.equal(wanted.vector, again.vector):
            raise NotTried(
                f"{case.subject}: with its dropout at 0 it is still random in train mode, so padding can't be told from "
                "chance; pass params that switch everything random off"
            )
        got = copies[2](case.stream(padding=9))
    sentence = f"{case.subject}: in train mode, more padded steps change what it makes of a recording. {PADDING}"
    _same_encoding(got, wanted, rows, 1e-4, sentence)
    for (name, one), (_, other) in zip(copies[0].named_buffers(), copies[2].named_buffers(), strict=True):
        expect_close(
            other.float(),
            one.float(),
            1e-4,
            f"{case.subject}: in train mode, more padded steps change '{name}'. Normalise over real steps alone, as in "
            "norm(x[stream.steps]); statistics that hold filler are wrong for every later recording",
        )


def _rows_apart(case: _Case) -> None:
    import torch

    network = case.used()
    lengths = case.lengths
    with torch.no_grad():
        together = network(case.stream())
        order = [2, 0, 3, 1]
        stream = case.stream()
        turned = network(Stream(stream.values[order], stream.steps[order], stream.present[order]))
        sentence = f"{case.subject}: in eval mode, rows in another order give other vectors. A recording's vector is its own"
        _same_encoding(turned, together, list(enumerate(order)), 1e-5, sentence)
        changed = case.stream()
        other = 3 * changed.values if case.layout.measured else make_stream(case.layout, lengths, seed=1).values
        changed.values[1:] = other[1:]
        sentence = (
            f"{case.subject}: in eval mode, other recordings in the batch change a recording's vector. Normalise with running "
            "statistics there (BatchNorm does, in eval mode), never with the batch's own"
        )
        _same_encoding(network(changed), together, [(0, 0)], 1e-5, sentence)
        for row in range(len(lengths)):
            length = lengths[row] if case.layout.timed else None
            what = "" if length is None else f"of {length} step(s) "
            sentence = f"{case.subject}: in eval mode, a recording {what}alone is not encoded as within a batch. {PADDING}"
            _same_encoding(network(row_of(stream, row, length)), together, [(0, row)], 1e-5, sentence)


def _gradient(case: _Case) -> None:
    network = case.used().train()
    weights = list(network.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        warnings.warn(
            f"{case.subject}: frozen on purpose: it sets requires_grad=False for all of its weights, so none learns",
            stacklevel=2,
        )
        return
    encoded = network(case.stream())
    total = encoded.vector.float().square().sum()
    if encoded.sequence is not None:
        total = total + sum(_real_steps(encoded, row).float().square().sum() for row in range(len(case.lengths)))
    expect(total.requires_grad, f"{case.subject}: the vector has no gradient at all; is something detached, or under no_grad?")
    total.backward()
    learning = [p.grad for p in network.parameters() if p.requires_grad and p.grad is not None]
    expect(
        not learning or any(bool(grad.any()) for grad in learning),
        f"{case.subject}: every parameter's gradient is zero everywhere, so nothing is learned",
    )
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            raise AssertionError(
                f"{case.subject}: parameter '{name}' gets no gradient: it is unused, or cut off by detach; distributed "
                "training would wait for it for ever. Leave it out, or set requires_grad=False if it is meant to stay as it is"
            )
        expect(
            bool(parameter.grad.isfinite().all()), f"{case.subject}: the gradient of '{name}' holds a NaN or an infinite value"
        )
    idle = [name for name, one in network.named_parameters() if one.dim() > 1 and one.grad is not None and not one.grad.any()]
    if idle and case.layout.timed:  # what weighs steps has nothing to weigh where so few are left
        long = network(case.stream(lengths=(40, 33)))
        long.vector.float().square().sum().backward()
        grads = {name: network.get_parameter(name).grad for name in idle}
        idle = [name for name, grad in grads.items() if grad is None or not grad.any()]
    expect(
        not idle,
        f"{case.subject}: the gradient of '{idle[0] if idle else ''}' is zero everywhere: it takes part in name alone, and would never learn",
    )


def _saving(case: _Case) -> None:
    import torch

    network = case.used(seed=1)
    saved = through_safetensors(network, case.subject)
    again = replace(case, spec=replace(case.spec, build=case.spec.rebuild or case.spec.build))
    other = again.build(seed=2).eval()
    try:
        other.load_state_dict(saved)
    except RuntimeError as error:
        raise AssertionError(
            f"{case.subject}: saved weights do not fit a network that is built for them ({str(error).splitlines()[-1].strip()}); `rebuild`, "
            "where there is one, gives the network that `build` gives, whatever its weights"
        ) from error
    with torch.no_grad():
        same = torch.equal(network(case.stream()).vector, other(case.stream()).vector)
    expect(
        same,
        f"{case.subject}: saved weights, loaded into a newly built network, give other vectors; what `build` draws or training "
        "moves must be a parameter or a persistent buffer",
    )


def _half(case: _Case) -> None:
    import torch

    network = case.used().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vector = network(case.stream()).vector
    if vector.requires_grad:  # one that is frozen on purpose has no gradient
        vector.float().square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    expect(
        bool(vector.isfinite().all()) and all(bool(g.isfinite().all()) for g in gradients),
        f"{case.subject}: under bfloat16 autocast the vector or a gradient is not finite; do exponentials, divisions and sums "
        "over many steps in float32, and mask with torch.finfo(x.dtype).min",
    )


_CHECKS: Mapping[str, Callable[[_Case], None]] = {
    "it takes this layout": _fits,
    "shapes and width are as promised": _shapes,
    "one seed gives one network, one stream one vector": _repeats,
    "long and constant streams are encoded, others otherwise": _extremes,
    "more padding changes nothing": _padding,
    "more padding changes nothing while training": _padding_in_training,
    "rows do not see each other": _rows_apart,
    "every parameter gets a gradient": _gradient,
    "saved weights come back exactly": _saving,
    "half precision stays finite": _half,
}
