"""Offers of what runs recipes, followed; and those of what uses finished runs, whose rows stand in `use.py`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed import HashStore

from mmcl.api import StageError
from mmcl.data.parts import part_folder, part_lock, share_of
from mmcl.data.store import Store
from mmcl.engine.cluster import Ray
from mmcl.engine.ranks import Ranks
from mmcl.plugins import plugins
from mmcl.recipe.carried import packed
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.runs import RunFolder, read_json
from mmcl.stages import chunks
from mmcl.stages.cells import only_of
from mmcl.stages.engines import engine_of
from mmcl.stages.prepare import store_of
from mmcl.stages.pretrain import pretrain
from mmcl.stages.recordings import listed, open_dataset
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.core import call
from tests.advice.stages_runs import STUDY, finished, overriding, plan_of, pretrained, run, tiny
from tests.advice.use import USE

SAYS = "tests/test_advice_stages.py::"
REMEDIES = SAYS + "test_each_remedy_of_a_loss_that_is_no_number_keeps_it_one"
LOST = (
    "pretrain.objective.loss.temperature=1e-9",
    "pretrain.epochs=3",
    "pretrain.optimizer={use: sgd, lr: 1e3, weight_decay: 0}",
)
"""A loss whose gradients are so large that such a rate ends in weights that are no numbers."""
SHARDED = ("pretrain.shard=true",)
APART = ("dataset.seed=39", "dataset.missing=0.6", "dataset.speakers=12", "pretrain.choose=retrieval")
"""A corpus of whose validation recordings none has both modalities."""


# ------------------------------------------------------------------------------------------------------- folds and seeds


def _chosen(only: str) -> None:
    assert only_of(only, SimpleNamespace(seeds=(0, 1))).seed in (0, 1)


def _two_ways(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setenv("RANK", "0")
        run(folder, "--jobs", "2")


def _no_such_fold(folder: Path) -> None:
    finished(folder)
    run(folder, "--only", "fold=7")


def _another_address(folder: Path) -> None:
    assert isinstance(engine_of("ray", "there:6379"), Ray)


# ---------------------------------------------------------------------------------------------------- what was there before


def _gone_plan(folder: Path) -> None:
    (finished(folder).root / "plan.json").unlink()
    run(folder, "--continue")


def _plan_again(folder: Path) -> None:
    weights = finished(folder).stage("pretrain", 0, 3) / "encoders.safetensors"
    before = weights.stat().st_mtime_ns
    assert read_json(run(folder).root / "plan.json")["plan"]["name"] == "tiny"
    assert weights.stat().st_mtime_ns == before


def _another_rate(folder: Path) -> None:
    finished(folder)
    run(folder, *overriding("pretrain.optimizer.lr=0.5"))


def _own_or_replaced(folder: Path) -> None:
    weights = Path("fold-00", "seed-3", "pretrain", "encoders.safetensors")
    here, own = (folder / "runs" / name / weights for name in ("tiny", "own"))
    before = here.read_bytes()
    pretrained(folder, "pretrain.optimizer.lr=0.5", name="own")
    assert here.read_bytes() == before != own.read_bytes()
    run(folder, "--overwrite", "--stop-after", "pretrain", *overriding("pretrain.optimizer.lr=0.5"))
    assert here.read_bytes() == own.read_bytes()


def _longer(folder: Path) -> None:
    finished(folder)
    run(folder, *overriding("pretrain.epochs=3"))


def _gone_on(folder: Path, *sets: str, name: str = "tiny") -> int:
    facts = read_json(
        run(folder, "--continue", "--stop-after", "pretrain", *overriding(*sets), name=name).stage("pretrain", 0, 3)
        / "finished.json"
    )
    assert facts["continued"]
    return int(facts["epochs"])


def _continued(folder: Path) -> None:
    assert _gone_on(folder, "pretrain.epochs=3") == 3


def _fewer(folder: Path) -> None:
    finished(folder)
    run(folder, "--continue", *overriding("pretrain.epochs=1"))


PATIENT = ("pretrain.optimizer.lr=1e-30", "pretrain.patience=1")
"""Training that gets nowhere, and so is stopped after the second epoch."""


def _out_of_patience(folder: Path) -> None:
    assert pretrained(folder, "pretrain.epochs=6", *PATIENT) == 2
    run(folder, "--continue", *overriding("pretrain.epochs=8", *PATIENT))


def _more_patience(folder: Path) -> None:
    shutil.copytree(folder / "runs" / "tiny", folder / "runs" / "larger")
    assert _gone_on(folder, "pretrain.epochs=8", *PATIENT, "pretrain.patience=") == 8
    assert _gone_on(folder, "pretrain.epochs=8", *PATIENT, "pretrain.patience=20", name="larger") == 8


def _part(folder: Path, *words: str, name: str = "tiny") -> int:
    """The epochs of pretraining of the one fold, run as a part of the run beside others."""
    kept = run(folder, "--only", "fold=0", "--stop-after", "pretrain", *words, name=name).stage("pretrain", 0, 3)
    return int(read_json(kept / "finished.json")["epochs"])


def _beside(folder: Path) -> None:
    there = run(folder, "--only", "fold=0", "--stop-after", "prepare")
    with there.shared():
        _part(folder, *overriding("pretrain.epochs=3"))


def _elsewhere_or_later(folder: Path) -> None:
    with RunFolder(folder / "runs" / "tiny").shared():
        assert _part(folder, *overriding("pretrain.epochs=3"), name="another") == 3
    assert _part(folder) == 2  # as the other process ends its part
    assert _part(folder, "--overwrite", *overriding("pretrain.epochs=3")) == 3


# -------------------------------------------------------------------------------------------------------------- preparing


def _node(folder: Path, later: int) -> None:
    """A task of a cluster, whose node sees one recording's file as it was changed so many seconds later."""
    if not (folder / "data").exists():
        plugins().get("dataset", "folder").spec.sample(folder / "data", 24, 0)
    plan = make_plan(parse_recipe(STUDY, "study.yaml", ()), folder)
    there = RunFolder(folder / "runs" / "study")
    samples = listed(plan, open_dataset(plan))
    store, key = store_of(plan, there, plan.modalities[0], samples)
    file = folder / "data" / "sound" / "r003.wav"
    then = file.stat()
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns + later * 10**9))
    chunks._listing.cache_clear()  # what a process has listed, as each node's has
    try:
        order = packed(plan), there.root, there.prepared, "voice", key, range(8), 1, False, "cpu"
        if (sentence := chunks.prepare_chunk(*order)) is not None:
            raise StageError(sentence)
    finally:
        os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))
        chunks._listing.cache_clear()
    assert part_folder(store, range(8)).is_dir()


