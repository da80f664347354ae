"""worth: what the frozen features are worth beyond one score, on test recordings.

For each fold and seed, with the first head of the recipe and the input with most modalities:
few-shot curves, tests with modalities taken away, transfer of one modality's head to another, tests on spoilt recordings, and the
geometry of the embedding space. Of the first fold and seed, maps in two dimensions. As in `probe`, everything is fitted on train and
chosen on valid, and only then is test opened. Writes worth.jsonl and, once, maps.json.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..api.batch import Encoded
from ..api.dataset import Task
from ..api.head import Head, Labelled
from ..data.store import Store
from ..data.windows import Late
from ..engine.devices import pick_device
from ..evaluate.answers import output_of, scores_of, shift_of, target_of
from ..evaluate.geometry import alignment, effective_rank, gap, uniformity
from ..evaluate.maps import flatten
from ..model.augment import Augmentation
from ..model.build import encoders_of
from ..model.encoder import Encoder
from ..model.frozen import Features, encode_rows
from ..model.heads import fit_head
from ..model.kept import KeptHead, load_heads
from ..model.scale import Scale, any_present, encoded_of, fitted_scale, scale_of, sides_of
from ..recipe.plan import Plan, main_input
from ..recipe.schema import Worth
from ..runs import RunFolder, finish, finished, restart, write_json, write_jsonl
from ..screen import Tick, part_of, progress
from ..seeding import address
from .embed import read_features
from .supervise import encoders_trained
from .units import ALL, Only, Unit, encoder_kinds, probe_choices, units_of, worth_key

SHARED = "shared"
"""The one name under which a head sees the projections of whichever modality it is asked about."""

MANY = 5
"""Modalities beyond which they are taken away one by one only: their sets would be too many."""

Row = dict[str, Any]
Shift = NDArray[np.float64] | float
Split = tuple[Mapping[str, Features], Mapping[str, Any]]
"""Features of a split, and who they belong to."""


@dataclass(frozen=True)
class Waiting:
    """A head that has been fitted, what its rows say of it, and which features it is to be tested on."""

    task: Task
    head: Head
    shift: Shift
    scale: Scale
    modalities: tuple[str, ...]
    about: Row


def worth(plan: Plan, run: RunFolder, device: str = "auto", only: Only = ALL) -> None:
    """Everything that the recipe's `worth` asks for, for every fold and seed that is not done yet.

    only  which folds and seeds
    """
    section = plan.recipe.worth
    if section is None:
        return
    units = units_of(plan, run, only)
    keys = [worth_key(plan, unit.prepared, unit.fold, unit.seed, unit.first) for unit in units]
    todo = [(unit, key) for unit, key in zip(units, keys, strict=True) if not finished(unit.folder("worth"), key)]
    if not todo:
        return
    where = pick_device(device)
    each = _steps(plan, section)
    with progress("worth", each * len(todo)) as tick:
        for done, (unit, key) in enumerate(todo):
            began = time.monotonic()
            folder = unit.folder("worth")
            restart(folder)
            asked = _Worth(unit, section, where, part_of(tick, done * each))
            write_jsonl(folder / "worth.jsonl", asked.rows())
            if unit.first and section.maps:
                write_json(folder / "maps.json", {"format": 1, "maps": asked.maps()})
            finish(folder, key, seconds=round(time.monotonic() - began, 3))
            run.log("worth", fold=unit.fold.number, seed=unit.seed, seconds=round(time.monotonic() - began, 3))


def _steps(plan: Plan, section: Worth) -> int:
    """Heads that are fitted for one fold and seed."""
    kinds, tasks = len(encoder_kinds(plan)), len(plan.tasks)
    each = len(section.few_shot) * section.draws + 1
    return max(1, kinds * tasks * (each + (len(plan.modalities) if section.transfer and plan.pretext is None else 0)))


class _Worth:
    """All that is asked about one fold and seed."""

    def __init__(self, unit: Unit, section: Worth, device: torch.device, tick: Tick) -> None:
        self.unit, self.plan, self.section, self.device = unit, unit.plan, section, device
        self.tick, self.done = tick, 0
        self.main = main_input(self.plan.inputs)
        self.modalities = self.plan.inputs[self.main]
        self.head_name, self.part = next(iter(self.plan.heads.items()))
        self.base = {"fold": unit.fold.number, "seed": unit.seed}

    @cached_property
    def _kept(self) -> dict[tuple[str, str], KeptHead]:
        """The heads on all labels that `probe` fitted for the main input and kept, by task and encoder."""
        folder = self.unit.folder("probe")
        if not (folder / "heads.json").exists():
            return {}
        asked = self.main, self.head_name, self.plan.recipe.probe.seeds[0]
        mine = [one for one in load_heads(folder) if (one.input, one.name, one.head_seed) == asked]
        return {(one.task.name, one.encoder): one for one in mine}

    def _features(self, kind: str, split: str) -> Split:
        """Features in the recipe's order of modalities; files have them in that of the alphabet."""
        features, who = read_features(self.unit.folder("embed"), kind, split)
        names = [m.name for m in self.plan.modalities if m.name in features]
        return {name: features[name] for name in names} or features, who

    def rows(self) -> list[Row]:
        """Fit everything, then open the test set."""
        fitted: dict[str, list[Callable[[Mapping[str, Features], Mapping[str, Any]], Iterator[Row]]]] = {}
        whole: list[Waiting] = []
        for kind in encoder_kinds(self.plan):
            train, valid = (self._features(kind, split) for split in ("train", "valid"))
            scale = scale_of(self.plan, train[0])
            mine = fitted.setdefault(kind, [])
            for task in self.plan.tasks:
                mine += [partial(self._tested, one) for one in self._few(kind, task, scale, train, valid)]
                all_labels = self._fit(kind, task, scale, train, valid)
                if all_labels is not None:
                    whole.append(all_labels)
                    if self.section.missing and len(self.modalities) > 1:
                        mine.append(partial(self._missing, all_labels))
                if self.section.transfer and self.plan.pretext is None and len(train[0]) > 1:
                    scales = {name: _own_scale(self.plan, one) for name, one in train[0].items()}
                    mine += [
                        partial(self._transferred, source, one, scales)
                        for source, one in self._transfer(kind, task, scales, train, valid)
                    ]
        # Everything is chosen. From here on the test set is open, and nothing is fitted any more.
        count = sum(len(each) for each in fitted.values())
        self.unit.run.log("test opened", stage="worth", **self.base, heads=count, choices=self._choices())
        rows: list[Row] = []
        for kind, waiting in fitted.items():
            test, who = self._features(kind, "test")
            for ask in waiting:
                rows += ask(test, who)
            if self.section.geometry:
                rows += [{**self.base, "what": "geometry", "encoder": kind, **row} for row in geometry_of(test)]
        rows += self._spoilt([one for one in whole if one.about["encoder"] == encoder_kinds(self.plan)[0]])
        return rows

    def _choices(self) -> dict[str, str]:
        """Fingerprints of what was chosen: the first head on the main input, of every task, and what is asked about it."""
        unit = self.unit
        choices = probe_choices(self.plan, unit.prepared, unit.fold, unit.seed)
        heads = {name: one for name, one in choices.items() if name.split("~")[1:] == [self.main, self.head_name]}
        asked = self.section.model_dump(mode="json")
        return heads | {f"few_shot {share:g}": str(asked["draws"]) for share in asked["few_shot"]}

    def _about(self, kind: str, task: Task) -> Row:
        return {**self.base, "task": task.name, "encoder": kind, "head": self.head_name, "input": self.main}

    def _fit(
        self, kind: str, task: Task, scale: Scale, train: Split, valid: Split, share: tuple[float, int] | None = None
    ) -> Waiting | None:
        """A head for the main input, on all labels or on a share of them; None where nobody is labelled."""
        (features, who), (features_valid, who_valid) = train, valid
        target, known = target_of(task, who["targets"])
        target_valid, known_valid = target_of(task, who_valid["targets"])
        rows = known & any_present(features, self.modalities)
        rows_valid = known_valid & any_present(features_valid, self.modalities)
        draws = (self.unit.seed, "fold", self.unit.fold.number, "worth", "few", task.name, *(share or ()))
        if share is not None:
            rows = few(rows, who["groups"], share[0], np.random.default_rng(address(*draws, "train")))
            rows_valid = few(rows_valid, who_valid["groups"], share[0], np.random.default_rng(address(*draws, "valid")))
        self.done += 1
        self.tick(self.done, f"{kind} {task.name}" + (f" {share[0]:.0%} of the labels" if share else ""))
        if not bool(rows.any()) or not bool(rows_valid.any()):
            return None
        side, side_valid = sides_of(self.plan, who, who_valid)
        here = Labelled(
            encoded_of(self.plan, scale, features, self.modalities, rows, side.within(self.part)), target[rows], side.of(rows)
        )
        there = Labelled(
            encoded_of(self.plan, scale, features_valid, self.modalities, rows_valid, side_valid.within(self.part)),
            target_valid[rows_valid],
            side_valid.of(rows_valid),
        )
        # With all labels it is the probe's own head: the kept one, or one drawn from the same address, so that scores are the probe's.
        kept = self._kept.get((task.name, kind)) if share is None else None
        own = (self.unit.seed, "fold", self.unit.fold.number, "head", self.head_name, kind, task.name, self.main)
        head_seed = self.plan.recipe.probe.seeds[0]
        if kept is not None:
            head, shift = kept.head, kept.shift
        else:
            head, shift = self._fitted(task, here, there, (*own, head_seed) if share is None else (*draws, kind))
        about: Row = {**self._about(kind, task), "labels": int(rows.sum())}
        if share is not None:
            about |= {
                "what": "few-shot",
                "share": share[0],
                "draw": share[1],
                "groups": len({g for g, r in zip(who["groups"], rows.tolist(), strict=True) if r}),
            }
        return Waiting(task=task, head=head, shift=shift, scale=scale, modalities=self.modalities, about=about)

    def _fitted(
        self, task: Task, train: Labelled, valid: Labelled, address_: tuple[str | int | float, ...]
    ) -> tuple[Head, Shift]:
        where = tuple(part if isinstance(part, int) else str(part) for part in address_)
        head, _ = fit_head(self.part, task, train, valid, self.plan.recipe.probe.training, where)
        return head, shift_of(self.plan.recipe.probe.threshold, task, valid.target, partial(output_of, head, valid.encoded))

    def _few(self, kind: str, task: Task, scale: Scale, train: Split, valid: Split) -> Iterator[Waiting]:
        for share, draw in itertools.product(self.section.few_shot, range(self.section.draws)):
            one = self._fit(kind, task, scale, train, valid, (share, draw))
            if one is not None:
                yield one

    def _transfer(
        self, kind: str, task: Task, scales: Mapping[str, Scale], train: Split, valid: Split
    ) -> Iterator[tuple[str, Waiting]]:
        """A head on each modality's projection, under one name, so that it can be asked about every other modality."""
        target, known = target_of(task, train[1]["targets"])
        target_valid, known_valid = target_of(task, valid[1]["targets"])
        for name, features in train[0].items():
            scale = scales[name]
            rows, rows_valid = known & features.present, known_valid & valid[0][name].present
            self.done += 1
            self.tick(self.done, f"{kind} {task.name} from {name}")
            if not bool(rows.any()) or not bool(rows_valid.any()):
                continue
            side, side_valid = sides_of(self.plan, train[1], valid[1])
            here = Labelled(_shared(scale, features, rows), target[rows], side.of(rows))
            there = Labelled(_shared(scale, valid[0][name], rows_valid), target_valid[rows_valid], side_valid.of(rows_valid))
            draws = (self.unit.seed, "fold", self.unit.fold.number, "worth", "transfer", task.name, name, kind)
            head, shift = self._fitted(task, here, there, draws)
            yield name, Waiting(task, head, shift, scale, (name,), {**self._about(kind, task), "what": "transfer"})

    def _tested(self, one: Waiting, test: Mapping[str, Features], who: Mapping[str, Any]) -> Iterator[Row]:
        target, known = target_of(one.task, who["targets"])
        rows = known & any_present(test, one.modalities)
        groups = sides_of(self.plan, who)[0].within(self.part)
        output = output_of(one.head, encoded_of(self.plan, one.scale, test, one.modalities, rows, groups)) - one.shift
        yield from _scored(one.about, one.task, target[rows], output)

    def _missing(self, one: Waiting, test: Mapping[str, Features], who: Mapping[str, Any]) -> Iterator[Row]:
        """The main head on what is left; recordings are those that have something of what is left."""
        names = one.modalities
        few_left = [1, len(names) - 1, len(names)] if len(names) > MANY else range(1, len(names) + 1)
        for count in dict.fromkeys(few_left):
            for left in itertools.combinations(names, count):
                kept = {
                    n: f if n in left else Features(f.vector, f.projection, torch.zeros_like(f.present))
                    for n, f in test.items()
                }
                about = {**one.about, "what": "missing", "left": list(left)}
                yield from self._tested(Waiting(one.task, one.head, one.shift, one.scale, names, about), kept, who)

    def _transferred(
        self, source: str, one: Waiting, scales: Mapping[str, Scale], test: Mapping[str, Features], who: Mapping[str, Any]
    ) -> Iterator[Row]:
        """A head of one modality, asked about each; every modality is scaled by its own training rows."""
        target, known = target_of(one.task, who["targets"])
        for name, features in test.items():
            rows = known & features.present
            if bool(rows.any()) and features.projection.shape[1] == test[source].projection.shape[1]:
                output = output_of(one.head, _shared(scales[name], features, rows)) - one.shift
                yield from _scored({**one.about, "input": source, "from": source, "to": name}, one.task, target[rows], output)

    def _spoilt(self, heads: Sequence[Waiting]) -> Iterator[Row]:
        """The main heads of the recipe's encoders on test recordings that were spoilt before they were encoded."""
        asked = self.section.robustness
        levels = [("noise", v) for v in asked.noise] + [("loss", v) for v in asked.loss] + [("late", v) for v in asked.late]
        if not levels or self.plan.pretext is not None or not heads:
            return
        kind = encoder_kinds(self.plan)[0]
        encoders = encoders_of(
            self.plan, kind, self.unit.folder("pretrain"), self.unit.prepared.stores, self.unit.fold.train, *self.unit.address
        )
        clean, who = self._features(kind, "test")
        for n, (how, level) in enumerate([("none", 0.0), *levels]):
            spoilt = clean if how == "none" else self._spoil(encoders, how, level)
            # alone: the other modalities are as they were
            for of in ("all", *self.modalities) if how != "none" and len(self.modalities) > 1 else ("all",):
                test = {name: spoilt[name] if of in ("all", name) else clean[name] for name in clean}
                for one in heads:
                    about = {**one.about, "what": "robustness", "change": how, "level": level, "of": of}
                    yield from self._tested(Waiting(one.task, one.head, one.shift, one.scale, one.modalities, about), test, who)
            self.tick(self.done, f"spoilt {n}/{len(levels)}")

    def _spoil(self, encoders: Mapping[str, Encoder], how: str, level: float) -> dict[str, Features]:
        stores: Mapping[str, Store] = self.unit.prepared.stores
        if how == "late":
            stores = {name: cast(Store, Late(store, level)) for name, store in stores.items()}
            return encode_rows(self.plan, encoders, stores, self.unit.fold.test, self.device)
        spoil = Augmentation(noise=level) if how == "noise" else Augmentation(lose=level)
        generator = torch.Generator().manual_seed(
            address(self.unit.seed, "fold", self.unit.fold.number, "worth", how, str(level))
        )
        return encode_rows(self.plan, encoders, stores, self.unit.fold.test, self.device, spoil, generator)

    def maps(self) -> list[Row]:
        """Recordings in two dimensions: all modalities' projections together, and each encoder's own vectors."""
        rows: list[Row] = []
        kinds, side = encoder_kinds(self.plan), self.section.maps_of
        drawn = self.unit.fold.train if side == "train" else self.unit.fold.test
        spaces: list[tuple[str, str, dict[str, tuple[NDArray[np.float32], list[int]]]]] = []
        pick = _picked(len(drawn), self.section.points, np.random.default_rng(address(self.unit.seed, "worth", "map")))
        for kind in kinds:
            test, _ = self._features(kind, side)
            vectors = {name: _rows_of(one.vector, one.present, pick) for name, one in test.items()}
            if self.plan.pretext is None and len(test) > 1 and len({one.projection.shape[1] for one in test.values()}) == 1:
                shared = {name: _rows_of(one.projection, one.present, pick) for name, one in test.items()}
                spaces.append((kind, "shared", shared))
            spaces += [(kind, name, {name: each}) for name, each in vectors.items()]
        for label, encoders in encoders_trained(self.unit):
            features = encode_rows(self.plan, encoders, {n: self.unit.prepared.stores[n] for n in encoders}, drawn, self.device)
            spaces += [(label, name, {name: _rows_of(one.vector, one.present, pick)}) for name, one in features.items()]
        for (kind, of, parts), method in itertools.product(spaces, self.section.maps):
            together = np.concatenate([values for values, _ in parts.values()]) if parts else np.zeros((0, 2))
            if len(together) < 3:
                continue
            points = flatten(together, method, address(self.unit.seed, "worth", "map", method))
            who = [(name, row) for name, (_, rows) in parts.items() for row in rows]
            samples = [self.unit.prepared.samples[drawn[row]] for _, row in who]
            rows.append(
                {
                    "encoder": kind,
                    "of": of,
                    "side": side,
                    "method": method,
                    "x": [round(float(v), 4) for v in points[:, 0]],
                    "y": [round(float(v), 4) for v in points[:, 1]],
                    "modality": [name for name, _ in who],
                    "id": [s.id for s in samples],
                    "group": [s.group for s in samples],
                    "targets": {task.name: [s.targets.get(task.name) for s in samples] for task in self.plan.tasks},
                }
            )
        return rows


