"""Offers of what uses finished runs, followed."""

from __future__ import annotations

import asyncio
import csv
import importlib.util
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import mmcl
from mmcl.api import StageError
from mmcl.plugins import plugins
from mmcl.runs import read_json, write_json
from mmcl.use.publish import load
from mmcl.use.serve import NEEDED, Limits, Work, start
from mmcl.use.serve.server import bound
from mmcl.use.serve.uploads import below, keep_uploads
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.core import call
from tests.advice.extras import brings
from tests.advice.stages_runs import STUDY, finished, overriding, run, study
from tests.advice.use_files import FILES

SAYS = "tests/test_advice_stages.py::"
NODES = "tests/test_cluster.py::test_a_machine_that_sees_other_recordings_or_another_run_says_so"
FORM = SAYS + "test_a_question_is_taken_as_a_form_or_as_the_path_that_json_says"
SHORTER = SAYS + "test_a_shorter_part_is_answered_where_the_whole_takes_too_long_or_too_much_memory"
ID = "toy-00001"


def _holds(extra: str, *packages: str) -> None:
    """What a message says to install brings these packages."""
    assert {package.lower() for package in packages} <= {package.lower() for package in brings(extra)}


@contextmanager
def _without(*modules: str) -> Iterator[None]:
    """As if some packages were not installed."""
    real = importlib.util.find_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in modules else real(name, *more))
        for module in ("mmcl.use.embedding", "mmcl.use.serve"):  # which have it by its own name
            patch.setattr(f"{module}.find_spec", importlib.util.find_spec)
        yield


# ------------------------------------------------------------------------------------------------------- questions to a run


def _clips(folder: Path) -> list[Path]:
    """New sounds that nobody has said who is in."""
    clips = []
    for number in (3, 4):
        clips.append(folder / "new" / f"clip{number}.wav")
        clips[-1].parent.mkdir(exist_ok=True)
        shutil.copy(folder / "data" / "sound" / f"r00{number}.wav", clips[-1])
    return clips


def _asked(folder: Path) -> None:
    root = study(folder)
    mmcl.open(root).predict(_clips(folder))


def _whose(folder: Path) -> None:
    rows = "".join(f"{clip.name},somebody\n" for clip in _clips(folder))
    (folder / "new" / "table.csv").write_text(f"sound,speaker\n{rows}", encoding="utf-8")
    answers = mmcl.open(study(folder)).predict(folder / "new" / "table.csv")
    assert [(one.id, one.head) for one in answers] == [("clip3", "per_speaker"), ("clip4", "per_speaker")]


def _in_windows(folder: Path) -> None:
    root = study(folder)
    mmcl.open(root).predict(_clips(folder), windows=True)


def _plain_head(folder: Path) -> None:
    line = ["run", str(folder / "study.yaml"), "--data", str(folder), "--out", str(folder / "runs" / "study")]
    call(
        *line,
        "--workers",
        "1",
        "--device",
        "cpu",
        *overriding("probe.heads.plain={use: linear, l2: [0.1], standardise: train}"),
    )
    session = mmcl.open(folder / "runs" / "study")
    assert {one.head for one in session.predict(_clips(folder))} == {"plain"}
    assert len(session.predict(_clips(folder), windows=True)) > 2


def _embedded(folder: Path, name: str, *words: str) -> Path:
    """Features of one of the run's own recordings, by the command."""
    out = folder / name
    call("embed", str(finished(folder).root), ID, "--out", str(out), "--device", "cpu", *words)
    assert out.stat().st_size
    return out


def _whole_recordings(folder: Path) -> None:
    if not (folder / "runs").exists():
        run(folder, *overriding("window.seconds="))
    _embedded(folder, "windows.npz", "--windows")


def _so_long(folder: Path) -> None:
    features = np.load(_embedded(folder, "windows.npz", "--windows", "--seconds", "0.5"))
    assert len(features["ids"]) > 1
    assert np.allclose(features["end"] - features["start"], 0.5)


def _without_pyarrow(folder: Path) -> None:
    with _without("pyarrow"):
        _embedded(folder, "features.parquet")


