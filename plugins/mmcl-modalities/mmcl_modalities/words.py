"""Fixed random vectors for words, from a hash: the same word has the same vector on every machine."""

from __future__ import annotations

import hashlib
import string

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Timed, Words

from . import HashedWordsParams

MARKS = string.punctuation + "“”‘’«»„…–—¿¡"


class HashedWords:
    """A Gaussian vector a word, of length about 1. Capitals and the punctuation around a word do not count."""

    def __init__(self, params: HashedWordsParams) -> None:
        self.params = params
        self._known: dict[str, NDArray[np.float32]] = {}

    def extract(self, raw: Raw) -> Timed:
        """One step a word; blank words are left out. Raises DataError if there is no word, or not a pair of times for each."""
        assert isinstance(raw, Words)
        words, times = spoken_words(raw, self.params.words_per_second)
        return Timed(np.stack([self._vector(plain(word)) for word in words]), times)

    def _vector(self, word: str) -> NDArray[np.float32]:
        if word not in self._known:
            pieces = [word] if self.params.pieces == "word" else trigrams(word)
            total = np.sum([gaussian(f"{self.params.seed}\x1f{piece}", self.params.dim) for piece in pieces], axis=0)
            self._known[word] = (total / np.sqrt(len(pieces) * self.params.dim)).astype(np.float32)
        return self._known[word]


def spoken_words(raw: Words, rate: float) -> tuple[list[str], NDArray[np.float64]]:
    """The words that are not blank and their times [n, 2] in seconds; `rate` words a second where nobody measured them.

    Raises DataError if there is no word, or not a pair of times for each.
    """
    spoken = [i for i, word in enumerate(raw.words) if word.strip()]
    if not spoken:
        raise DataError("the transcript is empty")
    if raw.times is None:
        first = np.arange(len(spoken)) / rate
        return [raw.words[i] for i in spoken], np.stack([first, first + 1 / rate], axis=1)
    times = np.asarray(raw.times, np.float64)
    if times.shape != (len(raw.words), 2):
        raise DataError(
            f"{len(raw.words)} words have times of shape {list(times.shape)}; a start and an end for each was expected"
        )
    times = times[spoken]
    if not np.isfinite(times).all():
        k = int(np.argwhere(~np.isfinite(times))[0, 0])
        raise DataError(f"word {spoken[k] + 1} ('{raw.words[spoken[k]]}') has the times {times[k].tolist()}")
    return [raw.words[i] for i in spoken], times


def plain(word: str) -> str:
    """The word in small letters without the punctuation around it; punctuation alone stays, as a word of its own."""
    word = word.strip().lower()
    return word.strip(MARKS) or word


def trigrams(word: str) -> list[str]:
    """Groups of three letters, the edges of the word counting as letters."""
    marked = f"<{word}>"
    return [marked[i : i + 3] for i in range(len(marked) - 2)]


def gaussian(text: str, n: int) -> NDArray[np.float64]:
    """n independent standard normal values that depend on the text alone, not on a version of numpy (Box and Muller 1958)."""
    bits = np.frombuffer(hashlib.shake_256(text.encode()).digest(8 * n), "<u4").reshape(2, n)
    radius, angle = (bits.astype(np.float64) + 0.5) / 2**32
    return np.asarray(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle))
