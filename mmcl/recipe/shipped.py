"""The recipes that come with the toolkit, by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..api.errors import RecipeError, UnknownNameError


def folder() -> Path:
    """Where they lie: inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "shipped"
    return inside if any(inside.glob("*.yaml")) else package.parent / "recipes"


def names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(recipe: str, beside: Path = Path()) -> Path:
    """The file of a recipe: a path, or the name of a shipped one. Raises RecipeError or UnknownNameError if there is none.

    beside  folder from which a relative path is taken
    """
    path = beside / recipe
    if path.is_file():
        return path
    if recipe in names():
        return folder() / f"{recipe}.yaml"
    if path.is_dir():
        raise RecipeError(f"{recipe}: is a folder; name a recipe's file")
    if path.suffix in (".yaml", ".yml") or len(Path(recipe).parts) > 1:
        if path.stem in names():
            raise RecipeError(f"{recipe}: there is no such file here; the shipped recipe is called '{path.stem}'")
        raise RecipeError(f"{recipe}: there is no such file{_near(path)}")
    if near := _near(path):
        raise RecipeError(f"{recipe}: there is no such file and no shipped recipe of that name{near}")
    raise UnknownNameError("recipe", recipe, names())


def _near(path: Path) -> str:
    """The offer of a recipe beside a path that nothing has, one of nearly its name; "" if there is none."""
    beside = [one.name for one in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, sorted(beside), n=1, cutoff=0.8)
    return f"; did you mean '{path.parent / near[0]}'?" if near else ""


def heading(path: Path) -> str:
    """The first comment line of a recipe: what it is."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").rstrip().removesuffix(":")
    return ""
