"""What messages offer is done somewhere in these tests: each place that offers --overwrite has a test that gives it and looks at what comes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from mmcl.api import MmclError, SampleRef
from mmcl.cli import cli
from mmcl.data.folds import make_folds
from mmcl.data.remote import Cache
from mmcl.media import read_listing
from mmcl.recipe.shipped import find
from mmcl.runs import claim
from mmcl.stages.cells import only_of
from tests.test_folds import protocol

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


# ----------------------------------------------------------------------------------- what else messages say to do, done


def _prints(*words: str) -> Callable[[], None]:
    def run() -> None:
        cli.main([*words], standalone_mode=False)

    return run


def _claimed(folder: Path, name: str) -> Callable[[], None]:
    (folder / "full").mkdir(exist_ok=True)
    (folder / "full" / "thesis.tex").write_text("mine", encoding="utf-8")
    return lambda: claim(folder / name, "run")


def _table(folder: Path, encoding: str) -> Callable[[], object]:
    (folder / "t.csv").write_bytes("id,voice\nä,a.wav\n".encode(encoding))
    return lambda: read_listing(folder / "t.csv")


def _folds(recordings: int, k: int) -> Callable[[], object]:
    samples = [SampleRef(f"r{row}", f"g{row}", {"audio": "a"}, {}) for row in range(recordings)]
    return lambda: make_folds(protocol("k-fold", k=k), samples, range(recordings), 0)


def _cached(folder: Path, most: int) -> Callable[[], None]:
    def fetch() -> None:
        with Cache(folder / "cache", most).room_for(folder / "cache" / "a", 1000) as part:
            part.write_bytes(bytes(1000))

    return fetch


def _recipe_at(folder: Path, name: str) -> Callable[[], object]:
    (folder / "recipe.yaml").write_text("format: 1\n", encoding="utf-8")
    return lambda: find(str(folder / name))


def _chosen(only: str) -> Callable[[], object]:
    return lambda: only_of(only, SimpleNamespace(seeds=(0, 1)))


DONE: dict[str, tuple[str, Callable[[Path], Callable[[], object]], Callable[[Path], Callable[[], object]]]] = {
    "another --out": ("give another --out", lambda folder: _claimed(folder, "full"), lambda folder: _claimed(folder, "other")),
    "an empty folder": (
        "or an empty folder",
        lambda folder: _claimed(folder, "full"),
        lambda folder: _claimed(folder, "new/er"),
    ),
    "save it again as UTF-8": (
        "save it again as UTF-8",
        lambda folder: _table(folder, "latin-1"),
        lambda folder: _table(folder, "utf-8"),
    ),
    "a smaller k": ("use a smaller k", lambda folder: _folds(3, 5), lambda folder: _folds(6, 3)),
    "a larger cache": ("to a larger number", lambda folder: _cached(folder, 10), lambda folder: _cached(folder, 10_000)),
    "name a recipe's file": (
        "name a recipe's file",
        lambda folder: _recipe_at(folder, "."),
        lambda folder: _recipe_at(folder, "recipe.yaml"),
    ),
    "--only": ("write --only fold=3,seed=1", lambda folder: _chosen("3"), lambda folder: _chosen("fold=3,seed=1")),
    "one of the two": (
        "give one of the two",
        lambda folder: _prints("check", "quickstart", "--json", "--resolved"),
        lambda folder: _prints("check", "quickstart", "--resolved"),
    ),
    "the folder of runs": (
        "name the one that your runs lie in",
        lambda folder: _prints("runs", "list", str(folder / "nowhere")),
        lambda folder: _prints("runs", "list", str(folder)),
    ),
}
"""What is advised → words of the advice, what leads to it, and the same when the advice is taken."""


@pytest.mark.parametrize("what", DONE)
def test_what_a_message_says_to_do_works(what, tmp_path):
    words, first, then = DONE[what]
    with pytest.raises((MmclError, click.ClickException)) as error:
        first(tmp_path)()
    assert words in str(error.value)
    then(tmp_path)()
