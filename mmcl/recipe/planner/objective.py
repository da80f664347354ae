"""The section `pretrain`: pairs × positives × loss and their weights, or a pretext; and how recordings are drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...api.dataset import DatasetInfo
from ...api.errors import MmclError
from ..document import Key
from ..objectives import PAIRS
from ..plan import GroupPlan, ModalityPlan, Pairs, Part
from ..schema import Recipe
from .problems import Problems, has

OBJECTIVE: Key = ("pretrain", "objective")


@dataclass(frozen=True)
class ObjectivePlan:
    """What is pulled together and pushed apart; None where the recipe has a problem."""

    pairs: Pairs
    weights: tuple[float, ...]
    loss: Part | None
    positives: Part | None
    group: GroupPlan | None = None


def pretext_of(recipe: Recipe, modalities: Sequence[ModalityPlan], problems: Problems) -> Part | None:
    """What takes all streams together in place of backbones and pairs, where a recipe has that."""
    if recipe.pretrain.pretext is None:
        return None
    key: Key = ("pretrain", "pretext")
    pretext = problems.part(key, recipe.pretrain.pretext)
    if pretext and len(modalities) == len(recipe.modalities):
        try:
            pretext.spec.fits(pretext.params, {m.name: m.layout for m in modalities})
        except (ValueError, MmclError) as error:
            problems.add(key, str(error))
    if recipe.probe.inputs not in (None, ("all",)):
        problems.add(
            ("probe", "inputs"), "with pretrain.pretext there is one vector of all modalities: all, or leave inputs out"
        )
    if recipe.supervise is not None:
        problems.add(("supervise",), "trains the modalities' own backbones, which a recipe with pretrain.pretext has not")
    return pretext


def objective_of(
    recipe: Recipe, info: DatasetInfo | None, modalities: Sequence[ModalityPlan], problems: Problems
) -> ObjectivePlan:
    """Pairs × positives × loss, and what each pair counts for."""
    pairs = _pairs(recipe, problems) if recipe.pretrain.pretext is None else ()
    pairs, weights = _weighed(recipe, pairs, problems)
    loss = problems.part((*OBJECTIVE, "loss"), recipe.pretrain.objective.loss)
    positives = problems.part((*OBJECTIVE, "positives"), recipe.pretrain.objective.positives)
    group = _group(recipe, problems)
    given = bool(pairs) or recipe.pretrain.pretext is not None  # that there is no pair is noted where pairs are
    if recipe.pretrain.choose == "retrieval" and given and group is None and all(left == right for left, right in pairs):
        problems.add(
            ("pretrain", "choose"),
            "retrieval goes from one modality to another, and no pair of two different ones is contrasted; set choose: loss",
        )
    if positives and info:
        for target in _targets(positives, recipe):
            if target not in info.tasks:
                problems.add(
                    (*OBJECTIVE, "positives"),
                    f"'{positives.use}' needs the target '{target}'; {has(recipe.dataset.use, 'tasks', info.tasks)}",
                )
    _check_weights(positives, loss, group, problems)
    _check_sides(recipe, loss, problems)
    contrasted = {name for pair in pairs for name in pair} | set(group.modalities if group else ())
    frozen = [name for name in contrasted if name in recipe.modalities and recipe.modalities[name].frozen]
    if contrasted and len(frozen) == len(contrasted) and recipe.projection.embedding is None and recipe.pretrain.epochs > 0:
        problems.add(
            ("projection",),
            "none, and all contrasted backbones are frozen: nothing is left to learn; set pretrain.epochs: 0, or projection.use: mlp",
        )
    if loss is not None and loss.spec.sequences and pairs:
        _check_sequences(recipe, loss, [m for m in modalities if any(m.name in pair for pair in pairs)], problems)
    return ObjectivePlan(pairs=pairs, weights=weights, loss=loss, positives=positives, group=group)


def _check_weights(positives: Part | None, loss: Part | None, group: GroupPlan | None, problems: Problems) -> None:
    """Note a rule that weighs positives beside a loss that reads no weights."""
    if positives is None or not positives.spec.soft:
        return
    if loss is not None and not loss.spec.soft:
        able = [name for name, offer in problems.plugins.all("loss") if offer.spec.soft]
        problems.add(
            (*OBJECTIVE, "loss"),
            f"'{loss.use}' reads no weights, and '{positives.use}' weighs positives; losses that do are {', '.join(able)}",
        )
    if group is not None:
        problems.add(
            (*OBJECTIVE, "group"),
            f"'{positives.use}' weighs positives, which losses of a group do not read; leave one of the two out",
        )


def _check_sides(recipe: Recipe, loss: Part | None, problems: Problems) -> None:
    """Note where a queue, a teacher or a predictor, or a loss that needs one, does not suit the rest."""
    given = recipe.pretrain.objective
    asked = [name for name in ("queue", "momentum", "predictor") if getattr(given, name) is not None]
    losses = problems.plugins.all("loss")
    for name in asked:
        key: Key = (*OBJECTIVE, name)
        if recipe.pretrain.pretext is not None:
            problems.add(key, "is of pairs of modalities, of which a recipe with pretrain.pretext has none; leave it out")
        elif given.pairs == "none":
            problems.add(
                key,
                "is of the pairs, of which there are none: a loss of a group sees the batch alone; leave it out, or name pairs",
            )
        elif recipe.supervise is not None and recipe.supervise.contrast > 0:
            problems.add(
                key, "is not learned beside labels: supervise.contrast adds plain pairs alone; leave one of the two out"
            )
    if loss is not None and given.queue is not None and not loss.spec.queue:
        able = ", ".join(name for name, offer in losses if offer.spec.queue)
        problems.add((*OBJECTIVE, "queue"), f"'{loss.use}' has no use for further negatives; losses that have are {able}")
    if (
        loss is not None
        and loss.spec.predictor
        and given.predictor is None
        and given.pairs != "none"
        and recipe.pretrain.pretext is None
    ):
        problems.add(
            (*OBJECTIVE, "loss"),
            f"'{loss.use}' has no negatives, and without a predictor all embeddings become one: set pretrain.objective.predictor: {{}}",
        )


def _check_sequences(recipe: Recipe, loss: Part, contrasted: Sequence[ModalityPlan], problems: Problems) -> None:
    """Note what a loss of sequences cannot be combined with, and modalities without steps a second."""
    given, key = recipe.pretrain.objective, (*OBJECTIVE, "loss")
    for one in contrasted:
        if not one.layout.rate:
            problems.add(
                key,
                f"'{loss.use}' compares steps at the same second, and '{one.name}' ({one.layout.kind}) has no steps a second; leave it out of "
                "pretrain.objective.pairs, or take features that have",
            )
    if len(recipe.pretrain.shares) > 1 or recipe.pretrain.copies > 1:
        problems.add(
            key,
            f"'{loss.use}' compares steps at the same second, and windows of one recording begin at different ones: set pretrain.views: 1",
        )
    if given.directed:
        problems.add(
            key, f"'{loss.use}' is of sequences, which queue, momentum and predictor know nothing of; leave one of the two out"
        )
    if recipe.supervise is not None and recipe.supervise.contrast > 0:
        problems.add(key, f"'{loss.use}' is of sequences, which are not contrasted beside labels: set supervise.contrast: 0")


def _group(recipe: Recipe, problems: Problems) -> GroupPlan | None:
    """The loss of several modalities at once, where a recipe has one; whatever does not suit it is noted."""
    given, names = recipe.pretrain.objective.group, tuple(recipe.modalities)
    if given is None:
        return None
    key: Key = (*OBJECTIVE, "group")
    loss = problems.part(key, given)
    chosen = names if given.modalities is None else given.modalities
    unknown = [name for name in chosen if name not in names]
    if recipe.supervise is not None and recipe.supervise.contrast > 0:
        problems.add(key, "is not learned beside labels: supervise.contrast adds the pairs alone; leave one of the two out")
    if recipe.pretrain.pretext is not None:
        problems.add(key, "scores the modalities' embeddings, of which a recipe with pretrain.pretext has none; leave it out")
    elif unknown:
        problems.add((*key, "modalities"), f"no modality is named '{unknown[0]}'; there are {', '.join(names)}")
    elif len(set(chosen)) < len(chosen):
        problems.add((*key, "modalities"), "names a modality twice")
    elif loss is not None:
        _fit_group(loss, chosen, recipe, problems)
    return None if loss is None else GroupPlan(loss=loss, modalities=chosen, weight=given.weight)


def _fit_group(loss: Part, chosen: tuple[str, ...], recipe: Recipe, problems: Problems) -> None:
    """Note where a group loss and the recipe's modalities or views do not suit each other."""
    key, spec, n = (*OBJECTIVE, "group"), loss.spec, len(chosen)
    if n < spec.fewest or (spec.most is not None and n > spec.most):
        wanted = (
            f"{spec.fewest}"
            if spec.most == spec.fewest
            else f"{spec.fewest} to {spec.most}"
            if spec.most
            else f"{spec.fewest} or more"
        )
        enough = len(recipe.modalities) >= spec.fewest
        remedy = "choose some by group.modalities" if enough else "add a modality, or take another loss"
        problems.add(key, f"'{loss.use}' takes {wanted} modalities, and there are {n}, {', '.join(chosen)}; {remedy}")
        return
    if len(recipe.pretrain.shares) * recipe.pretrain.copies < spec.views:
        problems.add(key, f"'{loss.use}' contrasts windows of a recording: set pretrain.views: {spec.views}")
    try:
        spec.fits(loss.params, chosen)
    except (ValueError, MmclError) as error:
        problems.add(key, str(error))


