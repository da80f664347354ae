"""The hooks that a plug-in may implement, and the marker that says it does."""

from __future__ import annotations

from typing import Protocol, TypeVar

import pluggy

from .backbone import BackboneSpec
from .dataset import DatasetSpec
from .group import GroupLossSpec
from .head import HeadSpec
from .kinds import Kind
from .loss import LossSpec, PositivesSpec
from .modality import ModalitySpec
from .preset import PresetSpec
from .pretext import PretextSpec
from .published import PublishedSpec
from .sampler import SamplerSpec
from .scorer import ScorerSpec

PROJECT = "mmcl"
"""pluggy project name and entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Put this on a function named like one of the hooks below, in the module that your entry point names."""

Spec_contra = TypeVar("Spec_contra", contravariant=True)


class Register(Protocol[Spec_contra]):
    """Given to every hook: call it once for each thing you offer."""

    def __call__(self, spec: Spec_contra) -> None:
        """Offer one thing under its name."""
        ...


@hookspec
def register_kinds(register: Register[Kind]) -> None:
    """Offer kinds of streams."""


@hookspec
def register_modalities(register: Register[ModalitySpec]) -> None:
    """Offer ways of turning a raw recording into a stream."""


@hookspec
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer networks from a stream to a vector."""


@hookspec
def register_losses(register: Register[LossSpec]) -> None:
    """Offer losses between two modalities' embeddings."""


@hookspec
def register_group_losses(register: Register[GroupLossSpec]) -> None:
    """Offer losses of any number of modalities at once."""


@hookspec
def register_positives(register: Register[PositivesSpec]) -> None:
    """Offer rules for which rows of a batch belong together."""


@hookspec
def register_samplers(register: Register[SamplerSpec]) -> None:
    """Offer ways of putting the recordings of an epoch into batches."""


@hookspec
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer corpora."""


@hookspec
def register_heads(register: Register[HeadSpec]) -> None:
    """Offer probes and fusions."""


@hookspec
def register_pretexts(register: Register[PretextSpec]) -> None:
    """Offer ways of learning one vector of all modalities without labels and without pairs."""


@hookspec
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer a paper's tables, to be laid beside one's own runs."""


@hookspec
def register_scorers(register: Register[ScorerSpec]) -> None:
    """Offer ways of giving recordings numbers that their corpus lacks, such as valence and arousal."""


@hookspec
def register_presets(register: Register[PresetSpec]) -> None:
    """Offer a paper's settings under one name."""
