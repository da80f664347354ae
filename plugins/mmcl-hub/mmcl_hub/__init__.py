"""Models of the transformers library, from a folder, a package or the hub: their features, their tokens, and models of text, sound and pictures that are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from mmcl.api import (
    Adapters,
    AdapterScale,
    Backbone,
    BackboneSpec,
    Field,
    Kind,
    Layout,
    Modality,
    ModalitySpec,
    Params,
    Register,
    Scorer,
    ScorerSpec,
    Source,
    Task,
    hookimpl,
)

from .packages import folder_config, locate, package_of
from .trained import HfAudioParams, HfVideoParams, audio_fits, video_fits

SSE_FT = "SSE-FT: Siriwardhana et al., Multimodal Emotion Recognition with Transformer-Based Self Supervised Feature Fusion, IEEE Access 2020"


class HfParams(Params):
    """Options that both modalities share."""

    LATER: ClassVar[tuple[str, ...]] = ("layers",)

    model: str = Field(
        "",
        description="folder of a saved model (config.json, weights), package:NAME for one that an installed package carries, or a name on "
        "the hub, fetched once; needed",
    )
    dim: int | None = Field(
        None, ge=1, description="features a step; read from the folder's config.json, needed for a name on the hub"
    )
    layer: int = Field(-1, ge=-64, le=64, description="which hidden layer: 0 is the embedding, −1 the last")
    layers: Literal["one", "all"] = Field(
        "one",
        description="one: the hidden layer of `layer`; all: every hidden layer of a step, so that a backbone such as `layer-mix` learns their "
        "weights",
    )
    pool: Literal["none", "mean", "mean+std"] = Field(
        "none", description="none: every step; mean: one vector a recording; mean+std: the mean and after it the deviation"
    )


class HfTextParams(HfParams):
    """Options of `hf-text`."""

    longest: int = Field(512, ge=4, description="tokens that are read, special ones included; what comes after is cut")
    words_per_second: float = Field(2.5, gt=0, description="speaking rate assumed where nobody measured times")


class HfSpeechParams(HfParams):
    """Options of `hf-speech`."""

    longest: float = Field(30.0, gt=0, description="seconds that are read; what comes after is cut")


def config_of(params: HfParams, what: str) -> Mapping[str, object]:
    """config.json of a local folder, or nothing for a name on the hub that says its dim. Raises ValueError with a sentence."""
    config = folder_config(params.model, what)
    if not config and params.dim is None:
        raise ValueError(
            f"model '{params.model}' is no folder here; for a name on the hub say how many features a step it has (dim:)"
        )
    return config


def width_of(params: HfParams, what: str) -> int:
    """Features a step."""
    config = config_of(params, what)
    size = config.get("hidden_size", config.get("d_model", params.dim))  # d_model: Whisper's word for it
    if not isinstance(size, int) or (params.dim is not None and params.dim != size):
        raise ValueError(f"model '{params.model}' has {size} features a step, dim says {params.dim}")
    return size


DEPTHS = ("num_hidden_layers", "encoder_layers", "n_layers")
"""What config.json calls the number of layers: encoder_layers is Whisper's word for it, n_layers DistilBERT's."""


def depth_of(params: HfParams, what: str) -> int:
    """Hidden layers, the embedding among them."""
    config = folder_config(params.model, what)
    depths = [config[key] for key in DEPTHS if isinstance(config.get(key), int)]
    if config.get("model_type") == "whisper":
        depths = [config["encoder_layers"]]
    if not depths or not isinstance(depths[0], int):
        raise ValueError(
            f"model '{params.model}': layers: all needs a folder or a package, whose config.json says how many there are"
        )
    return depths[0] + 1


def _layout(params: HfParams, what: str, kind: str, rate: float | None) -> Layout:
    width = width_of(params, what)
    if params.layers == "all":
        if params.pool != "none" or params.layer != -1:
            raise ValueError("layers: all gives every layer of every step; leave pool and layer out")
        return Layout("layers", ("time", "layer", "channel"), {"layer": depth_of(params, what), "channel": width}, rate)
    if params.pool == "none":
        return Layout(kind, ("time", "channel"), {"channel": width}, rate)
    return Layout("vector", ("channel",), {"channel": 2 * width if params.pool == "mean+std" else width})


def reads(model: str, what: str, wanted: str) -> None:
    """Refuse a package's model of sound where text is read, and one of text where sound is. Raises ValueError with a sentence."""
    package = package_of(model)
    given = "sound" if package is not None and package.config["model_type"] == "whisper" else "text"
    if package is not None and given != wanted:
        raise ValueError(f"model '{model}' reads {given}; '{what}' needs one that reads {wanted}")


