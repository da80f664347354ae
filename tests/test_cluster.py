"""Tasks on a Ray cluster: the same files to the byte as on one machine, whatever dies, and a sentence for a node that cannot take part."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcl import features
from mmcl.api import StageError
from mmcl.engine.cluster import Desk, Share, _Setup, connected, difference_between, share_out
from mmcl.engine.places import LOCAL, Died, Work
from mmcl.stages.engines import engine_of, installation
from mmcl.use.opened import Opened
from mmcl.use.session import Session
from mmcl.use.together import Order, _learned, _stamp, embed_chunk

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (pip install 'mmcl[ray]')")
RECIPE = """\
format: 1
name: four
seed: [3, 4]
dataset: {use: toy, samples: 96, speakers: 6}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8, dropout: 0.1}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [4], dropout: 0.1}}
window: {seconds: 0.4}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 32, epochs: 2, optimizer: {use: adamw, lr: 1e-3}}
probe: {inputs: [audio], tasks: [emotion], heads: {near: {use: knn}}}
worth: {few_shot: [], transfer: false, missing: false, maps: [pca], points: 20}
report: {against: [majority, pooled]}
protocol: {use: k-fold, k: 2, by: group}
sweep:
  space: {projection.width: [2, 4]}
  sampler: grid
  score: {task: emotion, input: audio, head: near}
  folds: 1
  seeds: 1
"""
RESULTS = ("pretrain/encoders.safetensors", "embed/*", "probe/*.jsonl", "probe/heads.*", "worth/worth.jsonl")


# ------------------------------------------------------------------------------------------------------- without a cluster


@pytest.mark.parametrize(
    ("nodes", "jobs", "most", "threads", "gpu", "share"),
    [
        ([{"CPU": 4}, {"CPU": 4}], None, 100, None, True, Share(8, 1, 0.0)),  # as many as fit, of one thread each
        ([{"CPU": 4}, {"CPU": 4}], None, 3, None, True, Share(3, 1, 0.0)),  # no more than there are tasks
        ([{"CPU": 4}, {"CPU": 4}], 2, 100, None, True, Share(2, 4, 0.0)),  # threads shared out
        ([{"CPU": 4}, {"CPU": 4}], 3, 100, None, True, Share(3, 2, 0.0)),  # never over the edge of a node
        ([{"CPU": 5}, {"CPU": 3}], 2, 100, None, True, Share(2, 3, 0.0)),
        ([{"CPU": 4}, {"CPU": 4}], None, 100, 3, True, Share(2, 3, 0.0)),  # OMP_NUM_THREADS
        ([{"CPU": 2}], 9, 100, None, True, Share(2, 1, 0.0)),  # more than fit
        ([{"CPU": 0}, {"CPU": 1}], None, 9, None, True, Share(1, 1, 0.0)),  # a head that runs no task
        ([{"CPU": 8, "GPU": 2}], 2, 9, None, True, Share(2, 4, 1.0)),
        ([{"CPU": 8, "GPU": 2}], 3, 9, None, True, Share(3, 2, 0.666)),
        ([{"CPU": 8, "GPU": 2}], 2, 9, None, False, Share(2, 4, 0.0)),  # --device cpu
    ],
)
def test_a_cluster_is_shared_out(nodes, jobs, most, threads, gpu, share):
    assert share_out(nodes, jobs, most, threads, gpu) == share


def test_a_cluster_on_which_nothing_fits_has_its_sentence():
    with pytest.raises(StageError, match="no node of the Ray cluster has more than 2 processors"):
        share_out([{"CPU": 2}, {"CPU": 1}], None, 9, 3, True)
    with pytest.raises(StageError, match="no processor for tasks"):
        share_out([{"CPU": 0}], None, 9, None, True)


def test_the_first_difference_between_two_machines_is_named():
    ours = {"python": "3.11.7", "mmcl": "0.1.0 (code a)", "plug-in x": "x 1 (code b)"}
    assert difference_between(ours, dict(ours)) is None
    assert (
        difference_between(ours, {**ours, "mmcl": "0.1.0 (code z)"})
        == "has mmcl 0.1.0 (code z), and this machine 0.1.0 (code a)"
    )
    assert difference_between(ours, {**ours, "plug-in y": "y 1"}) == "has plug-in y y 1, which this machine has not"
    assert difference_between({**ours, "plug-in y": "y 1"}, ours) == "has no plug-in y, and this machine has y 1"


def test_an_installation_tells_the_code_of_mmcl_and_of_every_plug_in():
    known = installation()
    assert {"python", "torch", "mmcl", "plug-in toy"} <= set(known)
    assert "(code " in known["mmcl"]
    assert known["plug-in toy"] != known["plug-in tcn"].replace("tcn", "toy")


def test_engines_go_by_name():
    assert engine_of("local") is LOCAL
    with pytest.raises(StageError, match="there are local and ray"):
        engine_of("dask")
    with pytest.raises(StageError, match="give --engine ray with it"):
        engine_of("local", "there:6379")


def test_ray_that_is_not_installed_has_its_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StageError, match=r"pip install 'mmcl\[ray\]'"), connected(None):
        pass


# ---------------------------------------------------------------------------------------------------------- with a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors and two nodes of one each, in processes of this machine."""
    before = dict(os.environ)
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1")
    from ray.cluster_utils import Cluster

    each = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    one = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **each})
    one.add_node(num_cpus=1, **each)
    one.add_node(num_cpus=1, **each)
    yield one
    one.shutdown()
    os.environ.clear()
    os.environ.update(before)


