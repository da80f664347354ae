"""A text model of the transformers library as a backbone: its weights are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmcl.api import DataError, Encoded, Layout, Stream, adapt

from . import HfEncoderParams, encoder_config
from .features import load, place, why


class PartlyTrained(nn.Module):
    """A network around a `model` of the library, of which some layers learn.

    trained  those that do; None: all
    """

    model: nn.Module
    trained: Sequence[nn.Module] | None

    def train(self, mode: bool = True) -> Self:
        """As any module; but what is not trained has no dropout."""
        super().train(mode)
        if self.trained is not None:
            self.model.eval()
            for layer in self.trained:
                layer.train(mode)
        return self


class HfEncoder(PartlyTrained):
    """ids → the model's last hidden layer → (linear → dropout → additive attention, or a token, or the mean)."""

    def __init__(self, params: HfEncoderParams, layout: Layout, pretrained: bool) -> None:
        super().__init__()
        name = params.model or str(layout.notes.get("model", ""))
        self.model = (
            load(name, "hf-encoder").float() if pretrained else unlearned(name, encoder_config(params, layout), "hf-encoder")
        )
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # its output is not used, so it would never learn
        self.width = int(self.model.config.hidden_size)
        self.padding = int(self.model.config.pad_token_id or 0)
        self.pool = params.pool
        self.trained = learning_part(self.model, name, params.layers, params.adapters, params.adapter_scale)
        if params.pool == "additive":
            self.enter, self.dropout = nn.Linear(self.width, self.width), nn.Dropout(params.dropout)
            self.project, self.weigh = nn.Linear(self.width, self.width), nn.Linear(self.width, 1, bias=False)

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width], and every token."""
        steps = stream.steps
        ids = stream.values[..., 0].round().long().masked_fill(~steps, self.padding)
        hidden: Tensor = self.model(input_ids=ids, attention_mask=steps.long()).last_hidden_state
        if self.pool == "additive":
            hidden = self.dropout(self.enter(hidden))
        hidden = hidden * steps[..., None]
        if self.pool == "cls":
            vector = hidden[:, 0]
        elif self.pool == "mean":
            vector = hidden.sum(1) / steps.sum(1, keepdim=True)
        else:
            vector = self.read(hidden, steps)
        return Encoded(vector=vector, sequence=hidden, steps=steps)

    def read(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """[B, T, width] → [B, width], weights softmax over real steps of w·tanh(P x_t + q) (UniVA; Yang et al. 2016)."""
        energy = self.weigh(self.project(hidden).tanh()).squeeze(-1).float()
        weight = energy.masked_fill(~steps, torch.finfo(energy.dtype).min).softmax(1) * steps
        return (weight[..., None] * hidden).sum(1)


def learning_part(model: Any, name: str, layers: int | None, adapters: int | None, scale: float) -> list[nn.Module] | None:
    """The layers that learn, the top ones; all else is frozen in place, and theirs too where they carry adapters. None: everything learns."""
    if layers is None and adapters is None:
        return None
    model.requires_grad_(False)
    stack = layers_of(model, name)
    trained = list(stack[len(stack) - (len(stack) if layers is None else layers) :])
    for layer in trained:
        if adapters is None:
            layer.requires_grad_()
        elif not adapt(layer, adapters, scale):
            raise DataError(
                f"model '{name}' has no linear layer for adapters to stand on; take a transformer, or leave adapters out"
            )
    return trained


def unlearned(name: str, config: Mapping[str, object], what: str) -> Any:
    """A model with random weights, of a config.json's architecture or, without one, of a name's on the hub."""
    try:
        import transformers
    except ImportError as error:
        raise DataError(f"'{what}' needs the transformers library: pip install 'mmcl[hf]'") from error
    transformers.logging.set_verbosity_error()
    where = "" if config else place(name)
    try:
        architecture = (
            transformers.AutoConfig.for_model(**config)
            if config
            else transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
        )
        return transformers.AutoModel.from_config(architecture).float().eval()
    except Exception as error:
        raise DataError(why(name or str(config.get("model_type")), error)) from error


def layers_of(model: nn.Module, name: str) -> nn.ModuleList:
    """The model's layers, from the bottom. Raises DataError where it shares one among all, or hides them."""
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        if (
            isinstance(module, nn.ModuleList)
            and len(module) == count
            and any(isinstance(one, nn.Linear) for one in module.modules())
        ):
            return module  # and no stack of convolutions that happens to be as high
    raise DataError(
        f"model '{name}' has no list of {count} layers, so the top ones cannot be told; leave layers and adapters out"
    )
