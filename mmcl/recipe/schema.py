"""The keys of a recipe: their types, bounds, defaults and what they mean. `mmcl schema` prints this as JSON schema."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag, WithJsonSchema

from .objectives import Objective
from .optimisers import TOLD_APART, AdamW, Constant, Optimizer, Schedule, Sgd
from .searches import Sweep
from .slots import (
    SHORT,
    Section,
    UseBackbone,
    UseDataset,
    UseHead,
    UseModality,
    UsePretext,
    UseSampler,
    UseScorer,
)

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"names {twice[0]} twice; its scores would count twice")
    return values


_DISTINCT = AfterValidator(_distinct)

# Keys that stand in several sections.
_Folds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), _DISTINCT]
_Only = Annotated[_Folds | None, Field(description="run these folds only")]
_Splits = Annotated[
    Literal["group", "sample"], Field(description="what is split: groups, or single recordings (the report says so)")
]
_Apart = Annotated[
    Literal["group", "sample"],
    Field(description="group: a group never stands in two splits; sample: it may, and the report says so"),
]
_Inputs = Annotated[
    Annotated[tuple[str, ...], Field(min_length=1)] | None,
    Field(description="modalities to predict from: names, names joined by +, or all; left out: each one, and all"),
]
_Threshold = Annotated[
    Literal["half", "valid"],
    Field(
        description="multi-label tasks: a class is present above a probability of one half, or above the value that gives the best "
        "w_acc on validation rows, found for each class apart"
    ),
]
_Clip = Annotated[float | None, Field(gt=0, description="largest norm of the gradient; left out: not clipped")]
_Precision = Annotated[
    Literal["float32", "bf16", "auto"],
    Field(
        description="arithmetic of the networks (losses are float32 always); auto: bf16 where the processor has instructions for it "
        "(AMX or AVX512), else float32, and the plan states which, so that a repetition elsewhere computes in the same"
    ),
]
_SyncBatchnorm = Annotated[
    bool,
    Field(description="under torchrun, batch normalisation sees the rows of all processes, as in one; false: each its own"),
]
_Sampler = Annotated[
    Annotated[UseSampler, SHORT] | None,
    Field(description="which recordings stand in a batch together; left out: random ones"),
]
_CheckpointMinutes = Annotated[float, Field(ge=0, description="minutes between checkpoints from which a killed run goes on")]


class Augment(Section):
    """Random changes to a training stream after normalisation; all off unless asked for (MPUC-MER uses none)."""

    noise: float = Field(
        0.0, ge=0, le=5, description="deviation of Gaussian noise added to every value, in deviations of its channel"
    )
    gain: float = Field(0.0, ge=0, lt=1, description="every recording is multiplied by one factor from 1 ± gain")
    mask_time: float = Field(0.0, ge=0, lt=1, description="share of the steps set to the mean, in one random span")
    mask_channels: float = Field(0.0, ge=0, lt=1, description="share of the channels set to the mean, drawn per recording")
    rotate: float = Field(
        0.0,
        ge=0,
        le=3.1416,
        description="radians, up to which each recording is turned about each of three axes; for streams "
        "whose channels come in threes, x y z (joints, acceleration, angular velocity)",
    )
    mask_bands: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the channels set to the mean, in one random span, drawn per recording (SpecAugment)",
    )
    mask_joints: float = Field(0.0, ge=0, lt=1, description="share of the joints set to the mean, drawn per recording")
    speed: float = Field(0.0, ge=0, lt=1, description="every recording is played by one factor from 1 ± speed as fast")
    permute: int = Field(
        1, ge=1, le=20, description="every recording is cut into up to so many parts, which are set in another order"
    )
    mirror: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the recordings that are seen in a mirror, left and right changed; for streams that say how (layout notes: mirror)",
    )

    def stated(self) -> dict[str, Any]:
        """Plain values; those that came later only where they say something, so that fingerprints stay as they were."""
        later = ("mask_bands", "mask_joints", "speed", "permute", "mirror")
        silent = {name for name in later if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude=silent)


class ModalitySection(Section):
    """One modality: what is extracted from which source, and the network that encodes it."""

    features: Annotated[UseModality, SHORT] = Field(description="how the raw recording becomes a stream")
    source: str | None = Field(None, description="which source of the dataset to read; left out: the one that fits")
    backbone: Annotated[UseBackbone, SHORT] | None = Field(
        None, description="network from the stream to a vector; left out only where pretrain.pretext takes all streams together"
    )
    normalise: Literal["channel", "none"] = Field(
        "channel",
        description="channel: subtract each channel's mean and divide by its deviation, both from training rows only; ids of tokens "
        "are never normalised",
    )
    augment: Augment = Field(default_factory=lambda: Augment(), description="random changes while pretraining")
    frozen: bool = Field(
        False,
        description="the backbone stays as it is built (by its weights from elsewhere, where it has some); its projection learns",
    )


class Window(Section):
    """The span of time that is cut, at the same seconds, from every modality of a recording."""

    seconds: float | None = Field(None, gt=0, description="length in seconds; left out: whole recordings")
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="in place of seconds: while pretraining, a stretch of each recording that lasts between "
        "this share and all of it; frozen features are then those of whole recordings",
    )
    place: Literal["random", "start", "centre"] = Field("random", description="where it is cut while pretraining")
    embed: Literal["sliding", "whole", "start"] = Field(
        "sliding",
        description="how frozen features are taken: mean over windows sliding over the recording, the whole "
        "recording at once, or its first window",
    )
    hop: float | None = Field(None, gt=0, description="seconds between sliding windows; left out: half a window")


class Projection(Section):
    """fc → ReLU → fc between backbone and loss (MPUC-MER §III-B); thrown away afterwards."""

    LATER: ClassVar[tuple[str, ...]] = ("use",)
    use: Literal["mlp", "none"] = Field(
        "mlp", description="none: the backbone's vector itself is contrasted, so that hidden and width say nothing"
    )
    hidden: int | None = Field(512, ge=1, description="width of the hidden layer; null: a single linear layer")
    width: int = Field(128, ge=1, description="width of the embedding that is contrasted")

    @property
    def embedding(self) -> int | None:
        """Width of the embedding; None where the backbone's vector is contrasted."""
        return None if self.use == "none" else self.width