def check_balance(recipe: Recipe, info: DatasetInfo | None, problems: Problems) -> None:
    """Note why the classes of `pretrain.balance` cannot come equally often."""
    section, key = recipe.pretrain, ("pretrain", "balance")
    if section.balance is None or info is None:
        return
    task = info.tasks.get(section.balance)
    if task is None:
        problems.add(key, f"no task is named '{section.balance}'; {has(recipe.dataset.use, 'tasks', info.tasks)}")
    elif task.type != "single-label":
        problems.add(key, f"task '{task.name}' is {task.type}; only the classes of a single-label task can be balanced")
    if section.transductive:
        problems.add(key, "would read the labels of the splits in pretrain.transductive; keep one of the two")


def sampler_of(section: str, recipe: Recipe, info: DatasetInfo | None, problems: Problems) -> Part | None:
    """What puts the recordings of a section, pretrain or supervise, into batches, where a recipe names it; what does not suit it is noted."""
    key: Key = (section, "sampler")
    named = getattr(getattr(recipe, section), "sampler", None)
    sampler = None if named is None else problems.part(key, named)
    if sampler is None or info is None:
        return sampler
    needs = tuple(sampler.spec.needs(sampler.params))
    for target in needs:
        if target not in info.tasks:
            problems.add(key, f"'{sampler.use}' needs the target '{target}'; {has(recipe.dataset.use, 'tasks', info.tasks)}")
    if section == "supervise" and sampler.spec.looks(sampler.params):
        problems.add(key, f"'{sampler.use}' looks at embeddings, which only pretraining keeps; take another one")
    if section == "pretrain" and needs and recipe.pretrain.transductive:
        problems.add(key, f"'{sampler.use}' would read the labels of the splits in pretrain.transductive; keep one of the two")
    return sampler


