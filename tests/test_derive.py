"""Recipes that derive from one another: what is merged, what is replaced, what is taken away, and where a mistake stands."""

from __future__ import annotations

import json

import pytest

from mmcl.api.errors import RecipeError
from mmcl.recipe.derive import nullable
from mmcl.recipe.form import as_yaml
from mmcl.recipe.planner import load_plan, make_plan
from mmcl.recipe.read import parse_recipe, read_recipe
from mmcl.report import run_and_report
from mmcl.review.rerun import differences, plan_of
from mmcl.runs import RunFolder

BASE = """\
# The base.
format: 1
name: whole
seed: [0, 1]
dataset: {use: toy, samples: 60, speakers: 12}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [8]}}
projection: {hidden: 8, width: 4}
pretrain:
  objective: {loss: {use: info-nce, temperature: 0.1}}
  epochs: 1
  patience: 3
  batch_size: 16
probe: {heads: {linear: {use: linear}, mlp: mlp}}
protocol: {use: k-fold, k: 3}
"""


@pytest.fixture
def beside(tmp_path):
    """A folder with the base, and a function that writes a recipe beside it and reads it."""
    (tmp_path / "whole.yaml").write_text(BASE)

    def read(text, *sets, name="mine.yaml", head="base: whole.yaml\nname: mine\n"):
        (tmp_path / name).write_text(head + text)
        return read_recipe(tmp_path / name, sets, name)

    read.folder = tmp_path
    return read


def test_a_recipe_with_nothing_of_its_own_is_its_base_under_another_name(beside):
    document = beside("")
    assert document.values == {**parse_recipe(BASE, "whole.yaml").values, "name": "mine"}


def test_mappings_are_merged_and_lists_are_replaced(beside):
    values = beside("seed: [7]\npretrain: {epochs: 5}\nmodalities: {audio: {features: {bands: 16}}}\n").values
    assert values["seed"] == (7,)
    assert values["pretrain"]["epochs"] == 5
    assert values["pretrain"]["batch_size"] == 16
    assert values["modalities"]["audio"]["features"] == {"use": "log-mel", "bands": 16, "hop": 0.04, "window": 0.05}
    assert values["modalities"]["text"] == parse_recipe(BASE, "b").values["modalities"]["text"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{use: tcn, dropout: 0.2}", {"use": "tcn", "channels": (8,), "dropout": 0.2}),
        ("{dropout: 0.2}", {"use": "tcn", "channels": (8,), "dropout": 0.2}),
        ("tcn", {"use": "tcn", "channels": (8,)}),
        ("{use: transformer, layers: 1}", {"use": "transformer", "layers": 1}),
        ("transformer", {"use": "transformer"}),
    ],
)
def test_a_part_that_uses_another_plugin_is_replaced_and_one_that_uses_the_same_is_merged(beside, text, expected):
    values = beside(f"modalities: {{audio: {{backbone: {text}}}}}\n").values
    assert values["modalities"]["audio"]["backbone"] == expected


def test_a_part_written_short_in_the_base_takes_options(beside):
    assert beside("probe: {heads: {mlp: {hidden: 4}}}\n").values["probe"]["heads"]["mlp"] == {"use": "mlp", "hidden": 4}


def test_null_takes_a_key_away_and_is_a_value_where_null_says_something(beside):
    values = beside("pretrain: {patience: null}\nmodalities: {text: null}\nprojection: {hidden: null}\n").values
    assert "patience" not in values["pretrain"]
    assert list(values["modalities"]) == ["audio"]
    assert values["projection"] == {"hidden": None, "width": 4}
    assert nullable(("projection", "hidden"))
    assert not nullable(("pretrain", "patience"))
    assert not nullable(("modalities", "text"))
    assert not nullable(("modalities", "audio", "backbone", "hidden"))


def test_overrides_are_laid_over_both(beside):
    document = beside("pretrain: {epochs: 5}\n", "pretrain.epochs=9", "pretrain.batch_size=8")
    assert (document.values["pretrain"]["epochs"], document.values["pretrain"]["batch_size"]) == (9, 8)


