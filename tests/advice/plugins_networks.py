"""Offers of packages with networks, losses and heads, followed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mmcl.api import Encoded, Items, Labelled, RecipeError, Task
from mmcl.model.contrast import build_contrast
from mmcl.plugins import plugins
from mmcl.testing import make_group, make_pair
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.planned import MEL, SMALL, WORDS, folder_of, network, planned, vectors

SOUND = {"source": "audio", "features": MEL}
FACES = {"source": "faces", "features": {"use": "frames"}}
POINTS = {"source": "landmarks", "features": {"use": "face-landmarks"}}
ODD = "no centre; make it odd"
NO_NUMBERS = "says where the fault is: pretraining stops by itself, with its own advice, where its loss is no number"
ONE = {**SOUND, "backbone": SMALL}


def _body(joints: int, **backbone: Any) -> None:
    """st-gcn on a body that says nothing of itself."""
    features = {"use": "skeleton", "centre": "none", "turn": False, "scale": "none"}
    source = folder_of(reads="sequence", shape=[joints, 3], rate=25.0)
    vectors(
        planned({"source": "one", "features": features, "backbone": {"use": "st-gcn", "channels": [4], **backbone}}, source)
    )


def _graphs(joints: int, wanted: list[str], **backbone: Any) -> None:
    """Every graph that the refusal offers, used."""
    with pytest.raises(RecipeError) as error:
        _body(joints, **backbone)
    offered = str(error.value).partition("set graph: to ")[2].split(" or ")
    assert offered == [*wanted, "custom, with edges"]
    for name in wanted:
        _body(joints, graph=name)
    _body(joints, graph="custom", edges=_chain(joints))


def _chain(joints: int) -> list[list[int]]:
    return [[joint, joint + 1] for joint in range(joints - 1)]


def _objective(**objective: Any) -> Any:
    """The contrast of a plan of two modalities whose embeddings have 4 numbers."""
    plan = planned(ONE, pretrain={"objective": objective, "views": 2})
    return build_contrast(plan, [], widths={"one": 4, "words": 4})


def _pairs(**loss: Any) -> None:
    assert _objective(loss={"use": "info-nce", **loss}).loss(make_pair(width=4)).loss.isfinite()


def _group(**loss: Any) -> None:
    contrast = _objective(pairs="none", group=loss)
    contrast.together.loss.double()
    assert contrast.together.loss(make_group(("one", "words"), width=4)).loss.isfinite()


def _mixtures(negatives: str) -> None:
    """symile of four modalities."""
    modalities = {**dict.fromkeys("abc", ONE), "d": WORDS}
    group = {"use": "symile", "negatives": negatives}
    plan = planned(ONE, modalities=modalities, pretrain={"objective": {"pairs": "none", "group": group}})
    contrast = build_contrast(plan, [], widths=dict.fromkeys("abcd", 4))
    assert contrast.together is not None
    loss = contrast.together.loss
    assert isinstance(loss, torch.nn.Module)
    assert loss.double()(make_group(tuple("abcd"), width=4)).loss.isfinite()


def _shared(positives: str) -> None:
    """Who belongs together by a task of one label, as a plan's contrast says it."""
    contrast = _objective(positives={"use": positives, "target": "emotion"}, loss={"use": "siglip"})
    items = Items(torch.arange(4), torch.zeros(4, dtype=torch.long), {"emotion": torch.tensor([0, 1, 0, 2])})
    positive, _ = contrast.positives(items, items)
    assert (positive > 0).tolist() == [[a == b or {a, b} == {0, 2} for b in range(4)] for a in range(4)]


def _probed(**options: Any) -> None:
    """A linear probe of two modalities without a validation row."""
    spec = plugins().get("head", "linear").spec
    task = Task("mood", "single-label", ("calm", "tense"))
    target = torch.arange(12) % 2
    left, right = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), target[:, None].float()
    rows = Labelled({"left": Encoded(left), "right": Encoded(right)}, target)
    none = Labelled({"left": Encoded(left[:0]), "right": Encoded(right[:0])}, target[:0])
    head = spec.build(spec.params.model_validate_json(json.dumps(options)), task, {"left": 3, "right": 1})
    assert head.fit(rows, none, torch.Generator())["l2"] == 0.01
    assert (head(rows.encoded).argmax(1) == target).all()


def _film(weights: str) -> Any:
    """r2plus1d on a film, with weights."""
    film = folder_of(reads="pictures", rate=10.0, size=[32, 32])
    given = {"source": "one", "features": {"use": "frames"}, "backbone": {"use": "r2plus1d", "frames": 1, "weights": weights}}
    plan = planned(given, film)
    part = plan.modalities[0].backbone
    assert part is not None
    return part.spec.build(part.params, plan.modalities[0].layout).network


