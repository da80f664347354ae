"""Offers of the command line, of what begins a dataset or a plug-in, of run folders and of the engine, followed."""

from __future__ import annotations

from pathlib import Path

from mmcl.cli import cli
from mmcl.runs import claim
from tests.advice import Elsewhere, NoOffer, Row


def call(*words: str) -> None:
    """A command, whose errors come through."""
    cli.main([*words], standalone_mode=False)


def _claimed(folder: Path, name: str) -> None:
    (folder / "full").mkdir(exist_ok=True)
    (folder / "full" / "thesis.tex").write_text("mine", encoding="utf-8")
    claim(folder / name, "run")


CORE: list[Row | Elsewhere | NoOffer] = [
    Elsewhere(
        "mmcl/begin/table.py write_table",
        "give --overwrite",
        "tests/test_begin.py::test_table_is_never_overwritten_unless_asked",
    ),
    Elsewhere(
        "mmcl/cli/begin.py new_recipe",
        "give --overwrite",
        "tests/test_begin.py::test_new_dataset_writes_the_table_and_prints_the_recipe",
    ),
    Elsewhere(
        "mmcl/cli/use.py embed", "give --overwrite", "tests/test_use.py::test_features_are_written_and_nothing_is_written_over"
    ),
    Elsewhere("mmcl/cli/use.py predict", "give --overwrite", "tests/test_use.py::test_answers_as_a_table"),
    Elsewhere(
        "mmcl/engine/resume.py load_checkpoint",
        "give --overwrite",
        "tests/test_mending.py::test_checkpoints_that_are_whole_and_do_not_fit_are_one_sentence_and_overwrite_begins_that_training_anew",
    ),
    Row(
        "mmcl/runs/__init__.py claim",
        "give another --out, or an empty folder",
        lambda folder: _claimed(folder, "full"),
        lambda folder: (_claimed(folder, "other"), _claimed(folder, "new/er")),
    ),
    Row(
        "mmcl/cli/check.py check",
        "give one of the two",
        lambda folder: call("check", "quickstart", "--json", "--resolved"),
        lambda folder: (call("check", "quickstart", "--resolved"), call("check", "quickstart", "--json")),
    ),
]