def test_mistakes_are_placed_in_the_file_and_line_where_they_stand(beside):
    (beside.folder / "whole.yaml").write_text(BASE.replace("k: 3", "k: 1").replace("temperature: 0.1", "temperatur: 0.1"))
    with pytest.raises(RecipeError) as refused:
        make_plan(beside("modalities:\n  audio:\n    backbone: {kernel: 0}\nwindow: {second: 1}\n"))
    lines = {problem.key: (problem.file.rpartition("/")[2], problem.line) for problem in refused.value.problems}
    assert lines["window.second"] == ("mine.yaml", 6)
    assert lines["protocol.k"] == ("whole.yaml", 16)
    (beside.folder / "mine.yaml").write_text("base: whole.yaml\nname: mine\nmodalities:\n  audio:\n    backbone: {kernel: 0}\n")
    (beside.folder / "whole.yaml").write_text(BASE.replace("temperature: 0.1", "temperatur: 0.1"))
    with pytest.raises(RecipeError) as refused:
        load_plan(beside.folder / "mine.yaml", name="mine.yaml")
    lines = {problem.key: (problem.file.rpartition("/")[2], problem.line) for problem in refused.value.problems}
    assert lines["modalities.audio.backbone.kernel"] == ("mine.yaml", 5)
    assert lines["pretrain.objective.loss.temperatur"] == ("whole.yaml", 11)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("base: whale.yaml\nname: mine\n", "there is no such file"),
        ("base: quickstrat\nname: mine\n", "quickstart"),
        ("base: 7\nname: mine\n", "must name a recipe"),
        ("base: whole.yaml\n", "its base's name is that of another run"),
        ("base: derived.yaml\nname: mine\n", "has a base itself"),
        ("base: mine.yaml\nname: mine\n", "has a base itself"),
    ],
)
def test_a_base_that_cannot_be_is_refused_at_its_line(beside, head, reason):
    (beside.folder / "derived.yaml").write_text("base: whole.yaml\nname: other\n")
    with pytest.raises(RecipeError, match=reason) as refused:
        beside("", head=head)
    assert "mine.yaml:" in str(refused.value)


def test_a_shipped_recipe_can_be_a_base_from_anywhere(beside):
    document = beside("seed: 3\n", head="base: ravdess_audio_au\nname: mine\n")
    plan = make_plan(document, beside.folder)
    assert plan.seeds == (3,)
    assert plan.fold_of, "a file that the base names is looked for beside the base"


def test_what_is_printed_as_resolved_is_the_same_recipe(beside):
    document = beside("pretrain: {epochs: 5, patience: null}\nprojection: {hidden: null}\nabout: 'yes'\n", "seed=[1, 2]")
    again = parse_recipe(as_yaml(document.values), "again.yaml")
    assert again.values == document.values
    assert json.dumps(make_plan(again).to_json()) == json.dumps(make_plan(document).to_json())


def test_byte_order_marks_and_windows_lines_are_read(beside):
    (beside.folder / "whole.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    (beside.folder / "mine.yaml").write_bytes(b"\xef\xbb\xbfbase: whole.yaml\r\nname: mine\r\n")
    assert read_recipe(beside.folder / "mine.yaml").values["pretrain"]["batch_size"] == 16


def test_the_run_folder_holds_the_whole_recipe_and_reruns_without_the_base(beside, tmp_path):
    beside("pretrain: {batch_size: 12}\nseed: 3\nprotocol: {use: official}\n", head="# Mine.\nbase: whole.yaml\nname: mine\n")
    plan = load_plan(beside.folder / "mine.yaml", ("pretrain.epochs=2",))
    run_and_report(plan, RunFolder(tmp_path / "runs" / "mine"), workers=1)
    text = (tmp_path / "runs" / "mine" / "recipe.yaml").read_text()
    assert text.startswith("# Mine.\n# Derived from 'whole.yaml'")
    (beside.folder / "whole.yaml").unlink()
    run_and_report(plan_of(tmp_path / "runs" / "mine"), RunFolder(tmp_path / "runs" / "again"), workers=1)
    said = differences(tmp_path / "runs" / "mine", tmp_path / "runs" / "again")
    assert said.scores
    assert not said.differences
    assert not said.other_weights