def _with_pyarrow(folder: Path) -> None:
    with _without("pyarrow"):
        _embedded(folder, "features.npz")
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(_embedded(folder, "features.parquet"))["id"].to_pylist() == [ID]


def _opened(folder: Path) -> None:
    assert mmcl.open(finished(folder).root).modalities == ["text", "audio"]


def _no_readers() -> pytest.MonkeyPatch:
    """As if no dataset read single files."""
    patch = pytest.MonkeyPatch()
    patch.setattr("mmcl.use.reading.plugins", lambda: SimpleNamespace(all=lambda kind: []))
    return patch


def _a_file(folder: Path) -> None:
    from mmcl.media import write_audio

    write_audio(folder / "new.wav", np.sin(np.arange(8000) / 9) * 0.3, 8000)
    patch = _no_readers()
    try:
        mmcl.open(finished(folder).root).embed(folder / "new.wav")
    finally:
        patch.undo()


def _by_its_id(folder: Path) -> None:
    patch = _no_readers()
    try:
        assert mmcl.open(finished(folder).root).embed(ID).ids == [ID]
    finally:
        patch.undo()
    call("plugins")


def _moved(folder: Path) -> None:
    plan = read_json(study(folder) / "plan.json")
    plan["plan"]["dataset"]["root"] = str(folder / "gone")
    write_json(folder / "runs" / "study" / "plan.json", plan)
    mmcl.open(folder / "runs" / "study").embed(["r003"])


def _there(folder: Path) -> None:
    root = folder / "runs" / "study"
    own = mmcl.open(root, data=folder).embed(["r003"])
    assert own.ids == ["r003"]
    named = mmcl.open(root).embed(folder / "data" / "sound" / "r003.wav")
    torch.testing.assert_close(named.features["voice"].vector, own.features["voice"].vector)


def _unlabelled(folder: Path) -> None:
    plugins().get("dataset", "folder").spec.sample(folder / "data", 24, 0)
    table = folder / "data" / "recordings.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = [{name: row[name] for name in ("id", "sound", "hand", "speaker", "split")} for row in csv.DictReader(file)]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    recipe = "".join(line for line in STUDY.splitlines(keepends=True) if not line.startswith("probe"))
    (folder / "study.yaml").write_text(recipe, encoding="utf-8")
    line = ["run", str(folder / "study.yaml"), "--data", str(folder), "--out", str(folder / "runs" / "study")]
    call(*line, "--workers", "1", "--device", "cpu")
    mmcl.open(folder / "runs" / "study").predict(["r003"])


def _without_labels(folder: Path) -> None:
    session = mmcl.open(folder / "runs" / "study")
    assert session.embed(["r003"]).ids == ["r003"]
    near = session.search(["r003"], folder / "data" / "recordings.csv", n=3)
    assert len(near) == 3


def _features(folder: Path) -> None:
    for split in ("train", "test"):
        columns = mmcl.features(finished(folder).root, split)
        assert len(columns["id"]) == len(columns["text.0"]) > 0


# ------------------------------------------------------------------------------------------------------------- given away


def _given(folder: Path, to: str, *words: str, name: str = "given") -> Path:
    call("export", str(finished(folder).root), str(folder / name), "--to", to, *words)
    return folder / name


def _without_onnx(folder: Path) -> None:
    with _without("onnx", "onnxscript"):
        _given(folder, "onnx")


def _not_as_onnx(folder: Path) -> None:
    def fails(*args: object, **more: object) -> None:
        raise RuntimeError("an operation has no counterpart")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", fails)
        _given(folder, "onnx")


def _as_torch(folder: Path) -> None:
    (file,) = _given(folder, "torch-export").glob("*.pt2")
    assert torch.export.load(file).graph_signature.user_outputs


def _tars(folder: Path) -> None:
    assert (_given(folder, "webdataset") / "about.json").is_file()


LABELLED = (
    "pretrain.epochs=0",
    "supervise={heads: {mlp: mlp}, inputs: [text, audio], epochs: 1, batch_size: 8}",
)


def _two_networks(folder: Path) -> None:
    root = run(folder, "--stop-after", "supervise", *overriding(*LABELLED)).root
    shutil.rmtree(root / "fold-00" / "seed-3" / "probe")
    call("publish", str(root), str(folder / "given"))


