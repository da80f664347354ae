"""What messages offer is done somewhere in these tests: each place that offers --overwrite has a test that gives it and looks at what comes."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLLOWED = {
    "mmcl/begin/table.py write_table": ("test_begin", "test_table_is_never_overwritten_unless_asked"),
    "mmcl/cli/begin.py new_recipe": ("test_begin", "test_new_dataset_writes_the_table_and_prints_the_recipe"),
    "mmcl/cli/use.py embed": ("test_use", "test_features_are_written_and_nothing_is_written_over"),
    "mmcl/cli/use.py predict": ("test_use", "test_answers_as_a_table"),
    "mmcl/engine/resume.py load_checkpoint": (
        "test_mending",
        "test_checkpoints_that_are_whole_and_do_not_fit_are_one_sentence_and_overwrite_begins_that_training_anew",
    ),
    "mmcl/stages/earlier.py _check_more": (
        "test_earlier",
        "test_without_a_last_checkpoint_or_after_patience_a_sentence_says_what_to_do",
    ),
    "mmcl/stages/earlier.py check_keys": (
        "test_mending",
        "test_another_plan_does_not_replace_work_whose_own_plan_or_recordings_are_lost",
    ),
    "mmcl/stages/earlier.py check_plan": (
        "test_earlier",
        "test_with_overwrite_the_work_is_replaced_and_a_smaller_seed_list_leaves_nothing",
    ),
    "mmcl/stages/earlier.py check_recordings": (
        "test_earlier",
        "test_other_recordings_are_refused_before_folds_json_is_written",
    ),
}
"""Function whose message offers --overwrite → file and test that follow it."""


def _offers() -> set[str]:
    """Functions in which a string for people says --overwrite; options and docstrings are left out."""
    offering = set()
    for path in sorted((ROOT / "mmcl").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            raised = [one for one in ast.walk(function) if isinstance(one, ast.Raise)]
            words = [
                n.value for one in raised for n in ast.walk(one) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
            if any("--overwrite" in word for word in words):
                offering.add(f"{path.relative_to(ROOT).as_posix()} {function.name}")
    return offering


def test_every_message_that_offers_overwrite_is_followed_by_a_test():
    offers = _offers() - {"mmcl/cli/run.py run"}  # which refuses it beside --continue
    assert offers == set(FOLLOWED)
    for file, name in FOLLOWED.values():
        tests = {
            one.name: one
            for one in ast.parse((ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")).body
            if isinstance(one, ast.FunctionDef)
        }
        assert "overwrite" in ast.unparse(tests[name]), name
