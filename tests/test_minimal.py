"""The list of oldest versions is the lower bounds of pyproject.toml, every one of them and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
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


ADVICE = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "b", "skip_reason": "not there"}
SOUND = {"name": "c", "version": "3", "vulns": []}


@pytest.mark.parametrize(
    ("packages", "line", "code"),
    [
        (None, "advisories cannot be had here: ", 0),
        ([], "advisories cannot be had here: ", 0),
        ([SKIPPED, SKIPPED], "advisories cannot be had here: ", 0),
        ([SOUND, SKIPPED], "1 packages looked up, 0 advisories; 1 could not be looked up", 0),
        ([SOUND, ADVICE], "a 1: PYSEC-1; mended in 2", 1),
    ],
)
def test_advisories_are_told_and_that_there_are_none_to_be_had_is_no_fault(packages, line, code, tmp_path):
    """The audit of dependencies: a package that was not looked up is never counted among the sound ones."""
    path = tmp_path / "report.json"
    if packages is not None:
        path.write_text(json.dumps({"dependencies": packages}), encoding="utf-8")
    done = subprocess.run([sys.executable, ROOT / "constraints" / "advisories.py", path], capture_output=True, text=True)
    assert (done.stdout.splitlines()[0].startswith(line), done.returncode) == (True, code), done
