"""Features of models of the hub: tiny random models of the real classes, a token at a time and a frame at a time."""

from __future__ import annotations

import shutil
import sys

import mmcl_hub
import numpy as np
import pytest
import torch
from mmcl_hub import HfEncoderParams, HfSpeechParams, HfTextParams, HfTokensParams
from mmcl_hub.features import HfSpeech, HfText, load, tokenizer_of

from mmcl.api import Audio, DataError, Source, Words
from mmcl.testing import check_modality, check_plugin

transformers = pytest.importorskip("transformers")
SPECS = []
mmcl_hub.register_modalities(SPECS.append)
TEXT, SPEECH, TOKENS, _ = SPECS
BACKBONES = []
mmcl_hub.register_backbones(BACKBONES.append)


@pytest.fixture(scope="module")
def text_model(bert, tmp_path_factory):
    return bert(tmp_path_factory.mktemp("bert"), num_hidden_layers=2, initializer_range=0.02)


@pytest.fixture(scope="module", params=["Wav2Vec2", "Hubert", "WavLM"])
def speech_model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=(4, 4),
        conv_kernel=(10, 4),
        conv_stride=(5, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="group",
        num_buckets=8,
    )
    getattr(transformers, f"{request.param}Model")(config).save_pretrained(folder)
    return folder


def test_the_toolkits_own_checks_pass(tmp_path):
    results = check_plugin(mmcl_hub, tmp_path)
    names = {"modality hf-text", "modality hf-speech", "modality hf-tokens", "modality hf-joint", "backbone hf-encoder"}
    names |= {"scorer hf-regressor"}
    names |= {"backbone hf-audio", "backbone hf-video"}
    assert {r.name for r in results} == {*names, "backbone layer-mix", "kind tokens", "kind layers", "plug-in mmcl_hub"}
    assert [(r.name, r.check, r.message) for r in results if r.passed is False] == []
    assert {r.name for r in results if r.passed is None} <= names  # they need a model, and are checked with one below


def test_text_has_a_step_a_token_at_the_times_of_its_word(text_model):
    params = HfTextParams(model=str(text_model))
    assert TEXT.layout(params, Source("words", "w")).sizes == {"channel": 12}
    times = np.array([[0.0, 0.4], [0.4, 1.0], [1.0, 1.2]])
    got = HfText(params).extract(Words(("the", "words", "film"), times))
    assert got.times.tolist() == [
        [0, 0],
        [0, 0.4],
        [0.4, 1.0],
        [0.4, 1.0],
        [1.0, 1.2],
        [1.2, 1.2],
    ]  # [CLS] the word ##s film [SEP]
    model = transformers.AutoModel.from_pretrained(text_model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(text_model)
    with torch.no_grad():
        wanted = model(**tokenizer("the words film", return_tensors="pt"), output_hidden_states=True).hidden_states
    np.testing.assert_allclose(got.values, wanted[-1][0].numpy(), atol=1e-5)
    first = HfText(HfTextParams(model=str(text_model), layer=1)).extract(Words(("the", "words", "film"), times))
    np.testing.assert_allclose(first.values, wanted[1][0].numpy(), atol=1e-5)
    pooled = HfText(HfTextParams(model=str(text_model), pool="mean"))
    np.testing.assert_allclose(pooled.extract(Words(("the", "words", "film"), times)), wanted[-1][0].mean(0).numpy(), atol=1e-5)
    check_modality(TEXT, params=params)
    check_modality(TEXT, params=HfTextParams(model=str(text_model), pool="mean"))


def test_speech_has_the_models_own_rate_and_values(speech_model):
    params = HfSpeechParams(model=str(speech_model))
    layout = SPEECH.layout(params, Source("audio", "a"))
    assert layout.rate == 16_000 / 20
    sound = np.random.default_rng(0).normal(size=1600).astype(np.float32)
    got = HfSpeech(params).extract(Audio(sound, 16_000))
    model = transformers.AutoModel.from_pretrained(speech_model).eval()
    scaled = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    with torch.no_grad():
        wanted = model(torch.from_numpy(scaled)[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    longer = HfSpeech(params).extract(Audio(np.tile(sound, 2), 16_000))
    cut = HfSpeech(HfSpeechParams(model=str(speech_model), longest=0.1)).extract(Audio(np.tile(sound, 2), 16_000))
    assert len(cut) == len(got) < len(longer)
    check_modality(SPEECH, params=params)


def test_what_cannot_be_had_is_refused(tmp_path, text_model):
    source = Source("words", "w")
    for params, words in (
        (HfTextParams(), "needs a model: the folder"),
        (HfTextParams(model="roberta-large"), r"say how many features a step it has \(dim:\)"),
        (HfTextParams(model=str(tmp_path)), "has no config.json"),
        (HfTextParams(model=str(text_model), dim=9), "has 12 features a step, dim says 9"),
    ):
        with pytest.raises(ValueError, match=words):
            TEXT.layout(params, source)
    (tmp_path / "config.json").write_text('{"hidden_size": 4}')
    with pytest.raises(DataError, match="cannot be loaded .*; give the folder of a saved one"):
        HfText(HfTextParams(model=str(tmp_path))).extract(Words(("a",)))
    good = HfText(HfTextParams(model=str(text_model)))  # the folder of a saved one, as that says
    assert good.extract(Words(("film",))).values.shape == (3, 12)
    with pytest.raises(DataError, match="has 3 hidden layers .* layer 7 is none of them"):
        HfText(HfTextParams(model=str(text_model), layer=7)).extract(Words(("a",)))


def test_a_name_of_the_hub_is_read_where_it_was_fetched_before(tmp_path, text_model, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    given = HfText(HfTextParams(model="acme/tiny", dim=12))
    with pytest.raises(DataError, match="'acme/tiny' cannot be loaded .*, or fetch it where there is a network"):
        given.extract(Words(("film",)))
    shutil.copytree(text_model, tmp_path / "models--acme--tiny" / "snapshots" / "abc")  # as the library lays it when it fetches
    (tmp_path / "models--acme--tiny" / "refs").mkdir()
    (tmp_path / "models--acme--tiny" / "refs" / "main").write_text("abc")
    assert given.extract(Words(("film",))).values.shape == (3, 12)


def test_without_the_library_the_extra_is_named_that_brings_it(text_model, monkeypatch, extra):
    layout = TOKENS.layout(HfTokensParams(model=str(text_model)), Source("words", "w"))
    encoder = next(spec for spec in BACKBONES if spec.name == "hf-encoder")
    calls = (
        ("'hf-text' needs", lambda: load(str(text_model), "hf-text")),
        ("tokens need", lambda: tokenizer_of(str(text_model))),
        ("'hf-encoder' needs", lambda: encoder.build(HfEncoderParams(weights="random"), layout)),
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        for whose, call in calls:
            with pytest.raises(DataError, match=rf"^{whose} the transformers library: pip install 'mmcl\[hf\]'$"):
                call()
    assert extra("hf") == ["transformers"]  # which is here again
    assert all(call() is not None for _, call in calls)