def _weights(path: Path) -> torch.Tensor:
    """A file of such a network's weights, as whoever fetched them has it; one of its tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        named = _film("none").state_dict()
    state = {name: torch.full(value.shape, 0.25, dtype=value.dtype) for name, value in named.items()}
    torch.save(state, path)
    return next(iter(state.values()))


def _offline(folder: Path, path: Path | None = None) -> None:
    """Weights by their name, where no network is; at a path, if one is given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TORCH_HOME", str(folder))
        patch.setattr(torch.hub, "download_url_to_file", _unreachable)
        if path is None:
            _film("kinetics400")
            return
        wanted = _weights(path)
        for weights in ("kinetics400", str(path)):
            assert torch.equal(next(iter(_film(weights).state_dict().values())), wanted)


def _unreachable(*_: object, **__: object) -> None:
    raise OSError("no network")


def _fetched(folder: Path, whole: bool) -> None:
    path = folder / "w.pth"
    if whole:
        wanted = _weights(path)
        assert torch.equal(next(iter(_film(str(path)).state_dict().values())), wanted)
    else:
        path.write_bytes(b"half of it")
        _film(str(path))


def _timm(size: int, **options: Any) -> None:
    pytest.importorskip("timm")
    frames = {"source": "faces", "features": {"use": "frames", "size": [size, size]}}
    vectors(planned({**frames, "backbone": {"use": "timm", **options}}))


