"""Preset: values that a paper, or its authors' code, gives to the keys of a recipe, under one name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PresetSpec:
    """What a plug-in registers. `mmcl run RECIPE --preset NAME` lays the values over the recipe, before any `--set`.

    sets  "key=value", as `--set` takes them; every key must make sense in any recipe of the paper. "a.b?=value" is laid only over a recipe
          that has an `a` which knows a `b`
    """

    name: str
    summary: str
    sets: tuple[str, ...]
    paper: str = ""
    follows: str = ""
