"""Whatever is in a recording's file, preparation goes on: the recording is named with its reason, skipped and counted."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmcl.api import DataError, PluginError, StageError
from mmcl.data.prepared import load_prepared
from mmcl.data.readers import Limits, Lost, Readers, limits
from mmcl.plugins import plugins
from mmcl.runs import RunFolder, locked, read_json
from mmcl.stages.prepare import prepare
from mmcl.stages.unreadable import Faults

GENEROUS = Limits(memory=10**9, alone=10**9, seconds=60)


# ------------------------------------------------------------------------------------------------ readers


def _begin_counting():
    done = []

    def work(job):
        what, value = job
        done.append(job)
        match what:
            case "abort":
                os.abort()
            case "leave":
                os._exit(3)
            case "sleep":
                time.sleep(value)
            case "fill":
                np.ones(value, np.uint8)
            case "raise":
                raise value
            case "once":  # dies unless it is the first in its process
                if len(done) > 1:
                    os.abort()
        return np.full(3, value) if what == "give" else what

    return work, lambda: {"read": len(done)}


def _begin_staying(where):
    def work(job):
        where.write_text(str(os.getpid()))
        time.sleep(600)

    return work, dict


def _begin_badly():
    os._exit(1)


def _begin_refusing():
    raise DataError("said well")


@pytest.mark.parametrize("count", [1, 2])
def test_who_ends_its_reader_is_lost_and_the_others_are_read_in_order(count):
    jobs = [("give", 0), ("abort", 0), ("give", 2), ("leave", 0), ("fill", 3 * 10**9), ("give", 5), ("give", 6)]
    with Readers(count, _begin_counting, (), GENEROUS) as readers:
        answers = list(readers.read(jobs))
    assert [one.reason if isinstance(one, Lost) else one.tolist() for one in answers] == [
        [0, 0, 0],
        "ended the process that read it (SIGABRT)",
        [2, 2, 2],
        "ended the process that read it (exit code 3)",
        "needs more than 1 GB of memory (reading.memory)",
        [5, 5, 5],
        [6, 6, 6],
    ]


def test_who_takes_too_long_is_given_up():
    with Readers(1, _begin_counting, (), Limits(10**9, 10**9, 0.5)) as readers:
        hung, after = readers.read([("sleep", 600), ("give", 1)])
    assert hung == Lost("took longer than 0.5 seconds (reading.seconds)", late=True)
    assert after.tolist() == [1, 1, 1]


def test_a_recording_that_others_have_harmed_is_tried_once_more_in_a_fresh_process():
    with Readers(1, _begin_counting, (), GENEROUS) as readers:
        assert list(readers.read([("quiet", 0), ("once", 0), ("quiet", 0)])) == ["quiet", "once", "quiet"]


def test_a_recording_that_needs_more_than_its_share_is_tried_alone_with_all():
    with Readers(2, _begin_counting, (), Limits(memory=3 * 10**8, alone=10**9, seconds=60)) as readers:
        assert list(readers.read([("quiet", 0), ("fill", 5 * 10**8), ("quiet", 0)])) == ["quiet", "fill", "quiet"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_readers_leave_with_a_killed_parent_in_the_midst_of_a_recording(tmp_path):
    """The reader is at work, so that it looks at no pipe."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom mmcl.data.readers import Readers\nfrom tests.test_readers import GENEROUS, _begin_staying\n"
        "with Readers(1, _begin_staying, (Path(sys.argv[1]),), GENEROUS) as readers:\n    list(readers.read([1]))\n"
    )
    root = Path(__file__).parents[1]
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pid")], cwd=root)
    try:
        _until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text() != "")
        reader = Path("/proc") / (tmp_path / "pid").read_text()
        assert reader.is_dir()
    finally:
        parent.kill()
        parent.wait()
    _until(lambda: not reader.is_dir() or (reader / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z")


def _until(happened):
    """Wait for something; it fails after a minute."""
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_errors_of_ours_come_out_and_a_process_that_cannot_begin_says_so():
    with Readers(1, _begin_counting, (), GENEROUS) as readers, pytest.raises(StageError, match="^as it is$"):
        list(readers.read([("raise", StageError("as it is"))]))
    with Readers(1, _begin_refusing, (), GENEROUS) as readers, pytest.raises(DataError, match="^said well$"):
        list(readers.read([("give", 0)]))
    with (
        Readers(1, _begin_badly, (), GENEROUS) as readers,
        pytest.raises(StageError, match=r"ended before it began: .*exit code 1"),
    ):
        list(readers.read([("give", 0)]))


def test_what_was_counted_is_summed_over_processes_that_have_ended():
    with Readers(1, _begin_counting, (), GENEROUS) as readers:
        list(readers.read([("give", 0), ("give", 0), ("leave", 0), ("give", 0)]))
    assert sum(one["read"] for one in readers.counts.values()) == 3


def test_memory_is_divided_unless_it_is_given():
    assert limits(2.5, 9.0, 4) == Limits(2_500_000_000, 2_500_000_000, 9.0)
    one, four = limits(None, 9.0, 1), limits(None, 9.0, 4)
    assert one.memory == one.alone == four.alone
    assert four.memory == four.alone // 4


def test_a_plug_in_that_fails_with_all_is_told_from_files_that_are_damaged(capsys):
    from mmcl.data.reading import Unread

    faults = Faults("audio", "dataset 'study'")
    for _ in range(9):
        faults.add(Unread("a.wav: cut short"), 1)
    for _ in range(3):
        faults.add(Unread("a.wav: KeyError", "KeyError"), 1)
    faults.close(1)
    assert capsys.readouterr().err == (
        "prepare audio: 3 recordings failed in the same way (KeyError), so that the fault may lie with dataset 'study' rather than "
        "with each file\n"
    )
    first = PluginError("the first")
    faults = Faults("audio", "dataset 'study'")
    for _ in range(4):
        faults.add(Unread("first", "late", first), 0)
    with pytest.raises(PluginError, match="the first"):
        faults.add(Unread("fifth", "late", PluginError("the fifth")), 0)


# ------------------------------------------------------------------------------------------------ files


def _wav(path: Path, rate: int = 16000, samples: int = 16000, **how: str) -> None:
    import soundfile

    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, samples), rate, **how)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _gsm_cut(path: Path) -> None:
    _wav(path, 8000, format="WAV", subtype="GSM610")
    path.write_bytes(path.read_bytes()[:-200])


