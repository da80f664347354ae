"""A voice: harmonics of a moving pitch, a timbre per speaker, a rhythm per sentence, and a noisy room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import SAMPLE_RATE
from .clip import Clip, course, syllables

HARMONICS = np.arange(1, 9)


def sing(clip: Clip, person: NDArray[np.float64], times: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """The clip's waveform in [-1, 1]. Pitch and its movement show `pitch`, loudness and brightness show `rate`."""
    at = np.arange(round(clip.seconds * SAMPLE_RATE)) / SAMPLE_RATE
    coarse = np.arange(0, clip.seconds + 0.01, 0.01)  # what moves slowly is worked out a hundred times a second
    pitch, rate = clip.cues[0], clip.cues[1]
    grown = course(clip, coarse, rng)
    semitones = (
        1.8 * person[0]
        + 3.5 * pitch * grown
        + 2.0 * pitch * np.sin(2 * np.pi * (1.5 + 0.4 * rate) * coarse)
        + 0.4 * rng.standard_normal()
    )
    frequency = 150.0 * 2 ** (semitones / 12)
    phase = 2 * np.pi * np.cumsum(np.interp(at, coarse, frequency)) / SAMPLE_RATE
    loud = np.interp(at, coarse, (0.15 + syllables(clip, times, coarse)) * (1 + 0.4 * rate * grown))
    tilt = 1.3 - 0.5 * rate + 0.15 * person[1]  # a flatter spectrum is a tenser voice
    timbre = np.exp(0.5 * np.sin(HARMONICS * (1 + 0.3 * person[2]) + person[3]))
    strength = timbre * HARMONICS ** -max(tilt, 0.2)
    base = np.exp(1j * phase)
    sound = np.zeros_like(at)
    turn = np.ones_like(base)
    for amount in strength / np.linalg.norm(strength):
        turn = turn * base
        sound += amount * turn.imag
    sound *= loud * 10 ** (rng.uniform(-9, 9) / 20)  # the microphone's gain says nothing
    noise = rng.standard_normal(len(at))
    noise = 0.7 * noise + 0.3 * np.convolve(noise, np.ones(8) / 8, mode="same") * rng.uniform(0, 4)
    sound = sound + np.std(sound) * 10 ** (-rng.uniform(8, 18) / 20) * noise / np.std(noise)
    return (0.5 * sound / max(float(np.abs(sound).max()), 1e-9) * rng.uniform(0.2, 1)).astype(np.float32)
