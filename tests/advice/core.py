"""Offers of the command line, of what begins a dataset or a plug-in, of run folders and of the engine, followed."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import requires
from pathlib import Path
from unittest.mock import patch

from packaging.requirements import Requirement

from mmcl.engine.cluster import Share, need_ray, share_out
from mmcl.runs import RunFolder, claim, read_json
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.begin import BEGIN, recipe_for, study
from tests.advice.calls import call as call
from tests.advice.calls import printed
from tests.test_environment import RECIPE


def extra(name: str, package: str) -> None:
    """`pip install 'mmcl[name]'` installs a package."""
    lines = [Requirement(line) for line in requires("mmcl") or ()]
    with_it = [one.name for one in lines if one.marker is not None and one.marker.evaluate({"extra": name})]
    assert package in with_it


def _claimed(folder: Path, name: str) -> None:
    """A folder that is claimed, beside one with somebody's thesis."""
    (folder / "full").mkdir(exist_ok=True)
    (folder / "full" / "thesis.tex").write_text("mine", encoding="utf-8")
    claim(folder / name, "run")


def _run(folder: Path, out: str, *more: str, until: str = "prepare") -> None:
    """A small run, as far as a stage, whose files are there then."""
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    call("run", str(folder / "small.yaml"), "--out", str(folder / out), "--workers", "1", "--stop-after", until, *more)
    name = {"prepare": "prepare.json", "pretrain": "fold-00/seed-3/pretrain/encoders.safetensors"}[until]
    assert (folder / out / name).is_file()


def _while_held(folder: Path, out: str, *more: str) -> None:
    """The same, while another process writes the run `a`."""
    with RunFolder(folder / "a").held():
        _run(folder, out, *more)


def _while_unit_held(folder: Path) -> None:
    _run(folder, "a")
    with RunFolder(folder / "a").shared(), RunFolder(folder / "a").held_unit(0, 3):
        _run(folder, "a", "--only", "fold=0,seed=3", until="pretrain")


def _below_a_file(folder: Path) -> None:
    (folder / "file").write_text("mine", encoding="utf-8")
    _run(folder, "file/run")


def _in_a_sweep(folder: Path) -> None:
    claim(folder / "a", "sweep")
    _run(folder, "a")


def _linked(folder: Path) -> None:
    """A run, into which a link is put."""
    _run(folder, "a")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "a" / "notes.txt").symlink_to(folder / "notes.txt")
    _run(folder, "a")


def _taken_away_or_copied(folder: Path) -> None:
    (folder / "a" / "notes.txt").unlink()
    _run(folder, "a")
    shutil.copy(folder / "notes.txt", folder / "a" / "notes.txt")
    _run(folder, "a")
    assert (folder / "a" / "notes.txt").read_text(encoding="utf-8") == "mine"


def _file_linked(folder: Path, copied: bool) -> None:
    (folder / "told.json").write_text('{"a": 1}', encoding="utf-8")
    (folder / "a.json").unlink(missing_ok=True)
    if copied:
        shutil.copy(folder / "told.json", folder / "a.json")
    else:
        (folder / "a.json").symlink_to(folder / "told.json")
    assert read_json(folder / "a.json") == {"a": 1}


def _removed(folder: Path) -> None:
    call("runs", "rm", str(folder / "a"), "--yes")
    assert not (folder / "a").exists()


def _removed_while_held(folder: Path) -> None:
    _run(folder, "a")
    with RunFolder(folder / "a").held():
        _removed(folder)


def _pruned(folder: Path) -> None:
    (one, *_) = (folder / "prepared").glob("*/*/store.json")
    shutil.copytree(one.parent, one.parent.with_name(f"unused-{one.parent.name}"))
    call("runs", "prune", str(folder), "--yes")
    assert one.exists() and not list((folder / "prepared").rglob("unused-*"))


def _with_a_thesis(folder: Path) -> None:
    claim(folder / "a", "run")
    (folder / "a" / "thesis.tex").write_text("mine", encoding="utf-8")
    _removed(folder)


def _without_a_thesis(folder: Path) -> None:
    (folder / "a" / "thesis.tex").rename(folder / "thesis.tex")
    _removed(folder)
    assert (folder / "thesis.tex").read_text(encoding="utf-8") == "mine"


def _into_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    recipe_for(folder, study(folder), out="pipe")


def _equal(one: object, other: object) -> None:
    assert one == other


def _without_ray(folder: Path) -> object:
    with patch.dict(sys.modules, ray=None):
        return need_ray()


