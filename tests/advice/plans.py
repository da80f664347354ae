"""Offers of what makes a plan of a recipe, followed: the recipe that is refused, and the same with the advice taken."""

from __future__ import annotations

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from mmcl.api import RecipeError
from mmcl.plugins import plugins
from mmcl.recipe.plan import Plan
from mmcl.recipe.planner import load_plan
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.core import call
from tests.test_plan import SMALL, small

BASE = """\
format: 1
name: advised
dataset: {use: toy, samples: 48, speakers: 6}
modalities:
  words: {features: hashed-words, backbone: mlp}
  audio: {features: log-mel, backbone: tcn}
  faces: {features: frames, backbone: frame-cnn}
"""
TOGETHER = """\
format: 1
name: advised
dataset: toy
modalities:
  words: {features: hashed-words}
  audio: {features: log-mel}
pretrain: {pretext: cae}
"""
"""A recipe whose streams one network takes all together."""
RECORDED = """\
format: 1
name: advised
dataset: folder
modalities:
  sound: {features: log-mel, backbone: tcn}
  text: {features: hashed-words, backbone: mlp}
"""
"""A recipe whose recordings lie in a folder."""

Sets = tuple[str, ...]
Taken = tuple[Sets, str, Any]
"""A recipe with the advice taken: what is laid over it, a key, and what its plan states there."""


def printed(*words: str) -> str:
    """What a command prints, its errors coming through."""
    with redirect_stdout(StringIO()) as out:
        call(*words)
    return out.getvalue()


def planned(folder: Path, *sets: str, text: str = BASE, data: Path | None = None, without: bool = False) -> Plan:
    """The plan of a recipe that is written into a folder."""
    file = folder / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return load_plan(file, sets, data, without=without)


def value_at(plan: Plan, key: str) -> Any:
    """What a plan states at a key, as JSON has it; None where it states nothing."""
    value = json.loads(json.dumps(plan.to_json()))
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def mended(where: str, words: str, wrong: Sets, *taken: Taken, text: str = BASE) -> Row:
    """A recipe that is refused with `wrong` laid over it, and planned with each of what the advice offers in its place."""

    def then(folder: Path) -> None:
        for sets, key, value in taken:
            plan = planned(folder, *sets, text=text)
            assert value_at(plan, key) == value, (sets, key, value_at(plan, key))

    return Row(f"mmcl/recipe/planner/{where}", words, lambda folder: planned(folder, *wrong, text=text), then)


# ------------------------------------------------------------------------------------------------------ dataset and scores


def _recorded(folder: Path) -> Path:
    """A folder of datasets with one that is called `folder`, twelve recordings in it."""
    data = folder / "data"
    if not data.exists():
        plugins().get("dataset", "folder").spec.sample(data / "folder", 12, 0)
    return data


def _told_where_data_are(folder: Path) -> None:
    data = _recorded(folder)
    assert planned(folder, text=RECORDED, data=data).root == data / "folder"
    assert planned(folder, f"dataset.root={data / 'folder'}", text=RECORDED).root == data / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMCL_DATA", str(data))
        assert json.loads(printed("check", str(folder / "recipe.yaml"), "--json"))["dataset"]["root"] == str(data / "folder")


def _stated_without_a_folder(folder: Path) -> None:
    """A recipe for streams at a URL: with --data, and with the options that plan.json of a run with the recordings has."""
    data = _recorded(folder)
    whole = planned(folder, text=RECORDED, data=data)
    assert planned(folder, text=RECORDED, data=data, without=True).dataset.params == whole.dataset.params
    options = {"use": "folder", **value_at(whole, "dataset.params")}
    stated = planned(folder, f"dataset={json.dumps(options)}", text=RECORDED, without=True)
    assert stated.dataset.params == whole.dataset.params
    assert stated.info.tasks == whole.info.tasks
    assert stated.root is None


def _one_above(folder: Path) -> None:
    data = _recorded(folder)
    with pytest.raises(RecipeError) as error:
        planned(folder, text=RECORDED, data=data / "folder")
    offered = re.search(r"did you mean --data (.*)\?", str(error.value))
    assert offered is not None
    assert planned(folder, text=RECORDED, data=Path(offered[1])).root == data / "folder"


