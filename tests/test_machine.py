"""`mmcl doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmcl.cli import main
from mmcl.review import machine


def test_here_everything_that_is_needed_works(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--json"])
    assert stop.value.code == 0
    lines = {line["name"]: line for line in json.loads(capsys.readouterr().out)}
    assert lines["packages"]["state"] == "ok"
    assert {"extra hf", "extra serve", "extra video", "extra words", "threads", "GPU", "cache"} <= set(lines)
    assert all(line["remedy"] for line in lines.values() if line["state"] != "ok")


def test_an_extra_that_is_missing_is_named_with_the_command_that_brings_it_and_no_fault(monkeypatch):
    known = machine.version

    def without(name: str) -> str:
        if name == "av":
            raise machine.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(machine, "version", without)
    lines = {line.name: line for line in machine.examined()}
    assert lines["extra video"].state == "missing"
    assert "av is not installed" in lines["extra video"].text
    assert lines["extra video"].remedy == "pip install 'mmcl[video]'"
    assert not [line for line in lines.values() if line.state == "wrong"]


def test_a_torch_that_does_not_fit_ends_with_1(monkeypatch, capsys):
    known = machine.version
    monkeypatch.setattr(machine, "version", lambda name: "1.0.0" if name == "torch" else known(name))
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    assert "torch is 1.0.0, and <2.13,>=2.11 is needed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [OSError("undefined symbol: torch_x"), RuntimeError("different CUDA versions\nmore"), ImportError("y")]
)
def test_a_torchaudio_whose_versions_pip_lets_stand_and_that_cannot_be_imported_is_wrong(error, monkeypatch):
    def import_module(name: str) -> None:
        if name == "torchaudio":
            raise error

    monkeypatch.setattr(machine, "import_module", import_module)
    line = next(line for line in machine.examined() if line.name == "packages")
    assert line.state == "wrong"
    assert str(error).splitlines()[0] in line.text
    assert "torchaudio" in line.text
    assert all(f"'{one}'" in line.remedy for one in machine._requirements("") if one.startswith("torch"))


def test_a_cache_without_a_place_is_wrong(monkeypatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "file"))
    cache = next(line for line in machine.examined() if line.name == "cache")
    assert cache.state == "wrong"
    assert "MMCL_CACHE" in cache.remedy
