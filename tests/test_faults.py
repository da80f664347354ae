"""What a stranger's plug-in does wrong is one sentence that names it, its options and the recordings, and the way to the traceback."""

from __future__ import annotations

import shutil

import pytest

from mmcl.cli import main

RECIPE = """
format: 1
name: study
seed: 1
dataset: {use: study}
modalities:
  left: {source: left, features: {use: signals}, backbone: {use: BACKBONE}}
  right: {source: right, features: {use: signals}, backbone: {use: mlp, hidden: [4], width: 4}}
projection: {hidden: 4, width: 4}
pretrain: {batch_size: 8, epochs: 1, optimizer: {use: adamw, lr: 1e-3}, objective: {loss: LOSS, positives: POSITIVES}}
probe: {inputs: [left], heads: {linear: {use: HEAD}}}
report: {against: []}
protocol: {use: official}
"""
KINDS = {"BACKBONE": "mlp", "LOSS": "info-nce", "POSITIVES": "same-sample", "HEAD": "linear"}

LOSS = """
from mmcl.api import Field, LossSpec, Params, PositivesSpec, Scored


class LossParams(Params):
    warmth: float = Field(0.5, gt=0, description="how warm")


class Odd:
    reduction, symmetric = "mean", False

    def __call__(self, pair):
        BODY


@hookimpl
def register_losses(register):
    register(LossSpec("odd", "odd", LossParams, lambda params: Odd()))
"""
POSITIVES = """
from mmcl.api import PositivesSpec


def rule(left, right):
    import torch
    mine = left.row[:, None] == right.row[None, :]
    BODY


@hookimpl
def register_positives(register):
    register(PositivesSpec("odd", "odd", NoParams, lambda params: rule))
"""
BACKBONE = """
from mmcl.api import BackboneSpec


def build(params, layout):
    from torch import nn
    from mmcl.api import Encoded

    class Odd(nn.Module):
        width = 3

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, stream):
            BODY

    return Odd()


@hookimpl
def register_backbones(register):
    register(BackboneSpec("odd", "odd", (("time", "channel"),), NoParams, build))
"""


def mmcl(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main([*arguments])
    return int(left.value.code or 0)


@pytest.mark.parametrize(
    ("kind", "code", "body", "words"),
    [
        (
            "LOSS",
            LOSS,
            "raise ValueError('too warm')",
            [
                "plug-in 'study' (package acme-study 1.0: ",
                "loss 'odd' (pretrain.objective.loss, warmth: 0.5)",
                "failed in __init__.py line",
                "ValueError: too warm",
                "at the recordings r",
                "--traceback",
            ],
        ),
        ("LOSS", LOSS, "return pair.left @ pair.left", ["failed in __init__.py line", "RuntimeError"]),
        (
            "LOSS",
            LOSS,
            "return pair.similarity().mean()",
            ["the loss Odd (acme_study): gives an mmcl.api.Scored; it gave a Tensor", "at the recordings r"],
        ),
        (
            "LOSS",
            LOSS,
            "return Scored(pair.similarity().mean(0), pair.positive.sum())",
            ["`loss` of its Scored is a tensor of one number; it gave one of shape [8]"],
        ),
        (
            "LOSS",
            LOSS,
            "return Scored(pair.similarity().mean(), 8)",
            ["`anchors` of its Scored is a tensor of one number; it gave a int"],
        ),
        (
            "POSITIVES",
            POSITIVES,
            "return mine.T[:2], mine",
            [
                "positives 'odd' (pretrain.objective.positives; package acme-study 1.0): `positive` is bool [anchors, candidates], here [8, 8]; it gave torch.bool [2, 8]"
            ],
        ),
        ("POSITIVES", POSITIVES, "return mine, mine.int()", ["`ignore` is bool [anchors, candidates]", "it gave torch.int32"]),
        ("POSITIVES", POSITIVES, "return mine", ["gives two masks, positive and ignore; it gave a Tensor"]),
        (
            "BACKBONE",
            BACKBONE,
            "return Encoded(self.linear(stream.values.mean(1)))",
            [
                "backbone 'odd' (modalities.left.backbone; acme_study): promises vectors of width 3, so [8, 3] of 8 rows; it gave [8, 4]"
            ],
        ),
        (
            "BACKBONE",
            BACKBONE,
            "return self.linear(stream.values.mean(1))[:, :3]",
            ["gives an mmcl.api.Encoded; it gave a Tensor"],
        ),
        ("BACKBONE", BACKBONE, "return Encoded(stream.values.mean(1)[1:])", ["of 8 rows; it gave [7, 3]"]),
        (
            "BACKBONE",
            BACKBONE,
            "return Encoded({}['none'])",
            ["backbone 'odd' (modalities.left.backbone)", "KeyError: 'none'", "at the recordings r"],
        ),
    ],
)
def test_a_fault_of_a_stranger_is_one_sentence(study, tmp_path, capsys, kind, code, body, words):
    study.add(code.replace("BODY", body))
    text = RECIPE
    for name, use in KINDS.items():
        text = text.replace(name, "odd" if name == kind else use)
    (tmp_path / "study.yaml").write_text(text)
    assert mmcl("run", "study.yaml", "--workers", "1") == 2
    told = capsys.readouterr().err
    for word in words:
        assert word in told
    assert "Traceback" not in told
    assert "bug in mmcl" not in told
    assert len([line for line in told.splitlines() if line.startswith("mmcl: ")]) == 1
    if kind == "LOSS" and "warm" in body:
        assert mmcl("--traceback", "run", "study.yaml", "--workers", "1") == 2
        told = capsys.readouterr().err
        assert "Traceback" in told
        assert "raise ValueError('too warm')" in told


BUILDS = {
    "LOSS": "from mmcl.api import LossSpec\n\n\n@hookimpl\ndef register_losses(register):\n"
    "    register(LossSpec('odd', 'odd', NoParams, lambda params: GIVEN))\n",
    "GROUP": "from mmcl.api import GroupLossSpec\n\n\n@hookimpl\ndef register_group_losses(register):\n"
    "    register(GroupLossSpec('odd', 'odd', NoParams, lambda params, widths: GIVEN))\n",
    "POSITIVES": "from mmcl.api import PositivesSpec\n\n\n@hookimpl\ndef register_positives(register):\n"
    "    register(PositivesSpec('odd', 'odd', NoParams, lambda params: GIVEN))\n",
    "BACKBONE": "from mmcl.api import BackboneSpec\n\n\n@hookimpl\ndef register_backbones(register):\n"
    "    register(BackboneSpec('odd', 'odd', (('time', 'channel'),), NoParams, lambda params, layout: GIVEN))\n",
    "HEAD": "from mmcl.api import HeadSpec\n\n\n@hookimpl\ndef register_heads(register):\n"
    "    register(HeadSpec('odd', 'odd', ('single-label',), NoParams, lambda params, task, widths: GIVEN))\n",
}
"""Kind → a plug-in whose `build` gives GIVEN."""


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("LOSS", "5", "gives what can be called; it gave a int"),
        ("LOSS", "(lambda pair: None)", "says `reduction`, 'mean' or 'sum' or 'whole'; it has none"),
        (
            "LOSS",
            "type('L', (), {'reduction': 'max', '__call__': print})()",
            "says `reduction`, 'mean' or 'sum' or 'whole'; it has 'max'",
        ),
        ("LOSS", "type('L', (), {'reduction': 'mean', '__call__': print})()", "says `symmetric`, True or False; it has none"),
        ("GROUP", "5", "gives what can be called; it gave a int"),
        ("GROUP", "(lambda group: None)", "says `reduction`, 'mean' or 'sum' or 'whole'; it has none"),
        ("POSITIVES", "None", "gives what can be called; it gave a NoneType"),
        ("BACKBONE", "5", "torch.nn.Module"),
        ("HEAD", "5", "torch.nn.Module"),
    ],
)
def test_something_else_than_what_build_promises_is_one_sentence(study, tmp_path, capsys, kind, given, words):
    study.add(BUILDS[kind].replace("GIVEN", given))
    text = RECIPE.replace(
        "positives: POSITIVES}", "positives: POSITIVES, group: odd}" if kind == "GROUP" else "positives: POSITIVES}"
    )
    for name, use in KINDS.items():
        text = text.replace(name, "odd" if name == kind else use)
    (tmp_path / "study.yaml").write_text(text)
    assert mmcl("run", "study.yaml", "--workers", "1") == 2
    told = capsys.readouterr().err
    assert "'odd'" in told
    assert "acme" in told
    assert words in told
    assert "Traceback" not in told


