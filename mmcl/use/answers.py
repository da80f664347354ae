"""What a run says of recordings that it is asked about: classes with calibrated probabilities, or values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..api.dataset import Task
from ..api.errors import DataError, StageError
from ..engine.devices import pick_device
from ..evaluate.answers import group_numbers, named
from ..model.kept import GROUP, KeptHead
from ..model.kept_network import KeptNetwork
from ..recipe.plan import JOINT
from .embedding import Embedded, Tick, embed_items
from .files import Item, Refused
from .networks import answers_of, rows_of
from .opened import Opened
from .reading import Chunk, Reader

Floats = NDArray[np.float64]
Unit = tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """What a run says of one task of one recording, or of one window of it.

    outputs        of the heads less their thresholds, the mean over `asked` of them [classes]
    probabilities  of each class, calibrated on validation rows, the mean likewise; None of a regression
    input, head    which of the run's heads was asked
    modalities     those that were there; missing: those that the run knows and were not
    recording      where the recording stood in the run: new, test, valid or train
    remarks        what is odd about the recording, a sentence each: silent, too short, of one colour
    """

    id: str
    task: Task
    outputs: Floats
    probabilities: Floats | None
    input: str
    head: str
    modalities: tuple[str, ...]
    missing: tuple[str, ...]
    recording: str
    asked: int
    start: float | None = None
    end: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def prediction(self) -> str | list[str] | float | dict[str, float]:
        """A class, the classes that are there, or the values by name; of a single value the number alone."""
        classes = self.task.classes
        if self.task.type == "regression":
            values = [float(value) for value in self.outputs]
            return values[0] if len(values) == 1 else dict(zip(classes, values, strict=True))
        deciding = self.probabilities if self.task.type == "single-label" else self.outputs
        assert deciding is not None
        return named(self.task, deciding)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        window = {} if self.start is None else {"start": round(self.start, 4), "end": round(self.end or 0.0, 4)}
        given: dict[str, Any] = {}
        if self.probabilities is not None:
            given = {"probabilities": {name: float(p) for name, p in zip(self.task.classes, self.probabilities, strict=True)}}
        return {
            "id": self.id,
            **window,
            "task": self.task.name,
            "prediction": self.prediction,
            **given,
            "modalities": list(self.modalities),
            "missing": list(self.missing),
            "input": self.input,
            "head": self.head,
            "recording": self.recording,
            "asked": self.asked,
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class Wish:
    """Which of a run's heads are asked; what is left open is chosen for each recording by what there is of it."""

    fold: int | None = None
    seed: int | None = None
    tasks: tuple[str, ...] = ()
    input: str | None = None
    head: str | None = None
    supervised: bool = False  # networks that labels trained in place of heads on frozen features


Answering = KeptHead | KeptNetwork


def heads_of(run: Opened, unit: Unit, wish: Wish) -> Sequence[Answering]:
    """What answers in a fold and seed: heads on frozen features, or networks that labels trained."""
    return run.networks(*unit) if wish.supervised else run.trained(*unit).heads


def units_for(run: Opened, item: Item, wish: Wish) -> list[Unit]:
    """The folds and seeds that are asked about a recording: of the run's own, those that have not seen it, where there are any."""
    unseen = run.unseen_folds(item.id) if item.own else []
    folds = [run.pick(wish.fold, None)[0]] if wish.fold is not None else unseen or run.folds
    units = [
        (fold, seed)
        for fold in folds
        for seed in ([run.pick(fold, wish.seed)[1]] if wish.seed is not None else run.seeds(fold))
    ]
    return [unit for unit in units if unit in run.network_units] if wish.supervised else units


