"""`mmcl new-plugin`: what it writes is a whole package that passes every check at once."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest
import yaml

from mmcl.api import PluginError
from mmcl.begin.plugin import KINDS, _versions, write_plugin
from mmcl.cli import main
from mmcl.plugins import REGISTRIES, load
from mmcl.testing import spec


@pytest.fixture
def light(monkeypatch):
    """Fresh processes that look for heavy imports are left out here; one kind's own tests, below, start theirs."""
    monkeypatch.setattr(spec, "heavy_imports", lambda package, path: {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_of_every_kind_passes_its_own_tests(light, kind, tmp_path, monkeypatch):
    name = f"fresh-{kind}"
    folder, *files = write_plugin(kind, name, tmp_path)
    module = f"mmcl_fresh_{kind.replace('-', '_')}"
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    about = tomllib.loads((folder / "pyproject.toml").read_text())
    assert about["project"]["entry-points"]["mmcl"] == {name: module}
    assert about["project"]["dependencies"] == [f"mmcl{_versions(importlib.metadata.version('mmcl'))}"]
    assert "{{" not in "".join(path.read_text() for path in files)
    yaml.safe_load((folder / ".github/workflows/tests.yml").read_text())
    try:
        (loaded,) = load([EntryPoint(name, module, "mmcl")]).loaded
        assert loaded.failure is None
        assert [(offer.what, offer.name) for offer in loaded.offers] == [(kind, name)]
        tests = runpy.run_path(str(folder / "tests" / f"test_fresh_{kind.replace('-', '_')}.py"))
        asked = [test for test in tests if test.startswith("test_")]
        assert "test_everything_that_it_offers_keeps_the_contract" in asked
        for test in asked:
            tests[test](*([tmp_path / "data"] if test.startswith("test_everything") else []))
    finally:
        for loaded_module in [one for one in sys.modules if one.partition(".")[0] == module]:
            del sys.modules[loaded_module]


def test_what_is_written_is_free_of_lint(tmp_path):
    for kind in KINDS:
        write_plugin(kind, f"fresh-{kind}", tmp_path)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E,F,W,UP,B,D100,D101,D102,D103",
        "--ignore",
        "E501",
    ]
    done = subprocess.run([*command, "--exclude", "tests", "."], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_kind_that_can_be_begun_can_be_registered():
    assert set(KINDS) == set(REGISTRIES) - {"kind", "published"}


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("backbones", "mine", "unknown kind of plug-in 'backbones'; did you mean 'backbone'?"),
        ("backbone", "tcn", "backbone 'tcn' is offered by mmcl already"),
        ("loss", "toy", "a package 'mmcl_toy' is installed already"),
        ("backbone", "My_Net", "'My_Net' must be lower-case letters, digits and single hyphens"),
        ("backbone", "9lives", "must be lower-case"),
        ("backbone", "there", "is there already, and nothing is written over it"),
    ],
)
def test_names_that_cannot_be_are_refused_in_a_sentence(tmp_path, capsys, kind, name, words):
    (tmp_path / "mmcl-there").mkdir()
    with pytest.raises(SystemExit) as left:
        main(["new-plugin", kind, name, "--out", str(tmp_path)])
    assert left.value.code == 2
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mmcl-there"]


def test_the_command_prints_its_files_and_what_comes_next(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["new-plugin", "preset", "mine", "--out", str(tmp_path)])
    assert left.value.code == 0
    told = capsys.readouterr()
    assert str(tmp_path / "mmcl-mine" / "mmcl_mine" / "__init__.py") in told.out
    assert "pip install -e '.[test]' && pytest" in told.err
    with pytest.raises(PluginError, match="is there already"):
        write_plugin("preset", "mine", tmp_path)


def test_the_versions_asked_for_end_where_the_contract_may_change():
    assert _versions("0.1.0") == ">=0.1,<0.2"
    assert _versions("2.3.1") == ">=2.3,<3"