DATASETS: list[Row | Elsewhere | NoOffer] = [
    Elsewhere(
        "mmcl/recipe/planner/dataset.py",
        "copy them here by the tools of that place",
        "tests/test_advice_recipes.py::test_recordings_at_a_url_are_copied_here_or_prepared_there_and_their_streams_uploaded",
    ),
    Row(
        "mmcl/recipe/planner/dataset.py dataset_of",
        "; give --data, or state its options",
        lambda folder: planned(folder, text=RECORDED, without=True),
        _stated_without_a_folder,
    ),
    mended(
        "dataset.py root_of",
        "makes its own data; leave root out",
        ("dataset={use: toy, root: here}",),
        (("dataset={use: toy}",), "dataset.use", "toy"),
    ),
    Row(
        "mmcl/recipe/planner/dataset.py root_of",
        "Set dataset.root, or give --data DIR (or MMCL_DATA)",
        lambda folder: planned(folder, text=RECORDED),
        _told_where_data_are,
    ),
    Row(
        "mmcl/recipe/planner/dataset.py twice",
        "; did you mean --data ",
        lambda folder: planned(folder, text=RECORDED, data=_recorded(folder) / "folder"),
        _one_above,
    ),
    mended(
        "dataset.py scores_of",
        "has a task of that name; take another",
        ("scores={emotion: va-labels}",),
        (("scores={mood: va-labels}",), "scores.mood.use", "va-labels"),
    ),
    mended(
        "dataset.py scores_of",
        ": set source",
        ("scores={mood: {use: va-words, source: audio}}",),
        (("scores={mood: {use: va-words, source: words}}",), "scores.mood.source", "words"),
    ),
    mended(
        "dataset.py scores_of",
        "reads labels; leave source out",
        ("scores={mood: {use: va-labels, source: audio}}",),
        (("scores={mood: va-labels}",), "scores.mood.source", None),
    ),
]


# -------------------------------------------------------------------------------------------------- heads and modalities


def _two_sources_that_fit(folder: Path) -> None:
    ours = SMALL.replace("    features: stills\n    backbone: eye\n", "    features: beats\n    backbone: cell\n")
    for name in ("voice", "wrist"):
        assert small(ours.replace("  camera:\n", f"  camera:\n    source: {name}\n")).modalities[1].source == name
    called = small(ours.replace("  camera:\n", "  wrist:\n")).modalities[1]
    assert (called.name, called.source) == ("wrist", "wrist")


MODALITIES: list[Row | Elsewhere | NoOffer] = [
    mended(
        "heads.py supervise_of",
        "so encoders cannot be trained through it; use mlp or another",
        ("supervise={heads: {one: linear}}",),
        (("supervise={heads: {one: mlp}}",), "supervise.heads.one.use", "mlp"),
        (("supervise={heads: {one: attention}}",), "supervise.heads.one.use", "attention"),
    ),
    mended(
        "modalities.py modality_of",
        "is not used with pretrain.pretext, which takes all streams together; leave it out",
        ("modalities.audio.backbone=tcn",),
        ((), "modalities.audio.backbone", None),
        text=TOGETHER,
    ),
    mended(
        "modalities.py modality_of",
        "is of the modality's backbone, which a recipe with pretrain.pretext has not; leave it out",
        ("modalities.audio.frozen=true",),
        ((), "modalities.audio.frozen", None),
        text=TOGETHER,
    ),
    Row(
        "mmcl/recipe/planner/modalities.py _source",
        "or name the modality after it",
        lambda folder: small(SMALL.replace("    features: stills", "    features: beats")),
        _two_sources_that_fit,
    ),
    *(
        Elsewhere(
            "mmcl/recipe/planner/modalities.py _streams_as_asked",
            words,
            "tests/test_ids.py::test_ids_are_not_normalised_and_a_recipe_that_asks_for_it_is_told",
        )
        for words in (
            "leave normalise out, or set it to none",
            "cannot be changed a little; leave augment out",
            "noise and loss would make other things of them; keep late alone",
        )
    ),
]


# ------------------------------------------------------------------------------------------------------------- pretraining

