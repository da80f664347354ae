"""SSE-FT: features of frozen self-supervised models, a transformer with a class token, fusion by inter-modality attention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from mmcl.api import (
    Backbone,
    BackboneSpec,
    DataError,
    Field,
    Head,
    HeadSpec,
    Kind,
    Layout,
    Modality,
    ModalitySpec,
    Params,
    PublishedSpec,
    Register,
    Source,
    Task,
    hookimpl,
)

from .published import SSE_FT

FAB_NET_PAGE = "https://www.robots.ox.ac.uk/~vgg/research/unsup_learn_watch_faces/fabnet.html"
"""Where FAb-Net's authors offer its weights."""

EMBEDDING = 256
"""Values of FAb-Net's embedding."""

RANDOM = "none"
"""What `weights` says for random ones."""

PAPER = "SSE-FT: Siriwardhana et al., Multimodal Emotion Recognition with Transformer-Based Self Supervised Feature Fusion, IEEE Access 2020"
FAB_NET = "FAb-Net: Wiles, Koepke & Zisserman, Self-supervised learning of a facial attribute embedding from video, BMVC 2018; used by SSE-FT"


class HfParams(Params):
    """Options that both modalities share."""

    model: str = Field(
        "", description="folder of a saved model (config.json, weights), or a name on the hub, fetched once; needed"
    )
    dim: int | None = Field(
        None, ge=1, description="features a step; read from the folder's config.json, needed for a name on the hub"
    )
    layer: int = Field(-1, ge=-64, le=64, description="which hidden layer: 0 is the embedding, −1 the last")
    pool: Literal["none", "mean"] = Field("none", description="none: every step; mean: one vector a recording")


class HfTextParams(HfParams):
    """Options of `hf-text`."""

    longest: int = Field(512, ge=4, description="tokens that are read, special ones included; what comes after is cut")
    words_per_second: float = Field(2.5, gt=0, description="speaking rate assumed where nobody measured times")


class HfSpeechParams(HfParams):
    """Options of `hf-speech`."""

    longest: float = Field(30.0, gt=0, description="seconds that are read; what comes after is cut")


def folder_config(model: str, what: str) -> Mapping[str, object]:
    """config.json of a local folder, or nothing for a name on the hub. Raises ValueError with a sentence."""
    if not model:
        raise ValueError(f"'{what}' needs a model: the folder of a saved one, or a name on the hub")
    path = Path(model).expanduser() / "config.json"
    if path.is_file():
        try:
            found: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: is not JSON ({error})") from error
        return found
    if path.parent.is_dir():
        raise ValueError(f"{path.parent}: has no config.json; a folder that save_pretrained wrote was expected")
    return {}


def config_of(params: HfParams, what: str) -> Mapping[str, object]:
    """config.json of a local folder, or nothing for a name on the hub that says its dim. Raises ValueError with a sentence."""
    found = folder_config(params.model, what)
    if not found and params.dim is None:
        raise ValueError(
            f"model '{params.model}' is no folder here; for a name on the hub say how many features a step it has (dim:)"
        )
    return found


def width_of(params: HfParams, what: str) -> int:
    """Features a step."""
    said = config_of(params, what).get("hidden_size", params.dim)
    if not isinstance(said, int) or (params.dim is not None and params.dim != said):
        raise ValueError(f"model '{params.model}' has {said} features a step, dim says {params.dim}")
    return said


def _layout(params: HfParams, what: str, kind: str, rate: float | None) -> Layout:
    channels = {"channel": width_of(params, what)}
    return (
        Layout("vector", ("channel",), channels) if params.pool == "mean" else Layout(kind, ("time", "channel"), channels, rate)
    )


def text_layout(params: HfTextParams, source: Source) -> Layout:
    """A vector a token, at the times of its word."""
    return _layout(params, "hf-text", "word-vectors", None)


def speech_layout(params: HfSpeechParams, source: Source) -> Layout:
    """A vector every so many samples of 16 kHz, as the model's convolutions have it (320 for the usual ones)."""
    stride = 1
    strides = config_of(params, "hf-speech").get("conv_stride", (5, 2, 2, 2, 2, 2, 2))
    for one in strides if isinstance(strides, list | tuple) else ():
        stride *= int(one)
    return _layout(params, "hf-speech", "signal", 16_000 / stride)


