"""Recordings of the study itself that could be read and are odd all the same: silent, too short, of one colour."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmcl.cli import main
from mmcl.data.store import Store
from mmcl.media import write_audio
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.report.page import odd_of
from mmcl.runs import RunFolder
from mmcl.stages.prepare import prepare

RECIPE = """\
format: 1
name: study
dataset: {{use: folder, root: {root}}}
modalities:
  voice: {{features: {{use: log-mel, bands: 4, hop: 0.1, window: 0.2}}, backbone: {{use: tcn, channels: [4]}}}}
  again: {{source: voice, features: {{use: log-mel, bands: 6, hop: 0.1, window: 0.2}}, backbone: {{use: tcn, channels: [4]}}}}
window: {{seconds: 0.5}}
projection: {{hidden: 4, width: 4}}
pretrain: {{batch_size: 4, epochs: 1}}
protocol: {{use: k-fold, k: 2}}
"""


@pytest.fixture
def study(tmp_path):
    """Eight sounds of eight people; the third is silent, the sixth too short to tell anything by."""
    root, draw = tmp_path / "study", np.random.default_rng(0)
    for i in range(8):
        samples = draw.normal(0, 0.1, 600 if i == 5 else 8000) * (i != 2)
        write_audio(root / f"r{i}.wav", samples, 8000)
    (root / "recordings.csv").write_text("id,speaker,voice\n" + "".join(f"r{i},s{i},r{i}.wav\n" for i in range(8)))
    return root


def test_odd_recordings_are_told_once_kept_and_on_the_data_card(study, tmp_path, capsys):
    plan, run = make_plan(parse_recipe(RECIPE.format(root=study), "the recipe")), RunFolder(tmp_path / "run")
    prepare(plan, run, workers=1)
    told = capsys.readouterr().err
    assert "2 recordings could be read and are odd all the same, such as 'r2': voice: is silent" in told
    about = json.loads((run.root / "prepare.json").read_text())
    odd = [("r2", "voice: is silent"), ("r5", "voice: is 0.075 s of sound, too short to tell anything by")]
    assert odd_of(about) == odd  # once, though two modalities are made of it
    again = RunFolder(tmp_path / "again")
    prepare(plan, again, workers=1)  # from the store, which is there
    assert odd_of(json.loads((again.root / "prepare.json").read_text())) == odd
    folder = next(run.prepared.glob("folder/log-mel-*"))
    assert [one.id for one in Store(folder).odd] == ["r2", "r5"]


def test_a_check_of_heads_decodes_no_recording(study, monkeypatch, capsys):
    from mmcl.media import sound

    monkeypatch.setattr(sound, "_decoded", lambda path: pytest.fail("a recording was decoded"))
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(study)])
    assert stop.value.code == 0
    assert "8" in capsys.readouterr().out
