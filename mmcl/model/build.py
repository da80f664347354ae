"""Fresh encoders of a plan, with normalisation fitted on training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ..data.stack import stack
from ..data.store import Store
from ..recipe.plan import Part, Plan
from .encoder import Encoder, Normalise, build_encoder
from .joint import Joint, build_joint


def build_encoders(plan: Plan, *where: str | int) -> dict[str, Encoder]:
    """Fresh encoders; their weights depend on the address alone."""
    return {
        m.name: build_encoder(
            m.name,
            m.layout,
            given(m.backbone).spec,
            given(m.backbone).params,
            plan.recipe.projection.hidden,
            plan.recipe.projection.width,
            m.normalise == "channel",
            *where,
        )
        for m in plan.modalities
    }


def given(part: Part | None) -> Part:
    """The part, where the plan is sure to have one."""
    assert part is not None, "the plan gives every modality a backbone unless a pretext takes all streams together"
    return part


def build_joint_of(plan: Plan, *where: str | int) -> Joint:
    """Fresh weights of the plan's pretext; they depend on the address alone."""
    pretext = given(plan.pretext)
    layouts = {m.name: m.layout for m in plan.modalities}
    normalised = [m.name for m in plan.modalities if m.normalise == "channel"]
    return build_joint(layouts, normalised, pretext.spec, pretext.params, *where)


def fit_joint(joint: Joint, stores: Mapping[str, Store], rows: Sequence[int]) -> None:
    """Set the normalisations from the training rows, whole recordings, each step counting once."""
    for name, normalise in joint.normalise.items():
        _fit(cast(Normalise, normalise), stores[name], rows)


def fit_normalise(encoders: Mapping[str, Encoder], stores: Mapping[str, Store], rows: Sequence[int]) -> None:
    """Set every encoder's normalisation from the training rows, whole recordings, each step counting once."""
    for name, encoder in encoders.items():
        if encoder.normalise is not None:
            _fit(encoder.normalise, stores[name], rows)


def _fit(normalise: Normalise, store: Store, rows: Sequence[int]) -> None:
    normalise.fit(stack([store.values(row)], store.layout) for row in rows if row in store)
