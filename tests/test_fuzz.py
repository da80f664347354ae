"""Whatever mmcl reads is tampered with here; nothing but its own errors may come out. `make fuzz` does the same for as long as you like."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fuzz import draws, edits, places, readers, runs
from fuzz.machine import Fuzzer, Outcome, attempt, case_of, fuzz, limited
from mmcl.api import DataError, Layout, PluginError, RecipeError, StageError
from mmcl.data import remote
from mmcl.data.store import Store, StoreWriter, mapped
from mmcl.model.frozen import load_features
from mmcl.model.keep import load_encoders, sparing
from mmcl.model.kept import load_heads
from mmcl.plugins import plugins
from mmcl.recipe.read import parse_recipe
from mmcl.runs import digest, distrust, open_file, read_json, read_jsonl, read_tensors, write_json
from mmcl.shapes import parsed, shape_of
from mmcl.shapes.files import BY_NAME

CASES = {"recipes": 30, "matlab": 20, "run-folders": 12, "kept-parts": 30, "films": 40}
"""Cases of each fuzzer in a run of the tests, where they are not 60."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", [*readers.FUZZERS, *places.FUZZERS])
def test_nothing_but_our_errors_comes_out(name, folder, monkeypatch):
    for variable in ("PAUSE", "CACHE"):  # set by those that read at a URL
        monkeypatch.setattr(remote, variable, getattr(remote, variable))
    monkeypatch.setenv("MMCL_CACHE", str(folder / "cache"))
    (folder / name).mkdir(exist_ok=True)
    fuzzer = (readers.FUZZERS | places.FUZZERS)[name](folder / name)
    outcome = fuzz(fuzzer, CASES.get(name, 60), start=1000)
    assert (outcome.failures, outcome.failed) == ({}, 0)
    assert outcome.cases == CASES.get(name, 60)
    assert outcome.refused > 0 or name == "parts", (
        "edits that nobody notices try nothing; parts that are not whole are prepared anew"
    )


@pytest.mark.parametrize("name", runs.FUZZERS)
def test_nothing_but_our_errors_comes_out_of_a_run_folder(name, tiny_run, tmp_path):
    shutil.copytree(tiny_run.root, tmp_path / "runs" / "tiny")
    shutil.copytree(tiny_run.prepared, tmp_path / "runs" / "prepared")
    fuzzer = runs.run_folders(tmp_path, slow=False) if name == "run-folders" else runs.FUZZERS[name](tmp_path)
    outcome = fuzz(fuzzer, CASES[name], start=1000)
    assert (outcome.failures, outcome.cases) == ({}, CASES[name])
    assert outcome.refused > 0


# --------------------------------------------------------------------------------------------------- the machine can see red


def test_an_error_that_is_not_ours_is_counted_with_its_smallest_case():
    def call(case):
        if case > 5:
            raise KeyError(case)
        if case > 2:
            raise DataError("ours")

    outcome = fuzz(Fuzzer(draws.integers(0, 1000), call), 50)
    ((where, (count, smallest)),) = outcome.failures.items()
    assert where.startswith("KeyError in ") and count == outcome.failed > 1
    assert int(smallest) > 5


def test_memory_and_time_are_limited(monkeypatch):
    monkeypatch.setattr("fuzz.machine.SECONDS", 0.2)
    outcome = Outcome()
    with limited():
        attempt(Fuzzer(draws.just(None), lambda case: bytearray(2**31)), None, outcome)
        attempt(Fuzzer(draws.just(None), lambda case: [None for _ in iter(int, 1)]), None, outcome)
    assert sorted(where.split()[0] for where in outcome.failures) == ["MemoryError", "TooSlow"]


def test_a_case_that_takes_its_process_down_is_counted_where_it_may():
    def call(case):
        if case % 10 == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        if case % 10 == 4:
            raise MemoryError
        if case % 10 == 5:
            raise DataError("ours")
        [][case % 10]

    fuzzer = Fuzzer(draws.integers(0, 99), call, apart=True)
    outcome = fuzz(fuzzer, 60)
    refused = sum(case_of(fuzzer, number) % 10 in (3, 4, 5) for number in range(60))
    assert 3 < refused < 50
    assert (outcome.cases, outcome.refused, outcome.failed) == (60, refused, 60 - refused)
    assert next(iter(outcome.failures)).startswith("IndexError in ")