def _targets(positives: Part, recipe: Recipe) -> tuple[str, ...]:
    """Names of the targets by which positives are told."""
    return tuple(positives.spec.needs(positives.params, tuple(recipe.modalities)))


def _pairs(recipe: Recipe, problems: Problems) -> Pairs:
    """The unordered pairs of modalities that are contrasted."""
    key: Key = (*OBJECTIVE, "pairs")
    names, given = list(recipe.modalities), recipe.pretrain.objective.pairs
    different = tuple(itertools.combinations(names, 2))
    if isinstance(given, tuple):
        unknown = sorted({name for pair in given for name in pair} - set(names))
        if unknown:
            problems.add(key, f"no modality is named {', '.join(unknown)}; there are {', '.join(names)}")
        if len({frozenset(pair) for pair in given}) < len(given):
            problems.add(key, "names a pair twice; a pair counts in both directions anyway")
        pairs: Pairs = given
    elif given == "none":
        if recipe.pretrain.objective.group is None and recipe.pretrain.epochs > 0:
            problems.add(key, "none leaves nothing to contrast: name a loss of all modalities in pretrain.objective.group")
        return ()
    elif given == "all":
        pairs = different
    elif given == "same":
        pairs = tuple((name, name) for name in names)
    elif given == "all+same":
        pairs = (*different, *((name, name) for name in names))
    elif given.startswith("star:"):
        centre = given.removeprefix("star:").strip()
        if centre not in names:
            problems.add(key, f"no modality is named '{centre}'; there are {', '.join(names)}")
        pairs = tuple((centre, name) for name in names if name != centre)
    else:
        problems.add(key, f"must be {PAIRS}, got '{given}'")
        return ()
    if recipe.pretrain.epochs > 0 and not pairs:
        problems.add(key, f"gives no pair to contrast among {', '.join(names)}")
    if (recipe.pretrain.epochs > 0 or (recipe.supervise and recipe.supervise.contrast > 0)) and any(
        left == right for left, right in pairs
    ):
        _check_same(recipe, problems)
    return pairs


