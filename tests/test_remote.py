"""Prepared streams at a URL: equal runs, a cache that keeps to its size, and a sentence for everything that can be wrong there."""

from __future__ import annotations

import functools
import http.server
import json
import multiprocessing
import os
import shutil
import socket
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmcl.api import Layout, MmclError, StageError
from mmcl.api.raw import Timed
from mmcl.cli import main
from mmcl.data import remote as module
from mmcl.data.prepared import load_prepared
from mmcl.data.remote import Cache, Remote, open_store
from mmcl.data.store import Store, StoreWriter
from mmcl.media.files import cache_root
from mmcl.runs import RunFolder, digest, locked, write_arrays
from mmcl.stages.prepare import prepare
from mmcl.stages.pretrain import pretrain
from mmcl.use.upload import upload
from tests.conftest import LEAST

RECIPE = (
    "format: 1\nname: tiny\nseed: 3\ndataset: {use: toy, samples: 48, speakers: 6}\n"
    + LEAST.replace("dropout: 0.1", "dropout: 0.0")
    + "pretrain: {batch_size: 8, epochs: 1, optimizer: {use: sgd, lr: 1e-2}}\nprotocol: {use: official}\n"
)
LAYOUT = Layout(kind="sequence", axes=("time", "channel"), sizes={"channel": 3}, rate=10.0)
WHERE = "toy/some-0123"


@pytest.fixture(autouse=True)
def at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bucket():
    """The URL of a bucket of an object store on loopback."""
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", host)
        boto3.client("s3").create_bucket(Bucket="streams")
        yield "s3://streams/prepared"
    server.stop()


