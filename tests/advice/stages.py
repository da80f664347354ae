"""Offers of what runs recipes, and of what uses finished runs, followed."""

from __future__ import annotations

from types import SimpleNamespace

from mmcl.stages.cells import only_of
from tests.advice import Elsewhere, NoOffer, Row


def _chosen(only: str) -> object:
    return only_of(only, SimpleNamespace(seeds=(0, 1)))


STAGES: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/stages/cells.py only_of",
        "write --only fold=3,seed=1",
        lambda folder: _chosen("3"),
        lambda folder: _chosen("fold=3,seed=1"),
    ),
    Elsewhere(
        "mmcl/stages/earlier.py _check_more",
        "--overwrite trains from the beginning",
        "tests/test_earlier.py::test_without_a_last_checkpoint_or_after_patience_a_sentence_says_what_to_do",
    ),
    Elsewhere(
        "mmcl/stages/earlier.py check_keys",
        "or --overwrite to replace it",
        "tests/test_mending.py::test_another_plan_does_not_replace_work_whose_own_plan_or_recordings_are_lost",
    ),
    Elsewhere(
        "mmcl/stages/earlier.py check_plan",
        "or --overwrite to replace it",
        "tests/test_earlier.py::test_with_overwrite_the_work_is_replaced_and_a_smaller_seed_list_leaves_nothing",
    ),
    Elsewhere(
        "mmcl/stages/earlier.py check_recordings",
        "or --overwrite to replace it",
        "tests/test_earlier.py::test_other_recordings_are_refused_before_folds_json_is_written",
    ),
]
