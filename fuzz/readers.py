"""Fuzzers of what reads one file: recordings, tables, corpora, prepared stores, tensors, recipes, overrides, a sweep's storage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmcl.api.dataset import Dataset

from . import draws, edits
from .machine import Fuzzer

Reader = Callable[[Path], Any]


def _files(folder: Path, files: Sequence[tuple[str, bytes, Reader]], apart: bool = False) -> Fuzzer:
    """Whole files, by name, each with what reads it; bytes are edited."""

    def call(case: tuple[int, Any]) -> Any:
        name, content, read = files[case[0]]
        path = folder / name
        path.write_bytes(edits.tampered_bytes(content, case[1]))
        return read(path)

    return Fuzzer(draws.tuples(draws.integers(0, len(files) - 1), edits.byte_edits), call, apart)


def _bytes_of(folder: Path, name: str, write: Callable[[Path], Any]) -> bytes:
    path = folder / name
    write(path)
    return path.read_bytes()


def arrays(folder: Path) -> Fuzzer:
    """Arrays: npy, npz, safetensors; weights."""
    from safetensors.numpy import save_file
    from torch import save, zeros

    from mmcl.media import array_shape, read_array, read_weights

    values = np.arange(60, dtype=np.float32).reshape(20, 3)
    save_weights: Reader = lambda path: save({"a": zeros(3, 2)}, path)  # noqa: E731 - a row of the table below
    writers: tuple[tuple[str, Reader, tuple[Reader, ...]], ...] = (
        ("a.npy", lambda path: np.save(path, values), (read_array, array_shape)),
        ("a.npz", lambda path: np.savez(path, a=values), (read_array, array_shape)),
        ("b.npz", lambda path: np.savez_compressed(path, a=values), (read_array, array_shape)),
        ("a.safetensors", lambda path: save_file({"a": values}, str(path)), (read_array, array_shape, read_weights)),
        ("a.pt", save_weights, (read_weights,)),
    )
    return _files(folder, [(name, _bytes_of(folder, name, write), read) for name, write, reads in writers for read in reads])


def matlab(folder: Path) -> Fuzzer:
    """Arrays of MATLAB files, each case in a process of its own: scipy's reader may take it down."""
    from scipy.io import savemat

    from mmcl.media import array_shape, read_array, read_mat

    values = {"a": np.arange(60, dtype=np.float32).reshape(20, 3)}
    plain = _bytes_of(folder, "a.mat", lambda path: savemat(path, values))
    packed = _bytes_of(folder, "b.mat", lambda path: savemat(path, values, do_compression=True))
    files: list[tuple[str, bytes, Reader]] = [("a.mat", plain, partial(read_mat, key="a"))]
    files += [
        (name, content, read) for name, content in (("a.mat", plain), ("b.mat", packed)) for read in (read_array, array_shape)
    ]
    return _files(folder, files, apart=True)


def tables(folder: Path) -> Fuzzer:
    """Tables of numbers, tables of recordings, transcripts, lexica."""
    from mmcl_univa.affect import read_lexicon

    from mmcl.media import read_listing, read_table, read_words

    rows = "\n".join(f"{i},{i / 30:.3f},{i % 2},1,0.9,{i * 0.1}" for i in range(12))
    face = f"frame,timestamp,face_id,success,confidence,x_0\n{rows}\n".encode()
    listing = b'id,file,speaker,label,split\na,"a.wav",1,happy,train\nb,b.wav,2,sad,test\n'
    lines = b'{"id": "a", "file": "a.wav", "labels": ["x", 1]}\n{"id": "b", "file": "b.wav", "labels": null}\n'
    words = json.dumps({"segments": [{"words": [{"word": "a", "start": 0, "end": 1}, {"word": "b", "start": 1, "end": 2.5}]}]})
    clock = b"WEBVTT\n\n1\n00:00:01,000 --> 00:00:02,500\nhello there\n\n00:01.000 --> 00:02.000\nyou\n"
    return _files(
        folder,
        [
            ("t.csv", face, read_table),
            ("t.tsv", face.replace(b",", b"\t"), read_table),
            ("l.csv", listing, read_listing),
            ("l.txt", listing.replace(b",", b";"), read_listing),
            ("m.csv", listing.decode().encode("utf-16"), read_listing),
            ("l.jsonl", lines, read_listing),
            ("w.json", words.encode(), read_words),
            ("w.srt", clock, read_words),
            ("w.vtt", clock, read_words),
            ("w.txt", b"hello there you", read_words),
            ("w.csv", b"word,start,end\na,0,1\nb,1,2\n", read_words),
            ("v.txt", b"word\tvalence\tarousal\tdominance\nhappy\t1\t0.7\t0.8\nsad\t0.2\t0.3\t0.2\n", read_lexicon),
        ],
    )


