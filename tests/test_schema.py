"""The JSON schema of recipes: it fits every recipe that has a plan, and refuses what a plan refuses by form."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest

from mmcl.api import LossSpec, Params, RecipeError
from mmcl.plugins import Loaded, Offer, Plugins, plugins
from mmcl.recipe.json_schema import json_schema
from mmcl.recipe.planner import load_plan, make_plan
from mmcl.recipe.read import parse_recipe, read_recipe
from mmcl.recipe.shipped import find, names


def test_schema_knows_every_option_of_every_plug_in():
    schema = json_schema(plugins())
    assert schema["$schema"].endswith("2020-12/schema")
    for slot, what in (
        ("UseBackbone", "backbone"),
        ("UseLoss", "loss"),
        ("UseDataset", "dataset"),
        ("UseHead", "head"),
        ("UseModality", "modality"),
    ):
        short, *choices = schema["$defs"][slot]["anyOf"]
        assert short["enum"] == [name for name, _ in plugins().all(what)]
        for (name, offer), choice in zip(plugins().all(what), choices, strict=True):
            assert choice["properties"]["use"]["const"] == name
            assert set(offer.spec.params.model_fields) <= set(choice["properties"])
            assert choice["additionalProperties"] is False
    text = json.dumps(schema)
    for reference in {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}:
        assert reference in schema["$defs"], f"the schema refers to {reference}, which it does not define"


def fits(schema: dict, value, whole: dict) -> bool:
    """Whether a value fits a JSON schema, by the letter of the standard; only what our schema uses, and anything else is refused."""
    known = {
        "$ref",
        "$defs",
        "$schema",
        "title",
        "description",
        "default",
        "type",
        "enum",
        "const",
        "if",
        "then",
        "else",
        "anyOf",
        "oneOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minProperties",
        "minLength",
        "maxLength",
        "pattern",
    }
    assert set(schema) <= known, f"the test does not know {set(schema) - known}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    types = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "null": value is None,
        "number": number,
        "integer": number and value == int(value),
    }
    checks = [
        "$ref" not in schema or fits(whole["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, whole),
        "type" not in schema or types[schema["type"]],
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or (value == schema["const"] and isinstance(value, bool) == isinstance(schema["const"], bool)),
        "if" not in schema or fits(schema["then" if fits(schema["if"], value, whole) else "else"], value, whole),
        "anyOf" not in schema or any(fits(one, value, whole) for one in schema["anyOf"]),
        "oneOf" not in schema or sum(fits(one, value, whole) for one in schema["oneOf"]) == 1,
    ]
    if number:
        checks += [
            value >= schema.get("minimum", value),
            value <= schema.get("maximum", value),
            "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"],
            "exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"],
        ]
    if isinstance(value, str):
        checks += [re.search(schema.get("pattern", ""), value) is not None]
        checks += [schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))]
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        checks += [schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))]
        checks += [fits(one, item, whole) for one, item in zip(first, value, strict=False)]
        checks += [fits(schema["items"], item, whole) for item in value[len(first) :] if "items" in schema]
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        checks += [len(value) >= schema.get("minProperties", 0), set(schema.get("required", [])) <= set(value)]
        checks += [fits(properties[k], v, whole) for k, v in value.items() if k in properties]
        checks += [
            others if isinstance(others, bool) else fits(others, v, whole) for k, v in value.items() if k not in properties
        ]
    return all(checks)


@pytest.fixture(scope="module")
def recipe_schema() -> dict:
    return json_schema(plugins())


def as_written(text: str) -> dict:
    """A recipe's keys as JSON has them, `base` among them rather than merged."""
    values = parse_recipe(re.sub(r"^base:", "derives:", text, flags=re.M), "r.yaml").values
    return json.loads(json.dumps({"base" if key == "derives" else key: value for key, value in values.items()}))


def as_json(*overrides: str, recipe: str = "quickstart") -> dict:
    return json.loads(json.dumps(read_recipe(find(recipe), overrides).values))


@pytest.mark.parametrize("recipe", names())
def test_every_shipped_recipe_fits_the_schema(recipe, recipe_schema):
    assert fits(recipe_schema, as_json(recipe=recipe), recipe_schema)


