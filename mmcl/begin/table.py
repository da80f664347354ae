"""A table of what lies in a folder: recordings by equal names, people and labels by names of folders or a regular expression."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..api.errors import DataError
from ..media import (
    ARRAYS,
    COMPRESSED_SOUNDS,
    FILMS,
    PEOPLE,
    SOUNDS,
    SPLIT_WORDS,
    TRANSCRIPTS,
    array_rate,
    has_pictures,
    read_listing,
    walk_folders,
)
from ..runs import write_text
from ..text import not_text

KINDS = {
    "sound": (*SOUNDS, *COMPRESSED_SOUNDS),
    "film": FILMS,
    "array": ARRAYS,
    "table": (".csv", ".tsv"),
    "transcript": tuple(ending for ending in TRANSCRIPTS if ending not in (".csv", ".tsv")),
}
"""What a file is taken for, by its ending; folders of pictures are `pictures`."""

PERSON = re.compile(r"(actor|speaker|spk|subject|subj|sub|person|participant|part|patient|user|id|p|s)[-_ ]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """A file, or a folder of pictures: where it is below the root, and what it is taken for."""

    path: Path  # relative to the root
    kind: str

    @property
    def name(self) -> str:
        """The name that files of one recording share."""
        return self.path.name if self.kind == "pictures" else self.path.stem


@dataclass(frozen=True)
class Draft:
    """A table that has not been written, and what there is to say about it."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]

    def text(self) -> str:
        """The table as CSV."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()


def write_table(root: Path, out: str = "recordings.csv", pattern: str | None = None, overwrite: bool = False) -> Draft:
    """Write the table of a folder into it, and return what was written.

    Raises DataError if the folder is missing or holds no recording, if `out` leads outside it, if the table is there and may not be overwritten,
    or if the pattern is no regular expression or names no group.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is {'no folder' if root.exists() else 'not there'}; a folder with recordings was expected")
    path = root / out
    if Path(out).is_absolute() or ".." in Path(out).parts or path.suffix.lower() != ".csv":
        raise DataError(f"--out {out}: the name of a CSV file in {root} was expected, such as recordings.csv")
    if path.exists() and not overwrite:
        raise DataError(f"{path}: is there already; give --overwrite to write it again, or another --out")
    draft = draft_table(root, pattern, leave_out=(out,))
    write_text(path, draft.text())
    return draft


def draft_table(root: Path, pattern: str | None = None, leave_out: Sequence[str] = ()) -> Draft:
    """The table of a folder.

    pattern    a regular expression with named groups, searched for in each recording's path without its ending; every name becomes a column
    leave_out  files that are no recordings

    Raises DataError as `write_table` does.
    """
    expression = _compiled(pattern)
    items, notes = _items(root, leave_out)
    level = _level_of_sources(items)
    recordings: dict[tuple[str, ...], dict[str, Item]] = {}
    for item in items:
        folders = item.path.parent.parts
        column = folders[level] if level is not None else item.kind
        key = (*(part for i, part in enumerate(folders) if level is None or i != level % len(folders)), item.name)
        own = recordings.setdefault(key, {})
        if column in own:
            notes.append(
                f"{item.path}: left out; {own[column].path} has the same name and is taken as that recording's {column}"
            )
        else:
            own[column] = item
    sources = sorted({column for own in recordings.values() for column in own})
    notes.append(f"{len(recordings):,} recordings; a column for each of {', '.join(sources)}")
    notes += _gaps(recordings, sources)
    facts = _by_pattern(expression, recordings, notes) if expression else _by_folders(recordings, notes)
    ids = _ids(list(recordings))
    renamed = {source: _column(source, {"id", *(name for own in facts.values() for name in own)}) for source in sources}
    names = dict.fromkeys(name for own in facts.values() for name in own)
    rows = [
        {"id": ids[key], **{name: facts[key].get(name, "") for name in names}}
        | {renamed[source]: own[source].path.as_posix() if source in own else "" for source in sources}
        for key, own in sorted(recordings.items())
    ]
    _say_what_is_unknown(list(names), notes)
    rates = _rates(root, rows, recordings, renamed, notes)
    return Draft(("id", *names, *renamed.values(), *rates), tuple(rows), tuple(notes))


