"""The waveform: samples as they are, at the wanted rate."""

from __future__ import annotations

import numpy as np
import pytest
from mmcl_modalities import MODALITIES, WaveformParams

from mmcl.api import Audio, DataError, Source
from mmcl.media import at_rate
from mmcl.testing import check_modality, check_spec

WAVEFORM = next(spec for spec in MODALITIES if spec.name == "waveform")
SOUND = Source("audio", "a voice")
TONE = np.sin(np.arange(4000) / 9).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_stream_is_the_sound_at_the_wanted_rate(rate):
    params = WaveformParams(sample_rate=rate)
    layout = WAVEFORM.layout(params, SOUND)
    values = WAVEFORM.build(params, SOUND).extract(Audio(TONE, 8000))
    assert (layout.rate, layout.sizes) == (rate, {"channel": 1})
    assert values.shape == (len(TONE) * rate // 8000, 1)
    assert np.array_equal(values[:, 0], TONE if rate == 8000 else at_rate(Audio(TONE, 8000), rate))


def test_what_is_no_sound_is_refused():
    with pytest.raises(DataError):
        WAVEFORM.build(WaveformParams(), SOUND).extract(Audio(np.zeros(0, np.float32), 8000))


def test_it_keeps_the_contract():
    check_spec(WAVEFORM)
    check_modality(WAVEFORM)
