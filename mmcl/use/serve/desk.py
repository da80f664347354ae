"""The process of `mmcl serve` that holds the run and reads what people send: one question at a time, and it may be ended at any moment.

Files of strangers are decoded here and nowhere else, so that one that never ends, or takes all memory, or breaks a decoder, costs this
process and not the server.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...api.errors import DataError, MmclError, StageError
from ...data.windows import whole_seconds
from ...engine.devices import pick_device
from ..answers import Answer
from ..files import Item
from ..nearest import index_of, shared_space
from ..reading import Reader
from ..session import Read, Session
from .limits import Limits, TooLong, TooMany, limit_memory, require_inside, require_media, require_short


@dataclass(frozen=True)
class Work:
    """Which run answers, and within which limits.

    gallery  folders, tables or files among which neighbours are looked for; left empty: the run's own recordings
    """

    run: Path
    data: Path | None
    device: str
    gallery: tuple[Path, ...]
    limits: Limits


@dataclass(frozen=True)
class Question:
    """Something to be answered.

    what    predict, embed, search, or look: all that the page shows
    names   files or folders
    inside  the folder outside of which nothing is opened
    one     the names are files of one recording, which is called so
    given   what the question says of how: windows, seconds, hop, task, input, head, supervised, fold, seed, n, by,
            modality
    """

    what: str
    names: tuple[Path, ...]
    inside: Path
    one: str | None = None
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What comes back: a status of HTTP, and a body; of anything but 200 the body is {"error": one sentence}."""

    status: int
    body: dict[str, Any]