@pytest.fixture(scope="module")
def prepared(tiny_plan, tmp_path_factory):
    """A run that is prepared, its streams in many small shards."""
    run = RunFolder(tmp_path_factory.mktemp("here") / "runs" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.data.store.SHARD_BYTES", 1_000)
        prepare(tiny_plan(text=RECIPE), run)
    return run


def streams(rng, n=40):
    return [rng.normal(size=(5 + k % 4, 3)).astype(np.float32) for k in range(n)]


def laid(folder: Path, timed: bool = False, shard_bytes: int = 200) -> tuple[str, list]:
    """A store of 40 streams, uploaded into a folder; its URL and the streams."""
    written = streams(np.random.default_rng(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.data.store.SHARD_BYTES", shard_bytes)
        writer = StoreWriter(folder / "here" / "some-0123", LAYOUT)
        for row, one in enumerate(written):
            times = np.stack([np.arange(len(one)), np.arange(len(one)) + 1.5], 1)
            writer.add(row, Timed(one, times) if timed else one)
        writer.close({"key": "0123"})
    from mmcl.use.upload import _put_store

    url = f"file://{folder / 'there'}"
    _put_store(Remote(url), WHERE, Store(folder / "here" / "some-0123"), folder, "some")
    return url, written


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and goes wrong as it is told."""

    status, times, asked = 500, 0, 0
    cut: int | None = None

    def do_GET(self):
        cls = type(self)
        cls.asked += "shard" in self.path
        if "shard" in self.path and cls.times:
            cls.times -= 1
            self.send_error(cls.status)
        elif "shard" in self.path and cls.cut is not None:
            self.send_response(200)
            self.send_header("Content-Length", str(cls.cut + 100))
            self.end_headers()
            self.wfile.write(b"x" * cls.cut)
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder that is served over HTTP: its URL, the streams, and who serves it."""
    _, written = laid(tmp_path)
    handler = type("Own", (Handler,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(tmp_path / "there")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", written, handler
    server.shutdown()
    server.server_close()


def small(tmp_path: Path, most: int = 10**9) -> Cache:
    return Cache(tmp_path / "small", most)


def taken(cache: Cache) -> int:
    by_file = {}  # one that is renamed while names are read has two
    with locked(cache.folder / ".lock"):
        for path in cache.folder.rglob("*"):
            with suppress(FileNotFoundError):
                status = path.lstat()
                by_file[status.st_ino] = status.st_size if path.is_file() else 0
    return sum(by_file.values())


# ------------------------------------------------------------------------------------------------------------------ runs


def test_a_run_from_a_bucket_reads_no_recording_and_is_the_run_of_the_folder_to_the_bit(
    tiny_plan, prepared, bucket, tmp_path, monkeypatch
):
    plan = tiny_plan(text=RECIPE)
    lines = upload(prepared.root, bucket)
    assert "43" not in lines[-1]
    assert "48 recordings" in lines[-1]
    assert all("there already" in line for line in upload(prepared.root, bucket)[:-1])
    for name in ("open_dataset", "listed", "_make_store"):
        monkeypatch.setattr(f"mmcl.stages.prepare.{name}", lambda *a, **k: pytest.fail("a recording is looked for"))
    there = RunFolder(tmp_path / "runs" / "tiny", remote=bucket)
    prepare(plan, there)
    pretrain(plan, there)
    here = RunFolder(prepared.root)
    pretrain(plan, here)
    weights = [run.stage("pretrain", 0, 3) / "encoders.safetensors" for run in (here, there)]
    assert digest(weights[0]) == digest(weights[1])
    for name in ("folds.json", "recordings.safetensors"):
        assert digest(here.root / name) == digest(there.root / name)
    assert not (tmp_path / "runs" / "prepared").exists()
    stores = load_prepared(there).stores
    assert all(store.changed() == [] for store in stores.values())
    assert stores["text"].durations().tolist() == load_prepared(here).stores["text"].durations().tolist()


def test_later_commands_find_the_url_in_the_environment_and_a_run_of_somebody_else_reaches_no_network(
    prepared, tmp_path, monkeypatch
):
    shutil.copytree(prepared.root, tmp_path / "runs" / "tiny")
    url = f"file://{tmp_path / 'there'}"
    upload(prepared.root, url)
    alone = tmp_path / "runs" / "tiny"
    with pytest.raises(MmclError, match=r"streams are not there; .* give the URL .*MMCL_PREPARED"):
        load_prepared(RunFolder(alone))
    monkeypatch.setenv("MMCL_PREPARED", url)
    assert sorted(load_prepared(RunFolder(alone)).stores) == ["audio", "text"]
    assert RunFolder(alone, alone.parent / "prepared").remote is None


def test_what_was_never_uploaded_is_named_with_what_to_do(tiny_plan, prepared, tmp_path):
    url = f"file://{tmp_path / 'there'}"
    run = RunFolder(tmp_path / "run", remote=url)
    with pytest.raises(MmclError, match=r"has no recordings of 'toy' with these options.*mmcl upload"):
        prepare(tiny_plan(text=RECIPE), run)
    upload(prepared.root, url)
    with pytest.raises(MmclError, match=r"no streams of 'text' by 'hashed-words' with these options.*mmcl upload"):
        prepare(tiny_plan("modalities.text.features.dim=5", text=RECIPE), run)
    listing = next((tmp_path / "there").rglob("listing.json"))
    about = json.loads(listing.read_text())
    about["recordings"]["sha256"] = "0" * 64
    listing.write_text(json.dumps(about))
    with pytest.raises(MmclError, match="holds other recordings than"):
        upload(prepared.root, url)


def _lists_no_index(about, folder):
    del about["files"]["index.safetensors"]


def _has_another_index(about, folder):
    write_arrays(folder / "index.safetensors", {"index": np.zeros((3, 3), np.int64)})
    about["files"]["index.safetensors"] = entry_of(folder / "index.safetensors")


def _has_another_shard(about, folder):
    write_arrays(folder / "shard-00000.safetensors", {"values": np.zeros((3, 9), np.float32)})
    about["files"]["shard-00000.safetensors"] = entry_of(folder / "shard-00000.safetensors")


def _has_another_key(about, folder):
    store = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**store, "key": "another"}))
    about["key"], about["files"]["store.json"] = "another", entry_of(folder / "store.json")


def entry_of(path):
    return {"bytes": path.stat().st_size, "sha256": digest(path)}


@pytest.mark.parametrize("harm", [None, _lists_no_index, _has_another_index, _has_another_shard, _has_another_key])
def test_what_is_not_whole_at_a_url_is_removed_there_and_uploaded_again(harm, tiny_plan, prepared, tmp_path):
    """What the sentence says to do, of a file that it names, or of a store."""
    url = f"file://{tmp_path / 'there'}"
    upload(prepared.root, url)
    folder = next((tmp_path / "there").rglob("log-mel-*"))
    if harm is None:
        spoilt = next((tmp_path / "there").rglob("listing.json"))
        spoilt.write_text("{}")
    else:
        spoilt, about = folder, json.loads((folder / "remote.json").read_text())
        harm(about, folder)
        (folder / "remote.json").write_text(json.dumps(about))

    def values(run):
        store = load_prepared(run).stores["audio"]
        return [store.values(row).tolist() for row in store.rows.tolist()]

    def fetched(name):
        run = RunFolder(tmp_path / name, remote=url)
        prepare(tiny_plan(text=RECIPE), run)
        return values(run)

    with pytest.raises(
        MmclError, match=rf"^{url}\S*/{spoilt.name}: is (not|of other) .*; remove it there and upload the run again$"
    ):
        fetched("before")
    shutil.rmtree(spoilt) if spoilt.is_dir() else spoilt.unlink()
    upload(prepared.root, url)
    assert fetched("after") == values(prepared)


# ----------------------------------------------------------------------------------------------------------------- cache


@pytest.mark.parametrize("timed", [False, True])
def test_streams_from_a_url_are_those_of_the_folder(tmp_path, timed):
    url, written = laid(tmp_path, timed)
    store, local = open_store(Remote(url), WHERE, small(tmp_path)), Store(tmp_path / "here" / "some-0123")
    assert not list(store.folder.glob("shard-*")), "nothing is fetched before it is asked for"
    assert store.durations().tolist() == local.durations().tolist()
    assert [store.seconds(row) for row in range(5)] == [local.seconds(row) for row in range(5)]
    assert not list(store.folder.glob("shard-*")), "lengths are known without"
    for row, one in enumerate(written):
        assert np.array_equal(store.values(row), one)
        assert np.array_equal(store.values(row, 1, 3), one[1:3])
        assert (store.times(row) is None) == (not timed)
    assert store.changed() == []


def test_the_cache_keeps_to_its_size_and_never_takes_away_what_is_in_use(tmp_path):
    url, written = laid(tmp_path)
    cache = small(tmp_path, 5_000)
    store = open_store(Remote(url), WHERE, cache)
    in_use = store.values(0)
    first = store.folder / "shard-00000.safetensors"
    for row in np.random.default_rng(1).permutation(40).tolist():
        assert np.array_equal(store.values(row), written[row])
        assert taken(cache) <= 5_000
        assert first.exists()
    assert np.array_equal(in_use, written[0])
    there = {path.name for path in store.folder.glob("shard-*")}
    assert 1 < len(there) < int(store.shards.max()), "the last ones stay"
    del in_use
    for row in range(39, 10, -1):
        store.values(row)
    assert not first.exists(), "the one used longest ago goes first"


def test_shards_in_use_that_fill_the_cache_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOM_SECONDS", 0.1)
    url, _ = laid(tmp_path)
    store = open_store(Remote(url), WHERE, small(tmp_path, 5_000))
    with pytest.raises(MmclError, match="in use leave no room for .* MMCL_CACHE_GB"):
        [store.values(row) for row in range(40)]
    tiny = open_store(Remote(laid(tmp_path / "large", shard_bytes=10**6)[0]), WHERE, small(tmp_path / "tiny", 3_000))
    with pytest.raises(MmclError, match=r"shard-00000.safetensors: has .* bytes, and the cache .* holds at most 3,000"):
        tiny.values(0)


def read_many(url: str, folder: Path, seed: int, answers) -> None:
    """Reads streams in an order of its own, in a process of its own."""
    cache = Cache(folder, 5_000)
    store, most, wrong = open_store(Remote(url), WHERE, cache), 0, 0
    written = streams(np.random.default_rng(0))
    for row in np.random.default_rng(seed).integers(0, 40, 150).tolist():
        wrong += not np.array_equal(store.values(row), written[row])
        most = max(most, taken(cache))
    answers.put((wrong, most))


def test_several_processes_share_one_small_cache(tmp_path):
    url, _ = laid(tmp_path)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    jobs = [context.Process(target=read_many, args=(url, tmp_path / "small", seed, answers)) for seed in range(3)]
    for job in jobs:
        job.start()
    results = [answers.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(30)
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert all(wrong == 0 and most <= 5_000 for wrong, most in results)


def test_a_changed_file_of_the_cache_is_named_and_fetched_again_where_it_is_deleted(tmp_path):
    url, written = laid(tmp_path)
    opened = partial(open_store, Remote(url), WHERE)
    path = opened(small(tmp_path)).folder / "shard-00000.safetensors"
    opened(small(tmp_path)).values(0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert opened(small(tmp_path)).changed() == [f"{path} is not what was fetched; delete it, and it is fetched again"]
    path.unlink()
    again = opened(small(tmp_path))
    assert again.changed() == []
    assert all(np.array_equal(again.values(row), one) for row, one in enumerate(written))


def test_what_a_killed_process_left_half_fetched_is_taken_away(tmp_path):
    url, _ = laid(tmp_path)
    cache = small(tmp_path, 6_000)
    store = open_store(Remote(url), WHERE, cache)
    left = store.folder / ".shard-00003.safetensors.77-1.mmcl-part"
    left.write_bytes(b"x" * 4_000)
    store.values(39)
    assert not left.exists()


def test_streams_that_were_uploaded_anew_are_never_mixed_with_those_in_the_cache(tmp_path):
    url, written = laid(tmp_path)
    before = open_store(Remote(url), WHERE, small(tmp_path))
    before.values(0)
    shutil.rmtree(tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    laid(tmp_path, shard_bytes=900)
    after = open_store(Remote(url), WHERE, small(tmp_path))
    assert after.folder != before.folder
    assert np.array_equal(after.values(39), written[39])
    with pytest.raises(
        MmclError, match=r"shard-0000\d.safetensors: (goes on after|ends after|is not what was uploaded|is not there)"
    ):
        [before.values(row) for row in range(40)]


# ---------------------------------------------------------------------------------------------------------------- errors


def test_a_server_that_stumbles_is_asked_again_and_one_that_has_fallen_not_for_ever(served, tmp_path):
    url, written, handler = served
    store = open_store(Remote(url), WHERE, small(tmp_path))
    handler.times = 2
    assert np.array_equal(store.values(0), written[0])
    assert handler.asked == 3
    handler.times, handler.asked = 10**6, 0
    with pytest.raises(
        MmclError, match=r"shard-00005.safetensors: cannot be reached, or broke off \(.*500.*\), 4 times"
    ) as refused:
        store.values(int(np.flatnonzero(store.shards == 5)[0]))
    assert handler.asked == 4
    assert "\n" not in str(refused.value)


def test_a_file_that_breaks_off_or_may_not_be_read_is_a_sentence(served, tmp_path):
    url, _, handler = served
    store = open_store(Remote(url), WHERE, small(tmp_path))
    handler.cut = 50
    with pytest.raises(
        MmclError, match=r"shard-00000.safetensors: (ends after 50 bytes|cannot be reached, or broke off).*, 4 times"
    ):
        store.values(0)
    handler.cut, handler.times, handler.status, handler.asked = None, 10**6, 403, 0
    with pytest.raises(MmclError, match="may not be read or written with what this machine knows of credentials"):
        store.values(0)
    assert handler.asked == 1, "another try would not help"
    assert not list(store.folder.glob("*part"))


def test_a_bucket_that_is_not_there_or_hides_is_a_sentence(bucket, tmp_path):
    with pytest.raises(MmclError, match=r"s3://nobody/x/toy/some-0123/remote.json: is not there"):
        open_store(Remote("s3://nobody/x"), WHERE, small(tmp_path))


def test_objects_of_a_bucket_that_were_changed_or_cut_are_a_sentence(bucket, tmp_path):
    import boto3

    laid(tmp_path)
    client = boto3.client("s3")
    for path in (tmp_path / "there").rglob("*.*"):
        client.put_object(Bucket="streams", Key=f"other/{path.relative_to(tmp_path / 'there')}", Body=path.read_bytes())
    store = open_store(Remote("s3://streams/other"), WHERE, small(tmp_path))
    assert len(store.values(0)) == 5
    key, whole = f"other/{WHERE}/shard-00002.safetensors", (tmp_path / "there" / WHERE / "shard-00002.safetensors").read_bytes()
    row = int(np.flatnonzero(store.shards == 2)[0])
    for body, sentence in (
        (whole[:-10], "ends after"),
        (whole + b"more", "goes on after"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "is not what was uploaded"),
    ):
        client.put_object(Bucket="streams", Key=key, Body=body)
        with pytest.raises(MmclError, match=rf"shard-00002.safetensors: {sentence}"):
            store.values(row)
    client.delete_object(Bucket="streams", Key=key)
    with pytest.raises(MmclError, match="shard-00002.safetensors: is not there"):
        store.values(row)
    client.put_object(Bucket="streams", Key=key, Body=whole)
    assert len(store.values(row)) == 5 + row % 4


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://x/y", "is no URL of prepared streams"),
        ("simplecache::s3://x/y", "is no URL of prepared streams"),
        ("prepared", "is no URL of prepared streams"),
        ("https://user:secret@host/y", "without ?, # and passwords"),
        ("https://host/y?token=secret", "without ?, # and passwords"),
        ("http://127.0.0.1:{closed}/x", "cannot be reached"),
        ("file://{tmp_path}/nowhere", "has no recordings of 'toy'"),
    ],
)
def test_a_run_from_a_url_that_leads_nowhere_ends_with_a_sentence_and_2(url, sentence, tmp_path, capsys):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        closed = one.getsockname()[1]
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    given = url.format(closed=closed, tmp_path=tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(recipe), "--out", str(tmp_path / "run"), "--prepared", given])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert sentence in " ".join(printed.split())
    assert "secret" not in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_the_caches_size_is_a_number(monkeypatch):
    for wrong in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("MMCL_CACHE_GB", wrong)
        with pytest.raises(MmclError, match="MMCL_CACHE_GB is"):
            Cache.usual()
    monkeypatch.setenv("MMCL_CACHE_GB", "0.5")
    assert Cache.usual().most == 500_000_000


@pytest.mark.parametrize("place", ["s3://bucket/corpora", "https://host/corpora"])
def test_recordings_at_a_url_are_refused_with_what_to_do(place, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.replace("{use: toy, samples: 48, speakers: 6}", "{use: ravdess}"))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(recipe), "--data", place])
    assert ended.value.code == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert "recordings are read from a folder, and this is a URL" in printed
    assert "--prepared" in printed