def mmcl(*words: str, folder: Path) -> subprocess.Popen[str]:
    """A command, started in a folder."""
    line = [sys.executable, "-P", "-m", "mmcl", *words]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """What a command has printed to stdout and stderr."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Until a file is there; it fails where the process has ended."""
    until = time.monotonic() + 200
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def at_work_in(folder: Path) -> list[int]:
    """The processes whose current folder this is (Linux)."""
    pids = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.resolve() == folder.resolve():
                pids.append(int(link.parent.name))
        except OSError:
            continue
    return pids


def results(root: Path) -> dict[str, bytes]:
    """Every file of results, by its place in the run."""
    files = [file for pattern in RESULTS for file in root.glob(f"fold-*/seed-*/{pattern}")]
    timed = {"finished.json", "pooled.json"}
    return {str(file.relative_to(root)): file.read_bytes() for file in files if file.name not in timed}


def streams(root: Path) -> dict[str, bytes]:
    """Every file of prepared streams."""
    return {str(file.relative_to(root)): file.read_bytes() for file in root.glob("prepared/*/*/*") if file.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a user works, and a recipe; modules lie there that must never be imported."""
    place = tmp_path_factory.mktemp("cluster")
    (place / "four.yaml").write_text(RECIPE)
    for name in ("numpy", "mmcl", "torch"):
        (place / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder')")
    return place


@needs_ray
@pytest.mark.slow
def test_a_run_on_a_cluster_that_is_stopped_and_loses_a_node_is_the_local_one_to_the_byte(cluster, folder):
    ended(mmcl("run", "four.yaml", "--out", "local/run", folder=folder))
    line = ("run", "four.yaml", "--out", "ray/run", "--engine", "ray", "--address", cluster.address)

    first = mmcl(*line, folder=folder)
    wait_for(folder, "ray/run/fold-*/seed-*/pretrain/*", first)
    first.send_signal(signal.SIGINT)
    _, err = ended(first, 130)
    assert "stopped" in err
    assert at_work_in(folder) == []
    assert streams(folder / "ray") == streams(folder / "local")

    second = mmcl(*line, folder=folder)
    until = len(list(folder.glob("ray/run/fold-*/seed-*/worth/finished.json"))) + 1
    while len(list(folder.glob("ray/run/fold-*/seed-*/worth/finished.json"))) < until:
        assert second.poll() is None, second.communicate()
        time.sleep(0.02)
    cluster.remove_node(max(cluster.worker_nodes, key=lambda node: node.unique_id), allow_graceful=False)
    out, err = ended(second)
    assert out.strip() == "ray/run/report.html"
    assert "2 at a time, 1 thread each" in err
    assert "is gone; it is tried again" in err
    assert results(folder / "ray/run") == results(folder / "local/run")
    assert results(folder / "local/run")
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)


def clips(folder: Path, count: int) -> None:
    """So many short recordings of noise, one that is none, and a transcript of the first."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        with wave.open(str(folder / f"{k:04d}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(rng.integers(-9999, 9999, 8000 + 40 * (k % 7), dtype=np.int16).tobytes())
    (folder / "0070.wav").write_bytes(b"RIFF, and no more")
    (folder / "0000.txt").write_text("once upon a time")


@pytest.mark.slow
def test_recordings_embedded_by_processes_or_on_a_cluster_that_loses_a_node_are_the_local_ones_to_the_byte(request, folder):
    ended(mmcl("run", "four.yaml", "--set", "pretrain.epochs=1", "--out", "embedding", folder=folder))
    clips(folder / "clips", 800)
    own = str(features(folder / "embedding")["id"][0])
    files = {"whole": (), "windows": ("--windows", "--hop", "0.3")}

    def embed(place: str, what: str, *more: str) -> subprocess.Popen[str]:
        out = ("--out", f"{place}/{what}.safetensors", "--fold", "1")
        return mmcl("embed", "embedding", "clips", own, *out, *files[what], *more, folder=folder)

    def lines_of(err: str) -> list[str]:
        return [line for line in err.splitlines() if "clips/" in line or "rows" in line]

    alone = {what: ended(embed("one", what), 1)[1] for what in files}
    assert all("0070.wav" in err for err in alone.values())
    _, err = ended(embed("two", "windows", "--jobs", "2"), 1)
    assert "2 at a time" in err
    assert lines_of(err) == lines_of(alone["windows"].replace("one/", "two/"))
    if importlib.util.find_spec("ray") is not None:
        cluster = request.getfixturevalue("cluster")
        process = embed("ray", "whole", "--engine", "ray", "--address", cluster.address)
        wait_for(folder, "ray/.mmcl-embed-*/*.json", process)
        cluster.remove_node(max(cluster.worker_nodes, key=lambda node: node.unique_id), allow_graceful=False)
        _, err = ended(process, 1)
        assert "is gone; it is tried again" in err
        assert lines_of(err) == lines_of(alone["whole"].replace("one/", "ray/"))
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
    for file in [*(folder / "two").iterdir(), *(folder / "ray").glob("whole.*")]:
        assert file.read_bytes() == (folder / "one" / file.name).read_bytes(), file
    assert {file.name for file in (folder / "two").iterdir()} == {"windows.safetensors", "windows.json"}  # no parts are left
    assert not list((folder / "ray").glob(".mmcl-embed-*"))


def test_a_machine_that_sees_other_recordings_or_another_run_says_so(tmp_path, tiny_run):
    run = Opened(tiny_run.root)
    item = next(iter(Session(tiny_run.root).items(run.samples[0].id)))
    order = Order(tiny_run.root, None, run.pick(None, None), None, _learned(run, run.pick(None, None)))
    assert embed_chunk(order, [item], _stamp(run, [item]), tmp_path / "part", "cpu") is None
    assert (tmp_path / "part.safetensors").is_file()
    elsewhere = replace(item, texts={"words": "others"})
    assert "sees other files of" in str(embed_chunk(order, [item], _stamp(run, [elsewhere]), tmp_path / "part", "cpu"))
    assert "sees another" in str(embed_chunk(replace(order, learned="other"), [item], "", tmp_path / "part", "cpu"))


@needs_ray
@pytest.mark.slow
def test_trials_on_a_cluster_have_the_scores_of_local_ones(cluster, folder):
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'mmcl[sweep]')")
    words = ("sweep", "four.yaml", "--no-final", "--out")
    ended(mmcl(*words, "local/sweep", folder=folder))
    _, err = ended(mmcl(*words, "ray/sweep", "--address", cluster.address, folder=folder), code=2)
    assert "--address is that of a Ray cluster; give --engine ray with it" in err
    ended(mmcl(*words, "ray/sweep", "--engine", "ray", "--address", cluster.address, folder=folder))
    mine, theirs = (json.loads((folder / one / "sweep/trials.json").read_text())["trials"] for one in ("ray", "local"))
    assert [(one["values"], one["score"]) for one in mine] == [(one["values"], one["score"]) for one in theirs]
    assert len(mine) == 2


