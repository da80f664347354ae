"""A folder of one's own: a table with a row a recording, and the files that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from mmcl.api import DataError, Dataset, DatasetInfo, DatasetSpec, Field, Params, Raw, Register, Source, Task, hookimpl

__all__ = ["GET", "FolderParams", "LabelOptions", "SourceOptions"]

GET = "Write recordings.csv into the folder, a row a recording ('mmcl new-dataset FOLDER' makes one of what lies there)."

Kind = Literal["sound", "pictures", "table", "words", "sequence", "photos", "still", "faces", "landmarks"]
OF_FACES = ("faces", "landmarks")
"""Kinds of source that are searched for in films, rather than read."""
CROP = (112, 112)
"""Height and width in pixels of a face, unless the recipe says another."""
Pixels = Annotated[int, Field(ge=8, le=1280)]


class SourceOptions(Params):
    """One source: the column that names its files, and how they are read."""

    LATER = ("model", "language", "trim")

    column: str | None = Field(None, description="column with the paths; left out: the one named as the source is")
    reads: Kind | None = Field(
        None,
        description="sound (of a sound file or a film), pictures (of a film, or numbered ones in a folder), table (a CSV of numbers with a "
        "header, such as OpenFace's), words (a transcript, the words themselves, or what is said in a sound or a film), sequence (an array), photos (a "
        "picture, or those of a folder, without a clock), still (an array of numbers that hold for the whole recording), faces (the main face of a film, upright in every frame) or landmarks (its 68 points; their weights exclude commercial use); left out: by the files",
    )
    rate: float | None = Field(
        None,
        gt=0,
        description="steps a second of arrays, of tables without a column `timestamp` and of folders of pictures; of a film: refuse any other; of "
        "faces and landmarks: how often films are looked at, left out: as often as the first film shows a frame",
    )
    key: str | None = Field(None, description="name of the array in files that hold several")
    size: tuple[Pixels, Pixels] | None = Field(
        None, description="height and width in pixels to which pictures are resized; left out: 120 × 160, of faces 112 × 112"
    )
    columns: tuple[str, ...] | None = Field(None, description="columns of a table; left out: those of the first file")
    shape: tuple[int, ...] | None = Field(
        None, description="shape of one step of an array, or of all that is still; left out: that of the first file"
    )
    model: str | None = Field(
        None,
        description="words out of sound: folder of a Whisper model in CTranslate2's format; left out: tiny.en (English), of a package",
    )
    language: str | None = Field(None, description="words out of sound: the language that is spoken; left out: en")
    trim: bool | None = Field(
        None,
        description="words out of sound: pass over stretches without a voice, in which words would be made up; left out: true. sound: cut what "
        "lies before the first and after the last voice, where sound is the only source with times (extra words); left out: false",
    )


class LabelOptions(Params):
    """One label: the columns that it stands in, and what their cells mean."""

    column: str | None = Field(None, description="its column; left out: the one named as the label is")
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="several columns in place of one: of 0 and 1 (multi-label) or of numbers (regression)"
    )
    type: Literal["single-label", "multi-label", "regression"] | None = Field(
        None, description="one class, any number of classes, or numbers; left out: by the cells"
    )
    separator: str | None = Field(
        None, min_length=1, description="what parts the classes of a multi-label cell; left out: ; or |"
    )
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="the classes, in order; left out: in the alphabet's"
    )


def _by_name(value: Any) -> Any:
    """`[emotion, valence]` stands for `{emotion: {}, valence: {}}`; lists, which JSON has in place of tuples, become tuples."""
    if isinstance(value, tuple | list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    return _tuples(value) if isinstance(value, dict) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class FolderParams(Params):
    """Options of `folder`."""

    table: str | None = Field(
        None, description="the table, relative to the folder; left out: recordings.csv, .tsv, .jsonl or .parquet"
    )
    id: str | None = Field(None, description="column of the recordings' names; left out: id, or the names of the files")
    group: str | None = Field(
        None,
        description="column of what never stands on both sides of a split; left out: speaker, subject, …; where there is none of these, each recording is alone",
    )
    split: str | None = Field(None, description="column of the words train, valid and test; left out: split, if there is one")
    splits: tuple[Literal["train", "valid", "test"], ...] | None = Field(
        None, description="words that stand in it; left out: read"
    )
    labels: Annotated[dict[str, LabelOptions] | None, BeforeValidator(_by_name)] = Field(
        None, description="labels by name, or a list of columns; left out: every column that can be one"
    )
    sources: Annotated[dict[str, SourceOptions] | None, BeforeValidator(_by_name)] = Field(
        None, description="sources by name, or a list of columns; left out: every column of paths or words"
    )
    outside: bool = Field(False, description="whether paths in the table may lead outside the folder")


def _source(options: SourceOptions) -> Source:
    """A source as modalities see it."""
    if options.reads == "sound":
        return Source("audio", "sound, at each file's own rate", notes={"trim": True} if options.trim else {})
    if options.reads == "pictures":
        return Source("video", "pictures, resized while reading", options.rate, {"shape": [3, *(options.size or (120, 160))]})
    if options.reads == "photos":
        return Source("pictures", "pictures without a clock", notes={"shape": [3, *(options.size or (120, 160))]})
    if options.reads == "still":
        shape = list(options.shape or ())
        return Source("still", "numbers of the whole recording", notes={"shape": shape, **_key(options)})
    if options.reads == "faces":
        notes = {"shape": [3, *(options.size or CROP)], "of": "faces", "gaps": True}
        return Source("video", "the main face, upright; frames without it are gaps", options.rate, notes)
    if options.reads == "landmarks":
        return Source(
            "table", "68 points of the main face", options.rate, {"columns": list(options.columns or ()), "of": "landmarks"}
        )
    if options.reads == "words":
        spoken = {name: getattr(options, name) for name in SourceOptions.LATER if getattr(options, name) is not None}
        return Source("words", "words, with times where the transcript has them", notes=spoken)
    if options.reads == "table":
        return Source("table", "columns of numbers", options.rate, {"columns": list(options.columns or ())})
    shape = list(options.shape or ())
    axes = {1: ["channel"], 2: ["joint", "channel"]}.get(len(shape))
    notes = {"shape": shape, **({"axes": axes} if axes else {}), **_key(options)}
    return Source("sequence", "ready arrays", options.rate, notes)


def _key(options: SourceOptions) -> dict[str, str]:
    return {"key": options.key} if options.key else {}


def _complete_source(options: SourceOptions) -> bool:
    """Whether the options alone say what a modality must know."""
    needed = {
        "table": options.columns,
        "sequence": options.shape,
        "still": options.shape,
        "faces": options.rate,
        "landmarks": options.columns,
    }
    return options.reads is not None and needed.get(options.reads, ()) is not None


def _info(params: FolderParams) -> DatasetInfo:
    """What the options say; nothing of sources and labels that only the table tells."""
    sources = {name: _source(one) for name, one in (params.sources or {}).items() if _complete_source(one)}
    tasks = {
        name: Task(
            name,
            one.type,
            one.classes or one.columns or (name,),
            f"the column {', '.join(one.columns or (one.column or name,))}",
        )
        for name, one in (params.labels or {}).items()
        if one.type is not None and (one.classes or one.columns or one.type == "regression")
    }
    whole = len(sources) == len(params.sources or {}) and len(tasks) == len(params.labels or {})
    return DatasetInfo(
        sources=sources if whole else {},
        tasks=tasks if whole else {},
        group=params.group or "recording",
        official=params.splits or (),
        get=GET,
    )


def _complete(params: FolderParams, root: Path) -> FolderParams:
    from .columns import completed

    return completed(params, root)


def _build(params: FolderParams, root: Path | None) -> Dataset:
    from .recordings import Folder

    return Folder(params, root)


def _read_file(path: Path, source: Source) -> Raw:
    """One file as a source of any dataset: what that one says of its type, rate, size, columns or shape takes the place of a table."""
    from collections import Counter

    from mmcl.media import FILMS

    from .recordings import read_file

    reads: dict[str, Kind] = {"audio": "sound", "video": "pictures", "words": "words", "table": "table", "sequence": "sequence"}
    reads |= {"pictures": "photos", "still": "still"}
    shape, columns = source.notes.get("shape"), source.notes.get("columns")
    of = source.notes.get("of")
    derived = of in OF_FACES and (
        path.is_dir() or path.suffix.lower() in FILMS
    )  # a table that someone else made is read as one
    options = SourceOptions(
        reads=of if derived else reads[source.type],
        rate=None if source.type == "audio" else source.rate,
        size=tuple(shape[-2:]) if shape and source.type in ("video", "pictures") else None,
        columns=tuple(columns) if columns else None,
        shape=tuple(shape) if shape and source.type in ("sequence", "still") else None,
        key=source.notes.get("key"),
        **({name: source.notes.get(name) for name in SourceOptions.LATER} if source.type in ("words", "audio") else {}),
    )
    if source.type == "sequence" and source.rate is None:
        raise DataError(
            f"{path}: an array does not say its rate, and nor does its source; a recording of the run's own dataset is read by its id"
        )
    return read_file(path, options, Counter())


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `folder`."""
    register(
        DatasetSpec(
            name="folder",
            summary="a folder of your own: a table with a row a recording, and the sounds, films, words and arrays it names",
            params=FolderParams,
            info=_info,
            build=_build,
            sample=_sample,
            complete=_complete,
            read_file=_read_file,
        )
    )