@pytest.mark.parametrize(
    ("override", "sound"),
    [
        ("pretrain.optimizer=adamw", True),
        ("pretrain.optimizer={use: sgd}", True),
        ("pretrain.optimizer={lr: 1e-3}", False),
        ("pretrain.optimizer={momentum: 0.8}", False),
        ("pretrain.optimizer=adam", False),
        ("pretrain.optimizer={use: sgd, betas: [0.9, 0.99]}", False),
        ("pretrain.optimizer={use: adamw, betas: [0.9, 1.5]}", False),
        ("pretrain.optimizer={use: adamw, betas: [0.9, 0.95]}", True),
        ("pretrain.schedule=cosine", True),
        ("pretrain.schedule=step", False),
        ("pretrain.schedule={use: step, every: 2}", True),
        ("protocol=leave-one-group-out", True),
        ("protocol=folds", False),
        ("protocol={use: k-fold, k: 1}", False),
        ("protocol={use: k-fold}", True),
        ("protocol={use: k-fold, valid: next}", False),
        ("protocol={use: k-fold, only: []}", False),
        ("protocol={use: k-fold, only: [0, 2]}", True),
        ("modalities.audio.backbone=tcn", True),
        ("modalities.audio.backbone=tnc", False),
        ("modalities.audio.backbone={use: tcn, kernel: 0}", False),
        ("modalities.audio.backbone={use: tcn, heads: 2}", False),
        ("modalities.audio.backbone={kernel: 3}", False),
        ("modalities.audio.backbone=5", False),
        ("modalities.audio.normalise=no", False),
        ("modalities.audio=log-mel", False),
        ("modalities={}", False),
        ("dataset={use: toy, root: x}", False),
        ("dataset=toy", True),
        ("dataset={use: toy, samples: 100}", True),
        ("dataset={use: toy, samples: many}", False),
        ("pretrain.objective.pairs=star:audio", True),
        ("pretrain.objective.pairs=[[text, audio]]", True),
        ("pretrain.objective.pairs=[[text]]", False),
        ("pretrain.objective.pairs=[text, audio]", False),
        ("pretrain.objective.pairs=5", False),
        ("probe.heads={}", False),
        ("probe.heads.linear={use: linear, standardise: group}", True),
        ("probe.heads.linear={use: linear, standardise: person}", False),
        ("scores.values={use: va-words, corpus: bank.csv, source: words}", True),
        ("scores.values={use: va-words, corpus: bank.csv, sauce: words}", False),
        ("pretrain.pretext={use: cae, nonsense: 1}", False),
        ("probe.inputs=[]", False),
        ("probe.inputs=", True),
        ("probe.seeds=3", False),
        ("probe.seeds=[3]", True),
        ("seed=3", True),
        ("seed=[1, 2]", True),
        ("seed=[]", False),
        ("seed=x", False),
        ("seed=true", False),
        ("name=a/b", False),
        ("format=2", False),
        ("format=", False),
        ("pretrain.epochs=1.5", False),
        ("pretrain.epochs=-1", False),
        ("pretrain.patience=", True),
        ("pretrain.epochs=", False),
        ("nonsense=1", False),
        ("track=[tensorboard]", True),
        ("track=[wandb]", False),
    ],
)
def test_schema_and_plan_agree_on_what_is_a_recipe(override, sound, recipe_schema, monkeypatch):
    real = importlib.util.find_spec  # whether these are installed is not the question
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in ("tensorboard", "umap") else real(name))
    assert fits(recipe_schema, as_json(override), recipe_schema) == sound
    if sound:
        load_plan(find("quickstart"), [override])
    else:
        with pytest.raises(RecipeError):
            load_plan(find("quickstart"), [override])


def test_two_plug_ins_may_call_different_things_by_one_name():
    def offer(package: str, kind: type) -> Offer:
        class Inner(Params):
            size: kind

        class Options(Params):
            inner: Inner

        spec = LossSpec(f"loss-{package}", "a loss", Options, lambda params: None)
        return Offer("loss", spec, package, "1", package)

    both = [Loaded(o.package, o.package, "1", o.package, (o,)) for o in (offer("a", int), offer("b", str))]
    schema = json_schema(Plugins(both))
    slot = schema["$defs"]["UseLoss"]
    for name, right, wrong in (("loss-a", 3, "x"), ("loss-b", "x", 3)):
        assert fits(slot, {"use": name, "inner": {"size": right}}, schema)
        assert not fits(slot, {"use": name, "inner": {"size": wrong}}, schema)
        assert not fits(slot, name, schema), "an option is needed, so the name alone will not do"


def test_every_key_of_a_recipe_says_in_the_schema_what_it_is(recipe_schema):
    for name, definition in [("the recipe", recipe_schema), *recipe_schema["$defs"].items()]:
        for key, section in definition.get("properties", {}).items():
            assert key == "use" or section.get("description"), f"{name}: {key}"
    assert recipe_schema["$defs"]["Pretrain"]["properties"]["epochs"]["default"] == 100


DERIVED = "format: 1\nbase: quickstart\nname: mine\n"


@pytest.mark.parametrize(
    ("changes", "sound"),
    [
        ("", True),
        ("pretrain: {batch_size: 8, patience: null}", True),
        ("pretrain: {batch_size: 1}", False),
        ("pretrain: {optimizer: {lr: 1e-4}}", True),
        ("pretrain: {optimizer: {lr: -1}}", False),
        ("modalities: {text: null}\nprobe: {inputs: null}", True),
        ("modalities: {audio: {backbone: {kernel: 5}}}", True),
        ("modalities: {audio: {backbone: {kernel: 0}}}", False),
        ("modalities: {audio: {backbone: {use: tcn, heads: 2}}}", False),
        ("modalities: {audio: {source: null}}", True),
        ("worth: null", True),
        ("nonsense: 1", False),
    ],
)
def test_schema_and_plan_agree_on_what_a_recipe_may_change_of_its_base(changes, sound, recipe_schema):
    text = DERIVED + changes + "\n"
    assert fits(recipe_schema, as_written(text), recipe_schema) == sound
    if sound:
        make_plan(parse_recipe(text, "mine.yaml"))
    else:
        with pytest.raises(RecipeError):
            make_plan(parse_recipe(text, "mine.yaml"))


@pytest.mark.parametrize("recipe", names())
def test_every_shipped_recipe_fits_the_schema_as_it_is_written(recipe, recipe_schema):
    assert fits(recipe_schema, as_written(find(recipe).read_text(encoding="utf-8")), recipe_schema)


def test_a_base_is_a_name():
    schema = json_schema(plugins())
    assert not fits(schema, {"format": 1, "base": 3}, schema)
    assert not fits(schema, {"format": 1, "base": None}, schema)
    assert not fits(schema, {"format": 1}, schema), "without a base, everything that is needed stands in the recipe"
