"""What people send, as files: those of an upload in a folder that is gone with the answer, or a path below the folder that is served."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ...api.errors import MmclError

NAME = 60
"""Letters of an uploaded file's name that are kept."""


class Refusal(MmclError):
    """A question that is not taken, with its status of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class Upload(Protocol):
    """A file of a form."""

    @property
    def filename(self) -> str | None:
        """What its sender calls it."""

    async def read(self, size: int = -1, /) -> bytes:
        """So many bytes of it."""


async def keep_uploads(files: Iterable[tuple[str, Upload]], folder: Path, sources: Iterable[str]) -> list[Path]:
    """Write the files of a form into a folder, as one recording: all under the first one's name, each by the source that it was sent as.

    The paths come back, in the order of the form.

    files    name of the field → file; a field called as a source of the run says that the file is of it, and any other name nothing

    Raises Refusal for a file without a name, or two that cannot both be of one recording.
    """
    known = set(sources)
    stem = ""
    paths: list[Path] = []
    for field, upload in files:
        name = re.split(r"[\\/]", upload.filename or "")[-1]
        ending = Path(name).suffix.lower()
        if not name or not re.fullmatch(r"\.[a-z0-9]{1,12}", ending):
            raise Refusal(400, f"the file sent as '{field[:NAME]}' has no name with an ending, by which it is read")
        stem = stem or re.sub(r"[^\w .()+-]", "_", Path(name).stem).strip(" .")[:NAME] or "clip"
        place = folder / field if field in known else folder
        place.mkdir(exist_ok=True)
        path = place / f"{stem}{ending}"
        if path.exists():
            raise Refusal(400, f"two files '{path.name}' were sent; name each by its source: {', '.join(sorted(known))}")
        paths.append(path)
        with path.open("xb") as file:
            while piece := await upload.read(2**20):
                file.write(piece)
    if not stem:
        raise Refusal(400, "no file was sent; send one as multipart/form-data, or a path as JSON")
    return paths


def below(root: Path | None, named: str) -> Path:
    """A file or folder below the folder that is served, by its path from there or its whole path; links are followed.

    Raises Refusal if there is no such folder, or nothing there, or it lies outside.
    """
    if root is None:
        raise Refusal(403, "paths are not taken: the server was started without --root; upload the file")
    if "\0" in named or not named.strip():
        raise Refusal(400, "the path is empty, or no path")
    outside = Refusal(403, f"{named}: lies outside the folder that is served, or a link of it leads outside")
    whole = root.resolve()
    try:
        path = whole / named
        real = path.resolve()
        if not real.is_relative_to(whole):
            raise outside
        there = real.exists()
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle
        raise Refusal(404, f"{named[:200]}: is nothing in the folder that is served") from error
    if not there:
        raise Refusal(404, f"{named}: is nothing in the folder that is served")
    return real
