"""A finished run in Python: `mmcl.open(run)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.errors import DataError, StageError
from ..engine.places import LOCAL, Engine
from ..screen import progress, say
from .answers import Answer, Wish, predict_items
from .embedding import Embedded, embed_items, window_of
from .files import Finder, Item, Refused
from .nearest import Near, index_of, indexed, nearest, own_index, shared_space
from .opened import Opened, Trained, describe
from .reading import CHUNK, Chunk, Reader
from .together import embed_together

SHOWN = 5
"""So many recordings that could not be read are named on the screen."""


@dataclass(frozen=True)
class Read:
    """Recordings whose files have been read, so that several questions about them read nothing again."""

    items: list[Item]
    chunks: list[Chunk]
    refused: list[Refused]  # files that are no recordings


Names = str | Path | Iterable[str | Path] | Read
"""Files, folders, a table, or ids of the run's own recordings; or what `Session.read` gave."""


class Session:
    """A finished run that answers. Nothing is trained, and nothing but a search's index is written into its folder."""

    def __init__(self, run: str | Path, data: str | Path | None = None, device: str = "auto") -> None:
        """Open a run folder.

        data    folder under which datasets lie now, for ids of the run's own recordings; left out: where the run found them
        device  "auto", "cpu" or "cuda"

        Raises MmclError, with one clear sentence, if it is no finished run or a plug-in of it is no longer installed.
        """
        self._run = Opened(Path(run), None if data is None else Path(data))
        self._device = device
        self.refused: list[Refused] = []  # of the latest question

    def __repr__(self) -> str:
        return "\n".join(describe(self._run))

    @property
    def modalities(self) -> list[str]:
        """The modalities that the run was trained on."""
        return [modality.name for modality in self._run.plan.modalities]

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Every fold and seed that is finished."""
        return list(self._run.units)

    def trained(self, fold: int | None = None, seed: int | None = None) -> Trained:
        """The encoders and heads of a fold and seed, the first if left out."""
        return self._run.trained(*self._run.pick(fold, seed))

    @property
    def encoders(self) -> Any:
        """The encoders of the first fold and seed: modality → torch module, or one module of all modalities."""
        return self.trained().encoders

    @property
    def heads(self) -> Any:
        """The heads of the first fold and seed, in the order of the recipe."""
        return self.trained().heads

    @property
    def opened(self) -> Opened:
        """The run itself."""
        return self._run

    def read(self, names: Names, check: Callable[[Sequence[Item]], None] | None = None, one: str | None = None) -> Read:
        """Recordings, read once; `embed`, `predict` and `search` take what comes back in the place of names.

        check  called with them before any is read; what it raises ends it
        one    the names are files of one recording, which is called so
        """
        if isinstance(names, Read):
            return names
        items = self.items(names, one)
        if check is not None:
            check(items)
        return Read(items, list(Reader(self._run).chunks(items)), self.refused)

    def items(self, names: Names, one: str | None = None) -> list[Item]:
        """The recordings that some names mean, or the one whose files they are. Raises DataError as `Finder.items` does."""
        if isinstance(names, Read):
            self.refused = names.refused
            return names.items
        plan = self._run.plan
        sources = {m.source: plan.info.sources[m.source] for m in plan.modalities}
        listed = [names] if isinstance(names, str | Path) else list(names)
        finder = Finder(sources, self._run.samples, plan.root)
        items, self.refused = finder.items(listed) if one is None else finder.one([Path(name) for name in listed], one)
        if not items:
            self._told((), False)
        return items

    def embed(
        self,
        names: Names,
        *,
        fold: int | None = None,
        seed: int | None = None,
        windows: bool = False,
        seconds: float | None = None,
        hop: float | None = None,
        jobs: int | None = None,
        engine: Engine = LOCAL,
        beside: Path | None = None,
    ) -> Embedded:
        """Frozen features of some recordings, a row a recording or, with `windows`, a row a window.

        seconds, hop  of windows; left out: the recipe's, and half of it
        jobs          recordings are read and encoded by so many processes; left out: by this one, or on a cluster by as many as fit
        engine        where those are
        beside        folder in which their parts lie meanwhile, which a cluster's nodes all see; left out: the current one

        What could not be read stands in `refused`. Raises DataError if nothing could, StageError where processes die.
        """
        items, unit = self.items(names), self._run.pick(fold, seed)
        cut = window_of(self._run.plan, seconds, hop) if windows else None
        whole: Embedded | None
        if not isinstance(names, Read) and (engine.elsewhere or ((jobs or 1) > 1 and len(items) > CHUNK)):
            place = Path() if beside is None else beside
            whole, refused = embed_together(self._run, items, unit, self._device, cut, engine, jobs, place)
        else:
            with progress("embed", len(items)) as tick:
                parts, refused = embed_items(self._run, items, lambda item: [unit], self._device, cut, tick, _chunks(names))
            whole = parts.get(unit)
        self._told(refused, whole is not None)
        assert whole is not None
        _remark(whole.items)
        return whole

    def sides(self, embedded: Embedded) -> list[str]:
        """Where each row's recording stood in the run: new, train, valid or test."""
        own = {item.id for item in embedded.items if item.own}
        return [self._run.side(id, embedded.fold) if id in own else "new" for id in embedded.ids]

    def predict(
        self,
        names: Names,
        *,
        tasks: Sequence[str] = (),
        input: str | None = None,
        head: str | None = None,
        supervised: bool = False,
        fold: int | None = None,
        seed: int | None = None,
        windows: bool = False,
        seconds: float | None = None,
        hop: float | None = None,
    ) -> list[Answer]:
        """What the run says of some recordings, a task after the other; with `windows` of each window.

        input, head  which of the run's heads; left out: for each recording the one on most of the modalities that it has
        supervised   ask the networks that labels trained (`supervise`) in place of heads on frozen features; input and head are theirs
        fold, seed   left out: the mean over all, for a recording of the run's own over those that have not seen it

        What could not be read stands in `refused`. Raises DataError if nothing could.
        """
        if not self._run.plan.tasks:
            raise StageError(
                f"{self._run.run.root}: learned from recordings without labels, so it predicts nothing; embed and search them"
            )
        items = self.items(names)
        cut = window_of(self._run.plan, seconds, hop) if windows else None
        wish = Wish(fold, seed, tuple(tasks), input, head, supervised)
        with progress("predict", len(items)) as tick:
            answers, refused = predict_items(self._run, items, wish, self._device, cut, tick, _chunks(names))
        self._told(refused, bool(answers))
        _remark(answers)
        return answers

    def search(
        self,
        query: Names,
        among: Names | None = None,
        *,
        n: int = 10,
        ask: str | None = None,
        modality: str | None = None,
        fold: int | None = None,
        seed: int | None = None,
    ) -> list[Near]:
        """The n recordings among some that are nearest to each query, by the embeddings that were contrasted.

        among          left out: the run's own recordings, by the features that it kept of them
        ask, modality  of the queries, and of the recordings that are searched; left out: all that each has

        Raises DataError if nothing could be read, StageError if the run was not pretrained.
        """
        shared_space(self._run)
        unit = self._run.pick(fold, seed)
        before: list[Refused] = []
        lost: list[Refused] = []
        if among is None:
            gallery = own_index(self._run, unit)
        else:
            galleries = self.items(among)
            before = self.refused
            gallery, lost = index_of(self._run, galleries, unit, self._device)
        queries = self.items(query)
        parts, more = embed_items(self._run, queries, lambda item: [unit], self._device, chunks=_chunks(query))
        self._told([*before, *lost, *more], bool(gallery.ids) and unit in parts)
        _remark(parts[unit].items)
        return nearest(self._run, indexed(parts[unit]), gallery, n, ask, modality)

    def _told(self, refused: Sequence[Refused], any_left: bool) -> None:
        """Name what could not be read; raise DataError if that is everything."""
        self.refused = [*self.refused, *refused]
        if not any_left:
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            reason = self.refused[0].reason if self.refused else "no head of the run suits any of these recordings"
            raise DataError(f"{reason}{more}")
        for one in self.refused[:SHOWN]:
            say(f"{'skipped' if one.source is None else f'without {one.source}'}: {one.reason}")
        if len(self.refused) > SHOWN:
            say(f"… and {len(self.refused) - SHOWN} more of that kind")


def _remark(recordings: Iterable[Item | Answer]) -> None:
    """Say what is odd about recordings that were read all the same, once of each."""
    lines = list(dict.fromkeys(f"{one.id}: {remark}" for one in recordings for remark in one.remarks))
    for line in lines[:SHOWN]:
        say(line)
    if len(lines) > SHOWN:
        say(f"… and {len(lines) - SHOWN} more of that kind")


def _chunks(names: Names | None) -> list[Chunk] | None:
    """The streams of recordings that have been read before."""
    return names.chunks if isinstance(names, Read) else None
