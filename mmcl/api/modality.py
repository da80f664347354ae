"""Modality: turns one raw recording into a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from .deprecation import Deprecated
from .kinds import Layout
from .params import Params
from .raw import Raw, Source, Timed

if TYPE_CHECKING:
    from numpy.typing import NDArray


@runtime_checkable
class Modality(Protocol):
    """Runs once per recording, in `prepare`; what it returns is kept in the store. Nothing is fitted here."""

    def extract(self, raw: Raw) -> NDArray[Any] | Timed:
        """One recording's stream: [T, ...] as the layout says ([...] for a kind without time), or `Timed`.

        Raises DataError, in one sentence, if this recording cannot be used; the toolkit lists and skips it.
        """
        ...


@dataclass(frozen=True)
class ModalitySpec:
    """What a modality plug-in registers.

    accepts  types of `Source` it reads ("audio", "video", "words", "table", "sequence", "pictures", "still")
    layout   (params, source) → Layout, light and without data; raises ValueError with a sentence if they don't fit
    build    (params, source) → Modality; heavy imports happen here
    version  deprecated: prepared streams hold a hash of the plug-in's files, and are made anew when those change
    paper    where the method comes from
    """

    DEPRECATED: ClassVar[Mapping[str, Deprecated]] = {
        "version": Deprecated(
            "contract 1.3", "contract 2.0", "leave it out; a change of the package's files is noticed by itself"
        )
    }

    name: str
    summary: str
    accepts: tuple[str, ...]
    params: type[Params]
    layout: Callable[[Any, Source], Layout]
    build: Callable[[Any, Source], Modality]
    version: int = 1
    paper: str = ""