def _rates(
    root: Path,
    rows: Sequence[dict[str, str]],
    recordings: Mapping[tuple[str, ...], Mapping[str, Item]],
    renamed: Mapping[str, str],
    notes: list[str],
) -> list[str]:
    """Columns NAME_rate, filled into the rows, of arrays that say their rate; of what says none, a note."""
    columns = []
    for source, column in renamed.items():
        kinds = {own[source].kind for own in recordings.values() if source in own}
        tables = kinds == {"table"} and _without_times(next(root / row[column] for row in rows if row[column]))
        if not kinds & {"array", "pictures"} and not tables:
            continue
        told = {row["id"]: rate for row in rows if row[column] and (rate := _rate(root / row[column])) is not None}
        there = sum(bool(row[column]) for row in rows)
        what = "arrays" if "array" in kinds else "tables without a column 'timestamp'" if tables else "pictures in folders"
        if len(told) < there:
            some = f"{there - len(told):,} of {there:,} {what}" if told else what
            notes.append(
                f"{column}: {some} do not say how many steps a second they have, and it cannot be told from anything else: write it into a column "
                f"'{column}_rate', or set dataset.sources.{column}.rate in the recipe"
            )
        if told:
            columns.append(f"{column}_rate")
            notes.append(f"{column}_rate: as the files themselves say")
            for row in rows:
                row[f"{column}_rate"] = f"{told[row['id']]:g}" if row["id"] in told else ""
    return columns


def _without_times(path: Path) -> bool:
    """Whether a table of numbers has several rows and no column that says when; False where it cannot be read."""
    try:
        listing = read_listing(path)
    except DataError:
        return False
    return len(listing.rows) > 1 and not {"timestamp", "start"} & set(listing.columns)


def _rate(path: Path) -> float | None:
    """What an array's file says of its rate; None where it says none, or is damaged, which is found when recordings are read."""
    try:
        return array_rate(path) if path.suffix.lower() in ARRAYS else None
    except DataError:
        return None


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--pattern {pattern}: is no regular expression ({error})") from error
    if not expression.groupindex:
        raise DataError(f"--pattern {pattern}: names no group; write (?P<speaker>…), (?P<emotion>…), (?P<split>…)")
    return expression


def _items(root: Path, leave_out: Sequence[str]) -> tuple[list[Item], list[str]]:
    """Everything that can be a source of a recording, and what was passed over."""
    items: list[Item] = []
    strange: Counter[str] = Counter()
    folderlike: list[str] = []
    nameless: list[str] = []
    kinds = {ending: kind for kind, endings in KINDS.items() for ending in endings}
    for folder, folders, files in walk_folders(root):
        others = any(
            kinds.get(Path(name).suffix.lower()) for name in files
        )  # a cover beside sounds makes no folder of pictures
        if folder != root and not others and has_pictures(folder):
            items.append(Item(folder.relative_to(root), "pictures"))
            folders.clear()
            continue
        for name in files:
            path = (folder / name).relative_to(root)
            kind = kinds.get(path.suffix.lower())
            if kind is not None and (root / path).is_dir():
                folderlike.append(f"{path}: left out; is a folder, and is called as a recording's file is")
            elif kind is not None and (wrong := not_text(path.as_posix())) is not None:
                nameless.append(f"{wrong}: left out; its name is no text in UTF-8, rename it")
            elif kind is not None and path.as_posix() not in leave_out:
                items.append(Item(path, kind))
            elif kind is None:
                strange[path.suffix.lower() or name] += 1
    notes = folderlike + nameless[:5] + [f"… and {len(nameless) - 5:,} more such names"] * (len(nameless) > 5)
    notes += [
        f"left out: {count:,} × {not_text(ending) or ending} (no known ending of a recording)"
        for ending, count in sorted(strange.items())
    ]
    media = {item.name for item in items if item.kind in ("sound", "film", "pictures", "array")}
    alone = [item for item in items if media and item.kind in ("table", "transcript") and item.name not in media]
    notes += [f"{item.path}: left out; no recording has its name" for item in alone[:5]]
    notes += [f"… and {len(alone) - 5:,} more without a recording of their name"] if len(alone) > 5 else []
    stray = set(alone)
    items = [item for item in items if item not in stray]
    if not items:
        raise DataError(
            f"{root}: holds no recordings ({', '.join(ending for endings in KINDS.values() for ending in endings)})"
        )
    return items, notes


def _level_of_sources(items: Sequence[Item]) -> int | None:
    """Which level of folders parts the sources of recordings (wavs/, openface/), counted from the root or, as -1, from the files; or None.

    It does where taking it away makes names meet, and the folders on it are not all of one kind of file.
    """
    depths = {len(item.path.parent.parts) for item in items}
    if 0 in depths:
        return None
    for level in (0, -1):
        kinds: dict[str, set[str]] = {}
        met: dict[tuple[str, ...], set[str]] = {}
        for item in items:
            folders = item.path.parent.parts
            kinds.setdefault(folders[level], set()).add(item.kind)
            key = (*(part for i, part in enumerate(folders) if i != level % len(folders)), item.name)
            met.setdefault(key, set()).add(folders[level])
        uniform = all(len(one) == 1 for one in kinds.values())
        if uniform and len({kind for one in kinds.values() for kind in one}) > 1 and any(len(one) > 1 for one in met.values()):
            return level
    return None


