"""Streams prepared by several processes, a share each: the stores are to the byte those of one process, whoever did what and whoever died."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from mmcl.api import Counting, DataError, PluginError, StageError
from mmcl.cli import main
from mmcl.data.parts import gaps, part_folder, part_lock, parts_of, share_of
from mmcl.data.store import Store
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.review.runs import prune
from mmcl.runs import RunFolder
from mmcl.stages.parts import merge_parts, prepare_shard, write_part
from mmcl.stages.prepare import prepare, store_of, turn
from mmcl.stages.recordings import listed, open_dataset

RECIPE = """\
format: 1
name: tiny
seed: 3
dataset: {use: toy, samples: 48, speakers: 12}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [4], width: 4}}
  landmarks: {features: {use: face-landmarks}, backbone: {use: st-gcn, channels: [4], strides: [1]}}
window: {seconds: 0.8}
projection: {hidden: 4, width: 4}
pretrain: {batch_size: 16, epochs: 1}
probe: {inputs: [text], heads: {linear: {use: linear}}}
protocol: {use: official}
"""


@pytest.fixture(scope="module")
def tiny_plan():
    """The plan of a recipe of two modalities that are quick to make, with overrides."""

    def make(*sets: str):
        return make_plan(parse_recipe(RECIPE, "tiny.yaml", sets), overrides=sets)

    return make


@pytest.fixture(autouse=True)
def some_recordings_cannot_be_read(monkeypatch):
    """Of the toy's recordings every eleventh is damaged; and what it counts is counted."""
    from mmcl_toy.corpus import Toy

    whole = Toy.read

    def read(self, id, source):
        number = int("".join(filter(str.isdigit, id.split("-")[-1])) or 0)
        self.asked = getattr(self, "asked", 0) + 1
        if number % 11 == 5:
            raise DataError("its end is missing")
        return whole(self, id, source)

    monkeypatch.setattr(Toy, "read", read)
    monkeypatch.setattr(Toy, "counts", lambda self: {"asked": getattr(self, "asked", 0)}, raising=False)
    yield
    Counting._abc_caches_clear()  # who counts is remembered by class, and Toy does no more


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the prepared streams of runs, without locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.fixture
def alone(tiny_plan, tmp_path):
    """What one process prepares, with a small shard, so that there are several."""
    run = RunFolder(tmp_path / "alone" / "runs" / "tiny")
    prepare(tiny_plan(), run, workers=1)
    files = content(run.prepared)
    assert any(b'"reason": ' in text for name, text in files.items() if name.endswith("store.json"))
    return files


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr("mmcl.data.store.SHARD_BYTES", 30_000)


def test_shares_follow_each_other_and_hold_every_recording_once():
    for recordings, count in ((10, 3), (7, 7), (1_000_003, 8)):
        shares = [share_of(number, count, recordings) for number in range(1, count + 1)]
        assert (shares[0].start, shares[-1].stop) == (0, recordings)
        assert all(one.stop == other.start for one, other in pairwise(shares))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_the_last_of_the_shards_puts_the_stores_together_and_they_are_those_of_one_process(tiny_plan, run, alone, order):
    for number in order[:-1]:
        assert all(folder.parent.name.endswith(".parts") for folder in prepare_shard(tiny_plan(), run, number, 3, workers=1))
    stores = prepare_shard(tiny_plan(), run, order[-1], 3, workers=1)
    assert content(run.prepared) == alone
    assert max(len(list(store.glob("shard-*"))) for store in stores) > 2
    assert prepare_shard(tiny_plan(), run, 2, 3, workers=1) == stores  # done already
    prepare(tiny_plan(), run, workers=1)
    assert content(run.prepared) == alone


def test_shards_written_at_once_are_put_together_once(tiny_plan, run, alone):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: prepare_shard(tiny_plan(), run, number, 4, workers=1), (1, 2, 3, 4)))
    assert content(run.prepared) == alone


def test_a_shard_is_written_while_another_one_is(tiny_plan, run):
    plan = tiny_plan()
    samples = listed(plan, open_dataset(plan))
    with ThreadPoolExecutor(1) as pool, ExitStack() as busy:
        for modality in plan.modalities:
            store, _ = store_of(plan, run, modality, samples)
            busy.enter_context(turn(modality.name, store, shared=True))  # as whoever writes another shard has it
        assert len(pool.submit(prepare_shard, plan, run, 2, 3, 1).result(timeout=60)) == 2


def test_a_shard_whose_writer_died_is_prepared_by_the_run_and_the_others_are_not_read_again(tiny_plan, run, alone, monkeypatch):
    for number in (1, 3):
        prepare_shard(tiny_plan(), run, number, 3, workers=1)
    died = next(iter(parts_folder_of(run))) / ".000000016-000000032.0123456789abcdef.mmcl-part"
    died.mkdir()
    (died / "shard-00000.safetensors").write_bytes(b"half")
    read: list[str] = []
    from mmcl_toy.corpus import Toy

    before = Toy.read
    monkeypatch.setattr(Toy, "read", lambda self, id, source: (read.append(id), before(self, id, source))[1])
    prepare(tiny_plan(), run, workers=1)
    second = [sample.id for sample in listed(tiny_plan(), open_dataset(tiny_plan()))][16:32]
    assert read
    assert set(read) <= set(second)
    assert content(run.prepared) == alone


