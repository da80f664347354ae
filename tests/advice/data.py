"""Offers of what reads recordings, folds and stores, and of networks and heads, followed; those of `mmcl.media` stand in media.py."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import mmcl
from mmcl.api import Layout, MmclError, SampleRef
from mmcl.data.folds import Fold, Inner, inner_folds, make_folds
from mmcl.data.readers import Limits, Readers
from mmcl.data.reading import read_source
from mmcl.data.remote import Cache, Remote
from mmcl.model.encoder import Encoder, build_encoder
from mmcl.model.keep import save_encoders
from mmcl.model.kept import save_heads
from mmcl.model.kept_network import load_networks, network_json, save_network
from mmcl.model.network import Network
from mmcl.plugins import plugins
from mmcl.recipe.plan import Part
from mmcl.runs import RunFolder
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.calls import call
from tests.advice.extras import begin_in_little_memory, brings, told, without
from tests.advice.media import MEDIA
from tests.advice.stages_runs import finished, run
from tests.test_folds import protocol
from tests.test_kept import TASKS, features_of, fitted

# ---------------------------------------------------------------------------------------------------------------- folds


def _people(groups: int) -> list[SampleRef]:
    return [SampleRef(f"r{row}", f"g{row}", {"audio": "a"}, {}) for row in range(groups)]


def _folds(k: int) -> None:
    folds = make_folds(protocol("k-fold", k=k), _people(3), range(3), 0)
    assert sorted(row for fold in folds for row in fold.test) == [0, 1, 2]


def _of_file(valid: float | str) -> None:
    """Six people in two folds of a file."""
    folds = make_folds(protocol("folds", valid=valid), _people(6), range(6), 0, {f"g{row}": str(row % 2) for row in range(6)})
    assert [(list(fold.test), len(fold.valid)) for fold in folds] == [([0, 2, 4], 1), ([1, 3, 5], 1)]


def _crossing(by: str, group: str) -> None:
    """Somebody in training who is in the test split too, where `group` is g0."""
    who = (("g0", "train"), ("g1", "valid"), (group, "test"))
    samples = [SampleRef(f"r{row}", one, {"audio": "a"}, {}, split) for row, (one, split) in enumerate(who)]
    (fold,) = make_folds(protocol("official", by=by), samples, range(3), 0)
    assert [list(side) for side in (fold.train, fold.valid, fold.test)] == [[0], [1], [2]]


def _parts(people: int, parts: int, hold: float | None = None) -> None:
    inner = inner_folds([Fold(0, tuple(range(people)), (), (people,))], Inner(parts, hold), "group", _people(people + 1), 0)
    assert sorted(row for fold in inner for row in fold.valid) == list(range(people))
    assert all(fold.train and bool(fold.held) == (hold is not None) for fold in inner)


FOLDS: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/data/folds.py make_folds",
        "use a k of",
        lambda folder: _folds(5),
        lambda folder: _folds(int(told(lambda: _folds(5), r"use a k of (\d+) at most"))),
    ),
    Row(
        "mmcl/data/folds.py inner_folds",
        "at most",
        lambda folder: _parts(4, 5),
        lambda folder: _parts(4, int(told(lambda: _parts(4, 5), r"use (\d+) at most"))),
    ),
    Row(
        "mmcl/data/folds.py inner_folds",
        "use more parts",
        lambda folder: _parts(3, 2, 0.2),
        lambda folder: _parts(3, 3, 0.2),
    ),
    Elsewhere(
        "mmcl/data/folds.py inner_folds",
        "use validation: fold",
        "tests/test_advice_data.py::test_a_sweep_of_too_few_people_for_parts_is_judged_by_the_validation_rows",
    ),
    Row(
        "mmcl/data/folds.py _from_file",
        "set valid to a share such as 0.2",
        lambda folder: _of_file("next"),
        lambda folder: _of_file(0.2),
    ),
    Row(
        "mmcl/data/folds.py _check",
        "mend the split, or allow it with protocol.by: sample",
        lambda folder: _crossing("group", "g0"),
        lambda folder: (_crossing("group", "g2"), _crossing("sample", "g0")),
    ),
    Elsewhere(
        "mmcl/data/labels.py _untaught",
        "move some of their groups to training",
        "tests/test_advice_data.py::test_a_class_that_is_not_taught_is_moved_to_training_or_left_out",
    ),
    Elsewhere(
        "mmcl/data/labels.py _untaught",
        "add recordings of others who have it",
        "tests/test_advice_data.py::test_a_class_of_one_person_in_folds_is_shown_by_others_or_left_out",
    ),
    Elsewhere(
        "mmcl/data/labels.py _untaught",
        "or leave the class out",
        "tests/test_advice_data.py::test_a_class_of_one_person_in_folds_is_shown_by_others_or_left_out",
    ),
]


# -------------------------------------------------------------------------------------------------------------- reading


class Numbers:
    """A dataset whose files hold a number each; `comma`: written with a decimal comma."""

    def __init__(self, folder: Path, comma: bool) -> None:
        self.folder, self.comma = folder, comma

    def read(self, id: str, source: str) -> float:
        text = (self.folder / f"{id}.txt").read_text(encoding="utf-8")
        return float(text.replace(",", ".") if self.comma else text)


def _number(folder: Path, text: str, comma: bool = False) -> None:
    (folder / "a.txt").write_text(text, encoding="utf-8")
    assert read_source(Numbers(folder, comma), "study", "a", "level", "a.txt") == 3.5


def _readers(folder: Path, workers: int) -> None:
    (folder / "readers").unlink(missing_ok=True)
    with Readers(workers, begin_in_little_memory, (folder, 1), Limits(10**9, 10**9, 60)) as readers:
        assert list(readers.read(range(8))) == list(range(1, 9))


READING: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/data/readers.py _why",
        "with fewer --workers",
        lambda folder: _readers(folder, 3),
        lambda folder: _readers(folder, 1),
    ),
    Elsewhere(
        "mmcl/data/reading.py _named",
        "give yourself the right to",
        "tests/test_reading.py::test_a_file_without_permission_is_the_files_fault_and_no_plug_ins",
    ),
    Row(
        "mmcl/data/reading.py _reason",
        "mend the file, or the plug-in where the file is right",
        lambda folder: _number(folder, "3,5"),
        lambda folder: (_number(folder, "3.5"), _number(folder, "3,5", comma=True)),
    ),
]


# --------------------------------------------------------------------------------------------------------------- stores


def _at(folder: Path, url: str) -> None:
    (folder / "notes.json").write_text("{}", encoding="utf-8")
    assert Remote(url.format(folder)).text("notes.json") == b"{}"


def _missing(folder: Path) -> None:
    with without("fsspec"):
        _at(folder, "file://{}")


def _installed(folder: Path) -> None:
    """What to install brings what each protocol needs; with it, files at a URL are read."""
    assert {"fsspec", "s3fs"} <= brings("remote")
    with without("fsspec"), pytest.raises(MmclError, match=r"pip install 'mmcl\[remote\]' 'gcsfs'$"):
        Remote("gs://bucket/x").text("notes.json")
    _at(folder, "file://{}")


def _cached(folder: Path, gigabytes: str, cache: str | None = "cache", others: bool = False) -> None:
    """Write 1,000 bytes into the usual cache; while another process reads as many of it, with `others`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.path.expanduser", lambda path: path)  # nobody has a home
        patch.setattr("mmcl.data.remote.ROOM_SECONDS", 0.05)
        patch.setenv("MMCL_CACHE_GB", gigabytes)
        patch.setenv("MMCL_CACHE", str(folder / cache) if cache else "")
        place = Cache.usual().folder / "a"
        place.parent.mkdir(parents=True, exist_ok=True)
        with (place.parent / "b").open("w+b") as read:
            if others:
                read.write(bytes(1000))
                read.flush()
                fcntl.flock(read, fcntl.LOCK_SH)
            with Cache.usual().room_for(place, 1000) as part:
                part.write_bytes(bytes(1000))
    assert place.stat().st_size == 1000
    assert place.is_relative_to(folder)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The URL of a folder that is served over HTTP."""
    (folder / "served").mkdir(exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMCL_CACHE", str(folder / "cache"))
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _over_http(folder: Path) -> None:
    with _served(folder) as url:
        call("upload", str(finished(folder).root), url)


def _to_what_is_served(folder: Path) -> None:
    """The streams that are put into the folder are found where it is served."""
    here = finished(folder).root
    call("upload", str(here), f"file://{folder / 'served'}")
    with _served(folder) as url:
        there = run(folder, "--stop-after", "prepare", "--prepared", url, name="there/run").root
    assert (there / "recordings.safetensors").read_bytes() == (here / "recordings.safetensors").read_bytes()
    assert not (there.parent / "prepared").exists()


STORES: list[Row | Elsewhere | NoOffer] = [
    NoOffer("mmcl/data/parts.py parts_of", "they are prepared anew", "says what is done; nothing is asked for"),
    Elsewhere(
        "mmcl/data/prepared.py refuse_linked",
        "move them here, or delete the link and run again",
        "tests/test_advice_data.py::test_streams_behind_a_link_are_moved_here_or_prepared_anew",
    ),
    Elsewhere(
        "mmcl/data/store.py changed",
        "delete the folder and run again to have some",
        "tests/test_advice_data.py::test_streams_without_checksums_or_with_a_changed_byte_are_deleted_and_run_again",
    ),
    Elsewhere(
        "mmcl/data/store.py changed",
        "is not what was written; delete",
        "tests/test_advice_data.py::test_streams_without_checksums_or_with_a_changed_byte_are_deleted_and_run_again",
    ),
    NoOffer("mmcl/data/store.py mapped_file", "cut short", "says how a file is damaged: 'cut' asks for nothing"),
    NoOffer("mmcl/data/store.py _place", "cut short", "says how a file is damaged: 'cut' asks for nothing"),
    Elsewhere(
        "mmcl/data/remote.py _object",
        "remove it there and upload the run again",
        "tests/test_remote.py::test_what_is_not_whole_at_a_url_is_removed_there_and_uploaded_again",
    ),
    Elsewhere(
        "mmcl/data/remote.py _at_hand",
        "remove it there and upload the run again",
        "tests/test_remote.py::test_what_is_not_whole_at_a_url_is_removed_there_and_uploaded_again",
    ),
    Elsewhere(
        "mmcl/data/remote.py __getitem__",
        "remove it there and upload the run again",
        "tests/test_remote.py::test_what_is_not_whole_at_a_url_is_removed_there_and_uploaded_again",
    ),
    Elsewhere(
        "mmcl/stages/elsewhere.py prepared_there",
        "remove it there and upload the run again",
        "tests/test_remote.py::test_what_is_not_whole_at_a_url_is_removed_there_and_uploaded_again",
    ),
    Elsewhere(
        "mmcl/data/store.py __init__",
        "remove it there and upload the run again",
        "tests/test_remote.py::test_what_is_not_whole_at_a_url_is_removed_there_and_uploaded_again",
    ),
    Row(
        "mmcl/data/remote.py split_url",
        "one begins with",
        lambda folder: _at(folder, "{}"),
        lambda folder: _at(folder, "file://{}"),
    ),
    Row("mmcl/data/remote.py _system", "pip install", _missing, _installed),
    Row(
        "mmcl/data/remote.py put",
        "nothing can be uploaded over HTTP; upload to the bucket, or to the folder (file:///…), that it serves",
        _over_http,
        _to_what_is_served,
    ),
    Row(
        "mmcl/data/remote.py usual",
        "name a folder that can be written in",
        lambda folder: _cached(folder, "1", cache=None),
        lambda folder: _cached(folder, "1"),
    ),
    Row(
        "mmcl/data/remote.py room_for",
        "to a larger number",
        lambda folder: _cached(folder, "1e-7"),
        lambda folder: _cached(folder, "1e-6"),
    ),
    Row(
        "mmcl/data/remote.py room_for",
        "or run fewer processes at once",
        lambda folder: _cached(folder, "1e-6", others=True),
        lambda folder: (_cached(folder, "1e-5", others=True), _cached(folder, "1e-6")),
    ),
    Elsewhere(
        "mmcl/data/remote.py changed",
        "delete it, and it is fetched again",
        "tests/test_remote.py::test_a_changed_file_of_the_cache_is_named_and_fetched_again_where_it_is_deleted",
    ),
]


# ------------------------------------------------------------------------------------------------- networks and heads

LAYOUT = Layout("signal", ("time", "channel"), {"channel": 3}, 50.0)
STAGE = RunFolder(Path("runs/NAME")).stage


def _encoder() -> tuple[Encoder, dict[str, object]]:
    """One of plug-ins that are there, and what encoders.json says of it."""
    offer = plugins().get("backbone", "tcn")
    params = offer.spec.params(channels=(4,))
    built = build_encoder("signal", LAYOUT, offer.spec, params, 0, hidden=4, width=4, normalise=True)
    part = Part("backbone", "tcn", offer.spec, params, offer.package, offer.version)
    return built, {"layout": LAYOUT.to_json(), "normalise": "channel", "backbone": part.to_json()}


def _save_encoders(folder: Path) -> Encoder:
    built, about = _encoder()
    projection = {"hidden": 4, "width": 4}
    save_encoders(
        folder / STAGE("pretrain", 0, 0), {"signal": built}, {"projection": projection, "modalities": {"signal": about}}
    )
    return built


def _loaded_encoders(folder: Path, stage: str) -> None:
    built = _save_encoders(folder)
    assert _alike(mmcl.load_encoders(folder / "runs" / "NAME" / stage)["signal"], built)


def _alike(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def _save_networks(folder: Path, *names: str) -> Network:
    """The network, under each of these names, in a run."""
    encoder, about = _encoder()
    offer, task = plugins().get("head", "mlp"), TASKS["single-label"]
    part = Part("head", "mlp", offer.spec, offer.spec.params(), offer.package, offer.version)
    network = Network({"signal": encoder}, offer.spec.build(part.params, task, {"signal": encoder.width}))
    config = {
        "name": "NAME",
        "modalities": {"signal": about},
        "projection": {"hidden": 4, "width": 4},
        "window": {},
        "supervise": {"precision": "float32"},
    }
    described = network_json(config, task, ["signal"], part, "supervised", None, fold=0, seed=0)
    for name in names:
        facts = {"task": task.name, "input": "signal", "head": name}
        save_network(folder / STAGE("supervise", 0, 0) / "models", f"emotion~signal~{name}", network, facts, 0.0, described)
    return network


def _networks(folder: Path, stage: str) -> None:
    network = _save_networks(folder, "mlp")
    (loaded,) = load_networks(folder / "runs" / "NAME" / stage)
    assert _alike(loaded.network, network)


def _one_of_two(folder: Path, which: str = "") -> None:
    network = _save_networks(folder, "mlp", "other")
    loaded = mmcl.load_encoders(which or folder / STAGE("supervise", 0, 0))
    assert _alike(loaded["signal"], network.encoders["signal"])


def _heads(folder: Path, stage: str) -> None:
    _save_networks(folder, "mlp")
    save_heads(folder / STAGE("probe", 0, 0), [fitted("linear", "single-label")])
    (head,) = mmcl.load_heads(folder / "runs" / "NAME" / stage)
    assert head.name == ("mlp" if stage.endswith("supervise") else "mine")


def _answered(standardise: str, groups: torch.Tensor | None) -> None:
    """Answers about 40 recordings by a head whose features are standardised so."""
    outputs = fitted("linear", "single-label", standardise).outputs(features_of(40, 3), groups)
    assert outputs.shape == (40, 3)
    assert np.ptp(outputs) > 0


def _pretrained(folder: Path) -> Path:
    return finished(folder).stage("pretrain", 0, 3)


def _encoders(folder: Path) -> None:
    encoders = mmcl.load_encoders(_pretrained(folder))
    assert {name: one.training for name, one in encoders.items()} == {"text": False, "audio": False}


HEADS: list[Row | Elsewhere | NoOffer] = [
    Elsewhere(
        "mmcl/model/compiled.py __call__",
        "leave its modality out of pretrain.compile",
        "tests/test_compiled.py::test_a_run_whose_network_cannot_be_translated_learns_without_pretrain_compile",
    ),
    Elsewhere(
        "mmcl/model/encoder.py _sequence_part",
        "use one that does, or another loss",
        "tests/test_pretraining.py::test_a_backbone_that_keeps_no_time_is_named",
    ),
    Elsewhere(
        "mmcl/model/encoder.py _sequence_part",
        "make them alike by the backbone's options",
        "tests/test_pretraining.py::test_a_backbone_whose_steps_and_vector_differ_in_width_is_named",
    ),
    Row(
        "mmcl/model/keep.py describe_encoders",
        "name the 'pretrain' folder of a run, such as runs/NAME/fold-00/seed-0/pretrain",
        lambda folder: _loaded_encoders(folder, "fold-00/seed-0"),
        lambda folder: _loaded_encoders(folder, "fold-00/seed-0/pretrain"),
    ),
    Row(
        "mmcl/model/kept.py outputs",
        "say which recordings are of one group",
        lambda folder: _answered("group", None),
        lambda folder: _answered("group", torch.arange(40) % 4),
    ),
    Row(
        "mmcl/model/kept.py load_heads",
        "name the 'probe' folder of a run, such as runs/NAME/fold-00/seed-0/probe, or 'supervise'",
        lambda folder: _heads(folder, "fold-00/seed-0"),
        lambda folder: (_heads(folder, "fold-00/seed-0/probe"), _heads(folder, "fold-00/seed-0/supervise")),
    ),
    Row(
        "mmcl/model/joint.py load_joint",
        "read it with mmcl.load_encoders",
        lambda folder: mmcl.load_joint(_pretrained(folder)),
        _encoders,
    ),
    Elsewhere(
        "mmcl/model/keep.py load_encoders",
        "read it with mmcl.load_joint",
        "tests/test_stages.py::test_a_pretext_learns_one_vector_of_all_modalities_and_is_probed_and_reported",
    ),
    Elsewhere(
        "mmcl/model/kept.py load_heads",
        "has none until it is deleted and its recipe run again",
        "tests/test_advice_data.py::test_a_probe_of_an_older_mmcl_has_heads_once_it_is_deleted_and_run_again",
    ),
    Row(
        "mmcl/model/kept_network.py load_networks",
        "name the 'supervise' folder of a run, or one of its models/TASK~INPUT~HEAD",
        lambda folder: _networks(folder, "fold-00/seed-0"),
        lambda folder: [_networks(folder, f"fold-00/seed-0/supervise{one}") for one in ("", "/models/emotion~signal~mlp")],
    ),
    Row(
        "mmcl/model/kept_network.py load_trained",
        "name one, such as",
        _one_of_two,
        lambda folder: _one_of_two(folder, told(lambda: _one_of_two(folder), r"name one, such as (.*)$")),
    ),
    Row(
        "mmcl/model/scale.py _within",
        "use standardise: train",
        lambda folder: _answered("group", torch.tensor([0] * 39 + [1])),
        lambda folder: _answered("train", torch.tensor([0] * 39 + [1])),
    ),
]

DATA: list[Row | Elsewhere | NoOffer] = [*FOLDS, *READING, *STORES, *MEDIA, *HEADS]