def _gaps(recordings: Mapping[tuple[str, ...], Mapping[str, Item]], sources: Sequence[str]) -> list[str]:
    counts = {source: sum(source not in own for own in recordings.values()) for source in sources}
    return [f"{count:,} recordings lack {source}: their cells are empty" for source, count in counts.items() if count]


def _by_pattern(
    expression: re.Pattern[str], recordings: Mapping[tuple[str, ...], Mapping[str, Item]], notes: list[str]
) -> dict[tuple[str, ...], dict[str, str]]:
    """What the pattern says of each recording, by any of its paths."""
    facts: dict[tuple[str, ...], dict[str, str]] = {}
    unmatched = []
    for key, own in recordings.items():
        paths = [
            item.path.with_suffix("").as_posix() if item.kind != "pictures" else item.path.as_posix() for item in own.values()
        ]
        match = next((match for path in paths if (match := expression.search(path))), None)
        facts[key] = {name: text or "" for name, text in match.groupdict().items()} if match else {}
        if word := SPLIT_WORDS.get(facts[key].get("split", "").lower()):
            facts[key]["split"] = word
        if match is None:
            unmatched.append(paths[0])
    if len(unmatched) == len(recordings):
        raise DataError(f"--pattern {expression.pattern}: fits no path, such as {unmatched[0]}")
    if unmatched:
        notes.append(f"--pattern fits {len(unmatched):,} recordings not, such as {unmatched[0]}: their cells are empty")
    return {key: {name: own.get(name, "") for name in expression.groupindex} for key, own in facts.items()}


def _by_folders(
    recordings: Mapping[tuple[str, ...], Mapping[str, Item]], notes: list[str]
) -> dict[tuple[str, ...], dict[str, str]]:
    """People, splits and labels by the names of folders, each level for itself."""
    facts: dict[tuple[str, ...], dict[str, str]] = {key: {} for key in recordings}
    depths = {len(key) - 1 for key in recordings}
    if len(depths) > 1:
        notes.append(
            "recordings lie at different depths of folders, so their names are not read: --pattern says who and what is in them"
        )
        return facts
    levels = [Counter(key[level] for key in recordings) for level in range(depths.pop())]
    columns = [_column_of(names) for names in levels]
    unknown = [level for level, names in enumerate(levels) if len(names) > 1]
    unknown = [level for level in unknown if columns[level] is None or columns.count(columns[level]) > 1]
    words = iter(("speaker", "emotion") if len(unknown) == 2 else ("emotion",) if "speaker" in columns else ("speaker",))
    # what is known already stands in it too: a pattern takes the place of what folders say
    named = [next(words, f"column{level}") if level in unknown else column for level, column in enumerate(columns)]
    example = "/".join(f"(?P<{name}>[^/]+)" if name else "[^/]+" for name in named)
    for level, (names, column) in enumerate(zip(levels, columns, strict=True)):
        shown = ", ".join(sorted(names)[:4]) + (", …" if len(names) > 4 else "")
        if len(names) < 2:
            continue
        if column is None or columns.count(column) > 1:
            notes.append(f"folders {shown}: not known what they are; say it with --pattern, as in --pattern '^{example}/'")
            continue
        notes.append(f"folders {shown}: taken for the {column}")
        for key in recordings:
            facts[key][column] = SPLIT_WORDS[key[level].lower()] if column == "split" else key[level]
    return facts


def _column_of(names: Mapping[str, int]) -> str | None:
    """What the names of folders of one level are."""
    if len(names) < 2:
        return None
    if all(name.lower() in SPLIT_WORDS for name in names):
        return "split"
    if all(PERSON.fullmatch(name) or name.isdigit() for name in names):
        return "speaker"
    if min(names.values()) >= 2 and not any(char.isdigit() for name in names for char in name):
        return "label"
    return None


def _ids(keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The name of each recording: that of its files, with those of its folders where two share it."""
    alone = len({key[-1] for key in keys}) == len(keys)
    return {key: key[-1] if alone else "-".join(key) for key in keys}


def _column(source: str, taken: set[str]) -> str:
    """The column of a source: its name, which no other column may have."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", source).strip("-") or "source"
    return f"{name}-file" if name in taken else name


def _say_what_is_unknown(names: Sequence[str], notes: list[str]) -> None:
    if not set(names) & set(PEOPLE):
        notes.append(
            "who is in them is not known: fill in a column `speaker`, or give --pattern; else one person may stand on both sides of a split"
        )
    if not set(names) - {*PEOPLE, "split"}:
        notes.append("no label is known: fill in a column such as `emotion`, or give --pattern with (?P<emotion>…)")
