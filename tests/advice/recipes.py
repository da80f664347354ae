"""Offers of recipes, plans, searches, reports and reviews, followed."""

from __future__ import annotations

from pathlib import Path

from mmcl.recipe.shipped import find
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.core import call


def _recipe_at(folder: Path, name: str) -> object:
    (folder / "recipe.yaml").write_text("format: 1\n", encoding="utf-8")
    return find(str(folder / name))


RECIPES: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/recipe/shipped.py find",
        "name a recipe's file",
        lambda folder: _recipe_at(folder, "."),
        lambda folder: _recipe_at(folder, "recipe.yaml"),
    ),
    Row(
        "mmcl/review/runs.py runs_in",
        "name the one that your runs lie in",
        lambda folder: call("runs", "list", str(folder / "nowhere")),
        lambda folder: call("runs", "list", str(folder)),
    ),
]