def build_text(params: HfTextParams, source: Source) -> Modality:
    """The modality."""
    from .features import HfText

    return HfText(params)


def build_speech(params: HfSpeechParams, source: Source) -> Modality:
    """The modality."""
    from .features import HfSpeech

    return HfSpeech(params)


class HfTokensParams(Params):
    """Options of `hf-tokens`."""

    model: str = Field(
        "", description="folder of a saved model with its tokenizer and config.json, or a name on the hub, fetched once; needed"
    )
    longest: int = Field(512, ge=4, description="tokens that are read, special ones included; what comes after is cut")
    words_per_second: float = Field(2.5, gt=0, description="speaking rate assumed where nobody measured times")


def tokens_layout(params: HfTokensParams, source: Source) -> Layout:
    """An id a token, at the times of its word. The notes say whose ids they are; of a folder, also its config.json.

    So what is saved with this layout can build the model again where the folder is gone.
    """
    config = folder_config(params.model, "hf-tokens")
    notes: dict[str, object] = {"model": params.model, "longest": params.longest}
    if config:
        notes |= {"vocab": config.get("vocab_size"), "config": config}
    return Layout("tokens", ("time", "token"), {"token": 1}, notes=notes)


def build_tokens(params: HfTokensParams, source: Source) -> Modality:
    """The modality."""
    from .features import HfTokens

    return HfTokens(params)


class HfEncoderParams(Params):
    """Options of `hf-encoder`."""

    model: str = Field(
        "",
        description="folder of a saved text model, or a name on the hub, fetched once; left out: the one whose tokenizer made the ids",
    )
    weights: Literal["pretrained", "random"] = Field(
        "pretrained", description="first weights: those of the model, or random ones of the same architecture"
    )
    layers: int | None = Field(
        None,
        ge=0,
        description="layers that are trained, from the top; all else stays as it is, without dropout. Left out: all is trained",
    )
    pool: Literal["cls", "mean", "additive"] = Field(
        "cls",
        description="the vector: the first token (BERT's [CLS], RoBERTa's <s>), the mean of all tokens, or a linear layer and additive "
        "attention, as UniVA has it; every step goes on besides, for heads that read sequences",
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="dropout before additive attention; the model's own is in its config.json"
    )


def encoder_config(params: HfEncoderParams, layout: Layout) -> Mapping[str, object]:
    """config.json of the model: the layout's where the ids are that model's own, else the folder's; nothing for a name on the hub."""
    own = layout.notes.get("config", {})
    if own and params.model in ("", layout.notes.get("model")):
        return dict(own)
    return folder_config(params.model or str(layout.notes.get("model", "")), "hf-encoder")


