"""`precision: auto` is decided once, by the processor, and stated; half precision repeats to the bit."""

from __future__ import annotations

import pytest

from mmcl.recipe import processor
from mmcl.report import run_and_report as run_all
from mmcl.review.rerun import plan_of
from mmcl.runs import RunFolder

SUPERVISED = "supervise={heads: {mlp: {use: mlp}}, precision: auto, epochs: 1}"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this a machine whose processor has these flags."""

    def of(*flags):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nflags\t\t: {' '.join(flags)}\n\nprocessor\t: 1\n")
        monkeypatch.setattr(processor, "CPUINFO", path)

    return of


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        (("fpu", "avx512f", "avx512_bf16"), "bf16"),
        (("amx_bf16", "avx512_bf16"), "bf16"),
        (("fpu", "avx2"), "float32"),
        (("avx512_bf16_not",), "float32"),
    ],
)
def test_the_processor_decides(machine, tiny_plan, flags, precision):
    machine(*flags)
    plan = tiny_plan("pretrain.precision=auto", SUPERVISED)
    stated = plan.to_json()
    assert (stated["pretrain"]["precision"], stated["supervise"]["precision"]) == (precision, precision)
    assert plan.halves == (("pretrain", "supervise") if precision == "bf16" else ())


def test_a_system_that_does_not_say_has_float32(tmp_path, monkeypatch, tiny_plan):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert tiny_plan("pretrain.precision=auto").to_json()["pretrain"]["precision"] == "float32"


def test_what_a_recipe_says_itself_stands_whatever_the_processor(machine, tiny_plan):
    for flags, precision in ((("avx2",), "bf16"), (("amx_bf16",), "float32")):
        machine(*flags)
        plan = tiny_plan(f"pretrain.precision={precision}")
        assert plan.to_json()["pretrain"]["precision"] == precision
        assert plan.overrides == (f"pretrain.precision={precision}",)


def test_a_run_in_half_precision_says_so_and_repeats_to_the_bit_on_a_machine_without_it(machine, tiny_plan, run, capsys):
    machine("avx512_bf16")
    options = ("pretrain.precision=auto", "pretrain.epochs=1", "dataset.samples=48")
    learned = {}

    def train(name, plan):
        folder = RunFolder(run.root.with_name(name), run.root.parent / "prepared")
        run_all(plan, folder, workers=1, stop_after="pretrain")
        learned[name] = next(path for _, _, path in folder.units("pretrain")).joinpath("encoders.safetensors").read_bytes()
        return folder.root

    first = train("first", tiny_plan(*options))
    assert "pretrain in bf16, losses in float32" in capsys.readouterr().err
    machine("avx2")
    again = plan_of(first)
    assert again.to_json()["pretrain"]["precision"] == "bf16"
    train("again", again)
    train("exact", tiny_plan(*options))
    assert learned["again"] == learned["first"]
    assert learned["exact"] != learned["first"], "half precision was not used"
