"""Backbones of the transformers library by name that are trained on: sound from its waveform, pictures and films. Light: options and what fits."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from mmcl.api import Adapters, AdapterScale, Field, Layout, Params

from .packages import folder_config

LIBRARY = "'{}' needs the transformers library: pip install 'mmcl[hf]'"
RATE = 16_000

CLIPS = ("videomae", "vivit", "timesformer")
"""Families that see several frames at once; any other sees a picture at a time."""


class _Trained(Params):
    """Options of both."""

    model: str = Field(
        "",
        description="folder of a saved model (config.json, weights), or a name on the hub, fetched once; needed, unless config is given",
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="in place of model: what its config.json would hold, such as {model_type: hubert, hidden_size: 96}; weights are random then",
    )
    weights: Literal["pretrained", "random"] = Field(
        "pretrained", description="first weights: those of the model, or random ones of the same architecture"
    )
    layers: int | None = Field(
        None,
        ge=0,
        description="layers that are trained, from the top; all else stays as it is, without dropout. Left out: all is trained",
    )
    adapters: Adapters = None
    adapter_scale: AdapterScale = 2.0


class HfAudioParams(_Trained):
    """Options of `hf-audio`."""

    normalise: Literal["model", "recording", "none"] = Field(
        "model",
        description="recording: each window is brought to mean 0 and deviation 1; none: as it comes; model: as the model's own preprocessing does (Whisper: none; "
        "others what preprocessor_config.json says, else recording)",
    )


class HfVideoParams(_Trained):
    """Options of `hf-video`."""

    frames: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="frames taken evenly from the real ones of each window; left out: all of them, and of a model of films as many as it takes",
    )
    pool: Literal["mean", "cls"] = Field(
        "mean", description="what a picture's vector is: the mean over its patches, or the first token of a transformer"
    )
    normalise: Literal["model", "none"] = Field(
        "model",
        description="model: frames in [0, 1] less the mean that preprocessor_config.json has, by its deviation (0.5 each where it says nothing); "
        "set the modality's own normalise: none beside it",
    )


def config_of(params: _Trained, what: str) -> Mapping[str, Any]:
    """config.json of the model; nothing for a name on the hub. Raises ValueError with a sentence."""
    if params.config and params.model:
        raise ValueError(f"'{what}' has a model and a config; give one of the two")
    if params.config:
        if not isinstance(params.config.get("model_type"), str):
            raise ValueError(
                f"config of '{what}' needs a model_type, such as {{model_type: {'hubert' if what == 'hf-audio' else 'vit'}, …}}"
            )
        return params.config
    if params.model.startswith("package:"):
        raise ValueError(
            f"'{what}' reads the folder of a saved model or a name on the hub; packages are read by hf-text and hf-speech"
        )
    return folder_config(params.model, what)


def _fits(params: _Trained, what: str) -> Mapping[str, Any]:
    """What both ask: the library, a model, layers for adapters to stand in."""
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(LIBRARY.format(what))
    if params.adapters is not None and params.layers == 0:
        raise ValueError(
            "adapters stand in the layers that are trained, and layers: 0 trains none; leave layers out, or say how many"
        )
    return config_of(params, what)


def audio_fits(params: HfAudioParams, layout: Layout) -> None:
    """Refuse what is no waveform at 16 kHz, or a model of something else."""
    config = _fits(params, "hf-audio")
    if layout.sizes.get("channel") != 1 or layout.rate != RATE:
        raise ValueError(
            f"'hf-audio' reads one channel of sound at {RATE} Hz, as the modality `waveform` gives it; this is {layout.sizes.get('channel')} channels at "
            f"{layout.rate or 'no'} steps a second"
        )
    if config and config.get("model_type") != "whisper" and not config.get("conv_stride", params.config and "its default"):
        raise ValueError(
            f"model '{params.model or config['model_type']}' ({config.get('model_type')}) reads no waveform; wav2vec 2.0, HuBERT, WavLM, data2vec-audio or Whisper does"
        )


def video_fits(params: HfVideoParams, layout: Layout) -> None:
    """Refuse frames of other channels, and counts of frames that a model of films does not take."""
    config = _fits(params, "hf-video")
    channels, wanted = layout.sizes["channel"], config.get("num_channels", 3)
    if channels not in (1, wanted):
        raise ValueError(
            f"model '{params.model or config.get('model_type')}' reads {wanted} channels; these frames have {channels}"
        )
    if config.get("model_type") in CLIPS and params.frames not in (None, config.get("num_frames")):
        raise ValueError(
            f"model '{params.model or config.get('model_type')}' sees {config.get('num_frames', 'a fixed number of')} frames at once; leave frames out"
        )
    if config.get("model_type") in CLIPS and params.pool != "mean":
        raise ValueError("a model of films gives the mean over its patches; leave pool out")
