"""Who may import whom: the layers of the house, proven by reading every import of every file."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The house, floor by floor. A part may import what lies on the floors below its own: never a neighbour, never what lies above.
FLOORS = (
    {"cli"},
    {"report", "begin"},
    {"review", "search", "testing"},
    {"stages", "use"},
    {"model"},
    {"data", "recipe"},
    {"evaluate", "engine", "objective", "plugins", "media"},
    {"runs"},
    {"api"},
)
# What any floor may import besides: what is installed, a line on the screen, the seed of a draw, processes beside, the text of a file. They import nothing.
EVERYWHERE = {"installed", "memory", "screen", "seeding", "shapes", "stopping", "text", "threads", "workers"}

# A part of mmcl/ → the parts that it may import, wherever in a file the import stands, for type checkers alone or not. No more
# than its floor allows, and often less: a row grows with the import that needs it. A part may always import itself, and
# `mmcl.__version__`.
BELOW = {
    "cli": {
        "api",
        "begin",
        "plugins",
        "recipe",
        "report",
        "review",
        "runs",
        "screen",
        "stages",
        "stopping",
        "testing",
        "threads",
        "use",
    },
    "report": {"api", "data", "evaluate", "recipe", "review", "runs", "screen", "search", "stages"},
    "begin": {"api", "media", "plugins", "recipe", "review", "runs", "text"},
    "use": {
        "api",
        "data",
        "engine",
        "evaluate",
        "media",
        "model",
        "plugins",
        "recipe",
        "runs",
        "screen",
        "seeding",
        "text",
        "workers",
    },
    "review": {"api", "data", "evaluate", "media", "model", "plugins", "recipe", "runs", "stages", "use"},
    "search": {"api", "data", "engine", "evaluate", "memory", "recipe", "runs", "screen", "seeding", "stages", "stopping"},
    "stages": {
        "api",
        "data",
        "engine",
        "evaluate",
        "installed",
        "memory",
        "model",
        "objective",
        "plugins",
        "recipe",
        "runs",
        "screen",
        "seeding",
        "shapes",
        "stopping",
        "workers",
    },
    "model": {"api", "data", "engine", "evaluate", "objective", "plugins", "recipe", "runs", "seeding"},
    "data": {"api", "memory", "runs", "seeding", "shapes", "workers"},
    "recipe": {"api", "plugins", "text"},
    "evaluate": {"api", "seeding"},
    "engine": {"api", "memory", "runs", "screen", "seeding", "stopping", "workers"},
    "objective": {"api", "seeding"},
    "plugins": {"api", "installed"},
    "runs": {"api", "screen", "shapes"},
    "media": {"api", "screen", "text"},  # screen: a plug-in with long work of its own shows how far it is
    "api": set(),
    "installed": set(),
    "memory": set(),
    "threads": set(),
    "shapes": set(),
    "screen": set(),
    "seeding": set(),
    "workers": set(),
    "stopping": set(),
    "text": set(),
    # Beside the floors: what authors of plug-ins use, and the two doors.
    "testing": {"api", "plugins"},
    "mmcl": {"installed", "model", "recipe", "report", "runs", "use"},  # mmcl/__init__.py: the Python API
    "__main__": {"cli"},
}

PLUGINS_MAY = {"api", "media"}
THEIR_TESTS_MAY = PLUGINS_MAY | {"testing"}

HEAVY = {"torch", "torchvision", "torchaudio", "librosa"}
# Parts that every command imports, so that importing them (and all they import on the way) must not import anything heavy.
LIGHT = {
    "api",
    "begin",
    "installed",
    "screen",
    "seeding",
    "shapes",
    "text",
    "runs",
    "plugins",
    "recipe",
    "review",
    "report",
    "cli",
    "testing",
    "__main__",
    "mmcl",
}


@dataclass(frozen=True)
class Import:
    """One module that a file imports."""

    module: str
    line: int
    on_import: bool  # the moment the file is imported, rather than inside a function or for type checkers alone


def imports(source: str, module: str, is_package: bool = False) -> list[Import]:
    """Every import of a file; `from x import y` is x.y, since y may be a module. Relative ones are made absolute."""
    every: list[Import] = []

    def visit(node: ast.AST, on_import: bool) -> None:
        if isinstance(node, ast.Import):
            every.extend(Import(alias.name, node.lineno, on_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            every.extend(Import(f"{base}.{alias.name}", node.lineno, on_import) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, on_import)
        else:
            inside = on_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                visit(child, inside)

    visit(ast.parse(source), True)
    return every


def part(module: str) -> str | None:
    """The part of mmcl/ that a module is in; None for `mmcl.__version__` and for what isn't mmcl."""
    names = module.split(".")
    if names[0] != "mmcl" or names[1:] == ["__version__"]:
        return None
    return names[1] if len(names) > 1 and names[1] in BELOW else "mmcl"