OFFSET = ("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "longformer", "mpnet")
"""Families that count positions from the padding's id + 1, and so have so many fewer."""


def encoder_fits(params: HfEncoderParams, layout: Layout) -> None:
    """Refuse a model of other ids, of too few positions or layers, or with a decoder."""
    if layout.sizes.get("token") != 1:
        raise ValueError(f"'hf-encoder' reads one id a step; these have {layout.sizes.get('token')}")
    config = encoder_config(params, layout)
    if not config:
        return
    model = params.model or layout.notes.get("model")

    def number(key: str) -> int | None:
        found = config.get(key)
        return found if isinstance(found, int) else None

    vocab, ids = number("vocab_size"), layout.notes.get("vocab")
    if vocab is not None and isinstance(ids, int) and ids != vocab:
        raise ValueError(
            f"model '{model}' knows {vocab} ids; those of '{layout.notes.get('model')}' are {ids}: take one model for both"
        )
    if config.get("is_encoder_decoder"):
        raise ValueError(f"model '{model}' has a decoder; an encoder such as BERT or RoBERTa is needed")
    layers = number("num_hidden_layers") or number("n_layers")
    if params.layers is not None and layers is not None and params.layers > layers:
        raise ValueError(f"model '{model}' has {layers} layers; layers: {params.layers} is more")
    positions, longest = number("max_position_embeddings"), layout.notes.get("longest")
    if positions and config.get("model_type") in OFFSET:
        positions -= 1 + (number("pad_token_id") or 0)
    if positions and isinstance(longest, int) and longest > positions:
        raise ValueError(
            f"model '{model}' has positions for {positions} tokens; set longest: {positions} or less where the ids are made"
        )


def build_hf_encoder(params: HfEncoderParams, layout: Layout) -> Backbone:
    """The network, with the model's own weights unless the options say random."""
    from .finetuned import HfEncoder

    return HfEncoder(params, layout, pretrained=params.weights == "pretrained")


def rebuild_hf_encoder(params: HfEncoderParams, layout: Layout) -> Backbone:
    """The network with random weights, for saved ones: the model's own are not read."""
    from .finetuned import HfEncoder

    return HfEncoder(params, layout, pretrained=False)


class FabNetParams(Params):
    """Options of `fab-net`."""

    weights: str = Field(
        "",
        description="path of FAb-Net's checkpoint (.safetensors, or a torch file of tensors), never downloaded; or none: random weights, "
        "which know nothing of faces; needed",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the random weights of weights: none")
    fps: float | None = Field(None, gt=0, description="frames per second to take, the nearest ones; left out: all")
    size: int = Field(
        256,
        ge=256,
        le=1024,
        description="height and width in pixels to which frames are squeezed; above 256, places are averaged",
    )
    longest: int | None = Field(
        None, ge=1, description="frames that are read, what comes after is cut (SSE-FT: 300); left out: all"
    )
    pool: Literal["none", "mean"] = Field("none", description="none: every frame; mean: one vector a recording")
    batch: int = Field(
        32,
        ge=1,
        le=4096,
        description="frames that go through the network together: more need more memory; values agree but for rounding",
    )


def weights_file(params: FabNetParams) -> Path:
    """The checkpoint. Raises DataError, with the way to get it, if it is not there."""
    path = Path(params.weights).expanduser()
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file of weights; download FAb-Net's model by hand from its authors' page ({FAB_NET_PAGE}) and set "
            "weights: to its path, or weights: none for random ones"
        )
    return path


def fab_net_layout(params: FabNetParams, source: Source) -> Layout:
    """256 values a frame, or a recording; the notes say whose weights they come from."""
    shape = [int(n) for n in source.notes.get("shape", ())]
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"'fab-net' reads 1 or 3 channels × height × width; the source has frames of shape {shape or 'unknown'}"
        )
    if params.fps is not None and source.rate is not None and params.fps > source.rate:
        raise ValueError(f"fps {params.fps:g} is above the source's {source.rate:g} frames per second")
    rate = params.fps or source.rate
    if rate is None and params.pool == "none":
        raise ValueError("the source does not say its frame rate; set fps:")
    if not params.weights:
        raise ValueError(
            "'fab-net' needs a model's weights: the path of FAb-Net's checkpoint, or weights: none for random ones"
        )
    if params.weights == RANDOM:
        whose = f"random, seed {params.seed}"
    else:
        path = weights_file(params)
        whose = f"{path.name}, {path.stat().st_size} bytes"  # another file of that name: another layout, so prepared anew
    sizes, notes = {"channel": EMBEDDING}, {"weights": whose}
    if params.pool == "mean":
        return Layout("vector", ("channel",), sizes, notes=notes)
    return Layout("signal", ("time", "channel"), sizes, rate, notes=notes)


def build_fab_net(params: FabNetParams, source: Source) -> Modality:
    """The modality."""
    from .fabnet import FabNet

    return FabNet(params, source)