def predict_items(
    run: Opened,
    items: Sequence[Item],
    wish: Wish,
    device: str = "auto",
    windows: tuple[float, float | None] | None = None,
    tick: Tick | None = None,
    chunks: Iterable[Chunk] | None = None,
) -> tuple[list[Answer], list[Refused]]:
    """What a run says of some recordings, in their order, a task after the other.

    chunks  the same recordings, where they have been read before

    Raises StageError for a task, an input or a head that the run does not have; DataError where a head reads recordings by their group and
    nobody says who is in them.
    """
    _check(run, wish)
    if any(item.group is None for item in items) or windows is not None:
        _expect_heads_without_groups(run, wish, windows is not None)
    sums: dict[tuple[str, str, int], _Sum] = {}
    if wish.supervised:
        read = Reader(run).chunks(items) if chunks is None else chunks
        refused = _ask_networks(run, read, wish, pick_device(device), windows, tick, sums)
    else:
        embedded, refused = embed_items(run, items, lambda item: units_for(run, item, wish), device, windows, tick, chunks)
        for unit, those in embedded.items():
            for task in _tasks(run, unit, wish):
                _ask(run, unit, task, those, wish, sums)
    order = {item.id: place for place, item in enumerate(items)}
    tasks = list(dict.fromkeys(task for _, task, _ in sums))
    keys = sorted(sums, key=lambda key: (order[key[0]], tasks.index(key[1]), key[2]))
    return [sums[key].answer(run) for key in keys], refused


@dataclass
class _Sum:
    """Outputs of several heads on one row."""

    id: str
    task: Task
    input: str
    head: str
    modalities: tuple[str, ...]
    span: tuple[float, float] | None
    remarks: tuple[str, ...]
    sides: set[str] = field(default_factory=set)
    outputs: list[Floats] = field(default_factory=list)
    probabilities: list[Floats] = field(default_factory=list)

    def answer(self, run: Opened) -> Answer:
        known = [modality.name for modality in run.plan.modalities]
        start, end = self.span or (None, None)
        side = next(side for side in ("train", "valid", "held", "unused", "test", "new") if side in self.sides)
        return Answer(
            id=self.id,
            task=self.task,
            outputs=np.mean(self.outputs, axis=0),
            probabilities=np.mean(self.probabilities, axis=0) if self.probabilities else None,
            input=self.input,
            head=self.head,
            modalities=self.modalities,
            missing=tuple(name for name in known if name not in self.modalities),
            recording=side,
            asked=len(self.outputs),
            start=start,
            end=end,
            remarks=self.remarks,
        )


def _ask(run: Opened, unit: Unit, task: str, those: Embedded, wish: Wish, sums: dict[tuple[str, str, int], _Sum]) -> None:
    """The heads of one fold and seed, each about the rows that suit it."""
    heads = [one for one in run.trained(*unit).heads if one.task.name == task]
    there = _there(run, those)
    grouped = those.spans is None and all(item.group is not None for item in those.items)
    remarks = {item.id: item.remarks for item in those.items}
    people = {item.id: item.group or item.id for item in those.items}
    groups = group_numbers([people[id] for id in those.ids]) if grouped else None
    chosen = [_head_for(heads, names, wish, grouped) for names in there]
    place: dict[str, int] = {}
    numbers = []
    for id in those.ids:
        numbers.append(place.get(id, 0))
        place[id] = numbers[-1] + 1
    for input, name in dict.fromkeys(one for one in chosen if one is not None):
        for head in (one for one in heads if (one.input, one.name) == (input, name)):
            outputs = head.outputs(those.features, groups)
            probabilities = head.probabilities(those.features, groups)
            for row, id in enumerate(those.ids):
                if chosen[row] != (input, name):
                    continue
                span = None if those.spans is None else (float(those.spans[row, 0]), float(those.spans[row, 1]))
                one = sums.setdefault((id, task, numbers[row]), _Sum(id, head.task, input, name, there[row], span, remarks[id]))
                one.sides.add(run.side(id, unit[0]) if _own(those, id) else "new")
                one.outputs.append(outputs[row])
                if probabilities is not None:
                    one.probabilities.append(probabilities[row])


