"""`--set` reaches into everything that a recipe leaves out: overrides are laid over the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mmcl
from mmcl.api import RecipeError
from mmcl.recipe import schema
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import as_yaml, parse_recipe
from mmcl.recipe.search import load_sweep
from mmcl.recipe.slots import Section

GOOD = """\
format: 1
name: good
dataset: toy
modalities:
  words: {features: hashed-words, backbone: {use: mlp}}
  audio: {features: log-mel, backbone: tcn}
"""
OFF = ("supervise", "sweep", "pretrain.pretext")
"""Sections that are off by default and need a key that has no default."""


def leaves(model: type[Section], instance: Any = None, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the schema that holds no section, with its default; `supervise` and `sweep` are off, `worth` is opened."""
    for name, field in model.model_fields.items():
        key = f"{inside}{name}"
        if key in OFF or field.is_required():
            continue
        value = field.get_default(call_default_factory=True) if instance is None else getattr(instance, name)
        if key == "worth":
            value = schema.Worth()
        if isinstance(value, Section):
            yield from leaves(type(value), value, f"{key}.")
        elif isinstance(value, dict) and value:
            for one, inner in value.items():
                yield from leaves(type(inner), inner, f"{key}.{one}.")
        elif key not in ("base", "seed"):
            yield key, value


LEAVES = dict(leaves(schema.Recipe))


def plain(value: Any) -> Any:
    if isinstance(value, Section):
        return {name: plain(one) for name, one in value.model_dump(mode="json").items()}
    return value


def plan(*overrides: str):
    return make_plan(parse_recipe(GOOD, "r.yaml", overrides), overrides=overrides)


def test_the_leaves_that_are_tried_lie_in_every_section_that_has_a_default():
    assert len(LEAVES) > 50
    for one in ("pretrain.optimizer.lr", "pretrain.schedule.warmup", "probe.training.optimizer.betas", "protocol.valid"):
        assert one in LEAVES
    assert {key.split(".")[0] for key in LEAVES} >= {"window", "projection", "pretrain", "probe", "worth", "protocol", "report"}


@pytest.mark.parametrize("key", LEAVES)
def test_every_leaf_of_the_schema_can_be_set_where_the_recipe_leaves_its_section_out(key):
    value = LEAVES[key]
    given = f"{key}={as_yaml(plain(value), flow=True)}"
    without = plan(*(["worth={}"] if key.startswith("worth.") else [])).to_json()
    resolved = plan(given).to_json()
    assert {**resolved, "overrides": []} == {**without, "overrides": []}, "the default, laid over itself, changes nothing"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("pretrain.optimizer.lr=0.5", 0.5),
        ("pretrain.optimizer.momentum=0.5", 0.5),
        ("pretrain.schedule.warmup=2", 2.0),
        ("pretrain.objective.loss.params.temperature=0.5", 0.5),
        ("probe.training.optimizer.weight_decay=0.5", 0.5),
        ("probe.heads.linear.standardise=group", "group"),
        ("modalities.audio.augment.noise=0.5", 0.5),
        ("modalities.audio.features.params.bands=20", 20),
        ("modalities.audio.backbone.params.dropout=0.5", 0.5),
        ("pretrain.views=2", 2),
        ("protocol.valid=0.5", 0.5),
        ("window.seconds=0.5", 0.5),
        ("projection.width=5", 5),
        ("worth.draws=5", 5),
    ],
)
def test_another_value_arrives_and_nothing_else_changes(override, value):
    key, _, text = override.partition("=")
    resolved = plan(f"{key.replace('.params', '')}={text}").to_json()
    inner: Any = resolved
    for name in key.split("."):
        inner = inner[name]
    assert inner == value
    inner = resolved
    *way, last = key.split(".")
    for name in way:
        inner = inner[name]
    old: Any = plan(*(["worth={}"] if key.startswith("worth.") else [])).to_json()
    for name in way:
        old = old[name]
    assert {**inner, last: None} == {**old, last: None}


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("pretrain.objective.loss", lambda p: p.loss),
        ("pretrain.objective.positives", lambda p: p.positives),
        ("probe.heads.linear", lambda p: p.heads["linear"]),
        ("modalities.audio.features", lambda p: p.modalities[1].features),
        ("modalities.audio.backbone", lambda p: p.modalities[1].backbone),
        ("dataset", lambda p: p.dataset),
    ],
)
def test_every_option_of_a_plug_in_that_stands_by_default_can_be_set(what, part):
    resolved = plan()
    options = part(resolved).params.model_dump(mode="json")
    for name, value in options.items():
        changed = plan(f"{what}.{name}={as_yaml(_tuples(value), flow=True)}")
        assert part(changed).params == part(resolved).params, name


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def test_a_head_is_added_to_the_default_one_and_the_default_one_can_be_taken_away():
    assert list(plan("probe.heads.mlp=mlp").heads) == ["linear", "mlp"]
    assert list(plan("probe.heads.mlp=mlp", "probe.heads.linear=").heads) == ["mlp"]
    assert list(plan("probe.heads={mlp: mlp}").heads) == ["mlp"]


def test_another_kind_is_named_before_or_after_its_options():
    for sets in (("use=cosine", "floor=0.1"), ("floor=0.1", "use=cosine")):
        assert plan(*(f"pretrain.schedule.{one}" for one in sets)).recipe.pretrain.schedule.floor == 0.1


def test_a_sweep_and_the_python_api_reach_as_far(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        GOOD
        + "pretrain: {epochs: 1}\nsweep: {trials: 2, space: {pretrain.optimizer.lr: [1e-3, 1e-2], pretrain.objective.loss.temperature: [0.1]}}\n"
    )
    search = load_sweep(path)
    trial = search.plan_of({"pretrain.optimizer.lr": 1e-2, "pretrain.objective.loss.temperature": 0.1})
    assert trial.recipe.pretrain.optimizer.lr == 1e-2
    assert trial.loss.params.temperature == 0.1
    assert mmcl.check(path, set=["pretrain.schedule.warmup=3"]).recipe.pretrain.schedule.warmup == 3


def test_a_section_that_is_off_by_default_has_defaults_too_once_it_is_on():
    supervised = plan("supervise.heads.mlp=mlp", "supervise.optimizer.lr=0.5", "supervise.schedule.warmup=2").recipe.supervise
    assert supervised.optimizer == schema.Sgd(lr=0.5)
    assert supervised.schedule == schema.Constant(warmup=2)


def test_a_key_that_is_nowhere_is_refused_as_before():
    with pytest.raises(RecipeError, match="not a key here"):
        plan("pretrain.optimiser.lr=0.1")
    with pytest.raises(RecipeError, match="scores.mood"):
        plan("scores.mood.source=words")
