"""Offers of recipes, plans, searches, reports and reviews, followed."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmcl.api import Layout
from mmcl.data.store import StoreWriter
from mmcl.recipe.read import parse_recipe, read_recipe
from mmcl.recipe.search import SweepPlan, load_sweep
from mmcl.recipe.shipped import find
from mmcl.runs import claim
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.core import call
from tests.advice.plans import BASE, PLANS, Sets, printed
from tests.advice.stages_runs import finished, run
from tests.conftest import SMALL

HERE = "tests/test_advice_recipes.py"
SEARCHED = f"""\
{BASE}
protocol: {{use: k-fold}}
sweep: {{space: {{pretrain.optimizer.lr: [1e-3, 1e-2]}}, trials: 2}}
"""


# ------------------------------------------------------------------------------------------------------------ recipes as text


def _recipe_at(folder: Path, name: str) -> Path:
    (folder / "recipe.yaml").write_text(SMALL, encoding="utf-8")
    return find(str(folder / name))


def _saved(folder: Path, encoding: str) -> object:
    (folder / "recipe.yaml").write_bytes("about: é\n".encode(encoding))
    return read_recipe(folder / "recipe.yaml").values


def _saved_again(folder: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):  # editors of Windows call both of them UTF-8
        assert _saved(folder, encoding) == {"about": "é"}


def _values(text: str, *sets: str) -> object:
    return parse_recipe(text, "recipe.yaml", sets).values


def _equal(value: object, expected: object) -> None:
    assert value == expected


READ: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/recipe/read.py _text_of",
        "is text in UTF-16; save it as UTF-8",
        lambda folder: _saved(folder, "utf-16"),
        _saved_again,
    ),
    Row(
        "mmcl/recipe/read.py refuse_signs",
        "uses an anchor (&name, *name); write the value out",
        lambda _: _values("a: &k [1, 2]\nb: *k\n"),
        lambda _: _equal(_values("a: [1, 2]\nb: [1, 2]\n"), {"a": (1, 2), "b": (1, 2)}),
    ),
    Row(
        "mmcl/recipe/read.py build",
        " in it; write a space",
        lambda _: _values("a:\n\u00a0\u00a0b: 1\n"),
        lambda _: _equal(_values("a:\n  b: 1\n"), {"a": {"b": 1}}),
    ),
    Row(
        "mmcl/recipe/read.py _spoilt",
        "; indent with spaces",
        lambda _: _values("a:\n\tb: 1\n"),
        lambda _: _equal(_values("a:\n  b: 1\n"), {"a": {"b": 1}}),
    ),
    Row(
        "mmcl/recipe/read.py _lay_over",
        ": must look like key.inner=value",
        lambda _: _values("a: {b: 1}\n", "a.b:2"),
        lambda _: _equal(_values("a: {b: 1}\n", "a.b=2"), {"a": {"b": 2}}),
    ),
    Row(
        "mmcl/recipe/shipped.py find",
        "name a recipe's file",
        lambda folder: _recipe_at(folder, "."),
        lambda folder: _equal(read_recipe(_recipe_at(folder, "recipe.yaml")).values["name"], "tiny"),
    ),
]


# --------------------------------------------------------------------------------------------------------------------- searches


def _searched(folder: Path, *sets: str, text: str = SEARCHED) -> SweepPlan:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return load_sweep(folder / "recipe.yaml", sets)


def _mended(where: str, words: str, wrong: Sets, *right: Sets, trials: int = 2) -> Row:
    """A search that is refused with `wrong` laid over it, and planned, with so many trials, with each of what is offered in its place."""

    def then(folder: Path) -> None:
        for sets in right:
            search = _searched(folder, *sets)
            assert search.trials == trials
            assert set(sets) <= set(search.plan.overrides)

    return Row(f"mmcl/recipe/{where}", words, lambda folder: _searched(folder, *wrong), then)


def _two_modalities(folder: Path) -> None:
    retrieval = "sweep.score={stage: retrieval}"
    assert _searched(folder, retrieval, "modalities.faces=").input == "all"
    scored = _searched(
        folder, "sweep.score={stage: probe}", "modalities.faces=", "modalities.words=", "pretrain.views=2", PAIRS
    )
    assert (scored.stage, scored.input) == ("probe", "audio")


PAIRS = "pretrain.objective.pairs=same"
RATE = "sweep.space={{pretrain.optimizer.lr: {{low: 1e-3, high: 1e-2{}}}}}"
WIDTHS = "sweep.space={projection.width: [2, 4]}"
SEARCHES: list[Row | Elsewhere | NoOffer] = [
    _mended(
        "search.py plan_of",
        "which no trial may read; leave 'test' out of it",
        ("pretrain.transductive=[valid, test]",),
        ("pretrain.transductive=[valid]",),
    ),
    _mended(
        "search.py sweep",
        "changes what the loss means; set prune: none",
        (WIDTHS, "sweep.prune=median"),
        (WIDTHS, "sweep.prune=none"),
    ),
    _mended(
        "search.py sweep",
        "each-group needs protocol.by: group; give a number of parts, such as 5",
        ("protocol.by=sample", "sweep.validation=each-group"),
        ("protocol.by=group", "sweep.validation=each-group"),
        ("protocol.by=sample", "sweep.validation=5"),
    ),
    _mended(
        "search.py sweep", "leave trials out", ("sweep.sampler=grid", "sweep.trials=3"), ("sweep.sampler=grid", "sweep.trials=")
    ),
    _mended(
        "search.py searched",
        "; leave it out",
        ("sweep.score={stage: retrieval, task: emotion, head: linear}",),
        ("sweep.score={stage: retrieval}",),
    ),
    _mended(
        "search.py searched",
        "and retrieval needs two; name an input such as all",
        ("sweep.score={stage: retrieval, input: audio}",),
        ("sweep.score={stage: retrieval, input: all}",),
        ("sweep.score={stage: retrieval, input: words+audio}", "probe.inputs=[audio, words+audio]"),
    ),
    Row(
        "mmcl/recipe/search.py searched",
        "add a modality, or take another stage",
        lambda folder: _searched(
            folder, "sweep.score={stage: retrieval}", "modalities.faces=", "modalities.words=", "pretrain.views=2", PAIRS
        ),
        _two_modalities,
    ),
    _mended(
        "search.py choice",
        "has both log and step; keep one of the two",
        (RATE.format(", log: true, step: 1e-3"),),
        (RATE.format(", log: true"),),
        (RATE.format(", step: 1e-3"),),
    ),
    _mended(
        "searches.py _choice",
        "is an empty list; name the values to try",
        ("sweep.space={projection.width: []}",),
        (WIDTHS,),
    ),
    *(
        Elsewhere(f"mmcl/search/{where}", words, f"{HERE}::{test}")
        for where, words, test in (
            ("study.py need_optuna", "pip install 'mmcl[sweep]'", "test_a_sweep_needs_what_the_extra_that_is_named_brings"),
            (
                "study.py mend",
                "delete the folder, or give another --out",
                "test_a_search_goes_on_in_another_folder_and_in_one_that_was_deleted",
            ),
            (
                "sweep.py _same_search",
                "give another --out, or delete the folder",
                "test_a_search_goes_on_in_another_folder_and_in_one_that_was_deleted",
            ),
            (
                "sweep.py _run_together",
                "run the same command again, with fewer --jobs",
                "test_a_search_whose_process_died_goes_on_with_fewer_jobs",
            ),
            ("sweep.py _final", ". mmcl run ", "test_the_command_in_best_yaml_runs_the_best_values"),
        )
    ),
]


# -------------------------------------------------------------------------------------------------------- reports and reviews


def _shows(words: str, *command: str) -> None:
    assert words in printed(*command)


def _a_folder_of_runs(folder: Path) -> Path:
    """A folder with a run that was begun, and streams that it does not name."""
    claim(folder / "one", "run")
    layout = Layout(kind="sequence", axes=("time", "channel"), sizes={"channel": 3}, rate=10.0)
    StoreWriter(folder / "prepared" / "toy" / "some-0123", layout).close({"key": "0123"})
    return folder


def _without_a_probe(folder: Path) -> None:
    """A run that was stopped before it was asked anything."""
    root = finished(folder).root
    shutil.rmtree(root / "fold-00" / "seed-3" / "probe")
    call("audit", str(root))


def _finished_and_audited(folder: Path) -> None:
    """Once it is run to its end, every check is well."""
    lines = printed("audit", str(run(folder).root)).splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}


REVIEWS: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/review/runs.py runs_in",
        "name the one that your runs lie in, as in mmcl runs DIR",
        lambda folder: call("runs", str(folder / "nowhere")),
        lambda folder: _shows("one ", "runs", str(_a_folder_of_runs(folder))),
    ),
    Row(
        "mmcl/review/runs.py prune",
        "name the one that your runs lie in, as in mmcl runs prune DIR",
        lambda folder: call("runs", "prune", str(folder / "nowhere")),
        lambda folder: _shows("some-0123: would be removed", "runs", "prune", str(_a_folder_of_runs(folder))),
    ),
    *(
        NoOffer("mmcl/report/words.py", words, "says which values of a metric are better")
        for words in ("share of wrong labels; lower is better", "between prediction and truth; lower is better")
    ),
    NoOffer("mmcl/report/words.py compared", "lower validation loss", "says by what an epoch was chosen"),
    *(
        Elsewhere(f"mmcl/{where}", words, f"{HERE}::{test}")
        for test, each in {
            "test_every_command_that_a_report_offers_goes_on_from_its_run": [
                ("report/page.py _next", f"mmcl {name} ") for name in ("predict", "compare", "audit", "rerun", "sweep")
            ]
            + [
                ("report/page.py _next", "look for leaks"),
                ("report/page.py _next", "repeat the run from its folder"),
                ("report/page.py _next", "try other values"),
                ("report/page.py _next", "--task "),
                ("report/page.py _next", "--set "),
            ],
            "test_a_run_is_taken_where_a_folder_that_is_none_was_refused": [
                ("report/several.py report_runs", "is no run folder; name runs such as runs/NAME"),
                ("review/audit/__init__.py audit_folder", "name one such as runs/NAME"),
                ("review/compare.py _read", "is no run folder; name runs such as runs/NAME"),
                ("review/rerun.py plan_of", "name one such as runs/NAME"),
            ],
            "test_runs_are_each_named_once_in_a_report_of_several": [
                ("report/several.py report_runs", "a run is named twice; name each once"),
            ],
            "test_what_can_be_compared_is_named_and_taken": [
                ("review/compare.py compare_runs", "look at --inputs and --heads"),
                ("review/compare.py _common_task", "choose one with --task"),
                ("review/compare.py _common_task", "choose runs that predict the same"),
            ],
            "test_a_run_without_predictions_is_finished_and_compared": [
                ("review/compare.py _read", "let `mmcl run` finish it"),
            ],
            "test_a_recording_of_a_run_without_streams_is_shown_by_its_recipe_and_after_the_run": [
                ("review/one_recording.py recording_of_run", "show the recipe, or run it first"),
            ],
            "test_streams_that_are_being_prepared_are_pruned_later": [
                ("review/runs.py prune", "run the same command later"),
            ],
            "test_packages_that_mmcl_needs_are_brought_by_the_command_of_doctor": [
                ("review/machine.py _packages", "pip install --upgrade mmcl"),
                ("review/machine.py _reinstall", "pip install --force-reinstall "),
            ],
            "test_each_extra_is_whole_after_the_command_of_doctor": [
                ("review/machine.py _extras", "pip install 'mmcl[{}]'"),
            ],
            "test_as_many_threads_as_doctor_says_do_not_wait_for_each_other": [
                ("review/machine.py _processor", "export OMP_NUM_THREADS={}"),
            ],
            "test_where_bf16_is_emulated_precision_stays_at_float32_unless_it_is_asked_for": [
                ("review/machine.py _processor", "leave precision at float32"),
            ],
            "test_folders_that_doctor_offers_are_written_to": [
                ("review/machine.py _folders", "export MMCL_CACHE=FOLDER that may be written"),
                ("review/machine.py _folders", "work in another folder, or give --out"),
            ],
        }.items()
        for where, words in each
    ),
    Row(
        "mmcl/review/audit/__init__.py audit",
        "audit a run that `mmcl run` has finished",
        _without_a_probe,
        _finished_and_audited,
    ),
    *(
        Elsewhere(
            "mmcl/review/compare.py _expect_one_corpus",
            words,
            "tests/test_compare.py::test_runs_whose_recordings_have_the_same_names_by_chance_are_not_mixed",
        )
        for words in ("compare runs of one", "compare runs of the same data")
    ),
    Elsewhere(
        "mmcl/review/replay.py _require_modest",
        "lost.json was changed; train again to have the batch kept",
        "tests/test_replay.py::test_a_loss_that_is_no_number_stops_names_the_pair_and_keeps_the_batch_for_replay",
    ),
]
RECIPES: list[Row | Elsewhere | NoOffer] = [*PLANS, *READ, *SEARCHES, *REVIEWS]
