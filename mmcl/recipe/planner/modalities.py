"""Plans the section `modalities`, and the pretext that may take all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from ...api.dataset import DatasetInfo
from ...api.errors import MmclError
from ...api.kinds import Layout
from ..form import Key
from ..plan import ModalityPlan, Part
from ..schema import Augment, Recipe
from .lookup import Lookup


def modality(look: Lookup, name: str, recipe: Recipe, info: DatasetInfo | None) -> ModalityPlan | None:
    """One modality, or None where something is wrong with it."""
    key: Key = ("modalities", name)
    section = recipe.modalities[name]
    if name in ("all", "none") or "+" in name or not name.replace("-", "").replace("_", "").isalnum():
        look.say(key, "must be a name of letters, digits, - and _, other than 'all' and 'none'")
    features = look.part((*key, "features"), section.features)
    backbone = look.part((*key, "backbone"), section.backbone) if section.backbone else None
    if section.backbone is None and recipe.pretrain.pretext is None:
        look.say((*key, "backbone"), "is missing")
    if section.backbone is not None and recipe.pretrain.pretext is not None:
        look.say((*key, "backbone"), "is not used with pretrain.pretext, which takes all streams together; leave it out")
    if not (features and info):
        return None
    source = _source(look, key, name, section.source, features, info)
    if source is None:
        return None
    try:
        layout = features.spec.layout(features.params, info.sources[source])
        kind = look.plugins.get("kind", layout.kind).spec
    except (ValueError, MmclError) as error:
        look.say((*key, "features"), str(error))
        return None
    if tuple(layout.axes) != tuple(kind.axes):
        look.say(
            (*key, "features"),
            f"'{features.use}' breaks the contract: axes {layout.axes}, kind '{kind.name}' has {kind.axes}",
        )
    if backbone is None and recipe.pretrain.pretext is None:
        return None
    if backbone is not None and not _takes(look, key, features, layout, backbone):
        return None
    if section.augment.rotate and layout is not None and layout.sizes.get("channel", 0) % 3:
        look.say(
            ("modalities", name, "augment", "rotate"),
            f"turns channels that come in threes (x y z); this stream has {layout.sizes.get('channel', 'no channels')}",
        )
    if not layout.measured:
        _unchanged(look, key, recipe, name, layout)
    return ModalityPlan(
        name=name,
        source=source,
        features=features,
        layout=layout,
        backbone=backbone,
        normalise=section.normalise if layout.measured else "none",
        augment=section.augment,
    )


def _unchanged(look: Lookup, key: Key, recipe: Recipe, name: str, layout: Layout) -> None:
    """Say what would change numbers that stand for something."""
    section = recipe.modalities[name]
    ids = f"'{name}' is a stream of {layout.kind}, whose numbers stand for something"
    if section.normalise == "channel" and "normalise" in section.model_fields_set:
        look.say((*key, "normalise"), f"{ids} and have no mean; leave normalise out, or set it to none")
    if section.augment != Augment():
        look.say((*key, "augment"), f"{ids} and cannot be changed a little; leave augment out")
    if recipe.worth is not None and (recipe.worth.robustness.noise or recipe.worth.robustness.loss):
        look.say(("worth", "robustness"), f"{ids}: noise and loss would make other things of them; keep late alone")


def _takes(look: Lookup, key: Key, features: Part, layout: Layout, backbone: Part) -> bool:
    """Whether a backbone takes a stream; if not, it is said why."""
    if tuple(layout.axes) not in backbone.spec.accepts:
        takes = " or ".join(" × ".join(axes) for axes in backbone.spec.accepts)
        fitting = [n for n, o in look.plugins.all("backbone") if tuple(layout.axes) in o.spec.accepts]
        look.say(
            (*key, "backbone"),
            f"'{backbone.use}' takes {takes}; '{features.use}' gives {layout}. Backbones that take it: {', '.join(fitting) or 'none'}",
        )
        return False
    try:
        backbone.spec.fits(backbone.params, layout)
    except (ValueError, MmclError) as error:
        look.say((*key, "backbone"), str(error))
        return False
    return True


def _source(look: Lookup, key: Key, name: str, given: str | None, features: Part, info: DatasetInfo) -> str | None:
    """Which source a modality reads: the one given, one of its own name, or the only one that fits."""
    fitting = [s for s, source in info.sources.items() if source.type in features.spec.accepts]
    listed = ", ".join(f"{s} ({source.type})" for s, source in info.sources.items())
    if given is not None:
        if given not in info.sources:
            look.say((*key, "source"), f"the dataset has no source '{given}'; it has {listed}")
            return None
        if given not in fitting:
            look.say(
                (*key, "source"),
                f"'{features.use}' reads {' or '.join(features.spec.accepts)}, and source '{given}' is {info.sources[given].type}; "
                f"the dataset has {listed}",
            )
            return None
        return given
    if name in fitting:
        return name
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        look.say(
            key,
            f"several sources fit '{features.use}': set source: to one of {', '.join(fitting)}, or name the modality after it",
        )
    else:
        look.say((*key, "features"), f"'{features.use}' reads {' or '.join(features.spec.accepts)}; the dataset has {listed}")
    return None


def pretext(look: Lookup, recipe: Recipe, modalities: Sequence[ModalityPlan]) -> Part | None:
    """What takes all streams together in place of backbones and pairs, where a recipe has that."""
    given = recipe.pretrain.pretext
    if given is None:
        return None
    key: Key = ("pretrain", "pretext")
    part = look.part(key, given)
    if part and len(modalities) == len(recipe.modalities):
        try:
            part.spec.fits(part.params, {m.name: m.layout for m in modalities})
        except (ValueError, MmclError) as error:
            look.say(key, str(error))
    if recipe.probe.inputs not in (None, ("all",)):
        look.say(("probe", "inputs"), "with pretrain.pretext there is one vector of all modalities: all, or leave inputs out")
    if recipe.supervise is not None:
        look.say(("supervise",), "trains the modalities' own backbones, which a recipe with pretrain.pretext has not")
    return part
