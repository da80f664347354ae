"""Plans the objective of pretraining: pairs, their weights, positives, and how recordings are drawn."""

from __future__ import annotations

import itertools
import math

from ...api.dataset import DatasetInfo
from ..form import Key
from ..plan import Pairs
from ..schema import PAIRS, Recipe
from .dataset import has
from .lookup import Lookup


def pairs(look: Lookup, recipe: Recipe) -> Pairs:
    """The unordered pairs of modalities that are contrasted."""
    key: Key = ("pretrain", "objective", "pairs")
    names, given = list(recipe.modalities), recipe.pretrain.objective.pairs
    different = tuple(itertools.combinations(names, 2))
    if isinstance(given, tuple):
        unknown = sorted({n for pair in given for n in pair} - set(names))
        if unknown:
            look.say(key, f"no modality is named {', '.join(unknown)}; there are {', '.join(names)}")
        unique = {tuple(sorted(pair, key=lambda n: names.index(n) if n in names else -1)) for pair in given}
        if len(unique) < len(given):
            look.say(key, "names a pair twice; a pair counts in both directions anyway")
        contrasted: Pairs = given
    elif given == "all":
        contrasted = different
    elif given == "same":
        contrasted = tuple((n, n) for n in names)
    elif given == "all+same":
        contrasted = (*different, *((n, n) for n in names))
    elif given.startswith("star:"):
        centre = given.removeprefix("star:").strip()
        if centre not in names:
            look.say(key, f"no modality is named '{centre}'; there are {', '.join(names)}")
        contrasted = tuple((centre, n) for n in names if n != centre)
    else:
        look.say(key, f"must be {PAIRS}, got '{given}'")
        return ()
    if not contrasted and recipe.pretrain.epochs > 0:
        look.say(key, f"gives no pair to contrast among {', '.join(names)}")
    if any(a == b for a, b in contrasted) and recipe.pretrain.epochs > 0:
        needs = (
            positives.spec.needs(positives.params, tuple(names))
            if (positives := look.quietly(("pretrain", "objective", "positives"), recipe.pretrain.objective.positives))
            is not None
            else ("?",)
        )
        if not needs and recipe.pretrain.views < 2:
            look.say(
                key,
                f"pairs a modality with itself, where '{recipe.pretrain.objective.positives.use}' has no positives but the "
                "anchor itself; set pretrain.views: 2",
            )
    return contrasted


def weights(look: Lookup, recipe: Recipe, pairs: Pairs) -> tuple[Pairs, tuple[float, ...]]:
    """The pairs that count for something, and for how much; no weights where the recipe gives none."""
    key: Key = ("pretrain", "objective", "weights")
    given, names = recipe.pretrain.objective.weights, list(recipe.modalities)
    if not given or not (pairs or recipe.pretrain.pretext):  # that there is no pair is said where pairs are
        return pairs, ()
    if recipe.pretrain.pretext is not None:
        look.say(key, "weigh pairs of modalities, of which a recipe with pretrain.pretext has none; leave them out")
        return pairs, ()
    contrasted = [frozenset(pair) for pair in pairs]
    single: dict[str, float] = {}
    coupled: dict[frozenset[str], float] = {}
    for name, weight in given.items():
        parts = tuple(part.strip() for part in name.split("~"))
        who = frozenset(parts)
        unknown = [part for part in parts if part not in names]
        if unknown:
            look.say((*key, name), f"no modality is named '{unknown[0]}'; there are {', '.join(names)}")
        elif len(parts) > 2:
            look.say((*key, name), f"must be a modality or a pair such as {names[0]}~{names[-1]}")
        elif len(parts) == 2 and who in coupled:
            look.say((*key, name), "weighs a pair a second time; a pair counts in both directions anyway")
        elif len(parts) == 2 and who not in contrasted:
            look.say((*key, name), f"is no pair that pretrain.objective.pairs contrasts; these are {couples(pairs)}")
        elif len(parts) == 1 and not any(name in pair for pair in contrasted):
            look.say((*key, name), f"is in no pair that pretrain.objective.pairs contrasts; these are {couples(pairs)}")
        elif len(parts) == 2:
            coupled[who] = weight
        else:
            single[name] = weight
    weighed = [
        (pair, coupled.get(frozenset(pair), math.prod(single.get(name, 1.0) for name in frozenset(pair)))) for pair in pairs
    ]
    kept = [(pair, weight) for pair, weight in weighed if weight > 0]
    if not kept:
        look.say(key, "leave no pair to contrast: all weigh 0")
    return tuple(pair for pair, _ in kept), tuple(weight for _, weight in kept)


def sampling(look: Lookup, recipe: Recipe, info: DatasetInfo | None) -> None:
    """Say what is wrong with how recordings are drawn."""
    section = recipe.pretrain
    if section.balance is None or info is None:
        return
    key: Key = ("pretrain", "balance")
    task = info.tasks.get(section.balance)
    if task is None:
        look.say(key, f"no task is named '{section.balance}'; {has(recipe.dataset.use, 'tasks', info.tasks)}")
    elif task.type != "single-label":
        look.say(key, f"task '{task.name}' is {task.type}; only the classes of a single-label task can be balanced")
    if section.transductive:
        look.say(key, "would read the labels of the splits in pretrain.transductive; keep one of the two")


def couples(pairs: Pairs) -> str:
    """Pairs as weights name them."""
    return ", ".join("~".join(pair) for pair in pairs) or "none"