def test_a_case_that_does_not_come_back_is_counted_where_it_may(monkeypatch):
    monkeypatch.setattr("fuzz.machine.SECONDS", 0.1)

    def call(case):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # as a library in C, which looks for no signal
        time.sleep(60)

    outcome = fuzz(Fuzzer(draws.just(None), call, apart=True), 2)
    assert (outcome.cases, outcome.refused, outcome.failed) == (2, 2, 0)


def test_a_case_is_its_number():
    draw = draws.tuples(edits.json_edits, edits.byte_edits, draws.floats(), draws.text(9), draws.integers())
    cases = [repr(draw(random.Random(number))) for number in range(40)]
    assert cases == [repr(draw(random.Random(number))) for number in range(40)]
    assert len(set(cases)) == 40


def test_draws_reach_their_ends():
    def drawn(draw, count=3000):
        return [draw(random.Random(number)) for number in range(count)]

    assert set(drawn(draws.integers(2, 4))) == {2, 3, 4}
    assert {2**63, 2**63 - 1, -1, 0, 255} < set(drawn(draws.integers()))
    assert {len(one) for one in drawn(draws.lists(draws.booleans(), 1, 3))} == {1, 2, 3}
    assert any(one != one for one in drawn(draws.floats(), 9000)) and max(map(abs, drawn(draws.floats()))) > 1e300
    letters = set("".join(drawn(draws.text(6))))
    assert (
        {"\x00", "\ufeff", "é"} < letters
        and max(letters) > "\U000f0000"
        and not any("\ud800" <= one <= "\udfff" for one in letters)
    )
    assert {type(one) for one in drawn(draws.just(None) | draws.binary(1, 2))} == {type(None), bytes}


def test_the_driver_reports_the_true_number_of_cases():
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--cases", "37", "json-words"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "json-words: 37 cases, " in done.stdout and "37 cases in " in done.stdout


# -------------------------------------------------------------------------------------------------- what once failed, and kinds of it


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 60 + "]" * 60, "more than 40 lists"),
        ("[" * 5000 + "]" * 5000, "too deep"),
        ('{"a": ' + "9" * 4400 + "}", "4300 digits"),
        ('{"a": ' + "9" * 30 + "}", "beyond 2\\*\\*63"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": [1e999]}', "beyond all numbers"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('{"\\udfff": 1}', "half of a character"),
    ],
)
def test_json_beyond_the_limits_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parsed(text)


def test_json_within_the_limits_is_what_json_says():
    text = json.dumps({"a": [1.5, -3, True, None, "é", "\U0001f600", 2**53], "deep": [[[[[[{}]]]]]], "id": "1" * 40})
    assert parsed(text) == json.loads(text)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_file_of_a_run_has_a_schema_that_refuses_another_file(name):
    check = shape_of(Path(name))
    assert check is not None
    with pytest.raises(ValueError, match="."):
        check(
            {
                one: [[object()]]
                for one in ("time", "key", "seed", "ids", "keys", "trials", "scores", "plan", "epoch", "what", "layout")
            }
            | {"maps": 3}
        )


def test_what_a_run_wrote_passes_its_schemas(tiny_run):
    names = set()
    for path in tiny_run.root.rglob("*.json*"):
        (read_json if path.suffix == ".json" else read_jsonl)(path)
        names.add(path.name)
    assert {"plan.json", "folds.json", "prepare.json", "report.json", "scores.jsonl", "heads.json", "encoders.json"} <= names


def test_a_file_that_holds_something_else_is_named_with_the_place(tmp_path):
    write_json(
        tmp_path / "folds.json", {"format": 1, "stores": {}, "samples": [], "folds": [{"fold": 0, "train": ["x"]}], "key": "k"}
    )
    with pytest.raises(
        StageError, match=r"folds.json: does not hold what it should \(folds.0.train.0: .*integer.*run its recipe again"
    ):
        read_json(tmp_path / "folds.json")


