"""What the machine refuses is one sentence and exit code 2, and the same command goes on once it no longer does: full disks, closed
folders, long names, failing renames, memory that ends."""

from __future__ import annotations

import errno
import gc
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from scipy.io import savemat

from mmcl.api import DataError, StageError
from mmcl.cli import cli, main
from mmcl.cli.options import Place
from mmcl.cli.surroundings import WORDS, sentence_of
from mmcl.engine.resume import drop_damaged, load_checkpoint, save_checkpoint
from mmcl.media import matlab, read_mat
from mmcl.runs import PART, read_json, write_json, write_tensors
from tests.conftest import LEAST

RECIPE = (
    """\
format: 1
name: small
seed: 3
dataset: {use: toy, samples: 24, speakers: 6, missing: 0.0}
"""
    + LEAST
    + """\
pretrain: {batch_size: 16, epochs: 1, optimizer: {use: adamw, lr: 1e-3}, checkpoint_minutes: 0}
probe: {tasks: [emotion], inputs: [all], heads: {linear: {use: linear, l2: [0.1]}}}
report: {against: []}
protocol: {use: official}
"""
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def calm(recipe, tmp_path_factory):
    """The run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm") / "runs" / "small"
    assert call("run", recipe, "--out", folder, "--workers", 1) == 0
    return folder


def call(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(one) for one in arguments])
    return done.value.code


def refused(capsys, *arguments):
    """The one sentence with which a command ends."""
    capsys.readouterr()
    assert call(*arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("mmcl: ") or line.startswith("Error: ")]
    return sentence


def results(folder):
    files = [*folder.rglob("*.safetensors"), *folder.rglob("scores.jsonl"), folder / "report.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(PART)]


@pytest.mark.parametrize("size", [0, 60, 700, 2500, 9000, 30_000])
def test_files_that_may_not_grow_end_a_run_that_goes_on_later(size, recipe, calm, tmp_path, capsys):
    """A limit on the size of a file fails as a full disk does, at another file for each size; it needs no rights."""
    out = tmp_path / "runs" / "small"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        sentence = refused(capsys, "run", recipe, "--out", out, "--workers", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large; larger files must be allowed" in sentence
    assert not leftovers(tmp_path)
    assert call("run", recipe, "--out", out, "--workers", 1) == 0
    assert results(out) == results(calm)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own; its size can be changed. Only root can have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here; a limit on files is tried above")
    yield place
    gc.collect()  # what is mapped of it
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_ends_a_run_that_goes_on_later(recipe, calm, disk, capsys):
    out, ended = disk / "runs" / "small", 0
    for kilobytes in (8, 60, 120, 180, 240, 400):
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)
        capsys.readouterr()
        if call("run", recipe, "--out", out, "--workers", 1) == 0:
            continue
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert "No space left on device; make room, or write elsewhere; the same command goes on then" in err
        assert not leftovers(disk)
        ended += 1
    assert ended >= 3
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    assert call("run", recipe, "--out", out, "--workers", 1) == 0
    assert results(out) == results(calm)


def test_a_disk_that_only_reads_is_told(recipe, disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert "ead-only file system" in refused(capsys, "run", recipe, "--out", disk / "runs" / "small")


@pytest.mark.parametrize("command", ["run", "report"])
def test_a_folder_that_may_not_be_written_is_told_to_an_ordinary_user(command, recipe, calm, tmp_path, capsys):
    out = tmp_path / "closed" / "small"
    shutil.copytree(calm, out) if command == "report" else out.parent.mkdir()
    for folder in (out, out.parent) if command == "report" else (out.parent,):
        folder.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o055)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        arguments = ("run", recipe, "--out", out) if command == "run" else ("report", out)
        sentence = refused(capsys, *arguments)
    finally:
        if root:
            os.seteuid(0)
        for folder in (out.parent, out):
            if folder.exists():
                folder.chmod(0o755)
    assert "Permission denied" in sentence


def test_places_that_cannot_be_are_told(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    cases = {
        tmp_path / "file" / "run": "cannot be made a folder (Not a directory); give another --out",
        tmp_path / "file": "is a file",
        tmp_path / ("n" * 300): "File name too long",
        tmp_path / ("d" * 200) / ("n" * 200) / ("e" * 200) / "/".join(["f" * 200] * 20): "File name too long",
    }
    for out, words in cases.items():
        assert words in refused(capsys, "run", recipe, "--out", out), out
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "R", "--out", ""),
        ("sweep", "R", "--out", ""),
        ("rerun", ""),
        ("audit", ""),
        ("report", ""),
        ("runs", "list", ""),
        ("run", "R", "--data", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments, recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentence = refused(capsys, *(str(recipe) if one == "R" else one for one in arguments))
    assert "is empty; name a file or a folder" in sentence
    assert ("leave it out" in sentence) == (arguments[-2].startswith("--") or arguments[:2] == ("runs", "list"))
    assert not list(tmp_path.iterdir())


def test_every_command_takes_paths_that_refuse_to_be_empty():
    def commands(group, context):
        for name in group.list_commands(context):
            one = group.get_command(context, name)
            yield from commands(one, context) if isinstance(one, click.Group) else [(name, one)]

    paths = [
        (name, param.name, param.type)
        for name, one in commands(cli, click.Context(cli))
        for param in one.params
        if isinstance(param.type, click.Path)
    ]
    assert len(paths) > 30
    assert [(name, param) for name, param, kind in paths if not isinstance(kind, Place)] == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EXDEV, errno.EBUSY, errno.ENOSPC])
def test_a_rename_that_fails_ends_a_run_that_goes_on_later(number, recipe, calm, tmp_path, capsys, monkeypatch):
    """Each error at another rename: the first, the fifth, …"""
    out, real, left = tmp_path / "runs" / "small", Path.replace, [1 + 4 * (number % 5)]

    def failing(self, target):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(number, os.strerror(number), str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    assert f"{os.strerror(number)}; {WORDS[number]}" in refused(capsys, "run", recipe, "--out", out, "--workers", 1)
    assert not leftovers(tmp_path)
    assert call("run", recipe, "--out", out, "--workers", 1) == 0
    assert results(out) == results(calm)


def test_networks_that_no_memory_holds_are_told(recipe, tmp_path, capsys):
    wide = "modalities.text.backbone={use: mlp, hidden: [1000000000], width: 1000000000}"  # 4 · 10^18 bytes, more than can be addressed
    sentence = refused(capsys, "run", recipe, "--out", tmp_path / "small", "--workers", 1, "--set", wide)
    assert "there is not enough memory: make batch_size or micro_batch, widths or windows smaller" in sentence


@pytest.mark.parametrize("stage", ["pretrain", "embed", "probe"])
def test_memory_that_ends_in_any_stage_ends_a_run_that_goes_on_later(stage, recipe, calm, tmp_path, capsys, monkeypatch):
    place = {
        "pretrain": "mmcl.stages.pretrain._keep",
        "embed": "mmcl.stages.embed.save_in_parts",
        "probe": "mmcl.stages.probe.save_heads",
    }
    out = tmp_path / "runs" / "small"

    def full(*args, **more):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(place[stage], full)
        assert "not enough memory" in refused(capsys, "run", recipe, "--out", out, "--workers", 1)
    assert call("run", recipe, "--out", out, "--workers", 1) == 0
    assert results(out) == results(calm)


def test_an_error_of_ours_is_no_error_of_the_machine():
    for error in (OSError(errno.ENOENT, "No such file"), RuntimeError("shapes differ"), ValueError("x"), OSError("words")):
        assert sentence_of(error) is None
    caused = RuntimeError("of it came this")
    caused.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/place")
    assert sentence_of(caused) == f"/some/place: No space left on device; {WORDS[errno.ENOSPC]}"


UNFIT = [
    OSError("Could not load this library: /x/torchaudio/lib/libtorchaudio.so"),
    OSError("/x/libtorchaudio.so: undefined symbol: torch_exception_get_what_without_backtrace"),
    OSError("libcudart.so.13: cannot open shared object file: No such file or directory"),
    RuntimeError("Detected that PyTorch and TorchAudio were compiled with different CUDA versions.\nPlease install"),
    RuntimeError("operator torchvision::nms does not exist"),
    ImportError("DLL load failed while importing _torchaudio"),
]


@pytest.mark.parametrize("error", UNFIT, ids=lambda error: f"{type(error).__name__} {error}"[:50])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_package_that_does_not_fit_those_beside_it_sends_to_doctor_and_is_no_bug_of_ours(error, wrapped, monkeypatch, capsys):
    from mmcl.cli import lists

    def broken(rows):
        if not wrapped:
            raise error
        raise DataError("model 'x' cannot be loaded; fetch it where there is a network") from error

    monkeypatch.setattr(lists, "table", broken)
    sentence = refused(capsys, "list-backbones")
    assert str(error).splitlines()[0] in sentence
    assert sentence.endswith("`mmcl doctor` looks for the one that does not fit")


def test_what_safetensors_cannot_write_is_told_as_of_any_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_a_good_matlab_file_is_not_called_damaged_where_memory_ends(tmp_path, monkeypatch):
    import scipy.io

    savemat(tmp_path / "good.mat", {"d_skel": np.random.default_rng(0).standard_normal((20, 3, 30))})
    savemat(tmp_path / "bomb.mat", {"d_skel": np.zeros((1000, 1000))}, do_compression=True)

    def full(*args, **more):
        raise MemoryError

    monkeypatch.setattr(scipy.io, "loadmat", full)
    with pytest.raises(MemoryError):
        read_mat(tmp_path / "good.mat", "d_skel")
    monkeypatch.setattr(matlab, "MOST", 100)
    with pytest.raises(DataError, match="would take 0.0 GB, which a file of"):
        read_mat(tmp_path / "bomb.mat", "d_skel")
    (tmp_path / "cut.mat").write_bytes((tmp_path / "good.mat").read_bytes()[:150])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_mat(tmp_path / "cut.mat", "d_skel")


@pytest.fixture
def to_the_disk(monkeypatch):
    """What waits for the disk and what takes a place, in their order: kind and name."""
    events, fsync, replace = [], os.fsync, Path.replace

    def waits(number):
        name = Path(f"/proc/self/fd/{number}").readlink().name
        events.append(("disk", re.sub(r"^\.(.*)\.[0-9a-f]{16}\.[\w-]+$", r"part of \1", name)))
        fsync(number)

    def takes(self, target):
        events.append(("place", Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", waits)
    monkeypatch.setattr(Path, "replace", takes)
    return events


def test_a_file_takes_its_place_when_it_is_on_disk_and_so_is_its_name_then(tmp_path, to_the_disk):
    write_json(tmp_path / "a.json", {})
    assert to_the_disk == [("disk", "part of a.json"), ("place", "a.json"), ("disk", tmp_path.name)]


def test_a_checkpoint_takes_its_place_when_it_is_on_disk_and_the_one_before_is_kept(tmp_path, to_the_disk):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters())
    for epoch in (1, 2, 3):
        to_the_disk.clear()
        save_checkpoint(tmp_path / "resume", model, optimizer, {}, {"key": "k", "epoch": epoch})
    files = [event for name in ("state.safetensors", "state.json") for event in (("disk", f"part of {name}"), ("place", name))]
    assert [event for event in to_the_disk if event != ("disk", "part of resume")] == [
        *(one for k in (0, 2) for one in files[k : k + 2]),
        ("place", "resume.old"),
        ("place", "resume"),
        ("disk", tmp_path.name),
    ]
    assert to_the_disk.count(("disk", "part of resume")) == 3  # after each name in it, and once it is whole
    epochs = [read_json(tmp_path / name / "state.json")["epoch"] for name in ("resume", "resume.old")]
    assert epochs == [3, 2]
    with (tmp_path / "resume" / "state.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")  # still a whole safetensors file
    assert load_checkpoint(tmp_path / "resume", "k", model, optimizer)[0]["epoch"] == 2
    assert not drop_damaged(tmp_path / "resume")  # of which one is whole
    assert (tmp_path / "resume").exists() and (tmp_path / "resume.old").exists()
    (tmp_path / "resume.old" / "state.json").write_text("{", encoding="utf-8")
    assert drop_damaged(tmp_path / "resume")
    assert not list(tmp_path.iterdir()) and not drop_damaged(tmp_path / "resume")


def test_no_file_takes_the_place_of_a_device_or_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "linked").symlink_to(os.devnull)
    for name in ("pipe", "linked"):
        before = (tmp_path / name).lstat()
        with pytest.raises(StageError, match="is a device or a pipe, in whose place no file is put"):
            write_json(tmp_path / name, {})
        assert (tmp_path / name).lstat() == before
    assert not Path(os.devnull).is_file()