def _that_network(folder: Path) -> None:
    call("publish", str(folder / "runs" / "tiny"), str(folder / "given"), "--network", "emotion~audio~mlp")
    assert [one.input for one in mmcl.load(folder / "given").networks] == ["audio"]


def _published(folder: Path) -> Path:
    """What a run gives away that takes a window every millisecond."""
    if not (folder / "given").exists():
        config = read_json(_given(folder, "safetensors") / "config.json")
        window = config["window"] | {"seconds": 0.5, "embed": "sliding", "hop": 0.001}
        write_json(folder / "given" / "config.json", config | {"window": window})
    return folder / "given"


def _long_stream(folder: Path, seconds: float) -> None:
    model = mmcl.load(_published(folder))
    layout = model.layouts["audio"]
    stream = np.ones((round(seconds * layout.rate), *layout.shape), np.float32)
    assert bool(model.embed({"audio": [stream]})["audio"].present[0])


def _from_hub(folder: Path) -> None:
    with _without("huggingface_hub"):
        load("somebody/model", cache=folder / "cache")


def _fetched(folder: Path) -> None:
    """The extra brings transformers, which brings what fetches; the hub itself is played by a folder."""
    _holds("hf", "transformers")
    hub = pytest.importorskip("huggingface_hub")
    assert any(one.startswith("huggingface-hub") for one in requires("transformers") or ())
    good = _given(folder, "safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "snapshot_download", lambda name, local_dir, allow_patterns: shutil.copytree(good, local_dir))
        assert set(load("somebody/model", cache=folder / "cache").encoders) == {"text", "audio"}


def _onto(folder: Path, name: str) -> None:
    (folder / "full").mkdir(exist_ok=True)
    (folder / "full" / "mine.txt").write_text("x", encoding="utf-8")
    call("publish", str(finished(folder).root), str(folder / name))


def _onto_link(folder: Path) -> None:
    (folder / "link").symlink_to(folder)
    _onto(folder, "link")


def _new_and_empty(folder: Path) -> None:
    (folder / "empty").mkdir()
    for name in ("new", "empty"):
        _onto(folder, name)
        assert mmcl.load(folder / name).heads
    assert (folder / "full" / "mine.txt").read_text(encoding="utf-8") == "x"


def _uploaded(folder: Path, there: str = "there") -> Path:
    call("upload", str(finished(folder).root), f"file://{folder / there}")
    assert list((folder / there).rglob("listing.json"))
    return folder / there


def _changed(folder: Path, name: str, change: Callable[[dict[str, object]], object]) -> Path:
    """A file of an upload that says something else; its folder."""
    path = next(_uploaded(folder).rglob(name))
    about = json.loads(path.read_text(encoding="utf-8"))
    change(about)
    path.write_text(json.dumps(about), encoding="utf-8")
    return path.parent


def _other_recordings(folder: Path) -> None:
    _changed(folder, "listing.json", lambda about: about["recordings"].update(sha256="0" * 64))
    _uploaded(folder)


def _other_streams(folder: Path) -> None:
    _changed(folder, "remote.json", lambda about: about.update(key="other"))
    _uploaded(folder)


def _elsewhere_or_removed(folder: Path, name: str) -> None:
    _uploaded(folder, "another")
    before = {path.name: path.read_bytes() for path in next((folder / "another").rglob(name)).parent.glob("*.json")}
    wrong = next(path.parent for path in (folder / "there").rglob(name) if path.read_bytes() != before[name])
    if wrong.name != next((folder / "another").rglob(name)).parent.name:  # of the two modalities, the other one
        before = {path.name: path.read_bytes() for path in next((folder / "another").rglob(wrong.name)).glob("*.json")}
    shutil.rmtree(wrong)
    _uploaded(folder)
    assert {path.name: path.read_bytes() for path in wrong.glob("*.json")} == before


def _no_checksums(folder: Path) -> None:
    finished(folder)
    path = next((folder / "runs" / "prepared").rglob("store.json"))
    about = read_json(path)
    write_json(path, {name: value for name, value in about.items() if name not in ("sha256", "blocks")})
    _uploaded(folder)


def _anew(folder: Path) -> None:
    stores = list((folder / "runs" / "prepared").rglob("store.json"))
    (old,) = (path.parent for path in stores if "sha256" not in read_json(path))
    shutil.rmtree(old)
    run(folder)
    assert "sha256" in read_json(old / "store.json")
    _uploaded(folder)


# ---------------------------------------------------------------------------------------------------------------- a server


def _taken() -> None:
    with bound("127.0.0.1", 0) as listening:
        bound("127.0.0.1", listening.getsockname()[1])


def _another_port() -> None:
    with bound("127.0.0.1", 0) as listening, bound("127.0.0.1", 0) as other:
        assert other.getsockname()[1] != listening.getsockname()[1]


def _serving(folder: Path) -> None:
    with _without("uvicorn", "fastapi"):
        start(Work(folder, None, "cpu", (), Limits()), "127.0.0.1", 0, None, (), "")


def _serve_installed(folder: Path) -> None:
    _holds("serve", *NEEDED.values())
    for module in NEEDED:
        pytest.importorskip(module)
    with pytest.raises(StageError, match="is not there"):  # so far does it come with them
        start(Work(folder / "gone", None, "cpu", (), Limits()), "127.0.0.1", 0, None, (), "")


class _Upload(io.BytesIO):
    """A file of a form."""

    filename = "x.wav"

    async def read(self, size: int = -1, /) -> bytes:  # type: ignore[override]  # a form's file is awaited
        return super().read(size)


def _sent(folder: Path, *fields: str) -> list[Path]:
    """Where the files of a form are kept, each a sound of one name."""
    shutil.rmtree(folder / "sent", ignore_errors=True)
    (folder / "sent").mkdir()
    return asyncio.run(keep_uploads([(field, _Upload(b"x")) for field in fields], folder / "sent", ["sound", "hand"]))


def _by_source(folder: Path) -> None:
    assert _sent(folder, "sound", "hand") == [folder / "sent" / name / "x.wav" for name in ("sound", "hand")]


def _sent_or_below(folder: Path) -> None:
    (path,) = _sent(folder, "file")
    assert path.read_bytes() == b"x"
    assert below(folder, "sent/x.wav") == path.resolve()  # as started with --root


USE: list[Row | Elsewhere | NoOffer] = [
    *FILES,
    Row("mmcl/use/answers.py _expect_heads_without_groups", "name a table with a column such as `speaker`", _asked, _whose),
    Row(
        "mmcl/use/answers.py _expect_heads_without_groups",
        "or train a head with standardise: train",
        _in_windows,
        _plain_head,
    ),
    Elsewhere(
        "mmcl/use/card.py _scores",
        "`mmcl report RUN` writes one",
        SAYS + "test_a_card_without_scores_has_them_once_the_report_is_written",
    ),
    Row("mmcl/use/embedding.py window_of", "say how long they are (--seconds)", _whole_recordings, _so_long),
    Row(
        "mmcl/use/embedding.py require_ending",
        "features are written as",
        lambda folder: _embedded(folder, "features.txt"),
        lambda folder: [_embedded(folder, f"features{ending}") for ending in (".npz", ".safetensors", ".parquet")],
    ),
    Row("mmcl/use/embedding.py require_ending", "pip install pyarrow (or write .npz)", _without_pyarrow, _with_pyarrow),
    Row(
        "mmcl/use/export.py _needed",
        "pip install 'mmcl[export]'",
        _without_onnx,
        lambda folder: _holds("export", "onnx", "onnxscript"),
    ),
    Row("mmcl/use/export.py _written", "--to torch-export may do", _not_as_onnx, _as_torch),
    Row(
        "mmcl/use/giving.py give",
        "leave --seed and --network out",
        lambda folder: _given(folder, "webdataset", "--seed", "3"),
        _tars,
    ),
    Elsewhere("mmcl/use/giving.py give", "open it with mmcl.load", SAYS + "test_what_is_given_away_opens_as_its_line_says"),
    Row("mmcl/use/learned.py _one_network", "of which --network has to name one", _two_networks, _that_network),
    Row(
        "mmcl/use/opened.py stated_plan",
        "name one such as runs/NAME",
        lambda folder: mmcl.open(finished(folder).root.parent),
        _opened,
    ),
    Row(
        "mmcl/use/publish.py _spans",
        "cut it into shorter ones",
        lambda folder: _long_stream(folder, 120),
        lambda folder: _long_stream(folder, 1),
    ),
    Row("mmcl/use/publish.py _fetched", "pip install 'mmcl[hf]'", _from_hub, _fetched),
    Row("mmcl/use/reading.py _reader", "name recordings of the run by their ids", _a_file, _by_its_id),
    Row("mmcl/use/reading.py _dataset", "say with --data where they lie now, or name files", _moved, _there),
    Row("mmcl/use/serve/__init__.py start", "pip install 'mmcl[serve]'", _serving, _serve_installed),
    NoOffer("mmcl/use/upload.py _put_store", "upload {}", "the name of a progress bar"),
    NoOffer("mmcl/use/serve/app.py", "A file, a folder or a table below", "a description in the server's OpenAPI document"),
    NoOffer("mmcl/use/serve/desk.py _bug", "please report it", "asks to write to the people who maintain a package"),
    Elsewhere(
        "mmcl/use/serve/guard.py _refusal",
        "ask it by its address, or start it with --name",
        SAYS + "test_a_server_answers_by_its_address_and_by_the_name_that_it_is_started_with",
    ),
    Row("mmcl/use/serve/server.py bound", "give another --port", lambda folder: _taken(), lambda folder: _another_port()),
    Row(
        "mmcl/use/serve/uploads.py keep_uploads",
        "name each by its source",
        lambda folder: _sent(folder, "file", "other"),
        _by_source,
    ),
    Row(
        "mmcl/use/serve/uploads.py keep_uploads",
        "send one as multipart/form-data, or a path as JSON",
        _sent,
        _sent_or_below,
    ),
    Elsewhere("mmcl/use/serve/app.py _question", "send files as multipart/form-data", FORM),
    Elsewhere("mmcl/use/serve/desk.py answer", "send a shorter part of it", SHORTER),
    Elsewhere("mmcl/use/serve/worker.py _asked", "send a shorter part of it", SHORTER),
    Row("mmcl/use/session.py predict", "embed and search them", _unlabelled, _without_labels),
    Row("mmcl/use/serve/uploads.py below", "upload the file", lambda folder: below(None, "x.wav"), _sent_or_below),
    Elsewhere(
        "mmcl/use/serve/worker.py ask",
        "ask again in a while",
        SAYS + "test_a_question_that_finds_too_many_waiting_is_answered_when_it_is_asked_again",
    ),
    Row(
        "mmcl/use/shared.py empty_place",
        "give a new or an empty one",
        _onto_link,
        _new_and_empty,
    ),
    Row(
        "mmcl/use/shared.py empty_place",
        "give a new or an empty folder",
        lambda folder: _onto(folder, "full"),
        _new_and_empty,
    ),
    Row(
        "mmcl/use/table.py features_of",
        ": there are ",
        lambda folder: mmcl.features(finished(folder).root, "dev"),
        _features,
    ),
    Elsewhere("mmcl/use/together.py embed_chunk", "put the run where every node sees the same one", NODES),
    Elsewhere("mmcl/use/together.py embed_chunk", "put them where every node sees the same ones", NODES),
    Row("mmcl/use/upload.py upload", "delete that folder and run the recipe again", _no_checksums, _anew),
    Row(
        "mmcl/use/upload.py upload",
        "upload to another URL, or remove that",
        _other_recordings,
        lambda folder: _elsewhere_or_removed(folder, "listing.json"),
    ),
    Elsewhere(
        "mmcl/use/upload.py upload",
        "starts from them",
        SAYS + "test_a_run_starts_from_the_url_that_an_upload_names",
    ),
    Row(
        "mmcl/use/upload.py _put_store",
        "remove it, or upload to another URL",
        _other_streams,
        lambda folder: _elsewhere_or_removed(folder, "remote.json"),
    ),
]
