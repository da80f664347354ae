"""A text model that is trained on: its ids, its masks, what is frozen. Whole runs of it stand in tests/test_ids.py."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import mmcl_hub
import numpy as np
import pytest
import torch
from mmcl_hub import HfEncoderParams, HfTokensParams
from mmcl_hub.features import HfTokens
from mmcl_hub.finetuned import HfEncoder, learning_part

from mmcl.api import DataError, Layout, Source, Words
from mmcl.testing import check_backbone, check_modality
from mmcl.testing.batch import stack_rows

transformers = pytest.importorskip("transformers")
BACKBONES, MODALITIES = [], []
mmcl_hub.register_backbones(BACKBONES.append)
mmcl_hub.register_modalities(MODALITIES.append)
ENCODER = next(spec for spec in BACKBONES if spec.name == "hf-encoder")
TOKENS = next(spec for spec in MODALITIES if spec.name == "hf-tokens")
SIZES = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WORDS = Words(("the", "words", "film"), np.array([[0.0, 0.4], [0.4, 1.0], [1.0, 1.2]]))


def roberta(folder, **more):
    """A random RoBERTa, which counts positions from its padding's id, with byte pairs of single letters."""
    folder.mkdir(exist_ok=True)
    letters = sorted({*"thewordsfilmq", "\u0120"})
    vocab = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        **{
            "vocab_size": len(vocab),
            "max_position_embeddings": 60,
            "initializer_range": 0.3,
            "type_vocab_size": 1,
            **SIZES,
            **more,
        }
    )
    transformers.RobertaModel(config).save_pretrained(folder)
    transformers.RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def write_model(bert):
    """Writes a tiny model of either sort into a folder of that name."""
    return lambda folder, **more: {"bert": bert, "roberta": roberta}[folder.name](folder, **more)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def model(request, write_model, tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / request.param)


def layout_of(model, **more):
    return TOKENS.layout(HfTokensParams(model=str(model), **{"longest": 40, **more}), Source("words", "w"))


def stream_of(*rows, pad=0):
    return stack_rows([torch.tensor(row, dtype=torch.float32)[:, None] for row in rows], pad)


# ------------------------------------------------------------------------------------------------------------------ tokens


def test_ids_are_the_tokenizers_own_at_the_times_of_their_words(model):
    params = HfTokensParams(model=str(model))
    got = HfTokens(params).extract(WORDS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model, add_prefix_space=True)
    wanted = tokenizer("the words film")["input_ids"]
    assert got.values.shape == (len(wanted), 1)
    assert got.values[:, 0].tolist() == wanted
    assert wanted[0] == tokenizer.cls_token_id
    assert wanted[-1] == tokenizer.sep_token_id
    assert got.times[0].tolist() == [0, 0]
    assert got.times[-1].tolist() == [1.2, 1.2]
    assert {tuple(t) for t in got.times[1:-1].tolist()} == {(0, 0.4), (0.4, 1.0), (1.0, 1.2)}
    cut = HfTokens(HfTokensParams(model=str(model), longest=4)).extract(WORDS).values[:, 0].tolist()
    assert cut == [*wanted[:3], wanted[-1]]
    check_modality(TOKENS, params=HfTokensParams(model=str(model), longest=40))


def test_a_tokenizer_of_another_model_is_refused(bert, tmp_path):
    folder = bert(tmp_path / "bert", vocab_size=9)
    with pytest.raises(DataError, match="knows 9 ids, but its tokenizer gives 13"):
        HfTokens(HfTokensParams(model=str(folder))).extract(WORDS)


# ----------------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(
    "options", [{"pool": "cls"}, {"pool": "mean"}, {"pool": "additive"}, {"layers": 1}, {"weights": "random"}], ids=str
)
def test_it_keeps_the_contract(model, write_model, tmp_path, options):
    still = write_model(tmp_path / model.name, **STILL)
    check_backbone(ENCODER, HfEncoderParams(**options), layout_of(still))


