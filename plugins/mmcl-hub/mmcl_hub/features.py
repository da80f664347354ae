"""Features of frozen models of the transformers library: eval mode, no gradient, the same numbers every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmcl.api import Audio, DataError, Raw, Timed, Words
from mmcl.media import at_rate

from . import HfParams, HfSpeechParams, HfTextParams, HfTokensParams, depth_of, folder_config, width_of
from .packages import WHISPER, locate, package_of, unpacked
from .whisper import build_encoder, encode

RATE = 16_000


def load(name: str, what: str) -> Any:
    """A model in eval mode. Raises DataError if the library or the model cannot be had."""
    try:
        import transformers
    except ImportError as error:
        raise DataError(f"'{what}' needs the transformers library: pip install 'mmcl[hf]'") from error
    transformers.logging.set_verbosity_error()
    if package_of(name) is WHISPER:
        return build_encoder(locate(WHISPER), WHISPER.config)
    where = place(name)
    try:
        model = transformers.AutoModel.from_pretrained(where, trust_remote_code=False)
    except Exception as error:
        raise DataError(why(name, error)) from error
    return model.get_encoder().eval() if model.config.model_type == "whisper" else model.eval()


def place(model: str) -> str:
    """A folder's path, with the home folder written out, that of what a package carries, or a name on the hub as it is."""
    if (package := package_of(model)) is not None:
        return str(unpacked(package))
    folder = Path(model).expanduser()
    return str(folder) if folder.is_dir() else model


def why(model: str, error: Exception) -> str:
    """The library's reason, in one sentence, and what to do."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"model '{model}' cannot be loaded ({reason[:160]}); give the folder of a saved one, or fetch it where there is a network"


def stepwise(hidden: tuple[torch.Tensor, ...], params: HfParams, what: str) -> NDArray[np.float32]:
    """The hidden layer that the options name [T, D], or all of them [T, layer, D]. Raises DataError if they are not as the layout says."""
    if params.layers == "all":
        values: NDArray[np.float32] = torch.cat(hidden).transpose(0, 1).float().numpy()
        if values.shape[1] != depth_of(params, what):
            raise DataError(f"model '{params.model}' gives {values.shape[1]} layers; {depth_of(params, what)} were expected")
    else:
        values = picked(hidden, params.layer, params.model)[0].float().numpy()
    if values.shape[-1] != width_of(params, what):
        raise DataError(f"model '{params.model}' gives {values.shape[-1]} features a step; dim says {params.dim}")
    return values


def picked(hidden: tuple[torch.Tensor, ...], layer: int, model: str) -> torch.Tensor:
    """One of the hidden layers [1, T, D]."""
    if not -len(hidden) <= layer < len(hidden):
        raise DataError(f"model '{model}' has {len(hidden)} hidden layers (the embedding is 0); layer {layer} is none of them")
    return hidden[layer]


class HfText:
    """One step a token, special tokens included (the first is the model's class token), at the times of its word."""

    def __init__(self, params: HfTextParams) -> None:
        self.params = params
        self._model: Any = None
        self._tokenizer: Any = None

    def extract(self, raw: Raw) -> NDArray[np.float32] | Timed:
        """[tokens, dim] with times, or their mean, or mean and deviation. Raises DataError if nothing is said, or the model cannot be had."""
        assert isinstance(raw, Words)
        words, spans = spoken(raw, self.params.words_per_second)
        if self._model is None:
            self._model = load(self.params.model, "hf-text").requires_grad_(False)
            self._tokenizer = tokenizer_of(self.params.model)
        given = tokens(self._tokenizer, words, self.params.longest)
        with torch.inference_mode():
            output = self._model(**{name: given[name] for name in ("input_ids", "attention_mask")}, output_hidden_states=True)
        values = stepwise(output.hidden_states, self.params, "hf-text")
        if self.params.pool != "none":
            return pooled(values, self.params.pool)
        return Timed(values, times_of(given.word_ids(0), spans))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_tokenizer": None}


def pooled(values: NDArray[np.float32], pool: str) -> NDArray[np.float32]:
    """The mean over the steps [D], or the mean and after it the deviation [2 D]."""
    parts = [values.mean(0), values.std(0)] if pool == "mean+std" else [values.mean(0)]
    return np.concatenate(parts)


class HfTokens:
    """The id of every token, special ones included, at the times of its word; whole numbers, which a float32 holds up to 2²⁴."""

    def __init__(self, params: HfTokensParams) -> None:
        self.params = params
        self._tokenizer: Any = None

    def extract(self, raw: Raw) -> Timed:
        """[tokens, 1] with times. Raises DataError if nothing is said, the tokenizer cannot be had, or is not this model's."""
        assert isinstance(raw, Words)
        words, spans = spoken(raw, self.params.words_per_second)
        if self._tokenizer is None:
            self._tokenizer = tokenizer_of(self.params.model)
        given = tokens(self._tokenizer, words, self.params.longest)
        ids = given["input_ids"][0].numpy()
        vocab = folder_config(self.params.model, "hf-tokens").get("vocab_size")
        if isinstance(vocab, int) and int(ids.max()) >= vocab:
            raise DataError(f"model '{self.params.model}' knows {vocab} ids, but its tokenizer gives {int(ids.max())}")
        return Timed(ids[:, None].astype(np.float32), times_of(given.word_ids(0), spans))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None}


