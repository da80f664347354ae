"""Log-mel of a voice at its absolute level, with what else is known of each step."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mmcl.api import Audio, Raw, Timed

from . import VoiceMelParams
from .contours import Spectrum, active, changes, listened, melody, trimmed


class VoiceMel:
    """Bands in dB of full scale: how loud a voice is stays in it."""

    def __init__(self, params: VoiceMelParams) -> None:
        self.params, self.spectrum = params, Spectrum(params)
        self.rate = self.spectrum.rate
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.float32] | Timed:
        """[T, channel], step k around k · hop. Raises DataError for sound that is empty, NaN or infinite."""
        assert isinstance(raw, Audio)
        params = self.params
        wanted = bool({"pitch", "voicing"} & set(params.extras))
        bands, level, tones, _ = listened(raw, self.spectrum, params, wanted)
        activity = active(level, params.top_db, self.rate)
        channels = {"level": np.maximum(level, params.floor), "activity": activity.astype(np.float32)}
        if tones is not None:
            pitch = melody(tones, activity)
            channels |= {"pitch": pitch[:, 0], "voicing": pitch[:, 1]}
        extras = [channels[name][:, None] for name in params.extras]
        values = np.concatenate([np.maximum(bands, params.floor), *extras], axis=1)
        rows = [values]
        for _ in range(params.deltas):
            rows.append(changes(rows[-1], self.rate))
        values = np.concatenate(rows, axis=1)
        if params.silence == "keep":
            return values
        kept = np.flatnonzero(activity)
        if params.silence == "trim":
            kept = np.arange(len(values))[trimmed(activity)]
        self._counts["steps of sound"] += len(values)
        self._counts["steps left out as silence"] += len(values) - len(kept)
        if params.clock == "own":
            return np.ascontiguousarray(values[kept])
        times = np.stack([np.maximum(kept - 0.5, 0.0), kept + 0.5], axis=1) / self.rate
        return Timed(np.ascontiguousarray(values[kept]), times)

    def counts(self) -> dict[str, int]:
        """How much was taken for silence so far."""
        return dict(self._counts)
