"""The recordings of a plan: listed, limited and refused where they cannot be split, before anything is extracted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast, overload

import numpy as np

from ..api.dataset import Dataset
from ..api.errors import DataError, PluginError
from ..data.folds import Fold, make_folds
from ..data.limit import limited
from ..data.reading import recordings_of
from ..data.recordings import Recordings, Rows
from ..recipe.plan import Plan


def open_dataset(plan: Plan) -> Dataset:
    """The dataset of a plan. Raises DataError if its folder is missing."""
    if plan.dataset.spec.needs_root and (plan.root is None or not plan.root.is_dir()):
        get = f" {plan.info.get}" if plan.info.get else ""
        raise DataError(
            f"{plan.root}: there is no such folder; dataset '{plan.dataset.use}' is looked for there (dataset.root, --data).{get}"
        )
    dataset: Dataset = plan.dataset.spec.build(plan.dataset.params, plan.root)
    return dataset


def listed(plan: Plan, dataset: Dataset) -> Recordings:
    """The recordings of a plan, those of its limit alone where it has one, in the dataset's order.

    Raises PluginError for what a dataset must not hand out; DataError if there is no recording, or if these cannot be split as the protocol
    says: a word that is no split, an empty split, a group on both sides. All of that is known before anything is extracted.
    """
    samples = recordings_of(dataset, plan.dataset.use, plan.root)
    _check_samples(plan, samples)
    if plan.recipe.limit is not None:
        few = limited(samples, plan.recipe.limit, plan.recipe.protocol, plan.seeds[0], plan.fold_of, plan.fold_key)
        samples = Recordings.of(few)
    planned_folds(plan, samples)
    return samples


def planned_folds(plan: Plan, samples: Recordings) -> list[Fold]:
    """The folds, if every recording could be read that has one of the plan's modalities; none where no recording has any."""
    there = np.zeros(len(samples), bool)
    for modality in plan.modalities:
        there[samples.having(modality.source)] = True
    rows = np.flatnonzero(there)
    if not len(rows):
        return []
    return make_folds(plan.recipe.protocol, samples, Rows(rows), plan.seeds[0], plan.fold_of, plan.fold_key)


def _check_samples(plan: Plan, samples: Recordings) -> None:
    """Refuse what a dataset plug-in must not hand out."""
    name = plan.dataset.use
    if not samples:
        raise DataError(f"dataset '{name}' found no recording under {plan.root}. {plan.info.get}".strip())
    if (id := samples.twice()) is not None:
        raise PluginError(f"dataset '{name}' lists recording '{id}' twice")
    if "" in samples.groups:
        nobody = int(np.flatnonzero(samples.codes(range(len(samples))) == samples.groups.index(""))[0])
        raise PluginError(
            f"dataset '{name}': recording '{samples.id(nobody)}' has no group; splits by {plan.info.group} need one"
        )
    if unknown := set(samples.sources) - set(plan.info.sources):
        first = samples.id(int(samples.having(min(unknown))[0]))
        raise PluginError(
            f"dataset '{name}': recording '{first}' has the source '{min(unknown)}', which its info does not name"
        )


Job = tuple[int, str, str]
"""Row, id and place of a recording."""


class Jobs(Sequence[Job]):
    """Row, id and place of every recording that has a source, each made when it is asked for.

    rows  of these recordings alone, which follow each other; left out: of all
    """

    def __init__(self, samples: Recordings, source: str, rows: range | None = None) -> None:
        self._samples, self._source = samples, source
        having = samples.having(source)
        first, last = (0, len(having)) if rows is None else np.searchsorted(having, (rows.start, rows.stop))
        self._rows = Rows(having[first:last])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> list[Job]: ...
    def __getitem__(self, place: int | slice) -> Job | list[Job]:
        if isinstance(place, slice):
            return [self._job(row) for row in self._rows[place]]
        return self._job(self._rows[place])

    def __iter__(self) -> Iterator[Job]:
        return map(self._job, self._rows)

    def _job(self, row: int) -> Job:
        return row, self._samples.id(row), cast("str", self._samples.source(self._source, row))
