"""Advice of what runs recipes and of what uses finished runs that is followed where the message is no error, or needs more than a row."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import HashStore

import mmcl
from mmcl.api import DataError, Source, StageError
from mmcl.engine.ranks import Ranks
from mmcl.runs import RunFolder, digest, read_json, read_tensors
from mmcl.stages.elsewhere import warn
from mmcl.stages.prepare import prepare
from mmcl.stages.pretrain import pretrain
from mmcl.use.files import Finder
from mmcl.use.serve import Limits, Work, desk
from mmcl.use.serve.desk import Reply
from mmcl.use.serve.guard import Guard
from mmcl.use.serve.worker import Worker
from tests.advice.core import call
from tests.advice.stages import LOST
from tests.advice.stages_runs import finished, overriding, plan_of, pretrained, run, tiny
from tests.test_profile import MEASURED

ALL_AT_ONCE = ("pretrain.batch_size=64", "pretrain.epochs=1")
"""One step, after which validation recordings are looked at."""
TAUGHT = ("pretrain.epochs=0", "supervise={heads: {mlp: mlp}, inputs: [text], epochs: 2, batch_size: 8}")


def _spoil_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of pretraining in bf16 are no numbers, as a network whose sums are too long for it may have them."""
    from mmcl.model import contrast
    from mmcl.stages import learners

    real, arithmetic, last = contrast.score, learners.arithmetic, [""]

    def watched(kind, device):
        last[0] = kind
        return arithmetic(kind, device)

    def spoiled(*args, **more):
        objective = real(*args, **more)
        if last[0] == "bf16":
            objective.loss = objective.loss * float("nan")
        return objective

    monkeypatch.setattr(learners, "arithmetic", watched)
    monkeypatch.setattr(contrast, "score", spoiled)


def _taught(folder: Path, *sets: str) -> None:
    root = run(folder, "--stop-after", "supervise", *overriding(*TAUGHT, *sets)).root
    assert list(root.glob("fold-00/seed-3/supervise/models/*.safetensors"))


@pytest.mark.parametrize(
    ("learn", "lost", "words", "mended"),
    [
        (pretrained, LOST, "lower pretrain.optimizer.lr", ["pretrain.optimizer.lr=1"]),
        (pretrained, LOST, "set pretrain.clip", ["pretrain.clip=1"]),
        (
            pretrained,
            (*LOST, "pretrain.optimizer.lr=1e12", "pretrain.clip=1"),
            "set a lower pretrain.clip",
            ["pretrain.clip=1e-10"],
        ),
        (
            pretrained,
            (*LOST, *ALL_AT_ONCE, "pretrain.optimizer.lr=1e7"),
            "lower pretrain.optimizer.lr",
            ["pretrain.optimizer.lr=1"],
        ),
        (pretrained, (*LOST, *ALL_AT_ONCE, "pretrain.optimizer.lr=1e7"), "set pretrain.clip", ["pretrain.clip=1e-4"]),
        (pretrained, ("pretrain.precision=bf16",), "set pretrain.precision: float32", ["pretrain.precision=float32"]),
        (
            _taught,
            ("supervise.optimizer={use: sgd, lr: 1e30, weight_decay: 0}",),
            "lower supervise.optimizer.lr",
            ["supervise.optimizer.lr=0.1"],
        ),
        (
            _taught,
            ("supervise.optimizer={use: sgd, lr: 1e30, weight_decay: 0}",),
            "set supervise.clip",
            ["supervise.clip=1e-30"],
        ),
    ],
)
def test_each_remedy_of_a_loss_that_is_no_number_keeps_it_one(learn, lost, words, mended, tmp_path, monkeypatch):
    if "pretrain.precision=bf16" in lost:
        _spoil_halves(monkeypatch)
    valid = "on validation recordings " if "pretrain.batch_size=64" in lost else ""
    with pytest.raises(StageError, match=f"{valid}.*became (nan|inf).*[;,] (or )?{words}"):
        learn(tmp_path, *lost)
    learn(tmp_path, *lost, *mended)


def test_float32_is_advised_where_bf16_is_in_use_alone(tmp_path):
    with pytest.raises(StageError, match="became") as error:
        pretrained(tmp_path, *LOST)
    assert "precision" not in str(error.value)