OBJECTIVE = "pretrain.objective"
LABELS = "supervise={heads: {one: mlp}, contrast: 0.1}"
PLAIN = "supervise={heads: {one: mlp}, contrast: 0}"
STEPS = f"{OBJECTIVE}.loss=time-nce"
ALL_STEPS = ("modalities.words=", STEPS)
"""A loss that compares steps at the same second, and no modality without them."""

TOGETHERS = [
    mended(
        f"objective.py {function}",
        words,
        (wrong,),
        (right, key, value),
        text=TOGETHER,
    )
    for function, words, wrong, right, key, value in (
        (
            "pretext_of",
            "all, or leave inputs out",
            "probe.inputs=[audio]",
            ("probe.inputs=[all]",),
            "probe.inputs",
            {"all": ["joint"]},
        ),
        (
            "_check_sides",
            "of which a recipe with pretrain.pretext has none; leave it out",
            f"{OBJECTIVE}.queue=64",
            (),
            f"{OBJECTIVE}.queue",
            None,
        ),
        (
            "_group",
            "of which a recipe with pretrain.pretext has none; leave it out",
            f"{OBJECTIVE}.group=symile",
            (),
            f"{OBJECTIVE}.group",
            None,
        ),
        (
            "_weighed",
            "of which a recipe with pretrain.pretext has none; leave them out",
            f"{OBJECTIVE}.weights={{audio: 2}}",
            (),
            f"{OBJECTIVE}.weights",
            None,
        ),
    )
]
"""What is of pairs of modalities has no place beside a pretext, and goes without it."""

