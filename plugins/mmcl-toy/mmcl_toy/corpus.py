"""Which clips there are, and what each expresses. Everything is drawn from (seed, clip, purpose): no draw depends on another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from mmcl.api import Audio, DataError, Raw, SampleRef, Sequence, Video, Words

from . import EMOTIONS, FACE_RATE, LANDMARK_RATE, SAMPLE_RATE, ToyParams
from .clip import Clip

CUES = ("pitch", "rate", "mouth", "brow", "eyes", "words")
"""What an emotion shows in. Voice: pitch and rate. Landmarks: mouth and brow. Face: eyes and mouth. Words: words."""

USUAL = np.array(
    [  # pitch rate mouth brow eyes words
        [+1, +1, +1, 0, 0, +1],  # happy
        [-1, -1, -1, +1, -1, -1],  # sad
        [-1, +1, -1, -1, 0, -1],  # anger
        [+1, 0, 0, +1, +1, 0],  # surprise
        [-1, -1, -1, -1, -1, 0],  # disgust: as sad in the voice, as anger in mouth and brow
        [+1, +1, -1, +1, +1, -1],  # fear: as happy in the voice, as sad in mouth and brow
    ],
    float,
)
"""The usual expression of each emotion: no modality tells all six apart, all together do."""

TOGETHER = np.eye(6) + 0.6 * np.eye(6)[[3, 4, 5, 0, 1, 2]]
"""Cues that move together in people: pitch with brow, rate with eyes, mouth with words. So each modality shows a little of what another
shows, which is what contrasting them can find."""

SENTENCES = (
    "the train from the north arrives at seven",
    "they put the new table near the window",
    "he said that the letter came this morning",
    "we will meet them at the station today",
    "she left the keys on the kitchen shelf",
    "the children are talking by the door",
    "there was a man waiting in the garden",
    "i heard the news on the radio",
    "the doctor called about the results",
    "you should see what they did to the house",
    "my brother bought the old car",
    "it rained all day in the village",
)
VALUED = {
    1: ("lovely", "great", "wonderful", "glad", "sweet", "bright"),
    0: ("really", "just", "suddenly", "somehow", "again", "apparently"),
    -1: ("awful", "bad", "terrible", "ruined", "cold", "wrong"),
}
"""Words that an expression of the value adds to a sentence."""


class Toy:
    """The corpus. Listing is cheap: nothing is drawn or sung before it is read."""

    def __init__(self, params: ToyParams) -> None:
        self.params = params
        self._order = self.generator("splits").permutation(params.speakers)

    def generator(self, *where: str | int) -> np.random.Generator:
        """A generator for one purpose."""
        text = "\x1f".join(map(str, (self.params.seed, *where)))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))

    def clip(self, number: int) -> Clip:
        """What clip `number` is about."""
        rng = self.generator("clip", number)
        emotion = int(rng.integers(len(EMOTIONS)))
        label = int(rng.integers(len(EMOTIONS))) if rng.random() < self.params.label_noise else emotion
        strength = rng.uniform(0.6, 1.2)  # one strength for the whole clip: shared by all modalities
        own = strength * USUAL[emotion] + self.params.spread * rng.standard_normal(len(CUES))
        cues = TOGETHER @ own / np.hypot(1, 0.6)
        absent = [s for s in ("words", "audio", "faces", "landmarks") if rng.random() < self.params.missing]
        if len(absent) == 4:
            absent.pop(int(rng.integers(4)))
        seconds = float(np.clip(2.1 - 0.25 * cues[1] + 0.15 * rng.standard_normal(), 1.5, 2.8))
        return Clip(
            number,
            number % self.params.speakers,
            int(rng.integers(len(SENTENCES))),
            emotion,
            label,
            cues,
            seconds,
            tuple(absent),
        )

    def samples(self) -> SequenceOf[SampleRef]:
        """Every clip, speakers taking turns."""
        people = self.params.speakers
        first, second = round(0.6 * people), round(0.75 * people)
        split = {int(s): "train" if i < first else "valid" if i < second else "test" for i, s in enumerate(self._order)}
        refs = []
        for number in range(self.params.samples):
            clip = self.clip(number)
            refs.append(
                SampleRef(
                    id=f"toy-{number:05d}",
                    group=f"speaker-{clip.speaker:03d}",
                    sources={
                        s: f"toy:{self.params.seed}:{number}:{s}"
                        for s in ("words", "audio", "faces", "landmarks")
                        if s not in clip.missing
                    },
                    targets={"emotion": clip.label},
                    split=split[clip.speaker],
                    facts={"sentence": SENTENCES[clip.sentence]},
                )
            )
        return refs

    def read(self, id: str, source: str) -> Raw:
        """One source of one clip, drawn now."""
        clip = self.clip(int(id.removeprefix("toy-")))
        if source in clip.missing:
            raise DataError(f"{id}: has no {source}")
        rng = self.generator("render", clip.number, source)
        if source == "words":
            words, times = self.spoken(clip)
            return Words(words, times)
        _, times = self.spoken(clip)
        if source == "audio":
            from .voice import sing

            return Audio(sing(clip, self.person(clip.speaker), times, rng), SAMPLE_RATE)
        from .face import draw, landmarks

        if source == "faces":
            return Video(draw(clip, self.person(clip.speaker), times, rng), FACE_RATE)
        return Sequence(landmarks(clip, self.person(clip.speaker), times, rng), LANDMARK_RATE)

    def person(self, number: int) -> NDArray[np.float64]:
        """What makes a speaker: 16 numbers, Gaussian, the same in every clip."""
        return self.generator("speaker", number).standard_normal(16)

    def spoken(self, clip: Clip) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """The words of a clip and when each is said: a sentence, with words of its value put in."""
        rng = self.generator("words", clip.number)
        words = SENTENCES[clip.sentence].split()
        value = int(np.clip(round(clip.cues[5]), -1, 1))
        for _ in range(2):
            chosen = value if rng.random() < 0.8 else int(rng.integers(-1, 2))
            words.insert(int(rng.integers(1, len(words) + 1)), VALUED[chosen][int(rng.integers(len(VALUED[chosen])))])
        weight = np.array([len(w) + 1.5 for w in words]) * rng.uniform(0.85, 1.15, len(words))
        ends = np.cumsum(weight) / weight.sum() * (clip.seconds - 0.3) + 0.15
        starts = np.concatenate([[0.15], ends[:-1]])
        return tuple(words), np.stack([starts, ends], axis=1)