@contextmanager
def _cache(folder: Path) -> Iterator[str]:
    """A cache of streams of its own, and a URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMCL_CACHE", str(folder / "cache"))
        yield f"file://{folder / 'there'}"


def _from_url(folder: Path, *sets: str) -> None:
    with _cache(folder) as url:
        there = run(folder, "--stop-after", "prepare", "--prepared", url, *overriding(*sets), name="there/run")
    here = folder / "runs" / "tiny"
    assert (there.root / "recordings.safetensors").read_bytes() == (here / "recordings.safetensors").read_bytes()
    assert not (folder / "runs" / "there" / "prepared").exists()


def _uploaded(folder: Path, *sets: str) -> None:
    root = run(folder, "--stop-after", "prepare", *overriding(*sets)).root
    call("upload", str(root), f"file://{folder / 'there'}")


def _other_streams(folder: Path) -> None:
    _uploaded(folder)
    _from_url(folder, "modalities.text.features.dim=5")


def _of_those_streams(folder: Path) -> None:
    _uploaded(folder, "modalities.text.features.dim=5")
    _from_url(folder, "modalities.text.features.dim=5")


def _share(folder: Path, shard: str) -> None:
    call("prepare", tiny(folder), "--out", str(folder / "runs" / "tiny"), "--shard", shard, "--workers", "1")


@contextmanager
def _written(folder: Path, number: int, count: int) -> Iterator[Path]:
    """The part of the first modality that another process is writing."""
    plan = plan_of()
    samples = listed(plan, open_dataset(plan))
    store, _ = store_of(plan, RunFolder(folder / "runs" / "tiny"), plan.modalities[0], samples)
    part = part_folder(store, share_of(number, count, len(samples)))
    with part_lock(part):
        yield part


def _taken(folder: Path) -> None:
    with _written(folder, 2, 3):
        _share(folder, "2/3")


def _later_or_another(folder: Path) -> None:
    with _written(folder, 2, 3) as part:
        _share(folder, "1/3")
        assert not part.is_dir()
    _share(folder, "2/3")
    assert part.is_dir()


def _least_share(folder: Path) -> None:
    _share(folder, "36/36")
    assert [part.name for part in folder.rglob("000000035-000000036")]


def _linked_parts(folder: Path) -> None:
    _share(folder, "1/2")
    parts = next((folder / "runs" / "prepared").rglob("*.parts"))
    shutil.move(parts, folder / "elsewhere")
    parts.symlink_to(folder / "elsewhere")
    _share(folder, "2/2")


def _moved_parts(folder: Path) -> None:
    link = next(path for path in (folder / "runs" / "prepared").rglob("*.parts") if path.is_symlink())
    link.unlink()
    shutil.move(folder / "elsewhere", link)
    _share(folder, "2/2")
    stores = [Store(about.parent) for about in (folder / "runs" / "prepared" / "toy").glob("*/store.json")]
    assert len(stores) == 2
    assert all(store.changed() == [] for store in stores)


VOICE = """\
format: 1
name: voices
dataset: {use: ravdess}
protocol: {use: k-fold, k: 2}
modalities:
  voice: {source: audio, features: {use: log-mel, bands: 4}, backbone: {use: tcn, channels: [4]}}
  other: {source: audio, features: {use: log-mel, bands: 3}, backbone: {use: tcn, channels: [4]}}
