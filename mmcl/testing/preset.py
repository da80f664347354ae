"""The checks of a preset: every value is one that `--set` takes."""

from __future__ import annotations

from collections.abc import Iterator

from ..api.preset import PresetSpec
from .checks import Check, expect


def preset_checks(spec: PresetSpec) -> Iterator[Check]:
    """What a preset says that it sets."""
    yield "every value is KEY=VALUE", lambda: _sets(spec)


def _sets(spec: PresetSpec) -> None:
    expect(bool(spec.sets), f"preset '{spec.name}': sets nothing")
    wrong = [
        one
        for one in spec.sets
        if "=" not in one
        or not one.split("=")[0].removesuffix("?").replace(".", "").replace("_", "").replace("-", "").isalnum()
    ]
    expect(not wrong, f"preset '{spec.name}': {wrong[:1]} is not KEY=VALUE, such as pretrain.epochs=5")