def _looked_at(folder: Path, *more: str, recipe: bool = False) -> None:
    table = study(folder)
    if recipe:
        recipe_for(folder, table)
    text = printed("data", "check", str(folder / "r.yaml" if recipe else table.parent), *more)
    assert ("8 of 4 speakers (limit 4)" if more else "8 of 4 speakers\n") in text


def _empty(folder: Path) -> None:
    call("new-recipe", str(study(folder)), "--out", "")


def _named_or_left_out(folder: Path) -> None:
    recipe_for(folder, study(folder))
    assert "table: recordings.csv" in printed("new-recipe", str(study(folder)))


HELP = "help of a command in the overview, and no message"
FOLLOWED = "tests/test_advice_core.py::test_"
LOADER = "tests/test_advice_loader.py::test_"
CLUSTER = "tests/test_cluster.py::test_"
HEAD = f"{CLUSTER}an_address_that_leads_nowhere_is_told_and_that_of_a_head_connects"
SEEN = f"{CLUSTER}a_node_that_does_not_see_the_folder_says_so"
WHAT_WILL_GO = f"{LOADER}what_will_go_is_left_out_and_all_works_as_before"
LISTED = f"{FOLLOWED}json_lists_all_that_data_check_leaves_out_and_strict_ends_a_run_at_what_it_would_skip"
SHOWN = f"{FOLLOWED}a_recording_of_a_run_is_shown_without_set_and_a_page_is_never_written_over"
DESCRIBED = f"{FOLLOWED}datasets_are_looked_for_where_describe_says"
PLACE = f"{FOLLOWED}another_place_or_the_same_command_later_ends_well"
ANOTHER_CONTRACT = f"{LOADER}a_plug_in_for_another_contract_is_replaced_or_mmcl_is"
NEW_PACKAGE = f"{LOADER}a_new_package_is_installed_tested_and_described_by_the_line_that_says_what_is_next"
NOT_THERE = f"{LOADER}a_package_that_is_not_there_offers_its_name_once_it_is_installed"

