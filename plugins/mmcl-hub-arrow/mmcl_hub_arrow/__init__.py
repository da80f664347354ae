"""Datasets of the hub's Arrow format: folders that `save_to_disk` of the library `datasets` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

__all__ = ["EXPECTED", "GET", "HubArrowParams", "LabelOptions", "SourceOptions"]

EXPECTED = "a folder that save_to_disk of the library datasets wrote"
GET = "Write it once with datasets.load_dataset(...).save_to_disk(FOLDER)."

Kind = Literal["sound", "pictures", "words", "sequence", "still"]
Split = Literal["train", "valid", "test"]
SIZE = (120, 160)
"""Height and width in pixels of a picture, unless the recipe says another."""
Pixels = Annotated[int, Field(ge=8, le=1280)]


class SourceOptions(Params):
    """One source: its column, and what the cells are."""

    column: str | None = Field(None, description="its column; left out: the one named as the source is")
    reads: Kind | None = Field(
        None,
        description="sound (Audio, or samples with their rate), pictures (Image, or a list of them), words (a string), sequence (numbers "
        "over time, steps first, with a rate) or still (numbers of the whole recording); left out: by the column",
    )
    rate: float | None = Field(
        None, gt=0, description="steps a second of a sequence; samples a second of sound in a plain list"
    )
    size: tuple[Pixels, Pixels] | None = Field(
        None, description="height and width in pixels to which pictures are resized; left out: 120 × 160"
    )
    shape: tuple[int, ...] | None = Field(
        None, description="shape of one step of a sequence, or of all that is still; left out: that of the first row"
    )


class LabelOptions(Params):
    """One label: its column, and what the cells mean."""

    column: str | None = Field(None, description="its column; left out: the one named as the label is")
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="several columns of numbers in place of one (regression)"
    )
    type: Literal["single-label", "multi-label", "regression"] | None = Field(
        None, description="one class, any number of classes, or numbers; left out: by the column, but whole numbers need it"
    )
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="the classes, in order; left out: those of a ClassLabel, else in the alphabet's"
    )


def _named(value: Any) -> Any:
    """A list of names stands for names without options of their own; JSON's lists become tuples."""
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return {name: {} for name in value}
    if not isinstance(value, dict):
        return value
    tuples = {}
    for name, options in value.items():
        if isinstance(options, dict):
            options = {key: tuple(one) if isinstance(one, list) else one for key, one in options.items()}
        tuples[name] = options
    return tuples


class HubArrowParams(Params):
    """Options of `hub-arrow`."""

    parts: dict[str, Split] | None = Field(
        None,
        description="which parts of a DatasetDict are read, and as which split: {validation: valid}; left out: all, by their names",
    )
    id: str | None = Field(None, description="column of the recordings' names; left out: id or the like, else part and row")
    group: str | None = Field(
        None,
        description="column of what never stands on both sides of a split; left out: speaker, subject, …; where there is none of these, each recording is alone",
    )
    split: str | None = Field(None, description="column of the words train, valid and test, in place of the parts")
    splits: tuple[Split, ...] | None = Field(None, description="splits that there are; left out: read")
    labels: Annotated[dict[str, LabelOptions] | None, BeforeValidator(_named)] = Field(
        None, description="labels by name, or a list of columns; left out: every ClassLabel"
    )
    sources: Annotated[dict[str, SourceOptions] | None, BeforeValidator(_named)] = Field(
        None, description="sources by name, or a list of columns; left out: every Audio and Image, and text"
    )


def _source(one: SourceOptions) -> Source:
    """A source as modalities see it; its options are complete."""
    if one.reads == "sound":
        return Source("audio", "sound, at each row's own rate")
    if one.reads == "pictures":
        return Source("pictures", "pictures without a clock", notes={"shape": [3, *(one.size or SIZE)]})
    if one.reads == "words":
        return Source("words", "words, without times")
    shape = list(one.shape or ())
    if one.reads == "still":
        return Source("still", "numbers of the whole recording", notes={"shape": shape})
    axes = {1: ["channel"], 2: ["joint", "channel"]}.get(len(shape))
    return Source("sequence", "numbers over time", one.rate, {"shape": shape, **({"axes": axes} if axes else {})})


def _info(params: HubArrowParams) -> DatasetInfo:
    """What the options say; nothing of sources and labels that only the folder tells."""
    sources = {
        name: _source(one)
        for name, one in (params.sources or {}).items()
        if one.reads in ("sound", "pictures", "words") or (one.reads is not None and one.shape is not None)
    }
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


def _complete(params: HubArrowParams, root: Path) -> HubArrowParams:
    from .columns import completed
    from .shards import open_folder

    return completed(params, open_folder(root, params.parts))


def _build(params: HubArrowParams, root: Path | None) -> Dataset:
    from .recordings import HubArrow

    return HubArrow(params, root)


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `hub-arrow`."""
    register(
        DatasetSpec(
            name="hub-arrow",
            summary="a dataset of the hub's Arrow format: a folder that save_to_disk of the library datasets wrote",
            params=HubArrowParams,
            info=_info,
            build=_build,
            sample=_sample,
            complete=_complete,
        )
    )
