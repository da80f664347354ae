"""R(2+1)D-18 of torchvision with a linear layer in place of its classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmcl import media
from mmcl.api import DataError, Encoded, Layout, Stream

from . import URL, R2plus1dParams

MEAN, DEVIATION = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
"""Of Kinetics-400, red, green and blue, as torchvision's weights were trained with."""

FUSED = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
"""Whether torch has oneDNN's convolution with a rectifier, as its compiler uses it."""


class R2plus1d(nn.Module):
    """Frames evenly taken → R(2+1)D-18 → mean → dropout → linear."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, params: R2plus1dParams, layout: Layout) -> None:
        super().__init__()
        from torchvision.models.video import r2plus1d_18

        kinetics = params.normalise == "kinetics"
        self.register_buffer("mean", torch.tensor(MEAN if kinetics else (0.0, 0.0, 0.0))[:, None, None, None], persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(DEVIATION if kinetics else (1.0, 1.0, 1.0))[:, None, None, None], persistent=False
        )
        self.frames, self.width, self.learns = params.frames, params.width, params.batch_statistics
        network: Any = r2plus1d_18(weights=None)
        weights = read_weights(params.weights)
        network.fc = nn.Identity()
        if weights is not None:
            fill(network, weights, params.weights)
        if layout.sizes["channel"] == 1:
            stem: nn.Conv3d = network.stem[0]
            grey = nn.Conv3d(1, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, bias=False)  # type: ignore[arg-type]  # torchvision's own sizes
            with torch.no_grad():
                grey.weight.copy_(stem.weight.sum(1, keepdim=True))
            network.stem[0] = grey
        for module in network.modules():  # the same weights under the same names
            if isinstance(module, nn.BatchNorm3d):
                module.__class__ = Norm
            elif isinstance(module, nn.Conv3d):
                module.__class__ = Convolution
        self.network = network
        self.dropout = nn.Dropout(params.dropout)
        self.project = nn.Linear(512, params.width)

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width]."""
        values = self.taken(stream)
        frozen = not self.training and not torch.is_grad_enabled() and not torch.compiler.is_exporting()
        # in float32 PyTorch's normalisation by a batch's statistics is ten times less exact channels last
        lying = torch.channels_last_3d if frozen or _halved(values) else torch.contiguous_format
        values = values.contiguous(memory_format=lying)
        pooled = folded(self.network, values) if frozen else self.network(values)
        return Encoded(vector=self.project(self.dropout(pooled)))

    def train(self, mode: bool = True) -> R2plus1d:
        """As any module's, but BatchNorm stays still where it is to stay as the weights have it."""
        super().train(mode)
        if mode and not self.learns:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eval()
        return self

    def taken(self, stream: Stream) -> Tensor:
        """The frames that are looked at, [B, channel, frames, height, width]: even places from the first to the last real one."""
        length = stream.steps.sum(1, keepdim=True)
        nth = torch.arange(self.frames, device=length.device)
        place = (
            nth[None, :] * (length - 1).clamp_min(0) // max(1, self.frames - 1)
        )  # int(linspace(first, last)), as the authors
        rows = torch.arange(place.shape[0], device=place.device)[:, None]
        taken = stream.values[rows, place].transpose(1, 2)
        channels = taken.shape[1]
        return (taken - self.mean[:channels].to(taken)) / self.deviation[:channels].to(taken)


