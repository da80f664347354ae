"""What the JSON files hold that lie beside prepared streams at a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from .files import NUMBERS, Count, Shape


class RemoteEntry(Shape):
    """A file at a URL."""

    bytes: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RemoteFile(Shape):
    """remote.json."""

    key: str
    files: Annotated[dict[str, RemoteEntry], Field(max_length=NUMBERS)]


class ListingFile(Shape):
    """listing.json: recordings that were uploaded, and what was computed of each."""

    recordings: RemoteEntry
    scored: dict[str, Any]


class PlaceFile(Shape):
    """place.json: where the streams of listed recordings lie, by what they are."""

    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
    key: str
    recordings: str


AT_A_URL: Mapping[str, type[Shape]] = {"remote.json": RemoteFile, "listing.json": ListingFile, "place.json": PlaceFile}
"""The schemas of these files."""