# ------------------------------------------------------------------------------------------------------- hostile stores


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../outside": {"bytes": 5, "sha256": "0" * 64}}},
        {"files": {"/etc/passwd": {"bytes": 5, "sha256": "0" * 64}}},
        {"files": {"shard-00000.safetensors": {"bytes": -5, "sha256": "0" * 64}}},
        {"files": {"shard-00000.safetensors": {"bytes": 2**62, "sha256": "0" * 64}}},
        {"files": {"shard-00000.safetensors": {"bytes": 5, "sha256": "../x"}}},
        {"files": {}},
        {"files": []},
        {"key": 5},
    ],
)
def test_a_store_that_names_other_files_than_those_of_a_store_is_refused(change, tmp_path):
    url, _ = laid(tmp_path)
    path = tmp_path / "there" / WHERE / "remote.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(MmclError, match=r"^\S*(remote\.json: (is not what|names)|some-0123: is not a whole)"):
        open_store(Remote(url), WHERE, small(tmp_path)).values(0)
    assert [one for one in sorted(map(str, tmp_path.rglob("*"))) if one not in before and "/small" not in one] == []


def test_an_index_that_reaches_beyond_its_shards_is_refused_when_they_are_read(tmp_path):
    from mmcl.runs import read_arrays

    url, _ = laid(tmp_path)
    folder = tmp_path / "there" / WHERE
    index = np.array(read_arrays(folder / "index.safetensors")["index"])
    index[-1, 3] += 1_000
    write_arrays(folder / "index.safetensors", {"index": index})
    about = json.loads((folder / "remote.json").read_text())
    about["files"]["index.safetensors"] = {
        "bytes": (folder / "index.safetensors").stat().st_size,
        "sha256": digest(folder / "index.safetensors"),
    }
    (folder / "remote.json").write_text(json.dumps(about))
    store = open_store(Remote(url), WHERE, small(tmp_path))
    with pytest.raises(MmclError, match="stream of recording 39 reaches beyond its shard"):
        store.values(39)


