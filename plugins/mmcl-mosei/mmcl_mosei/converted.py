"""Segments out of a converted pickle: index.json and arrays.safetensors, as `python -m mmcl_mosei.convert` writes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcl.api import DataError, Raw, SampleRef
from mmcl.api import Sequence as RawSequence
from mmcl.media import require_folder

from . import EMOTIONS, WORD_RATE, MoseiParams
from .convert import UNREAD
from .labels import targets, within_scale

EXPECTED = "index.json and arrays.safetensors, as `python -m mmcl_mosei.convert FILE.pkl FOLDER` writes them"
GET = "Convert one of the widely used pickled dictionaries with that command."


class Converted:
    """Rows of a converted file, in its order."""

    def __init__(self, params: MoseiParams, root: Path | None, emotions: bool) -> None:
        self.params, self._root, self._emotions = params, root, emotions
        self._index: dict[str, Any] | None = None
        self._where: dict[str, tuple[str, int]] = {}
        self._arrays: Any = None
        self._seen: Counter[str] = Counter()
        self._samples: tuple[SampleRef, ...] | None = None

    def samples(self) -> Sequence[SampleRef]:
        """Every row."""
        if self._samples is None:
            self._samples = tuple(self._listing())
        return self._samples

    def _listing(self) -> list[SampleRef]:
        root = require_folder(self._root, EXPECTED, GET, ("index.json",))
        index = self._read_index(root)
        self._seen.update(index.get("remarks", {}))
        if unread := index.get("unread"):
            self._seen[f"{UNREAD}: {', '.join(unread)}"] = len(unread)
        refs = []
        for split in ("train", "valid", "test"):
            rows = index["splits"].get(split)
            if rows is None:
                continue
            order = rows.get("emotions")
            lacking = [name for name in EMOTIONS if name not in order] if order and self._emotions else []
            if lacking:
                self._seen[f"segments without labels of {', '.join(lacking)}, and so without emotions"] += len(rows["ids"])
            for i, id in enumerate(rows["ids"]):
                values = None
                if order and self._emotions and not lacking:
                    row = dict(zip(order, rows["labels"][i], strict=True))
                    values = [float(row[name]) for name in EMOTIONS]
                sentiment = None if rows.get("sentiment") is None else rows["sentiment"][i]
                sentiment, values = within_scale(sentiment, values, self._seen)
                self._where[id] = (split, i)
                sources = {name: "arrays.safetensors" for name in rows["arrays"] if self._length(rows, name, i)}
                refs.append(
                    SampleRef(
                        id=id,
                        group=rows["groups"][i],
                        sources=sources,
                        split=split,
                        targets=targets(sentiment, values, self.params.min_intensity),
                    )
                )
        return refs

    def read(self, id: str, source: str) -> Raw:
        """One array of one row, without its padding."""
        if not self._where:
            self.samples()
        root = require_folder(self._root, EXPECTED, GET, ("index.json",))
        if id not in self._where:
            raise DataError(f"{root / 'index.json'}: there is no row '{id}'")
        split, i = self._where[id]
        rows = self._read_index(root)["splits"][split]
        if self._arrays is None:
            from safetensors import safe_open

            try:
                self._arrays = safe_open(str(root / "arrays.safetensors"), "np")
            except Exception as error:
                raise DataError(f"{root / 'arrays.safetensors'}: cannot be read; convert the pickle again") from error
        rate = self._rate(rows, source, i, root)
        first = rows["arrays"][source]["offsets"][i]
        values = self._arrays.get_slice(f"{split}/{source}")[first : first + self._length(rows, source, i)]
        bad = ~np.isfinite(values)
        if bad.any():
            self._seen[f"values of {source} that were no numbers, taken as 0"] += int(bad.sum())
            values = np.where(bad, 0, values)
        widths = dict(zip(("text", "audio", "vision"), self.params.widths, strict=True))
        if values.shape[1] != widths[source]:
            right = list({**widths, source: values.shape[1]}.values())
            raise DataError(
                f"{root / 'index.json'}: {source} has {values.shape[1]} features, the recipe says {widths[source]}; set dataset.widths: {right}"
            )
        return RawSequence(values.astype(np.float32), rate)

    def counts(self) -> dict[str, int]:
        """What was odd in what has been read so far."""
        return dict(self._seen)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}

    def _length(self, rows: dict[str, Any], name: str, i: int) -> int:
        return int(rows["arrays"][name]["lengths"][i])

    def _rate(self, rows: dict[str, Any], source: str, i: int, root: Path) -> float:
        """Steps a second, where a second is a word: every stream spans the same clip, whatever its number of steps."""
        lengths = {name: length for name in rows["arrays"] if (length := self._length(rows, name, i))}
        name = "text" if "text" in lengths else min(lengths, key=lambda name: lengths[name], default=source)
        words, own = lengths.get(name, 0), lengths.get(source, 0)
        if not own:
            raise DataError(f"{root / 'index.json'}: '{rows['ids'][i]}' has no step of {source}")
        if self.params.align == "words" and own != words:
            raise DataError(
                f"{root / 'index.json'}: '{rows['ids'][i]}' has {own} steps of {source} and {words} of {name}; a file that is not aligned by "
                "word is read with dataset.align: none"
            )
        return WORD_RATE * own / words

    def _read_index(self, root: Path) -> dict[str, Any]:
        if self._index is None:
            try:
                self._index = json.loads((root / "index.json").read_text(encoding="utf-8"))
                if self._index.get("format") != 1:
                    raise ValueError("format is not 1")
            except (OSError, ValueError, AttributeError) as error:
                raise DataError(f"{root / 'index.json'}: cannot be read ({error}); expected: {EXPECTED}") from error
        assert self._index is not None
        return self._index
