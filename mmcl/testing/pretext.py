"""The checks of a pretext: one vector a recording, every weight learns, rows apart and padding out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..api.batch import Encoded, Stream
from ..api.kinds import Layout
from ..api.loss import Scored
from ..api.pretext import PretextSpec
from .batch import make_stream
from .checks import Check, NotTried, expect, refusal, run_checks
from .general import expect_finite, general_checks, process_check
from .kinds import make_layouts
from .networks import PADDING, expect_close


def check_pretext(spec: PretextSpec, params: Any = None, layouts: Mapping[str, Layout] | None = None) -> None:
    """A pretext gives one vector a recording, learns from every weight, and keeps rows apart and padding out.

    layouts  the modalities to join, where the made-up ones do not fit
    """
    run_checks(pretext_checks(spec, params, layouts))


def pretext_checks(spec: PretextSpec, params: Any = None, layouts: Mapping[str, Layout] | None = None) -> Iterator[Check]:
    """What a pretext promises of the modalities that it joins."""
    params = spec.params() if params is None else params
    if layouts is None:
        _, one, other, *_ = make_layouts(("time", "channel"))
        layouts = {"one": one, "other": other}
    sentence = refusal(functools.partial(spec.fits, params, layouts))
    if sentence is not None:

        def nothing_fits() -> None:
            raise NotTried(f"pretext '{spec.name}': the made-up layouts do not fit ({sentence}); give layouts=")

        yield "made-up modalities fit", nothing_fits
        return
    case = _Case(spec, params, layouts)

    def trial(options: Any, moved: Callable[[Any], None]) -> None:
        spec.fits(options, case.layouts)
        network, streams = spec.build(options, case.layouts), case.streams()
        moved(network)
        moved(streams)
        loss = network.learn(streams).loss
        expect_finite(loss, "the loss")
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation there

    yield process_check(spec, case.subject, params, trial)
    yield "it gives one vector a recording", lambda: _shapes(case)
    yield "more padding changes nothing", lambda: _padding(case)
    yield "rows do not see each other", lambda: _rows_apart(case)
    yield "every weight learns", lambda: _gradient(case)
    yield "a missing modality changes nothing but itself", lambda: _missing(case)

    yield from general_checks(case.subject, params, trial)


@dataclass(frozen=True)
class _Case:
    spec: PretextSpec
    params: Any
    layouts: Mapping[str, Layout]

    @property
    def subject(self) -> str:
        return f"pretext '{self.spec.name}'"

    def streams(self, padding: int = 0, rows: int = 4) -> dict[str, Stream]:
        lengths = (24, 7, 12, 15)[:rows]
        return {name: make_stream(layout, lengths, padding, seed=i) for i, (name, layout) in enumerate(self.layouts.items())}

    def build(self) -> Any:
        import torch

        torch.manual_seed(0)
        return self.spec.build(self.params, self.layouts)


def _shapes(case: _Case) -> None:
    import torch

    one, other = case.build(), case.build()
    expect(
        isinstance(one, torch.nn.Module), f"{case.subject}: build gives a torch.nn.Module, so that it can be trained and saved"
    )
    weights = other.state_dict()
    expect(
        all(torch.equal(value, weights[name]) for name, value in one.state_dict().items()),
        f"{case.subject}: two built under one torch seed differ; draw first weights from torch's generator alone",
    )
    one.eval()
    encoded = one(case.streams())
    expect(
        isinstance(encoded, Encoded) and encoded.vector.shape == (4, one.width) and bool(encoded.vector.isfinite().all()),
        f"{case.subject}: gives an Encoded with a finite vector [rows, width]",
    )
    expect(
        torch.equal(one(case.streams()).vector, encoded.vector),
        f"{case.subject}: in eval mode two calls give different vectors",
    )
    expect(
        bool((encoded.vector - encoded.vector[:1]).any()),
        f"{case.subject}: other recordings get the same vector: what it gives does not depend on what it is given",
    )


def _padding(case: _Case) -> None:
    import torch

    network = case.build().eval()
    with torch.no_grad():
        expect_close(
            network(case.streams(7)).vector,
            network(case.streams()).vector,
            1e-5,
            f"{case.subject}: 7 more padded steps change the vectors. {PADDING}",
        )


def _rows_apart(case: _Case) -> None:
    import torch

    network = case.build().eval()
    with torch.no_grad():
        expect_close(
            network(case.streams(rows=2)).vector,
            network(case.streams()).vector[:2],
            1e-5,
            f"{case.subject}: what it makes of a recording depends on which others stand in the batch",
        )


def _gradient(case: _Case) -> None:
    network = case.build()
    scored = network.learn(case.streams())
    expect(
        isinstance(scored, Scored) and scored.loss.dim() == 0 and bool(scored.loss.isfinite()),
        f"{case.subject}: learn gives a Scored with a finite scalar loss",
    )
    scored.loss.backward()
    still = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    expect(not still, f"{case.subject}: no gradient reaches {', '.join(still)}")
    expect(
        any(p.grad is not None and bool(p.grad.any()) for p in network.parameters()),
        f"{case.subject}: every gradient is zero everywhere, so nothing is learned",
    )


def _missing(case: _Case) -> None:
    import torch

    network, streams = case.build().eval(), case.streams()
    first = next(iter(streams.values()))
    first.present[1] = False
    first.values[1] = 0
    with torch.no_grad():
        whole, without = network(case.streams()).vector, network(streams).vector
    expect(bool(without.isfinite().all()), f"{case.subject}: a recording without one of its modalities gives NaN")
    keep = [0, 2, 3]
    expect_close(without[keep], whole[keep], 1e-5, f"{case.subject}: a modality missing in one recording changes the others")