class Desk:
    """A run that answers questions."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._session = Session(work.run, work.data, work.device)
        self._gallery: Sequence[Path] | None = work.gallery or None
        if work.gallery:  # embedded and kept now, and no question waits for it
            run = self._session.opened
            shared_space(run)
            index_of(run, self._session.items(work.gallery), run.pick(None, None), work.device)
        with suppress(Exception):  # the question that needs it is told what is wrong
            Reader(self._session.opened).begin()  # now, before the memory of questions is counted

    def about(self) -> dict[str, Any]:
        """What the run reads and answers."""
        run = self._session.opened
        heads = run.trained(*run.pick(None, None)).heads
        networks = run.networks(*run.network_units[0]) if run.network_units else []
        tasks = {one.task.name: one.task for one in heads} | {one.task.name: one.task for one in networks}
        window = run.plan.recipe.window
        return {
            "name": run.plan.name,
            "synthetic": run.plan.info.synthetic,
            "modalities": {
                m.name: {"source": m.source, "type": run.plan.info.sources[m.source].type} for m in run.plan.modalities
            },
            "tasks": {name: {"type": task.type, "classes": list(task.classes)} for name, task in tasks.items()},
            "inputs": list(dict.fromkeys(one.input for one in heads)),
            "heads": list(dict.fromkeys(one.name for one in heads)),
            "supervised": bool(networks),
            "folds": run.folds,
            "seeds": run.seeds(run.folds[0]),
            "window": window.seconds,
            "neighbours": [str(path) for path in self._work.gallery] or "the run's own recordings",
        }

    def answer(self, question: Question) -> dict[str, Any]:
        """What a question asks for. Raises MmclError as the session does, TooLong and TooMany by the limits."""
        given = dict(question.given)
        began = time.monotonic()
        read = self._read(question)
        if question.what == "predict":
            body = {"answers": [one.to_json() for one in self._predict(read, given)]}
        elif question.what == "embed":
            body = self._embed(read, given)
        elif question.what == "search":
            body = {"neighbours": self._search(read, given)}
        else:
            body = {"recordings": self._look(read, given)}
        refused = [vars(one) for one in self._session.refused]
        return body | {"refused": refused, "took": round(time.monotonic() - began, 3)}

    def _read(self, question: Question) -> Read:
        limits, plan = self._work.limits, self._session.opened.plan

        def check(items: Sequence[Item]) -> None:
            if len(items) > limits.recordings:
                where = question.names[0].name
                raise TooMany(f"{where}: holds {len(items):,} recordings; {limits.recordings} at most are taken at a time")
            for item in items:
                for source, file in item.files.items():
                    path = (plan.root or Path()) / file if item.own else Path(file)
                    require_inside(path, question.inside)
                    require_media(path)
                    require_short(path, plan.info.sources[source], limits.seconds)

        read = self._session.read(question.names, check, question.one)
        for chunk in read.chunks:
            for row, item in enumerate(chunk.items):
                if (
                    seconds := whole_seconds(chunk.stores, row)
                ) > limits.seconds + 1:  # windows of features may reach beyond the end
                    raise TooLong(f"{item.id}: lasts {seconds:.0f} s; {limits.seconds:g} s at most are taken")
        return read

    def _predict(self, read: Read, given: dict[str, Any], windows: bool | None = None) -> list[Answer]:
        how: dict[str, Any] = {name: given.get(name) for name in ("input", "head", "fold", "seed")}
        how["supervised"] = bool(given.get("supervised"))
        cut = bool(given.get("windows")) if windows is None else windows
        lengths: dict[str, Any] = {name: given.get(name) for name in ("seconds", "hop")} if cut else {}
        return self._session.predict(read, tasks=given.get("task") or (), windows=cut, **lengths, **how)

    def _embed(self, read: Read, given: dict[str, Any]) -> dict[str, Any]:
        how: dict[str, Any] = {name: given.get(name) for name in ("windows", "seconds", "hop", "fold", "seed")}
        embedded = self._session.embed(read, **(how | {"windows": bool(how["windows"])}))
        rows = []
        remarks = {item.id: list(item.remarks) for item in embedded.items}
        for row, id in enumerate(embedded.ids):
            there = {name: one for name, one in embedded.features.items() if bool(one.present[row])}
            span = (
                {}
                if embedded.spans is None
                else dict(zip(("start", "end"), embedded.spans[row].round(4).tolist(), strict=True))
            )
            vectors = {
                name: {"vector": one.vector[row].tolist(), "projection": one.projection[row].tolist()}
                for name, one in there.items()
            }
            rows.append({"id": id, **span, "modalities": vectors, "remarks": remarks[id]})
        return {"rows": rows, "fold": embedded.fold, "seed": embedded.seed}

    def _search(self, read: Read, given: dict[str, Any]) -> list[dict[str, Any]]:
        how: dict[str, Any] = {name: given.get(name) for name in ("modality", "fold", "seed")}
        how |= {"n": given.get("n") or 10, "ask": given.get("by")}
        near = self._session.search(read, self._gallery, **how)
        run = self._session.opened
        fold = run.pick(given.get("fold"), None)[0]
        rows = []
        for one in near:
            own = {"labels": run.labels(one.id), "recording": run.side(one.id, fold)} if self._gallery is None else {}
            rows.append(one.to_json() | own | {"file": self._shown(one.file)})
        return rows

    def _shown(self, file: str) -> str:
        """A file of the gallery, from the folder on that was named."""
        for folder in self._work.gallery:
            if Path(file).is_relative_to(folder):
                return str(Path(file).relative_to(folder if folder.is_dir() else folder.parent))
        return file

    def _look(self, read: Read, given: dict[str, Any]) -> list[dict[str, Any]]:
        """All that the page shows of each recording: answers, their course over time, neighbours; or why one of these is not to be had."""
        lasts = {item.id: whole_seconds(chunk.stores, row) for chunk in read.chunks for row, item in enumerate(chunk.items)}
        shown: dict[str, dict[str, Any]] = {}
        for one in self._predict(read, given, windows=False):
            recording = shown.setdefault(one.id, {"id": one.id, "answers": [], "course": [], "neighbours": []})
            recording |= {"modalities": list(one.modalities), "missing": list(one.missing), "recording": one.recording}
            recording["remarks"] = list(one.remarks)
            recording["seconds"] = round(lasts.get(one.id, 0.0), 4)
            recording["answers"].append(one.to_json() | {"supervised": bool(given.get("supervised"))})
        refused = self._session.refused
        reasons = {}
        try:
            for one in self._predict(read, given, windows=True):
                shown[one.id]["course"].append(one.to_json())
        except MmclError as error:
            reasons["course"] = str(error)
        try:
            for near in self._search(read, {"n": given.get("n") or 6}):
                if near["query"] in shown:
                    shown[near["query"]]["neighbours"].append(near)
        except MmclError as error:
            reasons["neighbours"] = str(error)
        self._session.refused = refused  # each question about the same files says the same of them
        return [one | {"reasons": reasons} for one in shown.values()]


_DESK: list[Desk] = []
"""The one of this process."""


def begin() -> None:
    """Set up the process: Ctrl-C is the server's to take."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def open_desk(work: Work) -> Reply:
    """Open the run; what it reads and answers."""
    try:
        desk = Desk(work)
        _DESK[:] = [desk]
        body = desk.about()
        if pick_device(work.device).type != "cuda":  # whose driver reserves more addresses than there is memory
            limit_memory(work.limits.memory)
    except MmclError as error:
        return Reply(400, {"error": str(error)})
    return Reply(200, body)


def answer(question: Question) -> Reply:
    """The reply to a question, whatever comes of it."""
    desk = _DESK[0]
    try:
        return Reply(200, desk.answer(question))
    except (TooLong, TooMany) as error:
        return _error(413, str(error), question.inside)
    except DataError as error:
        return _error(422, str(error), question.inside)
    except (StageError, MmclError) as error:
        return _error(400, str(error), question.inside)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error):  # what torch says of no memory is a RuntimeError
            return _bug(error)
        return _error(
            413,
            f"{question.names[0].name}: takes more memory than is given to one question; send a shorter part of it",
            question.inside,
        )
    except Exception as error:  # noqa: BLE001 - the server goes on, and says that this is our bug
        return _bug(error)


def _error(status: int, text: str, inside: Path) -> Reply:
    """One sentence, without the folder that its file lies in."""
    for folder in (str(inside), str(inside.resolve())):
        text = text.replace(f"{folder}/", "").replace(folder, ".")
    return Reply(status, {"error": text})


def _bug(error: BaseException) -> Reply:
    traceback.print_exception(error)
    return Reply(500, {"error": "this is a bug in mmcl or in a plug-in; please report it with what the server printed"})