def test_the_precision_that_is_advised_is_one_that_the_recipe_may_have():
    """Where bf16 gains nothing, a recipe that has it is told to set float32, and one that has not to leave it as it is."""
    for before, word in (("float32", "leave"), ("bf16", "set")):
        plan = plan_of(f"pretrain.precision={before}")
        slow = replace(MEASURED, precision=plan.recipe.pretrain.precision, steps={"float32": 20.0, "bf16": 19.0})
        sentence = slow.advice()[1]
        assert sentence.endswith(f": {word} pretrain.precision: float32")
        key, _, value = sentence.rpartition(f"{word} ")[2].partition(": ")
        assert plan_of(f"{key}={value}").recipe.pretrain.precision == "float32"


def test_shards_are_trained_by_torchrun_and_labels_learned_when_that_is_done(tmp_path):
    labels = "supervise={heads: {mlp: mlp}, inputs: [text], epochs: 1, batch_size: 8}"
    sets = ("pretrain.shard=true", "pretrain.epochs=1", "pretrain.sync_batchnorm=true")
    with pytest.raises(StageError, match="start several with torchrun --nproc-per-node N -m mmcl run"):
        pretrained(tmp_path, *sets)
    there = RunFolder(tmp_path / "runs" / "tiny")
    with pytest.raises(StageError, match="leave supervise out, or until pretraining is finished"):
        pretrain(plan_of(*sets, labels), there, device="cpu", ranks=Ranks(0, 2, HashStore()))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmcl")
    words = ("run", tiny(tmp_path), "--out", str(there.root), "--device", "cpu", "--stop-after", "pretrain")
    done = subprocess.run([*torchrun, *words, *overriding(*sets)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    weights = there.stage("pretrain", 0, 3) / "encoders.safetensors"
    before = weights.read_bytes()
    run(tmp_path, "--stop-after", "supervise", *overriding(*sets, labels))
    assert weights.read_bytes() == before
    assert list(there.root.glob("fold-00/seed-3/supervise/models/*.safetensors"))


def test_prepare_json_and_the_report_list_what_was_skipped_and_what_is_odd(tmp_path, monkeypatch, capsys):
    from mmcl_toy.corpus import Toy

    from mmcl.api import Audio

    real = Toy.read

    def read(self, id, source):
        raw = real(self, id, source)
        if source == "audio" and id == "toy-00002":
            raise DataError("toy-00002: its sound ends too early")
        return Audio(raw.samples * 0, raw.rate) if source == "audio" and id == "toy-00001" else raw

    monkeypatch.setattr(Toy, "read", read)
    root = run(tmp_path, "--set", "dataset.missing=0").root
    told = capsys.readouterr().err
    assert "1 streams or recordings were skipped; prepare.json and the report list each with its reason" in told
    assert "1 recordings could be read and are odd all the same" in told
    prepared, page = (root / "prepare.json").read_text(encoding="utf-8"), (root / "report.html").read_text(encoding="utf-8")
    (odd,) = read_json(root / "prepare.json")["modalities"]["audio"]["odd"]
    for text in (prepared, page):
        assert "toy-00002: its sound ends too early" in text
        assert "toy-00001" in text
        assert odd["reason"] in text


def test_the_sampler_that_is_named_where_the_cache_is_small_reads_each_file_once(tmp_path, monkeypatch, capsys):
    """Where files are fetched again and again in random order, the recipe with the line that is advised fetches each once an epoch."""
    from mmcl.data.remote import Remote
    from mmcl.stages.composed import batches_of_epoch
    from mmcl.stages.units import units_of

    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mmcl.data.store.SHARD_BYTES", 1_000)
    many = "dataset.samples=144"
    prepare(plan_of(many), here := RunFolder(tmp_path / "runs" / "here"))
    url = f"file://{tmp_path / 'there'}"
    call("upload", str(here.root), url)
    fetched: list[str] = []
    real = Remote.fetch
    monkeypatch.setattr(Remote, "fetch", lambda self, name, *more: (fetched.append(name), real(self, name, *more))[1])
    monkeypatch.setenv("MMCL_CACHE_GB", "0.00003")
    counts = {}
    for sets in ((), ("pretrain.sampler=by-shard",)):
        plan, there = plan_of(many, *sets), RunFolder(tmp_path / "runs" / f"there-{len(sets)}", remote=url)
        capsys.readouterr()
        prepare(plan, there)
        told = capsys.readouterr().err
        assert ("pretrain.sampler: by-shard reads each once an epoch" in told) == (not sets)
        (unit,) = units_of(plan, there)
        store = unit.prepared.stores["audio"]
        fetched.clear()
        for rows in batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=0):
            for row in rows:
                if row in store:
                    store.values(row)
        counts[sets] = [name for name in fetched if "shard-" in name]
    random, by_shard = counts.values()
    assert len(by_shard) == len(set(by_shard)) > 10
    assert len(random) > len(set(random))


def test_labels_are_named_beside_pretraining_where_both_are_in_random_order(tmp_path, monkeypatch, capsys):
    labels = "supervise={heads: {mlp: mlp}, inputs: [text], epochs: 1, batch_size: 8}"
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MMCL_CACHE_GB", "1e-9")
    store = type("Store", (), {"size_elsewhere": 10**6})()
    advised = ("pretrain.sampler=by-shard", "supervise.sampler=by-shard")
    for sets, words in (
        ((), "; pretrain.sampler and supervise.sampler: by-shard"),
        (advised[:1], "; supervise.sampler: by-shard"),
        (advised, ""),
    ):
        warn(plan_of(labels, *sets), {"text": store})
        assert (words in capsys.readouterr().err) if words else not capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- finished runs at work


def test_a_card_without_scores_has_them_once_the_report_is_written(tmp_path):
    root = finished(tmp_path).root
    for name in ("report.json", "report.html"):
        (root / name).unlink()
    call("publish", str(root), str(tmp_path / "without"))
    card = (tmp_path / "without" / "README.md").read_text(encoding="utf-8")
    assert "the card has no scores; `mmcl report RUN` writes one." in card
    call("report", str(root))
    call("publish", str(root), str(tmp_path / "with"))
    card = (tmp_path / "with" / "README.md").read_text(encoding="utf-8")
    assert "| emotion | audio | linear |" in card
    assert "mmcl report RUN" not in card


def test_what_is_given_away_opens_as_its_line_says(tmp_path, capsys):
    root = finished(tmp_path).root
    capsys.readouterr()
    call("export", str(root), str(tmp_path / "given"), "--to", "safetensors")
    line = next(line for line in capsys.readouterr().out.splitlines() if "open it with mmcl.load" in line)
    opened = mmcl.load(line.partition(": ")[0])
    weights = read_tensors(root / "fold-00" / "seed-3" / "pretrain" / "encoders.safetensors")
    mine = {f"{name}/{key}": value for name, one in opened.encoders.items() for key, value in one.state_dict().items()}
    assert all(torch.equal(value, mine[name]) for name, value in weights.items())


def test_a_run_starts_from_the_url_that_an_upload_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    here = finished(tmp_path)
    capsys.readouterr()
    call("upload", str(here.root), f"file://{tmp_path / 'there'}")
    (words,) = re.findall(r"'mmcl run … (--prepared \S+)' starts from them", capsys.readouterr().out)
    there = run(tmp_path / "elsewhere", *words.split(), "--stop-after", "pretrain")
    assert not (there.root.parent / "prepared").exists()
    weights = [one.stage("pretrain", 0, 3) / "encoders.safetensors" for one in (here, there)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_upload_whose_files_do_not_belong_together_is_whole_when_it_is_uploaded_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    here, url = finished(tmp_path), f"file://{tmp_path / 'there'}"
    call("upload", str(here.root), url)
    path = next((tmp_path / "there").rglob("place.json"))
    about = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(about | {"recordings": "0" * 64}), encoding="utf-8")
    there = RunFolder(tmp_path / "elsewhere" / "run", remote=url)
    with pytest.raises(StageError, match="is of other recordings than listing.json beside it names; upload the run again"):
        prepare(plan_of(), there)
    call("upload", str(here.root), url)
    prepare(plan_of(), there)
    assert digest(there.root / "recordings.safetensors") == digest(here.root / "recordings.safetensors")


def test_a_column_that_is_called_as_its_source_is_that_source(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    finder = Finder({"sound": Source("audio", "")}, [], None)
    (tmp_path / "list.csv").write_text("close,far\na.wav,b.wav\n", encoding="utf-8")
    with pytest.raises(DataError, match="may stand in close or far; call one of these columns 'sound'"):
        finder.items([tmp_path / "list.csv"])
    (tmp_path / "list.csv").write_text("close,sound\na.wav,b.wav\n", encoding="utf-8")
    ((item,), _) = finder.items([tmp_path / "list.csv"])
    assert item.files == {"sound": str(tmp_path / "b.wav")}


def test_a_server_answers_by_its_address_and_by_the_name_that_it_is_started_with():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def asked(host: str, *names: str) -> tuple[int, str]:
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "headers": [(b"host", host.encode())]}
        asyncio.run(Guard(app, frozenset(names), False, 100)(scope, receive, send))
        return sent[0]["status"], sent[1]["body"].decode()

    status, text = asked("study.example:8400")
    assert status == 403
    assert "ask it by its address, or start it with --name" in text
    assert asked("127.0.0.1:8400")[0] == 200
    assert asked("study.example:8400", "study.example")[0] == 200


def test_a_question_that_finds_too_many_waiting_is_answered_when_it_is_asked_again(monkeypatch, tmp_path):
    async def ask() -> list[tuple[int, dict]]:
        free = asyncio.Event()

        async def answered(self, question):
            await free.wait()
            return Reply(200, {"answers": question})

        monkeypatch.setattr(Worker, "_start", lambda self: {})
        monkeypatch.setattr(Worker, "_asked", answered)
        worker = Worker(Work(tmp_path, None, "cpu", (), Limits(waiting=1)))
        waiting = [asyncio.create_task(worker.ask(name)) for name in ("first", "second")]
        await asyncio.sleep(0)
        refused = await worker.ask("third")
        free.set()
        await asyncio.gather(*waiting)
        again = await worker.ask("third")
        return [(one.status, one.body) for one in (refused, again)]

    (status, body), again = asyncio.run(ask())
    assert status == 503
    assert body["error"] == "1 questions are waiting already; ask again in a while"
    assert again == (200, {"answers": "third"})


def test_a_question_is_taken_as_a_form_or_as_the_path_that_json_says(tmp_path):
    pytest.importorskip("python_multipart")
    from starlette.requests import Request

    from mmcl.use.serve.app import _question
    from mmcl.use.serve.uploads import Refusal

    (tmp_path / "clip.wav").write_bytes(b"x")
    worker = SimpleNamespace(about={"modalities": {"voice": {"source": "sound"}}})

    async def asked(kind: str, body: bytes) -> list[bytes]:
        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [(b"content-type", kind.encode())],
        }
        async with AsyncExitStack() as stack:
            question = await _question(Request(scope, receive), stack, worker, tmp_path, "predict", {})
            return [path.read_bytes() for path in question.names]

    with pytest.raises(Refusal, match="send files as multipart/form-data, or a path as application/json"):
        asyncio.run(asked("text/plain", b"x"))
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n\r\nx\r\n--b--\r\n'
    assert asyncio.run(asked("multipart/form-data; boundary=b", form)) == [b"x"]
    assert asyncio.run(asked("application/json", b'{"path": "clip.wav"}')) == [b"x"]