def test_files_that_contradict_each_other_are_one_sentence(tmp_path):
    with (
        pytest.raises(
            StageError, match=r"its files do not fit together \(KeyError: 'x'; test_fuzz.py line \d+\); .*run its recipe again"
        ),
        distrust(tmp_path),
    ):
        {}["x"]
    with pytest.raises(KeyboardInterrupt), distrust(tmp_path):
        raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------------------- prepared stores


def store_in(folder, rows=4, width=3, steps=2000):
    writer = StoreWriter(folder, Layout("sequence", ("time", "channel"), {"channel": width}, 25.0))
    for row in range(rows):
        writer.add(row, np.random.default_rng(row).normal(size=(steps, width)).astype(np.float32))
    writer.close({"key": "k"})
    return Store(folder)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_zeroed_pages_of_a_shard_are_noticed_when_it_is_opened(place, tmp_path):
    """64 blocks are looked at: in a shard of 96 kB every page is among them."""
    store_in(tmp_path / "s")
    shard = tmp_path / "s" / "shard-00000.safetensors"
    size = shard.stat().st_size
    with shard.open("r+b") as file:
        file.seek({"first": size // 8, "middle": size // 2, "last": size - 4096}[place])
        file.write(bytes(4096))
    with pytest.raises(
        StageError, match=r"shard-00000.safetensors is not what was written: .*run the recipe again, which prepares them anew"
    ):
        Store(tmp_path / "s")


def test_a_changed_byte_anywhere_is_noticed_on_demand(tmp_path, monkeypatch):
    monkeypatch.setattr("mmcl.data.store.BLOCK", 8)
    store = store_in(tmp_path / "s")
    assert store.changed() == []
    shard = tmp_path / "s" / "shard-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[2 * len(content) // 5] ^= 1  # between the blocks
    shard.write_bytes(bytes(content))
    (sentence,) = Store(tmp_path / "s").changed()
    assert "shard-00000.safetensors is not what was written; delete" in sentence
    shard.with_name("shard-00001.safetensors").write_bytes(bytes(content))  # one that no store wrote
    assert len(Store(tmp_path / "s").changed()) == 2


def test_a_store_of_an_older_mmcl_opens_and_says_that_it_has_no_checksums(tmp_path):
    store_in(tmp_path / "s")
    about = read_json(tmp_path / "s" / "store.json")
    write_json(
        tmp_path / "s" / "store.json", {name: value for name, value in about.items() if name not in ("sha256", "blocks")}
    )
    store = Store(tmp_path / "s")
    assert len(store) == 4
    with pytest.raises(StageError, match="an older mmcl prepared these streams and kept no checksums"):
        store.changed()


def test_streams_that_share_steps_are_refused(tmp_path):
    """Thirty bytes of an index would stand for a whole shard each."""
    store_in(tmp_path / "s")
    path = tmp_path / "s" / "index.safetensors"
    index = np.array(mapped(path)["index"])
    index[2, 2] -= 1
    save_file({"index": index}, str(path))
    with pytest.raises(StageError, match="two of its streams share steps"):
        Store(tmp_path / "s")


@pytest.mark.parametrize("read", [read_json, read_jsonl, read_tensors, digest, mapped], ids=lambda read: read.__name__)
@pytest.mark.parametrize("pieces", [0, 1, 5000])
def test_a_file_of_holes_is_refused_before_it_is_read(read, pieces, tmp_path):
    """A few bytes that are there promise a hundred gigabytes of zeros, in as many pieces as one likes."""
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        for piece in range(pieces):
            file.seek(piece * 10_000_000)
            file.write(b"{")
        file.truncate(100_000_000_000)
    if path.stat().st_blocks * 512 > 2**32:
        pytest.skip("this file system keeps no holes")
    with pytest.raises(
        StageError, match=r"a.json: (says that it )?has 100,000,000,000 bytes, (and next to none|where at most)"
    ):
        read(path)


def test_a_file_that_is_there_is_read_though_it_has_holes(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.write(random.randbytes(2**20) * 30)
        file.truncate(2**30)
    with open_file(tmp_path / "a") as file:
        assert os.fstat(file.fileno()).st_size == 2**30


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 12]}, "would not have 12 bytes"),
        ({"dtype": "F32", "shape": [-1, 3], "data_offsets": [0, 12]}, "shape is"),
        ({"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}, "shape is"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 120]}, "cut short"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [-12, 0]}, "cut short"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [False, 12]}, "cut short"),
        ({"dtype": "F32", "shape": {"a": 1}, "data_offsets": [0, 12]}, "shape is"),
        ({"dtype": "X", "shape": [3], "data_offsets": [0, 12]}, "X"),
        (["F32"], "indices"),
    ],
)
def test_sizes_and_offsets_are_held_against_the_file(entry, words, tmp_path):
    header = json.dumps({"values": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    with pytest.raises(StageError, match=f"a.safetensors: is not a whole safetensors file .*{words}"):
        mapped(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("text/present"),
        lambda tensors: tensors.update({"x": tensors["text/vector"]}),
        lambda tensors: tensors.update({"text/vector": tensors["text/vector"][:3]}),
        lambda tensors: tensors.update({"text/vector": tensors["text/vector"][0]}),
        lambda tensors: tensors.update({"text/vector": tensors["text/vector"].astype(np.int64)}),
        lambda tensors: tensors.update({"text/present": np.ones(4, np.float32)}),
        lambda tensors: tensors.update({"text/projection": np.ones((), np.float32)}),
    ],
)
def test_features_that_are_none_are_refused(change, tmp_path):
    tensors = {"text/vector": np.ones((4, 3), np.float32), "text/projection": np.ones((4, 2), np.float32)}
    tensors["text/present"] = np.ones(4, bool)
    save_file(tensors, str(tmp_path / "a.safetensors"))
    assert load_features(tmp_path / "a.safetensors")["text"].vector.shape == (4, 3)
    change(tensors)
    save_file(tensors, str(tmp_path / "a.safetensors"))
    with pytest.raises(StageError, match=r"a.safetensors: '(text|x)' is no features; .*run its recipe again"):
        load_features(tmp_path / "a.safetensors")


# ------------------------------------------------------------------------------------------------------------- kept networks


def test_a_width_of_a_thousand_million_takes_no_memory(tiny_run, tmp_path):
    shutil.copytree(tiny_run.stage("pretrain", 0, 3), tmp_path / "pretrain")
    about = read_json(tmp_path / "pretrain" / "encoders.json")
    about["projection"] = {"hidden": 1_000_000, "width": 1_000_000}
    write_json(tmp_path / "pretrain" / "encoders.json", about)
    with pytest.raises(PluginError, match=r"takes more than 0\.\d+ GiB of memory, as no network with these weights does"):
        load_encoders(tmp_path / "pretrain")
    bytearray(3 * 2**20)  # what is asked for afterwards can be had


def test_memory_that_was_limited_is_free_again():
    with pytest.raises(PluginError, match="takes more than 0.125 GiB"), sparing(0, 2**27):
        bytearray(2**30)
    assert len(bytearray(2**28)) == 2**28


def test_heads_whose_scale_is_of_another_width_are_refused(tiny_run, tmp_path):
    shutil.copytree(tiny_run.stage("probe", 0, 3), tmp_path / "probe")
    about = read_json(tmp_path / "probe" / "heads.json")
    about["heads"][0]["modalities"]["audio"] = 5
    write_json(tmp_path / "probe" / "heads.json", about)
    with pytest.raises((DataError, PluginError), match="differ in the width|do not fit the head"):
        load_heads(tmp_path / "probe")


# ------------------------------------------------------------------------------------------------------- recipes, pickles, lexica


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("9" * 4400, "whole number of 4,400 digits; at most 19"),
        ("[" * 1200, "within each other"),
        ("[" * 60 + "]" * 60, "within each other"),
        ('"\\ud800"', "half of a character"),
    ],
)
@pytest.mark.parametrize("where", ["recipe", "set"])
def test_recipes_beyond_the_limits_are_problems(value, words, where):
    text, sets = (
        ("format: 1\nname: x\n", (f"window.seconds={value}",)) if where == "set" else (f"format: 1\nname: {value}\n", ())
    )
    with pytest.raises(RecipeError, match=words):
        parse_recipe(text, "r.yaml", sets)


