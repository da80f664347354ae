"""What is installed, whatever state it is in: an interrupted pip leaves folders of metadata that have no name, or are cut short.

What a plug-in's code was is known by a hash of its files, taken once a process, when a plan first names it.

The standard library lists entry points by walking over every distribution, and one that cannot be read ends the walk with a TypeError,
in pydantic and torch as much as here. Such a folder is set aside, for this process alone, before any of them looks.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

GROUP = "mmcl"
WHOLE = 4 * 2**20
"""Bytes up to which a plug-in's file counts with all that it holds; of a larger one, its size and its first and last WHOLE / 2."""
PASSED = frozenset({"__pycache__"})
"""Folders of a package that are none of its code; those and files that begin with a dot, and what Python compiles, are passed over."""


def set_aside_damaged() -> None:
    """Let the standard library pass over distributions that it cannot list; nothing is changed where it can list them all."""
    try:
        importlib.metadata.entry_points(group=GROUP)
    except Exception:  # noqa: BLE001 - a damaged file may raise anything
        every = importlib.metadata.distributions

        def distributions(**narrowed: Any) -> Iterator[Distribution]:
            return (one for one in every(**narrowed) if _listed(one))

        vars(importlib.metadata)["distributions"] = distributions


def _listed(one: Distribution) -> bool:
    """Whether the standard library can list a distribution's entry points."""
    try:
        return bool(getattr(one, "_normalized_name", one.name)) and one.entry_points is not None
    except Exception:  # noqa: BLE001 - as above
        return False


def entry_points() -> Iterator[EntryPoint]:
    """Every entry point of the group `mmcl`, those of damaged distributions among them, where their list can be read."""
    for one in Distribution.discover():
        try:
            points = one.entry_points
        except Exception:  # noqa: BLE001 - as above
            continue
        yield from (point for point in points if point.group == GROUP)


def damage(one: Distribution) -> str | None:
    """Why a distribution is no whole one, with its folder; None for a whole one."""
    try:
        if one.name:
            return None
        why = "has no METADATA with a name"
    except Exception as error:  # noqa: BLE001 - as above
        why = f"has METADATA that cannot be read ({type(error).__name__})"
    folder = getattr(one, "_path", None) or one.locate_file("")
    return f"{folder}: {why}, as an interrupted installation leaves it; install the package again, or remove the folder"


def unmet(one: Distribution, version: str) -> str | None:
    """Why a distribution does not go with this version of mmcl, by the versions of mmcl that it asks for; None if it does, or asks for none."""
    asked = [
        line for line in one.metadata.get_all("Requires-Dist") or () if re.match(r"mmcl\b(?![-_.]\w)", line, re.IGNORECASE)
    ]
    for line in asked:
        from packaging.requirements import InvalidRequirement, Requirement  # late: most have no such line

        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue  # pip would not have installed it
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if applies and not wanted.specifier.contains(version, prereleases=True):
            return f"asks for mmcl{wanted.specifier}, and {version} is installed; install a release of {one.name} for this mmcl, or an mmcl of those versions"
    return None


@functools.cache
def code_of(module: str, package: str | None = None) -> str:
    """What a plug-in's files hold, as 16 hexadecimal digits: those of the package that its entry point lies in; "" if it lies in no file.

    module   the module of its entry point, such as "acme_networks.mmcl"
    package  distribution whose other packages count with it, as far as it lists them (an editable one lists none); None: the module's alone

    It is read once a process, as Python reads code once.
    """
    roots = [*roots_of(module), *(_others(package) if package else ())]
    files = sorted({name: path for root in roots for name, path in _files(root)}.items())
    total = hashlib.sha256()
    for name, path in files:
        total.update(f"{len(name)} {name} {path.stat().st_size} ".encode())
        for part in _parts(path):
            total.update(part)
    return total.hexdigest()[:16] if files else ""


def roots_of(module: str) -> list[Path]:
    """The folder of the outermost regular package that a module lies in, or the file of a module that lies in none."""
    names = module.partition(":")[0].split(".")
    for k in range(1, len(names) + 1):
        try:
            spec = importlib.util.find_spec(".".join(names[:k]))
        except (ImportError, ValueError):  # it cannot be imported, or is no module of a file
            return []
        if spec is None:
            return []
        if spec.origin is not None and spec.has_location:  # else a namespace, which other distributions share
            origin = Path(spec.origin)
            return [origin.parent if spec.submodule_search_locations else origin]
    return []


def names_used(module: str, names: Mapping[str, Container[str]]) -> dict[str, str]:
    """Which of the names of some modules a plug-in's files use, written as "module.name" → where first, as "file line 3". Nothing is imported."""
    used: dict[str, str] = {}
    for name, path in sorted({name: path for root in roots_of(module) for name, path in _files(root)}.items()):
        if path.suffix != ".py":
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue  # whoever imports it is told
        for at, line in _uses(tree, names):
            used.setdefault(at, f"{name} line {line}")
    return used


def _uses(tree: ast.Module, names: Mapping[str, Container[str]]) -> Iterator[tuple[str, int]]:
    """(module.name, line) of every use in a file: imported from the module, or as an attribute of it under whatever name."""
    known = {module: module for module in names}  # what a module is called in this file → the module
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for one in node.names:
                whole = f"{node.module}.{one.name}"
                if one.name in names.get(node.module, ()):
                    yield whole, node.lineno
                elif whole in names:  # from mmcl import api
                    known[one.asname or one.name] = whole
        elif isinstance(node, ast.Import):
            known |= {one.asname: one.name for one in node.names if one.asname and one.name in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = known.get(ast.unparse(node.value))
            if owner is not None and node.attr in names[owner]:
                yield f"{owner}.{node.attr}", node.lineno


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a package, named from the package on."""
    if root.is_file():
        yield root.name, root
    for folder, inner, names in os.walk(root):
        inner[:] = [one for one in inner if one not in PASSED and not one.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and not name.endswith((".pyc", ".pyo", "~")) and path.is_file():
                yield path.relative_to(root.parent).as_posix(), path


def _parts(path: Path) -> Iterable[bytes]:
    """What of a file counts."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= WHOLE:
            yield file.read()
            return
        yield file.read(WHOLE // 2)
        file.seek(size - WHOLE // 2)
        yield file.read()


def _others(package: str) -> list[Path]:
    """The packages and modules at the top of an installed distribution, as far as its list of files names them."""
    try:
        one = importlib.metadata.distribution(package)
        files = one.files or []
    except Exception:  # noqa: BLE001 - none of that name, or a damaged list
        return []
    tops = sorted({file.parts[0] for file in files if file.suffix == ".py"})
    named = [top for top in tops if top.removesuffix(".py").isidentifier() and not top.startswith("__editable__")]
    return [Path(str(one.locate_file(top))) for top in named]
