"""Folds and seeds side by side: the same files to the byte, whoever writes them and in which order."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmcl.api import StageError
from mmcl.engine.places import devices_for
from mmcl.recipe.carried import packed, unpacked
from mmcl.recipe.plan import Plan
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.report import run_and_report
from mmcl.runs import RunFolder, read_json, read_jsonl
from mmcl.stages.cells import only_of, stages_left
from mmcl.stages.units import Only, units_of

ROOT = Path(__file__).parents[1]
FOUR = """\
format: 1
name: four
seed: [3, 4]
dataset: {use: toy, samples: 36, speakers: 6}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8, dropout: 0.1}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [4], dropout: 0.1}}
window: {seconds: 0.4}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 8, epochs: 2, optimizer: {use: adamw, lr: 1e-3}}
probe: {inputs: [audio], tasks: [emotion], heads: {near: {use: knn}}}
worth: {few_shot: [], transfer: false, missing: false, maps: [pca], points: 20}
report: {against: [majority, pooled]}
protocol: {use: k-fold, k: 2, by: group}
"""
RESULTS = (
    "pretrain/encoders.safetensors",
    "embed/*.safetensors",
    "embed/test.safetensors",
    "probe/*.jsonl",
    "probe/heads.*",
    "worth/worth.jsonl",
    "worth/maps.json",
)


def plan_of(*overrides: str) -> Plan:
    return make_plan(parse_recipe(FOUR, "four.yaml", overrides), overrides=overrides)


def results(run: RunFolder) -> dict[str, bytes]:
    """Every file of results, by its place in the run."""
    files = [file for pattern in RESULTS for file in run.root.glob(f"fold-*/seed-*/{pattern}")]
    return {str(file.relative_to(run.root)): file.read_bytes() for file in files}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> RunFolder:
    """The run as one process makes it, one fold and seed after the other."""
    run = RunFolder(tmp_path_factory.mktemp("cells") / "runs" / "alone")
    run_and_report(plan_of(), run, workers=1)
    assert all(list(run.root.glob(f"fold-01/seed-4/{pattern}")) for pattern in RESULTS if "maps" not in pattern)
    assert len(list(run.root.rglob("maps.json"))) == 1  # of the first
    return run


def beside(alone: RunFolder, name: str) -> RunFolder:
    """An empty run that finds the streams prepared."""
    folder = RunFolder(alone.root.with_name(name))
    shutil.rmtree(folder.root, ignore_errors=True)
    return folder


def test_two_processes_write_what_one_writes_to_the_byte(alone, capfd):
    run = beside(alone, "two")
    path = run_and_report(plan_of(), run, workers=1, jobs=2)
    assert results(run) == results(alone)
    assert read_json(run.root / "report.json")["scores"] == read_json(alone.root / "report.json")["scores"]
    assert path.is_file()
    shown = capfd.readouterr().err
    assert "4 folds and seeds, 2 at a time" in shown
    assert "folds and seeds: 4/4" in shown
    assert "pretrain fold" not in shown  # one display for all
    assert {r["event"] for r in read_jsonl(run.root / "log.jsonl")} == {
        r["event"] for r in read_jsonl(alone.root / "log.jsonl")
    }


def test_cells_in_any_order_are_one_run_and_the_last_one_writes_the_report(alone):
    run = beside(alone, "cells")
    assert run_and_report(plan_of(), run, workers=1, only="fold=1,seed=4") == run.root
    *others, last = units_of(plan_of(), run)
    assert stages_left(last) == []
    assert all(set(stages_left(one)) == {"pretrain", "embed", "probe", "worth"} for one in others)
    for only in ("seed=3", "fold = 0, seed = 4"):
        assert not (run.root / "report.html").exists()
        path = run_and_report(plan_of(), run, workers=1, only=only)
    assert path == run.root / "report.html"
    assert results(run) == results(alone)
    assert read_json(run.root / "report.json") == read_json(alone.root / "report.json")


def test_a_plain_run_does_what_cells_have_left_and_only_that(alone):
    run = beside(alone, "left")
    shutil.copytree(alone.root, run.root)
    first, *_, last = units_of(plan_of(), run)
    (run.root / "report.html").unlink()
    (first.folder("embed") / "pooled.json").unlink()
    shutil.rmtree(last.folder("probe"))
    assert (stages_left(first), stages_left(last)) == (["embed"], ["probe"])
    before = {file: file.stat().st_mtime_ns for file in run.root.rglob("finished.json")}
    run_and_report(plan_of(), run, workers=1)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert results(run) == results(alone)
    assert (run.root / "report.html").exists()


def test_who_may_be_at_work_in_one_folder(alone):
    run, plan = beside(alone, "held"), plan_of()
    run_and_report(plan, run, workers=1, stop_after="prepare", only="fold=0")
    with run.shared() as first:
        assert first  # alone so far
        with run.shared() as second:
            assert not second
        with pytest.raises(StageError, match="another mmcl process is writing this run"):
            run_and_report(plan, run, workers=1)
        with pytest.raises(StageError, match=r"at work on this run with another plan \(pretrain.epochs was 2 and is 1\)"):
            run_and_report(plan_of("pretrain.epochs=1"), run, workers=1, only="fold=0,seed=3")
        with run.held_unit(0, 3):
            with pytest.raises(StageError, match="another mmcl process is writing fold 0, seed 3"):
                run_and_report(plan, run, workers=1, only="fold=0")
            half = run.root / "fold-00" / ".one.0123.mmcl-part"
            half.write_text("another process is writing this")
            run_and_report(plan, run, workers=1, only="fold=0,seed=4", stop_after="pretrain")
            assert half.exists()
    with run.held(), pytest.raises(StageError, match="writing all of this run"):
        run_and_report(plan, run, workers=1, only="fold=1,seed=4")
    assert not half.exists()


def test_a_turn_is_waited_for(tmp_path):
    run, order, waiting = RunFolder(tmp_path / "run"), [], threading.Event()

    def second() -> None:
        with run.turn(waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with run.turn(lambda: order.append("nobody is there")):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("fold=0,seed=5", r"the recipe has no seed 5; it has 3, 4"),
        ("fold=7", r"there is no fold 7; this run has 0, 1"),
        *[
            (text, "names no fold and seed")
            for text in ("3", "fold=", "fold=0,fold=1", "fold=-1", "fold=0,seed=3,x=1", "", "fold=٣")
        ],
    ],
)
def test_what_no_cell_is_has_its_sentence(alone, only, words):
    with pytest.raises(StageError, match=words):
        run_and_report(plan_of(), beside(alone, "none"), workers=1, only=only)


def test_half_a_place_is_all_of_that_fold_or_seed():
    assert only_of("fold=1", plan_of()) == Only(1, None)
    assert only_of("seed=4", plan_of()) == Only(None, 4)
    assert str(only_of("seed=4,fold=1", plan_of())) == "fold 1, seed 4"


@pytest.mark.slow
def test_what_ends_a_cell_ends_the_run_in_one_sentence(alone, capfd):
    run = beside(alone, "fails")
    with pytest.raises(StageError, match="lower pretrain.optimizer.lr"):
        run_and_report(plan_of("pretrain.optimizer.lr=1e38"), run, workers=1, jobs=2, stop_after="pretrain")
    assert "Traceback" not in capfd.readouterr().err


def test_lines_of_many_writers_stay_whole(tmp_path):
    run = RunFolder(tmp_path / "run")
    words = "x" * 30_000  # more than a buffer

    def write(who: int) -> None:
        for k in range(20):
            run.log("line", who=who, k=k, words=words)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_jsonl(run.root / "log.jsonl")
    assert sorted((row["who"], row["k"]) for row in rows) == [(who, k) for who in range(4) for k in range(20)]


def test_a_plan_comes_out_of_another_process_as_it_went_in():
    plan = plan_of("supervise={heads: {mlp: {use: mlp}}}")
    again = unpacked(packed(plan))
    assert again.to_json() == plan.to_json()
    assert again.text == plan.text
    assert again.loss.spec is plan.loss.spec


def test_processes_have_the_graphics_processors_in_turn():
    assert devices_for(3, "auto", 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices_for(2, "cuda", 1) == ["cuda", "cuda"]
    assert devices_for(2, "cpu", 4) == ["cpu", "cpu"]


@pytest.mark.slow
def test_a_killed_run_takes_its_processes_with_it_and_goes_on(alone, tmp_path):
    run = beside(alone, "killed")
    recipe = tmp_path / "four.yaml"
    recipe.write_text(FOUR)
    command = [sys.executable, "-m", "mmcl", "run", str(recipe), "--out", str(run.root), "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: bool(list(run.root.glob("fold-*/seed-*/pretrain/finished.json"))), process)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers))
    done = list(run.root.glob("fold-*/seed-*/pretrain/finished.json"))
    before = {file: file.read_bytes() for file in done}
    subprocess.run(command, check=True, capture_output=True)
    assert results(run) == results(alone)
    assert {file: file.read_bytes() for file in done} == before


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Until something has happened; it fails after two minutes, or where the process has ended."""
    until = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < until
        assert process is None or process.poll() is None
        time.sleep(0.05)


