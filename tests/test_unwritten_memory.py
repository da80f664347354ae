"""No gradient depends on what lay in memory before: of every backbone and shape of the shipped recipes, in bf16 on a processor.

A kernel that reads memory which nobody has written gives NaN now and then, on some processors alone (seen with AMX: oneDNN's weight
gradient of a 1 × 3 × 3 convolution in bf16). So all memory that is handed out is filled first, twice with other bytes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmcl.api import Stream
from mmcl.recipe.planner import load_plan
from mmcl.testing import make_stream

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
M_PERTURB = -6  # of glibc's mallopt: fills what is handed out with the inverse of a byte, what is given back with the byte
POISONS = (0x80, 0x3F)  # handed out: 0x7F…, 3.4e38 in float32 and in bf16, whose sums and products overflow; 0xC0…, -6


def cases() -> Iterator[object]:
    """Every backbone with every set of options and layout that a recipe gives it, once."""
    seen = set()
    for path in RECIPES:
        plan = load_plan(path, data=Path("data"))
        for modality in plan.modalities:
            part = modality.backbone
            if part is None or part.use.startswith("hf-"):  # published weights, which a test has not
                continue
            key = (part.use, str(part.params), str(modality.layout))
            if key not in seen:
                seen.add(key)
                yield pytest.param(plan, modality, id=f"{path.stem}-{modality.name}-{part.use}")


@pytest.fixture
def poison() -> Iterator[object]:
    """Sets the byte; 0 afterwards."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        pytest.skip("memory is poisoned through glibc's mallopt, which is not here")
    yield lambda byte: mallopt(M_PERTURB, byte)
    mallopt(M_PERTURB, 0)


def gradients(plan, modality) -> list[torch.Tensor]:
    """Of all weights, after one backward pass under bf16 autocast."""
    stream = stream_of(plan, modality)
    torch.manual_seed(0)
    network = modality.backbone.spec.build(modality.backbone.params, modality.layout).train()
    torch.manual_seed(1)  # for dropout
    with torch.autocast("cpu", torch.bfloat16):
        vector = network(stream).vector
    if vector.requires_grad:  # false where the backbone passes on what others made
        vector.float().square().mean().backward()
    return [vector.detach().float(), *(p.grad for p in network.parameters() if p.grad is not None)]


def stream_of(plan, modality) -> Stream:
    """Rows as long as the recipe's window, and shorter ones; a single clip where frames are large, for a test's time."""
    layout = modality.layout
    steps = round((plan.recipe.window.seconds or 1.0) * (layout.rate or 10.0))
    return make_stream(layout, [max(2, steps)] if layout.sizes.get("height", 0) > 100 else [max(2, steps), 3, 2])


def test_poison_reaches_the_memory_that_torch_hands_out(poison):
    poison(POISONS[0])
    assert float(torch.empty(1_000_003).max()) > 1e38


@pytest.mark.parametrize(("plan", "modality"), list(cases()))
def test_gradients_in_half_precision_do_not_depend_on_what_lay_in_memory(plan, modality, poison):
    seen = []
    for byte in POISONS:
        poison(byte)
        seen.append(gradients(plan, modality))
        poison(0)
    for one, other in zip(*seen, strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)
