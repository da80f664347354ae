"""Weights that are sharded: the same training as without, and checkpoints that any number of processes go on from."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import HashStore

from mmcl.api import StageError
from mmcl.engine.ranks import Ranks
from mmcl.recipe.carried import packed, unpacked
from mmcl.runs import RunFolder, read_json
from mmcl.stages import run_all
from mmcl.stages.pretrain import pretrain
from mmcl.stopping import SilentEnd, Stopped
from mmcl.workers import fork_context
from tests.ranks_of_tests import KINDS, Case

LARGE = (
    "modalities.text.backbone={use: mlp, hidden: [7, 5], width: 5, dropout: 0, norm: batch}",
    "modalities.audio.backbone={use: transformer, layers: 2, width: 8, heads: 2, dropout: 0}",
    "pretrain.sync_batchnorm=true",
    "pretrain.epochs=3",
    "pretrain.clip=0.5",
    "pretrain.keep=last",
    "pretrain.objective.loss={use: info-nce, learn_temperature: true}",
)
SHARDED = (*LARGE, "pretrain.shard=true")
HALVES = ("pretrain.precision=bf16", "pretrain.micro_batch=2")
FAULTS = ("MeanOfShards", "NoGradient", "NotAddedUp", "LocalRows", "MeanOfMeans")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A run that is prepared."""
    run = RunFolder(tmp_path_factory.mktemp("shards") / "runs" / "ranks")
    run_all(Case(LARGE, "complete").plan, run, workers=1, stop_after="prepare")
    return run.root


def copied(prepared: Path, folder: Path) -> Path:
    shutil.copytree(prepared, folder)
    return folder


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def plant(fault: str) -> None:
    """Break this process: shards that are averaged, or one of the faults of `KINDS`."""
    import mmcl.engine.ranks as module

    if fault == "MeanOfShards":
        from torch.distributed.fsdp import FSDPModule

        for name in ("set_gradient_divide_factor", "set_force_sum_reduction_for_comms"):
            setattr(FSDPModule, name, lambda network, value: None)
    else:
        module.Ranks = KINDS[fault]  # type: ignore[misc] - of which `joined` makes one


def trains(rank: int, size: int, root: Path, plan: bytes, where: int, stop: int | None, dies: int | None, fault: str) -> None:
    """One process of a launch."""
    if fault:
        plant(fault)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(where)}
    torch.set_num_threads(1)
    if stop is not None or dies is not None:
        import mmcl.stages.pretrain as module

        calls = iter(range(1000))

        def asked() -> int:
            step = next(calls)
            if dies is not None and step == dies and rank == size - 1:
                os._exit(9)
            return 2 if step == stop else 0

        module.asked = asked
    try:
        run_all(unpacked(plan), RunFolder(root), workers=1, stop_after="pretrain", device="cpu")
    except (StageError, SilentEnd, Stopped) as error:
        (root / f"ended-{rank}.json").write_text(json.dumps([type(error).__name__, str(error)]))


