"""The kit on specs and on whole packages: what is broken is named, what is whole passes, and nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from mmcl.api import BackboneSpec, Field, HeadSpec, Kind, LossSpec, NoParams, Params
from mmcl.testing import check_plugin, check_spec, make_variants

PACKAGE = """
from mmcl.api import Field, Kind, LossSpec, Params, hookimpl
{top}

class TinyParams(Params):
    temperature: float = Field(0.1, gt=0, description="divides the cosines")


def build(params):
    import torch
    def loss(pair):
        from mmcl.api import Scored
        logits = pair.similarity() / params.temperature
        low = torch.finfo(logits.dtype).min
        anchors = pair.positive.any(1)
        each = logits.masked_fill(pair.ignore, low).logsumexp(1) - logits.masked_fill(~pair.positive, low).logsumexp(1)
        total = each.masked_fill(~anchors, 0.0).sum() + 0 * logits.sum()
        return Scored(total / {divisor}, anchors.sum())
    loss.reduction, loss.symmetric = "mean", False
    return loss


TINY = LossSpec("tiny-nce", "a tiny loss", TinyParams, build)


@hookimpl
def register_losses(register):
    {hook}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a plug-in package and returns its name."""
    import sys

    written = []

    def write(name, top="", hook="register(TINY)", divisor="anchors.sum().clamp_min(1)"):
        (tmp_path / f"{name}.py").write_text(PACKAGE.format(top=top, hook=hook, divisor=divisor))
        written.append(name)
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_good_plugin_has_only_passes(package):
    results = check_plugin(package("kit_good"))
    assert {r.name for r in results} == {"loss tiny-nce", "plug-in kit_good"}
    assert [r for r in results if not r.passed] == []
    assert len(results) == len({(r.name, r.check) for r in results}), "every check has a name of its own"
    assert "blocks of rows add up to the whole" in {r.check for r in results}


def test_plugin_is_checked_as_a_module_too(package):
    import importlib

    assert all(r.passed for r in check_plugin(importlib.import_module(package("kit_module"))))


def test_one_broken_rule_is_listed_beside_the_kept_ones(package):
    results = check_plugin(package("kit_wrong", divisor="len(pair.left)"))
    failed = {r.check: r.message for r in results if r.passed is False}
    assert set(failed) == {"anchors without positives are left out", "blocks of rows add up to the whole"}
    assert all(message.startswith("loss 'tiny-nce'") for message in failed.values())
    assert any(r.passed for r in results)


def test_plugin_that_does_not_load_is_one_failure_with_its_reason(package):
    (result,) = check_plugin(package("kit_broken", top="raise OSError('no licence file')"))
    assert (result.passed, result.check) == (False, "loads")
    assert "OSError: no licence file" in result.message
    (result,) = check_plugin("kit_that_is_nowhere")
    assert result.passed is False


def test_plugin_that_offers_nothing_is_one_failure(package):
    (result,) = check_plugin(package("kit_empty", hook="pass"))
    assert result.passed is False
    assert "registers nothing" in result.message


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("kit_top", {"top": "import torch"}, "importing 'kit_top' imports torch"),
        ("kit_hook", {"hook": "import sklearn; register(TINY)"}, "calling its hooks imports .*sklearn"),
    ],
)
def test_heavy_import_before_build_is_caught_at_its_moment(package, name, change, words):
    import importlib

    module = importlib.import_module(package(name, **change))
    with pytest.raises(AssertionError, match=words):
        check_spec(module.TINY)


def test_result_says_when_a_check_could_not_be_tried(tmp_path, monkeypatch):
    (tmp_path / "kit_refuses.py").write_text(
        "from mmcl.api import BackboneSpec, NoParams, hookimpl\n"
        "def fits(params, layout):\n    raise ValueError('never')\n"
        "SPEC = BackboneSpec('never', 'takes nothing', (('time', 'channel'),), NoParams, lambda p, l: None, fits)\n"
        "@hookimpl\ndef register_backbones(register):\n    register(SPEC)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (untried,) = [r for r in check_plugin("kit_refuses") if r.passed is not True]
    assert untried.passed is None
    assert "give it one that it takes" in untried.message


def spec_with(params=NoParams, name="tiny", summary="a tiny loss", build=None):
    return LossSpec(name, summary, params, build or (lambda params: None))


class NoSentence(Params):
    margin: float = 0.5


class NoDefault(Params):
    margin: float = Field(description="how far apart")


class WrongDefault(Params):
    margin: float = Field(-1.0, gt=0, description="how far apart")


class TakesAnything(Params, extra="allow"):
    margin: float = Field(1.0, gt=0, description="how far apart")


class Changes(Params, frozen=False):
    margin: float = Field(1.0, gt=0, description="how far apart")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (spec_with(NoSentence), "'margin' has no description"),
        (spec_with(NoDefault), "'margin' has no default"),
        (spec_with(WrongDefault), "a default breaks its own type or bounds"),
        (spec_with(TakesAnything), "accepts an unknown option"),
        (spec_with(Changes), "options can be changed"),
        (spec_with(name="Tiny_Loss"), "lower-case letters, digits and hyphens"),
        (spec_with(summary="two\nlines"), "the summary is one line"),
        (spec_with(summary=" "), "the summary is one line"),
        (Kind("odd", ("channel", "time"), "time comes last"), "time first"),
        (BackboneSpec("none", "takes nothing", (), NoParams, lambda params, layout: None), "accepts names no axes"),
        (HeadSpec("odd", "an odd task", ("ranking",), NoParams, lambda params, task, widths: None), "types of task"),
        (object(), "is no spec"),
    ],
)
def test_spec_that_breaks_a_rule_is_caught_for_it(spec, words):
    with pytest.raises(AssertionError, match=words):
        check_spec(spec)


def test_variants_are_the_defaults_and_every_other_choice_one_at_a_time():
    class Choices(Params):
        norm: Literal["layer", "batch", "none"] = Field("batch", description="which")
        bias: bool = Field(True, description="whether")
        width: int = Field(8, description="how wide")

    assert [(v.norm, v.bias, v.width) for v in make_variants(Choices)] == [
        ("batch", True, 8),
        ("layer", True, 8),
        ("none", True, 8),
        ("batch", False, 8),
    ]


def test_importing_the_kit_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, mmcl.testing; print([m for m in mmcl.testing.HEAVY if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    assert done.stdout.strip() == "[]"