NETWORKS: list[Row | Elsewhere | NoOffer] = [
    network(
        "plugins/mmcl-conformer/mmcl_conformer/__init__.py fits",
        ODD,
        SOUND,
        {"use": "conformer", "units": 8, "heads": 2, "layers": 1, "feedforward": 8},
        {"kernel": 4},
        {"kernel": 3},
    ),
    network(
        "plugins/mmcl-frames/mmcl_frames/__init__.py fits",
        ODD,
        FACES,
        {"use": "frame-cnn", "channels": [4]},
        {"kernel": 2},
        {"kernel": 3},
    ),
    network(
        "plugins/mmcl-gru/mmcl_gru/__init__.py fits",
        "readout: last reads one state; use mean",
        SOUND,
        {"use": "gru", "units": 4},
        {"parts": 2, "readout": "last"},
        {"parts": 2, "readout": "mean"},
    ),
    network(
        "plugins/mmcl-linear/mmcl_linear/__init__.py fits",
        ODD,
        SOUND,
        {"use": "linear-1d", "channels": 4},
        {"kernel": 4},
        {"kernel": 5},
    ),
    network(
        "plugins/mmcl-linear/mmcl_linear/__init__.py fits",
        "set parts to 2 or more, or a level",
        SOUND,
        {"use": "linear-1d", "channels": 4, "centre": True},
        {"parts": 1},
        {"parts": 2},
        {"parts": 1, "level": 0.5},
    ),
    network(
        "plugins/mmcl-resnet1d/mmcl_resnet1d/__init__.py fits",
        ODD,
        SOUND,
        {"use": "resnet-1d", "apart": [8], "channels": [8]},
        {"kernel": 4},
        {"kernel": 3},
    ),
    network(
        "plugins/mmcl-resnet1d/mmcl_resnet1d/__init__.py fits",
        "use mean, mean+max or attention",
        SOUND,
        {"use": "resnet-1d", "apart": [8], "channels": [8]},
        {"parts": 2, "readout": "last"},
        *({"parts": 2, "readout": readout} for readout in ("mean", "mean+max", "attention")),
    ),
    network(
        "plugins/mmcl-resnet1d/mmcl_resnet1d/__init__.py fits",
        "is kept apart by its own parts: leave it out",
        POINTS,
        {"use": "resnet-1d", "apart": [68], "channels": [8]},
        {"group": 2},
        {},
    ),
    network(
        "plugins/mmcl-stgcn/mmcl_stgcn/__init__.py fits",
        ODD,
        POINTS,
        {"use": "st-gcn", "channels": [4]},
        {"kernel": 4},
        {"kernel": 3},
    ),
    network(
        "plugins/mmcl-tcn/mmcl_tcn/__init__.py fits",
        "use mean or mean+std",
        SOUND,
        {"use": "tcn", "channels": [4]},
        {"parts": 2, "readout": "last"},
        {"parts": 2, "readout": "mean"},
        {"parts": 2, "readout": "mean+std"},
    ),
    network(
        "plugins/mmcl-tcn/mmcl_tcn/__init__.py fits",
        "make it odd, or set causal: true",
        SOUND,
        {"use": "tcn", "channels": [4]},
        {"kernel": 4, "causal": False},
        {"kernel": 3, "causal": False},
        {"kernel": 4, "causal": True},
    ),
    network(
        "plugins/mmcl-tcn/mmcl_tcn/__init__.py fits_conv_tasnet",
        ODD,
        SOUND,
        {"use": "conv-tasnet", "bottleneck": 4, "hidden": 4, "blocks": 1, "width": 4},
        {"kernel": 4},
        {"kernel": 3},
    ),
    Row(
        "plugins/mmcl-stgcn/mmcl_stgcn/graphs.py graph_for",
        "the stream of ",
        lambda folder: _body(20),
        lambda folder: (_graphs(20, ["kinect-20"]), _graphs(7, [])),
    ),
    Row(
        "plugins/mmcl-stgcn/mmcl_stgcn/graphs.py graph_for",
        " joints, graph '",
        lambda folder: _body(51, graph="face-68"),
        lambda folder: _graphs(51, ["face-51-mpuc", "face-51"], graph="face-68"),
    ),
    Row(
        "plugins/mmcl-stgcn/mmcl_stgcn/graphs.py partition_problem",
        "add edges, or set partition: distance",
        lambda folder: _body(4, graph="custom", edges=[[0, 1], [2, 3]]),
        lambda folder: (
            _body(4, graph="custom", edges=[[0, 1], [2, 3], [1, 2]]),
            _body(4, graph="custom", edges=[[0, 1], [2, 3]], partition="distance"),
        ),
    ),
    Row(
        "plugins/mmcl-losses/mmcl_losses/__init__.py _start_within_bounds",
        "or more, or set learn_temperature: false",
        lambda folder: _pairs(learn_temperature=True, temperature=0.005),
        lambda folder: (_pairs(learn_temperature=True, temperature=0.01), _pairs(learn_temperature=False, temperature=0.005)),
    ),
    Row(
        "plugins/mmcl-losses/mmcl_losses/positives.py __call__",
        "use same-label",
        lambda folder: _shared("shared-labels"),
        lambda folder: _shared("same-label"),
    ),
    Row(
        "plugins/mmcl-groups/mmcl_groups/__init__.py _start_within_bounds",
        "start there, or set learn_temperature: false",
        lambda folder: _group(use="gram", learn_temperature=True, temperature=0.005),
        lambda folder: (
            _group(use="gram", learn_temperature=True, temperature=0.01),
            _group(use="gram", learn_temperature=False, temperature=0.005),
        ),
    ),
    Row(
        "plugins/mmcl-groups/mmcl_groups/__init__.py symile_fits",
        "set negatives: shuffled",
        lambda folder: _mixtures("all"),
        lambda folder: _mixtures("shuffled"),
    ),
    Row(
        "plugins/mmcl-groups/mmcl_groups/comm.py __init__",
        "set heads to a divisor of it",
        lambda folder: _group(use="comm", heads=3, width=4),
        lambda folder: (_group(use="comm", heads=2, width=4), _group(use="comm", heads=1, width=4)),
    ),
    Row(
        "plugins/mmcl-heads/mmcl_heads/linear.py fit",
        "give l2 one value",
        lambda folder: _probed(l2=[0.01, 1.0]),
        lambda folder: _probed(l2=[0.01]),
    ),
    Row(
        "plugins/mmcl-heads/mmcl_heads/linear.py fit",
        "set blocks to equal, or none",
        lambda folder: _probed(l2=[0.01], blocks="search"),
        lambda folder: (_probed(l2=[0.01], blocks="equal"), _probed(l2=[0.01], blocks="none")),
    ),
    *(
        NoOffer(f"plugins/mmcl-heads/mmcl_heads/{where}", "look for the cause in pretraining", NO_NUMBERS)
        for where in ("knn.py fit", "linear.py _rows")
    ),
    Row(
        "plugins/mmcl-r2plus1d/mmcl_r2plus1d/network.py read_weights",
        "or set weights: to its path",
        _offline,
        lambda folder: _offline(folder, folder / "hub" / "checkpoints" / "r2plus1d_18-91a641e6.pth"),
    ),
    Row(
        "plugins/mmcl-r2plus1d/mmcl_r2plus1d/network.py read_weights",
        " again",
        lambda folder: _fetched(folder, whole=False),
        lambda folder: _fetched(folder, whole=True),
    ),
    Row(
        "plugins/mmcl-timm/mmcl_timm/network.py __init__",
        "take a transformer, or leave adapters out",
        lambda folder: _timm(32, model="test_resnet", adapters=2),
        lambda folder: (_timm(32, model="test_vit", adapters=2), _timm(32, model="test_resnet")),
    ),
    Row(
        "plugins/mmcl-timm/mmcl_timm/network.py make",
        "take another size or model",
        lambda folder: _timm(30, model="test_vit"),
        lambda folder: (_timm(32, model="test_vit"), _timm(30, model="test_resnet")),
    ),
]
