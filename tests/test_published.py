"""A paper's tables beside runs: every cell from the score it names, n/a where nothing was run."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace

import pytest

from mmcl.api import Benchmark, Cell, DataError, PublishedSpec, PublishedTable
from mmcl.cli import main
from mmcl.plugins import plugins
from mmcl.recipe.planner import load_plan
from mmcl.recipe.shipped import find, folder, names
from mmcl.review.published import fill, reports_of
from mmcl.stages import about
from mmcl.testing import check_spec


def summary(**changed):
    row = {
        "task": "emotion",
        "input": "all",
        "head": "mlp",
        "encoder": "pretrained",
        "metric": "accuracy",
        "mean": 0.5,
        "sd": 0.02,
    }
    return row | changed


def write(folder, name, rows, when=None):
    folder.mkdir(parents=True)
    path = folder / "report.json"
    path.write_text(json.dumps({"format": 1, "name": name, "summary": rows, "synthetic": True}))
    if when is not None:
        os.utime(path, (when, when))
    return folder


SPEC = PublishedSpec(
    "tiny",
    "a tiny paper",
    "Nobody 2020",
    (
        PublishedTable(
            "Table I",
            "accuracy",
            (
                Cell("ours", "all", 78.5, "one", "emotion"),
                Cell("ours", "voice", 60.0, "one", "emotion", "audio"),
                Cell("other", "all", 66.0),
            ),
        ),
    ),
)


def test_a_cell_holds_the_score_it_names_and_no_other(tmp_path):
    rows = [summary(metric="uar", mean=0.1), summary(encoder="random", mean=0.2), summary(head="linear", mean=0.3), summary()]
    run = write(tmp_path / "run", "one", rows)
    cells = fill(SPEC, reports_of([run]))[0]["cells"]
    assert [(c["ours"], c["sd"]) for c in cells] == [(50.0, 2.0), (None, None), (None, None)]
    assert [c["published"] for c in cells] == [78.5, 60.0, 66.0]


def test_of_two_runs_of_a_recipe_the_newer_one_counts(tmp_path):
    old = write(tmp_path / "old", "one", [summary(mean=0.1)], when=1_000)
    new = write(tmp_path / "new", "one", [summary(mean=0.9)], when=2_000)
    for order in ([old, new], [new, old]):
        assert fill(SPEC, reports_of(order))[0]["cells"][0]["ours"] == pytest.approx(90)


def test_a_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no report.json; name run folders"):
        reports_of([tmp_path])
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(DataError, match="is no report of a run"):
        reports_of([tmp_path])


@pytest.mark.parametrize("name", [n for n, _ in plugins().all("published")])
def test_every_paper_names_recipes_and_scores_that_exist(name):
    """A cell that names a recipe which nobody ships could never be filled."""
    spec = plugins().get("published", name).spec
    check_spec(spec)
    cells = [cell for table in spec.tables for cell in table.cells if cell.recipe]
    assert cells
    assert {cell.recipe for cell in cells} - set(names()) == set()


def test_two_cells_at_one_place_are_caught():
    twice = PublishedSpec("tiny", "a paper", "", (PublishedTable("I", "", (Cell("a", "b", 1.0), Cell("a", "b", 2.0))),))
    with pytest.raises(AssertionError, match="two cells stand at"):
        check_spec(twice)


def test_the_command_prints_every_cell_and_says_what_was_not_run(tmp_path, capsys):
    spec = plugins().get("published", "mpuc-mer").spec
    cell = next(c for t in spec.tables for c in t.cells if c.recipe)
    row = summary(task=cell.task, input=cell.input, head=cell.head, encoder=cell.encoder, metric=cell.metric, mean=0.4321)
    run = write(tmp_path / "run", cell.recipe, [row])
    with pytest.raises(SystemExit) as done:
        main(["tables", "mpuc-mer", str(run)])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert "43.21" in text
    assert "n/a" in text
    assert f"{cell.value:.2f}" in text
    for table in spec.tables:
        assert table.name in text


def test_a_run_that_belongs_to_no_cell_is_named(tmp_path, capsys):
    run = write(tmp_path / "run", "mine", [summary()])
    with pytest.raises(SystemExit):
        main(["tables", "mpuc-mer", str(run)])
    assert capsys.readouterr().err == "no cell of mpuc-mer belongs to recipe 'mine'; its run is not shown\n"


ACTORS = tuple(f"actor-{i:02d}" for i in range(1, 7))
BENCHMARK = Benchmark("toy", "emotion", 6, (ACTORS,), 43, "six actors test")
CELLS = (
    Cell("their way", "words and voice", 61.8, task="emotion", note="Reads films too.", sources=("audio", "text")),
    Cell("their way", "films", 70.25, task="emotion"),
)


@pytest.mark.parametrize(
    ("recipe", "paper"), [("utd_mhad", "cmc-cmkm"), ("ravdess_voice_units", "ravdess-transfer"), ("quickstart", "")]
)
def test_a_run_keeps_what_was_published_on_its_dataset(recipe, paper, tmp_path):
    kept = about(load_plan(find(recipe), [], tmp_path), "cpu")["published"]
    assert [one["name"] for one in kept] == ([paper] if paper else [])


def test_every_benchmark_is_of_a_dataset_that_has_its_task_classes_and_sources():
    benchmarks = 0
    for _, offer in plugins().all("published"):
        for table in offer.spec.tables:
            if table.benchmark is None:
                continue
            benchmarks += 1
            dataset = plugins().get("dataset", table.benchmark.dataset).spec
            info = dataset.info(dataset.params())
            assert len(info.tasks[table.benchmark.task].classes) == table.benchmark.classes
            wide = dataset.info(dataset.params(video="auto")) if "video" in dataset.params.model_fields else info
            assert {source for cell in table.cells for source in cell.sources} <= set(wide.sources)
    assert benchmarks >= 2


def test_the_folds_of_the_shipped_recipe_are_the_published_ones():
    (table,) = plugins().get("published", "ravdess-transfer").spec.tables
    folds = {}
    with (folder() / "folds" / "ravdess_5fold.csv").open() as file:
        for row in csv.DictReader(file):
            folds.setdefault(row["fold"], set()).add(next(value for key, value in row.items() if key != "fold"))
    assert {frozenset(fold) for fold in folds.values()} == {frozenset(fold) for fold in table.benchmark.tested}


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        (replace(BENCHMARK, tested=()), "tests no group"),
        (replace(BENCHMARK, tested=(ACTORS, ())), "a fold without one"),
        (replace(BENCHMARK, tested=(ACTORS, ACTORS[:1])), "tests \\['actor-01'\\] twice"),
        (replace(BENCHMARK, recordings=3), "has 3 recordings of 6 groups"),
        (replace(BENCHMARK, task="action"), "a cell is of task \\['emotion'\\]"),
    ],
)
def test_a_benchmark_that_no_run_can_meet_is_caught(benchmark, words):
    with pytest.raises(AssertionError, match=words):
        check_spec(PublishedSpec("tiny", "a paper", "", (PublishedTable("I", "", CELLS, benchmark),)))