def test_it_gives_what_the_model_gives_and_padding_changes_nothing(model):
    encoder = HfEncoder(HfEncoderParams(pool="mean"), layout_of(model), pretrained=True).eval()
    plain = transformers.AutoModel.from_pretrained(model).eval()
    first, second = [0, 5, 6, 7, 8, 2], [0, 9, 2]
    got, padded = encoder(stream_of(first, second)), encoder(stream_of(first, second, pad=20))
    for i, row in enumerate((first, second)):
        with torch.no_grad():
            wanted = plain(input_ids=torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(got.sequence[i, : len(row)], wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(got.vector[i], wanted.mean(0), rtol=0, atol=1e-5)
        torch.testing.assert_close(padded.vector[i], got.vector[i], rtol=0, atol=1e-6)
        assert not padded.sequence[i, len(row) :].any()
    cls = HfEncoder(HfEncoderParams(), layout_of(model), pretrained=True).eval()(stream_of(first, second))
    torch.testing.assert_close(cls.vector, cls.sequence[:, 0])


def test_additive_attention_is_its_formula(model):
    torch.manual_seed(1)
    encoder = HfEncoder(HfEncoderParams(pool="additive"), layout_of(model), pretrained=True).eval()
    row = [0, 5, 6, 7, 2]
    with torch.no_grad():
        got = encoder(stream_of(row, [0, 2, 3, 4, 5, 6, 7, 2]))
        hidden = encoder.enter(encoder.model(input_ids=torch.tensor([row])).last_hidden_state[0])
        energy = torch.stack(
            [encoder.weigh.weight[0] @ (encoder.project.weight @ h + encoder.project.bias).tanh() for h in hidden]
        )
        weight = energy.exp() / energy.exp().sum()
    torch.testing.assert_close(got.vector[0], sum(w * h for w, h in zip(weight, hidden, strict=True)), rtol=0, atol=1e-5)


def test_only_the_top_layers_learn_and_what_is_frozen_has_no_dropout(bert, tmp_path):
    folder = bert(tmp_path / "bert", hidden_dropout_prob=0.5)
    encoder = HfEncoder(HfEncoderParams(layers=1), layout_of(folder), pretrained=True)
    assert not encoder.model.training  # as it was loaded
    learn = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learn == {name for name, _ in encoder.named_parameters() if "encoder.layer.2." in name}
    encoder.train()
    assert encoder.training
    below = {name for name, m in encoder.model.named_modules() if isinstance(m, torch.nn.Dropout) and m.training}
    assert below
    assert all(name.startswith("encoder.layer.2.") for name in below)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.1)
    encoder(stream_of([2, 5, 6, 3], [2, 7, 3])).vector.square().sum().backward()
    optimizer.step()
    assert {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])} <= learn
    assert not torch.equal(
        encoder.model.encoder.layer[2].output.dense.weight, before["model.encoder.layer.2.output.dense.weight"]
    )
    everything = HfEncoder(HfEncoderParams(), layout_of(folder), pretrained=True)
    assert all(p.requires_grad for p in everything.parameters())
    assert everything.train().model.embeddings.dropout.training


def test_random_weights_are_drawn_from_the_seed_and_pretrained_ones_are_the_folders(model):
    plain = transformers.AutoModel.from_pretrained(model).state_dict()

    def weights(kind, seed):
        torch.manual_seed(seed)
        return ENCODER.build(HfEncoderParams(weights=kind), layout_of(model)).model.state_dict()

    assert all(torch.equal(value, plain[name]) for name, value in weights("pretrained", 3).items())
    one, again, other = weights("random", 3), weights("random", 3), weights("random", 4)
    assert all(torch.equal(one[name], again[name]) for name in one)
    name = "embeddings.word_embeddings.weight"
    assert not torch.equal(one[name], other[name])
    assert not torch.equal(one[name], plain[name])