LOSSES: list[Row | Elsewhere | NoOffer] = [
    *TOGETHERS,
    mended(
        "objective.py objective_of",
        "no pair of two different ones is contrasted; set choose: loss",
        (f"{OBJECTIVE}.pairs=same", "pretrain.views=2", "pretrain.choose=retrieval"),
        ((f"{OBJECTIVE}.pairs=same", "pretrain.views=2", "pretrain.choose=loss"), "pretrain.choose", "loss"),
    ),
    mended(
        "objective.py objective_of",
        "set pretrain.epochs: 0, or projection.use: mlp",
        (*(frozen := tuple(f"modalities.{name}.frozen=true" for name in ("words", "audio", "faces"))), "projection.use=none"),
        ((*frozen, "projection.use=none", "pretrain.epochs=0"), "pretrain.epochs", 0),
        ((*frozen, "projection.use=mlp"), "pretrain.epochs", 100),
    ),
    mended(
        "objective.py _check_weights",
        "which losses of a group do not read; leave one of the two out",
        (f"{OBJECTIVE}={{positives: shared-labels, loss: sup-con, group: symile}}",),
        ((f"{OBJECTIVE}={{positives: shared-labels, loss: sup-con}}",), f"{OBJECTIVE}.positives.use", "shared-labels"),
        ((f"{OBJECTIVE}={{loss: sup-con, group: symile}}",), f"{OBJECTIVE}.group.use", "symile"),
    ),
    mended(
        "objective.py _check_sides",
        "leave it out, or name pairs",
        (f"{OBJECTIVE}={{pairs: none, group: symile, queue: 64}}",),
        ((f"{OBJECTIVE}={{pairs: none, group: symile}}",), f"{OBJECTIVE}.queue", None),
        ((f"{OBJECTIVE}={{pairs: [[words, audio]], group: symile, queue: 64}}",), f"{OBJECTIVE}.queue", 64),
    ),
    mended(
        "objective.py _check_sides",
        "supervise.contrast adds plain pairs alone; leave one of the two out",
        (f"{OBJECTIVE}.queue=64", LABELS),
        ((LABELS,), "supervise.contrast", 0.1),
        ((f"{OBJECTIVE}.queue=64", PLAIN), f"{OBJECTIVE}.queue", 64),
    ),
    mended(
        "objective.py _check_sides",
        "set pretrain.objective.predictor: ",
        (f"{OBJECTIVE}.loss=cosine",),
        ((f"{OBJECTIVE}.loss=cosine", f"{OBJECTIVE}.predictor={{}}"), f"{OBJECTIVE}.predictor", {"hidden": 512, "norm": True}),
    ),
    mended(
        "objective.py _check_sequences",
        "leave it out of pretrain.objective.pairs, or take features that have",
        (STEPS,),
        ((STEPS, f"{OBJECTIVE}.pairs=[[audio, faces]]"), f"{OBJECTIVE}.loss.use", "time-nce"),
        (
            (STEPS, "modalities.words={features: face-landmarks, source: landmarks, backbone: st-gcn}"),
            f"{OBJECTIVE}.loss.use",
            "time-nce",
        ),
    ),
    mended(
        "objective.py _check_sequences",
        "windows of one recording begin at different ones: set pretrain.views: 1",
        (*ALL_STEPS, "pretrain.views=2"),
        ((*ALL_STEPS, "pretrain.views=1"), "pretrain.views", 1),
    ),
    mended(
        "objective.py _check_sequences",
        "which queue, momentum and predictor know nothing of; leave one of the two out",
        (*ALL_STEPS, f"{OBJECTIVE}.momentum=0.9"),
        (ALL_STEPS, f"{OBJECTIVE}.loss.use", "time-nce"),
        ((f"{OBJECTIVE}.momentum=0.9",), f"{OBJECTIVE}.momentum", 0.9),
    ),
    mended(
        "objective.py _check_sequences",
        "which are not contrasted beside labels: set supervise.contrast: 0",
        (*ALL_STEPS, LABELS),
        ((*ALL_STEPS, PLAIN), "supervise.contrast", 0),
    ),
    mended(
        "objective.py _group",
        "supervise.contrast adds the pairs alone; leave one of the two out",
        (f"{OBJECTIVE}.group=symile", LABELS),
        ((LABELS,), "supervise.contrast", 0.1),
        ((f"{OBJECTIVE}.group=symile", PLAIN), f"{OBJECTIVE}.group.use", "symile"),
    ),
    mended(
        "objective.py _fit_group",
        "choose some by group.modalities",
        (f"{OBJECTIVE}.group=triangle", four := "modalities.landmarks={features: face-landmarks, backbone: st-gcn}"),
        (
            (f"{OBJECTIVE}.group={{use: triangle, modalities: [words, audio, landmarks]}}", four),
            f"{OBJECTIVE}.group.modalities",
            ["words", "audio", "landmarks"],
        ),
    ),
    mended(
        "objective.py _fit_group",
        "add a modality, or take another loss",
        (f"{OBJECTIVE}.group=triangle", "modalities.faces="),
        ((f"{OBJECTIVE}.group=triangle",), f"{OBJECTIVE}.group.use", "triangle"),
        ((f"{OBJECTIVE}.group=symile", "modalities.faces="), f"{OBJECTIVE}.group.use", "symile"),
    ),
    mended(
        "objective.py _fit_group",
        "contrasts windows of a recording: set pretrain.views: ",
        (f"{OBJECTIVE}.group=comm",),
        ((f"{OBJECTIVE}.group=comm", "pretrain.views=2"), f"{OBJECTIVE}.group.use", "comm"),
    ),
    *(
        mended(
            f"objective.py {function}",
            "would read the labels of the splits in pretrain.transductive; keep one of the two",
            (f"pretrain.{key}={value}", "pretrain.transductive=[valid]"),
            ((f"pretrain.{key}={value}",), f"pretrain.{stated}", value),
            (("pretrain.transductive=[valid]",), "pretrain.transductive", ["valid"]),
        )
        for function, key, value, stated in (
            ("check_balance", "balance", "emotion", "balance"),
            ("sampler_of", "sampler", "by-label", "sampler.use"),
        )
    ),
    mended(
        "objective.py sampler_of",
        "looks at embeddings, which only pretraining keeps; take another one",
        ("supervise={heads: {one: mlp}, sampler: hard}",),
        (("supervise={heads: {one: mlp}, sampler: by-label}",), "supervise.sampler.use", "by-label"),
    ),
    mended(
        "objective.py _pairs",
        "name a loss of all modalities in pretrain.objective.group",
        (f"{OBJECTIVE}.pairs=none",),
        ((f"{OBJECTIVE}.pairs=none", f"{OBJECTIVE}.group=symile"), f"{OBJECTIVE}.group.use", "symile"),
    ),
    mended(
        "objective.py _check_same",
        "set pretrain.views: 2, or pretrain.copies: 2",
        (f"{OBJECTIVE}.pairs=same",),
        *(((f"{OBJECTIVE}.pairs=same", f"pretrain.{name}=2"), f"pretrain.{name}", 2) for name in ("views", "copies")),
    ),
    NoOffer(
        "mmcl/recipe/planner/objective.py _weighed", "leave no pair to contrast", "says what the weights do, not what to do"
    ),
]