def test_ids_in_a_pickle_that_hold_themselves_end(tmp_path):
    from mmcl_mosei.convert import convert

    own: list[object] = []
    own.append(own)
    part = {
        "text": np.ones((1, 2, 3), np.float32),
        "audio": np.ones((1, 2, 3), np.float32),
        "vision": np.ones((1, 2, 3), np.float32),
        "id": own,
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"train": part}))
    with pytest.raises(DataError, match="an id is text or a number; a list was given"):
        convert(tmp_path / "a.pkl", tmp_path / "out")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252", "utf-8-sig"])
def test_lexica_in_any_encoding_are_read_or_refused(encoding, tmp_path):
    from mmcl_univa.affect import read_lexicon

    (tmp_path / "vad.txt").write_bytes("Word\tValence\tArousal\tDominance\ncafé\t0.5\t0.2\t0.1\n".encode(encoding))
    if encoding in ("latin-1", "cp1252"):
        with pytest.raises(DataError, match=r"vad.txt: is not text in UTF-8 \(byte 34\); the NRC-VAD lexicon was expected"):
            read_lexicon(tmp_path / "vad.txt")
    else:
        assert read_lexicon(tmp_path / "vad.txt") == {"café": (0.0, pytest.approx(-0.6))}


LINES = "Word\tValence\tArousal\tDominance\ncafé\t0.5\t0.2\t0.1\n"
TABLE = "id,split,V,A,D,text\na,train,3.0,3.0,3.0,café au lait\nb,test,3.1,2.9,3.0,two\nc,dev,3.1,2.9,3.0,three\n"


