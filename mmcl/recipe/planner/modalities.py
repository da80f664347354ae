"""The section `modalities`: which source, through which features, into which backbone."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ...api.dataset import DatasetInfo
from ...api.errors import MmclError
from ...api.kinds import Layout
from ..document import Key
from ..plan import ModalityPlan, Part
from ..schema import Augment, ModalitySection, Recipe
from .problems import Problems


def modality_of(name: str, recipe: Recipe, info: DatasetInfo | None, problems: Problems) -> ModalityPlan | None:
    """One modality, or None and its problems noted."""
    key: Key = ("modalities", name)
    section, pretext = recipe.modalities[name], recipe.pretrain.pretext
    if name in ("all", "none") or "+" in name or not name.replace("-", "").replace("_", "").isalnum():
        problems.add(key, "must be a name of letters, digits, - and _, other than 'all' and 'none'")
    features = problems.part((*key, "features"), section.features)
    backbone = problems.part((*key, "backbone"), section.backbone) if section.backbone else None
    if section.backbone is None and pretext is None:
        problems.add((*key, "backbone"), "is missing")
    if section.backbone is not None and pretext is not None:
        problems.add((*key, "backbone"), "is not used with pretrain.pretext, which takes all streams together; leave it out")
    if section.frozen and pretext is not None:
        problems.add(
            (*key, "frozen"), "is of the modality's backbone, which a recipe with pretrain.pretext has not; leave it out"
        )
    if not (features and info):
        return None
    others = [one for one in recipe.modalities if one != name]
    source = _source(key, name, section.source, others, features, info, problems)
    layout = _layout(key, features, info, source, problems) if source is not None else None
    if source is None or layout is None or (backbone is None and pretext is None):
        return None
    if backbone is not None and not _takes(key, features, layout, backbone, problems):
        return None
    _streams_as_asked(key, name, section, layout, recipe, problems)
    return ModalityPlan(
        name=name,
        source=source,
        features=features,
        layout=layout,
        backbone=backbone,
        normalise=section.normalise if layout.measured else "none",
        augment=section.augment,
        frozen=section.frozen,
    )


def _source(
    key: Key, name: str, given: str | None, others: Sequence[str], features: Part, info: DatasetInfo, problems: Problems
) -> str | None:
    """Which source a modality reads: the one given, one of its own name, or the only one that fits."""
    accepts = features.spec.accepts
    reads = f"'{features.use}' reads {' or '.join(accepts)}"
    fitting = [s for s, source in info.sources.items() if source.type in accepts]
    listed = ", ".join(f"{s} ({source.type})" for s, source in info.sources.items())
    if given is not None and given not in info.sources:
        problems.add((*key, "source"), f"the dataset has no source '{given}'; it has {listed}")
        return None
    if given is not None and given not in fitting:
        kind = info.sources[given].type
        problems.add((*key, "source"), f"{reads}, and source '{given}' is {kind}; the dataset has {listed}")
        return None
    if given is not None:
        return given
    if name in fitting:
        return name
    if len(fitting) == 1 and (near := _nearly(name, [*info.sources, *others])):
        problems.add(
            key,
            f"nearly '{near}': is it that? A modality that is meant to be called '{name}' says which source it reads (source: {fitting[0]})",
        )
        return None
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        problems.add(
            key,
            f"several sources fit '{features.use}': set source: to one of {', '.join(fitting)}, or name the modality after it",
        )
    else:
        problems.add((*key, "features"), f"{reads}; the dataset has {listed}")
    return None


def _nearly(name: str, known: Sequence[str]) -> str | None:
    """A name that is nearly the same, and not a letter or figure longer, as 'audio-2' beside 'audio' is on purpose."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return near[0] if near and not name.startswith(near[0]) and not near[0].startswith(name) else None


def _layout(key: Key, features: Part, info: DatasetInfo, source: str, problems: Problems) -> Layout | None:
    """The layout that the features of a source have."""
    try:
        layout: Layout = features.spec.layout(features.params, info.sources[source])
        kind = problems.plugins.get("kind", layout.kind).spec
    except (ValueError, MmclError) as error:
        problems.add((*key, "features"), str(error))
        return None
    if tuple(layout.axes) != tuple(kind.axes):
        problems.add(
            (*key, "features"),
            f"'{features.use}' breaks the contract: axes {layout.axes}, kind '{kind.name}' has {kind.axes}",
        )
    return layout


def _takes(key: Key, features: Part, layout: Layout, backbone: Part, problems: Problems) -> bool:
    """Whether a backbone takes a stream; if not, it is noted why."""
    axes = tuple(layout.axes)
    if axes not in backbone.spec.accepts:
        takes = " or ".join(" × ".join(accepted) for accepted in backbone.spec.accepts)
        fitting = [name for name, offer in problems.plugins.all("backbone") if axes in offer.spec.accepts]
        problems.add(
            (*key, "backbone"),
            f"'{backbone.use}' takes {takes}; '{features.use}' gives {layout}. Backbones that take it: {', '.join(fitting) or 'none'}",
        )
        return False
    try:
        backbone.spec.fits(backbone.params, layout)
    except (ValueError, MmclError) as error:
        problems.add((*key, "backbone"), str(error))
        return False
    return True


def _streams_as_asked(
    key: Key, name: str, section: ModalitySection, layout: Layout, recipe: Recipe, problems: Problems
) -> None:
    """Note what cannot be done to a stream of this layout."""
    if section.augment.rotate and layout.sizes.get("channel", 0) % 3:
        problems.add(
            (*key, "augment", "rotate"),
            f"turns channels that come in threes (x y z); this stream has {layout.sizes.get('channel', 'no channels')}",
        )
    for option, axis in (("mask_joints", "joint"), ("mask_bands", "channel")):
        if getattr(section.augment, option) and axis not in layout.sizes:
            problems.add((*key, "augment", option), f"needs an axis '{axis}'; this stream has {', '.join(layout.axes)}")
    if section.augment.mirror and "mirror" not in layout.notes:
        problems.add(
            (*key, "augment", "mirror"), "needs a stream that says which joints are left and right (layout notes: mirror)"
        )
    if layout.measured:
        return
    ids = f"'{name}' is a stream of {layout.kind}, whose numbers stand for something"
    if section.normalise == "channel" and "normalise" in section.model_fields_set:
        problems.add((*key, "normalise"), f"{ids} and have no mean; leave normalise out, or set it to none")
    if section.augment != Augment():
        problems.add((*key, "augment"), f"{ids} and cannot be changed a little; leave augment out")
    if recipe.worth is not None and (recipe.worth.robustness.noise or recipe.worth.robustness.loss):
        problems.add(("worth", "robustness"), f"{ids}: noise and loss would make other things of them; keep late alone")
