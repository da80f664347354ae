"""Offers of what begins a table, a recipe, a plug-in or a sample, followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmcl.begin.sample import write_sample
from mmcl.begin.table import draft_table, write_table
from mmcl.media import write_film
from mmcl.recipe.planner import load_plan
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.calls import call
from tests.test_begin import lay


def _plugin(kind: str, name: str, out: Path) -> None:
    call("new-plugin", kind, name, "--out", str(out))
    assert f'name = "mmcl-{name}"' in (out / f"mmcl-{name}" / "pyproject.toml").read_text(encoding="utf-8")


def _again_elsewhere(folder: Path) -> None:
    _plugin("preset", "other", folder)
    _plugin("preset", "mine", folder / "deeper")


def study(folder: Path, *more: str) -> Path:
    """The table of a folder of eight sounds of four speakers, and of other files."""
    sounds = [f"speaker{who}/{mood}/{who}.wav" for who in range(4) for mood in ("glad", "sad")]
    write_table(lay(folder / "study", *sounds, *more), overwrite=True)
    return folder / "study" / "recordings.csv"


def recipe_for(folder: Path, table: Path, *options: str, out: str = "r.yaml") -> str:
    """What a recipe for a table says, once it is found right."""
    call("new-recipe", str(table), "--out", str(folder / out), "--overwrite", *options)
    load_plan(folder / out)
    return (folder / out).read_text(encoding="utf-8")


def _named(folder: Path) -> None:
    assert "table: recordings.csv" in recipe_for(folder, study(folder))


def _films(folder: Path) -> None:
    """A table that names films is no reason to leave --faces out."""
    for path in study(folder).parent.rglob("*.wav"):
        write_film(path.with_suffix(".mp4"), np.full((4, 48, 64, 3), 90, np.uint8), 10)
    assert "face-clip" in recipe_for(folder, study(folder), "--faces")


def _sample(folder: Path, target: str) -> None:
    root, _ = write_sample("meld", folder / target, 4, 0)
    assert any(root.rglob("*.mp4"))


def _taken(folder: Path) -> None:
    (folder / "taken" / "meld").mkdir(parents=True)
    (folder / "taken" / "meld" / "mine.csv").write_text("x", encoding="utf-8")
    _sample(folder, "taken")


def _in_a_file(folder: Path) -> None:
    (folder / "file").write_text("x", encoding="utf-8")
    _sample(folder, "file")


def _table(folder: Path, out: str) -> None:
    write_table(lay(folder, "a.wav"), out)
    assert (folder / out).read_text(encoding="utf-8").startswith("id,")


def _by(folder: Path, pattern: str) -> None:
    draft = draft_table(lay(folder, "s1_glad.wav", "s2_sad.wav"), pattern)
    assert [(row["speaker"], row["emotion"]) for row in draft.rows] == [("s1", "glad"), ("s2", "sad")]


GOOD = r"(?P<speaker>s\d)_(?P<emotion>[a-z]+)"
FOLLOWED = "tests/test_advice_core.py::test_"
FIRST_LINES = f"{FOLLOWED}the_first_lines_of_a_recipe_run_as_they_stand_and_data_may_lie_elsewhere"
FILLED_IN = f"{FOLLOWED}columns_of_people_and_labels_that_are_filled_in_are_used"
DEPTHS = f"{FOLLOWED}a_pattern_reads_folders_of_different_depths_and_one_that_fits_all_leaves_no_cell_empty"
LINE = "a line of the recipe that is written, and no message"

BEGIN: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/begin/plugin.py write_plugin",
        " already; choose another name",
        lambda folder: _plugin("backbone", "tcn", folder),
        lambda folder: _plugin("backbone", "my-tcn", folder),
    ),
    Row(
        "mmcl/begin/plugin.py write_plugin",
        "is installed already; choose another name",
        lambda folder: _plugin("loss", "toy", folder),
        lambda folder: _plugin("loss", "my-toy", folder),
    ),
    Row(
        "mmcl/begin/plugin.py write_plugin",
        "choose another name or --out",
        lambda folder: (_plugin("preset", "mine", folder), _plugin("preset", "mine", folder)),
        _again_elsewhere,
    ),
    Row(
        "mmcl/begin/recipe.py recipe_of",
        "is a folder; name the table in it",
        lambda folder: recipe_for(folder, study(folder).parent),
        _named,
    ),
    Row(
        "mmcl/begin/recipe.py _with_faces",
        "leave --faces out, or name films in the table",
        lambda folder: recipe_for(folder, study(folder), "--faces"),
        lambda folder: (_named(folder), _films(folder)),
    ),
    Row("mmcl/begin/sample.py write_sample", "give another folder", _taken, lambda folder: _sample(folder, "other")),
    Row("mmcl/begin/sample.py write_sample", "; give another one", _in_a_file, lambda folder: _sample(folder, "folder")),
    Row(
        "mmcl/begin/table.py write_table",
        "was expected, such as recordings.csv",
        lambda folder: _table(folder, "../other.csv"),
        lambda folder: _table(folder, "recordings.csv"),
    ),
    Row(
        "mmcl/begin/table.py _compiled",
        "is no regular expression",
        lambda folder: _by(folder, GOOD[:-1]),
        lambda folder: _by(folder, GOOD),
    ),
    Row(
        "mmcl/begin/table.py _compiled",
        "names no group; write (?P<speaker>…), (?P<emotion>…), (?P<split>…)",
        lambda folder: _by(folder, r"s\d_[a-z]+"),
        lambda folder: _by(folder, GOOD),
    ),
    Row(
        "mmcl/begin/table.py _by_pattern",
        "fits no path, such as ",
        lambda folder: _by(folder, r"(?P<speaker>s\d)/(?P<emotion>[a-z]+)"),
        lambda folder: _by(folder, GOOD),
    ),
    Elsewhere(
        "mmcl/begin/recipe.py",
        "--faces follows the main face and its 68 points",
        "tests/test_faces.py::test_new_recipe_offers_faces_and_the_recipe_that_it_writes_runs_and_predicts",
    ),
    NoOffer(
        "mmcl/begin/recipe.py recipe_of", "no features of those that come with mmcl fit", "says what is, and nothing to do"
    ),
    Elsewhere("mmcl/begin/recipe.py recipe_of", "fill in a column such as `emotion` for more", FILLED_IN),
    Elsewhere("mmcl/begin/recipe.py _text", "mmcl check {}, then mmcl run {} --limit 20", FIRST_LINES),
    NoOffer("mmcl/begin/recipe.py _text", "name: {}", LINE),
    Elsewhere("mmcl/begin/recipe.py _text", "from the current folder, or from --data DIR", FIRST_LINES),
    NoOffer("mmcl/begin/recipe.py _protocol", "protocol: leave-one-group-out", LINE),
    Elsewhere(
        "mmcl/begin/table.py _rates",
        "or set dataset.sources.{}.rate in the recipe",
        f"{FOLLOWED}a_rate_goes_into_the_column_or_the_recipe_and_the_recipe_that_was_missing_is_written_then",
    ),
    Elsewhere(
        "mmcl/begin/table.py _items",
        "its name is no text in UTF-8, rename it",
        f"{FOLLOWED}a_name_that_is_no_text_is_taken_in_once_it_is_renamed",
    ),
    Elsewhere("mmcl/begin/table.py _by_pattern", "--pattern fits {} recordings not", DEPTHS),
    Elsewhere("mmcl/begin/table.py _by_folders", "--pattern says who and what is in them", DEPTHS),
    Elsewhere(
        "mmcl/begin/table.py _by_folders",
        "say it with --pattern",
        "tests/test_begin.py::test_two_levels_of_words_are_not_guessed_at",
    ),
    Elsewhere("mmcl/begin/table.py _say_what_is_unknown", "fill in a column `speaker`, or give --pattern", FILLED_IN),
    Elsewhere(
        "mmcl/begin/table.py _say_what_is_unknown",
        "or give --pattern with (?P<emotion>…)",
        f"{FOLLOWED}a_pattern_says_who_is_in_recordings_and_what",
    ),
]