def _hours(path: Path) -> None:
    """A FLAC whose head promises 1.8e9 samples, in the 36 bits that STREAMINFO has for them."""
    _wav(path, format="FLAC")
    data, samples = bytearray(path.read_bytes()), 1_800_000_000
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)


def _one_hertz(path: Path) -> None:
    _wav(path, 1, 60_000)


def _no_sound(path: Path) -> None:
    path.write_bytes(b"RIFF....WAVE not at all")


def _nothing(path: Path) -> None:
    path.write_bytes(b"")


def _bomb(path: Path) -> None:
    """3 GB of zeros in some megabytes."""
    import zlib

    import scipy.io

    scipy.io.savemat(path, {"d_iner": np.zeros((2, 6))})
    text, rows = path.read_bytes()[:128], 60_000_000
    size = rows * 6 * 8
    inner = b"".join(
        struct.pack(form, *numbers)
        for form, numbers in (
            ("<II", (14, size + 64)),  # miMATRIX
            ("<IIII", (6, 8, 6, 0)),  # its class: double
            ("<IIii", (5, 8, rows, 6)),
            ("<II8s", (1, 6, b"d_iner")),
            ("<II", (9, size)),
        )
    )
    squeeze = zlib.compressobj(1)
    squeezed = (
        squeeze.compress(inner) + b"".join(squeeze.compress(bytes(10**6)) for _ in range(size // 10**6)) + squeeze.flush()
    )
    path.write_bytes(text + struct.pack("<II", 15, len(squeezed)) + squeezed)


def _crash(path: Path) -> None:
    """An element of a type that there is not, at which scipy 1.x reads where it must not, and the process ends."""
    rest = (
        "0001494d0e00000048000000060000000800000009000000000000000500000008000000010000000a0000000100000006000000645f696e6572"
        "0000ff0000000a00000000010203040506070806050000000000"
    )
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + bytes.fromhex(rest))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:448])