def _check_same(recipe: Recipe, problems: Problems) -> None:
    """Note where a modality is contrasted with itself and nothing but the anchor is its positive."""
    given = recipe.pretrain.objective.positives
    positives = problems.apart().part((*OBJECTIVE, "positives"), given)  # what is wrong with it is noted with the loss
    if positives is not None and not _targets(positives, recipe) and len(recipe.pretrain.shares) * recipe.pretrain.copies < 2:
        problems.add(
            (*OBJECTIVE, "pairs"),
            f"pairs a modality with itself, where '{given.use}' has no positives but the anchor itself; set pretrain.views: 2, or pretrain.copies: 2",
        )


def _weighed(recipe: Recipe, pairs: Pairs, problems: Problems) -> tuple[Pairs, tuple[float, ...]]:
    """The pairs that count for something, and for how much; no weights where the recipe gives none."""
    key: Key = (*OBJECTIVE, "weights")
    given, pretext = recipe.pretrain.objective.weights, recipe.pretrain.pretext
    if not given or not (pairs or pretext):  # that there is no pair is noted where pairs are
        return pairs, ()
    if pretext is not None:
        problems.add(key, "weigh pairs of modalities, of which a recipe with pretrain.pretext has none; leave them out")
        return pairs, ()
    single: dict[str, float] = {}
    coupled: dict[frozenset[str], float] = {}
    for name, weight in given.items():
        couple = frozenset(part.strip() for part in name.split("~"))
        wrong = _wrong_weight(name, list(recipe.modalities), pairs, coupled)
        if wrong is not None:
            problems.add((*key, name), wrong)
        elif "~" in name:
            coupled[couple] = weight
        else:
            single[name] = weight
    weights = {
        pair: coupled.get(frozenset(pair), math.prod(single.get(name, 1.0) for name in frozenset(pair))) for pair in pairs
    }
    counted = tuple(pair for pair in pairs if weights[pair] > 0)
    if not counted:
        problems.add(key, "leave no pair to contrast: all weigh 0")
    return counted, tuple(weights[pair] for pair in counted)


def _wrong_weight(name: str, names: list[str], pairs: Pairs, coupled: Mapping[frozenset[str], float]) -> str | None:
    """What is wrong with a key of `weights`, if anything; `coupled` holds the pairs weighed so far."""
    parts = tuple(part.strip() for part in name.split("~"))
    contrasted = [frozenset(pair) for pair in pairs]
    unknown = [part for part in parts if part not in names]
    these = ", ".join("~".join(pair) for pair in pairs) or "none"
    if unknown:
        return f"no modality is named '{unknown[0]}'; there are {', '.join(names)}"
    if len(parts) > 2:
        return f"must be a modality or a pair such as {names[0]}~{names[-1]}"
    if len(parts) == 2 and frozenset(parts) in coupled:
        return "weighs a pair a second time; a pair counts in both directions anyway"
    if len(parts) == 2 and frozenset(parts) not in contrasted:
        return f"is no pair that pretrain.objective.pairs contrasts; these are {these}"
    if len(parts) == 1 and not any(name in pair for pair in contrasted):
        return f"is in no pair that pretrain.objective.pairs contrasts; these are {these}"
    return None