def json_words(folder: Path) -> Fuzzer:
    """JSON of transcripts and listings, edited as JSON."""
    from mmcl.media import read_listing, read_words

    words = {"segments": [{"words": [{"word": "a", "start": 0, "end": 1}, {"word": "b", "start": 1, "end": 2.5}]}]}
    row = {"id": "a", "file": "a.wav", "labels": ["x", 1], "more": {"a": 1}}

    def call(case: tuple[bool, Any]) -> Any:
        path = folder / ("w.json" if case[0] else "l.jsonl")
        path.write_text(edits.tampered_json(words if case[0] else row, case[1]), encoding="utf-8", errors="surrogatepass")
        return read_words(path) if case[0] else read_listing(path)

    return Fuzzer(draws.tuples(draws.booleans(), edits.json_edits), call)


def sounds(folder: Path) -> Fuzzer:
    """Sound files and their heads."""
    import soundfile

    from mmcl.media import read_audio, sound_header

    samples = (np.sin(np.arange(800) / 9) * 0.5).astype(np.float32)
    kinds = (
        ("a.wav", "PCM_16"),
        ("b.wav", "FLOAT"),
        ("a.flac", "PCM_16"),
        ("a.ogg", "VORBIS"),
        ("a.aiff", "PCM_16"),
        ("a.au", "PCM_16"),
    )
    files: list[tuple[str, bytes, Reader]] = []
    for name, subtype in kinds:
        content = _bytes_of(folder, name, lambda path, subtype=subtype: soundfile.write(path, samples, 8000, subtype=subtype))
        files += [(name, content, read_audio), (name, content, sound_header)]
    return _files(folder, files)


def films(folder: Path) -> Fuzzer:
    """Films, their heads and their sound."""
    from mmcl.api.raw import Audio
    from mmcl.media import film_header, has_sound, nodding_oval, read_film, read_sound, write_film

    sound = Audio((np.sin(np.arange(4000) / 9) * 0.5).astype(np.float32), 8000)
    frames = nodding_oval(6, 12.0, 16, 1.0, 30, (220, 180, 150), (20, 30, 60))
    readers: tuple[Reader, ...] = (
        partial(read_film, size=(8, 8), rate=12.0),
        partial(read_film, size=(8, 8), rate=12.0, start=0.1, end=0.3),
        film_header,
        has_sound,
        read_sound,
    )
    files: list[tuple[str, bytes, Reader]] = []
    for name in ("a.mp4", "a.avi"):
        content = _bytes_of(folder, name, lambda path: write_film(path, frames, 12, sound))
        files += [(name, content, read) for read in readers]
    return _files(folder, files)


def _read_all(dataset: Dataset) -> None:
    """List a dataset and read a source of each kind, as the stages do."""
    samples = dataset.samples()
    for source in sorted({source for sample in samples for source in sample.sources})[:3]:
        first = next(sample for sample in samples if source in sample.sources)
        dataset.read(first.id, source)