def spoken(raw: Words, words_per_second: float) -> tuple[list[str], NDArray[np.float64]]:
    """The words that are none of them empty, and the seconds of each [n, 2]. Raises DataError if there is none."""
    words = [word.strip() for word in raw.words]
    kept = [i for i, word in enumerate(words) if word]
    if not kept:
        raise DataError("the transcript is empty")
    if raw.times is not None:
        return [words[i] for i in kept], np.asarray(raw.times, np.float64)[kept]
    first = np.arange(len(kept)) / words_per_second
    return [words[i] for i in kept], np.stack([first, first + 1 / words_per_second], 1)


def tokenizer_of(model: str) -> Any:
    """A model's tokenizer. Raises DataError if it cannot be had."""
    try:
        import transformers
    except ImportError as error:
        raise DataError("tokens need the transformers library: pip install 'mmcl[hf]'") from error
    where = place(model)
    try:
        return transformers.AutoTokenizer.from_pretrained(where, use_fast=True, add_prefix_space=True, trust_remote_code=False)
    except Exception as error:
        raise DataError(why(model, error)) from error


def tokens(tokenizer: Any, words: list[str], longest: int) -> Any:
    """Ids of the words, with the special tokens that the model wants, as tensors [1, T]."""
    return tokenizer(words, is_split_into_words=True, truncation=True, max_length=longest, return_tensors="pt")


def times_of(ids: list[int | None], spans: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of every token [T, 2] from the words' and which word each is of; special ones lie at the beginning or at the end."""
    ends = (spans[:1, 0].repeat(2), spans[-1:, 1].repeat(2))
    seen = False
    rows = []
    for id in ids:
        rows.append(spans[id] if id is not None else ends[seen])
        seen = seen or id is not None
    return np.array(rows, np.float64)


class HfSpeech:
    """One step every 20 ms (of the usual models), from sound at 16 kHz."""

    def __init__(self, params: HfSpeechParams) -> None:
        self.params = params
        self._model: Any = None
        self._normalise = True

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, dim], or the mean, or mean and deviation. Raises DataError if the sound is too short for one step, or the model cannot be had."""
        assert isinstance(raw, Audio)
        if self._model is None:
            self._model = load(self.params.model, "hf-speech").requires_grad_(False)
            self._normalise = _normalises(self.params.model)
        samples = at_rate(raw, RATE, self.params.longest)
        whisper = self._model.config.model_type == "whisper"
        hidden = encode(self._model, samples) if whisper else self._hidden(samples)
        values = stepwise(hidden, self.params, "hf-speech")
        return values if self.params.pool == "none" else pooled(values, self.params.pool)

    def _hidden(self, samples: NDArray[np.float32]) -> tuple[torch.Tensor, ...]:
        if self._normalise:
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        try:
            with torch.inference_mode():
                output = self._model(torch.from_numpy(samples)[None], output_hidden_states=True)
        except RuntimeError as error:
            raise DataError(
                f"lasts {len(samples) / RATE:.3f} s, which is too short for one step of '{self.params.model}'"
            ) from error
        hidden: tuple[torch.Tensor, ...] = output.hidden_states
        return hidden

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}


def _normalises(model: str) -> bool:
    """Whether the model's own preprocessing brings sound to mean 0 and deviation 1; true where nothing is said."""
    import json

    path = Path(model).expanduser() / "preprocessor_config.json"
    if not path.is_file():
        return True
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", True))
    except ValueError:
        return True
