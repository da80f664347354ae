"""A paper's tables beside runs: every cell from the score it names, n/a where nothing was run."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, replace

import pytest

from mmcl.api import Benchmark, Cell, DataError, PublishedSpec, PublishedTable, SampleRef
from mmcl.cli import main
from mmcl.plugins import plugins
from mmcl.recipe.planner import load_plan
from mmcl.recipe.shipped import find, folder, names
from mmcl.review.published import fill, runs_of
from mmcl.stages import about
from mmcl.testing import check_spec
from tests.conftest import keep_split


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


def write(folder, name, rows, when=None, sets=(), tested=4, folds=1, limit=None):
    """A finished run of a shipped recipe, as far as tables read it."""
    folder.mkdir(parents=True)
    path = folder / "report.json"
    path.write_text(json.dumps({"format": 1, "name": name, "summary": rows, "synthetic": True}))
    if name in names():
        plan = load_plan(find(name), [*sets, *([f"limit={limit}"] if limit else [])], folder).to_json()
        (folder / "plan.json").write_text(json.dumps({"plan": plan}))
        parts = [{"fold": fold, "test": list(range(fold, tested, folds))} for fold in range(folds)]
        samples = [asdict(SampleRef(str(row), str(row), {}, {})) for row in range(tested)]
        keep_split(folder, {"stores": {}, "samples": samples, "folds": parts})
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
                Cell("ours", "all", 78.5, "mosei_4mod", "emotion"),
                Cell("ours", "voice", 60.0, "mosei_4mod", "emotion", "audio"),
                Cell("other", "all", 66.0),
            ),
        ),
    ),
)


def test_a_cell_holds_the_score_it_names_and_no_other(tmp_path):
    rows = [summary(metric="uar", mean=0.1), summary(encoder="random", mean=0.2), summary(head="linear", mean=0.3), summary()]
    run = write(tmp_path / "run", "mosei_4mod", rows)
    cells = fill(SPEC, runs_of([run]))[0]["cells"]
    assert [(c["ours"], c["sd"]) for c in cells] == [(50.0, 2.0), (None, None), (None, None)]
    assert [c["published"] for c in cells] == [78.5, 60.0, 66.0]


def test_of_two_runs_of_a_recipe_the_newer_one_counts(tmp_path):
    old = write(tmp_path / "old", "mosei_4mod", [summary(mean=0.1)], when=1_000)
    new = write(tmp_path / "new", "mosei_4mod", [summary(mean=0.9)], when=2_000)
    for order in ([old, new], [new, old]):
        assert fill(SPEC, runs_of(order))[0]["cells"][0]["ours"] == pytest.approx(90)


def test_a_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no report.json; name run folders"):
        runs_of([tmp_path])
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(DataError, match="is no report of a run"):
        runs_of([tmp_path])


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
    run = write(tmp_path / "run", cell.recipe, [row], sets=cell.sets, tested=1_440, folds=10)
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


ALL_THREE = {"row": "MPUC-MER, all three", "column": "actor split"}
SMALLER = {
    "two modalities": (("modalities.video=", "probe.inputs=[all]"), {}, "2 modalities (audio, landmarks)"),
    "fewer folds": (("protocol.only=[0]",), {"folds": 1}, "1 of 10 folds"),
    "few recordings": ((), {"tested": 22}, "22 test recordings"),
    "one epoch": (("pretrain.epochs=1",), {}, "pretrain.epochs 1, not 2000"),
    "another head": (("probe.heads.mlp.hidden=8",), {}, "probe.head.hidden 8, not 512"),
    "other recordings": (("dataset.channel=both",), {}, "dataset.channel both, not speech"),
    "another protocol": (("protocol={use: hold-out}",), {"folds": 1}, "protocol hold-out, not k-fold"),
    "split by recording": (("protocol.by=sample",), {}, "split by sample, not by group"),
    "a dry run": ((), {"limit": 30}, "limit 30"),
    "another loss": (("pretrain.objective.loss.temperature=0.5",), {}, "pretrain.objective.loss.temperature 0.5, not 0.07"),
}


def cell_of(filled, row, column):
    return next(c for table in filled for c in table["cells"] if (c["row"], c["column"]) == (row, column))


@pytest.mark.parametrize(("sets", "more", "words"), SMALLER.values(), ids=SMALLER)
def test_a_run_that_differs_is_not_laid_beside_the_paper_and_says_in_what(tmp_path, sets, more, words):
    spec = plugins().get("published", "mpuc-mer").spec
    row = summary(mean=0.2273)
    run = write(tmp_path / "run", "ravdess_actor_split", [row], sets=sets, **{"tested": 1_440, "folds": 10, **more})
    cell = cell_of(fill(spec, runs_of([run])), **ALL_THREE)
    assert cell["ours"] is None
    assert words in cell["differs"]
    shown = cell_of(fill(spec, runs_of([run]), everything=True), **ALL_THREE)
    assert (shown["ours"], shown["differs"]) == (pytest.approx(22.73), cell["differs"])


def test_a_run_of_the_recipe_itself_is_laid_beside_wherever_its_files_lay(tmp_path):
    spec = plugins().get("published", "mpuc-mer").spec
    row = summary(task="emotions", metric="w_acc", mean=0.6)
    sets = ("modalities.text.features.file=/mine/glove.txt", "seed=[1, 2]", "pretrain.checkpoint_minutes=9")
    run = write(tmp_path / "run", "mosei_4mod", [row], sets=sets, tested=4_659)
    cell = cell_of(fill(spec, runs_of([run])), "MPUC-MER, w-ACC", "overall")
    assert (cell["ours"], cell["differs"]) == (pytest.approx(60.0), [])


def test_each_modality_alone_has_its_own_setting_and_two_modalities_are_pretrained_on_the_two(tmp_path):
    spec = plugins().get("published", "mpuc-mer").spec
    row = summary(input="video", encoder="supervised", mean=0.5)
    same = write(tmp_path / "same", "ravdess_actor_split_unimodal", [row], tested=1_440, folds=10)
    images = plugins().get("preset", "mpuc-images").spec.sets
    own = write(tmp_path / "own", "ravdess_actor_split_unimodal", [row], sets=images, tested=1_440, folds=10)
    assert (
        "supervise.optimizer.lr 0.001, not 0.01"
        in cell_of(fill(spec, runs_of([same])), "unimodal, images", "actor split")["differs"]
    )
    assert cell_of(fill(spec, runs_of([own])), "unimodal, images", "actor split")["ours"] == pytest.approx(50)
    both = fill(spec, runs_of([same, own]))  # of several runs the comparable one counts, whichever is newer
    assert cell_of(both, "unimodal, images", "actor split")["differs"] == []
    row = summary(input="audio+landmarks", mean=0.5)
    three = write(tmp_path / "three", "ravdess_actor_split", [row], tested=1_440, folds=10)
    assert cell_of(fill(spec, runs_of([three])), "MPUC-MER, acoustics and landmarks", "actor split")["ours"] is None


def test_the_command_prints_what_differs_in_the_cell(tmp_path, capsys):
    run = write(tmp_path / "run", "ravdess_actor_split", [summary(mean=0.2273)], sets=("pretrain.epochs=1",), tested=22)
    for flags, figure in (([], False), (["--all"], True)):
        with pytest.raises(SystemExit):
            main(["tables", "mpuc-mer", str(run), *flags])
        text = capsys.readouterr().out
        line = next(line for line in text.splitlines() if line.startswith("MPUC-MER, all three"))
        assert "22 test recordings; 1 of 10 folds; pretrain.epochs 1, not 2000" in line
        assert ("22.73" in line) == figure