def _own_scale(plan: Plan, features: Features) -> Scale:
    """Mean and deviation of a modality's projections over its training rows: no label is needed for them."""
    return fitted_scale({SHARED: features.projection[features.present]}, plan.recipe.probe.floor, plan.recipe.probe.clip)


def _shared(scale: Scale, features: Features, rows: Tensor) -> dict[str, Encoded]:
    """A modality's projections under the name that all modalities share."""
    return scale.encoded({SHARED: features.projection}, {SHARED: features.present}, rows)


def few(rows: Tensor, groups: Sequence[str], share: float, generator: np.random.Generator) -> Tensor:
    """So many of the marked rows [n], at least one: group after group in random order, so that they come from few people."""
    marked = rows.nonzero().squeeze(1).tolist()
    wanted = math.ceil(share * len(marked) - 1e-9)
    by_group: dict[str, list[int]] = {}
    for row in marked:
        by_group.setdefault(groups[row], []).append(row)
    names = sorted(by_group)
    order = [row for n in generator.permutation(len(names)) for row in generator.permutation(by_group[names[n]])]
    kept = torch.zeros_like(rows)
    kept[torch.tensor(order[:wanted], dtype=torch.int64)] = True
    return kept


def geometry_of(test: Mapping[str, Features]) -> Iterator[Row]:
    """Of each modality how spread out its embeddings are, of each pair how near they are; on projections."""
    for name, one in test.items():
        z = one.projection[one.present]
        for metric, value in (("uniformity", uniformity(z)), ("effective_rank", effective_rank(z))):
            if value is not None:
                yield {"of": [name], "metric": metric, "value": value, "n": len(z)}
    for a, b in itertools.combinations(test, 2):
        if test[a].projection.shape[1] != test[b].projection.shape[1]:
            continue  # vectors of unlike widths have no space in common
        both = test[a].present & test[b].present
        left, right = test[a].projection[both], test[b].projection[both]
        for metric, value in (("alignment", alignment(left, right)), ("gap", gap(left, right))):
            if value is not None:
                yield {"of": [a, b], "metric": metric, "value": value, "n": int(both.sum())}


def _scored(about: Row, task: Task, target: Tensor, output: NDArray[np.float64]) -> Iterator[Row]:
    """The metrics over all classes; those of single classes are in scores.jsonl."""
    yield from (row for row in scores_of(about, task, target, output) if "/" not in row["metric"])


def _picked(count: int, points: int, generator: np.random.Generator) -> list[int]:
    return sorted(generator.permutation(count)[:points].tolist())


def _rows_of(values: Tensor, present: Tensor, pick: Sequence[int]) -> tuple[NDArray[np.float32], list[int]]:
    rows = [row for row in pick if bool(present[row])]
    return values[torch.tensor(rows, dtype=torch.int64)].float().numpy(), rows
