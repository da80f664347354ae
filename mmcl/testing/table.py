"""What is checked of each kind of plug-in: the one table that all of the kit reads, and that a new kind is entered in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.backbone import BackboneSpec
from ..api.dataset import DatasetSpec
from ..api.group import GroupLossSpec
from ..api.head import HeadSpec
from ..api.kinds import Kind
from ..api.loss import LossSpec, PositivesSpec
from ..api.modality import ModalitySpec
from ..api.preset import PresetSpec
from ..api.pretext import PretextSpec
from ..api.published import PublishedSpec
from ..api.sampler import SamplerSpec
from ..api.scorer import ScorerSpec
from ..plugins import REGISTRIES
from .backbone import ask_fits, backbone_checks, expect_accepts
from .checks import Check
from .dataset import ask_info, dataset_checks
from .dataset import facts as dataset_facts
from .group import group_loss_checks
from .head import expect_tasks, head_checks
from .kinds import expect_kind
from .loss import loss_checks, positives_checks
from .modality import ask_layouts, expect_sources, modality_checks
from .modality import facts as modality_facts
from .preset import preset_checks
from .pretext import pretext_checks
from .published import published_checks
from .sampler import sampler_checks
from .scorer import scorer_checks


@dataclass(frozen=True)
class Checks:
    """What is checked of one kind of plug-in, beside the name and the summary of its spec."""

    fields: Callable[[Any], None] | None = None  # what only this kind's spec says; an AssertionError where it can't be right
    content: Callable[[Any], Iterable[Check]] | None = None  # of a spec that nothing is built from: what it holds
    contract: Callable[[Any, Any, Path], Iterable[Check]] | None = None  # of a spec, its options, a folder: what is built keeps
    ask: Callable[[Any], str] | None = None  # asks what a plan asks before `build`, and names that moment
    facts: Callable[[Any, Any, Path | None], dict[str, Any]] | None = (
        None  # of a spec, its options, a tiny copy: to be equal everywhere
    )


TABLE: Mapping[type[Any], Checks] = {
    Kind: Checks(expect_kind),
    ModalitySpec: Checks(
        expect_sources,
        contract=lambda spec, params, _: modality_checks(spec, params=params),
        ask=ask_layouts,
        facts=modality_facts,
    ),
    BackboneSpec: Checks(expect_accepts, contract=lambda spec, params, _: backbone_checks(spec, params), ask=ask_fits),
    LossSpec: Checks(contract=lambda spec, params, _: loss_checks(spec, params)),
    GroupLossSpec: Checks(contract=lambda spec, params, _: group_loss_checks(spec, params)),
    PositivesSpec: Checks(contract=lambda spec, params, _: positives_checks(spec, params)),
    SamplerSpec: Checks(contract=lambda spec, params, _: sampler_checks(spec, params)),
    DatasetSpec: Checks(
        contract=lambda spec, params, folder: dataset_checks(spec, folder, params), ask=ask_info, facts=dataset_facts
    ),
    HeadSpec: Checks(expect_tasks, contract=lambda spec, params, _: head_checks(spec, params)),
    PretextSpec: Checks(contract=lambda spec, params, _: pretext_checks(spec, params)),
    ScorerSpec: Checks(contract=lambda spec, params, _: scorer_checks(spec, params)),
    PresetSpec: Checks(content=preset_checks),
    PublishedSpec: Checks(content=published_checks),
}
"""Class of a spec → what is checked of it."""


def checks_of(spec: Any) -> Checks:
    """The row of a spec; an AssertionError for what is no spec."""
    for kind, checks in TABLE.items():
        if isinstance(spec, kind):
            return checks
    raise AssertionError(
        f"{spec!r} is no spec: register one of {', '.join(kind.__name__ for _, kind in REGISTRIES.values())} from mmcl.api"
    )


def word_of(spec: Any) -> str:
    """The sort of a spec, in the word that messages use."""
    return next(what for what, (_, kind) in REGISTRIES.items() if isinstance(spec, kind))
