"""Recipes that hold one thing to be tried: their plans, what networks of those give, and what features make of a recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, NoParams, Raw, Source, Task, Timed
from mmcl.plugins import Loaded, Offer, Plugins, plugins
from mmcl.recipe.plan import Plan
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.testing import make_raw, make_stream
from tests.advice import Row

TOY = {"use": "toy", "samples": 24, "speakers": 6}
WORDS = {
    "source": "words",
    "features": {"use": "hashed-words", "dim": 4},
    "backbone": {"use": "mlp", "hidden": [4], "width": 4},
}
MEL = {"use": "log-mel", "bands": 8, "hop": 0.1, "window": 0.2}
SMALL = {"use": "tcn", "channels": [4]}
MOOD = Task("mood", "single-label", ("calm", "tense"))
Options = Mapping[str, Any]


def planned(one: Options, dataset: Options | Source = TOY, **sections: Any) -> Plan:
    """What `mmcl check` makes of a recipe with the modality `one` and one of words beside it.

    dataset  that section of the recipe; or a source that is called `one`, of a dataset of a stranger's
    """
    known = plugins()
    if isinstance(dataset, Source):
        info = DatasetInfo({"one": dataset, "words": Source("words", "what is said")}, {"mood": MOOD}, "speaker")
        spec = DatasetSpec("study", "a study", NoParams, lambda params: info, _unread, needs_root=False)
        known = Plugins(
            [*known.loaded, Loaded("study", "study", "1.0", "", (Offer("dataset", spec, "study", "1.0", "study"),))]
        )
    recipe = {
        "format": 1,
        "name": "tried",
        "dataset": {"use": "study"} if isinstance(dataset, Source) else dataset,
        "modalities": {"one": one, "words": WORDS},
        "projection": {"hidden": 4, "width": 4},
        "protocol": {"use": "k-fold", "k": 2},
        **sections,
    }
    return make_plan(parse_recipe(json.dumps(recipe), "recipe.yaml"), plugins=known, without=True)


def _unread(params: NoParams, root: Path | None) -> Dataset:
    raise AssertionError("no recording of it is read")


def folder_of(**source: Any) -> Options:
    """A folder of one's own whose options say all, so that no table of it is read: words, and the source `one`."""
    return {
        "use": "folder",
        "sources": {"one": source, "words": {"reads": "words"}},
        "labels": {"mood": {"type": "single-label", "classes": ["calm", "tense"]}},
    }


def vectors(plan: Plan) -> torch.Tensor:
    """What the network of the modality `one` gives of two recordings of 24 and 17 steps, [2, its width]; they are told apart."""
    modality = plan.modalities[0]
    assert modality.backbone is not None
    torch.manual_seed(0)
    network = modality.backbone.spec.build(modality.backbone.params, modality.layout).eval()
    with torch.no_grad():
        vector = network(make_stream(modality.layout, (24, 17))).vector
    assert vector.shape == (2, network.width)
    assert vector.isfinite().all()
    assert not torch.allclose(vector[0], vector[1])
    return vector


def streamed(plan: Plan, raw: Raw | None = None) -> np.ndarray[Any, Any]:
    """What the features of the modality `one` make of a recording, by default a made-up one of its source."""
    modality = plan.modalities[0]
    source: Source = plan.info.sources[modality.source]
    stream = modality.features.spec.build(modality.features.params, source).extract(make_raw(source) if raw is None else raw)
    values = stream.values if isinstance(stream, Timed) else stream
    assert values.shape[-len(modality.layout.shape) :] == modality.layout.shape
    assert np.isfinite(values).all()
    return values


def network(where: str, words: str, given: Options, backbone: Options, wrong: Options, *right: Options) -> Row:
    """A network whose options do not fit a stream, and those that the message says.

    given     the modality without its backbone
    backbone  options of either
    """

    def tried(options: Options) -> None:
        plan = planned({**given, "backbone": {**backbone, **options}})
        part = plan.modalities[0].backbone
        assert part is not None
        stated = json.loads(json.dumps(part.params.stated()))
        assert {name: stated[name] for name in options} == json.loads(json.dumps(options))
        vectors(plan)

    return Row(where, words, lambda folder: tried(wrong), _each(tried, right))


def feature(where: str, words: str, dataset: Options | Source, features: Options, wrong: Options, *right: Options) -> Row:
    """Features that cannot be made of the source `one`, and the options that the message says."""

    def tried(options: Options) -> None:
        streamed(planned({"source": "one", "features": {**features, **options}, "backbone": _fitting(features)}, dataset))

    return Row(where, words, lambda folder: tried(wrong), _each(tried, right))


def corpus(use: str, root: Path, **options: Any) -> Any:
    """A dataset by its name, opened as `prepare` does: its options validated, and completed where it reads its own table."""
    spec = plugins().get("dataset", use).spec
    params = spec.params.model_validate_json(json.dumps(options))
    return spec.build(params if spec.complete is None else spec.complete(params, root), root)


def sample(use: str, root: Path, recordings: int = 12) -> None:
    """A tiny made-up copy of a corpus, as `mmcl sample` writes it."""
    if use.startswith("cmu-"):
        pytest.importorskip("h5py")
    plugins().get("dataset", use).spec.sample(root, recordings, 0)


def _each(tried: Callable[[Options], None], right: tuple[Options, ...]) -> Callable[[Path], None]:
    def then(folder: Path) -> None:
        for options in right:
            tried(options)

    assert right, "at least one way that the message says"
    return then


def _fitting(features: Options) -> Options:
    """A small network that takes what such features give."""
    return FITTING.get(features["use"], SMALL)


FITTING: Mapping[str, Options] = {
    "frames": {"use": "frame-cnn", "channels": [4]},
    "skeleton": {"use": "linear-1d", "channels": 4},
    "skeleton-streams": {"use": "linear-1d", "channels": 4},
    "voice-functionals": {"use": "mlp", "hidden": [4], "width": 4},
}
