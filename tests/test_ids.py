"""Streams of ids: never normalised, and a text model that is trained on them through every stage."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from mmcl import load_encoders
from mmcl.api import RecipeError, Stream
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.recipe.schema import Augment
from mmcl.runs import RunFolder
from mmcl.stages.prepare import prepare
from mmcl.stages.pretrain import pretrain
from mmcl.stages.supervise import supervise

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random BERT with a tokenizer of letters, as its library saves it."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=8,
        initializer_range=0.3,
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


RECIPE = """\
format: 1
name: finetuned
dataset: {{use: toy, samples: 48, speakers: 12}}
modalities:
  text:
    features: {{use: hf-tokens, model: {model}, longest: 40}}
    backbone: {{use: hf-encoder, pool: additive}}
  audio: {{features: {{use: log-mel, bands: 8, hop: 0.04, window: 0.05}}, backbone: {{use: tcn, channels: [8]}}}}
projection: {{hidden: 8, width: 4}}
pretrain: {{batch_size: 8, epochs: 1}}
probe: {{inputs: [all], heads: {{linear: {{use: linear, l2: [0.1, 1]}}}}}}
report: {{against: []}}
"""


def plan_of(model, *overrides):
    return make_plan(parse_recipe(RECIPE.format(model=model), "r.yaml", overrides), None, overrides=overrides)


def test_ids_are_not_normalised_and_a_recipe_that_asks_for_it_is_told(model):
    assert [m.normalise for m in plan_of(model).modalities] == ["none", "channel"]
    assert plan_of(model, "modalities.text.normalise=none").modalities[0].normalise == "none"
    for override, words in (
        (
            "modalities.text.normalise=channel",
            "modalities.text.normalise: 'text' is a stream of tokens, whose numbers stand for something",
        ),
        ("modalities.text.augment.noise=0.1", "modalities.text.augment: 'text' is a stream of tokens"),
        ("worth={robustness: {noise: [1.0]}}", "worth.robustness: 'text' is a stream of tokens"),
        (
            "modalities.text.backbone={use: univa-encoder}",
            "'univa-encoder' takes time × channel; 'hf-tokens' gives tokens (time × token 1)",
        ),
    ):
        with pytest.raises(RecipeError) as error:
            plan_of(model, override)
        assert words in str(error.value)
        assert str(error.value).count("\n") == 0
    # As the messages say: nothing is asked of the ids, and of `worth` lateness alone.
    assert plan_of(model).modalities[0].augment == Augment()
    late = plan_of(model, "worth={robustness: {noise: [], loss: [], late: [0.2]}}").recipe.worth
    assert late is not None
    assert late.robustness.late == (0.2,)


def test_saved_encoders_hold_all_weights_and_load_without_the_folder(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    run = RunFolder(tmp_path / "runs" / "finetuned")
    plan = plan_of(folder, "pretrain.optimizer={use: adamw, lr: 1e-3}")
    prepare(plan, run, workers=1)
    pretrain(plan, run, "cpu")
    before = transformers.AutoModel.from_pretrained(folder).state_dict()
    (kept,) = [where for _, _, where in run.units("pretrain")]
    loaded = load_encoders(kept)["text"]
    ids = torch.tensor([[2.0, 5, 6, 3], [2, 7, 3, 0]])
    stream = Stream(ids[..., None], torch.tensor([[True] * 4, [True] * 3 + [False]]), torch.tensor([True, True]))
    wanted = loaded.encode(stream)[0].vector
    moved = [name for name, value in loaded.backbone.model.state_dict().items() if not torch.equal(value, before[name])]
    assert moved  # it has learned
    shutil.rmtree(folder)
    alone = load_encoders(kept)["text"]
    assert not any(module.training for module in alone.modules())
    assert torch.equal(alone.encode(stream)[0].vector, wanted)
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_labels_and_contrast_reach_the_model_through_the_head(model, tmp_path):
    section = (
        "supervise={heads: {linear: {use: mlp, hidden: 4}}, inputs: [text], optimizer: {use: adamw, lr: 1e-3}, batch_size: 8, "
        "epochs: 1, contrast: 0.5}"
    )
    run = RunFolder(tmp_path / "runs" / "finetuned")
    plan = plan_of(
        model,
        section,
        "pretrain.epochs=0",
        "pretrain.views=2",
        "pretrain.objective.pairs=same",
        "modalities.text.backbone.layers=1",
    )
    prepare(plan, run, workers=1)
    supervise(plan, run, "cpu")
    ((_, _, folder),) = run.units("supervise")
    kept = load_file(str(folder / "models" / "emotion~text~linear.safetensors"))
    before = transformers.AutoModel.from_pretrained(model).state_dict()
    place = "encoders.text.backbone.model."
    moved = {
        name for name, value in before.items() if f"{place}{name}" in kept and not torch.equal(kept[f"{place}{name}"], value)
    }
    assert moved
    assert all(name.startswith("encoder.layer.2.") for name in moved)  # and below it nothing has
    assert {name.removeprefix(place) for name in kept if name.startswith(place)} >= moved