def test_what_does_not_fit_is_refused_before_a_run(bert, tmp_path):
    one, other = bert(tmp_path / "bert"), roberta(tmp_path / "roberta")
    folder = tmp_path / "t5"
    folder.mkdir()
    (folder / "config.json").write_text('{"vocab_size": 18, "is_encoder_decoder": true}')
    for params, layout, words in (
        (HfEncoderParams(), Layout("tokens", ("time", "token"), {"token": 1}), "'hf-encoder' needs a model"),
        (HfEncoderParams(model=str(other)), layout_of(one), r"knows 19 ids; those of '.*bert' are 18: take one model for both"),
        (HfEncoderParams(model=str(folder)), layout_of(one), "has a decoder"),
        (HfEncoderParams(layers=4), layout_of(one), "has 3 layers; layers: 4 is more"),
        (HfEncoderParams(), layout_of(other, longest=59), "has positions for 58 tokens; set longest: 58 or less"),
        (HfEncoderParams(model=str(tmp_path)), layout_of(one), "has no config.json"),
        (
            HfEncoderParams(),
            Layout("tokens", ("time", "token"), {"token": 2}, notes={"model": "x"}),
            "one id a step; these have 2",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            ENCODER.fits(params, layout)
    ENCODER.fits(HfEncoderParams(), layout_of(other, longest=58))
    for folder in (one, other):  # one model for both, as is said above
        params = HfEncoderParams(model=str(folder))
        ENCODER.fits(params, layout_of(folder))
        assert ENCODER.build(params, layout_of(folder)).width == 12
    ENCODER.fits(HfEncoderParams(), TOKENS.layout(HfTokensParams(model="roberta-base"), Source("words", "w")))  # on the hub
    with pytest.raises(ValueError, match="needs a model: the folder"):
        TOKENS.layout(HfTokensParams(), Source("words", "w"))
    shutil.rmtree(one)
    with pytest.raises(DataError, match="cannot be loaded .*; give the folder of a saved one"):
        ENCODER.build(HfEncoderParams(), Layout("tokens", ("time", "token"), {"token": 1}, notes={"model": str(one)}))


@pytest.mark.parametrize("layers", [None, 1])
def test_adapters_are_a_low_rank_change_of_weights_that_stay(bert, tmp_path, layers):
    folder = bert(tmp_path / "bert", **STILL)
    layout = TOKENS.layout(HfTokensParams(model=str(folder)), Source("words", "transcript"))
    params = HfEncoderParams(adapters=2, adapter_scale=3.0, layers=layers)
    torch.manual_seed(0)
    plain, network = ENCODER.build(HfEncoderParams(), layout).eval(), ENCODER.build(params, layout).eval()
    values = HfTokens(HfTokensParams(model=str(folder))).extract(WORDS).values
    stream = stack_rows([torch.tensor(values, dtype=torch.float32)] * 2)
    torch.testing.assert_close(network(stream).vector, plain(stream).vector)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    optimizer = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(3):  # the first step moves what begins at zero alone
        optimizer.zero_grad()
        network(stream).vector[:, 0].sum().backward()
        optimizer.step()
    moved = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
    stack = network.model.encoder.layer
    adapted = [name for name, one in stack[3 - (layers or 3) :].named_modules() if hasattr(one, "down")]
    assert len(adapted) == 6 * (layers or 3)  # queries, keys, values, and three linear layers behind them
    assert {name.rsplit(".", 1)[1] for name in moved} == {"down", "up"}
    assert len(moved) == 2 * len(adapted)
    merged = ENCODER.build(HfEncoderParams(), layout).eval()  # the same change, laid upon the weights themselves
    with torch.no_grad():
        for name, one in network.model.named_modules():
            if hasattr(one, "down"):
                merged.model.get_submodule(name).weight += 3.0 * one.up @ one.down
                torch.testing.assert_close(one.weight, merged.model.get_submodule(name).weight)
    assert not torch.allclose(network(stream).vector, plain(stream).vector, atol=1e-3)
    torch.testing.assert_close(network(stream).vector, merged(stream).vector, rtol=1e-4, atol=1e-5)
    shutil.rmtree(folder)  # what was saved needs nothing of the model's
    again = ENCODER.rebuild(params, layout).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(stream).vector, network(stream).vector)


def test_adapters_keep_the_contract_and_need_a_layer_to_stand_in(bert, tmp_path):
    folder = bert(tmp_path / "bert")
    layout = TOKENS.layout(HfTokensParams(model=str(folder)), Source("words", "transcript"))
    check_backbone(ENCODER, HfEncoderParams(adapters=2), layout)
    with pytest.raises(ValueError, match="layers: 0 trains none; leave layers out, or say how many"):
        ENCODER.fits(HfEncoderParams(adapters=2, layers=0), layout)
    for options in ({}, {"layers": 1}):
        params = HfEncoderParams(adapters=2, **options)
        ENCODER.fits(params, layout)
        learned = {name for name, weight in ENCODER.build(params, layout).named_parameters() if weight.requires_grad}
        assert len(learned) == 2 * 6 * options.get("layers", 3)


def test_a_model_that_shares_one_layer_among_all_is_trained_whole():
    config = {"model_type": "albert", "vocab_size": 18, "embedding_size": 4, "max_position_embeddings": 40, **SIZES}
    layout = Layout("tokens", ("time", "token"), {"token": 1}, notes={"model": "own", "vocab": 18, "config": config})
    for options in ({"layers": 1}, {"adapters": 2}):
        with pytest.raises(
            DataError, match="has no list of 3 layers, so the top ones cannot be told; leave layers and adapters out"
        ):
            ENCODER.build(HfEncoderParams(weights="random", **options), layout)
    network = ENCODER.build(HfEncoderParams(weights="random"), layout)
    assert all(weight.requires_grad for weight in network.parameters())
    assert network(stream_of([2, 5, 6, 3], [2, 7, 3])).vector.isfinite().all()


def test_layers_without_a_linear_one_take_no_adapters(bert, tmp_path):
    network = torch.nn.Module()
    network.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Conv1d(2, 2, 1)])
    network.config = SimpleNamespace(num_hidden_layers=2)
    with pytest.raises(DataError, match="take a transformer, or leave adapters out"):
        learning_part(network, "own", 1, 2, 2.0)
    transformer = transformers.AutoModel.from_pretrained(bert(tmp_path / "bert"))
    (top,) = learning_part(transformer, "bert", 1, 2, 2.0)
    assert {name.rsplit(".", 1)[1] for name, weight in top.named_parameters() if weight.requires_grad} == {"down", "up"}
    (top,) = learning_part(network, "own", 1, None, 2.0)
    assert all(weight.requires_grad for weight in top.parameters())