class View(Section):
    """One window of a recording in a batch, or several of one length."""

    share: float = Field(
        gt=0, le=1, description="its length, as a share of `window` (of the recording, where window has no seconds)"
    )
    count: int = Field(1, ge=1, le=8, description="how many of them")


class Pretrain(Section):
    """Contrastive pretraining, without labels."""

    LATER: ClassVar[tuple[str, ...]] = ("copies", "skip", "sampler", "sync_batchnorm", "shard", "compile")

    objective: Objective = Field(default_factory=lambda: Objective(), description="what is pulled together and pushed apart")
    pretext: Annotated[UsePretext, SHORT] | None = Field(
        None,
        description="in place of the objective and of the modalities' backbones: one vector of all modalities, learned by "
        "a task of its own",
    )
    optimizer: Optimizer = Field(default_factory=lambda: Sgd(), description="how weights are updated")
    schedule: Schedule = Field(default_factory=lambda: Constant(), description="learning rate over time")
    batch_size: int = Field(32, ge=2, description="recordings in a batch; each anchor sees batch_size − 1 negatives")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="rows that go through a network at a time; activations are made again for the backward pass, so that a large "
        "batch_size needs the memory of a small one and gets the same gradient (batch normalisation sees each part for itself); of several "
        "processes, those of each, and with sync_batchnorm those of all together",
    )
    transductive: Annotated[tuple[Literal["valid", "test"], ...], _DISTINCT] = Field(
        (),
        description="splits whose inputs, without labels, are contrasted beside the training rows; the report then says so "
        "(MPUC-MER's code: both)",
    )
    balance: str | None = Field(
        None,
        description="a single-label task: recordings are drawn, with replacement, so that its classes come equally often, "
        "which uses labels (MPUC-MER's code)",
    )
    sampler: _Sampler = None
    views: Annotated[int, Field(ge=1, le=8)] | Annotated[tuple[View, ...], Field(min_length=1, max_length=8)] = Field(
        1,
        description="windows cut from every recording of a batch, each drawn and augmented apart: how many (MPUC-MER's code: 2), or a list "
        "such as [{share: 1.0}, {share: 0.3, count: 2}] of windows that are as long as `window` and shorter ones (multi-crop)",
    )
    copies: int = Field(
        1, ge=1, le=8, description="times that every embedding stands among those that are contrasted, exactly alike (UniVA: 2)"
    )
    epochs: int = Field(100, ge=0, description="times that every training recording is seen")
    choose: Literal["loss", "retrieval"] = Field(
        "loss",
        description="what the best epoch is chosen by on validation rows: the loss, or how well every recording is retrieved from one contrasted "
        "modality by another among all of them (mean reciprocal rank, both directions, mean over pairs)",
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better validation result; the best weights are kept"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="which weights are kept: those of the best epoch on validation rows, or those of the last"
    )
    clip: _Clip = None
    skip: int = Field(
        0,
        ge=0,
        description="batches whose loss is no number that are left out, said and counted, before training stops; the first is kept for `mmcl replay`",
    )
    precision: _Precision = "float32"
    compile: Annotated[tuple[str, ...], _DISTINCT] = Field(
        (),
        description="modalities whose networks torch.compile translates, for whole batches of whole windows (window.seconds); every other batch goes "
        "through them as they are written. `mmcl profile` measures whether it pays; a C++ compiler is needed on a processor",
    )
    sync_batchnorm: _SyncBatchnorm = False
    shard: bool = Field(
        False,
        description="under torchrun, each process holds a part of the backbones' weights, gradients and optimiser's state (FSDP2); false: all",
    )
    checkpoint_minutes: _CheckpointMinutes = 2.0

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each window that is cut from a recording, what share of `window` it is."""
        if isinstance(self.views, int):
            return (1.0,) * self.views
        return tuple(view.share for view in self.views for _ in range(view.count))


class HeadTraining(Section):
    """The loop for heads without a solver of their own: cross-entropy, BCE or MSE; early stop on the validation loss."""

    optimizer: Optimizer = Field(default_factory=lambda: AdamW(), description="how weights are updated")
    batch_size: int = Field(64, ge=1, description="recordings in a batch")
    epochs: int = Field(100, ge=1, description="times that every training recording is seen")
    patience: int = Field(
        10, ge=1, description="stop after so many epochs without a lower validation loss; the best weights are kept"
    )


class Probe(Section):
    """Heads fitted on frozen features."""

    tasks: Annotated[tuple[str, ...], _DISTINCT] | None = Field(
        None, description="tasks of the dataset to predict; left out: all"
    )
    inputs: _Inputs = None
    heads: dict[str, Annotated[UseHead, SHORT]] = Field(
        default_factory=lambda: {"linear": UseHead(use="linear")},
        min_length=1,
        description="heads to fit, by the name they have in the report",
    )
    seeds: Annotated[tuple[int, ...], _DISTINCT] = Field(
        (0,), min_length=1, description="seeds of the heads; each is fitted once per seed"
    )
    features: Literal["backbone", "projection"] = Field("backbone", description="which vector is probed")
    standardise: Literal["train", "group"] = Field(
        "train",
        description="how features are centred and scaled before a head sees them. train: by mean and deviation of training rows; group: "
        "by those of each group's (speaker's) own rows, without labels, which reads all test recordings of a person together; a head may "
        "say otherwise for itself",
    )
    clip: float | None = Field(
        4.0, gt=0, description="largest value of a standardised feature, either side of 0; null: none (a rare value then rules)"
    )
    floor: float = Field(
        0.05,
        ge=0,
        description="smallest deviation that is divided by, in median deviations of the modality's features: what hardly varies in training "
        "would explode elsewhere; 0: none",
    )
    threshold: _Threshold = "half"
    training: HeadTraining = Field(
        default_factory=lambda: HeadTraining(), description="how heads without a solver of their own are trained"
    )


class Supervise(Section):
    """Encoders and heads trained together with labels: baselines from scratch, or fine-tuning of the pretrained encoders."""

    LATER: ClassVar[tuple[str, ...]] = ("metric", "mix", "sync_batchnorm", "sampler")

    start: Literal["scratch", "pretrained"] = Field(
        "scratch", description="the encoders' first weights: random, or those that `pretrain` left (fine-tuning)"
    )
    tasks: Annotated[tuple[str, ...], _DISTINCT] | None = Field(
        None, description="tasks of the dataset to learn, each with encoders of its own; left out: all"
    )
    inputs: _Inputs = None
    heads: dict[str, Annotated[UseHead, SHORT]] = Field(
        min_length=1, description="heads, each with encoders of its own, by the name they have in the report"
    )
    optimizer: Optimizer = Field(default_factory=lambda: Sgd(), description="how weights are updated")
    schedule: Schedule = Field(default_factory=lambda: Constant(), description="learning rate over time")
    batch_size: int = Field(32, ge=2, description="recordings in a batch")
    sampler: _Sampler = None
    epochs: int = Field(100, ge=1, description="times that every training recording is seen")
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better validation result")
    choose: Literal["loss", "score"] = Field(
        "loss", description="what the best epoch is chosen by on validation rows: the loss, or a metric of the task"
    )
    metric: str | None = Field(
        None, description="the metric of `choose: score`, such as f1_micro; left out: the one that a report puts first"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="which weights are tested: those of the best epoch, or of the last"
    )
    threshold: _Threshold = "half"
    contrast: float = Field(
        0.0, ge=0, description="weight λ of pretrain.objective, added to the loss of the labels on the same batches"
    )
    mix: Literal["add", "share"] = Field(
        "add",
        description="add: labels + λ · contrast; share: (1 − λ) · labels + λ · contrast, beside which a head's penalty stands whole",
    )
    clip: _Clip = None
    precision: _Precision = "float32"
    sync_batchnorm: _SyncBatchnorm = False
    checkpoint_minutes: _CheckpointMinutes = 2.0


_Shares = tuple[Annotated[float, Field(gt=0, lt=1)], ...]
_Levels = tuple[Annotated[float, Field(gt=0)], ...]


class Robustness(Section):
    """How the test recordings are spoilt before they are encoded; nothing unless asked for, as each level encodes them anew."""

    noise: Annotated[_Levels, _DISTINCT] = Field(
        (), description="deviations of Gaussian noise added to every value, in deviations of its channel, such as [0.5, 1, 2]"
    )
    loss: Annotated[_Shares, _DISTINCT] = Field(
        (),
        description="shares of the steps that are lost, each step for itself, such as [0.1, 0.3, 0.5]; a lost step is the mean",
    )
    late: Annotated[_Levels, _DISTINCT] = Field(
        (), description="seconds by which a stream begins late, such as [0.25, 0.5, 1]; what came before is not there"
    )


class Worth(Section):
    """What the frozen features are worth beyond one score, with the first head of `probe`, on test recordings."""

    LATER: ClassVar[tuple[str, ...]] = ("maps_of",)

    few_shot: Annotated[_Shares, _DISTINCT] = Field(
        (0.01, 0.05, 0.1, 0.5),
        description="shares of the labels that a head is fitted with, taken group by group as labels come; of validation labels too",
    )
    draws: int = Field(3, ge=1, description="times that each share is drawn")
    missing: bool = Field(
        True, description="test the main head with every set of modalities taken away (each alone where there are more than 5)"
    )
    transfer: bool = Field(
        True, description="fit the head on one modality's projection and test it on every other's, without a label of that one"
    )
    geometry: bool = Field(True, description="alignment, uniformity, modality gap and effective rank of the projections")
    robustness: Robustness = Field(
        default_factory=lambda: Robustness(), description="how scores fall when test recordings are spoilt"
    )
    maps: Annotated[tuple[Literal["pca", "tsne", "umap"], ...], _DISTINCT] = Field(
        ("pca", "tsne"),
        description="pictures of recordings in two dimensions, of the first fold and seed; umap needs umap-learn",
    )
    maps_of: Literal["test", "train"] = Field("test", description="whose recordings are drawn in the maps")
    points: int = Field(300, ge=10, le=5000, description="recordings drawn in each map")


class Official(Section):
    """The splits that the dataset carries."""

    use: Literal["official"] = "official"
    valid: float = Field(
        0.2, gt=0, lt=1, description="share of the training groups held out for validation, where the dataset names none"
    )
    by: _Apart = "group"
    only: _Only = None


class HoldOut(Section):
    """One random split."""

    use: Literal["hold-out"]
    test: float = Field(0.2, gt=0, lt=1, description="share of the groups for testing")
    valid: float = Field(0.2, gt=0, lt=1, description="share of the remaining groups for validation")
    by: _Splits = "group"
    only: _Only = None


class KFold(Section):
    """k random folds; each is the test set once."""

    use: Literal["k-fold"]
    k: int = Field(10, ge=2, description="number of folds")
    valid: float = Field(0.1, gt=0, lt=1, description="share of the remaining groups for validation")
    by: _Splits = "group"
    only: _Only = None


class Folds(Section):
    """Folds from a CSV file with the columns `group` (or `id`) and `fold`."""

    use: Literal["folds"]
    file: str = Field(description="CSV file; a relative path is taken from the recipe's folder")
    valid: float | Literal["next"] = Field(
        "next", description="next: the fold after the test fold; or a share of the remaining groups"
    )
    by: _Apart = "group"
    only: _Only = None


class LeaveOneGroupOut(Section):
    """Each group is the test set once."""

    use: Literal["leave-one-group-out"]
    valid: float = Field(0.2, gt=0, lt=1, description="share of the remaining groups for validation")
    by: Literal["group"] = Field("group", description="groups")
    only: _Only = None


Protocol = Annotated[
    Annotated[Official, Tag("official")]
    | Annotated[HoldOut, Tag("hold-out")]
    | Annotated[KFold, Tag("k-fold")]
    | Annotated[Folds, Tag("folds")]
    | Annotated[LeaveOneGroupOut, Tag("leave-one-group-out")],
    TOLD_APART,
    SHORT,
]


class Report(Section):
    """What the report sets beside the result."""

    against: tuple[Literal["random", "majority", "pooled"], ...] = Field(
        ("random", "pooled", "majority"),
        description="random: the same encoders with random weights; pooled: mean, deviation, minimum, maximum and slope of every channel of "
        "the very streams (of pictures: their pixels), under the same heads, and in retrieval their canonical correlation, which whoever owns the data could have without any encoder; "
        "majority: the most frequent class. All are there unless this list is shortened; []: none",
    )


class Reading(Section):
    """What reading one recording may take, while streams are prepared; one that takes more is skipped, with its name and the reason."""

    memory: float | None = Field(
        None,
        gt=0,
        description="GB (10⁹ bytes) beside what the process that reads holds from the beginning; left out: three quarters of the machine's "
        "memory, divided among those that read at the same time (Linux; elsewhere there is no limit)",
    )
    seconds: float = Field(600.0, gt=0, description="seconds by the clock on the wall")


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if not isinstance(value, tuple):
        raise ValueError("must be a whole number, or a list of them")
    return value


class Recipe(Section):
    """Everything that a run does."""

    format: Literal[1] = Field(description="version of the recipe format")
    base: str | None = Field(
        None,
        description="a recipe that holds wherever this one does not say otherwise: the name of a shipped one, or a file relative to "
        "this one; mappings are merged, lists replaced, and null takes a key away",
    )
    name: str = Field(pattern=NAME, description="name of the run and of its folder")
    about: str = Field("", description="one sentence for the report")
    seed: Annotated[
        tuple[int, ...],
        BeforeValidator(_seeds),
        Field(min_length=1),
        _DISTINCT,
        WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]}),
    ] = Field((0,), description="one seed, or several: pretraining and probing are repeated for each")
    dataset: Annotated[UseDataset, SHORT] = Field(description="the recordings")
    modalities: dict[str, ModalitySection] = Field(min_length=1, description="the modalities, by names of your choice")
    scores: dict[str, Annotated[UseScorer, SHORT]] = Field(
        default_factory=dict,
        description="numbers that the corpus lacks, such as valence and arousal, computed once for every recording, by the name "
        "under which positives and tasks find them",
    )
    window: Window = Field(default_factory=lambda: Window(), description="the span of time that is cut from every modality")
    projection: Annotated[Projection, SHORT] = Field(
        default_factory=lambda: Projection(), description="between backbone and loss"
    )
    pretrain: Pretrain = Field(default_factory=lambda: Pretrain(), description="contrastive pretraining")
    probe: Probe = Field(default_factory=lambda: Probe(), description="what the frozen features are worth")
    supervise: Supervise | None = Field(None, description="encoders trained with labels, end to end; left out: none")
    worth: Worth | None = Field(
        None, description="few-shot curves, missing modalities, transfer, robustness, geometry and maps; left out: none"
    )
    protocol: Protocol = Field(default_factory=lambda: Official(), description="who is trained on and who is tested")
    limit: int | None = Field(
        None,
        ge=1,
        description="a dry run: so many recordings of each split, of all classes alike, and the report says so; left out: all",
    )
    reading: Reading = Field(default_factory=lambda: Reading(), description="limits within which a recording is read")
    report: Report = Field(default_factory=lambda: Report(), description="what the result is compared with")
    track: tuple[Literal["tensorboard"], ...] = Field((), description="trackers to write beside log.jsonl")
    sweep: Sweep | None = Field(None, description="a search over values, by `mmcl sweep`; left out: none")