def corpora(folder: Path) -> Fuzzer:
    """Files of corpora: EmoBank's table, computational sequences (csd), pickles for the converter, what it converted, folds."""
    import pickle

    from mmcl_emobank.sentences import EmoBank
    from mmcl_mosei.convert import convert
    from mmcl_mosei.csd import Sequences
    from mmcl_mosei.pickles import read_pickle

    from mmcl.plugins import plugins

    bank = plugins().get("dataset", "emobank").spec
    bank.sample(folder / "bank", 10, 0)
    table = (folder / "bank" / "emobank.csv").read_bytes()
    rng = np.random.default_rng(0)
    part = {
        "text": rng.normal(size=(3, 5, 4)).astype(np.float32),
        "audio": rng.normal(size=(3, 5, 2)).astype(np.float32),
        "vision": rng.normal(size=(3, 5, 2)).astype(np.float32),
        "labels": rng.normal(size=(3, 1, 1)),
        "id": ["a$_$0", "a$_$1", "b$_$0"],
    }
    whole = pickle.dumps({"train": part, "valid": {**part, "id": ["c$_$0", "c$_$1", "d$_$0"]}}, protocol=2)
    (folder / "csd").mkdir(exist_ok=True)
    sequence = _bytes_of(folder / "csd", "labels.csd", _write_csd)

    def bank_of(path: Path) -> None:
        _read_all(EmoBank(bank.params(), path.parent))

    def csd_of(path: Path) -> None:
        sequences = Sequences(path.parent, {})
        for source in sequences.files:
            sequences.column_names(source)
            for video in sequences.videos(source):
                sequences.read(source, video)

    files: list[tuple[str, bytes, Reader]] = [
        ("bank/emobank.csv", table, bank_of),
        ("a.pkl", whole, read_pickle),
        ("a.pkl", whole, lambda path: convert(path, folder / "converted")),
        ("csd/labels.csd", sequence, csd_of),
    ]
    return _files(folder, files)


