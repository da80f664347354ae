"""Fuzzers of what lies beside a run, or at a URL: prepared streams there, parts of a store, whose features are, recordings, checkpoints, kept indexes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import draws, edits
from .machine import Fuzzer


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _lay(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _edited(name: str, content: bytes, how: str, json_edits: Any, byte_edits: Any) -> bytes:
    """A file edited as what it is, or as bytes."""
    if how == "bytes" or not content:
        return edits.tampered_bytes(content, byte_edits)
    if name.endswith(".json"):
        return edits.tampered_json(json.loads(content), json_edits).encode("utf-8", "surrogatepass")
    return edits.tampered_tensors(content, json_edits)


def _folder_fuzzer(folder: Path, contents: dict[str, bytes], read: Callable[[], Any], names: list[str] | None = None) -> Fuzzer:
    """Files of a folder, one of which is edited before all is read."""
    among = names or sorted(contents)

    def call(case: tuple[int, str, Any, Any]) -> None:
        number, how, json_edits, byte_edits = case
        name = among[number]
        try:
            (folder / name).write_bytes(_edited(name, contents[name], how, json_edits, byte_edits))
            read()
        finally:
            _lay(folder, contents)

    _lay(folder, contents)
    how = draws.sampled_from(["form", "form", "bytes"])
    return Fuzzer(draws.tuples(draws.integers(0, len(among) - 1), how, edits.json_edits, edits.byte_edits), call)


def _store(folder: Path, rows: range, timed: bool = False) -> None:
    """A store of short streams."""
    from mmcl.api.kinds import Layout
    from mmcl.api.raw import Timed
    from mmcl.data.store import StoreWriter

    writer = StoreWriter(folder, Layout("sequence", ("time", "channel"), {"channel": 3}, None if timed else 25.0))
    for row in rows:
        values = np.arange(12, dtype=np.float32).reshape(4, 3) + row
        writer.add(row, Timed(values, np.stack([np.arange(4.0), np.arange(1, 5.0)], 1)) if timed else values)
    writer.close({"key": "k", "counts": {"a": 1}, "skipped": [{"id": "x", "where": "y", "reason": "z"}]})


def remote(folder: Path) -> Fuzzer:
    """Streams at a URL: every file there is edited, and sizes and checksums of remote.json are mended in half of the cases, so that what lies behind them is read."""
    from mmcl.data import remote as module
    from mmcl.data.remote import Cache, Remote, open_store
    from mmcl.data.store import Store
    from mmcl.use.upload import _put_store

    module.PAUSE = 0.0
    where = "toy/some-0123"
    url = f"file://{folder / 'there'}"
    for name, timed in (("even", False), ("timed", True)):
        _store(folder / name, range(5), timed)
        _put_store(Remote(url), f"{where}-{name}", Store(folder / name), folder / name, "some")
    kept = {name: _contents(folder / "there" / f"{where}-{name}") for name in ("even", "timed")}

    def call(case: tuple[str, int, str, bool, Any, Any]) -> None:
        which, number, how, mend, json_edits, byte_edits = case
        there = folder / "there" / f"{where}-{which}"
        names = sorted(kept[which])
        name = names[number % len(names)]
        content = _edited(name, kept[which][name], how, json_edits, byte_edits)
        try:
            (there / name).write_bytes(content)
            if mend and name != module.ABOUT:
                about = json.loads(kept[which][module.ABOUT])
                about["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                (there / module.ABOUT).write_text(json.dumps(about), encoding="utf-8")
            store = open_store(Remote(url), f"{where}-{which}", Cache(folder / "cache", 10**7))
            for row in store.rows:
                np.asarray(store.values(row)).sum()
                store.seconds(row)
            store.changed()
        finally:
            _lay(there, kept[which])
            shutil.rmtree(folder / "cache", ignore_errors=True)

    how = draws.sampled_from(["form", "form", "bytes"])
    which = draws.sampled_from(["even", "timed"])
    mend = draws.booleans()
    return Fuzzer(draws.tuples(which, draws.integers(0, 9), how, mend, edits.json_edits, edits.byte_edits), call)


def uploaded(folder: Path) -> Fuzzer:
    """What `mmcl upload` laid for a plan, its listing and its places among it, edited; a run looks for what it starts from there."""
    from mmcl.data import remote as module
    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe
    from mmcl.runs import RunFolder
    from mmcl.stages.elsewhere import prepared_there
    from mmcl.stages.prepare import prepare
    from mmcl.use.upload import upload

    from .runs import RECIPE

    module.PAUSE = 0.0
    os.environ[module.CACHE] = str(folder / "cache")
    plan, run = make_plan(parse_recipe(RECIPE, "tiny.yaml")), RunFolder(folder / "runs" / "tiny")
    prepare(plan, run, workers=1)
    url = f"file://{folder / 'there'}"
    upload(run.root, url)
    contents = _contents(folder / "there")

    def read() -> None:
        for one in prepared_there(plan, run, url).stores.values():
            np.asarray(one.values(int(one.rows[0]))).sum()

    names = [name for name in contents if name.endswith((module.LISTING, module.PLACE, module.ABOUT, "store.json"))]
    return _folder_fuzzer(folder / "there", contents, read, names)


def parts(folder: Path) -> Fuzzer:
    """Parts of a store, edited, and folders of other names among them; they are looked through, and those that are whole put together."""
    from mmcl.data.parts import gaps, merge, part_folder, parts_folder, parts_of
    from mmcl.data.store import Store

    store = folder / "some-0123"
    for first in (0, 3, 6):
        _store(part_folder(store, range(first, first + 3)), range(first, first + 3))
    contents = _contents(parts_folder(store))

    def call(case: tuple[int, str, str, Any, Any]) -> None:
        number, how, named, json_edits, byte_edits = case
        name = sorted(contents)[number % len(contents)]
        try:
            (parts_folder(store) / name).write_bytes(_edited(name, contents[name], how, json_edits, byte_edits))
            (parts_folder(store) / named).mkdir(exist_ok=True)
            whole = parts_of(store, "k", lambda line: None)
            gaps(whole, 9)
            if whole:
                merge(store, whole, {"key": "k"})
                merged = Store(store)
                for row in merged.rows:
                    np.asarray(merged.values(row)).sum()
        finally:
            shutil.rmtree(parts_folder(store), ignore_errors=True)
            shutil.rmtree(store, ignore_errors=True)
            _lay(parts_folder(store), contents)

    named = draws.sampled_from(
        ["000000009-000000012", "000000012-000000009", "9" * 200 + "-" + "9" * 30, "000000000-000000001", "x-y", "-" * 9]
    )
    how = draws.sampled_from(["form", "form", "bytes"])
    return Fuzzer(draws.tuples(draws.integers(0, 99), how, named, edits.json_edits, edits.byte_edits), call)


def columns(folder: Path) -> Fuzzer:
    """Recordings and sides in columns, whose features are in columns and in the JSON of an older mmcl; all of them are asked."""
    from mmcl.api.dataset import SampleRef
    from mmcl.data.columns import read_recordings, write_recordings
    from mmcl.data.folds import Fold
    from mmcl.data.recordings import Recordings
    from mmcl.data.whose import read_whose, write_whose

    samples = Recordings.of(
        SampleRef(
            f"r{row}",
            f"g{row // 2}",
            {"audio": f"r{row}", "text": f"r{row}"},
            {"mood": row % 2, "scale": 0.5 * row, "all": [1, 0, 1]},
            ("train", "valid", "test")[row % 3],
            {"age": row, "word": "é"},
        )
        for row in range(6)
    )
    write_recordings(folder / "recordings.safetensors", samples, [Fold(0, (0, 1), (2, 3), (4, 5))])
    write_whose(folder, "test", samples, range(6))
    older = {"ids": ["a", "b"], "groups": ["g", "h"], "targets": [{"mood": 1}, {"mood": None}], "facts": [{}, {"age": 3}]}
    (folder / "valid.json").write_text(json.dumps(older), encoding="utf-8")

    def read() -> None:
        listed, folds = read_recordings(folder / "recordings.safetensors")
        for one in listed:
            repr(one)
        for fold in folds.values():
            list(fold.train), list(fold.valid), list(fold.test)
        for split in ("test", "valid"):
            whose = read_whose(folder, split)
            for name in whose:
                list(whose[name])

    return _folder_fuzzer(folder, _contents(folder), read)


def checkpoints(folder: Path) -> Fuzzer:
    """Checkpoints, of one process and of shards; they are loaded, with the one before beside them or without it."""
    import torch

    from mmcl.engine.resume import drop_damaged, load_checkpoint, save_checkpoint

    def network() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=1e-3)

    layer, optimizer = network()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    last = folder / "last"
    for epoch in (1, 2):
        counters: dict[str, Any] = {"key": "k", "epoch": epoch, "step": epoch, "history": []}
        save_checkpoint(last, layer, optimizer, {"weight": layer.weight.detach().clone()}, counters)
    contents = _contents(folder)

    def read() -> None:
        load_checkpoint(last, "k", *network(), needs=("epoch", "step"))
        drop_damaged(last)

    def call(case: tuple[int, str, bool, Any, Any]) -> None:
        number, how, alone, json_edits, byte_edits = case
        name = sorted(contents)[number % len(contents)]
        try:
            content = _edited(name, contents[name], how, json_edits, byte_edits)
            (folder / name).write_bytes(content)
            state = (folder / name).with_name("state.json")
            if name.endswith(".safetensors"):  # with its checksum mended, so that what lies behind it is read
                about = json.loads(contents[str(state.relative_to(folder))])
                state.write_text(json.dumps(about | {"sha256": hashlib.sha256(content).hexdigest()}), encoding="utf-8")
            for other in folder.iterdir():
                if alone and other.name != Path(name).parts[0]:
                    shutil.rmtree(other)
            read()
        finally:
            _lay(folder, contents)

    how = draws.sampled_from(["form", "form", "bytes"])
    return Fuzzer(draws.tuples(draws.integers(0, 99), how, draws.booleans(), edits.json_edits, edits.byte_edits), call)


def indexes(folder: Path) -> Fuzzer:
    """Indexes that a search kept: what is damaged is made anew, so that nothing is refused and nothing else may come out."""
    import torch

    from mmcl.api.errors import StageError
    from mmcl.model.frozen import Features
    from mmcl.screen import hushed
    from mmcl.use.nearest import Index, _keep, _kept

    features = {"audio": Features(torch.zeros(3, 0), torch.ones(3, 2), torch.ones(3, dtype=torch.bool))}
    place = folder / "index"
    _keep(place, Index(("a", "b", "c"), ("a", "b", "c"), ("a", "b", "c"), features), [])

    def read() -> None:
        with hushed():
            if _kept(place) is None:
                raise StageError("is damaged, and is made anew")

    return _folder_fuzzer(folder, _contents(folder), read)


FUZZERS: dict[str, Callable[[Path], Fuzzer]] = {
    "remote": remote,
    "uploaded": uploaded,
    "parts": parts,
    "columns": columns,
    "checkpoints": checkpoints,
    "indexes": indexes,
}
"""Name → what makes the fuzzer in an empty folder."""
