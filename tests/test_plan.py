"""Plans: every name looked up, every option checked, all problems said at once, each with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmcl.api import RecipeError
from mmcl.recipe.plan import make_plan
from mmcl.recipe.read import parse_recipe

GOOD = """\
format: 1
name: good
dataset: toy
modalities:
  words: {features: hashed-words, backbone: {use: mlp}}
  audio: {features: log-mel, backbone: tcn}
  faces: {features: frames, backbone: frame-cnn}
"""


def plan(*overrides: str, text: str = GOOD, data: Path | None = None, folder: Path = Path()):
    return make_plan(parse_recipe(text, "r.yaml", overrides, folder), data, overrides=overrides)


def said(*overrides: str, **more) -> str:
    with pytest.raises(RecipeError) as error:
        plan(*overrides, **more)
    return str(error.value)


def test_everything_has_a_default_and_the_plan_is_json():
    made = plan()
    text = json.dumps(made.to_json(), allow_nan=False)
    assert '"temperature": 0.07' in text
    assert '"patience": null' in text
    assert made.to_json()["modalities"]["audio"]["backbone"]["params"]["dropout"] == 0.1
    assert made.seeds == (0,)
    assert set(made.inputs) == {"words", "audio", "faces", "all"}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("all", {("words", "audio"), ("words", "faces"), ("audio", "faces")}),
        ("star:audio", {("audio", "words"), ("audio", "faces")}),
        ("[[faces, words]]", {("faces", "words")}),
    ],
)
def test_pairs_are_what_they_say(pairs, expected):
    assert set(plan(f"pretrain.objective.pairs={pairs}").pairs) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "pretrain.objective.pairs=[[audio, text]]",
            "--set: pretrain.objective.pairs: no modality is named text; there are words, audio, faces",
        ),
        ("pretrain.objective.pairs=[[audio, words], [words, audio]]", "names a pair twice"),
        (
            "pretrain.objective.pairs=same",
            "pairs a modality with itself, where 'same-sample' has no positives but the anchor itself",
        ),
        ("pretrain.objective.pairs=every", "must be all, same, all+same, star:NAME or a list of pairs, got 'every'"),
        ("probe.inputs=[audio+text]", "probe.inputs[0]: no modality is named 'text'"),
        ("probe.tasks=[mood]", "probe.tasks[0]: no task is named 'mood'; 'toy' has the tasks emotion"),
        ("modalities.audio.source=faces", "'log-mel' reads audio; the dataset has words (words), audio (audio)"),
        ("modalities.audio.source=voice", "the dataset has no source 'voice'"),
        ("modalities.audio.features=skeleton", "modalities.audio"),
        ("modalities.audio.backbone=r2plus1", "unknown backbone 'r2plus1'"),
        ("modalities.audio.backbone.kernel=0", "modalities.audio.backbone.kernel: must be greater than or equal to 1, got 0"),
        ("modalities.audio.backbone.kernal=3", "modalities.audio.backbone.kernal: is not a key here; did you mean 'kernel'?"),
        ("modalities.audio.backbone.channels=64", "must be a list, such as [64], got 64"),
        ("modalities.audio.features.bands=many", "modalities.audio.features.bands: must be a valid integer, got 'many'"),
        ("modalities.audio.features.fmax=9000", "fmax 9000 Hz is above half the sample rate"),
        ("modalities.all={features: log-mel, source: audio, backbone: tcn}", "must be a name of letters, digits"),
        ("protocol={use: k-fold, k: 1}", "protocol.k: must be greater than or equal to 2, got 1"),
        (
            "protocol=bootstrap",
            "protocol: must name one of official, hold-out, k-fold, folds, leave-one-group-out, got 'bootstrap'",
        ),
        ("pretrain.schedule={every: 5}", "pretrain.schedule: needs 'use:'"),
        ("pretrain.optimizer={use: sgd, momentum: 1.5}", "momentum"),
        ("seed=soon", "seed"),
        ("format=2", "format"),
        ("name=a b", "name"),
        ("dataset={use: toy, root: here}", "'toy' makes its own data; leave root out"),
        ("dataset=ravdess", "where is the data? Set dataset.root, or give --data DIR"),
        ("window.hop=1", "needs window.seconds"),
        ("probe.heads.linear={use: linear, l2: []}", "probe.heads.linear.l2"),
    ],
)
def test_each_mistake_has_its_sentence(override, message):
    assert message in said(override)


def test_all_problems_are_said_at_once_in_the_order_of_their_lines():
    text = (
        GOOD.replace("name: good", "nam: good")
        .replace("backbone: tcn", "backbone: {use: tcn, kernel: 0}")
        .replace("frame-cnn", "frame-cn")
    )
    lines = said(text=text).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "2", "6", "7"]
    assert "is missing" in lines[0]
    assert "did you mean 'name'?" in lines[1]
    assert "did you mean 'frame-cnn'" in lines[3]


def test_folds_come_from_a_file_beside_the_recipe(tmp_path):
    (tmp_path / "f.csv").write_text("group,fold\na,0\nb,1\nc,2\n")
    made = plan("protocol={use: folds, file: f.csv}", folder=tmp_path)
    assert made.fold_of == {"a": "0", "b": "1", "c": "2"}
    assert made.fold_key == "group"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("speaker,fold\na,0\n", "needs the columns 'group' (or 'id') and 'fold', has speaker, fold"),
        ("group,fold\na,0\na,1\n", "f.csv:3: group 'a' stands in fold 0 and in fold 1"),
        ("group,fold\na,0\nb,\n", "f.csv:3: group 'b' has no fold"),
        ("group,fold\na,0\n", "has 1 fold; at least two are needed"),
        (None, "cannot be read as CSV (No such file or directory)"),
    ],
)
def test_a_bad_file_of_folds_is_said(tmp_path, content, message):
    if content is not None:
        (tmp_path / "f.csv").write_text(content)
    assert message in said("protocol={use: folds, file: f.csv}", folder=tmp_path)


def test_roots_lie_under_the_data_folder_unless_absolute(tmp_path):
    text = (
        GOOD.split("modalities:")[0].replace("toy", "ravdess")
        + "modalities:\n  audio: {features: log-mel, backbone: tcn}\n  openface: {features: action-units, backbone: mlp}\nprotocol: {use: k-fold}\n"
    )
    assert plan(text=text, data=tmp_path).root == tmp_path / "ravdess"
    assert plan("dataset.root=r", text=text, data=tmp_path).root == tmp_path / "r"
    assert plan("dataset.root=r", text=text).root == Path("r")
    assert plan("dataset.root=/x/r", text=text, data=tmp_path).root == Path("/x/r")


def test_a_dataset_without_official_splits_needs_another_protocol():
    text = (
        GOOD.split("modalities:")[0].replace("toy", "ravdess")
        + "modalities:\n  audio: {features: log-mel, backbone: tcn}\n  openface: {features: action-units, backbone: mlp}\n"
    )
    assert "'ravdess' has no official test split; use hold-out, k-fold, folds or leave-one-group-out" in said(
        text=text, data=Path("d")
    )
