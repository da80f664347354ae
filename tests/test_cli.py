"""The command line: what a person types, sees and gets back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmcl.cli import COMMANDS, main
from mmcl.plugins import plugins
from mmcl.recipe.json_schema import json_schema

HEAVY = ("torch", "torchvision", "torchaudio", "librosa", "matplotlib", "sklearn", "scipy", "rich")
LISTS = [name for name in COMMANDS if name.startswith("list-")]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *[[name] for name in LISTS],
        ["plugins"],
        ["schema"],
        ["check", "quickstart"],
        ["describe", "backbone", "tcn"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom mmcl.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"found = [m for m in {HEAVY!r} if m in sys.modules]\nassert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "MMCL_PLUGINS": "none"}, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_readable_and_json(name, capsys):
    assert call(name) == 0
    plain = capsys.readouterr().out
    assert call(name, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    for row in rows:
        assert row["name"] in plain
        assert row["summary"]


@pytest.mark.parametrize(
    ("what", "name"),
    [(w, n) for w in ("backbone", "modality", "loss", "positives", "dataset", "head", "kind") for n, _ in plugins().all(w)],
)
def test_every_plug_in_can_be_described(what, name, capsys):
    assert call("describe", what, name) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{name}: ")
    for option in getattr(getattr(plugins().get(what, name).spec, "params", None), "model_fields", {}):
        assert f"    {option} (" in text
    assert call("describe", what, name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == name


def test_check_says_every_problem_with_its_line_and_exits_with_2(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "format: 1\nname: bad\ndataset: toy\nmodalities:\n  audio: {features: {use: log-mel, bands: 0}, backbone: tnc}\n"
        "  words: {features: hashed-words, backbone: st-gcn}\npretrain: {epochs: no, optimzer: sgd}\n"
    )
    assert call("check", str(path)) == 2
    said = capsys.readouterr().err.splitlines()
    assert f"mmcl: {path}:5: modalities.audio.features.bands: must be greater than or equal to 1, got 0" in said
    assert any(f"{path}:5: modalities.audio.backbone: unknown backbone 'tnc'; did you mean 'tcn'" in line for line in said)
    assert f"mmcl: {path}:7: pretrain.epochs: must be a valid integer, got 'no'" in said
    assert f"mmcl: {path}:7: pretrain.optimzer: is not a key here; did you mean 'optimizer'?" in said
    assert not any("Traceback" in line for line in said)


def test_a_kind_that_a_backbone_cannot_take_names_those_that_can(capsys):
    assert call("check", "quickstart", "--set", "modalities.audio.backbone={use: st-gcn}") == 2
    text = capsys.readouterr().err
    assert "'st-gcn' takes time × joint × channel; 'log-mel' gives spectrogram" in text
    assert "tcn" in text


def test_unknown_recipe_and_unknown_command_suggest_the_nearest(capsys):
    assert call("check", "quickstrat") == 2
    assert "did you mean 'quickstart'" in capsys.readouterr().err
    assert call("list-backbone") == 2
    assert "Did you mean 'list-backbones'" in capsys.readouterr().err


def test_a_missing_data_folder_is_said_without_a_traceback(tmp_path, capsys):
    out = tmp_path / "out"
    assert call("run", "ravdess_audio_au", "--data", str(tmp_path), "--out", str(out)) == 2
    text = capsys.readouterr().err
    assert f"{tmp_path / 'ravdess'}: there is no such folder" in text
    assert "zenodo" in text
    assert "Traceback" not in text


def test_traceback_is_shown_when_asked(capsys):
    assert call("--traceback", "check", "nowhere") == 2
    assert "Traceback" in capsys.readouterr().err


def test_check_prints_the_whole_plan_as_json(capsys):
    assert call("check", "quickstart", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["pretrain"]["objective"]["loss"]["params"]["temperature"] == 0.1
    assert len(plan["pretrain"]["objective"]["pairs"]) == 6


def test_our_own_bug_exits_with_1_and_asks_for_a_report(monkeypatch, capsys):
    from mmcl.cli import lists

    monkeypatch.setattr(lists, "table", lambda rows: 1 / 0)
    assert call("list-backbones") == 1
    text = capsys.readouterr().err
    assert "ZeroDivisionError" in text
    assert "this is a bug" in text


def test_a_reader_that_closes_early_is_no_error():
    done = subprocess.run(f"{sys.executable} -m mmcl schema | head -1", shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "{"
    assert "Traceback" not in done.stderr


def test_schema_knows_every_option_of_every_plug_in():
    schema = json_schema(plugins())
    assert schema["$schema"].endswith("2020-12/schema")
    for slot, what in (
        ("UseBackbone", "backbone"),
        ("UseLoss", "loss"),
        ("UseDataset", "dataset"),
        ("UseHead", "head"),
        ("UseModality", "modality"),
    ):
        short, *choices = schema["$defs"][slot]["anyOf"]
        assert short["enum"] == [name for name, _ in plugins().all(what)]
        for (name, offer), choice in zip(plugins().all(what), choices, strict=True):
            assert choice["properties"]["use"]["const"] == name
            assert set(offer.spec.params.model_fields) <= set(choice["properties"])
            assert choice["additionalProperties"] is False
    text = json.dumps(schema)
    for reference in {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}:
        assert reference in schema["$defs"], f"the schema refers to {reference}, which it does not define"


def test_report_is_written_again_from_files_alone(tiny_run, tmp_path, capsys):
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(tiny_run.root, copy)
    (copy / "report.html").unlink()
    assert call("report", str(copy)) == 0
    assert Path(capsys.readouterr().out.strip()).stat().st_size > 10_000