def test_a_fault_while_a_recipe_is_planned_names_the_plugin_too(study, tmp_path, capsys):
    study.add(
        BACKBONE.replace(
            '("time", "channel"),), NoParams, build', '("time", "channel"),), NoParams, build, lambda p, layout: 1 / 0'
        )
    )
    text = RECIPE
    for name, use in KINDS.items():
        text = text.replace(name, "odd" if name == "BACKBONE" else use)
    (tmp_path / "study.yaml").write_text(text)
    assert mmcl("check", "study.yaml") == 2
    told = capsys.readouterr().err
    assert "plug-in 'study' (package acme-study 1.0) failed in __init__.py line" in told
    assert "ZeroDivisionError: division by zero" in told
    assert "Traceback" not in told


def test_our_own_bugs_stay_ours(tiny_plan, run, monkeypatch, capsys):
    from mmcl.plugins import fault_of

    with pytest.raises(ValueError, match="ours") as ours:
        raise ValueError("ours")
    assert fault_of(ours.value, tiny_plan().parts) is None


def test_an_uninstalled_plugin_is_named_with_the_package_that_offered_it(study, tmp_path, capsys):
    from mmcl import load_encoders
    from mmcl.api import PluginError
    from mmcl.review.rerun import plan_of
    from mmcl.use.opened import stated_plan

    study.add(BACKBONE.replace("BODY", "return Encoded(stream.values.mean(1) + 0 * self.linear(stream.values.mean(1))[:, :3])"))
    text = RECIPE
    for name, use in KINDS.items():
        text = text.replace(name, "odd" if name == "BACKBONE" else use)
    (tmp_path / "study.yaml").write_text(text)
    assert mmcl("run", "study.yaml", "--workers", "1") == 0
    run = tmp_path / "runs" / "study"
    stated_plan(run)
    shutil.rmtree(study.info)
    study.forget()
    words = r"'study' \(dataset\) of acme-study==1.0, 'odd' \(modalities.left.backbone\) of acme-study==1.0; if you know that package: pip install acme-study==1.0"
    for opened in (stated_plan, plan_of):
        with pytest.raises(PluginError, match=words):
            opened(run)
    with pytest.raises(
        PluginError,
        match="backbone 'odd' was offered by the package acme-study 1.0, .*; if you know that package: pip install acme-study==1.0",
    ):
        load_encoders(run / "fold-00" / "seed-1" / "pretrain")
    heads = run / "fold-00" / "seed-1" / "probe" / "heads.json"
    text = heads.read_text().replace('"use": "linear"', '"use": "gone"').replace('"package": "mmcl"', '"package": "acme-heads"')
    heads.write_text(text)
    from mmcl import load_heads

    with pytest.raises(PluginError, match="head 'gone' was offered by the package acme-heads"):
        load_heads(heads.parent)
