"""`mmcl serve`: a run that answers over HTTP, what it refuses, and its page in a real browser."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import mmcl
from mmcl.api import StageError
from mmcl.cli import main
from mmcl.media import write_audio
from mmcl.plugins import plugins
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.report import run_and_report
from mmcl.report.pages import style
from mmcl.runs import RunFolder, read_json, write_json
from mmcl.stages.supervise import supervise
from mmcl.use import serve
from mmcl.use.serve import Limits, Work, desk, guard
from mmcl.use.serve.guard import Guard, is_loopback, known
from mmcl.use.serve.uploads import Refusal, below
from mmcl.use.serve.worker import Worker

for module in ("fastapi", "python_multipart", "uvicorn"):
    pytest.importorskip(module, reason="the extra serve is not installed: pip install 'mmcl[serve]'")

RECIPE = """\
format: 1
name: study
dataset: {{use: folder, root: {root}, group: speaker}}
modalities:
  voice: {{source: sound, features: {{use: log-mel, bands: 8, window: 0.05, hop: 0.05}}, backbone: {{use: tcn, channels: [8]}}}}
  hand: {{source: hand, features: {{use: signals, columns: [x, y, z]}}, backbone: {{use: tcn, channels: [8]}}}}
  words: {{source: text, features: {{use: hashed-words, dim: 8}}, backbone: {{use: mlp, hidden: [8], width: 8}}}}
window: {{seconds: 0.5}}
projection: {{hidden: 8, width: 4}}
pretrain: {{batch_size: 8, epochs: 2}}
probe: {{inputs: [voice, hand, all], heads: {{linear: {{use: linear, l2: [0.1, 1]}}}}}}
protocol: official
"""

TAUGHT = "supervise={inputs: [voice], tasks: [mood], heads: {deep: mlp}, epochs: 2, batch_size: 8}"
USE = Path(__file__).parents[1] / "docs" / "use.md"
LIMITS = Limits(bytes=3_000_000, seconds=20, time=60, recordings=3, waiting=1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of files, which lie beside it in `data`."""
    root = tmp_path_factory.mktemp("serve")
    plugins().get("dataset", "folder").spec.sample(root / "data", 48, 0)
    plan = make_plan(parse_recipe(RECIPE.format(root=root / "data"), "study.yaml"))
    run_and_report(plan, RunFolder(root / "runs" / "study"), workers=1)
    return root / "runs" / "study"


def data_of(study: Path) -> Path:
    return study.parents[1] / "data"


