"""The list of oldest versions is the lower bounds of pyproject.toml, every one of them and no other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
WITHOUT_WHEELS = {"scipy": "1.11.1", "soundfile": "0.12.1"}
"""Versions that stand for a bound of which the registry has no wheel for Python 3.11."""


def test_the_oldest_versions_are_the_lower_bounds():
    bounds = {}
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]:
        one = Requirement(line)
        (lowest,) = [spec.version for spec in one.specifier if spec.operator == ">="]
        bounds[one.name.lower()] = WITHOUT_WHEELS.get(one.name.lower(), lowest)
    lines = (ROOT / "constraints" / "minimal.txt").read_text(encoding="utf-8").splitlines()
    listed = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name: Version(version) for name, version in listed.items()} == {
        name: Version(version) for name, version in bounds.items()
    }


def test_the_makefile_installs_them():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^minimal:.*\n(\t.*\n)*\t.*constraints/minimal.txt", makefile, re.MULTILINE)