def launch(
    root: Path, size: int, sets: tuple[str, ...], stop: int | None = None, dies: int | None = None, fault: str = ""
) -> list[list[str]]:
    """Train in so many processes; how each ended, that ended early.

    stop   step after which a signal asks for an end
    dies   step after which the last process is gone
    fault  what is wrong in all of them
    """
    context, plan, where = fork_context(["mmcl.stages.loaded"]), packed(Case(sets, "complete").plan), port()
    processes = [
        context.Process(target=trains, args=(rank, size, root, plan, where, stop, dies, fault)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
        process.kill()
    ends = [json.loads(file.read_text()) for file in sorted(root.glob("ended-*.json"))]
    for file in root.glob("ended-*.json"):
        file.unlink()
    return ends


def weights(root: Path) -> dict[str, torch.Tensor]:
    (file,) = root.glob("fold-*/seed-*/pretrain/encoders.safetensors")
    return load_file(file)


def test_sharded_weights_are_those_of_whole_ones_and_go_on_with_another_number_of_processes(prepared, tmp_path):
    plain, straight, broken = (copied(prepared, tmp_path / name) for name in ("plain", "straight", "broken"))
    assert launch(plain, 2, LARGE) == []
    assert launch(straight, 2, SHARDED) == []
    one, other = weights(plain), weights(straight)
    assert list(one) == list(other)
    for name, value in one.items():
        assert (value.dtype, value.shape) == (other[name].dtype, other[name].shape)
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6)
    ends = launch(broken, 2, SHARDED, stop=4)
    assert [kind for kind, _ in ends] == ["Stopped", "SilentEnd"]
    (state,) = broken.glob("fold-*/seed-*/pretrain/resume/state.json")
    assert len(read_json(state)["shards"]) == 2
    third = copied(broken, tmp_path / "third")
    assert launch(broken, 2, SHARDED) == []
    assert all(torch.equal(value, weights(broken)[name]) for name, value in other.items())
    assert launch(third, 3, SHARDED) == []
    for name, value in other.items():
        torch.testing.assert_close(value, weights(third)[name], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_bf16_and_parts_whose_activations_are_computed_again_go_beside_shards(prepared, tmp_path):
    plain, straight, broken = (copied(prepared, tmp_path / name) for name in ("plain", "straight", "broken"))
    assert launch(plain, 2, (*LARGE, *HALVES)) == []
    assert launch(straight, 2, (*SHARDED, *HALVES)) == []
    one, other = weights(plain), weights(straight)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6)
    assert len(launch(broken, 2, (*SHARDED, *HALVES), stop=4)) == 2
    assert launch(broken, 2, (*SHARDED, *HALVES)) == []
    assert all(torch.equal(value, weights(broken)[name]) for name, value in other.items())


@pytest.mark.slow
def test_a_fault_that_is_planted_beside_shards_is_seen(prepared, tmp_path):
    sets = ("pretrain.epochs=1", "pretrain.clip=null")
    plain = copied(prepared, tmp_path / "plain")
    assert launch(plain, 2, (*LARGE, *sets)) == []
    for fault in FAULTS:
        root = copied(prepared, tmp_path / fault)
        if ends := launch(root, 2, (*SHARDED, *sets), fault=fault):
            assert "the loss became nan" in ends[0][1]
            continue
        largest = max(float((value - weights(root)[name]).abs().max()) for name, value in weights(plain).items())
        assert not largest < 1e-4, fault


@pytest.mark.slow
def test_whole_weights_go_on_with_another_number_of_processes(prepared, tmp_path):
    straight, broken = (copied(prepared, tmp_path / name) for name in ("straight", "broken"))
    assert launch(straight, 2, LARGE) == []
    assert len(launch(broken, 2, LARGE, stop=4)) == 2
    for size in (1, 3):
        other = copied(broken, tmp_path / str(size))
        assert launch(other, size, LARGE) == []
        for name, value in weights(straight).items():
            torch.testing.assert_close(value, weights(other)[name], rtol=0, atol=1e-5)


def test_a_process_that_dies_ends_all_with_one_sentence_and_a_rerun_goes_on(prepared, tmp_path):
    straight, broken = (copied(prepared, tmp_path / name) for name in ("straight", "broken"))
    sets = (*LARGE, "pretrain.checkpoint_minutes=0")
    assert launch(straight, 2, sets) == []
    ends = launch(broken, 2, sets, dies=5)
    assert [kind for kind, _ in ends] == ["Parted"]
    assert "another process of this run ended" in ends[0][1]
    assert launch(broken, 2, sets) == []
    assert all(torch.equal(value, weights(broken)[name]) for name, value in weights(straight).items())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("pretrain.objective.momentum=0.9",), "does not go together with pretrain.objective.momentum; leave that out"),
        (
            ("supervise={heads: {mlp: mlp}}",),
            "does not go together with supervise, which holds all weights in every process",
        ),
    ],
)
def test_what_does_not_go_beside_shards_has_its_sentence(prepared, more, words):
    with pytest.raises(StageError, match=words):
        pretrain(Case((*SHARDED, *more), "complete").plan, RunFolder(prepared), device="cpu", ranks=Ranks(0, 2, HashStore()))


def test_one_process_shards_nothing_and_takes_what_several_have_trained(prepared, tmp_path):
    run = RunFolder(copied(prepared, tmp_path / "run"))
    plan = Case((*SHARDED, "pretrain.epochs=1"), "complete").plan
    with pytest.raises(StageError, match="divides weights among processes, and here is one"):
        run_all(plan, run, workers=1, stop_after="pretrain", device="cpu")
    assert launch(run.root, 2, (*SHARDED, "pretrain.epochs=1")) == []
    before = weights(run.root)
    run_all(plan, run, workers=1, stop_after="embed", device="cpu")
    assert all(torch.equal(value, weights(run.root)[name]) for name, value in before.items())
