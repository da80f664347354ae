"""Offers of packages that make streams of recordings, followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcl.api import Source, Video, Words
from mmcl.testing import make_raw
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.planned import SMALL, feature, folder_of, planned, streamed

BODY = Source("sequence", "a body", 30.0, {"shape": [20, 3], "axes": ["joint", "channel"], "graph": "kinect-20"})
SHOULDERS = {"shoulders": [4, 8]}
FLAT = Source("sequence", "a body in a picture", 30.0, {**BODY.notes, **SHOULDERS, "shape": [20, 2]})
NOTED = Source("sequence", "a body", 30.0, {**BODY.notes, **SHOULDERS, "root": 3, "torso": [1, 3]})
LONE = Source("sequence", "a body without a graph", 30.0, {**SHOULDERS, "shape": [20, 3], "root": 3, "torso": [1, 3]})
FILM = folder_of(reads="pictures", size=[24, 32])
JOINTS = {"use": "skeleton"}
STREAMS = {"use": "skeleton-streams"}
BACKBONES = {
    "frames": {"use": "frame-cnn", "channels": [4]},
    "fab-net": SMALL,
    "skeleton": {"use": "linear-1d", "channels": 4},
}


def _pictures(shape: tuple[int, int], frames: int = 8, rate: float = 25.0) -> Video:
    return Video(np.random.default_rng(0).integers(0, 256, (frames, 3, *shape), dtype=np.uint8), rate)


def _face(weights: str) -> None:
    """fab-net on the made-up corpus of films."""
    features = {"use": "fab-net", "weights": weights, "longest": 2}
    given = {"source": "faces", "features": features, "backbone": SMALL}
    plan = planned(given)
    assert streamed(plan, make_raw(plan.info.sources["faces"], seconds=0.5)).shape == (2, 256)


def _checkpoint(path: Path) -> str:
    """A file of weights of FAb-Net's encoder, as its authors' page would give one."""
    from mmcl_fabnet import FabNetParams
    from mmcl_fabnet.network import frozen_encoder

    torch.save(frozen_encoder(FabNetParams(weights="none", seed=5)).state_dict(), path)
    return str(path)


def _paced(use: str, **options: Any) -> None:
    """Frames of films that tell their rate only when they are read, and signals of arrays."""
    plan = planned({"source": "one", "features": {"use": use, **options}, "backbone": BACKBONES[use]}, FILM)
    assert plan.modalities[0].layout.rate == 5
    values = streamed(plan, _pictures((24, 32)))
    assert len(values) == 2  # of 8 frames in 0.32 s, those at 0 and 0.2


def _glove(**options: str) -> None:
    plan = planned({"source": "words", "features": {"use": "glove", "dim": 2, **options}, "backbone": SMALL})
    assert streamed(plan, Words(("we", "see"))).tolist() == [[1, 2], [3, 4]]


def _vectors(path: Path) -> str:
    path.write_text("we 1 2\nsee 3 4\n", encoding="utf-8")
    return str(path)


def _sized(size: list[int] | None) -> None:
    """A recording of other pixels than its source says."""
    source = Source("video", "a film", 25.0, {"shape": [3, 24, 32]})
    options = {} if size is None else {"size": size}
    plan = planned({"source": "one", "features": {"use": "frames", **options}, "backbone": BACKBONES["frames"]}, source)
    assert streamed(plan, _pictures((48, 64))).shape == (8, 3, 24, 32)


def _resampled(**options: float) -> None:
    source = Source("sequence", "a sensor", None, {"shape": [3], "axes": ["channel"]})
    plan = planned({"source": "one", "features": {"use": "signals", **options}, "backbone": SMALL}, source)
    raw = make_raw(Source("sequence", "a sensor", 50.0, source.notes))
    assert plan.modalities[0].layout.rate == 25
    assert streamed(plan, raw).shape == (50, 3)  # of 2 s


def _sat(lacking: str, **options: Any) -> None:
    """A body of which one of the joints that play a part is not named; each such is told by itself."""
    notes = {name: value for name, value in NOTED.notes.items() if name != lacking}
    source = Source("sequence", "a body", 30.0, notes)
    streamed(planned({"source": "one", "features": {**JOINTS, **options}, "backbone": BACKBONES["skeleton"]}, source))


def _moved(**options: str) -> None:
    """A body of which no joint has a part to play."""
    streamed(planned({"source": "one", "features": {**STREAMS, **options}, "backbone": BACKBONES["skeleton"]}, BODY))


FEATURES: list[Row | Elsewhere | NoOffer] = [
    Row(
        "plugins/mmcl-fabnet/mmcl_fabnet/__init__.py weights_file",
        "set weights: to its path, or weights: none for random ones",
        lambda folder: _face(str(folder / "fab.pth")),
        lambda folder: (_face(_checkpoint(folder / "fab.pth")), _face("none")),
    ),
    Row(
        "plugins/mmcl-fabnet/mmcl_fabnet/__init__.py fab_net_layout",
        "does not say its frame rate; set fps:",
        lambda folder: _paced("fab-net", weights="none"),
        lambda folder: _paced("fab-net", weights="none", fps=5.0),
    ),
    Row(
        "plugins/mmcl-modalities/mmcl_modalities/__init__.py skeleton_layout",
        "the source does not say which joints are its ",
        lambda folder: _sat("root"),
        lambda folder: (_sat("root", centre="none"), _sat("torso", scale="none"), _sat("shoulders", turn=False)),
    ),
    feature(
        "plugins/mmcl-modalities/mmcl_modalities/__init__.py skeleton_layout",
        "turn: false",
        BODY,
        JOINTS,
        {"centre": "none", "scale": "none"},
        {"centre": "none", "scale": "none", "turn": False},
    ),
    feature(
        "plugins/mmcl-modalities/mmcl_modalities/__init__.py skeleton_layout",
        "turning needs three coordinates",
        FLAT,
        {**JOINTS, "centre": "none", "scale": "none"},
        {"turn": True},
        {"turn": False},
    ),
    Row(
        "plugins/mmcl-modalities/mmcl_modalities/__init__.py signals_layout",
        "set rate: to what they shall become",
        lambda folder: _resampled(),
        lambda folder: _resampled(rate=25.0),
    ),
    Row(
        "plugins/mmcl-modalities/mmcl_modalities/__init__.py frames_layout",
        "does not say its frame rate; set rate:",
        lambda folder: _paced("frames"),
        lambda folder: _paced("frames", rate=5.0),
    ),
    Row(
        "plugins/mmcl-modalities/mmcl_modalities/__init__.py glove_layout",
        "set file: to the path of glove.840B.300d.txt or another one",
        lambda folder: _glove(),
        lambda folder: (
            _glove(file=_vectors(folder / "glove.840B.300d.txt")),
            _glove(file=_vectors(folder / "own.txt")),
        ),
    ),
    Row(
        "plugins/mmcl-modalities/mmcl_modalities/video.py _checked",
        "set size: to resize them",
        lambda folder: _sized(None),
        lambda folder: _sized([24, 32]),
    ),
    feature(
        "plugins/mmcl-motion/mmcl_motion/__init__.py pair_of",
        "set view to another, or to none",
        NOTED,
        STREAMS,
        {"view": "hips"},
        {"view": "shoulders"},
        {"view": "none"},
    ),
    feature(
        "plugins/mmcl-motion/mmcl_motion/__init__.py skeleton_streams_layout",
        "turning needs three coordinates",
        FLAT,
        {**STREAMS, "root": "none", "scale": "bones"},
        {"view": "shoulders"},
        {"view": "none"},
    ),
    Row(
        "plugins/mmcl-motion/mmcl_motion/__init__.py skeleton_streams_layout",
        "the source does not say which joints are its ",
        lambda folder: _moved(view="none"),
        lambda folder: (
            _moved(view="none", root="none", scale="bones"),
            _moved(view="none", root="none", scale="none"),
        ),
    ),
    feature(
        "plugins/mmcl-motion/mmcl_motion/bones.py parents_of",
        "set streams and scale without bones",
        LONE,
        STREAMS,
        {},
        {"streams": ["joint", "joint-motion"], "scale": "torso"},
        {"streams": ["joint"], "scale": "none"},
    ),
    feature(
        "plugins/mmcl-voice/mmcl_voice/__init__.py voice_functionals_layout",
        "lower cepstra, or raise bands",
        folder_of(reads="sound"),
        {"use": "voice-functionals", "over": "clip"},
        {"bands": 12, "cepstra": 12},
        {"bands": 12, "cepstra": 11},
        {"bands": 13, "cepstra": 12},
    ),
]