def _ask_networks(
    run: Opened,
    chunks: Iterable[Chunk],
    wish: Wish,
    device: torch.device,
    windows: tuple[float, float | None] | None,
    tick: Tick | None,
    sums: dict[tuple[str, str, int], _Sum],
) -> list[Refused]:
    """The networks of every fold and seed that is asked, each about the rows that suit it; what could not be read."""
    refused: list[Refused] = []
    for chunk in chunks:
        refused += chunk.refused
        asked = [units_for(run, item, wish) for item in chunk.items]
        rows = rows_of(run.plan, chunk, windows)
        for unit in dict.fromkeys(unit for one in asked for unit in one):
            for task in _tasks(run, unit, wish):
                networks = [one for one in run.networks(*unit) if one.task.name == task]
                chosen = [_head_for(networks, row.there, wish, True) if unit in asked[row.row] else None for row in rows]
                for network in networks:
                    these = [row for row, one in zip(rows, chosen, strict=True) if one == (network.input, network.name)]
                    if these:
                        outputs, likely = answers_of(run.plan, network, chunk, these, device)
                        for k, row in enumerate(these):
                            new = _Sum(
                                row.item.id, network.task, network.input, network.name, row.there, row.span, row.item.remarks
                            )
                            one = sums.setdefault((row.item.id, task, row.number), new)
                            one.sides.add(run.side(row.item.id, unit[0]) if row.item.own else "new")
                            one.outputs.append(outputs[k])
                            if likely is not None:
                                one.probabilities.append(likely[k])
        if tick is not None:
            tick(chunk.done, f"{len(refused)} skipped" if refused else "")
    return refused


def _own(those: Embedded, id: str) -> bool:
    return next(item.own for item in those.items if item.id == id)


def _there(run: Opened, those: Embedded) -> list[tuple[str, ...]]:
    """The modalities of each row."""
    if list(those.features) == [JOINT]:
        sources = {item.id: item.sources for item in those.items}
        return [tuple(m.name for m in run.plan.modalities if m.source in sources[id]) for id in those.ids]
    present = {name: one.present.tolist() for name, one in those.features.items()}
    return [tuple(m.name for m in run.plan.modalities if present[m.name][row]) for row in range(len(those.ids))]


def _head_for(heads: Sequence[Answering], there: Sequence[str], wish: Wish, grouped: bool) -> tuple[str, str] | None:
    """Which input and head suit a row best: most modalities of it and none that it lacks, else as few of these as can be."""
    suited = [one for one in heads if wish.input in (None, one.input) and wish.head in (None, one.name)]
    suited = [one for one in suited if grouped or not one.by_group]

    def reads(one: Answering) -> set[str]:
        return set(there) if one.modalities == (JOINT,) else set(one.modalities)

    suited = [one for one in suited if reads(one) & set(there)]
    if not suited:
        return None
    best = min(suited, key=lambda one: (len(reads(one) - set(there)), -len(reads(one) & set(there)), suited.index(one)))
    return best.input, best.name


def _tasks(run: Opened, unit: Unit, wish: Wish) -> list[str]:
    tasks = dict.fromkeys(one.task.name for one in heads_of(run, unit, wish))
    return [name for name in tasks if not wish.tasks or name in wish.tasks]


def _check(run: Opened, wish: Wish) -> None:
    """Refuse what the run does not have, naming what it has."""
    heads = heads_of(run, run.pick(wish.fold, wish.seed), wish)
    for word, given, read in _WISHES:
        known = list(dict.fromkeys(read(one) for one in heads))
        for name in given(wish):
            if name not in known:
                raise StageError(f"{run.run.root}: has no {word} '{name}'; it has {', '.join(known)}")


def _expect_heads_without_groups(run: Opened, wish: Wish, windows: bool) -> None:
    heads = heads_of(run, run.pick(wish.fold, wish.seed), wish)
    asked = [one for one in heads if wish.input in (None, one.input) and wish.head in (None, one.name)]
    if asked and all(one.by_group for one in asked):
        why = "windows say nothing of a whole recording" if windows else "name a table with a column such as `speaker`"
        raise DataError(f"{run.run.root}: {GROUP}; {why}, or train a head with standardise: train")


_WISHES: tuple[tuple[str, Callable[[Wish], Sequence[str]], Callable[[Answering], str]], ...] = (
    ("task", lambda wish: wish.tasks, lambda one: one.task.name),
    ("input", lambda wish: [wish.input] if wish.input else [], lambda one: one.input),
    ("head", lambda wish: [wish.head] if wish.head else [], lambda one: one.name),
)


def flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as a row of a table: lists joined, a column for each class's probability and each value."""
    row: dict[str, Any] = {}
    for name, value in answer.items():
        if name == "probabilities":
            row |= {f"p {one}": round(p, 6) for one, p in value.items()}
        elif name == "prediction" and isinstance(value, dict):
            row |= {f"value {one}": round(number, 6) for one, number in value.items()}
        else:
            row[name] = "; ".join(value) if isinstance(value, list) else value
    return row
