"""The recipes that come with the toolkit, by name."""

from __future__ import annotations

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
        raise RecipeError(f"{recipe}: there is no such file")
    raise UnknownNameError("recipe", recipe, names())


def heading(path: Path) -> str:
    """The first comment line of a recipe: what it is."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").rstrip().removesuffix(":")
    return ""
