"""`mmcl profile`: parts of a step, measured on the recipe's own recordings, and advice that follows from what was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mmcl.api import StageError
from mmcl.cli import main
from mmcl.report.profile import head, page, profile_and_report, rows_of
from mmcl.runs import RunFolder
from mmcl.stages import pace
from mmcl.stages import prepare as preparing
from mmcl.stages import profile as stage_module
from mmcl.stages.prepare import prepare
from mmcl.stages.profile import Part, Profile, profile

MEASURED = Profile(
    name="tiny",
    device="cpu",
    threads=1,
    precision="float32",
    recordings=32,
    views=2,
    parts=(
        Part("text", "modality", 10.0, 20.0, 3.0),
        Part("faces", "modality", 100.0, 200.0, 50.0),
        Part("pairs", "objective", 4.0, 5.0, 0.0),
        Part("optimiser", "optimiser", 1.0, 0.0, 7.0),
        Part("windows", "reading", 30.0, 0.0, 9.0),
    ),
    steps={"float32": 340.0, "bf16": 170.0},
    peak=512.0,
)


@pytest.fixture(scope="module")
def measured(tiny_plan, tmp_path_factory):
    """The tiny recipe's step, the page of it, and the folder that it was measured in."""
    run = RunFolder(tmp_path_factory.mktemp("profile") / "runs" / "tiny-profile")
    return *profile_and_report(tiny_plan(), run, workers=1, steps=1), run


def test_every_part_of_a_step_is_measured(measured):
    one, *_ = measured
    kinds = {part.name: part.kind for part in one.parts}
    modalities = dict.fromkeys(("text", "audio", "landmarks"), "modality")
    assert kinds == {**modalities, "pairs": "objective", "optimiser": "optimiser", "windows": "reading"}
    assert all(part.forward > 0 for part in one.parts)
    assert {part.name for part in one.parts if part.backward > 0} == {*modalities, "pairs"}
    assert (one.recordings, one.views, one.precision) == (16, 1, "float32")
    assert one.step == one.steps["float32"] > 0


def test_what_is_measured_is_written_and_nothing_that_was_learned(measured):
    one, path, run = measured
    assert json.loads((run.root / "profile.json").read_text()) == one.to_json()
    assert path.read_text().count("<svg") == 2  # for a desk and for a phone
    left = {file.name for file in run.root.rglob("*") if file.is_file()} - {".mmcl", ".lock", "log.jsonl"}
    assert left == {"prepare.json", "folds.json", "recordings.safetensors", "profile.json", "profile.html"}


def test_memory_of_a_modality_grows_with_the_batch_and_that_of_the_optimiser_does_not(measured, tiny_plan):
    one, _, run = measured
    few = profile(tiny_plan("pretrain.batch_size=8"), run, steps=1)
    for part, smaller in zip(one.parts, few.parts, strict=True):
        if part.kind == "optimiser":
            assert part.memory == smaller.memory > 0
        elif part.kind == "modality":
            assert part.memory > 1.2 * smaller.memory > 0


def test_both_precisions_are_measured_where_the_processor_has_both(tiny_plan, measured, monkeypatch):
    monkeypatch.setattr(stage_module, "bf16_instructions", lambda: "amx_bf16")
    kinds = []
    encode = stage_module.arithmetic

    def watched(precision, device):
        kinds.append(precision)
        return encode(precision, device)

    monkeypatch.setattr("mmcl.stages.learners.arithmetic", watched)
    both = profile(tiny_plan(), measured[2], steps=1)
    assert list(both.steps) == ["float32", "bf16"]
    assert set(kinds) == {"float32", "bf16"}
    monkeypatch.setattr(stage_module, "bf16_instructions", lambda: None)
    alone = profile(tiny_plan(), measured[2], steps=1)
    assert list(alone.steps) == ["float32"]
    assert "bf16: the processor has no instructions for it" in alone.advice()


def test_a_pretext_is_one_part(tiny_plan, run):
    cae = "pretrain={pretext: {use: cae, steps: 10, channels: [2, 2, 2, 2]}, batch_size: 16, epochs: 1, optimizer: {use: adamw, lr: 1e-3}}"
    plan = tiny_plan(cae, *[f"modalities.{name}.backbone=" for name in ("text", "audio", "landmarks")], "probe.inputs=[all]")
    prepare(plan, run, 1)
    one = profile(plan, run, steps=1)
    assert [part.name for part in one.parts] == ["all modalities", "optimiser", "windows"]
    assert one.parts[0].memory > 0