def _long_cell(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = "1" * 200_000 + lines[1][lines[1].index(",") :]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


SOUNDS = (_fifo, _gsm_cut, _hours, _one_hertz, _no_sound, _nothing)
FORMS = {
    "ravdess": ("ravdess", "audio", "log-mel, bands: 4, hop: 0.04, window: 0.05", "Actor_*/03-01-*.wav", SOUNDS),
    "utd-mhad": ("utd-mhad", "inertial", "signals", "Inertial/*.mat", (_fifo, _bomb, _crash, _cut, _nothing)),
    "sound": (
        "{use: folder, table: recordings.csv}",
        "sound",
        "log-mel, bands: 4, hop: 0.04, window: 0.05",
        "sound/*.wav",
        SOUNDS,
    ),
    "tables": ("{use: folder, table: recordings.csv}", "hand", "signals", "hand/*.csv", (_fifo, _long_cell, _cut, _nothing)),
}
RECIPE = """\
format: 1
name: broken
dataset: %s
modalities:
  one: {source: %s, features: {use: %s}, backbone: {use: mlp, hidden: [4], width: 4}}
pretrain: {epochs: 0}
probe: {inputs: [one]}
reading: {memory: 1, seconds: 20}
protocol: {use: hold-out, test: 0.3, valid: 0.3}
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_broken_file_is_named_and_the_rest_is_what_it_would_be_without(form, tiny_plan, tmp_path):
    dataset, source, features, pattern, breaks = FORMS[form]
    name = "folder" if "folder" in dataset else dataset
    plugins().get("dataset", name).spec.sample(tmp_path / "data" / name, 30, 0)
    plan = tiny_plan(text=RECIPE % (dataset, source, features), data=tmp_path / "data")
    whole = RunFolder(tmp_path / "whole" / "run")
    prepare(plan, whole, workers=1)
    files = sorted(path for path in (tmp_path / "data" / name).glob(pattern) if not path.name.startswith("."))
    victims = dict(zip(files[2::3], breaks, strict=False))
    assert len(victims) == len(breaks)
    for path, spoil in victims.items():
        spoil(path)
    run = RunFolder(tmp_path / "spoilt" / "run")
    prepare(plan, run, workers=1)
    about = read_json(run.root / "prepare.json")["modalities"]["one"]
    reasons = {Path(one["where"]).name: one["reason"] for one in about["skipped"]}
    assert set(reasons) == {path.name for path in victims}
    assert all(name in reason for name, reason in reasons.items())
    before, after = (load_prepared(one).stores["one"] for one in (whole, run))
    assert len(after.rows) == len(before.rows) - len(victims)
    for row in after.rows:
        assert after.values(row).tobytes() == before.values(row).tobytes()


def test_readers_are_copied_with_what_every_modality_needs(tiny_plan, run, tmp_path, monkeypatch):
    plugins().get("dataset", "ravdess").spec.sample(tmp_path / "ravdess", 24, 0)
    seen: list[list[str]] = []

    class Seen(Readers):
        def __init__(self, count, begin, arguments, limits, preload):
            seen.append(preload)
            super().__init__(count, begin, arguments, limits, preload)

    monkeypatch.setattr("mmcl.stages.prepare.Readers", Seen)
    text = (RECIPE % ("ravdess", "audio", FORMS["ravdess"][2])).replace(
        "pretrain:",
        "  two: {source: audio, features: {use: voice-functionals}, backbone: {use: mlp, hidden: [4], width: 4}}\npretrain:",
    )
    plan = tiny_plan(text=text, data=tmp_path)
    prepare(plan, run, workers=1)
    assert [set(one) >= {"mmcl.stages.loaded", "mmcl_modalities.audio", "mmcl_voice.functionals"} for one in seen] == [
        True,
        True,
    ]
    shutil.rmtree(next((run.root.parent / "prepared" / "ravdess").glob("log-mel-*")))
    prepare(plan, run, workers=1)
    assert ["mmcl_voice.functionals" in one for one in seen] == [True, True, False], "what is prepared already needs nothing"


def test_streams_that_another_process_prepares_are_waited_for_told_and_used(tiny_plan, run, tmp_path, monkeypatch):
    """What the other one made is taken as it is: nothing is prepared twice, and nobody writes into what another one writes."""
    plan = tiny_plan("dataset.samples=24")
    prepare(plan, run, 1)
    store = run.root.parent.joinpath(read_json(run.root / "folds.json")["stores"]["audio"]["folder"].removeprefix("../"))
    elsewhere = tmp_path / "elsewhere"
    shutil.move(store, elsewhere)
    told: list[str] = []
    monkeypatch.setattr("mmcl.stages.prepare.say", told.append)
    with locked(store.with_name(f".{store.name}.lock")):
        second = threading.Thread(target=prepare, args=(plan, run, 1))
        second.start()
        _until(lambda: any("another mmcl process is preparing these streams" in line for line in told))
        assert f"prepare audio: another mmcl process is preparing these streams ({store}); waiting for it" in told
        time.sleep(0.2)
        assert second.is_alive() and not store.exists()
        shutil.move(elsewhere, store)
        as_moved = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    second.join(60)
    assert not second.is_alive()
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == as_moved
    assert len(load_prepared(run).stores["audio"].rows)