class ClsParams(Params):
    """Options of `cls-transformer`."""

    width: int | None = Field(
        None, ge=1, description="size of steps, by a linear layer in front; left out: the number of channels"
    )
    layers: int = Field(2, ge=0, le=48, description="self-attention layers; 0: none, as SSE-FT has it for text")
    heads: int = Field(4, ge=1, description="attention heads; they divide the width")
    feedforward: int = Field(1024, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the input, of attention weights and after each part")
    cls: Literal["learned", "first"] = Field(
        "learned", description="learned: a vector of its own before the steps; first: the first step is it, as RoBERTa's <s>"
    )
    longest: int = Field(1024, ge=1, description="steps that have a learned position of their own; later ones share the last")


def cls_fits(params: ClsParams, layout: Layout) -> None:
    """Refuse heads that do not divide the width."""
    width = params.width or layout.sizes["channel"]
    if params.layers and width % params.heads:
        raise ValueError(
            f"heads: {params.heads} does not divide the width {width}{'' if params.width else ' (the number of channels)'}"
        )


def build_cls(params: ClsParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import ClsTransformer

    return ClsTransformer(params, layout)


class ImaParams(Params):
    """Options of `ima-fusion`."""

    fusion: str = Field(
        "hadamard",
        pattern="^(hadamard|concat|none)$",
        description="hadamard: products of a modality's views of the others, then concatenation (SSE-FT); concat: all views one after the "
        "other; none: the class tokens as they are, without attention between modalities",
    )
    layers: int = Field(2, ge=1, le=24, description="attention layers of each ordered pair; keys and values stay the same")
    heads: int = Field(4, ge=1, description="attention heads; for a width that they do not divide, the largest divisor of both")
    feedforward: int = Field(1024, ge=1, description="width of the feed-forward layers")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout of attention weights and after each part")
    regression: Literal["l1", "mse"] = Field(
        "l1", description="loss of values: mean absolute error, as SSE-FT has it, or mean squared error"
    )


def build_ima(params: ImaParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The head."""
    from .fusion import ImaFusion

    return ImaFusion(params, task, widths)


@hookimpl
def register_kinds(register: Register[Kind]) -> None:
    """Offer the kind."""
    register(Kind("tokens", ("time", "token"), "ids of a text model's tokens, with the times of their words"))


@hookimpl
def register_modalities(register: Register[ModalitySpec]) -> None:
    """Offer the features."""
    register(
        ModalitySpec(
            "hf-text",
            "tokens of a frozen text model (RoBERTa, BERT and the like), from a folder or the hub",
            ("words",),
            HfTextParams,
            text_layout,
            build_text,
            paper=PAPER,
        )
    )
    register(
        ModalitySpec(
            "hf-speech",
            "frames of a frozen speech model (wav2vec 2.0, HuBERT, WavLM), from a folder or the hub",
            ("audio",),
            HfSpeechParams,
            speech_layout,
            build_speech,
            paper=PAPER,
        )
    )
    register(
        ModalitySpec(
            "hf-tokens",
            "ids of a text model's tokens, for `hf-encoder` to train that model on",
            ("words",),
            HfTokensParams,
            tokens_layout,
            build_tokens,
        )
    )
    register(
        ModalitySpec(
            "fab-net",
            "frames of a face through FAb-Net's frozen encoder, 256 values each; weights from a file, or random",
            ("video",),
            FabNetParams,
            fab_net_layout,
            build_fab_net,
            paper=FAB_NET,
        )
    )


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbones."""
    register(
        BackboneSpec(
            "cls-transformer",
            "a class token before the steps, self-attention over all; keeps every step for a fusion",
            (("time", "channel"),),
            ClsParams,
            build_cls,
            cls_fits,
            PAPER,
            "Learned positions, LayerNorm and dropout, post-norm layers with GELU, as the authors. Differs: the class token begins at small "
            "random numbers (theirs at 0, by a slip); real steps that a crop has left are never taken for padding.",
        )
    )
    register(
        BackboneSpec(
            "hf-encoder",
            "a text model of the transformers library, trained on together with the rest",
            (("time", "token"),),
            HfEncoderParams,
            build_hf_encoder,
            encoder_fits,
            "UniVA (its text encoder); Devlin et al., BERT, NAACL 2019",
            "The library's own classes, without their pooling layer. pool: additive is UniVA's reading of it: linear, dropout, additive attention.",
            rebuild=rebuild_hf_encoder,
        )
    )


@hookimpl
def register_heads(register: Register[HeadSpec]) -> None:
    """Offer the fusion."""
    register(
        HeadSpec(
            "ima-fusion",
            "inter-modality attention between every two modalities, Hadamard products, then tanh and a linear layer",
            ("single-label", "multi-label", "regression"),
            ImaParams,
            build_ima,
            PAPER,
        )
    )


@hookimpl
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer the paper's tables."""
    register(SSE_FT)
