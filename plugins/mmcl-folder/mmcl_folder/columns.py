"""What the options leave open and the table says: which columns are ids, groups, splits, labels and sources, and of what kind."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mmcl.api import DataError
from mmcl.media import (
    ARRAYS,
    COMPRESSED_SOUNDS,
    FACE_COLUMNS,
    FILMS,
    IDS,
    PEOPLE,
    PICTURES,
    SOUNDS,
    TRANSCRIPTS,
    Listing,
    array_shape,
    film_header,
    has_pictures,
    has_sound,
    read_listing,
    read_table,
    require_faces,
    require_folder,
    require_model,
    require_voices,
    to_number,
)

from . import CROP, GET, OF_FACES, FolderParams, LabelOptions, SourceOptions
from .rows import exists, inside, is_spoken, near, recordings_of, split_of, words_in_cell

TABLES = ("recordings.csv", "recordings.tsv", "recordings.jsonl", "recordings.parquet")
EXPECTED = "a table recordings.csv with a row a recording, and the files that it names"
SPLITS = ("split", "set", "partition", "subset")
RATES = ("rate", "hz", "fps", "sampling_rate", "sample_rate")
"""Ends of the names of columns that say how many steps a second the files of another column have: imu_rate, gaze_hz."""
TEXTS = ("text", "words", "transcript", "transcription", "sentence", "utterance")
UNKNOWN = frozenset(
    ("NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "None", "null", "NULL", "#VALUE!", "#REF!", "#DIV/0!", "#NAME?")
)
"""What spreadsheets, R and Python write into a cell of which nothing is known."""
FEW = 12
"""Whole numbers of at most so many values, each in two recordings or more, are taken for classes."""


def table_of(params: FolderParams, root: Path | None) -> Path:
    """The table of a folder. Raises DataError if folder or table is missing."""
    root = require_folder(root, EXPECTED, GET)
    if params.table is not None:
        return inside(root, params.table, params.outside, "dataset.table")
    for name in TABLES:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: has none of {', '.join(TABLES)}; {GET}")


def completed(params: FolderParams, root: Path) -> FolderParams:
    """The options with everything filled in that the table says, all of its rows checked.

    Raises DataError for a column that is not there, a word that is no split, a class that stands in a single recording where nobody listed the
    classes, and whatever `recordings_of` refuses.
    """
    listing = read_listing(table_of(params, root))
    ids, group, split = _role(listing, params.id, IDS, "id"), _role(listing, params.group, PEOPLE, "group"), None
    split = _role(listing, params.split, SPLITS, "split")
    taken = {name for name in (ids, group, split) if name}
    sources = _sources(params, listing, root, taken)
    taken |= {one.column or name for name, one in sources.items()}
    taken |= {rate for one in sources.values() if one.rate and one.column and (rate := _rate_column(listing, one.column))}
    labels = _labels(params, listing, taken)
    words = [split_of(listing, row, split) for row in range(len(listing.rows))] if split else []
    whole = params.model_copy(
        update={
            "table": params.table or table_of(params, root).name,
            "id": ids,
            "group": group,
            "split": split,
            "splits": tuple(name for name in ("train", "valid", "test") if name in words),
            "labels": labels,
            "sources": sources,
        }
    )
    recordings_of(whole, listing, root)
    for column, kind in ((ids, "name"), (group, "group")):
        if column:
            _check_alike(dict.fromkeys(listing.column(column)), listing, column, kind, case=False)
    return whole


def _role(listing: Listing, given: str | None, usual: Sequence[str], option: str) -> str | None:
    """The column that plays a part: the one given, or the first of its usual names, in any case."""
    if given is not None:
        _require(listing, given, f"dataset.{option}")
        return given
    by_name = {name.lower(): name for name in reversed(listing.columns)}
    return next((by_name[name] for name in usual if name in by_name), None)


def _require(listing: Listing, column: str, option: str) -> None:
    if column not in listing.columns:
        hint = near(column, listing.columns)
        raise DataError(f"{listing.path}: has no column '{column}' ({option}){hint}; it has {', '.join(listing.columns)}")


def _filled(listing: Listing, column: str) -> list[str]:
    return [cell for cell in listing.column(column) if cell]


# -------------------------------------------------------------------------------------------------------------- sources


def _sources(params: FolderParams, listing: Listing, root: Path, taken: Collection[str]) -> dict[str, SourceOptions]:
    """Every source with its options filled in."""
    if params.sources is not None:
        given = dict(params.sources)
        for name, one in given.items():
            _require(listing, one.column or name, f"dataset.sources.{name}")
    else:
        labels = {c for name, one in (params.labels or {}).items() for c in (one.columns or (one.column or name,))}
        given = {}
        for column in listing.columns:
            if column not in taken and column not in labels:
                those = _inferred(params, listing, column, root)
                given |= {_free(name, given): one for name, one in those.items()}
    if not given:
        raise DataError(
            f"{listing.path}: no column holds paths of files, nor words; it has {', '.join(listing.columns)} (dataset.sources names them)"
        )
    whole = {name: _source(params, name, one, listing, root) for name, one in given.items()}
    _check_trimmed(whole, listing)
    return whole


def _check_trimmed(sources: Mapping[str, SourceOptions], listing: Listing) -> None:
    """Refuse a sound whose silence is cut away where another source would then be at other times."""
    for name, one in sources.items():
        if one.reads != "sound" or not one.trim:
            continue
        require_voices()
        for other, two in sources.items():
            texts = two.reads == "words" and all(map(words_in_cell, _filled(listing, two.column or other)))
            if other != name and not texts:
                raise DataError(
                    f"dataset.sources.{name}.trim: without its silence the sound of '{name}' would be at other times than '{other}', and they are "
                    "contrasted at the same; leave trim out, or that source"
                )


def _inferred(params: FolderParams, listing: Listing, column: str, root: Path) -> dict[str, SourceOptions]:
    """The sources that a column gives: none, one, or two where it names films with sound."""
    cells = _filled(listing, column)
    name = _plain(column, "source")
    endings = [Path(cell).suffix.lower() for cell in cells]

    def mostly(known: Collection[str]) -> bool:  # a slip in one cell is found when that recording is read
        return sum(ending in known for ending in endings) > len(cells) / 2

    if mostly(FILMS):
        both = {name: SourceOptions(column=column, reads="pictures")}
        first = _first(params, listing, column, root)
        if has_sound(first):
            both[f"{name}-sound"] = SourceOptions(column=column, reads="sound")
        return both
    if mostly({*SOUNDS, *COMPRESSED_SOUNDS, *ARRAYS, *TRANSCRIPTS, *PICTURES}):
        return {name: SourceOptions(column=column)}
    folders = (
        cells and all(not re.search(r"\s", cell) for cell in cells) and exists(root / cells[0]) and (root / cells[0]).is_dir()
    )
    if folders and has_pictures(root / cells[0]):
        return {name: SourceOptions(column=column, reads="pictures")}
    several = sum(len(cell.split()) for cell in cells) / max(1, len(cells))
    if cells and (column.lower() in TEXTS or (several >= 3 and len(set(cells)) > len(cells) / 2)):
        return {name: SourceOptions(column=column, reads="words")}
    return {}


def _source(params: FolderParams, name: str, given: SourceOptions, listing: Listing, root: Path) -> SourceOptions:
    """One source, what is left open filled in from its first file."""
    option, column = f"dataset.sources.{name}", given.column or name
    one = given.model_copy(update={"column": column})
    reads = one.reads
    if reads == "words" and any(map(is_spoken, _filled(listing, column))):
        require_model(one.model)
        return one
    if reads == "words" and not _paths(_filled(listing, column)):
        return one
    first = _first(params, listing, column, root)
    if reads in OF_FACES:
        return _of_faces(one, first, listing, option)
    if reads is None:
        reads = _reads(first, option)
    if one.rate is None and (reads == "sequence" or (reads == "pictures" and first.is_dir())):
        one = one.model_copy(update={"rate": _rate(listing, column)})
    if reads != one.reads:
        one = one.model_copy(update={"reads": reads})
    if reads == "pictures":
        if first.is_dir() and one.rate is None:
            raise DataError(
                f"{first}: pictures in a folder do not say how many are shown a second; {_offer(column)}set {option}.rate; of pictures "
                f"without a clock set {option}.reads to photos"
            )
        return one.model_copy(update={"size": one.size or (120, 160)})
    if reads == "photos":
        return one.model_copy(update={"size": one.size or (120, 160)})
    if reads == "still":
        return one.model_copy(update={"shape": one.shape or array_shape(first, one.key) or (1,)})
    if reads == "table" and (one.columns is None or one.rate is None):
        table = read_table(first)
        if one.rate is None and table.rate is None:
            one = one.model_copy(update={"rate": _rate(listing, column)})
        if len(table.values) > 1 and one.rate is None and table.rate is None:
            raise DataError(
                f"{first}: has no column 'timestamp' (seconds), so it does not say its rate; {_offer(column)}set {option}.rate, in rows a second"
            )
        rate = one.rate if one.rate is not None else None if table.rate is None else _rounded(table.rate)
        return one.model_copy(update={"columns": one.columns or table.columns, "rate": rate})
    if reads == "sequence":
        if one.rate is None:
            raise DataError(
                f"{first}: an array does not say its rate; {_offer(column)}set {option}.rate, in steps a second; of numbers "
                f"that hold for the whole recording set {option}.reads to still"
            )
        shape = array_shape(first, one.key)
        if not shape:
            raise DataError(f"{first}: a single number is no sequence; steps along the first axis were expected")
        steps = shape[1:] if len(shape) > 1 else (1,)
        return one.model_copy(update={"shape": one.shape or steps})
    return one


def _of_faces(one: SourceOptions, first: Path, listing: Listing, option: str) -> SourceOptions:
    """A source that is searched for in films: how often they are looked at, and what comes out."""
    assert one.column is not None
    if not first.is_dir() and first.suffix.lower() not in FILMS:
        raise DataError(f"{first}: is no film and no folder of pictures; faces are looked for in those ({option})")
    if one.size is not None and one.size[0] != one.size[1]:
        raise DataError(f"{option}.size: {list(one.size)} is not square; faces are cut out as squares, as in [112, 112]")
    require_faces()
    rate = one.rate
    if rate is None:
        rate = _rate(listing, one.column) if first.is_dir() else film_header(first).rate
    if rate is None:
        raise DataError(f"{first}: does not say how many pictures a second it has; set {option}.rate")
    own = {"size": one.size or CROP} if one.reads == "faces" else {"columns": FACE_COLUMNS}
    return one.model_copy(update={"rate": _rounded(rate), **own})


def _offer(column: str) -> str:
    return f"write it into a column '{column}_rate' or 'rate' of the table, or "


def _rate_column(listing: Listing, column: str) -> str | None:
    """The column that says how many steps a second the files of another have: the one of its name, as in imu_rate, or rate."""
    own = [f"{column}{sign}{rate}".lower() for sign in "_- " for rate in RATES]
    names = {name.lower(): name for name in reversed(listing.columns)}
    return next((names[name] for name in (*own, "rate") if name in names and names[name] != column), None)


def _rate(listing: Listing, column: str) -> float | None:
    """Steps a second that the table says of the files of a column; None where it says none.

    Raises DataError for a cell that is no number above 0, and for two rates: a source has one.
    """
    where = _rate_column(listing, column)
    rate: float | None = None
    for row, cells in enumerate(listing.rows):
        if where is None or not cells[column] or not cells[where]:
            continue
        number = to_number(cells[where])
        if number is None or number <= 0:
            raise DataError(
                f"{listing.place(row)}: '{cells[where]}' in column '{where}' is no rate; steps a second were expected"
            )
        if rate is not None and abs(number / rate - 1) > 1e-6:
            raise DataError(
                f"{listing.place(row)}: column '{where}' has {number:g}, and {rate:g} above; the files of '{column}' need one rate, so "
                "resample them, or give each rate a column of its own"
            )
        rate = number
    return rate


def _rounded(rate: float) -> float:
    """A measured rate, to a hundredth: times in a file are rounded too."""
    return round(rate, 2)


def _paths(cells: Sequence[str]) -> bool:
    return bool(cells) and all(Path(cell).suffix.lower() in TRANSCRIPTS for cell in cells)


def _first(params: FolderParams, listing: Listing, column: str, root: Path) -> Path:
    """The first file of a column that is there. Raises DataError if none is, or if a path leads outside."""
    cells = [(row, cell) for row, cell in enumerate(listing.column(column)) if cell]
    for row, cell in cells:
        path = inside(root, cell, params.outside, f"{listing.place(row)}, column '{column}'")
        if exists(path):
            return path
    looked = f"; the first that was looked for is {root / cells[0][1]}" if cells else ""
    raise DataError(f"{listing.path}: column '{column}' names {len(cells)} files and none of them is there{looked}")


def _reads(path: Path, option: str) -> str:
    """How a file is read, by its ending."""
    ending = path.suffix.lower()
    if path.is_dir() and has_pictures(path):
        return "pictures"
    if ending in (*SOUNDS, *COMPRESSED_SOUNDS):
        return "sound"
    if ending in FILMS:
        return "pictures"
    if ending in PICTURES:
        return "photos"
    if ending in ARRAYS:
        return "sequence"
    if ending in (".csv", ".tsv"):
        header = read_listing(path).columns
        return "words" if {"start", "end"} <= set(header) and {"word", "text"} & set(header) else "table"
    if ending in TRANSCRIPTS:
        return "words"
    raise DataError(
        f"{path}: it is not known how a file of this ending is read; set {option}.reads to sound, pictures, photos, table or words, or save "
        "an array as .npy"
    )


# --------------------------------------------------------------------------------------------------------------- labels


def _labels(params: FolderParams, listing: Listing, taken: Collection[str]) -> dict[str, LabelOptions]:
    """Every label with its type and its classes."""
    if params.labels is not None:
        for name, one in params.labels.items():
            for column in one.columns or (one.column or name,):
                _require(listing, column, f"dataset.labels.{name}")
        given = dict(params.labels)
    else:
        for column in listing.columns:
            if column not in taken:
                _check_unknown(listing, column, given=False)
        columns = [column for column in listing.columns if column not in taken and _may_be_label(_filled(listing, column))]
        given = {}
        for column in columns:
            given[_free(_plain(column, "label"), given)] = LabelOptions(column=column)
    return {name: _label(name, one, listing) for name, one in given.items()}


def _plain(column: str, otherwise: str) -> str:
    """The name of a column in the signs that a recipe's names have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", column).strip("-") or otherwise


