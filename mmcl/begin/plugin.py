"""A package for one new plug-in: it installs, is found, and passes mmcl's checks as it is."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from .. import __version__
from ..api.errors import PluginError, UnknownNameError
from ..api.version import VERSION
from ..plugins import plugins
from ..runs import write_text

KINDS: Mapping[str, str] = {
    "backbone": "the mean over steps of a layer",
    "dataset": "accelerometers at wrist and ankle of people who are calm or tense",
    "group-loss": "each modality against the mean of the others",
    "head": "one hidden layer",
    "loss": "softmax over candidates, positives summed before the logarithm",
    "modality": "channels and how fast they change",
    "positives": "one recording belongs together; others of its group count neither way",
    "preset": "settings of a paper",
    "pretext": "means over time, squeezed through one vector",
    "sampler": "recordings of one group after another",
    "scorer": "share of words that count",
}
"""Kinds of plug-ins that can be begun → what the example that is written does."""
TEMPLATES = Path(__file__).with_name("templates") / "plugin"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_plugin(kind: str, name: str, out: Path) -> list[Path]:
    """Write the package `mmcl-NAME` below a folder; its files, the folder first.

    Raises UnknownNameError for a kind that there is not, PluginError for a name that is none or is taken, and where the folder is there.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of plug-in", kind, KINDS)
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"'{name}' must be lower-case letters, digits and single hyphens, beginning with a letter, such as my-{kind}"
        )
    module, package = f"mmcl_{name.replace('-', '_')}", f"mmcl-{name}"
    taken = [offer for _, offer in plugins().all(kind) if offer.name == name]
    if taken:
        raise PluginError(f"{kind} '{name}' is offered by {taken[0].package} already; choose another name")
    if importlib.util.find_spec(module) is not None:
        raise PluginError(f"a package '{module}' is installed already; choose another name")
    folder = out / package
    if folder.exists():
        raise PluginError(f"{folder}: is there already, and nothing is written over it; choose another name or --out")
    words = {
        "name": name,
        "what": kind,
        "summary": KINDS[kind],
        "module": module,
        "package": package,
        "Class": "".join(part.capitalize() for part in name.split("-")),
        "CONSTANT": name.replace("-", "_").upper(),
        "contract": VERSION,
        "versions": _versions(__version__),
        "imports": _imports(kind, module),
    }
    written = [folder]
    for place, text in _files(kind, module).items():
        for word, value in words.items():
            text = text.replace(f"{{{{{word}}}}}", value)
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        written.append(path)
    return written


def _files(kind: str, module: str) -> dict[str, str]:
    """Place in the package → its template."""
    files = {
        "pyproject.toml": "pyproject.txt",
        "README.md": "readme.txt",
        ".github/workflows/tests.yml": "ci.txt",
        f"{module}/__init__.py": f"{kind}.light.txt",
    }
    for heavy in sorted(TEMPLATES.glob(f"{kind}.*.txt")):
        part = heavy.name.split(".")[1]
        if part not in ("light", "test"):
            files[f"{module}/{part}.py"] = heavy.name
    texts = {place: (TEMPLATES / name).read_text(encoding="utf-8") for place, name in files.items()}
    test, more = (TEMPLATES / "test.txt").read_text(encoding="utf-8"), TEMPLATES / f"{kind}.test.txt"
    if more.is_file():
        test += "\n\n" + more.read_text(encoding="utf-8")
    return {**texts, f"tests/test_{module.removeprefix('mmcl_')}.py": test, f"{module}/py.typed": ""}


def _imports(kind: str, module: str) -> str:
    """What the package's test imports."""
    check = {"loss": "check_loss, check_plugin", "group-loss": "check_group_loss, check_plugin"}.get(kind)
    if check is not None:
        return f"import math\n\nimport {module}\n\nfrom mmcl.testing import {check}\n"
    return f"import {module}\n\nfrom mmcl.testing import check_plugin\n"


def _versions(version: str) -> str:
    """The versions of mmcl that a plug-in written for this one asks for: up to the next that may change the contract."""
    first, second = (int(number) for number in version.split(".")[:2])
    return f">={first}.{second},<{first + 1}" if first else f">=0.{second},<0.{second + 1}"
