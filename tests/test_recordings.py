"""Recordings before a run: what `mmcl data check` counts, what is refused before anything is extracted, a limit for dry runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmcl.api import SampleRef, Task
from mmcl.cli import main
from mmcl.data.folds import Fold, make_folds
from mmcl.data.labels import concerns
from mmcl.data.limit import limited
from mmcl.media import write_audio
from mmcl.recipe.planner import load_plan
from mmcl.runs import RunFolder
from mmcl.stages.prepare import prepare

RECIPE = """
format: 1
name: mine
dataset: {use: folder, root: study}
modalities:
  voice: {source: file, features: log-mel, backbone: {use: tcn, channels: [8]}}
pretrain: {epochs: 0}
probe: {heads: {linear: {use: linear}}, tasks: [mood]}
report: {against: [majority]}
protocol: official
"""
SPLITS = {"p0": "train", "p1": "train", "p2": "train", "p3": "valid", "p4": "test", "p5": "test"}


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder `study` of 24 sounds by six speakers, a recipe beside it, and the current folder there."""
    rows = ["file,speaker,split,mood"]
    for i in range(24):
        person = f"p{i % 6}"
        rows.append(f"{i:02d}.wav,{person},{SPLITS[person]},{('calm', 'tense')[i // 6 % 2]}")
        wave = 0.3 * np.sin(2 * np.pi * (200 + 100 * (i // 6 % 2)) * np.arange(8000 + 80 * i) / 8000)
        write_audio(tmp_path / f"study/{i:02d}.wav", wave, 8000)
    (tmp_path / "study/recordings.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMCL_DATA", raising=False)
    return tmp_path / "study"


def change(study: Path, old: str, new: str) -> None:
    """Put other words into the table."""
    table = study / "recordings.csv"
    text = table.read_text(encoding="utf-8")
    assert old in text
    table.write_text(text.replace(old, new), encoding="utf-8")


def test_census_counts_splits_labels_lengths_gaps_and_defects(study, capsys):
    change(study, "07.wav,p1,train,tense", "07.wav,p1,train,")
    content = (study / "03.wav").read_bytes()
    (study / "03.wav").write_bytes(content[: len(content) // 2])
    (study / "04.wav").unlink()
    for target in ("mine.yaml", "study"):
        assert call("data", "check", target, "--json") == 0
        census = json.loads(capsys.readouterr().out)
        assert (census["recordings"], census["groups"], census["group"]) == (24, 6, "speaker")
        assert census["splits"] == {"train": [12, 3], "valid": [4, 1], "test": [8, 2]}
        assert census["tasks"]["mood"] == {"type": "single-label", "counts": {"calm": 12, "tense": 11}, "unknown": 1}
        (source,) = census["sources"]
        lengths = [1 + 0.01 * i for i in range(24) if i not in (3, 4)]
        assert source["seconds"] == pytest.approx(sum(lengths))
        assert (source["shortest"], source["longest"]) == pytest.approx((min(lengths), max(lengths)))
        assert source["rates"] == {"8000": 22}
        assert [(id, name) for id, name, _ in census["defects"]] == [("03", "file"), ("04", "file")]
        assert "03.wav" in census["defects"][0][2]
        assert "is not there" in census["defects"][1][2]


def test_census_is_readable(study, capsys):
    assert call("data", "check", "study") == 0
    text = capsys.readouterr().out
    assert "24 of 6 speakers" in text
    assert "train 12 (3 speakers), valid 4 (1 speaker), test 8 (2 speakers)" in text
    assert "calm 12, tense 12" in text


def test_census_says_that_nobody_knows_who_is_in_the_recordings(study, capsys):
    change(study, "file,speaker,", "file,who,")
    change(study, "split", "part")
    assert call("data", "check", "study") == 0
    assert "the same person may stand on both sides" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",valid,", ",val,", ("'val'", "write 'valid'", "recordings.csv:5")),
        ("08.wav,p2,train", "08.wav,p2,test", ("'p2'", "is in train", "in test")),
        (",test,", ",train,", ("test",)),
        ("00.wav,p0,train,calm", "00.wav,p0,train,clam", ("'clam'", "single recording", "did you mean 'calm'?")),
    ],
    ids=["split-word", "both-sides", "empty-split", "single-label"],
)
def test_what_cannot_be_learned_from_is_refused_alike_before_extraction(study, capsys, old, new, words):
    change(study, old, new)
    for arguments in (["check", "mine.yaml"], ["data", "check", "mine.yaml"], ["data", "check", "study"], ["run", "mine.yaml"]):
        assert call(*arguments) == 2, arguments
        captured = capsys.readouterr()
        for word in words:
            assert word in captured.err, arguments
    assert not list(Path("runs").rglob("store.json"))


def test_check_lists_recordings_of_any_dataset_where_data_are_given(tmp_path, capsys):
    assert call("check", "quickstart") == 0
    assert "recordings" not in capsys.readouterr().out
    assert call("data", "check", "quickstart") == 0
    text = capsys.readouterr().out
    assert "recordings" in text
    assert "says nothing of files before they are read" in text


def protocol(use, **more):
    return SimpleNamespace(use=use, **{"by": "group", **more})


def samples(splits=False):
    return [SampleRef(f"r{i}", f"p{i % 12}", {}, {}, "train" if i % 12 < 8 else "test") for i in range(120)]


@pytest.mark.parametrize(
    ("section", "sides"),
    [
        (protocol("official"), {"train": 2, "test": 1}),  # validation is cut from training
        (protocol("hold-out"), {None: 3}),
        (protocol("leave-one-group-out"), {None: 3}),
        (protocol("k-fold", k=5), {None: 5}),
    ],
    ids=lambda value: getattr(value, "use", ""),
)
@pytest.mark.parametrize("limit", [1, 10, 15])
def test_limit_gives_every_split_its_share_of_several_groups(section, sides, limit):
    everything = samples()
    kept = limited(everything, limit, section, seed=0)
    assert kept == [sample for sample in everything if sample in kept]
    for side, parts in sides.items():
        mine = [sample for sample in kept if side is None or sample.split == side]
        there = len({sample.group for sample in everything if side is None or sample.split == side})
        assert len(mine) == min(limit * parts, 10 * there)
        groups = Counter(sample.group for sample in mine)
        assert len(groups) >= min(there, parts * min(limit, 2)), "two for each split, so that none is left without"
        assert max(groups.values()) <= max(1, limit // 2) or len(groups) == there, "people with many clips crowd nobody out"


def test_limit_is_kept_where_people_have_many_recordings_and_takes_classes_alike():
    everything = [
        SampleRef(f"r{i}", f"p{i % 10}", {}, {"mood": 0 if i % 40 else i // 40 % 5 + 1, "loud": i / 7}) for i in range(2000)
    ]
    section = protocol("k-fold", k=5, valid=0.2, only=None)
    kept = limited(everything, 12, section, seed=0)
    assert len(kept) == 60
    classes = Counter(sample.targets["mood"] for sample in kept)
    assert set(classes) == set(range(6)), "classes of one recording in two hundred are there, too"
    folds = make_folds(section, kept, list(range(60)), 0, None, "group")
    for fold in folds:
        sides = [{kept[row].group for row in rows} for rows in (fold.train, fold.valid, fold.test)]
        assert not sides[0] & sides[1]
        assert not (sides[0] | sides[1]) & sides[2]
        assert len(fold.test) == 12


def test_limit_by_sample_takes_single_recordings():
    assert len(limited(samples(), 4, protocol("hold-out", by="sample"), seed=0)) == 12


def test_limit_draws_the_same_for_one_seed_and_others_for_another():
    one, again, other = (limited(samples(), 10, protocol("hold-out"), seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_limit_takes_each_fold_of_a_file():
    fold_of = {f"p{i}": str(i % 4) for i in range(12)}
    kept = limited(samples(), 10, protocol("folds"), 0, fold_of, "group")
    assert Counter(fold_of[sample.group] for sample in kept) == {str(i): 10 for i in range(4)}


MOOD = Task("mood", "single-label", ("calm", "tense", "glad"))
SIGNS = Task("signs", "multi-label", ("shout", "laugh"))
LEVEL = Task("level", "regression", ("level",))


def labelled(rows):
    """Recordings of (group, mood, signs, level); None: unknown."""
    return [
        SampleRef(f"r{i}", group, {}, {k: v for k, v in (("mood", m), ("signs", s), ("level", n)) if v is not None})
        for i, (group, m, s, n) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [
                ("a", 0, None, 1.0),
                ("b", 1, None, 2.0),
                ("a", 0, None, 1),
                ("b", 1, None, 2),
                ("c", 0, None, 1),
                ("d", 1, None, 1),
            ],
            [],
        ),
        (
            [
                ("a", 0, None, 1.0),
                ("b", 1, None, 2.0),
                ("b", 0, None, 1),
                ("a", 1, None, 2),
                ("c", 2, None, 1),
                ("d", 2, None, 1),
            ],
            [
                "class 'glad' of 'mood' is in 2 of the test recordings and in no training recording",
                "'calm' of 'mood' is in no test",
                "'tense' of 'mood' is in no test",
            ],
        ),
        (
            [
                ("a", 0, None, 1.0),
                ("b", 1, None, 2.0),
                ("a", 2, None, 1),
                ("b", 1, None, 2),
                ("c", 0, None, 1),
                ("d", 1, None, 1),
            ],
            [
                "class 'glad' of 'mood' is in 1 of the validation recordings and in no",
                "'calm' of 'mood' is in no validation recording: nothing is chosen",
                "class 'glad' of 'mood' is of 'a' alone",
            ],
        ),
        (
            [
                ("a", None, [1, 0], 3.0),
                ("b", None, [0, 0], 3.0),
                ("a", 0, [1, 1], 1),
                ("b", 0, [0, 1], 1),
                ("c", 0, [1, 1], None),
                ("d", 1, [0, 1], None),
            ],
            [
                "no training recording has a label of 'mood'",
                "all 2 training recordings with a label of 'signs' lack 'laugh'",
                "of 'level' have the value 3.0",
                "no test recording has a label of 'level'",
                "'tense' of 'mood' is of 'd' alone",
            ],
        ),
    ],
    ids=["nothing", "test-alone", "validation-alone", "others"],
)
def test_what_the_labels_of_a_split_cannot_teach_is_told(rows, expected):
    lines = concerns([MOOD, SIGNS, LEVEL], labelled(rows), [Fold(0, (0, 1), (2, 3), (4, 5))])
    assert len(lines) == len(expected), lines
    for line, words in zip(lines, expected, strict=True):
        assert words in line


def test_folds_without_a_class_are_named_in_one_sentence():
    rows = labelled([(f"p{i}", int(i == 2), None, None) for i in range(4)])
    folds = [Fold(k, tuple(i for i in range(4) if i != k), (), (k,)) for k in range(4)]
    lines = [line for line in concerns([MOOD], rows, folds) if "never shown" in line]
    assert lines == [
        "class 'tense' of 'mood' in fold 2 is in 1 of the test recordings and in no training recording: what was never shown is never answered; "
        "add recordings of others who have it, or leave the class out"
    ]


def test_a_class_of_the_test_split_alone_is_told_before_a_run_and_in_it(study, capsys):
    table = Path("study/recordings.csv")
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join(line.replace("calm", "glad").replace("tense", "glad") if ",test," in line else line for line in lines) + "\n"
    )
    words = "class 'glad' of 'mood' is in"
    for arguments in (["data", "check", "mine.yaml"], ["data", "check", "study"]):
        assert call(*arguments) == 0, arguments
        assert words in capsys.readouterr().out, arguments
    prepare(load_plan(Path("mine.yaml")), RunFolder(Path("runs/mine")), workers=0)
    assert words in capsys.readouterr().err


def test_dry_run_goes_into_a_folder_of_its_own_and_its_report_says_so(study, capsys):
    assert call("run", "mine.yaml", "--limit", "4", "--workers", "1") == 0
    folder = Path("runs/mine-limit-4")
    about = json.loads((folder / "plan.json").read_text())
    assert about["plan"]["limit"] == 4
    assert about["plan"]["dataset"]["params"]["labels"]["mood"]["classes"] == ["calm", "tense"]
    assert json.loads((folder / "prepare.json").read_text())["samples"] == 12
    page = (folder / "report.html").read_text()
    assert "A dry run on a few recordings" in page
    assert "12 in all" in page
    assert not Path("runs/mine").exists()
