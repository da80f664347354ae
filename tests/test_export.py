"""A run as a graph or a folder: every part of it answers as the run does, every backbone is tried, and nothing of the machine is given away."""

from __future__ import annotations

import functools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import mmcl
from mmcl.api import DataError, Layout, Stream, Timed
from mmcl.api.errors import StageError
from mmcl.cli import main
from mmcl.data.prepared import load_prepared
from mmcl.model.encoder import Encoder, build_encoder
from mmcl.plugins import plugins
from mmcl.runs import RunFolder, read_json, read_jsonl
from mmcl.stages.embed import read_features
from mmcl.stages.supervise import supervise
from mmcl.testing.checks import refusal
from mmcl.testing.kinds import make_layouts
from mmcl.use.export import LENGTHS, drawn_case, export_graph, input_names
from mmcl.use.graph import FrozenGraph
from mmcl.use.learned import Learned, read_learned
from mmcl.use.publish import load, publish

ROOT = Path(mmcl.__file__).resolve().parents[1]
WHOLE = {"seconds": None, "embed": "whole", "hop": None}
ON = (
    "supervise={heads: {attention: {use: attention, width: 8, hidden: 8}}, inputs: [all], optimizer: {use: adamw, lr: 1e-2}, "
    "batch_size: 16, epochs: 1}"
)


TINY_BERT = {
    "model_type": "bert",
    "vocab_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 128,
}


TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
TINY_SOUND = {
    "conv_dim": [8],
    "conv_kernel": [2],
    "conv_stride": [1],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
SMALL = {
    "hf-audio": {"config": {"model_type": "hubert", **TINY, **TINY_SOUND, "feat_extract_norm": "layer"}},
    "hf-video": {"config": {"model_type": "vit", **TINY, "image_size": 16, "patch_size": 8}},
    "st-gcn": {"channels": (4, 8), "strides": (1, 2)},
    "conv-tasnet": {"blocks": 2, "repeats": 1},
    "resnet-1d": {"channels": (8, 12)},
    "tcn": {"channels": (8, 8)},
    "timm": {"model": "test_resnet"},
    "conformer": {"layers": 1},
    "transformer": {"layers": 1},
    "cls-transformer": {"layers": 1},
    "univa-encoder": {"layers": 1},
}
"""As few layers as hold each kind of what they are made of: what an export takes grows with them."""


def cases():
    """Every backbone on every kind of stream that it takes; and with every normalisation, which changes what a graph is made of."""
    for name, offer in plugins().all("backbone"):
        for axes in offer.spec.accepts:
            yield pytest.param(name, axes, {}, id=f"{name}-{'-'.join(axes)}")
        for option, field in offer.spec.params.model_fields.items():
            for word in get_args(field.annotation) if get_origin(field.annotation) is Literal else ():
                if option == "norm" and word != field.default:
                    yield pytest.param(name, offer.spec.accepts[0], {option: word}, id=f"{name}-{option}-{word}")


def encoder_of(name: str, axes: tuple[str, ...], options) -> Encoder:
    spec = plugins().get("backbone", name).spec
    params = spec.params(**SMALL.get(name, {}), **options)
    layouts = [one for one in make_layouts(axes) if refusal(functools.partial(spec.fits, params, one)) is None]
    if not layouts and axes == ("time", "channel"):
        layouts = [Layout("waveform", axes, {"channel": 1}, 16000.0)]
    if not layouts:
        notes = {"vocab": 16, "model": "tiny", "config": TINY_BERT}
        layouts = [Layout("tokens", axes, {"token": 1}, notes=notes)]  # a language model, which reads ids of its own
    spec = replace(spec, build=spec.rebuild or spec.build)  # with any weights
    encoder = build_encoder("one", layouts[0], spec, params, 0, hidden=8, width=4, normalise=layouts[0].measured)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.dim() <= 1:
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return encoder.eval()


def learned_of(encoder: Encoder, use: str, tmp_path) -> Learned:
    about = {
        "name": "made",
        "modalities": {
            "one": {
                "source": "s",
                "features": {"use": "f"},
                "layout": encoder.layout.to_json(),
                "normalise": "channel",
                "backbone": {"use": use},
            }
        },
        "projection": {"hidden": 8, "width": 4},
        "window": WHOLE,
    }
    return Learned(tmp_path, 0, 0, {"one": encoder}, (), None, about)


@pytest.mark.parametrize(("name", "axes", "options"), list(cases()))
def test_every_backbone_exports_equal_or_says_in_one_sentence_why_not(name, axes, options, tmp_path):
    pytest.importorskip("onnxruntime")
    learned = learned_of(encoder_of(name, axes, options), name, tmp_path)
    if plugins().get("backbone", name).spec.departs:
        with pytest.raises(StageError, match="cannot be exported, for what it makes of a recording depends on its batch"):
            export_graph(learned, "onnx", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    if name == "hf-audio":  # windows of one length go through it together, which a graph for every length cannot know
        with pytest.raises(StageError, match="the graph gives answers that are .* from the run's own"):
            export_graph(learned, "onnx", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    done = export_graph(learned, "onnx", tmp_path / "out")
    assert done.compared.startswith("onnxruntime")
    assert done.apart <= 1e-5
    assert done.fixed == ()
    expect_own_vectors(tmp_path / "out", learned)


def expect_own_vectors(folder, learned: Learned):
    """Rows of other numbers and lengths than the graph was made with, through onnxruntime and through the encoder by itself."""
    import onnxruntime

    encoder = learned.encoders["one"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    graph = FrozenGraph(learned.encoders, (), False)
    case = drawn_case(graph, (5, 8, 2, 1) if "height" in encoder.layout.axes else (20, 45, 2, 1))
    there = {one.name for one in session.get_inputs()}
    feed = {name: one.numpy() for name, one in zip(input_names(graph), case.tensors, strict=True) if name in there}
    (got,) = session.run(["one/vector"], feed)
    stream = case.streams["one"]
    for row in range(4):
        length = int(stream.steps[row].sum())
        if not stream.present[row]:
            assert not got[row].any()
            continue
        values = stream.values[row : row + 1, :length] if encoder.layout.timed else stream.values[row : row + 1]
        with torch.no_grad():
            alone = encoder(Stream(values, stream.steps[row : row + 1, :length], torch.ones(1, dtype=torch.bool)))
        np.testing.assert_allclose(got[row], alone[0].numpy(), atol=2e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def supervised(tiny_run, tmp_path_factory):
    """A finished run with a network that labels trained beside its heads."""
    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe

    root = tmp_path_factory.mktemp("given") / "runs"
    shutil.copytree(tiny_run.root.parent, root)
    run = RunFolder(root / "tiny")
    supervise(make_plan(parse_recipe((run.root / "recipe.yaml").read_text(), "tiny.yaml", (ON,)), overrides=(ON,)), run)
    return run


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_a_run_s_graph_gives_its_own_features_and_predictions_of_its_recordings(to, supervised, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(supervised.root), str(tmp_path / "out"), "--to", to])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "fold 0, seed 3" in printed
    assert "any number of rows, any length" in printed
    features, who = read_features(supervised.stage("embed", 0, 3), "pretrained", "test")
    feed = feed_of(supervised)
    got = answers_of(tmp_path / "out", to, feed)
    for name, one in features.items():
        np.testing.assert_allclose(got[f"{name}/vector"], one.vector.numpy(), atol=1e-5)
        np.testing.assert_allclose(got[f"{name}/projection"], one.projection.numpy(), atol=1e-5)
    mine = dict(zip(who["ids"], got["emotion~all~linear/output"].argmax(1).tolist(), strict=True))
    rows = [
        row
        for row in read_jsonl(supervised.stage("probe", 0, 3) / "predictions.jsonl")
        if (row["input"], row["encoder"]) == ("all", "pretrained")
    ]
    assert rows
    assert {row["id"]: mine[row["id"]] for row in rows} == {row["id"]: row["prediction"] for row in rows}
    (head,) = [one for one in mmcl.load_heads(supervised.stage("probe", 0, 3)) if one.input == "all"]
    np.testing.assert_allclose(got["emotion~all~linear/probability"], head.probabilities(features), atol=1e-5)


def feed_of(run: RunFolder, together: bool = False) -> dict[str, torch.Tensor]:
    """The test recordings of a run as its graph takes them: every window of 0.8 s, and which recording each is of."""
    from mmcl.data.stack import stack
    from mmcl.data.windows import cut, slide

    prepared = load_prepared(run)
    stores = {name: prepared.stores[name] for name in ("text", "audio", "landmarks")}
    rows, feed = prepared.folds[0].test, {}
    for name, store in stores.items():
        seen = stores if together else {name: store}
        cuts = [
            (i, row, span)
            for i, row in enumerate(rows)
            if any(row in one for one in seen.values())
            for span in slide(seen, row, 0.8, "sliding", None)
        ]
        stream = stack([cut(store, row, span) for _, row, span in cuts], store.layout)
        average = torch.zeros(len(rows), len(cuts))
        for window, (i, _, _) in enumerate(cuts):
            average[i, window] = 1 / sum(other == i for other, _, _ in cuts)
        feed |= {f"{name}/values": stream.values, f"{name}/steps": stream.steps, f"{name}/present": stream.present}
        feed["recording/average" if together else f"{name}/average"] = average
    return feed


def answers_of(folder, to: str, feed) -> dict[str, np.ndarray]:
    about = read_json(folder / "model.json")
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        there = {one.name for one in session.get_inputs()}
        got = session.run(about["outputs"], {name: one.numpy() for name, one in feed.items() if name in there})
        return dict(zip(about["outputs"], got, strict=True))
    module = torch.export.load(folder / "model.pt2").module()
    got = module(*(feed[name] for name in about["inputs"]))
    return {name: one.detach().numpy() for name, one in zip(about["outputs"], got, strict=True)}


def test_a_graph_of_a_supervised_network_gives_its_predictions(supervised, tmp_path):
    pytest.importorskip("onnxruntime")
    learned = read_learned(supervised.root, network="emotion~all~attention")
    export_graph(learned, "onnx", tmp_path / "out")
    got = answers_of(tmp_path / "out", "onnx", feed_of(supervised, together=True))["emotion~all~attention/output"].argmax(1)
    prepared = load_prepared(supervised)
    mine = dict(zip([prepared.samples[row].id for row in prepared.folds[0].test], got.tolist(), strict=True))
    rows = read_jsonl(supervised.stage("supervise", 0, 3) / "predictions.jsonl")
    assert {row["id"]: mine[row["id"]] for row in rows} == {row["id"]: row["prediction"] for row in rows}


def test_a_graph_that_answers_otherwise_is_not_written(supervised, tmp_path, monkeypatch):
    import mmcl.use.export as export

    learned = read_learned(supervised.root)
    written = export._written

    def apart(*words):
        """Once the graph is on disk, the run's own weights are changed a little."""
        run, by = written(*words)
        with torch.no_grad():
            learned.encoders["audio"].projection[0].weight.add_(1e-2)
        return run, by

    monkeypatch.setattr(export, "_written", apart)
    with pytest.raises(StageError, match="from the run's own, where 1e-05 is allowed; nothing was written"):
        export_graph(learned, "torch-export", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_saved_inputs_give_the_saved_outputs_again(supervised, tmp_path):
    export_graph(read_learned(supervised.root), "torch-export", tmp_path / "out")
    saved, about = load_file(str(tmp_path / "out" / "check.safetensors")), read_json(tmp_path / "out" / "model.json")
    module = torch.export.load(tmp_path / "out" / "model.pt2").module()
    got = dict(zip(about["outputs"], module(*(saved[f"input/{name}"] for name in about["inputs"])), strict=True))
    for name, one in got.items():
        np.testing.assert_allclose(one.detach().numpy(), saved[f"output/{name}"].numpy(), atol=1e-5)
    assert saved["input/audio/values"].shape[0] == len(LENGTHS[0])


def recordings_of(prepared, rows):
    """Streams as a stranger would have them, words with their times."""

    def stream(store, row):
        times = store.times(row)
        return store.values(row) if times is None else Timed(store.values(row), times)

    return {name: [stream(store, row) if row in store else None for row in rows] for name, store in prepared.stores.items()}


def test_a_published_folder_opens_and_answers_as_the_run_without_its_files(supervised, tmp_path):
    publish(read_learned(supervised.root), tmp_path / "out")
    opened = mmcl.load(tmp_path / "out")
    prepared = load_prepared(supervised)
    rows = prepared.folds[0].test
    recordings = recordings_of(prepared, rows)
    features, who = read_features(supervised.stage("embed", 0, 3), "pretrained", "test")
    mine = opened.embed(recordings)
    for name, one in features.items():
        torch.testing.assert_close(mine[name].vector, one.vector, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mine[name].projection, one.projection, atol=1e-5, rtol=1e-5)
        assert torch.equal(mine[name].present, one.present)
    answers = [one for one in opened.predict(recordings) if one["input"] == "all"]
    classes = opened.heads[0].task.classes
    mine_by_id = {who["ids"][one["recording"]]: classes.index(one["prediction"]) for one in answers}
    written = {
        row["id"]: row["prediction"]
        for row in read_jsonl(supervised.stage("probe", 0, 3) / "predictions.jsonl")
        if (row["input"], row["encoder"]) == ("all", "pretrained")
    }
    assert {id: mine_by_id[id] for id in written} == written
    assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in answers)
    alone = opened.predict({"audio": recordings["audio"][:2]})
    assert {tuple(one["modalities"]) for one in alone} == {("audio",)}


def test_a_published_network_answers_as_the_run(supervised, tmp_path):
    publish(read_learned(supervised.root, network="emotion~all~attention"), tmp_path / "out")
    opened = load(tmp_path / "out")
    prepared = load_prepared(supervised)
    rows = prepared.folds[0].test
    recordings = recordings_of(prepared, rows)
    classes = opened.networks[0].task.classes
    mine = {prepared.samples[rows[one["recording"]]].id: classes.index(one["prediction"]) for one in opened.predict(recordings)}
    for row in read_jsonl(supervised.stage("supervise", 0, 3) / "predictions.jsonl"):
        assert mine[row["id"]] == row["prediction"]


def test_nothing_of_the_machine_and_no_recording_is_given_away(supervised, tmp_path):
    encoders = supervised.stage("pretrain", 0, 3) / "encoders.json"
    about = read_json(encoders)
    about["modalities"]["text"]["features"]["params"]["file"] = "/home/somebody/secret/glove.txt"
    copy = tmp_path / "copy"
    shutil.copytree(supervised.root, copy)
    (copy / "fold-00/seed-3/pretrain/encoders.json").write_text(json.dumps(about))
    publish(read_learned(copy), tmp_path / "out")
    export_graph(read_learned(copy), "onnx", tmp_path / "out" / "graph")
    export_graph(read_learned(copy), "torch-export", tmp_path / "out" / "program")
    ids = [sample.id for sample in load_prepared(supervised).samples]
    for path in sorted((tmp_path / "out").rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        assert b"/home/" not in content, path
        assert b"secret" not in content
        assert str(ROOT).encode() not in content, path
        assert str(Path(torch.__file__).parent).encode() not in content, path
        assert str(tmp_path).encode() not in content
        assert not any(id.encode() in content for id in ids), path
        assert path.suffix in ("", ".json", ".safetensors", ".md", ".onnx", ".pt2")


def test_the_card_says_data_protocol_scores_with_intervals_limits_and_what_it_is_not_for(supervised, tmp_path):
    publish(read_learned(supervised.root), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "mmcl"
    (score,) = [
        row
        for row in read_json(supervised.root / "report.json")["summary"]
        if (row["input"], row["head"], row["encoder"], row["metric"]) == ("all", "linear", "pretrained", "accuracy")
    ]
    assert f"| all | linear | accuracy | {score['mean']:.3f} |" in body
    for part in (
        "## Data and protocol",
        "## Scores",
        "95 % interval",
        "## Limits",
        "## What it must not be used for",
        "prohibited",
    ):
        assert part in body
    assert "made up" in body  # the toy corpus
    assert "fold 0, seed 3" in body


def test_what_cannot_be_given_is_refused_in_a_sentence(supervised, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for words, sentence in (
        ([str(tmp_path / "none"), str(tmp_path / "out"), "--to", "onnx"], "is not there; a run folder"),
        (
            [str(supervised.root), str(tmp_path / "full"), "--to", "safetensors"],
            "holds mine.txt; give a new or an empty folder",
        ),
        ([str(supervised.root), str(tmp_path / "out"), "--to", "onnx", "--fold", "7"], "has finished fold 0 seed 3"),
        ([str(supervised.root), str(tmp_path / "out"), "--to", "onnx", "--network", "x"], "emotion~all~attention"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["export", *words])
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_from_elsewhere_is_not_trusted(supervised, tmp_path):
    good = tmp_path / "good"
    publish(read_learned(supervised.root), good)
    config = read_json(good / "config.json")

    def spoiled(number: int, change) -> str:
        folder = tmp_path / f"bad-{number}"
        shutil.copytree(good, folder)
        change(folder)
        with pytest.raises((DataError, StageError, mmcl.api.PluginError, mmcl.api.UnknownNameError)) as error:
            mmcl.load(folder)
        return str(error.value)

    def say(name, value):
        return lambda folder: (folder / name).write_text(json.dumps(value))

    def link(folder):
        (folder / "heads.safetensors").unlink()
        (folder / "heads.safetensors").symlink_to("/etc/hostname")

    assert "is a link" in spoiled(0, link)
    assert "not of a folder" in spoiled(1, say("config.json", {}))
    assert "do not say what they should" in spoiled(2, say("config.json", config | {"window": {"seconds": -1}}))
    assert "does not hold what it should" in spoiled(3, say("encoders.json", {"modalities": []}))
    assert "safetensors" in spoiled(4, lambda folder: (folder / "encoders.safetensors").write_bytes(b"\x80\x04K\x01."))
    about = read_json(good / "encoders.json")
    about["modalities"]["audio"]["backbone"]["use"] = "nobody"
    assert "unknown backbone 'nobody'" in spoiled(5, say("encoders.json", about))
    with pytest.raises(DataError, match="is no folder, and no name on the hub"):
        mmcl.load("no/such/thing")
    with pytest.raises(DataError, match="knows the modalities"):
        mmcl.load(good).embed({"smell": [np.zeros((3, 2))]})
    with pytest.raises(DataError, match="a stream of 'audio' is"):
        mmcl.load(good).embed({"audio": [np.zeros((3, 5))]})


def test_a_name_on_the_hub_is_fetched_without_code_or_pickle(supervised, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    publish(read_learned(supervised.root), tmp_path / "good")
    asked = {}

    def download(name, local_dir, allow_patterns):
        asked.update(name=name, allowed=allow_patterns)
        shutil.copytree(tmp_path / "good", local_dir)

    monkeypatch.setattr(hub, "snapshot_download", download)
    opened = load("somebody/model", cache=tmp_path / "cache")
    assert asked == {"name": "somebody/model", "allowed": ["*.json", "*.safetensors", "README.md"]}
    assert set(opened.encoders) == {"text", "audio", "landmarks"}


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_every_file_follows_the_umask(mask, tiny_plan, tmp_path):
    """Of a run with labels, its prepared streams, and what is given away: weights as much as JSON."""
    from mmcl.report import run_and_report

    before = os.umask(mask)
    try:
        run = RunFolder(tmp_path / "runs" / "tiny")
        run_and_report(tiny_plan(ON, "pretrain.epochs=1", "probe.inputs=[audio]"), run, workers=1)
        publish(read_learned(run.root), tmp_path / "given")
        export_graph(read_learned(run.root), "torch-export", tmp_path / "graph")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json", ".jsonl", ".html", ".pt2", ".md"}
    assert {path.relative_to(tmp_path): oct(path.stat().st_mode & 0o777) for path in files} == {
        path.relative_to(tmp_path): oct(0o666 & ~mask) for path in files
    }