@needs_ray
@pytest.mark.slow
def test_a_node_with_another_mmcl_and_a_task_that_ends_every_process_have_their_sentences(cluster, folder, monkeypatch, capfd):
    engine = engine_of("ray", cluster.address)

    def run(call: Any) -> None:
        left, answers = iter([Work("the task", call, ())]), []
        with engine.places(
            1, 1, 7, lambda name, shown: None, folder / "here"
        ) as places:  # a number for a device: what os._exit takes
            answers += [value for _, value in places.answers(lambda: next(left, None))]
        assert answers == [7]

    monkeypatch.chdir(folder)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Died) as died:
        run(os._exit)
    assert re.search("^the task: each process that ran it died, the last one on node .+", str(died.value.sentence("")))
    monkeypatch.setattr("mmcl.stages.engines.__version__", "9")
    with pytest.raises(StageError, match=r"^node .+ has mmcl .+, and this machine 9 .+: install the same on every node$"):
        run(os._exit)
    monkeypatch.undo()  # the same is installed everywhere
    monkeypatch.chdir(folder)
    run(abs)
    assert list((folder / "here").iterdir()) == []  # the mark is gone
    assert signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr().out == ""  # of Ray's own log


@needs_ray
def test_a_node_that_does_not_see_the_folder_says_so(tmp_path, monkeypatch):
    import ray

    class Context:
        def get_node_id(self) -> str:
            return "n"

    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr("mmcl.engine.cluster.SEEING", 0.0)
    mark = tmp_path / "mark"

    def asked(current: Path, word: str) -> str | None:
        desk = Desk()
        try:
            _, sentence, known = desk.open(_Setup(1, str(current), (mark, word), {}, pickle.dumps(installation)))
        finally:
            desk.leave()
        assert known == ({} if sentence else installation())
        return sentence

    assert "put it where every node of the cluster sees it" in str(asked(tmp_path, "a"))
    mark.write_text("another folder of that name")
    assert "put it where every node of the cluster sees it" in str(asked(tmp_path, "a"))
    mark.write_text("a")
    assert "start mmcl in a folder that every node of the cluster sees" in str(asked(tmp_path / "none", "a"))
    assert asked(tmp_path, "a") is None


@needs_ray
def test_a_cluster_that_is_not_there_has_its_sentence():
    with pytest.raises(StageError, match="give HOST:PORT"), connected("ray://here:10001"):
        pass
    with (
        pytest.raises(StageError, match="no Ray cluster could be reached at 127.0.0.1:1 .*Connection refused"),
        connected("127.0.0.1:1"),
    ):
        pass


@needs_ray
@pytest.mark.slow
def test_an_address_that_leads_nowhere_is_told_and_that_of_a_head_connects(cluster):
    with pytest.raises(StageError, match="give HOST:PORT of the cluster's head"), connected(f"ray://{cluster.address}"):
        pass
    with pytest.raises(StageError, match="start one with `ray start --head`"), connected("127.0.0.1:1"):
        pass
    with connected(cluster.address) as ray:
        assert sum(node["Alive"] for node in ray.nodes()) >= 2
        with pytest.raises(StageError, match=r"call ray.shutdown\(\) before mmcl"), connected(cluster.address):
            pass
        ray.shutdown()
        with connected(cluster.address):
            assert sum(node["Alive"] for node in ray.nodes()) >= 2
