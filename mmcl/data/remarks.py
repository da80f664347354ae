"""What is odd about a recording that could be read all the same, in a sentence: an answer about silence looks like any other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.raw import Audio, Pictures, Raw, Still, Timed, Video, Words

QUIET = 1e-4
"""Samples that differ by no more than twice this are silence: −80 dB of full scale."""
SHORT = 0.1
"""Seconds of sound below which no voice can be told."""


def remarks_on(source: str, raw: Raw) -> Iterator[str]:
    """What is odd about one source of a recording.

    source  its name
    """
    if isinstance(raw, Audio):
        least, most, samples = np.inf, -np.inf, 0
        for block in raw.blocks():
            samples += len(block)
            if len(block):
                least, most = min(least, float(block.min())), max(most, float(block.max()))
            if most - least > 2 * QUIET and samples >= SHORT * raw.rate:
                return
        if samples < SHORT * raw.rate:
            length = "one sample" if samples == 1 else f"{samples / raw.rate:.3f} s"
            yield f"{source}: is {length} of sound, too short to tell anything by"
        elif most - least <= 2 * QUIET:
            yield f"{source}: is silent"
    elif isinstance(raw, Video | Pictures):
        yield from _on_pictures(source, raw)
    elif isinstance(raw, Words):
        if not any(character.isalnum() for word in raw.words for character in word):
            yield f"{source}: has no words, only signs"
    elif isinstance(raw, Still):
        if raw.values.size and not np.nan_to_num(np.asarray(raw.values)).any():
            yield f"{source}: holds nothing but zeros"
    else:
        numbers = np.asarray(raw.values)
        if len(numbers) and not (numbers != numbers[:1])[~np.isnan(numbers)].any():
            zeros = "nothing but zeros" if not np.nan_to_num(numbers).any() else "the same numbers"
            if len(numbers) > 1 or zeros == "nothing but zeros":
                yield f"{source}: holds {zeros} throughout"


def _on_pictures(source: str, raw: Video | Pictures) -> Iterator[str]:
    """Of a film that shows one thing all along, and of pictures that are all one; read no further than to the first that differs."""
    first: NDArray[np.uint8] | None = None
    at = 0
    for block in raw.blocks() if isinstance(raw, Video) else [raw.pictures]:
        shown = block
        if isinstance(raw, Video) and raw.present is not None:
            shown = block[raw.present[at : at + len(block)]]
        at += len(block)
        if len(shown):
            first = shown[0] if first is None else first
            if any((frame != first).any() for frame in shown):
                return
    if first is None:
        return
    if all(int(channel.max()) - int(channel.min()) <= 1 for channel in first):
        yield f"{source}: shows a single colour throughout"
    elif at > 1 and isinstance(raw, Video):
        yield f"{source}: shows one picture that never changes"


def remark_on_stream(name: str, stream: np.ndarray[Any, Any] | Timed) -> str | None:
    """What is odd about a stream whose every number is the same; None for others.

    name  of its modality
    """
    values = np.asarray(stream.values if isinstance(stream, Timed) else stream)
    if values.size > 1 and (values == values.flat[0]).all():
        return f"{name}: every number that was taken of it is {float(values.flat[0]):g}, so it tells nothing"
    return None