def present(model: str) -> None:
    """Refuse a package that is not installed, before the first recording is read. Raises DataError."""
    if (package := package_of(model)) is not None:
        locate(package)


def text_layout(params: HfTextParams, source: Source) -> Layout:
    """A vector a token, at the times of its word."""
    reads(params.model, "hf-text", "text")
    return _layout(params, "hf-text", "word-vectors", None)


def speech_layout(params: HfSpeechParams, source: Source) -> Layout:
    """A vector every so many samples of 16 kHz, as the model's convolutions have it (320 for the usual ones, and for Whisper)."""
    reads(params.model, "hf-speech", "sound")
    stride = 1
    strides = config_of(params, "hf-speech").get("conv_stride", (5, 2, 2, 2, 2, 2, 2))
    for one in strides if isinstance(strides, list | tuple) else ():
        stride *= int(one)
    return _layout(params, "hf-speech", "signal", 16_000 / stride)


def build_text(params: HfTextParams, source: Source) -> Modality:
    """The modality."""
    from .features import HfText

    present(params.model)
    return HfText(params)


def build_speech(params: HfSpeechParams, source: Source) -> Modality:
    """The modality."""
    from .features import HfSpeech

    present(params.model)
    return HfSpeech(params)


class HfJointParams(Params):
    """Options of `hf-joint`."""

    model: str = Field(
        "",
        description="folder of a saved model of a joint space (CLAP, CLIP), with its processors and config.json, or a name on the hub, fetched "
        "once; needed",
    )
    dim: int | None = Field(
        None, ge=1, description="width of the space; read from the folder's config.json, needed for a name on the hub"
    )
    step: float | None = Field(
        None,
        gt=0,
        description="seconds from one piece of sound, or one picture, to the next; left out: 10 of sound, as CLAP learned, and 1 of a film",
    )
    pool: Literal["mean", "none"] = Field(
        "mean", description="mean: one vector a recording, the mean of its pieces' of length 1; none: a step a piece"
    )


JOINT = {"clap": {"audio": 10.0, "words": None}, "clip": {"video": 1.0, "pictures": None, "words": None}}
"""Models that give one vector a modality in a joint space, by model_type: what each reads, and seconds from piece to piece."""


def joint_layout(params: HfJointParams, source: Source) -> Layout:
    """One vector of the joint space, or one every so many seconds."""
    config = folder_config(params.model, "hf-joint")
    family = config.get("model_type")
    if config and family not in JOINT:
        raise ValueError(f"model '{params.model}' is of the type '{family}'; 'hf-joint' reads {' and '.join(JOINT)}")
    if config and source.type not in JOINT[str(family)]:
        raise ValueError(
            f"model '{params.model}' ({family}) reads {' and '.join(JOINT[str(family)])}, and this source is {source.type}"
        )
    size = config.get("projection_dim", params.dim)
    if not isinstance(size, int) or (params.dim is not None and params.dim != size):
        problem = (
            f"has {size} values a vector, dim says {params.dim}"
            if size
            else "is no folder here; say how wide its space is (dim:)"
        )
        raise ValueError(f"model '{params.model}' {problem}")
    if params.pool == "mean":
        return Layout("vector", ("channel",), {"channel": size})
    if source.type in ("words", "pictures"):
        raise ValueError(f"'hf-joint' gives one vector of all {source.type}; leave pool out")
    return Layout("signal", ("time", "channel"), {"channel": size}, 1 / joint_step(params, source.type))


def joint_step(params: HfJointParams, type: str) -> float:
    """Seconds from one piece to the next."""
    return params.step or (10.0 if type == "audio" else 1.0)


def build_joint(params: HfJointParams, source: Source) -> Modality:
    """The modality."""
    from .joint import HfJoint

    return HfJoint(params)


class LayerMixParams(Params):
    """Options of `layer-mix`."""

    width: int = Field(256, ge=1, le=4096, description="of the linear layer on each step, and of the vector")
    normalise: bool = Field(
        True, description="each layer of a step is brought to mean 0 and deviation 1 first, so that none weighs by its size"
    )


def build_layer_mix(params: LayerMixParams, layout: Layout) -> Backbone:
    """The network."""
    from .layers import LayerMix

    return LayerMix(params, layout)


