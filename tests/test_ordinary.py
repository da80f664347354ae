"""`.ci/ordinary` runs a command as a user who may not do everything, whoever calls: `make ordinary` runs tests of rights so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHO = """
import os, sys
print(os.geteuid() != 0)
for act in (lambda: open(sys.argv[1]).close(), lambda: os.chown(sys.argv[1], 12345, 12345)):
    try:
        act()
        print("may")
    except OSError:
        print("may not")
"""


def test_a_command_runs_as_a_user_who_may_not_do_everything(tmp_path):
    closed = tmp_path / "closed"
    closed.write_text("mine", encoding="utf-8")
    closed.chmod(0)
    done = subprocess.run([ROOT / ".ci" / "ordinary", sys.executable, "-c", WHO, closed], capture_output=True, text=True)
    if done.stderr.startswith("no ordinary user can be had here"):
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stdout.split("\n")) == (0, ["True", "may not", "may not", ""]), done.stderr
    if os.geteuid() == 0:  # or the test would show nothing
        as_root = subprocess.run([sys.executable, "-c", WHO, closed], capture_output=True, text=True, check=True)
        assert as_root.stdout.split("\n") == ["False", "may", "may", ""]


def test_a_command_that_fails_is_not_called_well():
    done = subprocess.run([ROOT / ".ci" / "ordinary", sys.executable, "-c", "import sys; sys.exit(3)"], capture_output=True)
    assert done.returncode in (3, 0) and (done.returncode == 3 or b"no ordinary user" in done.stderr)


def test_ci_runs_the_tests_of_rights_as_an_ordinary_user_other_pythons_and_the_oldest_versions():
    ci, makefile = (ROOT / ".ci" / "run").read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("test", "ordinary", "python312", "minimal"):
        assert re.search(rf"^make (--silent )?{target}\b", ci, re.MULTILINE), target
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    named = re.findall(r"^(?:ORDINARY|PYTHON312|MINIMAL)_TESTS \?= (.*)$", makefile, re.MULTILINE)
    assert len(named) == 3
    files = [word.split("::")[0] for words in named for word in words.split() if word.startswith("tests/")]
    assert files and [name for name in files if not (ROOT / name).is_file()] == []


def test_a_python_that_is_not_there_is_told_in_a_sentence(tmp_path):
    words = ["make", "--silent", "python312", "PYTHON312=python-of-nobody", f"NEWER={tmp_path / 'venv'}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    sentence = "no Python 3.12 that makes an environment is at hand: nothing was tested on it (name one by PYTHON312=…)\n"
    assert (done.returncode, done.stdout) == (0, sentence), done.stderr


@pytest.mark.parametrize(
    ("told", "code", "sentence"),
    [
        ("ERROR: No matching distribution found for torch", 0, "packages for {} cannot be had, so nothing was tested in it: "),
        ("ERROR: ResolutionImpossible: for help visit …", 2, "ERROR: ResolutionImpossible"),
    ],
)
@pytest.mark.parametrize("target", ["minimal", "python312"])
def test_packages_that_cannot_be_had_are_told_and_versions_that_do_not_fit_are_a_fault(target, told, code, sentence, tmp_path):
    """Python here is a program that refuses to install as pip does."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho '{told}' >&2\nexit 1\n", encoding="utf-8")
    python.chmod(0o755)
    words = ["make", "--silent", target, f"NEWER={tmp_path}", f"MINIMAL={tmp_path}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done
    assert done.stdout.startswith(sentence.format(tmp_path))
