"""A picture network of timm on every frame, and a read-out over frames."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmcl.api import DataError, Encoded, Layout, Stream, adapt, each_step, read_out

from . import LIBRARY, TimmParams


class TimmFrames(nn.Module):
    """(frames evenly taken →) network on each real frame → read-out over frames."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, params: TimmParams, layout: Layout, weights: str) -> None:
        super().__init__()
        size, channels = (layout.sizes["height"], layout.sizes["width"]), layout.sizes["channel"]
        self.network = make(params.model, channels, size, weights)
        about = self.network.pretrained_cfg if params.normalise == "model" else {}
        self.register_buffer("mean", _of_channels(about.get("mean", (0.0,)), channels), persistent=False)
        self.register_buffer("deviation", _of_channels(about.get("std", (1.0,)), channels), persistent=False)
        if params.adapters is not None and not adapt(self.network, params.adapters, params.adapter_scale):
            raise DataError(
                f"'{params.model}' of timm has no linear layer for adapters to stand on; take a transformer, or leave adapters out"
            )
        self.frames, self.learns = params.frames, params.batch_statistics
        self.deviate, self.parts = params.readout == "mean+std", params.parts
        inner = getattr(self.network, "head_hidden_size", self.network.num_features)  # behind the last layer before classes
        read = inner * params.parts * (2 if self.deviate else 1)
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the frames, and what each frame gave."""
        values, steps = stream.values, stream.steps
        if self.frames is not None:
            values, steps = taken(values, steps, self.frames)
        exporting = torch.compiler.is_exporting()  # a graph has no sizes that depend on values: there padding goes through, too
        pictures = values.flatten(0, 1) if exporting else values[steps]
        features = self._seen((pictures - self.mean.to(values)) / self.deviation.to(values))
        if features.dtype.itemsize < 4:
            features = features.float()  # sums over time need more digits than bf16 has
        if exporting:
            hidden = features.unflatten(0, steps.shape) * steps[..., None]
        else:
            hidden = features.new_zeros(*steps.shape, features.shape[1]).index_put((steps,), features)
        vector = read_out(hidden, steps, self.parts, deviation=self.deviate)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, steps, self.width, self.project), steps=steps)

    def _seen(self, pictures: Tensor) -> Tensor:
        """What the network gives of pictures [n, C, H, W]; a single one has no statistics of a batch."""
        if not (self.training and self.learns and len(pictures) < 2):
            features: Tensor = self.network(pictures)
            return features
        self._still(True)
        try:
            features = self.network(pictures)
        finally:
            self._still(False)
        return features

    def _still(self, still: bool) -> None:
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.train(not still)

    def train(self, mode: bool = True) -> TimmFrames:
        """As any module's, but normalisations stay still where they are to stay as the weights have them."""
        super().train(mode)
        if mode and not self.learns:
            self._still(True)
        return self


def make(name: str, channels: int, size: tuple[int, int], weights: str) -> Any:
    """timm's network of that name without its classes. Raises DataError in one sentence where there is none, or no such weights."""
    try:
        import timm
    except ImportError as error:
        raise DataError(LIBRARY) from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        raise DataError(f"timm {timm.__version__} has no model '{name}'" + (f"; near: {', '.join(near)}" if near else ""))
    wanted = {"pretrained": weights == "pretrained", "num_classes": 0, "in_chans": channels}
    try:
        try:
            network = timm.create_model(name, img_size=size, **wanted)
        except TypeError:  # a network of convolutions, which takes any size
            network = timm.create_model(name, **wanted)
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        raise DataError(
            f"timm cannot make '{name}' with weights: {weights} for frames of {size[0]} × {size[1]} ({error})"
        ) from error
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if patch is not None and any(side % one for side, one in zip(size, patch, strict=True)):
        raise DataError(
            f"frames of {size[0]} × {size[1]} do not come out even in patches of {patch[0]} × {patch[1]}, as '{name}' of timm cuts them; take "
            "another size or model"
        )
    if weights not in ("none", "pretrained"):
        fill(network, Path(weights))
    return network


def fill(network: Any, path: Path) -> None:
    """Lay weights of a file over the network; those of its classes are passed over. Raises DataError where others lack or do not fit."""
    from mmcl.media import read_weights

    weights = read_weights(path)
    if isinstance(weights, Mapping):
        weights = weights.get("state_dict", weights.get("model", weights))
    own = network.state_dict()
    wrong = sorted(key for key, value in own.items() if key not in weights or weights[key].shape != value.shape)
    if wrong:
        raise DataError(
            f"{path}: lacks '{wrong[0]}', or has it in another shape, and {len(wrong)} of {len(own)} such; weights of that model are needed"
        )
    network.load_state_dict({key: weights[key] for key in own})


def taken(values: Tensor, steps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Frames at even places from the first to the last real one, [B, count, …]; of few, some stand twice."""
    length = steps.sum(1, keepdim=True)
    place = torch.arange(count, device=steps.device)[None, :] * (length - 1).clamp_min(0) // max(1, count - 1)
    rows = torch.arange(len(values), device=steps.device)[:, None]
    return values[rows, place], (length > 0).expand(-1, count)


def _of_channels(values: tuple[float, ...], channels: int) -> Tensor:
    """One number a channel; the mean of all where there are other channels than the model was trained with."""
    numbers = values if len(values) in (1, channels) else (sum(values) / len(values),)
    return torch.tensor(numbers)[:, None, None]