class HfTokensParams(Params):
    """Options of `hf-tokens`."""

    model: str = Field(
        "",
        description="folder of a saved model with its tokenizer and config.json, package:NAME for one that an installed package carries, or a "
        "name on the hub, fetched once; needed",
    )
    longest: int = Field(512, ge=4, description="tokens that are read, special ones included; what comes after is cut")
    words_per_second: float = Field(2.5, gt=0, description="speaking rate assumed where nobody measured times")


def tokens_layout(params: HfTokensParams, source: Source) -> Layout:
    """An id a token, at the times of its word. The notes say whose ids they are; of a folder, also its config.json.

    So what is saved with this layout can build the model again where the folder is gone.
    """
    reads(params.model, "hf-tokens", "text")
    config = folder_config(params.model, "hf-tokens")
    notes: dict[str, object] = {"model": params.model, "longest": params.longest}
    if config:
        notes |= {"vocab": config.get("vocab_size"), "config": config}
    return Layout("tokens", ("time", "token"), {"token": 1}, notes=notes)


def build_tokens(params: HfTokensParams, source: Source) -> Modality:
    """The modality."""
    from .features import HfTokens

    present(params.model)
    return HfTokens(params)


class HfEncoderParams(Params):
    """Options of `hf-encoder`."""

    LATER: ClassVar[tuple[str, ...]] = ("adapters", "adapter_scale")

    model: str = Field(
        "",
        description="folder of a saved text model, package:NAME, or a name on the hub, fetched once; left out: the one whose tokenizer made the ids",
    )
    weights: Literal["pretrained", "random"] = Field(
        "pretrained", description="first weights: those of the model, or random ones of the same architecture"
    )
    layers: int | None = Field(
        None,
        ge=0,
        description="layers that are trained, from the top; all else stays as it is, without dropout. Left out: all is trained",
    )
    adapters: Adapters = None
    adapter_scale: AdapterScale = 2.0
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
    if params.adapters is not None and params.layers == 0:
        raise ValueError(
            "adapters stand in the layers that are trained, and layers: 0 trains none; leave layers out, or say how many"
        )
    if layout.sizes.get("token") != 1:
        raise ValueError(f"'hf-encoder' reads one id a step; these have {layout.sizes.get('token')}")
    config = encoder_config(params, layout)
    if not config:
        return
    model = params.model or layout.notes.get("model")

    def number(key: str) -> int | None:
        value = config.get(key)
        return value if isinstance(value, int) else None

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


class HfRegressorParams(Params):
    """Options of `hf-regressor`."""

    model: str = Field(
        "",
        description="folder of a saved text model, package:NAME, or a name on the hub, fetched once; needed, and stays as it is",
    )
    corpus: str = Field(
        "emobank.csv", description="CSV with the columns split (train, dev, test), text and those of `columns`, such as EmoBank"
    )
    columns: tuple[str, ...] = Field(("V", "A"), min_length=1, description="columns of the values that are learned")
    names: tuple[str, ...] = Field(
        ("valence", "arousal"), min_length=1, description="what the values are called, in that order"
    )
    low: float = Field(1.0, description="least value of the corpus's scale, which becomes −1")
    high: float = Field(5.0, description="largest value of the corpus's scale, which becomes 1")
    longest: int = Field(128, ge=4, description="tokens that are read, special ones included; what comes after is cut")


def regressor_task(params: HfRegressorParams, tasks: Mapping[str, Task]) -> Task:
    """The values. Raises ValueError where the options do not fit together."""
    folder_config(params.model, "hf-regressor")
    reads(params.model, "hf-regressor", "text")
    if len(params.columns) != len(params.names):
        raise ValueError(
            f"'hf-regressor' has {len(params.columns)} columns and {len(params.names)} names; as many were expected"
        )
    if not params.high > params.low:
        raise ValueError(f"'hf-regressor': high ({params.high:g}) must be above low ({params.low:g})")
    return Task("-".join(params.names), "regression", params.names)


def build_regressor(params: HfRegressorParams, tasks: Mapping[str, Task]) -> Scorer:
    """The scorer, trained."""
    from .regressor import Regressor

    present(params.model)
    return Regressor(params)


def build_audio(params: HfAudioParams, layout: Layout) -> Backbone:
    """The network, with the model's own weights unless the options say random."""
    from .sound import HfAudio

    return HfAudio(params, pretrained=params.weights == "pretrained")


