"""Which recordings are meant: files, folders, tables and ids of a run's own recordings, each with the sources that they give."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..api.dataset import SampleRef
from ..api.errors import DataError
from ..api.raw import Source
from ..media import (
    ARRAYS,
    COMPRESSED_SOUNDS,
    FILMS,
    IDS,
    LISTINGS,
    PEOPLE,
    PICTURES,
    SOUNDS,
    TRANSCRIPTS,
    Listing,
    has_pictures,
    read_listing,
    walk_folders,
)
from ..text import not_text

TABLES = tuple(f"recordings{ending}" for ending in LISTINGS)
"""In a folder of recordings these list them, and are none themselves."""


@dataclass(frozen=True)
class Item:
    """One recording that a run is asked about.

    files   source → its file; of a run's own recording, what its dataset calls it
    texts   source of words → the words themselves, of a table's cell
    group   who is in it, where that is known
    own     the run's own recording of that id, which is read by the run's own dataset
    remarks  what is odd about it, a sentence each; known once it has been read
    """

    id: str
    files: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    own: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def sources(self) -> set[str]:
        """What there is of it."""
        return {*self.files, *self.texts}


@dataclass(frozen=True)
class Refused:
    """A recording, or one source of it, that could not be had, and the sentence that says why."""

    id: str
    source: str | None
    reason: str


class Finder:
    """Turns what people name into recordings of a run.

    sources  those that the run's modalities read
    samples  the run's own recordings
    root     the folder of the run's own data; None where it has none, or nobody knows
    """

    def __init__(self, sources: Mapping[str, Source], samples: Sequence[SampleRef], root: Path | None) -> None:
        self._sources, self._samples = sources, {sample.id: sample for sample in samples}
        self._endings: dict[str, set[str]] = {name: set() for name in sources}
        self._by_file: dict[tuple[str, str], str] = {}
        for sample in samples:
            for name, where in sample.sources.items():
                if name in self._endings:
                    self._endings[name].add(Path(where).suffix.lower())
                if root is not None:
                    self._by_file[_absolute(root / where), name] = sample.id

    def items(self, names: Iterable[str | Path]) -> tuple[list[Item], list[Refused]]:
        """The recordings that some names mean, in their order, and the files that are none, each with its reason.

        Raises DataError if a name is no path and no id of the run's recordings, if nothing is left, or if two recordings have one name.
        """
        items: list[Item] = []
        refused: list[Refused] = []
        files: list[tuple[Path, str]] = []  # with the name of the recording that it is of
        for name in names:
            path = Path(name)
            if name == "":  # of a variable that a shell did not know; as a path it would be the current folder
                raise DataError("one of the names is empty; a file, a folder, a table or a recording of the run was expected")
            if not _there(path):
                if (own := self.own(str(name))) not in items:  # named twice
                    items.append(own)
            elif path.is_dir() and not self._one_recording(path):
                files += self._inside(path)
            elif (listing := self._table(path)) is not None:
                items += self._rows(listing)
            else:
                files.append((path, path.name if path.is_dir() else path.stem))
        more, refused = self._grouped(files)
        items += more
        if not items and not refused:
            raise DataError(
                f"{', '.join(map(str, names)) or 'nothing'}: holds no recording; {self.expected()} "
                f"({', '.join((*SOUNDS[:3], *FILMS[:2], '…'))}) were expected"
            )
        seen: set[str] = set()
        for item in items:
            if item.id in seen:
                raise DataError(f"two recordings are called '{item.id}'; give each another name, or a table with a column `id`")
            seen.add(item.id)
        return items, refused

    def one(self, files: Sequence[Path], name: str) -> tuple[list[Item], list[Refused]]:
        """All these files as one recording of that name, and those that are none of it. Raises DataError if two are of one source."""
        return self._grouped([(path, name) for path in files])

    def own(self, id: str) -> Item:
        """A recording of the run, by its id. Raises DataError if there is none."""
        if id not in self._samples:
            near = difflib.get_close_matches(id, self._samples, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise DataError(f"{id}: is no file, no folder, and no recording of the run{hint}")
        sample = self._samples[id]
        return Item(id, {s: where for s, where in sample.sources.items() if s in self._sources}, {}, sample.group, own=True)

    def expected(self) -> str:
        """What the run's modalities read, in words."""
        return "files for " + " or ".join(f"'{name}' ({source.type})" for name, source in self._sources.items())

    def _inside(self, folder: Path) -> list[tuple[Path, str]]:
        """Every file of a folder that any source may be, and which recording it is of: equal names are one."""
        names: list[tuple[Path, str]] = []
        for inner, folders, files in walk_folders(folder):
            for name in [*folders]:
                if self._one_recording(inner / name) and not any(
                    kinds_of(path) - {"pictures"} for path in (inner / name).iterdir() if path.is_file()
                ):
                    names.append((inner / name, name))
                    folders.remove(name)
            names += [
                (inner / name, Path(name).stem)
                for name in files
                if self._candidates(inner / name) and not (name in TABLES and self._table(inner / name) is not None)
            ]
        return self._parted(folder, names)

    def _one_recording(self, folder: Path) -> bool:
        """Whether the pictures in a folder are one recording, rather than a recording each, as those of the run are that name single pictures."""
        photos = [self._endings[name] for name, source in self._sources.items() if source.type == "pictures"]
        films = [self._endings[name] for name, source in self._sources.items() if source.type == "video"]
        single = any(endings & set(PICTURES) for endings in photos) and not any("" in endings for endings in (*photos, *films))
        return has_pictures(folder) and not single

    def _parted(self, folder: Path, names: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
        """Files of one name are one recording, unless they give one source twice: then their folders are part of the name."""
        taken: dict[str, set[str]] = {}
        twice = False
        for path, name in names:
            given = set(self._candidates(path))
            twice |= bool(given & taken.setdefault(name, set()))
            taken[name] |= given
        if not twice:
            return names
        return [(path, path.relative_to(folder).with_suffix("").as_posix()) for path, _ in names]

    def _candidates(self, path: Path) -> list[str]:
        """The sources that a file may be: by its ending, or because the run's own files of that source end so (words out of sound)."""
        kinds, ending = kinds_of(path), path.suffix.lower()
        return [
            name
            for name, source in self._sources.items()
            if source.type in kinds or (ending and ending in self._endings[name]) or ("video" in kinds and "of" in source.notes)
        ]

    def _sources_of(self, path: Path) -> list[str]:
        """The sources that a file is: at most one of each type, what is searched for in it beside. Raises DataError if none is, or several of one type may be."""
        candidates = self._candidates(path)
        if not candidates:
            raise DataError(f"{path}: is nothing that this run reads; {self.expected()} were expected")
        chosen = []
        if path.suffix.lower() in (".csv", ".tsv"):  # numbers or words with times: the run's own files say which
            candidates = [name for name in candidates if path.suffix.lower() in self._endings[name]] or candidates
        kinds = {name: (self._sources[name].type, self._sources[name].notes.get("of")) for name in candidates}
        for kind in dict.fromkeys(kinds.values()):
            these = [name for name in candidates if kinds[name] == kind]
            these = [name for name in these if path.suffix.lower() in self._endings[name]] or these
            these = [name for name in these if name in (path.parent.name, path.stem)] or these
            if len(these) > 1:
                raise DataError(
                    f"{path}: may be {' or '.join(these)}; lay it in a folder of that name, or give a table with a column for each"
                )
            chosen += these
        return chosen

    def _grouped(self, files: Sequence[tuple[Path, str]]) -> tuple[list[Item], list[Refused]]:
        """Files of one recording as one item."""
        refused: list[Refused] = []
        whole: dict[str, dict[str, str]] = {}
        own: dict[str, Item] = {}
        for path, name in files:
            if (wrong := not_text(str(path))) is not None:
                refused.append(Refused(wrong, None, f"{wrong}: its name is no text in UTF-8; rename it"))
                continue
            try:
                sources = self._sources_of(path)
            except DataError as error:
                refused.append(Refused(name, None, str(error)))
                continue
            ids = {id for source in sources if (id := self._by_file.get((_absolute(path), source)))}
            if len(ids) == 1:
                (id,) = ids
                before = own.get(id)
                mine = self._samples[id]
                files_of = {**(before.files if before else {}), **{s: mine.sources[s] for s in sources if s in mine.sources}}
                own[id] = Item(id, files_of, {}, mine.group, own=True)
                continue
            parts = whole.setdefault(name, {})
            for source in sources:
                if parts.get(source) == str(path):  # named twice
                    continue
                if source in parts:
                    raise DataError(
                        f"{path}: '{name}' has two files for '{source}', {parts[source]} the other one; give each another name"
                    )
                parts[source] = str(path)
        return [*own.values(), *(Item(name, parts) for name, parts in whole.items())], refused

    def _table(self, path: Path) -> Listing | None:
        """The table in a file, if it is one that lists recordings: a cell of its first rows names a file beside it."""
        if path.suffix.lower() not in LISTINGS:
            return None
        try:
            listing = read_listing(path)
        except DataError:
            if path.suffix.lower() in (".jsonl", ".parquet"):
                raise
            return None  # as a table of numbers it is refused when it is read
        cells = [cell for row in listing.rows[:20] for cell in row.values() if "." in cell or "/" in cell]
        return listing if any(_there(path.parent / cell) for cell in cells) else None

    def _rows(self, listing: Listing) -> list[Item]:
        """Every row of a table as a recording."""
        root = listing.path.parent
        columns = self._columns(listing)
        lower = {name.lower(): name for name in reversed(listing.columns)}
        ids = next((lower[name] for name in IDS if name in lower), None)
        people = next((lower[name] for name in PEOPLE if name in lower), None)
        items = []
        for row, cells in enumerate(listing.rows):
            files = {
                s: str(root / cells[c].replace("\\", "/"))
                for s, c in columns.items()
                if cells[c] and not self._is_text(s, cells[c])
            }
            texts = {s: cells[c] for s, c in columns.items() if cells[c] and self._is_text(s, cells[c])}
            if not files and not texts:
                raise DataError(f"{listing.place(row)}: has none of {', '.join(columns)}; {self.expected()} were expected")
            id = cells[ids] if ids and cells[ids] else Path(next(iter(files.values()), f"line-{listing.lines[row]}")).stem
            mine = self._samples.get(id)
            if mine and files and all(self._by_file.get((_absolute(Path(path)), s)) == id for s, path in files.items()):
                sources = {s: mine.sources[s] for s in {*files, *texts} if s in mine.sources}
                items.append(Item(id, sources, {}, mine.group, own=True))
            else:
                items.append(Item(id, files, texts, cells[people] if people and cells[people] else None))
        return items

    def _is_text(self, source: str, cell: str) -> bool:
        ending = Path(cell.strip()).suffix.lower()
        return (
            self._sources[source].type == "words"
            and ending not in TRANSCRIPTS
            and not (ending and ending in self._endings[source])
        )

    def _columns(self, listing: Listing) -> dict[str, str]:
        """The column of each source: of its name, or else the only one whose files it may be."""
        columns: dict[str, str] = {}
        for name in self._sources:
            if name in listing.columns:
                columns[name] = name
                continue
            fitting = []
            for column in listing.columns:
                cells = [cell for cell in listing.column(column) if cell][:20]
                kinds = [name in self._candidates(listing.path.parent / cell) for cell in cells]
                if cells and sum(kinds) > len(kinds) / 2:
                    fitting.append(column)
            by_ending = [
                c
                for c in fitting
                if any(Path(cell).suffix.lower() in self._endings[name] for cell in listing.column(c) if cell)
            ]
            if len(best := by_ending or fitting) > 1:
                raise DataError(
                    f"{listing.path}: source '{name}' may stand in {' or '.join(best)}; call one of these columns '{name}'"
                )
            if best:
                columns[name] = best[0]
        if not columns:
            raise DataError(
                f"{listing.path}: has no column that this run reads ({', '.join(listing.columns)}); {self.expected()} were expected"
            )
        return columns


def kinds_of(path: Path) -> set[str]:
    """The types of source that a file may be, by its ending."""
    ending = path.suffix.lower()
    kinds = {
        "audio": (*SOUNDS, *COMPRESSED_SOUNDS, *FILMS),
        "video": FILMS,
        "words": TRANSCRIPTS,
        "table": (".csv", ".tsv"),
        "sequence": ARRAYS,
        "pictures": PICTURES,
        "still": ARRAYS,
    }
    types = {kind for kind, endings in kinds.items() if ending in endings}
    return types or ({"video", "pictures"} if not ending and path.is_dir() and has_pictures(path) else set())


def _there(path: Path) -> bool:
    """Whether a path is there; False for a text that can be none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - `resolve` would follow links, and a link is another name
