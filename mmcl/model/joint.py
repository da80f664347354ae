"""One vector of all modalities: their normalisations, and a pretext that takes the streams together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..api.batch import Batch, Stream
from ..api.errors import PluginError
from ..api.kinds import Layout
from ..api.loss import Scored
from ..api.params import Params
from ..api.pretext import PretextSpec
from ..plugins import Plugins, network_of, plugins
from ..runs import distrusting, read_tensors
from ..seeding import address
from .augment import Augmentation, augment
from .encoder import Normalise
from .keep import bytes_of, describe_encoders, sparing


class Joint(nn.Module):
    """What is trained where a recipe has `pretrain.pretext`."""

    def __init__(self, layouts: Mapping[str, Layout], normalised: Sequence[str], pretext: nn.Module) -> None:
        super().__init__()
        self.layouts = dict(layouts)
        self.normalise = nn.ModuleDict({name: Normalise(layouts[name]) for name in normalised})
        self.pretext = pretext
        self.width = int(cast(Any, pretext).width)

    def forward(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """The joint vectors [B, width], and which recordings have any modality at all."""
        streams = self._streams(batch, device, {}, None)
        present = torch.stack([stream.present for stream in streams.values()]).any(0)
        vector: Tensor = self.pretext(streams).vector
        return vector * present[:, None].to(vector.dtype), present

    def learn(
        self, batch: Batch, device: torch.device, augmentations: Mapping[str, Augmentation], generator: torch.Generator | None
    ) -> Scored:
        """The pretext's loss of one batch."""
        scored: Scored = cast(Any, self.pretext).learn(self._streams(batch, device, augmentations, generator))
        return scored

    def _streams(
        self, batch: Batch, device: torch.device, augmentations: Mapping[str, Augmentation], generator: torch.Generator | None
    ) -> dict[str, Stream]:
        streams = {}
        for name, layout in self.layouts.items():
            stream = batch.streams[name].to(device)
            if name in self.normalise:
                stream = self.normalise[name](stream)
            if how := augmentations.get(name):
                stream = augment(stream, layout, how, generator)
            here = stream.present.view(-1, *[1] * (stream.values.ndim - 1)).to(stream.values.dtype)
            streams[name] = Stream(values=stream.values * here, steps=stream.steps, present=stream.present)
        return streams


def build_joint(
    layouts: Mapping[str, Layout], normalised: Sequence[str], spec: PretextSpec, params: Params, *where: str | int
) -> Joint:
    """A fresh one. Its weights depend on the address alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*where, "init", "joint"))
        return Joint(
            layouts=layouts,
            normalised=normalised,
            pretext=cast(nn.Module, network_of(spec.build(params, layouts), spec, "pretext", "pretrain.pretext")),
        )


@distrusting
def load_joint(folder: Path | str, offers: Plugins | None = None) -> Joint:
    """What `pretrain` left in a folder, in eval mode, rebuilt without the recipe.

    Raises DataError if the folder holds none, PluginError if the pretext's plug-in is gone or builds other weights than it did.
    """
    folder = Path(folder)
    about = describe_encoders(folder)
    pretext = about.get("pretext")
    if not pretext:
        raise PluginError(f"{folder}: holds an encoder for each modality, not one of all; read it with mmcl.load_encoders")
    offer = (offers or plugins()).kept("pretext", pretext)
    params = offer.spec.params.model_validate_json(json.dumps(pretext["params"]))
    layouts = {name: Layout.from_json(one["layout"]) for name, one in about["modalities"].items()}
    normalised = [name for name, one in about["modalities"].items() if one["normalise"] == "channel"]
    tensors = read_tensors(folder / "encoders.safetensors")
    with sparing(bytes_of(tensors)):
        joint = build_joint(layouts, normalised, offer.spec, params)
    try:
        joint.load_state_dict({key.removeprefix("joint/"): value for key, value in tensors.items()})
    except RuntimeError as error:
        raise PluginError(
            f"{folder}: the weights do not fit the pretext '{offer.name}' of {offer.package} {offer.version}: {error}"
        ) from error
    return joint.eval()
