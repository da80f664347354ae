"""What messages say to do works: every offer of the source (tests/advice) is followed by a row there, or by a test that stands elsewhere."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence

import click
import pytest

from mmcl.api import MmclError
from tests.advice import ROOT, Elsewhere, NoOffer, Offer, Row, is_test, offers
from tests.advice.core import CORE
from tests.advice.data import DATA
from tests.advice.plugins import PLUGINS
from tests.advice.recipes import RECIPES
from tests.advice.stages import STAGES

FOLLOWED: Sequence[Row | Elsewhere | NoOffer] = [*CORE, *DATA, *RECIPES, *STAGES, *PLUGINS]
ROWS = [one for one in FOLLOWED if isinstance(one, Row)]
FAMILIES = {
    r"^mmcl/testing/": (
        "tests/test_testing_plants.py::test_the_good_backbone_passes",
        "tests/test_testing_plants.py::test_the_good_loss_passes",
        "tests/test_testing_plants.py::test_the_good_modality_passes",
        "tests/test_testing_plants.py::test_the_good_dataset_passes",
        "tests/test_testing_plants.py::test_a_good_package_passes_and_a_required_option_is_told_not_raised",
    ),
    r"copy (it|the film|the folder) again|fetch it again": (
        "tests/test_broken_corpus.py::test_preparation_ends_lists_each_broken_file_and_keeps_the_rest_to_the_bit",
    ),
    r"\brun (its|the) recipe again|run the same command again": (
        "tests/test_mending.py::test_a_run_with_damage_in_every_file_is_written_whole_again_to_the_byte",
    ),
}
"""Where an offer stands, or what it says → the tests that follow all of them: a plug-in without the fault, a file that is whole, a run again."""


def _is_of(offer: Offer, one: Row | Elsewhere | NoOffer) -> bool:
    return offer.where == one.where and one.words in offer.text


def _family(offer: Offer) -> bool:
    return any(re.search(pattern, f"{offer.where}: {offer.text}") for pattern in FAMILIES)


def test_everything_that_messages_say_to_do_is_followed_by_a_test():
    lost = [one for one in offers() if not _family(one) and not any(_is_of(one, row) for row in FOLLOWED)]
    assert not lost, "\n".join(f"{one.where} (line {one.line}): {one.text}" for one in lost)


def test_what_is_followed_still_stands_in_the_source():
    there = offers()
    gone = [f"{row.where}: {row.words}" for row in FOLLOWED if not any(_is_of(one, row) for one in there)]
    assert not gone, "\n".join(gone)
    twice = [key for key, count in Counter((row.where, row.words) for row in FOLLOWED).items() if count > 1]
    assert not twice, twice


def test_the_tests_that_follow_elsewhere_are_there():
    named = {one.test for one in FOLLOWED if isinstance(one, Elsewhere)} | {
        test for tests in FAMILIES.values() for test in tests
    }
    assert not [test for test in sorted(named) if not is_test(test)]


def test_offers_of_overwrite_are_followed_by_tests_that_give_it():
    for one in FOLLOWED:
        if isinstance(one, Elsewhere) and "--overwrite" in one.words:
            file, _, name = one.test.partition("::")
            body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
            test = next(part for part in body if isinstance(part, ast.FunctionDef) and part.name == name)
            assert "overwrite" in ast.unparse(test), one


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.where} {row.words}"[:80])
def test_what_a_message_says_to_do_works(row, tmp_path):
    with pytest.raises((MmclError, click.ClickException)) as error:
        row.first(tmp_path)
    message = error.value.format_message() if isinstance(error.value, click.ClickException) else str(error.value)
    assert row.words in message
    row.then(tmp_path)
