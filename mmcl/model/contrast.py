"""The objective of a plan's pairs: what pretraining learns from, and what training with labels may add to its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..api.batch import Items
from ..api.dataset import SampleRef
from ..api.errors import PluginError
from ..api.group import GroupLoss
from ..api.loss import PairLoss, Positives
from ..evaluate.answers import group_numbers, target_tensor
from ..objective.directed import Past, score_directed
from ..objective.group import score_group
from ..objective.score import Embedded, Objective, score
from ..recipe.plan import Part, Plan
from .sides import Queue, Sides


@dataclass(frozen=True)
class Together:
    """All modalities of a recording at once."""

    name: str  # of the loss
    loss: GroupLoss
    modalities: tuple[str, ...]
    weight: float
    fewest: int


@dataclass(frozen=True)
class Contrast:
    """Pairs of modalities, which rows are positives of each other, and the loss. A loss may have weights to learn."""

    pairs: Sequence[tuple[str, str]]
    weights: Sequence[float]  # one a pair
    positives: Positives
    loss: PairLoss
    targets: Mapping[str, Tensor]  # of every recording, only those that the positives read
    groups: Tensor  # int64, of every recording: which are of one group
    combine: str = "mean"  # how pairs become one loss
    copies: int = 1  # times that every embedding is there
    soft: bool = False  # whether positives weigh
    together: Together | None = None  # beside the pairs, or in their place
    sequences: bool = False  # whether the loss is of sequences
    sides: Sides | None = None  # what makes anchors and candidates of the pairs unlike

    @property
    def module(self) -> nn.Module | None:
        """What the losses have learned, if they learn."""
        losses = {"pair": self.loss, "group": self.together.loss} if self.together else {}
        modules = {name: loss for name, loss in losses.items() if isinstance(loss, nn.Module)}
        if self.together is not None:
            return nn.ModuleDict(modules) if modules else None
        return self.loss if isinstance(self.loss, nn.Module) else None

    def __call__(self, embedded: Mapping[str, Embedded], items: Items, device: torch.device) -> Objective:
        """The objective of a batch: of its embeddings by modality, and of who stands in its rows."""
        who = self._who(items.row, items.view, device)
        anchors = embedded if self.sides is None else self.sides.anchors(embedded)
        if self.copies > 1:
            rows, who = len(who.row), _repeated(who, self.copies)
            same = anchors is embedded
            embedded = {name: _again(one, rows, self.copies) for name, one in embedded.items()}
            anchors = embedded if same else {name: _again(one, rows, self.copies) for name, one in anchors.items()}
        if self._directed or self.sequences:
            how = (self.pairs, self.positives, self.loss, self.weights, self.combine, self.soft)
            objective = score_directed(anchors, who, *how, past=self._past(device), both=self.sequences)
        else:
            objective = score(embedded, who, self.pairs, self.positives, self.loss, self.weights, self.combine, self.soft)
        return objective if self.together is None else self._with_group(objective, self.together, embedded, who)

    @property
    def _directed(self) -> bool:
        """Whether the pairs' two sides are unlike now: while validating only a predictor makes them so."""
        return self.sides is not None and (torch.is_grad_enabled() or len(self.sides.predictors) > 0)

    def _who(self, row: Tensor, view: Tensor, device: torch.device) -> Items:
        """Who stands in some rows, with all that positives ask for."""
        rows = row.to(self.groups.device)
        targets = {name: target[rows].to(device) for name, target in self.targets.items()}
        return Items(row=row.to(device), view=view.to(device), targets=targets, group=self.groups[rows].to(device))

    def _past(self, device: torch.device) -> dict[str, Past]:
        """What queues hold, while something is learned."""
        if self.sides is None or not torch.is_grad_enabled():
            return {}
        held = {name: cast(Queue, queue).held() for name, queue in self.sides.queues.items()}
        return {
            name: Past(z, replace(self._who(row, view, device), modality=name))
            for name, (z, row, view) in held.items()
            if len(row)
        }

    def _with_group(self, pairs: Objective, together: Together, embedded: Mapping[str, Embedded], who: Items) -> Objective:
        """The objective of the pairs, and the weighed loss of the group added to it."""
        group = score_group(embedded, who, together.modalities, self.positives, together.loss, together.fewest)
        if group.loss is None:
            return replace(pairs, skipped=(*pairs.skipped, together.name))
        loss = group.loss * together.weight
        return replace(
            pairs,
            loss=loss if pairs.loss is None else pairs.loss + loss,
            pairs={**pairs.pairs, together.name: group.metrics},
        )


REDUCTIONS = ("mean", "sum", "whole")
"""What a loss says of how it puts anchors together (mmcl.api.PairLoss)."""


