"""UniVA: its head with a prior from valence and arousal, the scores that steer its contrast, and the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from mmcl.api import Field, Head, HeadSpec, Params, PresetSpec, PublishedSpec, Register, Scorer, ScorerSpec, Task, hookimpl

from .affect import classes_of
from .presets import PRESETS
from .published import UNIVA

PAPER = "UniVA: A Unimodal Valence-Arousal Driven Contrastive Learning Framework for Multimodal Multi-Label Emotion Recognition"
VALUES = ("valence", "arousal")


# --------------------------------------------------------------------------------------------------------------------- head


class FusionParams(Params):
    """Options of `univa-fusion`."""

    LATER = ("divergence", "prior_form")

    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the logits, as the authors' code has it (0.1)")
    target: Literal["softmax", "normalised"] = Field(
        "softmax",
        description="distribution that is learned: softmax of the 0/1 labels (the authors' code), or each label present with an equal "
        "share; recordings without a label then count nothing",
    )
    prior: str = Field(
        "off",
        pattern="^(on|off|reference)$",
        description="on: emotions near in valence and arousal get like probabilities (Eq. 8 and 9), which needs to know each class by name; reference: as the code, on "
        "log-probabilities, not squared, with a matrix that is learned",
    )
    prior_form: Literal["probabilities", "logs"] = Field(
        "probabilities",
        description="what a prior that is on compares: probabilities, squared, its matrix fixed, beside the loss (Eq. 9 and 11); logs: as "
        "prior: reference",
    )
    kl_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="weight of the divergence, a mean over recordings")
    divergence: Literal["recording", "element"] = Field(
        "recording",
        description="what the divergence is a mean over: recordings (Eq. 10), or recordings and classes (the authors' code)",
    )
    prior_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="weight of the prior")
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="ζ: a class of a multi-label task is present above this probability; left out: 1.08 / number of classes, which is the "
        "paper's 0.18 for six",
    )
    lexicon: str = Field(
        "",
        description="NRC-VAD file (word, valence, arousal, dominance, by tabs) for the prior; left out: the ratings of six emotions that the paper publishes",
    )


def build_fusion(params: FusionParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The head."""
    from .fusion import Fusion

    return Fusion(params, task, widths)


# ------------------------------------------------------------------------------------------------------------------ scorers


class LabelsParams(Params):
    """Options of `va-labels`."""

    task: str = Field("emotion", description="task whose class names are looked up; of several labels the mean counts")
    lexicon: str = Field(
        "",
        description="NRC-VAD file (word, valence, arousal, dominance, from 0 to 1, by tabs); left out: the ratings of six emotions that are published",
    )


class WordsParams(Params):
    """Options of `va-words`."""

    corpus: str = Field(
        "emobank.csv", description="EmoBank: id, split, V, A, D (1 to 5), text; trained on when the scorer is built"
    )


class TableParams(Params):
    """Options of `va-table`."""

    file: str = Field("va.csv", description="CSV with the columns id, valence and arousal")
    low: float = Field(-1.0, description="least value of the file's scale")
    high: float = Field(1.0, description="largest value of the file's scale")


def labels_task(params: LabelsParams, tasks: Mapping[str, Task]) -> Task:
    """Valence and arousal; ValueError where the corpus lacks the task or a class has no published value."""
    classes_of(params.task, params.lexicon, tasks)
    return Task("valence-arousal", "regression", VALUES)


def words_task(params: Params, tasks: Mapping[str, Task]) -> Task:
    """Valence and arousal."""
    return Task("valence-arousal", "regression", VALUES)


def build_labels(params: LabelsParams, tasks: Mapping[str, Task]) -> Scorer:
    """The scorer."""
    from .scorers import Labels

    return Labels(params, tasks)


def build_words(params: WordsParams, tasks: Mapping[str, Task]) -> Scorer:
    """The scorer, trained."""
    from .scorers import TextRegressor

    return TextRegressor(params)


def build_table(params: TableParams, tasks: Mapping[str, Task]) -> Scorer:
    """The scorer."""
    from .scorers import TableScores

    return TableScores(params)


@hookimpl
def register_heads(register: Register[HeadSpec]) -> None:
    """Offer the head."""
    register(
        HeadSpec(
            "univa-fusion",
            "concatenation, softmax over emotions, divergence from the labels, correlation prior",
            ("multi-label", "single-label"),
            FusionParams,
            build_fusion,
            f"{PAPER}, Eq. 6 to 10",
        )
    )


@hookimpl
def register_scorers(register: Register[ScorerSpec]) -> None:
    """Offer the scorers."""
    register(
        ScorerSpec(
            "va-labels",
            "valence and arousal of the labels' names",
            LabelsParams,
            (),
            labels_task,
            build_labels,
            "NRC-VAD: Mohammad, ACL 2018",
        )
    )
    register(
        ScorerSpec(
            "va-words",
            "valence and arousal of a text, by ridge regression trained on EmoBank",
            WordsParams,
            ("words",),
            words_task,
            build_words,
            "EmoBank: Buechel, Hahn, EACL 2017",
        )
    )
    register(ScorerSpec("va-table", "valence and arousal out of a CSV of the user's", TableParams, (), words_task, build_table))


@hookimpl
def register_presets(register: Register[PresetSpec]) -> None:
    """Offer the settings of the text and of the code."""
    for preset in PRESETS:
        register(preset)


@hookimpl
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer the paper's tables."""
    register(UNIVA)