def modules() -> dict[str, Path]:
    """Every module of the core by its dotted name."""
    return {dotted(path, ROOT): path for path in sorted((ROOT / "mmcl").rglob("*.py"))}


def dotted(path: Path, root: Path) -> str:
    """The name by which a file below `root` is imported; that of a package is its folder's."""
    names = path.relative_to(root).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def circles(sources: dict[str, tuple[str, bool]], late: bool = True) -> list[str]:
    """Modules that import each other; `sources` holds name → (text, is a package).

    late  whether a package's imports inside functions count: in a plug-in they are how its light file builds what its heavy ones
          hold, whose options stand in the light file
    """
    edges = {
        name: {
            target
            for one in imports(text, name, is_package)
            if late or one.on_import or not is_package
            for target in (one.module if one.module in sources else one.module.rpartition(".")[0],)
            if target in sources and target != name and one.module != "mmcl.__version__"
        }
        for name, (text, is_package) in sources.items()
    }
    while free := [name for name, targets in edges.items() if not targets & set(edges)]:
        for name in free:
            del edges[name]
    while last := [name for name in edges if not any(name in targets for targets in edges.values())]:
        for name in last:  # what merely leads to a circle is not in it
            del edges[name]
    return sorted(edges)


def core_breaches(module: str, source: str, is_package: bool = False) -> list[str]:
    """What a file of mmcl/ imports against the table."""
    here = part(module)
    breaches = []
    for one in imports(source, module, is_package):
        there = part(one.module)
        if there is not None and there != here and there not in BELOW[here]:
            breaches.append(f"{module}:{one.line}: mmcl/{here} imports {one.module}; it may import {sorted(BELOW[here])}")
        if one.module.startswith("mmcl_"):
            breaches.append(f"{module}:{one.line}: the core names the plug-in {one.module}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"mmcl_[a-z0-9_.]+", node.value):
            breaches.append(f"{module}:{node.lineno}: the core names the plug-in {node.value}")
    return breaches


def plugin_breaches(package: str, path: str, source: str, is_package: bool, is_test: bool) -> list[str]:
    """What a file of a plug-in imports against the rules. `package` is its own, `path` its dotted name."""
    allowed = THEIR_TESTS_MAY if is_test else PLUGINS_MAY
    breaches = []
    for one in imports(source, path, is_package):
        top = one.module.split(".")[0]
        if top == "mmcl" and (one.module == "mmcl" or part(one.module) not in allowed):
            breaches.append(
                f"{path}:{one.line}: imports {one.module}; a plug-in may import mmcl.{', mmcl.'.join(sorted(allowed))}"
            )
        if top.startswith("mmcl_") and top != package:
            breaches.append(f"{path}:{one.line}: imports another plug-in, {one.module}")
        if is_package and path == package and one.on_import and top in HEAVY:
            breaches.append(f"{path}:{one.line}: a plug-in's package imports {top}, and with it every command does")
    return breaches


def heavy_on_the_way(start: str, sources: dict[str, tuple[str, bool]]) -> list[str]:
    """How importing a module leads to a heavy one, as 'a → b → torch'; `sources` holds name → (text, is a package)."""
    ways, seen, ahead = [], set(), [(start, (start,))]
    while ahead:
        module, way = ahead.pop()
        if module in seen:
            continue
        seen.add(module)
        parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
        ahead += [(parent, (*way, parent)) for parent in parents]
        text, is_package = sources[module]
        for one in imports(text, module, is_package):
            if not one.on_import:
                continue
            if one.module.split(".")[0] in HEAVY:
                ways.append(" → ".join((*way, one.module)))
            target = one.module if one.module in sources else one.module.rpartition(".")[0]
            if target in sources:
                ahead.append((target, (*way, target)))
    return ways


MODULES = modules()
SOURCES = {name: (path.read_text(encoding="utf-8"), path.name == "__init__.py") for name, path in MODULES.items()}
PLUGIN_FILES = sorted(path for path in (ROOT / "plugins").glob("*/**/*.py"))


def test_every_part_of_the_core_has_a_row_in_the_table_and_every_row_a_part():
    parts = {path.stem for path in (ROOT / "mmcl").iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert parts - {"__init__"} == set(BELOW) - {"mmcl"}, "a new part of mmcl/ needs a row in BELOW, and a floor or a reason"


def test_the_table_lets_no_part_reach_its_own_floor_or_a_higher_one():
    lower = set(EVERYWHERE)
    for floor in reversed(FLOORS):
        for name in floor:
            assert BELOW[name] <= lower, f"mmcl/{name} may not import {sorted(BELOW[name] - lower)}"
        lower |= floor


def test_the_table_has_no_circle():
    order: list[str] = []
    while len(order) < len(BELOW):
        free = [name for name, below in BELOW.items() if name not in order and below <= set(order)]
        assert free, f"these import each other in a circle: {sorted(set(BELOW) - set(order))}"
        order += free


def test_no_modules_of_the_core_import_each_other():
    assert circles(SOURCES) == []


@pytest.mark.parametrize("package", sorted((ROOT / "plugins").iterdir()), ids=lambda p: p.name)
def test_no_modules_of_a_plugin_import_each_other(package):
    paths = (package / package.name.replace("-", "_")).rglob("*.py")
    files = {dotted(path, package): (path.read_text(encoding="utf-8"), path.name == "__init__.py") for path in paths}
    assert circles(files, late=False) == []


def test_circle_is_caught_and_what_leads_to_it_is_not():
    sources = {
        "mmcl.a": ("def late():\n    from .b import b", False),
        "mmcl.b": ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mmcl.c import C", False),
        "mmcl.c": ("from . import a", False),
        "mmcl.d": ("from .a import a", False),
        "mmcl.e": ("import torch", False),
    }
    assert circles(sources) == ["mmcl.a", "mmcl.b", "mmcl.c"]
    sources["mmcl.c"] = ("from . import e", False)
    assert circles(sources) == []


@pytest.mark.parametrize("module", MODULES)
def test_core_imports_downwards_only_and_names_no_plugin(module):
    text, is_package = SOURCES[module]
    assert core_breaches(module, text, is_package) == []


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) in LIGHT])
def test_light_parts_reach_nothing_heavy_when_imported(module):
    assert heavy_on_the_way(module, SOURCES) == []


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=lambda p: str(p.relative_to(ROOT / "plugins")))
def test_plugins_import_the_contract_and_nothing_else(path):
    project, inside, *_ = path.relative_to(ROOT / "plugins").parts
    package, module = project.replace("-", "_"), dotted(path, ROOT / "plugins" / project)
    text = path.read_text(encoding="utf-8")
    assert plugin_breaches(package, module, text, path.name == "__init__.py", inside == "tests") == []