def test_without_pretraining_there_is_no_step(tiny_plan, run):
    with pytest.raises(StageError, match=r"pretrain.epochs is 0, so there is no step to measure"):
        profile(tiny_plan("pretrain.epochs=0"), run)


def test_a_measured_step_learns_as_pretraining_does(tiny_plan, measured):
    """The step that is timed is the real one: weights move, and those of every encoder."""
    (unit, *_) = stage_module.units_of(tiny_plan(), measured[2])
    way = stage_module._Way(unit, "float32", torch.device("cpu"))
    _, batches = stage_module._read(unit, [unit.fold.train[:16]], 1)
    before = {name: value.clone() for name, value in way.learner.model.named_parameters()}
    way.step(batches[0], 1)
    moved = {name.split(".")[0] for name, value in way.learner.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"text", "audio", "landmarks"}


def test_advice_says_what_was_measured():
    first, bf16, windows = MEASURED.advice()
    assert first.startswith("faces: 88% of the step")  # 300 of 340
    assert bf16.startswith("bf16: 2.0x here (340 ms in float32, 170 ms in bf16): pretrain.precision: auto")
    assert windows == "windows: 30 ms a batch, cut beside a step of 340 ms: nothing to gain"
    slow = replace(MEASURED, steps={"float32": 20.0, "bf16": 19.0})
    assert slow.advice()[1].endswith("leave pretrain.precision: float32")
    assert slow.advice()[2].startswith("windows: 30 ms a batch, longer than the step itself")
    assert replace(MEASURED, precision="bf16").advice()[1].endswith("in use")


def test_workers_are_advised_by_what_reading_took():
    fast = replace(MEASURED, paces={1: 0.010, 2: 0.006}, all=1000)
    assert (
        fast.advice()[-1]
        == "workers: 2 (10.0 ms a recording with 1, 6.0 ms a recording with 2; 1,000 recordings take about 6 s to prepare)"
    )
    assert (
        replace(fast, paces={1: 0.010, 2: 0.0095}).advice()[-1].startswith("workers: 1 (")
    )  # hardly faster, and twice the memory
    assert not any("workers" in sentence for sentence in MEASURED.advice())


def test_compiling_is_advised_where_it_gained_and_why_not_elsewhere():
    told = replace(MEASURED, compiled={"faces": 1.62, "text": 0.9, "voice": "voice: torch.compile cannot"}).advice()[-3:]
    assert told[0] == "compile: faces 1.6x here: pretrain.compile: [faces]"
    assert told[1] == "compile: text 0.9x here: leave it as it is"
    assert told[2] == "compile: voice: torch.compile cannot"


def test_reading_is_measured_with_one_process_and_with_all(tiny_plan, run, monkeypatch):
    monkeypatch.setattr(pace.os, "cpu_count", lambda: 2)
    run.root.mkdir(parents=True)
    assert pace.paces_of(tiny_plan(), run)[0] == {}  # too few recordings for two processes ever to share them
    for module in (pace, preparing):
        monkeypatch.setattr(module, "CHUNK", 4)
    monkeypatch.setattr(pace, "SECONDS", 0.1)
    paces, count = pace.paces_of(tiny_plan(), run)
    assert count >= 32
    assert set(paces) == {1, 2}
    assert min(paces.values()) > 0
    assert not list(run.root.iterdir())
    monkeypatch.setattr(pace, "LONGEST", 0.0)
    assert pace.paces_of(tiny_plan(), run)[0] == {}


def test_the_page_and_the_rows_say_the_same():
    text = page(MEASURED)
    for row in rows_of(MEASURED):
        assert all(cell in text for cell in row)
    assert rows_of(MEASURED)[1] == ("faces", "100.0 + 200.0 ms", "88%", "50.0 MB")
    assert rows_of(MEASURED)[-1][2] == "beside"
    assert head(MEASURED).partition(": ")[2][1:] in text
    assert all(sentence in text for sentence in MEASURED.advice())


def test_the_command_prints_parts_advice_and_where_the_page_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmcl.report.profile.profile_and_report", lambda *given: (MEASURED, tmp_path / "profile.html"))
    with pytest.raises(SystemExit) as stop:
        main(["profile", "quickstart"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == head(MEASURED)
    assert [line.split()[0] for line in lines[2:7]] == ["text", "faces", "pairs", "optimiser", "windows"]
    assert lines[8:11] == MEASURED.advice()
    assert lines[-1] == str(tmp_path / "profile.html")
    with pytest.raises(SystemExit):
        main(["profile", "quickstart", "--json"])
    assert json.loads(capsys.readouterr().out) == MEASURED.to_json()
