"""Vectors of frozen models that put several modalities into one space: CLAP (sound, text), CLIP (pictures, text)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmcl.api import Audio, DataError, Pictures, Raw, Video, Words
from mmcl.media import blocks_at_rate, grouped_frames

from . import HfJointParams, folder_config, joint_step
from .features import load, place, spoken, why

AT_ONCE = 64
"""Pictures that go through the model together."""


class HfJoint:
    """One vector a recording, the mean of its pieces' of length 1, or one a piece: sound in pieces, pictures one by one, words together."""

    def __init__(self, params: HfJointParams) -> None:
        self.params = params
        self._model: Any = None
        self._processor: Any = None

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[dim], or [pieces, dim] with `pool: none`. Raises DataError if nothing is said, or the model cannot be had."""
        assert isinstance(raw, Audio | Video | Words | Pictures)
        if self._model is None:
            self._model = load(self.params.model, "hf-joint").requires_grad_(False)
            self._processor = _processor_of(self.params.model, raw)
        with torch.inference_mode():
            if isinstance(raw, Words):
                given = self._processor(" ".join(spoken(raw, 1.0)[0]), return_tensors="pt", truncation=True)
                parts = [self._model.get_text_features(**given)]
            elif isinstance(raw, Audio):
                rate = int(self._processor.sampling_rate)
                parts = [self._sound(piece, rate) for piece in self._pieces(blocks_at_rate(raw, rate), rate)]
            elif isinstance(raw, Pictures):
                parts = [self._pictures(group) for group in grouped_frames([raw.pictures], AT_ONCE)]
            else:
                shown = grouped_frames(raw.blocks(), AT_ONCE, self._shown(raw.rate))
                parts = [self._pictures(group) for group in shown]
        if not parts:
            raise DataError("has no pictures")
        vectors = torch.cat([_tensor(part) for part in parts]).float()
        values: NDArray[np.float32] = torch.nn.functional.normalize(vectors, dim=-1).numpy()
        width = folder_config(self.params.model, "hf-joint").get("projection_dim", self.params.dim)
        if values.shape[1] != width:
            raise DataError(f"model '{self.params.model}' gives {values.shape[1]} values a vector; {width} were expected")
        return values if self.params.pool == "none" else values.mean(0)

    def _pieces(self, blocks: Iterable[NDArray[np.float32]], rate: int) -> Iterator[NDArray[np.float32]]:
        """Pieces as long as from one to the next; the last as long as it is, unless it is too short to be heard."""
        size = max(1, round(joint_step(self.params, "audio") * rate))
        left = np.empty(0, np.float32)
        count = 0
        for block in blocks:
            left = np.concatenate([left, block])
            while len(left) > size:
                yield left[:size]
                left = left[size:]
                count += 1
        if not count or self.params.pool != "mean" or len(left) >= size / 10:
            yield left

    def _sound(self, piece: NDArray[np.float32], rate: int) -> Any:
        if len(piece) == 0:
            raise DataError("the sound is empty")
        if len(piece) > int(self._processor.nb_max_samples):  # longer pieces would be cut at random
            raise DataError(f"step: {self.params.step:g} s is longer than model '{self.params.model}' reads at a time")
        given = self._processor(piece, sampling_rate=rate, return_tensors="pt")
        return self._model.get_audio_features(**given)

    def _shown(self, rate: float) -> Callable[[int, int], NDArray[np.intp]]:
        """Which picture is shown at each step."""
        every = joint_step(self.params, "video")

        def at(step: int, n: int) -> NDArray[np.intp]:
            count = max(1, int(np.ceil(n / rate / every - 1e-6)))
            return np.minimum((np.arange(step, count) * every * rate).round().astype(np.intp), n - 1)

        return at

    def _pictures(self, frames: NDArray[np.uint8]) -> Any:
        given = self._processor(images=[torch.from_numpy(frame) for frame in frames], return_tensors="pt")
        return self._model.get_image_features(**given)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_processor": None}


def _processor_of(model: str, raw: Raw) -> Any:
    """What turns raw data into the model's input. Raises DataError if it cannot be had."""
    import transformers

    kinds = {Words: "AutoTokenizer", Audio: "AutoFeatureExtractor", Video: "AutoImageProcessor", Pictures: "AutoImageProcessor"}
    try:
        kind = next(name for known, name in kinds.items() if isinstance(raw, known))  # a long sound is a class of its own
        return getattr(transformers, kind).from_pretrained(place(model), trust_remote_code=False)
    except Exception as error:
        raise DataError(why(model, error)) from error


def _tensor(output: Any) -> torch.Tensor:
    """The projected vectors [n, dim]; newer versions of the library put them into an object."""
    vectors: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return vectors