window: {seconds: 0.5}
"""


def _voices(folder: Path, *words: str) -> None:
    (folder / "voices.yaml").write_text(VOICE, encoding="utf-8")
    root = folder / "runs" / "voices"
    line = ["run", str(folder / "voices.yaml"), "--out", str(root), "--stop-after", "prepare", "--workers", "1"]
    call(*line, *words)
    assert read_json(root / "prepare.json")["samples"] > 0


def _where_they_are(folder: Path) -> None:
    plugins().get("dataset", "ravdess").spec.sample(folder / "corpora" / "ravdess", 16, 0)
    _voices(folder, "--data", str(folder / "corpora"))
    _voices(folder, "--set", f"dataset.root={folder / 'corpora' / 'ravdess'}")


# --------------------------------------------------------------------------------------------------------------- training


def _momentum_of_shards(folder: Path) -> None:
    sets = ("pretrain.objective.momentum=0.9",)
    there = run(folder, "--stop-after", "prepare", *overriding(*sets))
    pretrain(plan_of(*SHARDED, *sets), there, device="cpu", ranks=Ranks(0, 2, HashStore()))


def _lost(folder: Path) -> None:
    pretrained(folder, *LOST)


def _replayed(folder: Path) -> None:
    call("replay", str(folder / "runs" / "tiny"))
    assert (folder / "runs" / "tiny" / "fold-00" / "seed-3" / "pretrain" / "lost.json").is_file()


def _counted(folder: Path) -> None:
    """No recording of training has both modalities, as prepare.json counts: all but one are missing in one of the two."""
    about = read_json(folder / "runs" / "tiny" / "prepare.json")
    missing = {name: one["missing"] for name, one in about["modalities"].items()}
    assert sum(missing.values()) >= about["samples"]
    assert pretrained(folder) == 2


def _measured(folder: Path, *sets: str) -> None:
    line = ["profile", tiny(folder), "--out", str(folder / "runs" / "profile"), "--workers", "1", "--device", "cpu"]
    call(*line, "--steps", "1", *overriding(*sets))


def _measured_once(folder: Path) -> None:
    _measured(folder, "pretrain.epochs=1")
    assert read_json(folder / "runs" / "profile" / "profile.json")["steps"]["float32"] > 0


STAGES: list[Row | Elsewhere | NoOffer] = [
    NoOffer("mmcl/stages/__init__.py run_all", "waiting for it", "says that mmcl itself waits"),
    NoOffer("mmcl/stages/__init__.py _end", "waiting for it", "says that mmcl itself waits"),
    Row(
        "mmcl/stages/__init__.py _engine",
        "leave one of the two out",
        _two_ways,
        lambda folder: run(folder, "--jobs", "2", "--stop-after", "pretrain"),
    ),
    Row(
        "mmcl/stages/cells.py only_of",
        "write --only fold=3,seed=1",
        lambda folder: _chosen("3"),
        lambda folder: _chosen("fold=3,seed=1"),
    ),
    Row(
        "mmcl/stages/cells.py only_of",
        "the recipe has no seed",
        lambda folder: _chosen("seed=5"),
        lambda folder: (_chosen("seed=0"), _chosen("seed=1")),
    ),
    Row("mmcl/stages/cells.py chosen", "there is no fold", _no_such_fold, lambda folder: run(folder, "--only", "fold=0")),
    NoOffer("mmcl/stages/chunks.py works", "prepare: {} chunks", "says what is done, and begins with the stage's name"),
    NoOffer("mmcl/stages/chunks.py prepare_together", "prepare, in chunks", "the name of what is done"),
    Row(
        "mmcl/stages/chunks.py prepare_chunk",
        "put them where every node sees the same ones",
        lambda folder: _node(folder, 60),
        lambda folder: _node(folder, 0),
    ),
    NoOffer("mmcl/stages/earlier.py earlier", "; run", "where another message is cut, whose advice does not hold here"),
    Row(
        "mmcl/stages/earlier.py check_plan",
        "holds no pretraining to go on with; leave --continue out",
        lambda folder: run(folder, "--continue"),
        lambda folder: pretrained(folder),
    ),
    Row(
        "mmcl/stages/earlier.py check_plan",
        "leave --continue out and run the recipe as it was",
        _gone_plan,
        _plan_again,
    ),
    NoOffer(
        "mmcl/stages/earlier.py check_plan",
        "before mmcl kept what the code",
        "a reason, put into the sentence that offers --out and --overwrite",
    ),
    Row("mmcl/stages/earlier.py check_plan", "--continue to go on from the last epoch", _longer, _continued),
    Row(
        "mmcl/stages/earlier.py check_beside",
        "give another --out, or wait for it and give --overwrite",
        _beside,
        _elsewhere_or_later,
    ),
    Row("mmcl/stages/earlier.py _check_more", "set pretrain.epochs above that", _fewer, _continued),
    Row(
        "mmcl/stages/earlier.py _check_more",
        "give --set pretrain.patience= or a larger one too",
        _out_of_patience,
        _more_patience,
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
    Row(
        "mmcl/stages/earlier.py check_plan",
        "give --out for a folder of its own, or --overwrite to replace it",
        _another_rate,
        _own_or_replaced,
    ),
    Elsewhere(
        "mmcl/stages/earlier.py check_recordings",
        "or --overwrite to replace it",
        "tests/test_earlier.py::test_other_recordings_are_refused_before_folds_json_is_written",
    ),
    Row(
        "mmcl/stages/elsewhere.py prepared_there",
        "has no recordings of '",
        _from_url,
        lambda folder: (_uploaded(folder), _from_url(folder)),
    ),
    Row("mmcl/stages/elsewhere.py prepared_there", "has no streams of '", _other_streams, _of_those_streams),
    Elsewhere(
        "mmcl/stages/elsewhere.py prepared_there",
        "beside it names; upload the run again",
        SAYS + "test_an_upload_whose_files_do_not_belong_together_is_whole_when_it_is_uploaded_again",
    ),
    Elsewhere(
        "mmcl/stages/elsewhere.py warn",
        "by-shard reads each once an epoch",
        SAYS + "test_the_sampler_that_is_named_where_the_cache_is_small_reads_each_file_once",
    ),
    Row(
        "mmcl/stages/engines.py engine_of",
        "give --engine ray with it",
        lambda folder: engine_of("local", "there:6379"),
        _another_address,
    ),
    Elsewhere(
        "mmcl/stages/lost.py together",
        "torchrun --nproc-per-node {} -m mmcl",
        "tests/test_replay.py::test_a_batch_that_two_processes_lost_is_seen_by_two_as_it_was_and_refused_by_one",
    ),
    Elsewhere(
        "mmcl/stages/lost.py together",
        "look at it with: ",
        "tests/test_replay.py::test_a_batch_that_two_processes_lost_is_seen_by_two_as_it_was_and_refused_by_one",
    ),
    Row("mmcl/stages/parts.py write_part", "wait for it, or take another share", _taken, _later_or_another),
    NoOffer("mmcl/stages/parts.py merge_parts", "parts are put together", "says what is done"),
    Row(
        "mmcl/stages/parts.py prepare_shard",
        "give at most as many shards as recordings",
        lambda folder: _share(folder, "1/37"),
        _least_share,
    ),
    Row("mmcl/stages/parts.py prepare_shard", "move them here", _linked_parts, _moved_parts),
    NoOffer("mmcl/stages/prepare.py prepare", "(--strict; {} in all)", "names the option that made this an error"),
    Elsewhere(
        "mmcl/stages/prepare.py prepare",
        "prepare.json and the report list",
        SAYS + "test_prepare_json_and_the_report_list_what_was_skipped_and_what_is_odd",
    ),
    NoOffer("mmcl/stages/prepare.py prepare", "prepare: {}", "begins with the stage's name"),
    NoOffer(
        "mmcl/stages/prepare.py prepare", "whole recordings are taken", "begins with the stage's name, and says what is done"
    ),
    NoOffer("mmcl/stages/prepare.py is_whole", "they are prepared anew", "says what mmcl itself does"),
    NoOffer("mmcl/stages/prepare.py _kept_scores", "it is made again", "says what mmcl itself does"),
    NoOffer("mmcl/stages/prepare.py _scored", "prepare {}", "the name of a progress bar"),
    NoOffer("mmcl/stages/prepare.py _scored", "(--strict)", "names the option that made this an error"),
    NoOffer("mmcl/stages/prepare.py turn", "waiting for it", "says that mmcl itself waits"),
    NoOffer("mmcl/stages/prepare.py _make_store", "parts are put together", "says what is done"),
    NoOffer("mmcl/stages/prepare.py extract_to", "prepare {}", "the name of a progress bar"),
    NoOffer("mmcl/stages/prepare.py extract_to", "(--strict)", "names the option that made this an error"),
    Elsewhere(
        "mmcl/stages/pretrain.py _refuse_shards",
        "start several with torchrun --nproc-per-node N -m mmcl run",
        SAYS + "test_shards_are_trained_by_torchrun_and_labels_learned_when_that_is_done",
    ),
    Row(
        "mmcl/stages/pretrain.py _refuse_shards",
        "set pretrain.shard: false",
        lambda folder: pretrained(folder, *SHARDED),
        lambda folder: pretrained(folder, "pretrain.shard=false"),
    ),
    Row(
        "mmcl/stages/pretrain.py _refuse_shards",
        "leave that out, or pretrain.shard",
        _momentum_of_shards,
        lambda folder: pretrained(folder, "pretrain.objective.momentum=0.9"),
    ),
    Elsewhere(
        "mmcl/stages/pretrain.py _refuse_shards",
        "leave supervise out, or until pretraining is finished",
        SAYS + "test_shards_are_trained_by_torchrun_and_labels_learned_when_that_is_done",
    ),
    Row(
        "mmcl/stages/pretrain.py _monitored",
        "set pretrain.choose: loss",
        lambda folder: pretrained(folder, *APART),
        lambda folder: pretrained(folder, *APART, "pretrain.choose=loss"),
    ),
    NoOffer("mmcl/stages/pretrain.py _words", "train {}, valid {}", "figures of an epoch"),
    Row("mmcl/stages/pretrain.py _lost", "shows where the numbers end", _lost, _replayed),
    Elsewhere(
        "mmcl/stages/pretrain.py _lost",
        "leave so many such batches out: pretrain.skip",
        "tests/test_replay.py::test_batches_without_a_number_are_left_out_by_option_and_counted",
    ),
    Row(
        "mmcl/stages/pretrain.py _stop_if_nothing_was_contrasted",
        "check the counts of missing modalities in prepare.json",
        lambda folder: pretrained(folder, "dataset.missing=0.95"),
        _counted,
    ),
    Elsewhere("mmcl/stages/lost.py remedies", "lower {}.optimizer.lr", REMEDIES),
    Elsewhere("mmcl/stages/lost.py remedies", "set {}.clip", REMEDIES),
    Elsewhere("mmcl/stages/lost.py remedies", "set a lower {}.clip", REMEDIES),
    Elsewhere("mmcl/stages/lost.py remedies", "set {}.precision: float32", REMEDIES),
    Elsewhere(
        "mmcl/stages/profile.py advice",
        "pretrain.precision: float32",
        SAYS + "test_the_precision_that_is_advised_is_one_that_the_recipe_may_have",
    ),
    NoOffer("mmcl/stages/profile.py advice", "nothing to gain", "says that nothing is to be done"),
    Row(
        "mmcl/stages/profile.py profile",
        "set it to 1 or more",
        lambda folder: _measured(folder, "pretrain.epochs=0"),
        _measured_once,
    ),
    Row(
        "mmcl/stages/recordings.py open_dataset",
        "is looked for there (dataset.root, --data)",
        lambda folder: _voices(folder, "--data", str(folder / "nowhere")),
        _where_they_are,
    ),
    NoOffer("mmcl/stages/supervise.py _train", "train {}, valid {}", "figures of an epoch"),
    NoOffer(
        "mmcl/stages/unreadable.py close", "failed in the same way", "begins with the stage's name, and says what happened"
    ),
    *USE,
]