class Server:
    """A server in a thread of this process, and its worker."""

    def __init__(self, study: Path, root: Path | None, limits: Limits = LIMITS) -> None:
        self.worker = Worker(Work(study, None, "cpu", (), limits))
        import uvicorn

        from mmcl.use.serve.app import make_app
        from mmcl.use.serve.server import bound

        self.socket = bound("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        app = Guard(make_app(self.worker, limits, root, style()), frozenset({"study.example"}), False, limits.bytes)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)
        self.thread.start()

    def ask(self, method: str, where: str, body: bytes | None = None, **headers: str) -> tuple[int, dict]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=100)
        link.request(method, where, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = link.getresponse()
        text = reply.read()
        return reply.status, json.loads(text) if reply.headers["content-type"] == "application/json" else {
            "text": text.decode()
        }

    def send(self, where: str, *files: Path | tuple[str, Path], **headers: str) -> tuple[int, dict]:
        body = b""
        for one in files:
            field, path = one if isinstance(one, tuple) else ("file", one)
            head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{path.name}"\r\n\r\n'
            body += head.encode() + path.read_bytes() + b"\r\n"
        return self.ask("POST", where, body + b"--b--\r\n", content_type="multipart/form-data; boundary=b", **headers)

    def path(self, where: str, named: object) -> tuple[int, dict]:
        return self.ask("POST", where, json.dumps({"path": named}).encode(), content_type="application/json")

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        self.worker.close()


@pytest.fixture(scope="module")
def root(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is served: a few files, and ways out of it."""
    root = tmp_path_factory.mktemp("served")
    shutil.copy(data_of(study) / "sound" / "r003.wav", root / "clip.wav")
    (root / "inner").mkdir()
    for name in ("r004", "r006"):
        shutil.copy(data_of(study) / "sound" / f"{name}.wav", root / "inner" / f"{name}.wav")
    (root / "many").mkdir()
    for k in range(4):
        shutil.copy(data_of(study) / "sound" / f"r00{k}.wav", root / "many" / f"m{k}.wav")
    (root / "out").symlink_to(data_of(study))
    (root / "link.wav").symlink_to(data_of(study) / "sound" / "r005.wav")
    (root / "led").mkdir()
    (root / "led" / "x.wav").symlink_to(data_of(study) / "sound" / "r005.wav")
    (root / "list.csv").write_text(f"id,sound\na,{data_of(study) / 'sound' / 'r005.wav'}\n")
    return root


@pytest.fixture(scope="module")
def server(study: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    uploads = tmp_path_factory.mktemp("uploads")  # not the system's folder, which other processes that test have servers in
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(uploads))
        one = Server(study, root)
        yield one
        one.close()
    assert not list(uploads.glob("mmcl-serve-*")), "uploads are removed, whatever became of them"


@pytest.fixture
def clip(study: Path, tmp_path: Path) -> Path:
    """A recording that the run has not seen by that name."""
    return Path(shutil.copy(data_of(study) / "sound" / "r003.wav", tmp_path / "another clip.wav"))


def test_an_upload_is_answered_as_the_session_answers(study, server, clip):
    status, reply = server.send("/api/predict", clip)
    assert status == 200, reply
    assert reply["answers"] == [json.loads(json.dumps(one.to_json())) for one in mmcl.open(study, device="cpu").predict(clip)]
    assert reply["refused"] == []
    assert {one["recording"] for one in reply["answers"]} == {"new"}


def test_several_files_are_one_recording_each_of_the_source_it_is_sent_as(study, server, clip, tmp_path):
    hand = Path(shutil.copy(data_of(study) / "hand" / "r003.csv", tmp_path / "measured.csv"))
    status, reply = server.send("/api/predict?task=mood", clip, ("hand", hand))
    assert status == 200, reply
    (answer,) = reply["answers"]
    assert (answer["id"], answer["modalities"], answer["missing"]) == ("another clip", ["voice", "hand"], ["words"])
    status, reply = server.send("/api/predict", clip, clip)
    assert (status, "two files" in reply["error"]) == (400, True)


def test_windows_are_a_course_and_embeddings_are_the_sessions(study, server, clip):
    _, reply = server.send("/api/predict?task=mood&windows=1&seconds=0.5&hop=0.25", clip)
    session = mmcl.open(study, device="cpu")
    course = session.predict(clip, tasks=["mood"], windows=True, seconds=0.5, hop=0.25)
    assert reply["answers"] == [json.loads(json.dumps(one.to_json())) for one in course]
    assert len(course) > 2
    _, reply = server.send("/api/embed", clip)
    (row,) = reply["rows"]
    assert list(row["modalities"]) == ["voice"]
    there = session.embed(clip).features["voice"]
    np.testing.assert_allclose(row["modalities"]["voice"]["vector"], there.vector[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(row["modalities"]["voice"]["projection"], there.projection[0].numpy(), atol=1e-6)


def test_neighbours_are_the_runs_own_with_their_labels(study, server, clip):
    status, reply = server.send("/api/search?n=3&by=voice&modality=voice", clip)
    assert status == 200, reply
    session = mmcl.open(study, device="cpu")
    first = reply["neighbours"][0]
    assert (first["id"], first["recording"]) == ("r003", session.opened.side("r003", 0))
    assert first["similarity"] == pytest.approx(1, abs=1e-5)
    tables = [mmcl.features(study, split) for split in ("train", "valid", "test")]
    moods = {id: mood for one in tables for id, mood in zip(one["id"], one["mood"], strict=True)}
    assert [one["labels"]["mood"] for one in reply["neighbours"]] == [moods[one["id"]] for one in reply["neighbours"]]
    by_files = session.search(clip, data_of(study) / "recordings.csv", n=3, ask="voice", modality="voice")
    assert [one.id for one in by_files] == [one["id"] for one in reply["neighbours"]]
    assert [one.similarity for one in by_files] == pytest.approx([one["similarity"] for one in reply["neighbours"]], abs=1e-5)


def test_search_without_a_folder_is_among_the_runs_own(study, clip, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["search", str(study), str(clip), "--by", "voice", "--modality", "voice", "-n", "2", "--device", "cpu", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["id"] == "r003"


def test_about_health_and_openapi_say_what_there_is(server):
    _, about = server.ask("GET", "/api/about")
    assert about["tasks"]["mood"] == {"type": "single-label", "classes": ["calm", "tense"]}
    assert (about["paths"], about["limits"]["seconds"], about["window"]) == (True, 20, 0.5)
    assert server.ask("GET", "/health")[1]["status"] == "ok"
    _, described = server.ask("GET", "/openapi.json")
    assert {"/health", "/api/about", "/api/predict", "/api/embed", "/api/search"} <= set(described["paths"])
    assert set(described["paths"]["/api/predict"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/json",
    }


def test_paths_below_the_root_are_answered(server, root):
    assert [one["id"] for one in server.path("/api/predict?task=mood", "clip.wav")[1]["answers"]] == ["clip"]
    assert [one["id"] for one in server.path("/api/predict?task=mood", "inner")[1]["answers"]] == ["r004", "r006"]
    assert server.path("/api/predict", str(root / "clip.wav"))[0] == 200


@pytest.mark.parametrize(
    ("named", "status", "words"),
    [
        ("../data/sound/r005.wav", 403, "outside"),
        ("/etc/hostname", 403, "outside"),
        ("/etc/no-such-file", 403, "outside"),  # as one that is there: nobody learns which are
        ("out/sound/r005.wav", 403, "outside"),
        ("link.wav", 403, "outside"),
        ("led", 422, "outside"),
        ("list.csv", 422, "outside"),
        ("gone.wav", 404, "gone.wav: is nothing in the folder that is served"),
        ("r005", 404, "is nothing"),  # no id either
        ("", 400, "empty"),
        ("a\0b", 400, "empty, or no path"),
        ("x" * 3000, 404, "is nothing"),
        ("many", 413, "many: holds 4 recordings; 3 at most"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(server, named, status, words):
    given, reply = server.path("/api/predict", named)
    assert given == status, reply
    assert words in reply["error"]


def test_without_a_root_no_path_is_taken(study):
    with pytest.raises(Refusal, match="without --root") as refused:
        below(None, "clip.wav")
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8400"}, 403),
        ({"host": "192.168.1.5"}, 403),
        ({"host": ""}, 403),
        ({"host": "study.example"}, 200),
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:8400"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:5", "origin": "http://localhost:6"}, 403),
        ({"host": "localhost:5", "origin": "http://localhost:5"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
    ],
)
def test_other_hosts_and_other_origins_are_refused(server, clip, headers, status):
    given, reply = server.send("/api/predict", clip, **headers)
    assert given == status, reply


def test_hosts_in_figures_are_the_servers_where_it_is_exposed():
    assert known("192.168.1.5:8400", frozenset(), True)
    assert not known("192.168.1.5:8400", frozenset(), False)
    assert not known("evil.example", frozenset(), True)
    assert [is_loopback(one) for one in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "10.0.0.1", "x")] == [
        True
    ] * 4 + [False] * 3


@pytest.mark.parametrize(
    "which", ["broken", "empty", "text", "playlist", "unknown", "nameless", "long", "large", "nothing", "type", "question"]
)
def test_what_cannot_be_answered_is_one_sentence_with_its_status(server, tmp_path, which):
    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    if which == "long":
        write_audio(tmp_path / "long.wav", np.zeros(22 * 8000), 8000)
    playlist = b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n" * 9
    asked = {
        "broken": lambda: server.send("/api/predict", file("b.wav", b"RIFF" + bytes(99))),
        "empty": lambda: server.send("/api/predict", file("e.wav", b"")),
        "text": lambda: server.send("/api/predict", file("t.wav", b"no sound at all")),
        "playlist": lambda: server.send("/api/predict", file("p.mp4", playlist)),
        "unknown": lambda: server.send("/api/predict", file("u.xyz", b"x")),
        "nameless": lambda: server.send("/api/predict", file("nameless", b"x")),
        "long": lambda: server.send("/api/predict", tmp_path / "long.wav"),
        "large": lambda: server.send("/api/predict", file("large.wav", bytes(3_100_000))),
        "nothing": lambda: server.send("/api/predict"),
        "type": lambda: server.ask("POST", "/api/predict", b"x", content_type="text/plain"),
        "question": lambda: server.ask("POST", "/api/predict?seconds=-1", b"x", content_type="text/plain"),
    }
    wanted = {
        "broken": (422, "b.wav: "),
        "empty": (422, "e.wav: is empty"),
        "text": (422, "t.wav: is a text"),
        "playlist": (422, "p.mp4: is a text"),
        "unknown": (422, "u.xyz: is nothing that this run reads"),
        "nameless": (400, "has no name with an ending"),
        "long": (413, "long.wav: lasts 22 s; 20 s at most"),
        "large": (413, "larger than the 3 MB"),
        "nothing": (400, "no file was sent"),
        "type": (415, "multipart/form-data"),
        "question": (400, "seconds: "),
    }
    status, reply = asked[which]()
    assert (status, list(reply)) == (wanted[which][0], ["error"]), reply
    assert wanted[which][1] in reply["error"]
    assert not re.search(r"/tmp|mmcl-serve-|Traceback|\n", reply["error"])


def test_a_long_upload_without_a_length_is_cut(server):
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    pieces = iter(
        [
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n',
            *[bytes(100_000)] * 40,
            b"\r\n--b--\r\n",
        ]
    )
    link.request("POST", "/api/predict", pieces, {"content-type": "multipart/form-data; boundary=b"}, encode_chunked=True)
    reply = link.getresponse()
    assert (reply.status, "larger than the 3 MB" in json.loads(reply.read())["error"]) == (413, True)


class Sent:
    """A body that comes in pieces, and what is answered."""

    def __init__(self, piece: int, pieces: int) -> None:
        self.piece, self.left, self.status, self.unread = piece, pieces, 0, 0

    async def receive(self):
        self.left -= 1
        return {"type": "http.request", "body": bytes(self.piece), "more_body": self.left > 0}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status, self.unread = message["status"], self.left


LARGER = {"type": "http", "method": "POST", "headers": [(b"host", b"localhost"), (b"content-length", b"101")]}


@pytest.mark.parametrize(("pieces", "unread"), [(3, 0), (1000, 990)])
def test_what_is_refused_is_read_to_its_end_but_no_longer_than_as_much_again(pieces, unread):
    sent = Sent(10, pieces)
    asyncio.run(Guard(None, frozenset(), False, 100)(LARGER, sent.receive, sent.send))
    assert (sent.status, sent.unread) == (413, unread)


def test_whoever_sends_nothing_more_is_answered_all_the_same(monkeypatch):
    async def never():
        await asyncio.sleep(1e3)

    sent = Sent(10, 3)
    monkeypatch.setattr(guard, "LINGER", 0.01)
    asyncio.run(Guard(None, frozenset(), False, 100)(LARGER, never, sent.send))
    assert sent.status == 413


def test_what_the_run_lacks_and_other_addresses_are_refused(server, clip):
    status, reply = server.send("/api/predict?task=joy", clip)
    assert (status, "has no task 'joy'; it has mood" in reply["error"]) == (400, True)
    assert server.ask("GET", "/secret") == (404, {"error": "there is nothing at this address"})
    assert server.ask("GET", "/api/predict")[0] == 405


def test_questions_at_once_are_answered_one_after_the_other_and_no_more_than_may_wait(server, clip):
    replies: list[tuple[int, dict]] = []

    def one() -> None:
        replies.append(server.send("/api/predict?task=mood", clip))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    answered = [reply["answers"] for status, reply in replies if status == 200]
    assert len(answered) >= 1
    assert all(one == answered[0] for one in answered)
    assert {status for status, _ in replies} <= {200, 503}
    assert all("waiting" in reply["error"] for status, reply in replies if status == 503)


def test_a_process_that_ends_or_takes_too_long_is_begun_again(study, server, clip):
    os.kill(server.worker._process, signal.SIGKILL)
    status, reply = server.send("/api/predict", clip)
    assert (status, "ended the process" in reply["error"]) == (422, True)
    server.worker._work = Work(study, None, "cpu", (), Limits(time=1e-6))
    status, reply = server.send("/api/predict", clip)
    assert (status, "took longer than" in reply["error"]) == (504, True)
    server.worker._work = Work(study, None, "cpu", (), LIMITS)
    assert server.send("/api/predict", clip)[0] == 200


def test_what_takes_too_much_memory_is_refused_in_a_sentence(monkeypatch, tmp_path):
    class Full:
        def answer(self, question):
            raise MemoryError

    monkeypatch.setattr(desk, "_DESK", [Full()])
    reply = desk.answer(desk.Question("predict", (tmp_path / "x.npz",), tmp_path))
    assert (reply.status, "x.npz: takes more memory" in reply.body["error"]) == (413, True)


@pytest.mark.parametrize(("device", "limited"), [("cpu", [5]), ("cuda", [])])
def test_memory_is_limited_where_addresses_are_memory(monkeypatch, tmp_path, device, limited):
    class Opened:
        def __init__(self, work):
            pass

        def about(self):
            return {}

    limits: list[int] = []
    monkeypatch.setattr(desk, "Desk", Opened)
    monkeypatch.setattr(desk, "pick_device", torch.device)
    monkeypatch.setattr(desk, "limit_memory", limits.append)
    assert desk.open_desk(Work(tmp_path, None, device, (), Limits(memory=5))).status == 200
    assert limits == limited


def test_a_limit_of_memory_ends_what_takes_more():
    script = (
        "import numpy; from mmcl.use.serve.limits import limit_memory; limit_memory(10**9); numpy.ones(10**8, numpy.uint8)\n"
        "try: numpy.ones(3 * 10**9, numpy.uint8)\nexcept MemoryError: print('refused')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stdout == "refused\n", ended.stderr


def test_a_run_that_cannot_be_opened_is_refused_before_anything_is_served(tmp_path):
    with pytest.raises(StageError, match="is not there; a run folder"):
        Worker(Work(tmp_path / "gone", None, "cpu", (), LIMITS))


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "example.org"])
def test_another_host_needs_a_word(study, capsys, host):
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(study), "--host", host])
    assert ended.value.code == 2
    assert "--expose" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(study, monkeypatch, capsys):
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(study)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "mmcl: mmcl serve needs uvicorn: pip install 'mmcl[serve]'\n"


def test_a_port_that_is_taken_is_refused_in_a_sentence():
    from mmcl.use.serve.server import bound

    with bound("127.0.0.1", 0) as taken, pytest.raises(StageError, match="give another --port"):
        bound("127.0.0.1", taken.getsockname()[1])


def test_the_example_of_the_docs_asks_a_server(server, capsys):
    (text,) = (one for one in re.findall(r"```python\n(.*?)```", USE.read_text(encoding="utf-8"), re.S) if "urllib" in one)
    scope = {"server": f"http://127.0.0.1:{server.port}"}
    exec(compile(text, "use.md", "exec"), scope)
    assert scope["answer"]["prediction"] in ("calm", "tense")
    assert "['hand', 'words']" in capsys.readouterr().out


def is_alive(process: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_the_command_serves_until_it_is_ended_and_its_process_ends_with_it(study):
    serving = subprocess.Popen(
        [sys.executable, "-m", "mmcl", "serve", str(study), "--port", "0", "--device", "cpu"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert serving.stderr is not None
        line = next(one for one in serving.stderr if "answers at" in one)
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line
        with urllib.request.urlopen(f"{address[0]}health", timeout=60) as reply:
            assert json.load(reply)["run"] == "study"
        with urllib.request.urlopen(address[0], timeout=60) as reply:
            assert "script-src 'self'" in reply.headers["content-security-policy"]
        children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children")
        workers = children.read_text().split() if children.exists() else []
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 0
        end = time.monotonic() + 20
        while remaining := [one for one in workers if is_alive(one)]:
            assert time.monotonic() < end, remaining
            time.sleep(0.05)
    finally:
        serving.kill()


CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")


JOINED = "import fcntl, os, sys; a, b = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]); os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
"""Starts the browser, which reads from 3 and writes to 4."""


class Browser:
    """A headless Chromium with one page, driven over its own pipe (the DevTools protocol)."""

    def __init__(self, profile: Path, width: int = 1100, dark: bool = False) -> None:
        down, self._write = os.pipe()
        self._read, up = os.pipe()
        assert CHROMIUM is not None

        arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--remote-debugging-pipe",
        ]
        arguments += [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
        ]
        arguments += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOINED, str(down), str(up), CHROMIUM, *arguments, f"--window-size={width},1400"],
            pass_fds=(down, up),
            stderr=subprocess.DEVNULL,
        )
        os.close(down)
        os.close(up)
        self._rest, self._number, self._session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank", width=width, height=1400, newWindow=True)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: object) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": given} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                piece = os.read(self._read, 2**20)
                assert piece, "the browser ended"
                self._rest += piece
            text, self._rest = self._rest.split(b"\0", 1)
            reply = json.loads(text)
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def run(self, script: str) -> object:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script: str, within: float = 60) -> None:
        end = time.monotonic() + within
        while not self.run(script):
            assert time.monotonic() < end, self.run("document.body.innerText")
            time.sleep(0.05)

    def drop(self, path: Path, kind: str) -> None:
        """Drop a file on the page, as a person does."""
        text = base64.b64encode(path.read_bytes()).decode()
        self.run(
            f"""(() => {{ const bytes = Uint8Array.from(atob("{text}"), (c) => c.charCodeAt(0)), given = new DataTransfer();
            given.items.add(new File([bytes], {json.dumps(path.name)}, {{type: "{kind}"}}));
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", {{bubbles: true, cancelable: true, dataTransfer: given}})); }})()"""
        )

    def picture(self, out: Path) -> None:
        out.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]))

    def complaints(self) -> list[str]:
        """What the browser refused or could not do."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown")
        return [json.dumps(one["params"]) for one in self.events if one.get("method") in kinds]

    def asked(self) -> set[str]:
        """Every address that was asked for."""
        return {one["params"]["request"]["url"] for one in self.events if one.get("method") == "Network.requestWillBeSent"}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for end in (self._read, self._write):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture(scope="module")
def taught(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose labels trained a network beside its heads."""
    run = RunFolder(shutil.copytree(study.parent, tmp_path_factory.mktemp("taught") / "runs") / study.name)
    plan = make_plan(parse_recipe(RECIPE.format(root=data_of(study)), "study.yaml", (TAUGHT,)), overrides=(TAUGHT,))
    supervise(plan, run)
    stated = read_json(run.root / "plan.json")
    stated["plan"]["overrides"] = [TAUGHT]  # as a run that was begun with them states it
    write_json(run.root / "plan.json", stated)
    return run.root


@needs_chromium
def test_the_page_asks_the_networks_that_labels_trained(taught, clip, tmp_path):
    server, browser = Server(taught, None), Browser(tmp_path / "profile")
    try:
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        browser.until("document.title.startsWith('study')")
        assert browser.run("document.getElementById('asked-row').hidden") is False
        browser.drop(clip, "audio/wav")
        browser.until("document.body.dataset.answered === '1'")
        browser.run("const one = document.getElementById('asked'); one.value = '1'; one.dispatchEvent(new Event('change'))")
        browser.until("document.body.dataset.answered === '2'")
        (expected,) = (one for one in mmcl.open(taught, device="cpu").predict(clip, supervised=True) if one.task.name == "mood")
        shown = browser.run("document.querySelector('.task').innerText")
        assert "network “deep” that labels trained" in shown
        share = max(expected.to_json()["probabilities"].values())
        assert f"{100 * share:.0f} %" in shown
        assert browser.complaints() == []
    finally:
        browser.close()
        server.close()


@needs_chromium
def test_a_clip_that_is_dropped_on_the_page_is_answered_there(study, server, clip, tmp_path):
    browser = Browser(tmp_path / "profile", width=390)
    try:
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        browser.until("document.title.startsWith('study')")
        assert browser.run("document.getElementById('asked-row').hidden") is True, "this run has no such networks"
        browser.drop(clip, "audio/wav")
        browser.until("document.body.dataset.answered === '1'")
        text = browser.run("document.body.innerText")
        expected = {one.task.name: one for one in mmcl.open(study, device="cpu").predict(clip)}
        assert browser.run("document.querySelector('.task .verdict b').textContent") == expected["mood"].prediction
        shares = browser.run("[...document.querySelectorAll('.task')][0].querySelectorAll('.bars li').length")
        assert shares == 2
        assert "another clip" in text
        assert "words is missing" in text
        assert browser.run("[...document.querySelectorAll('.chips .there')].map((one) => one.textContent)") == ["voice"]
        assert browser.run("document.querySelectorAll('.course svg .point').length") >= 2 * 3
        near = mmcl.open(study, device="cpu").search(clip, n=1)[0].id
        assert browser.run("document.querySelector('table tbody th').textContent") == near
        assert browser.run("document.querySelector('audio').error") is None
        assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        quiet = tmp_path / "quiet.wav"
        write_audio(quiet, np.zeros(16_000), 16_000)
        browser.drop(quiet, "audio/wav")
        browser.until("document.body.dataset.answered === '2'")
        assert "is silent" in " ".join(browser.run("document.body.innerText").split())
        broken = tmp_path / "broken.wav"
        broken.write_bytes(b"RIFF" + bytes(60))
        browser.drop(broken, "audio/wav")
        browser.until("document.getElementById('state').className === 'state wrong'")
        assert "broken.wav: " in browser.run("document.getElementById('state').textContent")
        assert [one for one in browser.complaints() if "422" not in one] == []
        assert {address.split("/")[2] for address in browser.asked() if address.startswith("http")} == {
            f"127.0.0.1:{server.port}"
        }
    finally:
        browser.close()