def _lexicon(path, text):
    from mmcl_univa.affect import read_lexicon

    path.write_bytes(text)
    return str(read_lexicon(path))


def _bank(path, text):
    from mmcl_emobank.sentences import EmoBank

    (path.parent / "emobank.csv").write_bytes(text)
    bank = EmoBank(plugins().get("dataset", "emobank").spec.params(), path.parent)
    return str([bank.read(one.id, source) for one in bank.samples() for source in one.sources])


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "NUL", "cut", "empty"]
)
@pytest.mark.parametrize(("read", "text"), [(_lexicon, LINES), (_bank, TABLE)], ids=["lexicon", "emobank"])
def test_tables_of_words_are_read_in_any_encoding_or_refused_in_a_sentence(read, text, encoding, tmp_path):
    content = {
        "NUL": lambda: text.encode().replace(b"\t0.2", b"\t\x000.2").replace(b"3.1", b"3\x00.1"),
        "cut": lambda: text.encode()[: text.encode().index("é".encode()) + 1],
        "empty": lambda: b"",
    }.get(encoding, lambda: text.encode(encoding))()
    if encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert "café" in read(tmp_path / "vad.txt", content)
        return
    with pytest.raises(DataError) as error:
        read(tmp_path / "vad.txt", content)
    assert str(error.value).count("\n") == 0
    assert re.search(r"(vad\.txt|emobank\.csv)", str(error.value))


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_computational_sequences_that_are_cut_are_one_sentence(kept, tmp_path):
    from mmcl_mosei.csd import Sequences

    from fuzz.readers import _write_csd

    _write_csd(tmp_path / "labels.csd")
    content = (tmp_path / "labels.csd").read_bytes()
    (tmp_path / "labels.csd").write_bytes(content[: int(kept * len(content))])

    def read_all():
        sequences = Sequences(tmp_path, {})
        for source in sequences.files:
            for video in sequences.videos(source):
                sequences.read(source, video)

    with pytest.raises(DataError, match="labels.csd"):
        read_all()


def test_an_edit_changes_one_place_and_leaves_the_value_alone():
    value = {"a": [1, 2], "b": {"c": 3}}
    assert json.loads(edits.tampered_json(value, [("drop", 0, None)])) == {"b": {"c": 3}}
    assert json.loads(edits.tampered_json(value, [("set", 4, "x")])) == {"a": [1, 2], "b": {"c": "x"}}
    assert value == {"a": [1, 2], "b": {"c": 3}}
    assert edits.tampered_bytes(b"abc", [("cut", 1, b"", 0)]) == b"a"