@pytest.mark.parametrize("folder", ["..", "../../x", "a/b", "", ".hidden", "/etc"])
def test_a_place_that_leads_elsewhere_is_refused(folder, tiny_plan, prepared, tmp_path):
    url = f"file://{tmp_path / 'there'}"
    upload(prepared.root, url)
    for path in (tmp_path / "there").rglob("place.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "folder": folder}))
    with pytest.raises(MmclError, match=r"place.json: is not what 'mmcl upload' writes"):
        prepare(tiny_plan(text=RECIPE), RunFolder(tmp_path / "run", remote=url))


def test_a_file_without_an_end_is_not_read_to_it(tmp_path):
    url, _ = laid(tmp_path)
    path = tmp_path / "there" / WHERE / "remote.json"
    with path.open("r+b") as file:
        os.truncate(file.fileno(), 2**22)
    with pytest.raises(MmclError, match=r"has more than .* bytes"):
        Remote(url).text(f"{WHERE}/remote.json", 2**20)


def test_the_cache_lies_where_mmcl_keeps_others_and_no_home_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("MMCL_CACHE", raising=False)
    assert Cache.usual().folder == tmp_path / ".cache" / "mmcl" / "streams" == cache_root() / "streams"

    def nowhere(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    with pytest.raises(StageError, match="no home folder to keep a cache in: name a folder that can be written in MMCL_CACHE"):
        Cache.usual()