def children_of(parent: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    threads = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for file in threads for pid in file.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


PAGE = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```bash\n(#!.*?)```", PAGE, re.S)
MANIFESTS = [one for text in re.findall(r"```yaml\n(apiVersion.*?)```", PAGE, re.S) for one in yaml.safe_load_all(text)]
JOBS = {one["metadata"]["name"]: one["spec"] for one in MANIFESTS if one["kind"] == "Job"}
SERVICES = {one["metadata"]["name"]: one["spec"] for one in MANIFESTS if one["kind"] == "Service"}
FIELDS = {
    "Service": {"clusterIP", "publishNotReadyAddresses", "selector"},
    "Job": {"completions", "parallelism", "completionMode", "backoffLimit", "backoffLimitPerIndex", "template"},
    "pod": {"subdomain", "restartPolicy", "terminationGracePeriodSeconds", "containers", "volumes"},
    "container": {"name", "image", "workingDir", "command", "args", "env", "resources", "volumeMounts"},
}
"""What of Kubernetes' objects the page uses, spelt as its reference has it (v1.33: Service v1, Job batch/v1, PodSpec, Container)."""
KNOWN = {
    "SLURM_ARRAY_TASK_ID": "4",
    "SLURM_CPUS_PER_TASK": "2",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "77",
    "SLURM_GPUS_ON_NODE": "8",
    "JOB_COMPLETION_INDEX": "1",
}
"""Variables that SLURM (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES") and Kubernetes (indexed jobs) set, each with a value."""


def commands_of(script: str, tmp_path: Path) -> list[list[str]]:
    """What a script would run: the arguments of every mmcl, torchrun or ray that it calls, with KNOWN set and nothing else."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("mmcl", "torchrun", "ray"):
        (fake / name).write_text(f'#!/bin/bash\nprintf "%s\\0" {name} "$@" $\'\\n\' >> "{tmp_path}/seen"\n')
    (fake / "sleep").write_text("#!/bin/bash\n")
    (fake / "srun").write_text('#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    (fake / "scontrol").write_text("#!/bin/bash\necho node1\necho node2\n")
    for file in fake.iterdir():
        file.chmod(0o755)
    file = tmp_path / "job.sh"
    file.write_text(script)
    environment = {"PATH": f"{fake}:/usr/bin:/bin", **KNOWN}
    subprocess.run(["bash", "-n", str(file)], check=True)
    subprocess.run(["bash", "-eu", str(file)], check=True, env=environment, cwd=tmp_path)
    words = (tmp_path / "seen").read_text().split("\0")
    lists: list[list[str]] = [[]]
    for word in words[:-1]:
        if word == "\n":
            lists.append([])
        else:
            lists[-1].append(word)
    return [one for one in lists if one]


def called_by(script: str, tmp_path: Path) -> list[dict[str, Any]]:
    """What a script gives `mmcl run`, a line each, by the parsers of the programs that it calls on the way."""
    from torch.distributed.run import parse_args

    from mmcl.cli.run import run as command

    assert set(re.findall(r"\$\{?((?:SLURM|JOB)_\w+)", script)) <= set(KNOWN)
    called = commands_of(script, tmp_path)
    runs = []
    for program, *words in called:
        if program == "ray":
            scripts = pytest.importorskip("ray.scripts.scripts", reason="Ray is not installed (pip install 'mmcl[ray]')")
            scripts.cli.commands[words[0]].make_context(words[0], words[1:])
            continue
        launch = parse_args(words) if program == "torchrun" else None
        if launch is not None:
            assert (launch.module, launch.training_script) == (True, "mmcl")
            words = launch.training_script_args
        assert words[0] == "run"
        params = command.make_context("run", words[1:]).params
        assert (params["address"] is None) == (params["engine"] == "local")
        if only := params["only"]:
            assert only_of(only, plan_of("seed=[17, 18, 19]"))
        runs.append({**params, "launch": launch})
    return runs


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda text: text.splitlines()[1][:40])
def test_scripts_of_the_docs_call_what_there_is(script, tmp_path):
    runs = called_by(script, tmp_path)
    assert runs
    for launch in (one["launch"] for one in runs if one["launch"]):
        most = launch.nnodes.split(":")[-1]
        assert most == KNOWN["SLURM_NNODES"]
        assert (launch.rdzv_backend, launch.rdzv_endpoint) == ("c10d", "node1:29500")


@pytest.mark.parametrize("name", JOBS)
def test_manifests_of_the_docs_fit_together_and_call_what_there_is(name, tmp_path):
    job = JOBS[name]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (set(job) - FIELDS["Job"], set(pod) - FIELDS["pod"], set(container) - FIELDS["container"]) == (set(), set(), set())
    assert (job["completionMode"], pod["restartPolicy"], job["parallelism"]) == ("Indexed", "Never", job["completions"])
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    assert container["workingDir"] in {one["mountPath"] for one in container["volumeMounts"]}
    assert container["command"] == ["bash", "-c"]
    (line,) = container["args"]
    (run,) = called_by(f"#!/bin/bash\n{line}\n", tmp_path)
    if (launch := run["launch"]) is None:
        assert run["only"] == f"fold={KNOWN['JOB_COMPLETION_INDEX']}"
        return
    host, port = launch.rdzv_endpoint.split(":")
    assert (host, port.isdigit()) == (f"{name}-0.{pod['subdomain']}", True)  # the first pod's name, within the service's
    assert (launch.nnodes, launch.nproc_per_node) == (
        str(job["completions"]),
        str(container["resources"]["limits"]["nvidia.com/gpu"]),
    )
    service = SERVICES[pod["subdomain"]]
    assert set(service) <= FIELDS["Service"]
    assert (service["clusterIP"], service["selector"]) == ("None", {"job-name": name})


def test_objects_of_the_docs_are_known_to_kubernetes():
    kinds = {("batch/v1", "Job"), ("v1", "Service")}
    assert {(one["apiVersion"], one["kind"]) for one in MANIFESTS} == kinds
    assert all(set(one) == {"apiVersion", "kind", "metadata", "spec"} for one in MANIFESTS)


def test_the_array_of_the_docs_is_every_fold_and_seed_once(tmp_path):
    (script,) = (one for one in SCRIPTS if "--array" in one)
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    seen = []
    for task in range(first, last + 1):
        folder = tmp_path / str(task)
        folder.mkdir()
        (called,) = commands_of(script.replace("SLURM_ARRAY_TASK_ID", str(task)).replace(f"${task}", str(task)), folder)
        seen.append(called[-1])
    assert len(set(seen)) == len(seen) == 15
    assert json.dumps(sorted(seen))  # plain words