def _free(name: str, taken: Collection[str]) -> str:
    """A name that no other column has become: of two columns written in signs that names have not, neither takes the other's place."""
    names = (name, *(f"{name}-{k}" for k in range(2, len(taken) + 2)))
    return next(one for one in names if one not in taken)


def _check_unknown(listing: Listing, column: str, given: bool) -> None:
    """Refuse a word that programs write where nothing is known, in a column whose classes or numbers nobody listed."""
    cells = _filled(listing, column)
    for row, cell in enumerate(listing.column(column)):
        if cell in UNKNOWN:
            known = [other for other in cells if other not in UNKNOWN]
            numbers = bool(known) and all(to_number(other) is not None for other in known)
            if not (given or numbers or _may_be_label(known)):
                return  # a note that nobody learns
            rest = (
                "" if numbers else f"; if it is a class, list the classes in dataset.labels.{_plain(column, 'label')}.classes"
            )
            raise DataError(
                f"{listing.place(row)}: '{cell}' in column '{column}' is what programs write for nothing known; empty the cell{rest}"
            )


def _check_alike(
    values: Iterable[str], listing: Listing, column: str, kind: str, case: bool, separator: str | None = None
) -> None:
    """Refuse two values of a column that look the same and are not: accents written in two ways, signs without width, and capitals where `case` is set."""
    first: dict[str, str] = {}
    for value in values:
        other = first.setdefault(_looks(value, case), value)
        if other != value:
            row = next(i for i, cell in enumerate(listing.column(column)) if value in _parted(cell, separator))
            hidden = _looks(value, False) == _looks(other, False)
            how = (
                f"is written in other signs than the same {kind} above ({value!a}, not {other!a})"
                if hidden
                else f"and '{other}' differ in capitals alone"
            )
            rest = f", or list the {kind}es in dataset.labels" if kind == "class" else ""
            raise DataError(f"{listing.place(row)}: '{value}' in column '{column}' {how}; write both alike{rest}")


