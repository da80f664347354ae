"""Fixed random vectors for words, from a hash: the same word has the same vector on every machine."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Timed, Words

from . import HashedWordsParams


class HashedWords:
    """A Gaussian vector a word, of length about 1."""

    def __init__(self, params: HashedWordsParams) -> None:
        self.params = params
        self._vector = functools.lru_cache(maxsize=100_000)(self._make)

    def extract(self, raw: Raw) -> Timed:
        """values [words, dim] and the time of each word."""
        assert isinstance(raw, Words)
        if not raw.words:
            raise DataError("the transcript is empty")
        values = np.stack([self._vector(word.strip().lower().strip(".,;:!?\"'()[]…")) for word in raw.words])
        times = raw.times
        if times is None:
            first = np.arange(len(raw.words)) / self.params.words_per_second
            times = np.stack([first, first + 1 / self.params.words_per_second], axis=1)
        return Timed(values, times)

    def _make(self, word: str) -> NDArray[np.float32]:
        if self.params.pieces == "word" or not word:
            return self._piece(word)
        marked = f"<{word}>"
        pieces = [marked[i : i + 3] for i in range(max(1, len(marked) - 2))]
        return np.asarray(sum(self._piece(p) for p in pieces) / np.sqrt(len(pieces)), np.float32)

    def _piece(self, text: str) -> NDArray[np.float32]:
        digest = hashlib.sha256(f"{self.params.seed}\x1f{text}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return (rng.standard_normal(self.params.dim) / np.sqrt(self.params.dim)).astype(np.float32)
