"""plan.json says from which commit, on what machine and with which switches a run was made; the report repeats it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from mmcl.cli import main
from mmcl.engine.surroundings import determinism, git_of, hardware
from mmcl.recipe.planner import load_plan
from mmcl.report.words import surroundings
from mmcl.runs import read_json
from mmcl.stages import about


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """An empty git work tree, with nobody's settings."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "work"
    (folder / "recipes").mkdir(parents=True)
    git(folder, "init", "-q")
    return folder


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("asks", ["monitor", "filter", "submodule"])
def test_a_work_tree_from_elsewhere_gets_nothing_run(tree, tmp_path, asks):
    """Its own settings name programs that `git status` would run."""
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\ncat\n")
    program.chmod(0o755)
    inner = tree / "part" if asks == "submodule" else tree
    if asks == "submodule":
        git(tree, "init", "-q", "part")
        (inner / "b.yaml").write_text("format: 1\n")
        git(inner, "add", ".")
        git(inner, "commit", "-q", "-m", "one")
    (tree / "recipes" / "a.yaml").write_text("format: 1\n")
    (tree / ".gitattributes").write_text("* filter=x\n")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    git(inner, "config", "core.fsmonitor" if asks == "monitor" else "filter.x.clean", str(program))
    if asks == "submodule":
        (inner / ".gitattributes").write_text("* filter=x\n")
        (inner / "b.yaml").write_text("format: 2\n")
    (tree / "recipes" / "a.yaml").write_text("format: 2\n")
    assert not ran.exists()
    state = git_of(tree / "recipes")
    assert not ran.exists()
    assert state["commit"] == git(tree, "rev-parse", "HEAD")
    assert state["uncommitted"] is (None if asks == "filter" else True)
    subprocess.run(["git", "-C", str(tree), "status", "--porcelain"], check=True, capture_output=True)
    assert ran.exists(), "or the test would show nothing"


def test_git_says_the_commit_and_what_is_not_in_it(tree):
    inside = tree / "recipes"
    assert git_of(inside) == {"commit": None, "uncommitted": False}
    (inside / "a.yaml").write_text("format: 1\n")
    assert git_of(inside) == {"commit": None, "uncommitted": True}
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    assert git_of(inside) == {"commit": git(tree, "rev-parse", "HEAD"), "uncommitted": False}
    (tree / "elsewhere").write_text("new")
    assert git_of(inside)["uncommitted"] is True


def test_there_may_be_no_work_tree_no_folder_no_file_and_no_git(tree, tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()
    assert git_of(tmp_path / "plain") is None
    assert git_of(tmp_path / "nowhere") is None
    assert git_of(None) is None
    assert git_of(tree) is not None
    monkeypatch.setenv("PATH", str(tmp_path / "plain"))
    assert git_of(tree) is None


def test_a_git_that_never_answers_is_left_alone(tree, monkeypatch):
    def never(*args, **more):
        raise subprocess.TimeoutExpired(args, more["timeout"])

    monkeypatch.setattr(subprocess, "run", never)
    assert git_of(tree) is None


def test_the_plan_knows_where_its_recipe_lies_and_one_without_a_file_lies_nowhere(tree, tiny_plan):
    (tree / "recipes" / "tiny.yaml").write_text(tiny_plan().text)
    plan = load_plan(tree / "recipes" / "tiny.yaml")
    assert plan.folder == tree / "recipes"
    assert about(plan, "cpu")["git"] == {"commit": None, "uncommitted": True}
    assert tiny_plan().folder is None
    assert about(tiny_plan(), "cpu")["git"] is None
    assert "folder" not in plan.to_json()  # the same recipe elsewhere is the same plan


def test_the_machine_is_what_the_system_says(monkeypatch):
    machine = hardware("cpu")
    assert machine["cores"] == os.cpu_count()
    assert machine["gpu"] is None
    told = Path("/proc/meminfo")
    if told.exists():
        kilobytes = int(told.read_text(encoding="ascii").split()[1])
        assert machine["memory_gb"] == pytest.approx(kilobytes * 1024 / 1e9, rel=0.05)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a {device.type} card")
    assert hardware("cuda")["gpu"] == "a cuda card"
    assert hardware("cpu")["gpu"] is None


def test_a_system_that_says_nothing_of_its_memory(monkeypatch):
    def refuse(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", refuse)
    assert hardware("cpu")["memory_gb"] is None


def test_switches_are_those_of_the_process(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert determinism() == {
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": True,
        "OMP_NUM_THREADS": "3",
        "CUBLAS_WORKSPACE_CONFIG": None,
    }


def test_a_run_writes_them_and_its_report_has_a_line_of_each(tiny_run):
    plan = read_json(tiny_run.root / "plan.json")
    assert plan["git"] is None  # the session's recipe is in no file
    assert plan["hardware"] == hardware("cpu") or plan["hardware"]["gpu"]
    assert set(plan["determinism"]) == set(determinism())
    page = (tiny_run.root / "report.html").read_text(encoding="utf-8")
    lines = surroundings(plan)
    assert [line.split(":")[0] for line in lines] == ["Git", "Hardware", "Determinism"]
    assert all(page.count(f">{line}<") == 1 for line in lines)


def test_the_lines_say_what_is_there():
    lines = surroundings(
        {
            "git": {"commit": "a1b2c3", "uncommitted": True},
            "hardware": {"cores": 16, "memory_gb": 134.9, "gpu": "NVIDIA H100"},
            "determinism": {"threads": 8, "deterministic_algorithms": False, "OMP_NUM_THREADS": None},
        }
    )
    assert lines == [
        "Git: commit a1b2c3, with uncommitted changes.",
        "Hardware: 16 logical cores, 134.9 GB of memory, NVIDIA H100.",
        "Determinism: threads 8, deterministic algorithms off, OMP_NUM_THREADS not set.",
    ]
    assert surroundings({}) == []  # a run from before they were written
    assert surroundings({"git": None}) == ["Git: the recipe lies in no work tree."]


def test_asking_for_cuda_and_stopping_before_it_is_needed_still_writes_a_plan(tree, tiny_plan, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = tree / "recipes" / "tiny.yaml"
    recipe.write_text(tiny_plan().text)
    with pytest.raises(SystemExit) as done:
        main(
            [
                "run",
                str(recipe),
                "--out",
                str(tmp_path / "run"),
                "--device",
                "cuda",
                "--stop-after",
                "prepare",
                "--workers",
                "1",
            ]
        )
    assert done.value.code == 0
    plan = read_json(tmp_path / "run" / "plan.json")
    assert plan["hardware"]["gpu"] is None
    assert plan["git"]["uncommitted"] is True