# The rules can fail: each of these snippets breaks one.


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmcl.api.loss", "from ..plugins import load"),
        ("mmcl.data.store", "from ..recipe.plan import Plan"),
        ("mmcl.data.store", "import mmcl.stages.prepare"),
        ("mmcl.data.store", "from mmcl import stages"),
        ("mmcl.data.store", "from .. import stages"),
        ("mmcl.engine.optim", "def late():\n    from mmcl.stages import pretrain"),
        (
            "mmcl.objective.score",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..model.encoder import Encoder",
        ),
        ("mmcl.recipe.plan", "from ..model import encoder"),
        ("mmcl.stages.probe", "from ..cli import main"),
        ("mmcl.runs", "from .stages import run_all"),
        ("mmcl.data.store", "import mmcl"),
        ("mmcl.stages.probe", "from mmcl_heads import LINEAR"),
        ("mmcl.stages.probe", "import importlib\nheads = importlib.import_module('mmcl_heads')"),
    ],
)
def test_import_against_the_table_is_caught(module, source):
    assert len(core_breaches(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmcl.data.stack", "from .store import Store\nfrom ..api import Batch\nimport torch, numpy"),
        ("mmcl.report.page", "from .. import __version__\nfrom ..runs import RunFolder"),
        ("mmcl.model.keep", "from ..plugins import plugins"),
    ],
)
def test_import_within_the_table_is_let_through(module, source):
    assert core_breaches(module, source) == []