def test_a_shorter_part_is_answered_where_the_whole_takes_too_long_or_too_much_memory(tmp_path, monkeypatch):
    """A file of ten bytes is too long; its first half is not."""
    whole, part = tmp_path / "whole.wav", tmp_path / "part.wav"
    whole.write_bytes(bytes(10))
    part.write_bytes(whole.read_bytes()[:5])

    class Small:
        def answer(self, question):
            if question.names[0].stat().st_size > 5:
                raise MemoryError
            return {"answers": []}

    class Slow:
        def submit(self, work, question):
            future = Future()
            if question.names[0].stat().st_size <= 5:
                future.set_result(work(question))
            return future

    async def again(self):
        pass

    monkeypatch.setattr(desk, "_DESK", [Small()])
    monkeypatch.setattr(Worker, "_start", lambda self: {})
    monkeypatch.setattr(Worker, "_again", again)
    worker = Worker(Work(tmp_path, None, "cpu", (), Limits(time=0.05)))
    worker._pool = Slow()
    long, short = (desk.Question("predict", (path,), tmp_path) for path in (whole, part))
    for ask, status in ((desk.answer, 413), (lambda question: asyncio.run(worker.ask(question)), 504)):
        refused = ask(long)
        assert refused.status == status
        assert "send a shorter part of it" in refused.body["error"]
        assert (ask(short).status, ask(short).body) == (200, {"answers": []})