def rebuild_audio(params: HfAudioParams, layout: Layout) -> Backbone:
    """The network with random weights, for saved ones: the model's own are not read, its config.json is."""
    from .sound import HfAudio

    return HfAudio(params, pretrained=False)


def build_video(params: HfVideoParams, layout: Layout) -> Backbone:
    """The network, with the model's own weights unless the options say random."""
    from .film import network_of

    return network_of(params, pretrained=params.weights == "pretrained")


def rebuild_video(params: HfVideoParams, layout: Layout) -> Backbone:
    """The network with random weights, for saved ones: the model's own are not read, its config.json is."""
    from .film import network_of

    return network_of(params, pretrained=False)


AUDIO = BackboneSpec(
    "hf-audio",
    "a speech model of the transformers library on the waveform, trained on together with the rest",
    (("time", "channel"),),
    HfAudioParams,
    build_audio,
    audio_fits,
    "wav2vec 2.0: Baevski et al., NeurIPS 2020; HuBERT: Hsu et al., TASLP 2021; Whisper: Radford et al., ICML 2023",
    "The library's own classes, and the mean over their steps. Windows of one length go together, so that padding never enters; SpecAugment and the dropping of layers "
    "are off (`augment` is mmcl's). Whisper's encoder sees 30 seconds at a time, filled with silence; steps of the filling are left out.",
    rebuild=rebuild_audio,
)
VIDEO = BackboneSpec(
    "hf-video",
    "a model of pictures or films of the transformers library on frames, trained on together with the rest",
    (("time", "channel", "height", "width"),),
    HfVideoParams,
    build_video,
    video_fits,
    "ViT: Dosovitskiy et al., ICLR 2021; VideoMAE: Tong et al., NeurIPS 2022",
    "The library's own classes. Frames are brought to the size that the model was made for; a model of pictures sees each real frame alone, and the vector is the mean over frames; "
    "one of films (VideoMAE, ViViT, TimeSformer) sees as many as it takes, evenly taken from the real ones.",
    rebuild=rebuild_video,
)


@hookimpl
def register_kinds(register: Register[Kind]) -> None:
    """Offer the kind."""
    register(Kind("tokens", ("time", "token"), "ids of a text model's tokens, with the times of their words"))
    register(Kind("layers", ("time", "layer", "channel"), "every hidden layer of a model, step by step"))


@hookimpl
def register_modalities(register: Register[ModalitySpec]) -> None:
    """Offer the features."""
    register(
        ModalitySpec(
            "hf-text",
            "tokens of a frozen text model (RoBERTa, BERT, MiniLM and the like), from a folder, a package or the hub",
            ("words",),
            HfTextParams,
            text_layout,
            build_text,
            paper=SSE_FT,
        )
    )
    register(
        ModalitySpec(
            "hf-speech",
            "frames of a frozen speech model (wav2vec 2.0, HuBERT, WavLM, Whisper's encoder), from a folder, a package or the hub",
            ("audio",),
            HfSpeechParams,
            speech_layout,
            build_speech,
            paper=SSE_FT,
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
            "hf-joint",
            "a vector of sound, film, pictures or words in the joint space of a frozen model (CLAP, CLIP), from a folder or the hub",
            ("audio", "video", "words", "pictures"),
            HfJointParams,
            joint_layout,
            build_joint,
            paper="CLAP: Wu et al., ICASSP 2023; CLIP: Radford et al., ICML 2021",
        )
    )


@hookimpl
def register_scorers(register: Register[ScorerSpec]) -> None:
    """Offer the scorer."""
    register(
        ScorerSpec(
            "hf-regressor",
            "valence and arousal of a text, or other values, by ridge regression on a frozen text model's layers",
            HfRegressorParams,
            ("words",),
            regressor_task,
            build_regressor,
            "EmoBank: Buechel, Hahn, EACL 2017",
        )
    )


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbones."""
    register(AUDIO)
    register(VIDEO)
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
    register(
        BackboneSpec(
            "layer-mix",
            "learned weights over the layers of a frozen model, a linear layer, and the mean over the steps",
            (("time", "layer", "channel"),),
            LayerMixParams,
            build_layer_mix,
            paper="SUPERB: Yang et al., Interspeech 2021 (its weighted sum, and its model of emotion)",
            follows="One softmax over the layers for all recordings. normalise is that of the authors' toolkit (a layer norm without weights).",
        )
    )