@pytest.mark.parametrize(
    ("source", "is_test"),
    [
        ("from mmcl.plugins import plugins", False),
        ("from mmcl import api, plugins", False),
        ("import mmcl", False),
        ("import mmcl.stages.pretrain", False),
        ("def build(params):\n    from mmcl.seeding import address", False),
        ("from mmcl.testing import make_stream", False),
        ("from mmcl.plugins import plugins", True),
        ("from mmcl_toy import faces", False),
        ("def late():\n    import mmcl_toy.faces", True),
        ("import torch", False),
        ("from torch.nn import functional", False),
        ("try:\n    import librosa\nexcept ImportError:\n    librosa = None", False),
        ("class Tcn:\n    import torchaudio", False),
    ],
)
def test_plugin_that_reaches_further_is_caught(source, is_test):
    assert len(plugin_breaches("mmcl_tcn", "mmcl_tcn", source, True, is_test)) == 1


@pytest.mark.parametrize(
    ("source", "is_test"),
    [
        ("from mmcl.api import Params, hookimpl\nfrom mmcl import media\nfrom .network import Tcn\nimport mmcl_tcn", False),
        ("from mmcl.testing import check_backbone\nfrom mmcl_tcn import TCN", True),
        ("def build(params):\n    import torch", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor", False),
    ],
)
def test_plugin_that_keeps_to_the_contract_is_let_through(source, is_test):
    assert plugin_breaches("mmcl_tcn", "mmcl_tcn", source, True, is_test) == []


def test_heavy_import_is_caught_however_far_away():
    sources = {
        "mmcl": ("", True),
        "mmcl.cli": ("from . import run", True),
        "mmcl.cli.run": ("from ..stages.pretrain import pretrain", False),
        "mmcl.stages": ("", True),
        "mmcl.stages.pretrain": ("if True:\n    import torch", False),
        "mmcl.cli.late": ("def run():\n    from ..stages.pretrain import pretrain", False),
    }
    (way,) = heavy_on_the_way("mmcl.cli", sources)
    assert way == "mmcl.cli → mmcl.cli.run → mmcl.stages.pretrain → torch"
    del sources["mmcl.cli.run"]
    sources["mmcl.cli"] = ("from . import late", True)
    assert heavy_on_the_way("mmcl.cli", sources) == []
    sources["mmcl"] = ("import torchvision.ops", True)
    assert heavy_on_the_way("mmcl.cli.late", sources), "importing a module imports the packages it is in"


def test_listing_what_is_there_imports_no_numpy_and_asking_media_for_a_reader_does():
    """A third of the time that a list of backbones took went into numpy."""
    code = (
        "import sys\nfrom mmcl.plugins import plugins\nplugins()\nassert 'numpy' not in sys.modules\n"
        "import mmcl.media\nmmcl.media.read_table\nassert 'numpy' in sys.modules\n"
        "assert all(hasattr(mmcl.media, name) for name in mmcl.media.__all__) and not hasattr(mmcl.media, 'read_minds')\n"
    )
    limited = {**os.environ, "MMCL_PLUGINS": "none"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=limited)
    assert done.returncode == 0, done.stderr
