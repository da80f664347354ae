"""The other process that `elsewhere` asks: what a plug-in gives there."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

from ..api.hooks import PROJECT
from ..plugins import load
from .table import checks_of


def print_facts(package: str, kind: str, name: str, root: str) -> None:
    """Print what `elsewhere` reads of a package's plug-in, by its kind and name; null where there is none."""
    (loaded,) = load([EntryPoint(package, package, PROJECT)]).loaded
    spec = next((one.spec for one in loaded.offers if type(one.spec).__name__ == kind and one.name == name), None)
    facts = None if spec is None else checks_of(spec).facts
    answer = None if spec is None or facts is None else facts(spec, spec.params(), Path(root) if root else None)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
