"""Encoders of a plan: fresh ones, their normalisation fitted on training rows, or those that `pretrain` left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from ..api.errors import StageError
from ..data.stack import stack
from ..data.store import Store
from ..recipe.plan import Part, Plan
from .encoder import Encoder, Normalise, build_encoder
from .joint import Joint, build_joint, load_joint
from .keep import load_encoders


def fresh_encoders(plan: Plan, stores: Mapping[str, Store], rows: Sequence[int], *where: str | int) -> dict[str, Encoder]:
    """Encoders with their first weights, which depend on the address `where` alone, normalised by the rows of training."""
    encoders = {
        modality.name: build_encoder(
            modality.name,
            modality.layout,
            given(modality.backbone).spec,
            given(modality.backbone).params,
            *where,
            hidden=plan.recipe.projection.hidden,
            width=plan.recipe.projection.embedding,
            normalise=modality.normalise == "channel",
        )
        for modality in plan.modalities
    }
    for left, right in (*plan.pairs, *plan.linked):
        widths = encoders[left].embedding, encoders[right].embedding
        if widths[0] != widths[1]:
            raise StageError(
                f"projection: none, and '{left}' gives vectors of {widths[0]} numbers where '{right}' gives {widths[1]}: two modalities "
                "that are contrasted need the same width, or a projection"
            )
    for name, encoder in encoders.items():
        if encoder.normalise is not None:
            _fit(encoder.normalise, stores[name], rows)
    return _frozen(plan, encoders)


def _frozen(plan: Plan, encoders: dict[str, Encoder]) -> dict[str, Encoder]:
    """The same encoders, those frozen that the plan has so."""
    for modality in plan.modalities:
        if modality.frozen:
            encoders[modality.name].freeze()
    return encoders


def fresh_joint(plan: Plan, stores: Mapping[str, Store], rows: Sequence[int], *where: str | int) -> Joint:
    """The plan's pretext with its first weights, which depend on the address `where` alone, normalised by the rows of training."""
    pretext = given(plan.pretext)
    layouts = {modality.name: modality.layout for modality in plan.modalities}
    normalised = [modality.name for modality in plan.modalities if modality.normalise == "channel"]
    joint = build_joint(layouts, normalised, pretext.spec, pretext.params, *where)
    for name, normalise in joint.normalise.items():
        _fit(cast(Normalise, normalise), stores[name], rows)
    return joint


def encoders_of(
    plan: Plan, kind: str, folder: Path, stores: Mapping[str, Store], rows: Sequence[int], *where: str | int
) -> dict[str, Encoder]:
    """The encoders of that kind: "pretrained", which lie in a folder, or "random", which are fresh."""
    return _frozen(plan, load_encoders(folder)) if kind == "pretrained" else fresh_encoders(plan, stores, rows, *where)


def joint_of(plan: Plan, kind: str, folder: Path, stores: Mapping[str, Store], rows: Sequence[int], *where: str | int) -> Joint:
    """The joint encoder of that kind: "pretrained", which lies in a folder, or "random", which is fresh."""
    return load_joint(folder) if kind == "pretrained" else fresh_joint(plan, stores, rows, *where)


def given(part: Part | None) -> Part:
    """The part, where the plan is sure to have one."""
    assert part is not None, "the plan gives every modality a backbone unless a pretext takes all streams together"
    return part


def _fit(normalise: Normalise, store: Store, rows: Sequence[int]) -> None:
    """Set a normalisation from whole recordings, each step counting once."""
    normalise.fit(stack([store.values(row)], store.layout) for row in rows if row in store)
