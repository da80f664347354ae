"""Models of pictures and films of the transformers library on frames: their weights are trained on."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmcl.api import Backbone, DataError, Encoded, Stream, each_step, read_out

from .features import load
from .finetuned import PartlyTrained, learning_part, unlearned
from .sound import read_json
from .trained import CLIPS, HfVideoParams, config_of


def network_of(params: HfVideoParams, pretrained: bool) -> Backbone:
    """The network that the model's family asks for."""
    config = config_of(params, "hf-video")
    model = (
        load(params.model, "hf-video").float()
        if pretrained and not params.config
        else unlearned(params.model, config, "hf-video")
    )
    if "pixel_values" not in inspect.signature(model.forward).parameters or hasattr(model, "text_model"):
        raise DataError(
            f"model '{params.model}' ({model.config.model_type}) reads no pictures alone; ViT, DINOv2, Swin, ConvNeXt, VideoMAE and the like do"
        )
    return Clips(model, params) if model.config.model_type in CLIPS else Pictures(model, params)


class _Frames(PartlyTrained):
    """What both share: size, channels and values that the model was made for, and what of it learns."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Any, params: HfVideoParams) -> None:
        super().__init__()
        self.model = model
        if (
            getattr(model, "pooler", None) is not None
            and isinstance(model.pooler, nn.Module)
            and any(True for _ in model.pooler.parameters())
        ):
            model.pooler = None  # its output is not used, so it would never learn
        for module in model.modules():  # a token for masked patches, which there are none of
            if isinstance(getattr(module, "mask_token", None), nn.Parameter):
                module.mask_token = None
        size = getattr(model.config, "image_size", None)
        self.size = (size, size) if isinstance(size, int) else tuple(size) if size else None
        self.channels = int(getattr(model.config, "num_channels", 3))
        mean, deviation = values_of(params)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)
        self.trained = learning_part(model, params.model, params.layers, params.adapters, params.adapter_scale)

    def prepared(self, pictures: Tensor) -> Tensor:
        """Pictures [n, C, H, W] as the model was made for: its size, its channels, its values."""
        if pictures.shape[1] == 1 and self.channels != 1:
            pictures = pictures.expand(-1, self.channels, -1, -1)
        if self.size is not None and tuple(pictures.shape[2:]) != self.size:
            pictures = interpolate(pictures, self.size, mode="bilinear", antialias=True, align_corners=False)
        return (pictures - self.mean.to(pictures)) / self.deviation.to(pictures)


class Pictures(_Frames):
    """(frames evenly taken →) the model on each real frame → the mean over its patches, or its first token → the mean over frames."""

    def __init__(self, model: Any, params: HfVideoParams) -> None:
        super().__init__(model, params)
        self.frames, self.first = params.frames, params.pool == "cls"
        sizes = getattr(model.config, "hidden_sizes", None)
        self.width = int(getattr(model.config, "hidden_size", None) or sizes[-1])

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width], and what each frame gave."""
        values, steps = stream.values, stream.steps
        if self.frames is not None:
            values, steps = evenly(values, steps, self.frames)
        if torch.compiler.is_exporting():  # a graph has no sizes that depend on values: there padding goes through, too
            hidden = self._seen(values.flatten(0, 1)).unflatten(0, steps.shape) * steps[..., None]
        else:
            features = self._seen(values[steps])
            hidden = features.new_zeros(*steps.shape, features.shape[1]).index_put((steps,), features)
        return Encoded(vector=read_out(hidden, steps), sequence=each_step(hidden, steps, self.width), steps=steps)

    def _seen(self, pictures: Tensor) -> Tensor:
        """[n, C, H, W] → [n, width], at least float32."""
        output = self.model(pixel_values=self.prepared(pictures))
        hidden: Tensor = output.last_hidden_state
        if hidden.ndim == 4:  # of convolutions, [n, width, h, w], whose mean the library takes
            features = output.pooler_output.flatten(1)
        else:
            features = hidden[:, 0] if self.first else hidden.mean(1)
        return features.float() if features.dtype.itemsize < 4 else features


class Clips(_Frames):
    """As many frames as the model takes, evenly from the real ones → the mean over all of its patches."""

    def __init__(self, model: Any, params: HfVideoParams) -> None:
        super().__init__(model, params)
        self.frames, self.width = int(model.config.num_frames), int(model.config.hidden_size)
        self.pieces = self.frames // int(model.config.tubelet_size) if model.config.model_type == "videomae" else 0

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width]; of VideoMAE also what each piece of time gave."""
        values, steps = evenly(stream.values, stream.steps, self.frames)
        clips = self.prepared(values.flatten(0, 1)).unflatten(0, steps.shape)
        hidden: Tensor = self.model(pixel_values=clips).last_hidden_state
        hidden = hidden.float() if hidden.dtype.itemsize < 4 else hidden
        if not self.pieces:
            return Encoded(vector=hidden.mean(1))
        sequence = hidden.unflatten(1, (self.pieces, -1)).mean(2)
        return Encoded(vector=hidden.mean(1), sequence=sequence, steps=steps[:, :1].expand(-1, self.pieces))


def evenly(values: Tensor, steps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Frames at even places from the first to the last real one [B, count, …]; of few, some stand twice."""
    length = steps.sum(1, keepdim=True)
    place = torch.arange(count, device=steps.device)[None, :] * (length - 1).clamp_min(0) // max(1, count - 1)
    rows = torch.arange(len(values), device=steps.device)[:, None]
    return values[rows, place], (length > 0).expand(-1, count)


def values_of(params: HfVideoParams) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel that frames are brought by."""
    if params.normalise == "none":
        return [0.0], [1.0]
    path = Path(params.model).expanduser() / "preprocessor_config.json"
    about = read_json(path) if params.model and path.is_file() else {}
    return list(about.get("image_mean", [0.5])), list(about.get("image_std", [0.5]))