def _write_csd(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for video in ("v1", "v2"):
            group = file.create_group(f"All Labels/data/{video}")
            group["features"], group["intervals"] = np.ones((4, 7), np.float32), np.arange(8.0).reshape(4, 2)
        file["All Labels/metadata/dimension names"] = [json.dumps(["sentiment", "happy"])]


def converted(folder: Path) -> Fuzzer:
    """What the converter of CMU-MOSEI wrote, edited as JSON and as safetensors; pickles of odd values; folds."""
    import pickle

    from mmcl_mosei.convert import convert

    from mmcl.plugins import plugins

    rng = np.random.default_rng(0)
    part: dict[str, Any] = {
        "text": rng.normal(size=(3, 5, 4)).tolist(),
        "audio": rng.normal(size=(3, 5, 2)).tolist(),
        "vision": rng.normal(size=(3, 5, 2)).tolist(),
        "labels": rng.normal(size=(3, 7)).tolist(),
        "id": ["a$_$0", "a$_$1", "b$_$0"],
    }
    pickled = {"train": part, "valid": {**part, "id": ["c$_$0", "c$_$1", "d$_$0"]}}
    (folder / "a.pkl").write_bytes(pickle.dumps(pickled))
    convert(folder / "a.pkl", folder / "out")
    index = json.loads((folder / "out" / "index.json").read_text(encoding="utf-8"))
    tensors = (folder / "out" / "arrays.safetensors").read_bytes()
    spec = plugins().get("dataset", "cmu-mosei").spec
    params = spec.params(widths=(4, 2, 2))

    def call(case: tuple[int, Any]) -> None:
        if case[0] == 0:  # a pickle whose values are odd
            values = json.loads(
                edits.tampered_json(
                    pickled, [one for one in case[1] if repr(edits.LONG) not in repr(one) and repr(edits.DEEP) not in repr(one)]
                )
            )
            (folder / "b.pkl").write_bytes(pickle.dumps(values))
            convert(folder / "b.pkl", folder / "converted")
            return
        text, content = json.dumps(index), tensors
        if case[0] == 1:
            text = edits.tampered_json(index, case[1])
        else:
            content = edits.tampered_tensors(tensors, case[1])
        (folder / "out" / "index.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        (folder / "out" / "arrays.safetensors").write_bytes(content)
        _read_all(spec.build(params, folder / "out"))

    return Fuzzer(draws.tuples(draws.integers(0, 2), edits.json_edits), call)


def stores(folder: Path) -> Fuzzer:
    """Prepared stores: store.json and the index and shards beside it, as JSON, as tensors and as bytes; every stream is read."""
    from mmcl.api.kinds import Layout
    from mmcl.api.raw import Timed
    from mmcl.data.store import Store, StoreWriter, mapped

    kept: dict[str, dict[str, bytes]] = {}
    for name, rate in (("even", 25.0), ("timed", None)):
        writer = StoreWriter(folder / name, Layout("sequence", ("time", "channel"), {"channel": 3}, rate))
        for row in range(3):
            values = np.arange(12, dtype=np.float32).reshape(4, 3) + row
            times = np.stack([np.arange(4.0), np.arange(1, 5.0)], axis=1)
            writer.add(row, values if rate else Timed(values, times))
        writer.close({"key": "k", "counts": {"a": 1}, "skipped": [{"id": "x", "where": "y", "reason": "z"}]})
        kept[name] = {path.name: path.read_bytes() for path in sorted((folder / name).iterdir())}

    def call(case: tuple[str, int, str, Any, Any]) -> None:
        which, file, how, json_edits, byte_edits = case
        for name, content in kept[which].items():
            (folder / which / name).write_bytes(content)
        name = sorted(kept[which])[file % len(kept[which])]
        content = kept[which][name]
        if how == "bytes":
            content = edits.tampered_bytes(content, byte_edits)
        elif name.endswith(".json"):
            content = edits.tampered_json(json.loads(content), json_edits).encode("utf-8", "surrogatepass")
        else:
            content = edits.tampered_tensors(content, json_edits)
        (folder / which / name).write_bytes(content)
        if name.startswith("shard"):
            mapped(folder / which / name)
        store = Store(folder / which)
        for row in store.rows:
            np.asarray(store.values(row)).sum()
            store.seconds(row)

    how = draws.sampled_from(["form", "form", "bytes"])
    return Fuzzer(
        draws.tuples(draws.sampled_from(sorted(kept)), draws.integers(0, 9), how, edits.json_edits, edits.byte_edits), call
    )


def tensors(folder: Path) -> Fuzzer:
    """Safetensors files, as tensors, as arrays and mapped."""
    from safetensors.numpy import save_file

    from mmcl.data.store import mapped
    from mmcl.model.frozen import load_features
    from mmcl.runs import read_arrays, read_tensors

    path = folder / "a.safetensors"
    values = {
        "text/vector": np.ones((4, 3), np.float32),
        "text/projection": np.ones((4, 2), np.float32),
        "text/present": np.ones(4, bool),
    }
    save_file(values, str(path))
    content = path.read_bytes()
    readers: tuple[Reader, ...] = (read_arrays, read_tensors, mapped, load_features)

    def call(case: tuple[int, bool, Any, Any]) -> None:
        reader, form, json_edits, byte_edits = case
        path.write_bytes(edits.tampered_tensors(content, json_edits) if form else edits.tampered_bytes(content, byte_edits))
        readers[reader](path)

    return Fuzzer(draws.tuples(draws.integers(0, len(readers) - 1), draws.booleans(), edits.json_edits, edits.byte_edits), call)


def recipes(folder: Path) -> Fuzzer:
    """Recipes, edited as text and as values, and what is laid over them with --set."""
    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe
    from mmcl.recipe.shipped import find, names

    texts = [find(name).read_text(encoding="utf-8") for name in names()]
    texts = [text for text in texts if "base:" not in text]
    values = [parse_recipe(text, "r.yaml").values for text in texts]
    keys = sorted({key for value in values for key in _keys(value)})
    signs = draws.sampled_from(
        [
            *"[]{}:#&*!|>'\"%@`-?,\n\t \\",
            "null",
            "~",
            "1e999",
            "9" * 4400,
            "[" * 120,
            "\ud800",
            "\x00",
            "\u2028",
            "<<",
            "a: &b [*b]",
        ]
    )
    overrides = draws.tuples(
        draws.sampled_from(keys),
        draws.one_of(
            draws.sampled_from(edits.VALUES).map(lambda value: json.dumps(value)[:6000]),
            draws.text(max_size=8),
            draws.lists(signs, max_size=3).map("".join),
            draws.integers().map(str),
        ),
    ).map("=".join)

    def call(case: tuple[int, str, Any, Any, list[str]]) -> None:
        which, how, json_edits, text_edits, sets = case
        text = texts[which]
        if how == "text":
            for at, sign in text_edits:
                place = at % (len(text) + 1)
                text = text[:place] + sign + text[place + at % 3 :]
        elif how == "values":
            text = edits.tampered_json(_plain(values[which]), json_edits)
        make_plan(parse_recipe(text, "r.yaml", tuple(sets), folder=folder), folder, overrides=tuple(sets))

    texts_edits = draws.lists(draws.tuples(edits.numbers, signs), min_size=1, max_size=3)
    how = draws.sampled_from(["text", "values", "set", "set"])
    case = draws.tuples(
        draws.integers(0, len(texts) - 1), how, edits.json_edits, texts_edits, draws.lists(overrides, max_size=2)
    )
    return Fuzzer(case, call)


def _keys(value: Any, at: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    return [key for name, inner in value.items() for key in (f"{at}{name}", *_keys(inner, f"{at}{name}."))]


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def sweeps(folder: Path) -> Fuzzer:
    """A sweep's folder: its journal, sweep.json, trials.json; edited as JSON lines and as bytes."""
    from mmcl.review.runs import runs_in
    from mmcl.search.study import journal, mend, open_study, results_of

    out = folder / "sweep"
    out.mkdir(exist_ok=True)
    study = open_study(out, "accuracy")
    for number in range(3):
        trial = study.ask()
        trial.suggest_float("pretrain.optimizer.lr", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("window.seconds", [1, 2])
        trial.set_user_attr("seconds", 1.0)
        study.tell(trial, 0.5 + 0.1 * number)
    lines = journal(out).read_text(encoding="utf-8").splitlines()
    about = {"format": 1, "mmcl": "0", "name": "s", "keys": {"space": "a"}, "opened": [1], "space": {}}
    trials = {
        "format": 1,
        "name": "s",
        "metric": "accuracy",
        "trials": [{"number": 0, "state": "done"}],
        "final": {"mean": 0.5},
    }
    (out / ".mmcl").write_text("sweep\n", encoding="utf-8")

    def call(case: tuple[str, int, Any, Any]) -> None:
        what, at, json_edits, byte_edits = case
        text = "\n".join(lines) + "\n"
        if what == "line":
            number = at % len(lines)
            text = (
                "\n".join([*lines[:number], edits.tampered_json(json.loads(lines[number]), json_edits), *lines[number + 1 :]])
                + "\n"
            )
        content = text.encode("utf-8", "surrogatepass")
        if what == "bytes":
            content = edits.tampered_bytes(content, byte_edits)
        if what in ("line", "bytes"):
            journal(out).write_bytes(content)
            mend(journal(out))
            results_of(open_study(out, "accuracy"))
            return
        (out / "sweep.json").write_text(
            edits.tampered_json(about, json_edits) if what == "sweep" else json.dumps(about), encoding="utf-8"
        )
        (out / "trials.json").write_text(
            edits.tampered_json(trials, json_edits) if what == "trials" else json.dumps(trials), encoding="utf-8"
        )
        runs_in(folder)

    what = draws.sampled_from(["line", "line", "bytes", "sweep", "trials"])
    return Fuzzer(draws.tuples(what, draws.integers(0, 99), edits.json_edits, edits.byte_edits), call)


FUZZERS: dict[str, Callable[[Path], Fuzzer]] = {
    "arrays": arrays,
    "matlab": matlab,
    "tables": tables,
    "json-words": json_words,
    "sounds": sounds,
    "films": films,
    "corpora": corpora,
    "converted": converted,
    "stores": stores,
    "tensors": tensors,
    "recipes": recipes,
    "sweeps": sweeps,
}
"""Name → what makes the fuzzer in an empty folder."""