class Convolution(nn.Conv3d):
    """A convolution over space alone as one of all frames, or over time alone as one of all places: on a processor, in two dimensions.

    So it is in bfloat16, and for values that lie channels last, which both see where they lie and copy nothing: faster than PyTorch's
    in three dimensions, whose bfloat16 gradient of the weights besides reads memory that nobody has written on processors with AMX
    (oneDNN with torch 2.12, 1 × 3 × 3 from 128 to 230 and 288 channels). A graphics processor keeps its own way.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The convolved [B, channel, time, height, width]."""
        if input.is_contiguous() and not _halved(input):
            return self._conv_forward(input, self.weight, self.bias)
        return self.convolve(input, self.weight, self.bias)

    kept: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    def with_norm(self, norm: Norm, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """The weights and the bias that convolve and normalise by running statistics in one, kept until any of them changes."""
        parts = (self.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        counted = not any(part.is_inference() for part in parts)  # nobody counts what is written into those
        mark = (kind, *((part.data_ptr(), part._version) for part in parts if counted))
        if self.kept is None or not counted or self.kept[0] != mark:
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight, bias = self.weight * scale[:, None, None, None, None], norm.bias - norm.running_mean * scale
            self.kept = mark, weight.to(kind), bias.to(kind)
        return self.kept[1:]

    def train(self, mode: bool = True) -> Convolution:
        """As any module's; what was kept is let go."""
        self.kept = None
        return super().train(mode)

    def convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, rectified: bool = False) -> Tensor:
        """The same with other weights in place of its own; nothing below 0 where it is to be rectified."""
        time, *space = self.kernel_size
        if values.device.type != "cpu" or (time > 1 and space != [1, 1]):
            done = self._conv_forward(values, weight, bias)
            return torch.relu_(done) if rectified else done
        batch, frames, (high, wide) = values.shape[0], values.shape[2], values.shape[3:]
        values = values.permute(0, 2, 3, 4, 1)  # [B, T, H, W, C], as it lies in memory
        if time > 1:
            places = values.reshape(batch, frames, high * wide, -1).permute(0, 3, 1, 2)  # [B, C, T, H · W]
            padding = (self.padding[0], 0)
            done = _convolved(places, weight.squeeze(-1), bias, (self.stride[0], 1), padding, rectified)
            return done.unflatten(3, (high, wide))
        if self.stride[0] > 1:
            values = values[:, :: self.stride[0]]
            frames = values.shape[1]
        images = values.reshape(batch * frames, high, wide, -1).permute(0, 3, 1, 2)  # [B · T, C, H, W]
        done = _convolved(images, weight.squeeze(2), bias, self.stride[1:], self.padding[1:], rectified)
        return done.unflatten(0, (batch, frames)).transpose(1, 2)


def _halved(values: Tensor) -> bool:
    """Whether networks compute in bfloat16 on a processor now."""
    return values.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def folded(network: Any, values: Tensor) -> Tensor:
    """What torchvision's network gives without gradients, its normalisations by running statistics folded into the convolutions before them."""
    values = _through(network.stem, values)
    for block in (block for stage in (network.layer1, network.layer2, network.layer3, network.layer4) for block in stage):
        beside = values if block.downsample is None else _through(block.downsample, values)
        values = torch.relu_(_through(block.conv2, _through(block.conv1, values)).add_(beside))
    return values.mean((2, 3, 4))


def _through(module: nn.Module, values: Tensor) -> Tensor:
    """Convolutions, each with the normalisation after it, and rectifiers, in order."""
    leaves = [leaf for leaf in module.modules() if not isinstance(leaf, nn.Sequential)]
    for leaf, after, then in zip(leaves, [*leaves[1:], None], [*leaves[2:], None, None], strict=True):
        if isinstance(leaf, Convolution):
            assert isinstance(after, Norm), "torchvision normalises after every convolution"
            weight, bias = leaf.with_norm(after, torch.bfloat16 if _halved(values) else leaf.weight.dtype)
            values = leaf.convolve(values.to(weight.dtype), weight, bias, rectified=isinstance(then, nn.ReLU))
    return values


def _convolved(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...], rectified: bool
) -> Tensor:
    """PyTorch's convolution in two dimensions, and its rectifier; in one, without another way through memory, where that is at hand."""
    if not rectified:
        return nn.functional.conv2d(images, weight, bias, stride, padding)
    if FUSED and (images.dtype is not torch.bfloat16 or _halves()):
        both = torch.ops.mkldnn._convolution_pointwise
        return both(images, weight, bias, list(padding), list(stride), [1, 1], 1, "relu", [], "")  # type: ignore[no-any-return]  # torch.ops has no types
    return torch.relu_(nn.functional.conv2d(images, weight, bias, stride, padding))


@functools.cache
def _halves() -> bool:
    """Whether the fused convolution takes bfloat16 on this processor; one with AVX2 alone refuses, where conv2d goes another way."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


class Norm(nn.BatchNorm3d):
    """Batch normalisation that uses its running statistics where a channel has but one value: one small clip in a batch."""

    def forward(self, input: Tensor) -> Tensor:
        """The values, normalised."""
        if self.training and input.numel() == input.shape[1]:
            return nn.functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def read_weights(weights: str) -> Mapping[str, Tensor] | None:
    """The state of a network trained on Kinetics-400, or None.

    Raises DataError if the file is missing, cannot be had or is not such a state.
    """
    if weights == "none":
        return None
    if weights == "kinetics400":
        name = URL.rsplit("/", 1)[-1]
        cache = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not cache.is_file():
            try:
                cache.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(URL, str(cache), progress=False)
            except (OSError, RuntimeError) as error:
                raise DataError(
                    f"backbone r2plus1d: the weights kinetics400 cannot be downloaded ({error}); fetch {URL} on another machine and "
                    f"put it at {cache}, or set weights: to its path"
                ) from error
        path = cache
    else:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise DataError(f"backbone r2plus1d: {path}: there is no such file; weights is none, kinetics400 or a file's path")
    try:
        tensors: Mapping[str, Tensor] = media.read_weights(path)
    except DataError as error:
        raise DataError(
            f"backbone r2plus1d: {path}: is not a file of weights ({type(error.__cause__).__name__}); fetch {URL} again"
        ) from error
    return tensors


def fill(network: nn.Module, weights: Mapping[str, Tensor], whence: str) -> None:
    """Copy weights into the network; those of its class layer are left out. Raises DataError if any is missing or of another shape."""
    state = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(
            f"backbone r2plus1d: the weights {whence} are not those of R(2+1)D-18: {str(error).splitlines()[-1].strip()}"
        ) from error
