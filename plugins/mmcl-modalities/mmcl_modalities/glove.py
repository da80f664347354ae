"""GloVe vectors out of the published text files, read once into a table on disk that every process maps."""

from __future__ import annotations

import codecs
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Timed, Words
from mmcl.media import cached_folder, is_number, progress

from . import GloveParams
from .words import plain, spoken_words

GET = "GloVe's files (glove.6B.zip, glove.840B.300d.zip) are at https://nlp.stanford.edu/projects/glove/"


class Glove:
    """A vector a word; capitals count where the file knows the word with them."""

    def __init__(self, params: GloveParams) -> None:
        self.params = params
        self._table: Table | None = None
        self._seen: Counter[str] = Counter()

    def extract(self, raw: Raw) -> Timed:
        """One step a word that is known (and one for each unknown word, unless those are skipped).

        Raises DataError if there is no word, no word is known and unknown ones are skipped, or the file cannot be used.
        """
        assert isinstance(raw, Words)
        words, times = spoken_words(raw, self.params.words_per_second)
        if self._table is None:
            self._table = open_table(Path(self.params.file).expanduser(), self.params.dim)
        vectors, kept = [], []
        for i, word in enumerate(words):
            vector = self._vector(word)
            self._seen["words"] += 1
            if vector is None:
                self._seen["words that are not in the vocabulary"] += 1
                if self.params.unknown == "skip":
                    continue
                vector = self._table.mean if self.params.unknown == "mean" else np.zeros(self.params.dim, np.float32)
            vectors.append(vector)
            kept.append(i)
        if not kept:
            raise DataError(f"none of its {len(words)} words is in {self.params.file}; the first is '{words[0]}'")
        return Timed(np.stack(vectors).astype(np.float32), times[kept])

    def counts(self) -> dict[str, int]:
        """Words read so far, and those of them that the file does not know."""
        return dict(self._seen)

    def _vector(self, word: str) -> NDArray[np.float32] | None:
        assert self._table is not None
        bare = word.strip()
        for form in dict.fromkeys((bare, plain(bare), bare.lower())):
            if (row := self._table.row(form)) is not None:
                return self._table.vectors[row]
        return None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_table": None}


class Table:
    """Vectors [words, dim] on disk, and where each word stands: sorted 64-bit digests beside their rows."""

    def __init__(self, folder: Path) -> None:
        self.vectors: NDArray[np.float32] = np.load(folder / "vectors.npy", mmap_mode="r")
        self._digests: NDArray[np.uint64] = np.load(folder / "digests.npy", mmap_mode="r")
        self._rows: NDArray[np.int64] = np.load(folder / "rows.npy", mmap_mode="r")
        self.mean: NDArray[np.float32] = np.load(folder / "mean.npy")

    def row(self, word: str) -> int | None:
        """The row of a word, or None."""
        wanted = np.uint64(digest(word))
        place = int(np.searchsorted(self._digests, wanted))
        return int(self._rows[place]) if place < len(self._digests) and self._digests[place] == wanted else None


def digest(word: str) -> int:
    """64 bits of a word: among two million words, two share them once in ten million files."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def open_table(path: Path, dim: int) -> Table:
    """The table of a text file; made on the first call, and again whenever the file has changed.

    Raises DataError if the file is missing, or a line of it is malformed.
    """
    if not path.is_file():
        raise DataError(f"{path}: is not there; a text file with a word and {dim} numbers a line was expected. {GET}")
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{dim}|2".encode()).hexdigest()[:16]
    return Table(cached_folder(f"glove-{key}", lambda folder: _read(path, dim, folder)))


def _read(path: Path, dim: int, folder: Path) -> None:
    """Write the table of a text file, holding one line of it at a time."""
    lines = 0
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        file.seek(0)
        while block := file.read(1 << 24):
            lines += block.count(b"\n")
            last = block[-1:]
        lines += path.stat().st_size > 0 and last != b"\n"
    if not lines:
        raise DataError(f"{path}: is empty; a word and {dim} numbers a line were expected")
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (lines, dim))
    digests, rows = np.zeros(lines, np.uint64), np.zeros(lines, np.int64)
    total, count = np.zeros(dim), 0
    with path.open(encoding=encoding, newline="\n") as file, progress(f"read {path.name}, once", lines) as tick:
        try:
            for number, line in enumerate(file, 1):
                if number % 10_000 == 0:
                    tick(number, "")
                line = line.rstrip(" \t\r\n")  # fastText ends its lines with a blank
                parts = line.rsplit(" ", dim)  # from the right: some words of glove.840B hold blanks
                if len(parts) != dim + 1 or "" in parts[1:]:
                    parts = line.rsplit(None, dim)  # tabs, or several blanks
                if number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                    continue  # word2vec's heading: how many words, how many numbers
                if len(parts) != dim + 1:
                    raise DataError(
                        f"{path}:{number}: has {len(line.split(' ')) - 1} numbers after the word; {dim} were expected (dim: {dim})"
                    )
                try:
                    values = np.array(parts[1:], np.float32)
                except ValueError:
                    bad = next(part for part in parts[1:] if not is_number(part))
                    raise DataError(f"{path}:{number}: '{bad}' is no number, after the word '{parts[0][:40]}'") from None
                if not np.isfinite(values).all():
                    raise DataError(f"{path}:{number}: the word '{parts[0][:40]}' has a value that is not finite")
                vectors[count] = values
                digests[count], rows[count] = digest(parts[0]), count
                total += values
                count += 1
            tick(lines, "")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not text in UTF-8 ({error.reason} after line {count})") from error
    order = np.argsort(digests[:count], kind="stable")  # of a word given twice the first one counts
    kept = order[np.concatenate([[True], np.diff(digests[:count][order]) > 0])]
    np.save(folder / "digests.npy", digests[kept])
    np.save(folder / "rows.npy", rows[kept])
    vectors.flush()
    np.save(folder / "mean.npy", (total / max(1, count)).astype(np.float32))
