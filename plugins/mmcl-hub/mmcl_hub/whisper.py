"""Whisper's encoder: built from a file of CTranslate2, and asked about sound of any length."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcl.api import DataError

RATE = 16_000
STEP = 320  # samples a step, 20 ms
SPAN = 30 * RATE  # samples that the encoder reads at a time, no more and no fewer

TYPES: Mapping[int, type[np.generic]] = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""CTranslate2's numbers for types of arrays."""


def read_ctranslate2(path: Path) -> dict[str, NDArray[np.generic]]:
    """Arrays by name of a model.bin in CTranslate2's format 6, little-endian.

    Four bytes version, name of the specification, four bytes its revision, four bytes how many arrays; of each its name, rank,
    lengths, type and bytes. A name is two bytes length and as many bytes, the last 0. Raises DataError for another version or an end too soon.
    """
    data, place = path.read_bytes(), 0

    def number(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{form}", data, place)
        place += struct.calcsize(f"<{form}")
        return int(value)

    def name() -> str:
        nonlocal place
        length = number("H")
        place += length
        return data[place - length : place - 1].decode()

    arrays: dict[str, NDArray[np.generic]] = {}
    try:
        version = number("I")
        if version != 6:
            raise DataError(f"{path}: is of version {version} of CTranslate2's format; 6 was expected")
        name(), number("I")
        for _ in range(number("I")):
            key = name()
            shape = tuple(number("I") for _ in range(number("B")))
            dtype, size = np.dtype(TYPES[number("B")]), number("I")
            arrays[key] = np.frombuffer(data, dtype, size // dtype.itemsize, place).reshape(shape)
            place += size
    except (struct.error, KeyError, ValueError) as error:
        raise DataError(f"{path}: a model in CTranslate2's format was expected, and it breaks off at byte {place:,}") from error
    return arrays


def encoder_weights(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """CTranslate2's names and joined projections → those of transformers' WhisperEncoder, in float32."""

    def tensor(key: str) -> Tensor:
        return torch.from_numpy(np.array(arrays[f"encoder/{key}"], np.float32))

    weights = {"embed_positions.weight": tensor("position_encodings/encodings")}
    for conv in ("conv1", "conv2"):
        weights |= {f"{conv}.{part}": tensor(f"{conv}/{part}") for part in ("weight", "bias")}
    norms = {"layer_norm": "layer_norm"}
    layer = 0
    while f"encoder/layer_{layer}/ffn/linear_0/weight" in arrays:
        ours, theirs = f"layers.{layer}", f"layer_{layer}"
        norms |= {
            f"{ours}.self_attn_layer_norm": f"{theirs}/self_attention/layer_norm",
            f"{ours}.final_layer_norm": f"{theirs}/ffn/layer_norm",
        }
        for part in ("weight", "bias"):
            joined = tensor(f"{theirs}/self_attention/linear_0/{part}").chunk(3)
            weights |= {f"{ours}.self_attn.{which}_proj.{part}": one for which, one in zip("qkv", joined, strict=True)}
            weights[f"{ours}.self_attn.out_proj.{part}"] = tensor(f"{theirs}/self_attention/linear_1/{part}")
            weights |= {f"{ours}.fc{n + 1}.{part}": tensor(f"{theirs}/ffn/linear_{n}/{part}") for n in (0, 1)}
        del weights[f"{ours}.self_attn.k_proj.bias"]  # Whisper has none; zeros fill its place here
        layer += 1
    for ours, theirs in norms.items():
        weights |= {f"{ours}.weight": tensor(f"{theirs}/gamma"), f"{ours}.bias": tensor(f"{theirs}/beta")}
    return weights


def build_encoder(path: Path, config: Mapping[str, object]) -> Any:
    """transformers' WhisperEncoder with the weights of a model.bin, in eval mode."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    options = {key: value for key, value in config.items() if key != "model_type"}
    encoder = WhisperEncoder(WhisperConfig(**options)).float().eval()
    encoder.load_state_dict(encoder_weights(read_ctranslate2(path)))
    return encoder


def encode(encoder: Any, samples: NDArray[np.float32]) -> tuple[Tensor, ...]:
    """Every hidden layer [1, T, D], the convolutions' first, of sound at 16 kHz: a step every 20 ms, T what the sound lasts.

    The encoder reads 30 seconds at a time, filled with silence as in its training; steps of the filling are left out.
    """
    from transformers import WhisperFeatureExtractor

    spectrogram = WhisperFeatureExtractor(feature_size=encoder.config.num_mel_bins)
    parts: list[tuple[Tensor, ...]] = []
    left = max(1, round(len(samples) / STEP))
    for start in range(0, len(samples), SPAN):
        steps = min(left, SPAN // STEP)
        if not steps:
            break
        mel = spectrogram(samples[start : start + SPAN], sampling_rate=RATE, return_tensors="np").input_features
        with torch.inference_mode():
            hidden = encoder(torch.from_numpy(mel), output_hidden_states=True).hidden_states
        parts.append(tuple(layer[:, :steps] for layer in hidden))
        left -= steps
    return tuple(torch.cat(layer, 1) for layer in zip(*parts, strict=True))