CORE: list[Row | Elsewhere | NoOffer] = [
    *BEGIN,
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
    Elsewhere("mmcl/api/__init__.py", "leave it out; hooks are declared by mmcl alone", WHAT_WILL_GO),
    Elsewhere(
        "mmcl/api/modality.py ModalitySpec",
        "leave it out; a change of the package's files is noticed by itself",
        f"{LOADER}a_change_of_a_modalitys_files_is_noticed_without_a_version",
    ),
    # ------------------------------------------------------------------------------------------------------ the command line
    NoOffer("mmcl/cli/__init__.py", ", and say what", HELP),
    NoOffer("mmcl/cli/__init__.py", "List runs; remove some", HELP),
    Elsewhere(
        "mmcl/cli/__init__.py main",
        "start it without torchrun",
        f"{FOLLOWED}what_works_in_one_process_is_started_without_torchrun",
    ),
    NoOffer(
        "mmcl/cli/__init__.py main",
        "please report it with the lines above",
        "asks for a letter to the makers of mmcl or of a plug-in",
    ),
    Elsewhere(
        "mmcl/cli/begin.py new_dataset",
        "look it over, then: mmcl data check",
        "tests/test_begin.py::test_commands_that_are_named_can_be_pasted_whatever_the_folder_is_called",
    ),
    Elsewhere(
        "mmcl/cli/begin.py new_dataset",
        "mend the table, then: mmcl new-recipe",
        f"{FOLLOWED}a_rate_goes_into_the_column_or_the_recipe_and_the_recipe_that_was_missing_is_written_then",
    ),
    Elsewhere(
        "mmcl/cli/begin.py new_recipe",
        "next: mmcl check",
        "tests/test_begin.py::test_commands_that_are_named_can_be_pasted_whatever_the_folder_is_called",
    ),
    Elsewhere("mmcl/cli/begin.py new_plugin", "&& pip install -e '.[test]' && pytest; then: mmcl describe", NEW_PACKAGE),
    Elsewhere("mmcl/cli/checking.py check_plugin", "pip install -e the package, or name its module", NEW_PACKAGE),
    Elsewhere(
        "mmcl/cli/check.py check",
        "DIR is still to be given: --data DIR, or MMCL_DATA.",
        f"{FOLLOWED}the_command_that_tries_a_sample_runs_and_data_may_be_given_both_ways",
    ),
    Row(
        "mmcl/cli/data.py check",
        "--set and --limit belong to a recipe; a folder is looked at whole",
        lambda folder: _looked_at(folder, "--limit", "4"),
        lambda folder: (_looked_at(folder), _looked_at(folder, "--limit", "4", recipe=True)),
    ),
    Elsewhere(
        "mmcl/cli/data.py lines_of", "then write group: ", f"{FOLLOWED}a_column_of_people_that_is_offered_becomes_the_group"
    ),
    Elsewhere("mmcl/cli/data.py lines_of", "(--json lists them)", LISTED),
    Elsewhere("mmcl/cli/data.py lines_of", "with --strict it ends there", LISTED),
    Elsewhere("mmcl/cli/data.py show", "--set belongs to a recipe; a run is shown as it was made", SHOWN),
    Elsewhere("mmcl/cli/data.py show", "name another with --out, which may write over it", SHOWN),
    Elsewhere("mmcl/cli/describe.py _dataset", "'mmcl data check FOLDER' says which", DESCRIBED),
    Elsewhere("mmcl/cli/describe.py _dataset", "(DIR: --data DIR or $MMCL_DATA), or dataset.root", DESCRIBED),
    NoOffer("mmcl/cli/lists.py", "List papers' settings to lay over a recipe", "help of a command, and no message"),
    Row("mmcl/cli/options.py convert", "name a file or a folder", _empty, _named_or_left_out),
    Elsewhere(
        "mmcl/cli/options.py check_engine",
        "give --engine ray with it",
        f"{CLUSTER}trials_on_a_cluster_have_the_scores_of_local_ones",
    ),
    Elsewhere(
        "mmcl/cli/report.py report",
        "--out is for several runs; the report of one lies in its folder",
        f"{FOLLOWED}several_runs_have_a_page_where_out_says_and_one_has_its_own",
    ),
    Elsewhere("mmcl/cli/rerun.py rerun", "(--json has all)", f"{FOLLOWED}json_has_all_scores_of_a_repetition_that_differ"),
    Elsewhere("mmcl/cli/run.py run", "give one of them", f"{FOLLOWED}a_run_begins_anew_or_goes_on_and_not_both"),
    Elsewhere(
        "mmcl/cli/runs.py rm", "the same with --yes removes it", "tests/test_runs.py::test_nothing_is_removed_without_yes"
    ),
    Elsewhere("mmcl/cli/runs.py prune", "the same with --yes frees", f"{FOLLOWED}streams_are_pruned_with_yes"),
    Elsewhere(
        "mmcl/cli/sample.py sample",
        "try it: ",
        f"{FOLLOWED}the_command_that_tries_a_sample_runs_and_data_may_be_given_both_ways",
    ),
    Elsewhere(
        "mmcl/cli/serve.py serve",
        "say --expose if that is meant",
        f"{FOLLOWED}a_server_that_is_exposed_answers_at_any_address_of_the_machine",
    ),
    Elsewhere("mmcl/cli/surroundings.py", "give a place that can be read and written", PLACE),
    Elsewhere("mmcl/cli/surroundings.py", "make room, or write elsewhere", PLACE),
    Elsewhere("mmcl/cli/surroundings.py", "look after the disk, or give another place", PLACE),
    Elsewhere(
        "mmcl/cli/surroundings.py",
        "make batch_size or micro_batch, widths or windows smaller, or use a larger machine",
        f"{FOLLOWED}less_memory_is_taken_by_what_the_message_says",
    ),
    NoOffer("mmcl/cli/sweep.py sweep", "Test {} of these values, run in full", "words before a result"),
    Elsewhere(
        "mmcl/cli/use.py predict",
        "answers are written as .jsonl or .csv",
        f"{FOLLOWED}answers_are_written_by_the_ending_that_is_given",
    ),
    # ------------------------------------------------------------------------------------------------------------ the engine
    Row(
        "mmcl/engine/cluster.py share_out",
        "none of its nodes was started with --num-cpus above 0",
        lambda folder: share_out([{"CPU": 0}], None, 9, None, True),
        lambda folder: _equal(share_out([{"CPU": 0}, {"CPU": 1}], None, 9, None, True), Share(1, 1, 0.0)),
    ),
    Row("mmcl/engine/cluster.py need_ray", "pip install 'mmcl[ray]'", _without_ray, lambda folder: extra("ray", "ray")),
    Elsewhere("mmcl/engine/cluster.py connected", "give HOST:PORT of the cluster's head", HEAD),
    Elsewhere("mmcl/engine/cluster.py connected", "call ray.shutdown() before mmcl", HEAD),
    Elsewhere("mmcl/engine/cluster.py _join", "start one with `ray start --head`", HEAD),
    Elsewhere("mmcl/engine/cluster.py open", "put it where every node of the cluster sees it", SEEN),
    Elsewhere("mmcl/engine/cluster.py open", "start mmcl in a folder that every node of the cluster sees", SEEN),
    Elsewhere(
        "mmcl/engine/cluster.py _take",
        "install the same on every node",
        f"{CLUSTER}a_node_with_another_mmcl_and_a_task_that_ends_every_process_have_their_sentences",
    ),
    NoOffer(
        "mmcl/engine/cluster.py _lost", "no process of mmcl could begin", "says what is; Ray's own words behind it say why"
    ),
    Elsewhere(
        "mmcl/engine/devices.py pick_device",
        "use --device cpu",
        f"{FOLLOWED}a_run_on_a_device_that_is_not_there_runs_on_the_processor",
    ),
    # ------------------------------------------------------------------------------------------------------ plug-ins that are there
    Elsewhere(
        "mmcl/installed.py damage",
        "install the package again, or remove the folder",
        f"{LOADER}a_damaged_package_is_installed_again_or_removed",
    ),
    Elsewhere(
        "mmcl/installed.py unmet",
        "for this mmcl, or an mmcl of those versions",
        f"{LOADER}a_plug_in_for_another_mmcl_is_replaced_or_mmcl_is",
    ),
    Elsewhere(
        "mmcl/plugins.py get", "packages: write ", "tests/test_plugins.py::test_two_strangers_with_one_name_must_be_told_apart"
    ),
    Elsewhere("mmcl/plugins.py get", "is not installed here: pip install ", NOT_THERE),
    Elsewhere("mmcl/plugins.py get", "If another package offers it, install that one here", NOT_THERE),
    Elsewhere(
        "mmcl/plugins.py _installing",
        "; if you know that package: pip install ",
        f"{LOADER}a_run_of_packages_that_are_not_here_opens_once_they_are_installed",
    ),
    Elsewhere(
        "mmcl/plugins.py fault_of",
        "--traceback (or MMCL_TRACEBACK=1) shows the way there",
        f"{LOADER}the_way_to_a_fault_of_a_plug_in_is_shown",
    ),
    Elsewhere("mmcl/plugins.py _check_version", "install a release of it for contract ", ANOTHER_CONTRACT),
    Elsewhere("mmcl/plugins.py _check_version", "install a later mmcl", ANOTHER_CONTRACT),
    # ---------------------------------------------------------------------------------------------------------- run folders
    Row(
        "mmcl/runs/__init__.py held",
        "is writing this run; wait for it",
        lambda folder: _while_held(folder, "a"),
        lambda folder: _run(folder, "a"),
    ),
    Row(
        "mmcl/runs/__init__.py held",
        ", or give another --out",
        lambda folder: _while_held(folder, "a"),
        lambda folder: _while_held(folder, "b"),
    ),
    Row(
        "mmcl/runs/__init__.py held",
        "wait for it",
        _removed_while_held,
        lambda folder: (_pruned(folder), _removed(folder)),
    ),
    Row(
        "mmcl/runs/__init__.py shared",
        "is writing all of this run; wait for it, or give another --out",
        lambda folder: _while_held(folder, "a", "--only", "fold=0,seed=3"),
        lambda folder: (_while_held(folder, "b", "--only", "fold=0,seed=3"), _run(folder, "a", "--only", "fold=0,seed=3")),
    ),
    Row(
        "mmcl/runs/__init__.py held_unit",
        "; wait for it",
        _while_unit_held,
        lambda folder: _run(folder, "a", "--only", "fold=0,seed=3", until="pretrain"),
    ),
    Row("mmcl/runs/__init__.py claim", "; give another --out", _below_a_file, lambda folder: _run(folder, "other")),
    Row("mmcl/runs/__init__.py claim", ": is the folder of a ", _in_a_sweep, lambda folder: _run(folder, "b")),
    Row("mmcl/runs/__init__.py refuse_links", "take it away, or copy what it stands for", _linked, _taken_away_or_copied),
    Row("mmcl/runs/__init__.py remove_run", "move that elsewhere", _with_a_thesis, _without_a_thesis),
    Row(
        "mmcl/runs/files.py in_place_of",
        "give another name",
        _into_a_pipe,
        lambda folder: recipe_for(folder, study(folder), out="other.yaml"),
    ),
    Row(
        "mmcl/runs/files.py _opened",
        "copy what it stands for",
        lambda folder: _file_linked(folder, copied=False),
        lambda folder: _file_linked(folder, copied=True),
    ),
    Elsewhere(
        "mmcl/runs/files.py _advice",
        "; delete it and run the sweep again",
        "tests/test_sweep.py::test_a_damaged_file_is_deleted_as_it_says_and_the_sweep_keeps_its_trials_and_what_opened_the_test_set",
    ),
]