# ------------------------------------------------------------------------------------------------------ protocol and window


def _other_protocols(folder: Path) -> None:
    (folder / "folds.csv").write_text("group,fold\na,0\nb,1\n", encoding="utf-8")
    song = SMALL.replace("root: /data}", "root: /data, part: song}").replace("protocol: official\n", "")
    for use in ("hold-out", "k-fold", "folds, file: folds.csv", "leave-one-group-out"):
        plan = small(f"{song}protocol: {{use: {use}}}\n", folder=folder)
        assert plan.recipe.protocol.use == use.partition(",")[0]


COMPILED = ("window.seconds=1", "pretrain.compile=[audio]")
CUT: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/recipe/planner/protocol.py check_official",
        "has no official test split; use hold-out, k-fold, folds or leave-one-group-out",
        lambda folder: small(SMALL.replace("root: /data}", "root: /data, part: song}")),
        _other_protocols,
    ),
    mended(
        "protocol.py check_compiled",
        "has not been tried beside sync_batchnorm or shard; leave one of them out",
        (*COMPILED, "pretrain.sync_batchnorm=true"),
        (COMPILED, "pretrain.compile", ["audio"]),
        (("window.seconds=1", "pretrain.sync_batchnorm=true"), "pretrain.sync_batchnorm", True),
    ),
    mended(
        "protocol.py check_compiled",
        "pretrain.pretext puts one of all in their place; leave it out",
        COMPILED,
        (("window.seconds=1",), "pretrain.compile", None),
        text=TOGETHER,
    ),
    mended(
        "protocol.py check_compiled",
        "and its network would be translated again and again; leave it out",
        ("pretrain.compile=[audio]",),
        ((), "pretrain.compile", None),
    ),
    mended(
        "protocol.py check_window",
        "stands in place of window.seconds; keep one of the two",
        ("window={seconds: 1, share: 0.5}",),
        (("window={seconds: 1}",), "window.seconds", 1),
        (("window={share: 0.5}",), "window.share", 0.5),
    ),
]


# ------------------------------------------------------------------------------------------------------- packages and values

WRITTEN = {
    "modalities.audio.frozen": ("'True'", True),
    "pretrain.epochs": ("1e2", 100),
    "pretrain.batch_size": ("'32'", 32),
    "pretrain.optimizer.weight_decay": ("'1e-3'", 1e-3),
}
"""Keys whose values are written wrongly, and in such a way that it shows what was meant."""


def _written(folder: Path) -> Plan:
    return planned(folder, "pretrain.optimizer=adamw", *(f"{key}={wrong}" for key, (wrong, _) in WRITTEN.items()))


def _written_as_told(folder: Path) -> None:
    with pytest.raises(RecipeError) as error:
        _written(folder)
    told = {one.key: re.search(r"\(write (\S+)(?: without quotes)?\)", one.text) for one in error.value.problems}
    assert told.keys() == WRITTEN.keys()
    plan = planned(folder, "pretrain.optimizer=adamw", *(f"{key}={words[1]}" for key, words in told.items() if words))
    assert {key: value_at(plan, key) for key in WRITTEN} == {key: value for key, (_, value) in WRITTEN.items()}


PLANS: list[Row | Elsewhere | NoOffer] = [
    *DATASETS,
    *MODALITIES,
    *LOSSES,
    *CUT,
    *(
        Elsewhere(
            "mmcl/recipe/planner/__init__.py _check_extras",
            f"pip install 'mmcl[{extra}]'",
            "tests/test_advice_recipes.py::test_what_a_recipe_needs_and_lacks_is_brought_by_the_extra_that_is_named",
        )
        for extra in ("umap", "track")
    ),
    Elsewhere(
        "mmcl/recipe/planner/problems.py _check_nulls",
        "for null itself: --set ",
        "tests/test_base.py::test_a_null_that_would_quietly_be_the_default_of_a_plug_in_is_refused",
    ),
    Row("mmcl/recipe/planner/validation.py _remedy", "(write ", _written, _written_as_told),
]