def parts_folder_of(run):
    return sorted(run.prepared.glob("*/*.parts"))


def test_any_parts_with_gaps_and_overlaps_make_the_same_store(tiny_plan, run, alone):
    plan = tiny_plan()
    dataset = open_dataset(plan)
    samples = listed(plan, dataset)
    draw = random.Random(0)
    for modality in plan.modalities:
        store, key = store_of(plan, run, modality, samples)
        for _ in range(5):
            start = draw.randrange(len(samples) - 1)
            rows = range(start, draw.randrange(start + 1, len(samples) + 1))
            name = write_part(plan, modality, store, key, rows, samples, dataset, workers=1)
            assert part_folder(store, rows).name == name
        parts = parts_of(store, key, pytest.fail)
        assert 1 <= len(parts) <= 5
        covered = [row for part in parts for row in part.rows] + [row for rows in gaps(parts, len(samples)) for row in rows]
        assert sorted(covered) == list(range(len(samples)))
        assert merge_parts(modality.name, store, key, len(samples)) == gaps(parts, len(samples))
    prepare(plan, run, workers=1)
    assert content(run.prepared) == alone


def test_a_part_that_is_damaged_or_of_other_data_is_named_and_prepared_anew(tiny_plan, run, alone, capsys):
    for number in (1, 2):
        prepare_shard(tiny_plan(), run, number, 3, workers=1)
    first, second, *_ = parts_folder_of(run)
    shard = sorted(first.glob("*/shard-00000.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    whole = sorted(second.glob("0*"))[0]
    whole.rename(whole.with_name("000000032-000000048"))  # under the name of others
    prepare(tiny_plan(), run, workers=1)
    told = capsys.readouterr().err
    assert str(shard.parent) in told
    assert "holds other streams than its name says" in told
    assert content(run.prepared) == alone


def test_two_writers_of_one_share_are_one_too_many(tiny_plan, run, tmp_path):
    plan = tiny_plan()
    samples = listed(plan, open_dataset(plan))
    store, _ = store_of(plan, run, plan.modalities[0], samples)
    with part_lock(part_folder(store, share_of(2, 3, len(samples)))):
        with pytest.raises(StageError, match="another mmcl process is writing these streams"):
            prepare_shard(plan, run, 2, 3, workers=1)
        prepare_shard(plan, run, 1, 3, workers=1)


def test_what_cannot_be_a_share_is_refused_in_a_sentence(tiny_plan, run, capsys):
    with pytest.raises(StageError, match="49 shards are asked for, of 48 recordings"):
        prepare_shard(tiny_plan(), run, 1, 49)
    for shard in ("0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "¹/3"):
        with pytest.raises(SystemExit) as ended:
            main(["prepare", "quickstart", "--shard", shard])
        assert ended.value.code == 2
        assert "is no shard; they are counted from 1" in capsys.readouterr().err


def test_a_plug_in_that_fails_in_all_shards_is_named_as_in_one_process(tiny_plan, tmp_path, monkeypatch):
    from mmcl_toy.corpus import Toy

    def read(self, id, source):
        raise PluginError(f"recording '{id}' is of a kind that the plug-in does not know")

    monkeypatch.setattr(Toy, "read", read)
    sets = ("dataset={use: toy, samples: 12, speakers: 6}",)
    told = []
    for name, count in (("alone", 0), ("shards", 6)):
        run = RunFolder(tmp_path / name / "runs" / "tiny")
        for number in range(1, count):
            prepare_shard(tiny_plan(*sets), run, number, count, workers=1)
        with pytest.raises(PluginError) as ended:
            prepare(tiny_plan(*sets), run, workers=1)
        told.append(str(ended.value))
    assert told[0] == told[1]


def test_strict_ends_a_run_whose_parts_skipped_something(tiny_plan, run):
    for number in (1, 2):
        prepare_shard(tiny_plan(), run, number, 2, workers=1)
    with pytest.raises(DataError, match="its end is missing.*--strict"):
        prepare(tiny_plan(), run, workers=1, strict=True)


def test_parts_that_no_run_needs_can_be_removed(tiny_plan, run):
    prepare_shard(tiny_plan(), run, 1, 3, workers=1)
    folders = parts_folder_of(run)
    assert {one.folder for one in prune(run.root.parent, really=False)} == set(folders)
    prune(run.root.parent, really=True)
    assert not parts_folder_of(run)
    shutil.rmtree(run.prepared)


def test_the_command_prints_where_the_streams_lie(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)
    for number in (1, 2):
        with pytest.raises(SystemExit) as ended:
            main(["prepare", "tiny.yaml", "--shard", f"{number}/2", "--workers", "1"])
        assert ended.value.code == 0
        folders = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert len(folders) == 2
        assert all(len(Store(folder)) for folder in folders)
    assert not list(Path("runs/prepared").glob("*/*.parts"))
