"""A corpus of 126 broken files of 41 kinds, in the forms of RAVDESS, UTD-MHAD and a plain folder with a table.

Preparation ends, lists each of them with a reason, and what is left is to the bit what it is without them.
"""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmcl.data.prepared import load_prepared
from mmcl.plugins import plugins
from mmcl.runs import RunFolder, read_json
from mmcl.stages.prepare import prepare
from tests.test_readers import _crash, _gsm_cut, _hours, _long_cell, _one_hertz, _wav


def keep(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def instead(content):
    return lambda path: path.write_bytes(content)


def at(place, content):
    def change(path):
        data = bytearray(path.read_bytes())
        data[place : place + len(content)] = content
        path.write_bytes(bytes(data))

    return change


def place_of(make):
    def change(path):
        path.unlink()
        make(path)

    return change


ANY = {
    "empty": instead(b""),
    "one byte": instead(b"R"),
    "a tenth of it": keep(0.1),
    "its first 200 bytes": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "a letter": instead(b"Dear all,\n\nthe recording is on the other disk.\n"),
    "a page that says 404": instead(b"<!DOCTYPE html><html><head><title>404</title></head></html>"),
    "a pointer of Git LFS": instead(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "a zip": instead(b"PK\x03\x04" + bytes(200)),
    "packed by gzip": lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
    "its head of zeros": at(0, bytes(140)),
    "a folder": place_of(lambda path: path.mkdir()),
    "a pipe": place_of(os.mkfifo),
    "a link to nothing": place_of(lambda path: path.symlink_to("nowhere")),
    "a link to itself": place_of(lambda path: path.symlink_to(path.name)),
    "a device of zeros": place_of(lambda path: path.symlink_to("/dev/zero")),
}


def sound_of(samples, rate=16000, **how):
    import soundfile

    return lambda path: soundfile.write(path, np.asarray(samples), rate, **{"format": "WAV", "subtype": "FLOAT", **how})


SOUND = {
    "sound of NaN": sound_of(np.full(8000, np.nan, np.float32)),
    "sound with one infinity": sound_of(np.r_[np.zeros(7999, np.float32), np.float32(np.inf)]),
    "sound without samples": sound_of(np.zeros(0, np.float32)),
    "no channel": at(22, struct.pack("<H", 0)),
    "a rate of 0": at(24, struct.pack("<I", 0)),
    "a rate of 1 Hz": _one_hertz,
    "a codec of nobody": at(20, struct.pack("<H", 0x4242)),
    "GSM cut short": _gsm_cut,
    "FLAC that promises 31 hours": _hours,
    "samples that its head promises and it lacks": lambda path: (_wav(path), keep(0.6)(path)),
}


def table_with(change):
    def write(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")

    return write


TABLE = {
    "a cell of 200,000 characters": _long_cell,
    "a word among numbers": table_with(lambda lines: [*lines[:2], "word" + lines[2][lines[2].index(",") :], *lines[3:]]),
    "a row that is too short": table_with(lambda lines: [*lines[:3], lines[3].rpartition(",")[0], *lines[4:]]),
    "no row": table_with(lambda lines: lines[:1]),
    "a quote that is not closed": table_with(lambda lines: [lines[0], '"' + lines[1], *lines[2:]]),
    "a column twice": table_with(lambda lines: [",".join([lines[0].split(",")[0]] * len(lines[0].split(","))), *lines[1:]]),
    "signs of no encoding": lambda path: path.write_bytes(path.read_bytes() + b"\xff\xfe\x81\n"),
}


def mat_with(change):
    def write(path):
        arrays = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
        savemat(path, change(arrays))

    return write


MATLAB = {
    "an array of another name": mat_with(lambda arrays: {"other": np.zeros((3, 6))}),
    "NaN in the array": mat_with(lambda arrays: {name: value * np.nan for name, value in arrays.items()}),
    "an array without steps": mat_with(lambda arrays: {name: value[:0] for name, value in arrays.items()}),
    "an array of another shape": mat_with(lambda arrays: {name: np.zeros((2, 2, 2, 2)) for name in arrays}),
    "words for numbers": mat_with(lambda arrays: dict.fromkeys(arrays, "words")),
    "a struct for numbers": mat_with(lambda arrays: {name: {"a": 1} for name in arrays}),
    "an element that ends scipy": _crash,
}
FORMS = {  # dataset, its folder, source, features, files, kinds
    "ravdess": ("ravdess", "ravdess", "audio", "log-mel, bands: 4, hop: 0.04, window: 0.05", "Actor_*/03-01-*.wav", SOUND),
    "utd-mhad inertial": ("utd-mhad", "utd-mhad", "inertial", "signals", "Inertial/*.mat", MATLAB),
    "utd-mhad skeleton": ("utd-mhad", "utd-mhad", "skeleton", "skeleton", "Skeleton/*.mat", MATLAB),
    "folder, sound": (
        "{use: folder, table: recordings.csv}",
        "folder",
        "sound",
        "log-mel, bands: 4, hop: 0.04, window: 0.05",
        "sound/*.wav",
        SOUND,
    ),
    "folder, table": ("{use: folder, table: recordings.csv}", "folder", "hand", "signals", "hand/*.csv", TABLE),
}
FINE = {("folder, table", "a tenth of it"), ("folder, table", "its first 200 bytes")}
"""A table that was cut may be a whole shorter one: it is listed, or read."""
RECIPE = """\
format: 1
name: broken
dataset: %s
modalities:
  one: {source: %s, features: {use: %s}, backbone: {use: %s, width: 4}}
pretrain: {epochs: 0}
probe: {inputs: [one]}
reading: {memory: 1, seconds: 20}
protocol: {use: hold-out, test: 0.3, valid: 0.3}
"""


def test_the_corpus_has_as_many_files_and_kinds_as_it_says():
    assert sum(len(ANY) + len(kinds) for *_, kinds in FORMS.values()) >= 110
    assert len({*ANY, *SOUND, *TABLE, *MATLAB}) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_preparation_ends_lists_each_broken_file_and_keeps_the_rest_to_the_bit(form, tiny_plan, tmp_path):
    dataset, name, source, features, pattern, own = FORMS[form]
    breaks = ANY | own
    plugins().get("dataset", name).spec.sample(tmp_path / "data" / name, 2 * len(breaks) + 8, 0)
    plan = tiny_plan(
        text=RECIPE % (dataset, source, features, "gru" if source == "skeleton" else "mlp"), data=tmp_path / "data"
    )
    whole = RunFolder(tmp_path / "whole" / "run")
    prepare(plan, whole, workers=1)
    files = sorted(path for path in (tmp_path / "data" / name).glob(pattern) if not path.name.startswith("."))
    there = [
        path
        for path in files
        if path.stem in {Path(s.sources[source]).stem for s in load_prepared(whole).samples if source in s.sources}
    ]
    victims = dict(zip(there[1::2], breaks, strict=False))
    assert len(victims) == len(breaks)
    for path, kind in victims.items():
        breaks[kind](path)
    run = RunFolder(tmp_path / "spoilt" / "run")
    prepare(plan, run, workers=1)
    skipped = read_json(run.root / "prepare.json")["modalities"]["one"]["skipped"]
    reasons = {Path(one["where"]).name: one["reason"] for one in skipped}
    before, after = (load_prepared(one) for one in (whole, run))
    fine = {path.name for path, kind in victims.items() if (form, kind) in FINE}
    unread = {
        Path(s.sources[source]).name
        for row, s in enumerate(before.samples)
        if source in s.sources and row not in before.stores["one"]
    }
    assert set(reasons) - unread - fine == {path.name for path in victims} - fine, {
        victims[path]: reasons.get(path.name) for path in victims if path.name not in reasons
    }
    assert all(len(reason) > 20 and "\n" not in reason for reason in reasons.values())
    rows = {sample.id: row for row, sample in enumerate(before.samples)}
    kept = 0
    for row in after.stores["one"].rows:
        sample = after.samples[row]
        if Path(sample.sources[source]).name in {path.name for path in victims}:
            continue
        kept += 1
        assert after.stores["one"].values(row).tobytes() == before.stores["one"].values(rows[sample.id]).tobytes()
    assert kept == len(before.stores["one"]) - len(victims) > 10
