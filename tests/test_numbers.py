"""Corpora at the edge of what can be counted: each gives a sensible result with a remark in the report, or one sentence."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from mmcl.api import Audio, MmclError
from mmcl.data.recordings import Recordings
from mmcl.plugins import plugins
from mmcl.report import run_and_report
from mmcl.runs import read_json
from tests.conftest import LEAST

RECIPE = (
    """\
format: 1
name: edge
seed: 3
dataset: {use: toy, samples: 36, speakers: 6, missing: 0.0}
"""
    + LEAST
    + """\
pretrain: {batch_size: 16, epochs: 1, optimizer: {use: adamw, lr: 1e-3}}
probe: {tasks: [emotion], inputs: [all], heads: {linear: {use: linear, l2: [0.1]}}}
report: {against: [majority]}
protocol: {use: official}
"""
)


def labelled(label):
    return lambda samples: [dataclasses.replace(one, targets={"emotion": label(i, one)}) for i, one in enumerate(samples)]


def sided(old, new):
    return lambda samples: [dataclasses.replace(one, split=new if one.split == old else one.split) for one in samples]


SIDES = ("train", "valid", "test")
REFUSED = {
    "one speaker": (
        lambda samples: [dataclasses.replace(one, group="anna") for one in samples],
        "no recording for train; .* all 36 recordings are of one group, 'anna'",
    ),
    "no test": (sided("test", "train"), "fold 0 has no recording for test"),
    "no training": (sided("train", "test"), "fold 0 has no recording for train"),
    "two recordings": (lambda samples: samples[:2], "fold 0 has no recording for"),
    "a recording for each side": (
        lambda samples: [dataclasses.replace(one, split=side) for one, side in zip(samples, SIDES, strict=False)],
        "nothing to contrast",
    ),
    "no label": (labelled(lambda i, one: None), "no training row has a label for 'emotion'; nothing can be fitted"),
}
REMARKED = {
    "a class with one recording": (
        labelled(lambda i, one: 5 if i == 0 else i % 4),
        "Without a recording: ",
    ),
    "one class": (labelled(lambda i, one: 2), "Without a recording: "),
    "one label": (labelled(lambda i, one: 1 if i == 0 else None), "Without a recording: "),
    "no label in test": (labelled(lambda i, one: None if one.split == "test" else i % 4), "undefined|without a value|no value"),
}


@pytest.fixture
def corpus(monkeypatch):
    """Changes what the toy corpus lists, and what it reads of its sound."""

    def change(listing=None, sound=None):
        from mmcl.stages import prepare, recordings

        whole, read = recordings.recordings_of, prepare.read_source
        if listing is not None:
            monkeypatch.setattr(recordings, "recordings_of", lambda *args: Recordings.of(listing(whole(*args))))
        if sound is not None:

            def spoiled(dataset, name, id, source, where):
                raw = read(dataset, name, id, source, where)
                return Audio(sound(raw.samples), raw.rate) if source == "audio" else raw

            monkeypatch.setattr(prepare, "read_source", spoiled)

    return change


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_from_is_one_sentence(name, corpus, tiny_plan, run):
    listing, sentence = REFUSED[name]
    corpus(listing)
    with pytest.raises(MmclError, match=sentence) as refused:
        run_and_report(tiny_plan(text=RECIPE), run, workers=1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", REMARKED)
def test_what_says_little_is_run_and_remarked_on(name, corpus, tiny_plan, run, capsys):
    listing, remark = REMARKED[name]
    corpus(listing)
    run_and_report(tiny_plan(text=RECIPE), run, workers=1)
    assert not [path for path in run.root.rglob("*") if path.name in ("resume", "resume.old", "last.old")]
    scores = read_json(run.root / "report.json")["scores"]
    assert scores
    page = (run.root / "report.html").read_text(encoding="utf-8")
    assert any(word in page for word in remark.split("|")), name
    if name == "one class":
        assert "a head learns to say that and nothing else; two classes are needed" in capsys.readouterr().err
        assert all(row["value"] == 1.0 for row in scores if row["metric"] == "accuracy")
    if name == "no label in test":
        assert {row["value"] for row in scores if row["metric"] == "accuracy"} == {None}


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_a_modality_that_never_changes_gives_finite_scores(level, corpus, tiny_plan, run):
    corpus(sound=lambda samples: np.full(len(samples), level, np.float32))
    run_and_report(tiny_plan(text=RECIPE), run, workers=1)
    values = [row["value"] for row in read_json(run.root / "report.json")["scores"]]
    assert values and all(value is not None and np.isfinite(value) for value in values)


def test_streams_of_no_length_are_listed_and_leave_nothing_to_contrast(corpus, tiny_plan, run):
    corpus(sound=lambda samples: samples[:0])
    with pytest.raises(MmclError, match="nothing to contrast|no recording") as refused:
        run_and_report(tiny_plan(text=RECIPE), run, workers=1)
    assert "\n" not in str(refused.value)
    kept = read_json(run.root / "prepare.json")["modalities"]["audio"]
    assert (kept["present"], len(kept["skipped"])) == (0, 36)


def test_a_target_that_never_changes_gives_scores_without_a_number_and_says_so(tiny_plan, run, tmp_path):
    """Nothing can be correlated with a constant; its error is that of a constant guess."""
    root = tmp_path / "data" / "folder"
    plugins().get("dataset", "folder").spec.sample(root, 24, 0)
    table = (root / "recordings.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in table[1:]]
    lines = [table[0], *(",".join([*row[:5], "0.25", *row[6:]]) for row in rows)]
    (root / "recordings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = (
        "format: 1\nname: flat\ndataset: {use: folder, table: recordings.csv, labels: {valence: {type: regression}}}\nmodalities:\n  one: {source: hand, features: "
        "{use: signals}, backbone: {use: mlp, hidden: [4], width: 4}}\npretrain: {epochs: 0}\nprobe: {tasks: [valence], inputs: [one], "
        "heads: {linear: {use: linear, l2: [0.1]}}}\nreport: {against: [majority]}\nprotocol: {use: hold-out, test: 0.3, valid: 0.3}\n"
    )
    run_and_report(tiny_plan(text=recipe, data=tmp_path / "data"), run, workers=1)
    by = {row["metric"]: row["value"] for row in read_json(run.root / "report.json")["scores"] if row["encoder"] == "random"}
    assert by and all(value is None or np.isfinite(value) for value in by.values())
    assert None in by.values()
    assert by["mae"] == pytest.approx(0.0, abs=1e-3)
    assert re.search("undefined|without a value|no value", (run.root / "report.html").read_text(encoding="utf-8"))