def _looks(text: str, case: bool) -> str:
    """A text as a person sees it."""
    plain = "".join(sign for sign in unicodedata.normalize("NFC", text) if unicodedata.category(sign) != "Cf")
    return plain.casefold() if case else plain


def _may_be_label(cells: Sequence[str]) -> bool:
    """Whether a column that nobody declared can be learned: numbers, or few words that come again and again."""
    if not cells or len(set(cells)) < 2:
        return False
    if all(to_number(cell) is not None for cell in cells):
        return True
    counts = Counter(part for cell in cells for part in _parted(cell, _separator(cells)))
    return len(counts) <= 40 and sum(count == 1 for count in counts.values()) <= len(counts) / 3


def _separator(cells: Sequence[str]) -> str | None:
    return next((sign for sign in (";", "|") if any(sign in cell for cell in cells)), None)


def _parted(cell: str, separator: str | None) -> list[str]:
    return [part.strip() for part in cell.split(separator) if part.strip()] if separator else [cell]


def _label(name: str, given: LabelOptions, listing: Listing) -> LabelOptions:
    """One label, what is left open filled in from its cells."""
    if given.columns is not None:
        if len(set(given.columns)) < len(given.columns):
            raise DataError(
                f"dataset.labels.{name}.columns: a column is listed twice in {', '.join(given.columns)}; each stands once"
            )
        values = {cell for column in given.columns for cell in _filled(listing, column)}
        kind = given.type or ("multi-label" if values <= {"0", "1"} else "regression")
        if kind == "single-label":
            raise DataError(
                f"{listing.path}: label '{name}' has one class a recording and several columns; set column, or multi-label"
            )
        return given.model_copy(update={"type": kind})
    column = given.column or name
    cells = _filled(listing, column)
    if not cells:
        raise DataError(f"{listing.path}: column '{column}' is empty, so there is nothing to learn of '{name}'")
    if given.classes is None:
        _check_unknown(listing, column, given=True)
    elif twice := [one for one in given.classes if given.classes.count(one) > 1]:
        raise DataError(f"dataset.labels.{name}.classes: '{twice[0]}' is listed twice; a class has one place in the order")
    kind, separator = given.type or _type(cells, given), given.separator
    if kind == "regression":
        return given.model_copy(update={"type": kind, "column": column})
    if kind == "multi-label":
        separator = separator or _separator(cells) or ";"
    counts = Counter(part for cell in cells for part in _parted(cell, separator if kind == "multi-label" else None))
    classes = given.classes or tuple(sorted(counts, key=lambda text: (to_number(text) is None, to_number(text) or 0.0, text)))
    if given.classes is None:
        _check_alike(counts, listing, column, "class", True, separator if kind == "multi-label" else None)
        _check_counts(name, column, counts, listing, separator if kind == "multi-label" else None)
    update = {"type": kind, "column": column, "separator": separator, "classes": classes}
    return given.model_copy(update=update)


def _type(cells: Sequence[str], given: LabelOptions) -> str:
    if given.separator is not None or (given.classes is None and _separator(cells)):
        return "multi-label"
    if given.classes is not None or any(to_number(cell) is None for cell in cells):
        return "single-label"
    counts = Counter(cells)
    whole = all(re.fullmatch(r"[-+]?\d+", cell) for cell in cells)
    return "single-label" if whole and 2 <= len(counts) <= FEW and min(counts.values()) >= 2 else "regression"


def _check_counts(name: str, column: str, counts: Counter[str], listing: Listing, separator: str | None) -> None:
    if len(counts) < 2:
        raise DataError(
            f"{listing.path}: column '{column}' holds one class, '{next(iter(counts))}'; two or more can be told apart"
        )
    for value, count in sorted(counts.items()):
        if count == 1:
            row = next(i for i, cell in enumerate(listing.column(column)) if value in _parted(cell, separator))
            others = [other for other in counts if other != value and counts[other] > 1]
            raise DataError(
                f"{listing.place(row)}: class '{value}' of '{column}' stands in a single recording{near(value, others)}; mend it, empty "
                f"the cell, or list the classes in dataset.labels.{name}.classes"
            )
