"""FAb-Net's encoder, frozen: one embedding a frame of a face, with weights from a file or random ones.

Written after the description of Wiles, Koepke & Zisserman (BMVC 2018): an image of 256 × 256 goes through strided convolutions of
4 × 4 with batch normalisation and leaky ReLU until one place of 256 values is left. What the description that was at hand does not say
is set as is usual in such networks: the number of filters, no normalisation after the first and the last convolution, a slope of 0.2.
Equality with the published weights has not been verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmcl.api import DataError, Pictures, Raw, Source, Video
from mmcl.media import grouped_frames, nearest_frames, read_weights

from . import EMBEDDING, RANDOM, FabNetParams, weights_file

FILTERS = (64, 128, 256, 512, 512, 512, 512, EMBEDDING)
"""Of each convolution; each halves height and width, so that 256 × 256 becomes 1 × 1."""

SLOPE = 0.2

TRACKED = "num_batches_tracked"
"""A counter of BatchNorm that plays no part in eval mode, and that older files have not."""


class FabNet:
    """One embedding a frame. Eval mode, no gradient, the same numbers every time."""

    def __init__(self, params: FabNetParams, source: Source) -> None:
        self.params, self.rate = params, source.rate
        self._encoder: Encoder | None = None
        self._random = 0

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, 256], or their mean; of pictures the mean. Raises DataError if frames are not what the source promises, or the weights cannot be had."""
        assert isinstance(raw, Video | Pictures)
        if self._encoder is None:
            self._encoder = frozen_encoder(self.params)
        embeddings, taken = [], 0
        for group in self._taken(raw):
            frames = group if self.params.longest is None else group[: max(0, self.params.longest - taken)]
            if len(frames):
                embeddings.append(self._encoder.embed(frames, self.params.size))
                taken += len(frames)
        if not embeddings:
            raise DataError("has no frames" if isinstance(raw, Video) else "has no pictures")
        if self.params.weights == RANDOM:
            self._random += taken
        values = np.concatenate(embeddings)
        return np.asarray(values.mean(0) if self.params.pool == "mean" or isinstance(raw, Pictures) else values)

    def counts(self) -> dict[str, int]:
        """Frames that went through random weights, so that the data card says it."""
        return {"frames embedded by random weights (weights: none)": self._random}

    def _taken(self, raw: Video | Pictures) -> Iterator[NDArray[np.uint8]]:
        """The frames to embed, as many as go through the network together."""
        if isinstance(raw, Pictures):
            return grouped_frames([_checked(raw.pictures)], self.params.batch)
        if self.rate is not None and abs(raw.rate - self.rate) > 0.01 * self.rate:
            raise DataError(f"has {raw.rate:g} frames per second; its source promises {self.rate:g}")
        at = None if self.params.fps is None else nearest_frames(raw.rate, self.params.fps)
        return grouped_frames(map(_checked, raw.blocks()), self.params.batch, at)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None}


def _checked(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] not in (1, 3):
        what = f"frames of type {frames.dtype} and shape {list(frames.shape)}"
        raise DataError(f"has {what}; uint8 [frames, 1 or 3, height, width] was expected")
    return frames


class Encoder(nn.Module):
    """RGB in [0, 1], [N, 3, 256, 256] → [N, 256]; of larger images, the mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        before = 3
        for i, filters in enumerate(FILTERS):
            self.layers.append(nn.Conv2d(before, filters, 4, stride=2, padding=1))
            if i == len(FILTERS) - 1:
                break
            if i > 0:
                self.layers.append(nn.BatchNorm2d(filters))
            self.layers.append(nn.LeakyReLU(SLOPE))
            before = filters

    def forward(self, images: Tensor) -> Tensor:
        places: Tensor = self.layers(images)
        return places.mean((2, 3))

    @torch.inference_mode()
    def embed(self, frames: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
        """uint8 [N, 1 or 3, height, width] → [N, 256], resized on the way."""
        images = torch.from_numpy(np.array(frames, np.float32))
        if images.shape[2:] != (size, size):
            images = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
        embeddings: NDArray[np.float32] = self((images / 255).expand(-1, 3, -1, -1)).numpy()
        return embeddings


def frozen_encoder(params: FabNetParams) -> Encoder:
    """The encoder, frozen. Raises DataError if its weights cannot be had or are not FAb-Net's."""
    with torch.random.fork_rng(devices=[]):  # layers draw from the one generator of all as they are made
        encoder = Encoder()
    if params.weights == RANDOM:
        draw = torch.Generator().manual_seed(params.seed)
        for layer in encoder.layers:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, a=SLOPE, generator=draw)
                nn.init.zeros_(layer.bias)
    else:
        path = weights_file(params)
        fill(encoder, read(path), path)
    return encoder.eval().requires_grad_(False)


def read(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors by name, in the order of its layers. Raises DataError if the file holds no such thing."""
    content = read_weights(path)
    if path.suffix == ".safetensors":
        content = {name: content[name] for name in sorted(content, key=_by_number)}  # the file has them in another order
    inside = [one for one in content.values() if isinstance(one, Mapping)] if isinstance(content, Mapping) else []
    for state in (content, *inside):
        tensors = {str(n): v for n, v in state.items() if isinstance(v, Tensor)} if isinstance(state, Mapping) else {}
        if any(tensor.ndim == 4 for tensor in tensors.values()):
            break
    else:
        raise DataError(f"{path}: holds no convolution; FAb-Net's checkpoint (the state_dict of its encoder) was expected")
    own = {name: tensor for name, tensor in tensors.items() if "encoder" in name.split(".")}
    return {name: tensor for name, tensor in (own or tensors).items() if not name.endswith(TRACKED)}


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key by which 'layers.10' comes after 'layers.2'."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def fill(encoder: Encoder, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy a file's tensors into the encoder: its convolutions and its normalisations, each in their order, whatever their names.

    Raises DataError that names the first tensor that does not fit.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        layers.setdefault(layer, {})[part] = tensor
    convolutions = iter([name for name, parts in layers.items() if "weight" in parts and parts["weight"].ndim == 4])
    norms = iter([name for name, parts in layers.items() if "running_mean" in parts])
    left = dict(tensors)
    for at, (what, module) in enumerate(_layers(encoder), 1):
        here = next(convolutions if isinstance(module, nn.Conv2d) else norms, None)
        if here is None:
            raise DataError(f"{path}: ends before {what} (layer {at} of FAb-Net's encoder); the whole encoder was expected")
        for part, wanted in module.state_dict().items():
            if part == TRACKED:
                continue
            full = f"{here}.{part}" if here else part
            if full not in left:
                raise DataError(f"{path}: '{full}' is missing; {what} has a {part} of {list(wanted.shape)}")
            tensor = left.pop(full)
            if tensor.shape != wanted.shape:
                raise DataError(f"{path}: '{full}' is {list(tensor.shape)}; the {part} of {what} is {list(wanted.shape)}")
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise DataError(f"{path}: '{full}' holds values that are no finite numbers")
            wanted.copy_(tensor)
    if left:
        first = next(iter(left))
        raise DataError(f"{path}: '{first}' {list(left[first].shape)} has no place in FAb-Net's encoder")


def _layers(encoder: Encoder) -> Iterator[tuple[str, nn.Module]]:
    """Each layer that has weights, with words for it."""
    convolution = 0
    for layer in encoder.layers:
        if isinstance(layer, nn.Conv2d):
            convolution += 1
            yield f"convolution {convolution} of {len(FILTERS)}", layer
        elif isinstance(layer, nn.BatchNorm2d):
            yield f"the normalisation after convolution {convolution}", layer
