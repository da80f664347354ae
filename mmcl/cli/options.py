"""Options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class Place(click.Path):
    """A path, of which "" is none: it would be the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does."""
        if value == "":
            needed = param is not None and param.required
            self.fail(f"is empty; name a file or a folder{'' if needed else ', or leave it out'}", param, ctx)
        if isinstance(value, str) and "\0" in value:
            self.fail("holds a NUL, which no path does", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number within bounds; unlike click's, not NaN and not infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click does."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


recipe = click.argument("recipe")
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Lay a value over the recipe, such as pretrain.epochs=5."
)
presets = click.option(
    "--preset", "presets", multiple=True, metavar="NAME", help="Lay a paper's settings over the recipe (`mmcl list-presets`)."
)
data = click.option(
    "--data",
    type=Place(file_okay=False),
    envvar="MMCL_DATA",
    show_envvar=True,
    help="Folder under which datasets lie.",
)
prepared = click.option(
    "--prepared",
    metavar="URL",
    envvar="MMCL_PREPARED",
    show_envvar=True,
    help="URL of prepared streams that `mmcl upload` put there (s3://, gs://, https://, file://); no recording is read then.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
limit = click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="A dry run: N recordings of each split, of all classes alike; the report says so.",
)
workers = click.option(
    "--workers", type=click.IntRange(1), help="Processes that prepare streams.  [default: as many as pay, at most one a core]"
)
device = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where networks run."
)
engine = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where they run: in processes of this machine, or on the nodes of a Ray cluster, which share the folder (mmcl[ray]).",
)
address = click.option(
    "--address", metavar="HOST:PORT", help="The Ray cluster's head.  [default: the cluster of this machine, or a new one]"
)
overwrite = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace finished work of another plan, or of other recordings, that lies in the folder, and checkpoints none of which is whole.",
)


def check_engine(engine: str, address: str | None) -> None:
    """Refuse an address that nothing is done with."""
    if address is not None and engine != "ray":
        raise click.UsageError("--address is that of a Ray cluster; give --engine ray with it")


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit, each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= each:
            return f"{count / each:.1f} {unit}"
    return f"{count} B"
