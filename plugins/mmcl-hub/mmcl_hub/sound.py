"""A speech model of the transformers library on a waveform: its weights are trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mmcl.api import DataError, Encoded, Stream, each_step, read_out

from .features import load
from .finetuned import PartlyTrained, learning_part, unlearned
from .trained import HfAudioParams, config_of


class HfAudio(PartlyTrained):
    """waveform → the model's last hidden layer → mean over steps. Windows of one length go together, so that padding never enters."""

    def __init__(self, params: HfAudioParams, pretrained: bool) -> None:
        super().__init__()
        self.model = speech_model(params, pretrained)
        self.width = int(self.model.config.hidden_size)
        self.hears: nn.Module = (
            Spectrogram(self.model.config) if self.model.config.model_type == "whisper" else Raw(self.model.config)
        )
        self.normalise = normalises(params, str(self.model.config.model_type))
        self.trained = learning_part(self.model, params.model, params.layers, params.adapters, params.adapter_scale)

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width], and every step of the model."""
        sound, steps = stream.values[..., 0], stream.steps
        if torch.compiler.is_exporting():  # a graph has no sizes that depend on values: whole windows go in
            hidden = self._hidden(sound)
            real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
            return Encoded(vector=read_out(hidden, real), sequence=hidden, steps=real)
        lengths = steps.sum(1)
        parts = {int(n): (lengths == n).nonzero().squeeze(1) for n in lengths.unique()}
        hidden_of = {n: self._hidden(sound[rows, :n]) for n, rows in parts.items()}
        longest = max(hidden.shape[1] for hidden in hidden_of.values())
        whole = next(iter(hidden_of.values())).new_zeros(len(sound), longest, self.width)
        real = torch.zeros(len(sound), longest, dtype=torch.bool, device=steps.device)
        for n, rows in parts.items():
            whole = whole.index_put((rows,), pad(hidden_of[n], (0, 0, 0, longest - hidden_of[n].shape[1])))
            real[rows, : hidden_of[n].shape[1]] = True
        return Encoded(vector=read_out(whole, real), sequence=each_step(whole, real, self.width), steps=real)

    def _hidden(self, sound: Tensor) -> Tensor:
        """[n, T', width] of windows of one length [n, T], at least float32."""
        if self.normalise:
            mean, variance = sound.mean(1, keepdim=True), sound.var(1, keepdim=True, unbiased=False)
            sound = (sound - mean) / (variance + 1e-7).sqrt()
        hidden: Tensor = self.hears(self.model, sound)
        return hidden.float() if hidden.dtype.itemsize < 4 else hidden


class Raw(nn.Module):
    """Models that read samples. What is shorter than their first step is filled with silence to that length."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.shortest = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            self.shortest = (self.shortest - 1) * stride + kernel

    def forward(self, model: Any, sound: Tensor) -> Tensor:
        """[n, T] → [n, T', width]."""
        hidden: Tensor = model(pad(sound, (0, max(0, self.shortest - sound.shape[1])))).last_hidden_state
        return hidden


class Spectrogram(nn.Module):
    """Whisper's encoder: log-mel, a span at a time, the last filled with silence; steps of the filling are left out."""

    filters: Tensor
    window: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.length, self.hop = 400, 160
        self.span = config.max_source_positions * 2 * self.hop  # samples of a span; its second convolution halves the steps
        filters = mel_filter_bank(
            1 + self.length // 2, config.num_mel_bins, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.length), persistent=False)

    def forward(self, model: Any, sound: Tensor) -> Tensor:
        """[n, T] → [n, T', width]."""
        parts = []
        for start in range(0, sound.shape[1], self.span):
            part = sound[:, start : start + self.span]
            steps = max(1, round(part.shape[1] / (2 * self.hop)))
            mel = self.mel(pad(part, (0, self.span - part.shape[1])))
            parts.append(model(mel.to(model.conv1.weight.dtype)).last_hidden_state[:, :steps])
        return torch.cat(parts, 1)

    def mel(self, sound: Tensor) -> Tensor:
        """log₁₀ of the bands' power, at most 8 below the loudest, as Whisper's own preprocessing has it [n, bands, steps]."""
        spectrum = torch.stft(sound.float(), self.length, self.hop, window=self.window, return_complex=True)[..., :-1]
        level = (self.filters.T @ spectrum.abs().square()).clamp_min(1e-10).log10()
        level = torch.maximum(level, level.amax((1, 2), keepdim=True) - 8.0)
        return (level + 4.0) / 4.0


def speech_model(params: HfAudioParams, pretrained: bool) -> Any:
    """The model in float32: without its decoder, its masks of spans and its dropping of layers."""
    config = config_of(params, "hf-audio")
    model = (
        load(params.model, "hf-audio").float()
        if pretrained and not params.config
        else unlearned(params.model, config, "hf-audio")
    )
    if model.config.model_type == "whisper":
        model = model.get_encoder() if hasattr(model, "get_encoder") and hasattr(model, "decoder") else model
    if not hasattr(model.config, "conv_stride") and model.config.model_type != "whisper":
        raise DataError(
            f"model '{params.model}' ({model.config.model_type}) reads no waveform; wav2vec 2.0, HuBERT, WavLM, data2vec-audio or Whisper does"
        )
    for name, value in (("apply_spec_augment", False), ("layerdrop", 0.0), ("encoder_layerdrop", 0.0)):
        if hasattr(model.config, name):
            setattr(model.config, name, value)
    if hasattr(model, "layerdrop"):
        model.layerdrop = 0.0
    if getattr(model, "masked_spec_embed", None) is not None:
        model.masked_spec_embed = None  # of masked spans, so it would never learn
    return model


def normalises(params: HfAudioParams, family: str) -> bool:
    """Whether a window is brought to mean 0 and deviation 1."""
    if params.normalise != "model":
        return params.normalise == "recording"
    if family == "whisper":
        return False
    path = Path(params.model).expanduser() / "preprocessor_config.json"
    about = read_json(path) if params.model and path.is_file() else {}
    return bool(about.get("do_normalize", True))


def read_json(path: Path) -> Mapping[str, Any]:
    """What a folder says of its preprocessing. Raises DataError where it is no JSON."""
    try:
        about: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    return about