@dataclass(frozen=True)
class _Checked:
    """A rule for positives, whose masks are seen to be masks."""

    rule: Positives
    part: Part

    def __call__(self, left: Items, right: Items) -> tuple[Tensor, Tensor]:
        """As the rule has it. Raises PluginError for anything but two bool matrices [anchors, candidates]."""
        masks: Any = self.rule(left, right)
        wanted = (len(left.row), len(right.row))
        whose = f"positives '{self.part.use}' (pretrain.objective.positives; package {self.part.package} {self.part.version})"
        if not isinstance(masks, tuple) or len(masks) != 2:
            raise PluginError(f"{whose}: gives two masks, positive and ignore; it gave a {type(masks).__name__}")
        if self.part.spec.soft:
            weights = masks[0]
            if not isinstance(weights, Tensor) or not weights.is_floating_point() or tuple(weights.shape) != wanted:
                raise PluginError(
                    f"{whose}: weighs positives, in floats [anchors, candidates], here {list(wanted)}; it gave {_told(weights)}"
                )
        for name, mask in zip(("positive", "ignore"), masks, strict=True):
            if self.part.spec.soft and name == "positive":
                continue
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != wanted:
                raise PluginError(
                    f"{whose}: `{name}` is bool [anchors, candidates], here {list(wanted)}; it gave {_told(mask)}"
                )
        return masks[0], masks[1]


def _told(mask: Any) -> str:
    return f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"


def _repeated(items: Items, times: int) -> Items:
    """Every row, then every row again as a window of its own, and so on."""
    views = int(items.view.max()) + 1 if len(items.view) else 1
    return Items(
        row=items.row.repeat(times),
        view=torch.cat([items.view + views * k for k in range(times)]),
        targets={name: torch.cat([target] * times) for name, target in items.targets.items()},
        group=None if items.group is None else items.group.repeat(times),
    )


def _again(one: Embedded, rows: int, times: int) -> Embedded:
    """The same embeddings at the rows of each repetition."""
    key = None if one.key is None else torch.cat([one.key] * times)
    return Embedded(torch.cat([one.z] * times), torch.cat([one.rows + rows * k for k in range(times)]), key)


def build_contrast(
    plan: Plan, samples: Sequence[SampleRef], modalities: Sequence[str] | None = None, widths: Mapping[str, int] | None = None
) -> Contrast:
    """The plan's contrast.

    modalities  only pairs of these; left out: all pairs
    widths      of all modalities' embeddings, from which the plan's group loss is built; left out: pairs alone
    """
    weights = plan.weights or (1.0,) * len(plan.pairs)
    chosen = [
        (pair, weight)
        for pair, weight in zip(plan.pairs, weights, strict=True)
        if modalities is None or set(pair) <= set(modalities)
    ]
    return Contrast(
        pairs=[pair for pair, _ in chosen],
        weights=[weight for _, weight in chosen],
        positives=_Checked(
            _built(plan.positives, "positives", "positives", plan.positives.spec.build(plan.positives.params)), plan.positives
        ),
        loss=_built(
            plan.loss, "loss", "loss", plan.loss.spec.build(plan.loss.params), reduction=REDUCTIONS, symmetric=(True, False)
        ),
        targets=contrast_targets(plan, samples),
        groups=group_numbers([sample.group for sample in samples]),
        combine=plan.recipe.pretrain.objective.combine,
        copies=plan.recipe.pretrain.copies,
        soft=plan.positives.spec.soft,
        sequences=plan.loss.spec.sequences,
        together=_together(plan, widths) if plan.group and widths else None,
    )


def _together(plan: Plan, widths: Mapping[str, int]) -> Together:
    """The plan's group of modalities."""
    group = plan.group
    assert group is not None
    loss = group.loss.spec.build(group.loss.params, {name: widths[name] for name in group.modalities})
    return Together(
        name=group.loss.use,
        loss=_built(group.loss, "group loss", "group", loss, reduction=REDUCTIONS),
        modalities=group.modalities,
        weight=group.weight,
        fewest=group.loss.spec.fewest,
    )


def _built(part: Part, kind: str, key: str, built: Any, **wanted: tuple[Any, ...]) -> Any:
    """What a plug-in's `build` gave. Raises PluginError if it cannot be called, or lacks what it has to say of itself.

    wanted  attributes, and the values that each may have
    """
    whose = f"{kind} '{part.use}' (pretrain.objective.{key}; package {part.package} {part.version})"
    if not callable(built):
        raise PluginError(f"{whose}: `build` gives what can be called; it gave a {type(built).__name__}")
    for name, values in wanted.items():
        there = getattr(built, name, None)
        if not any(there is value or (isinstance(value, str) and there == value) for value in values):
            told = f"it has {there!r:.40}" if hasattr(built, name) else "it has none"
            raise PluginError(f"{whose}: what `build` gives says `{name}`, {' or '.join(map(repr, values))}; {told}")
    return built


def contrast_targets(plan: Plan, samples: Sequence[SampleRef]) -> dict[str, Tensor]:
    """Targets by row, only those that the positives ask for; a missing one is −1 (classes) or NaN (values)."""
    of_each = [sample.targets for sample in samples]
    return {name: target_tensor(plan.info.tasks[name], of_each) for name in plan.needs}
