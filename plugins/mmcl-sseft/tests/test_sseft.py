"""SSE-FT's parts: tiny random models of the real classes, the class token, and the fusion against its equation, step by step."""

from __future__ import annotations

import functools
import math

import mmcl_sseft
import numpy as np
import pytest
import torch
from mmcl_sseft import ClsParams, HfSpeechParams, HfTextParams, ImaParams
from mmcl_sseft.features import HfSpeech, HfText
from mmcl_sseft.fusion import CrossLayer, ImaFusion
from mmcl_sseft.network import ClsTransformer

from mmcl.api import Audio, DataError, Encoded, Layout, Source, Task, Words
from mmcl.testing import check_modality, check_plugin
from mmcl.testing.batch import make_rows

transformers = pytest.importorskip("transformers")
SPECS = []
mmcl_sseft.register_modalities(SPECS.append)
TEXT, SPEECH, TOKENS = SPECS[:3]


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
    results = check_plugin(mmcl_sseft, tmp_path)
    assert {r.name for r in results} >= {"head ima-fusion", "backbone cls-transformer"}
    assert [(r.name, r.check, r.message) for r in results if r.passed is False] == []
    untried = {"modality hf-text", "modality hf-speech", "modality hf-tokens", "modality fab-net", "backbone hf-encoder"}
    assert {r.name for r in results if r.passed is None} <= untried  # they need a model, and are checked with one below


# -------------------------------------------------------------------------------------------------------------- features


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
    with pytest.raises(DataError, match="has 3 hidden layers .* layer 7 is none of them"):
        HfText(HfTextParams(model=str(text_model), layer=7)).extract(Words(("a",)))


# --------------------------------------------------------------------------------------------------------------- network


stream = functools.partial(make_rows, (6,))


def network(**options):
    torch.manual_seed(0)
    params = ClsParams(**{"heads": 2, "feedforward": 8, "dropout": 0.0, **options})
    return ClsTransformer(params, Layout("signal", ("time", "channel"), {"channel": 6}, 1.0)).double().eval()


def test_the_vector_is_the_class_token_before_all_steps():
    transformer = network()
    got = transformer(stream(5, 3, pad=2))
    assert got.sequence.shape == (2, 8, 6)
    assert got.steps.tolist() == [[True] * 6 + [False] * 2, [True] * 4 + [False] * 4]
    torch.testing.assert_close(got.vector, got.sequence[:, 0])
    changed = stream(5, 3, pad=2)
    changed.values[0, 4, 0] += 1
    assert (transformer(changed).vector[0] - got.vector[0]).abs().max() > 1e-6  # it has looked at the last step
    torch.testing.assert_close(transformer(changed).vector[1], got.vector[1])


def test_the_first_step_can_be_the_class_token_and_nothing_is_changed_without_layers():
    transformer, given = network(layers=0, cls="first"), stream(5, 3)
    got = transformer(given)
    torch.testing.assert_close(got.vector, given.values[:, 0])
    torch.testing.assert_close(got.sequence, given.values)


# ---------------------------------------------------------------------------------------------------------------- fusion

WIDTHS = {"text": 8, "audio": 4, "video": 4}


def head(widths=WIDTHS, kind="regression", **options):
    torch.manual_seed(0)
    task = Task("t", kind, () if kind == "regression" else ("a", "b"))
    return ImaFusion(ImaParams(**{"heads": 2, "feedforward": 6, "dropout": 0.0, **options}), task, widths).double().eval()


def encoded(widths=WIDTHS, rows=3):
    generator = torch.Generator().manual_seed(1)
    encodings = {}
    for i, (name, width) in enumerate(widths.items()):
        steps = torch.arange(5) < torch.tensor([5, 3 - i % 2, 2])[:rows, None]
        sequence = torch.randn(rows, 5, width, dtype=torch.float64, generator=generator) * steps[..., None]
        encodings[name] = Encoded(sequence[:, 0], sequence, steps, torch.ones(rows, dtype=torch.bool))
    return encodings


def normed(layer, x):
    return (x - x.mean()) / (x.var(correction=0) + layer.eps).sqrt() * layer.weight + layer.bias


def slow_layer(layer: CrossLayer, token, keys):
    """One row: multi-head attention of one query over real steps, written out."""
    size = len(token) // layer.heads
    q, mixed = layer.query(token), []
    for h in range(layer.heads):
        part = slice(h * size, (h + 1) * size)
        energy = [float(q[part] @ layer.key(k)[part]) / math.sqrt(size) for k in keys]
        total = math.fsum(map(math.exp, energy))
        mixed.append(sum(math.exp(e) / total * layer.value(k)[part] for e, k in zip(energy, keys, strict=True)))
    x = normed(layer.first, token + layer.join(torch.cat(mixed)))
    wide = layer.widen(x)
    return normed(layer.second, x + layer.narrow(0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))))


@pytest.mark.parametrize("fusion", ["hadamard", "concat", "none"])
def test_the_fusion_is_its_equation(fusion):
    ima, given = head(fusion=fusion), encoded()
    got = ima(given)
    for row in range(3):
        parts = []
        for core in WIDTHS:
            views = []
            for other in WIDTHS:
                if other == core or fusion == "none":
                    continue
                token = given[core].vector[row]
                keys = given[other].sequence[row][given[other].steps[row]]
                for layer in ima.stacks[f"{core}>{other}"]:
                    token = slow_layer(layer, token, keys)
                views.append(token)
            if fusion == "none":
                views = [given[core].vector[row]]
            elif fusion == "hadamard":
                views = [views[0] * views[1]]
            parts += views
        joined = torch.cat(parts)
        assert len(joined) == (32 if fusion == "concat" else 16)
        torch.testing.assert_close(got[row], ima.out(ima.mix(joined).tanh()), rtol=1e-9, atol=1e-9)


def test_a_missing_modality_is_no_core_and_changes_no_product():
    ima, given = head(), encoded()
    given["video"].present = torch.tensor([True, False, True])
    given["video"].vector[1], given["video"].sequence[1], given["video"].steps[1] = 0, 0, False
    views = ima.views(given, "text")[0]
    token = given["text"].vector[1]
    keys = given["audio"].sequence[1][given["audio"].steps[1]]
    for layer in ima.stacks["text>audio"]:
        token = slow_layer(layer, token, keys)
    torch.testing.assert_close(views[1], token)
    output = ima(given)
    assert output.isfinite().all()
    whole = ima(encoded())
    torch.testing.assert_close(output[[0, 2]], whole[[0, 2]])
    for name in ("audio", "video"):  # text alone is left
        given[name].present = torch.tensor([True, False, True])
    torch.testing.assert_close(ima.views(given, "text")[0][1], given["text"].vector[1])


def test_one_modality_alone_is_its_class_token_and_two_are_two_views():
    alone = head({"text": 8})
    given = {"text": encoded()["text"]}
    torch.testing.assert_close(alone(given), alone.out(alone.mix(given["text"].vector).tanh()))
    assert head({"text": 8, "audio": 4}).mix.in_features == 12


def test_sequences_of_another_width_are_refused():
    given = encoded()
    given["audio"].sequence = given["audio"].sequence[..., :3]
    with pytest.raises(DataError, match="'audio' has steps of 3 and a vector of 4 numbers"):
        head()(given)
    assert head(heads=6).stacks["text>audio"][0].heads == 2  # of 6 heads and a width of 8


def test_losses_are_absolute_error_cross_entropy_and_binary_cross_entropy():
    output, target = torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([[0.0], [float("nan")], [2.0]])
    assert head().loss(output, target).item() == pytest.approx((1 + 3) / 2)
    assert head(regression="mse").loss(output, target).item() == pytest.approx((1 + 9) / 2)
    logits = torch.tensor([[0.3, -0.2]])
    single = head(kind="single-label").loss(logits, torch.tensor([1])).item()
    assert single == pytest.approx(-math.log(math.exp(-0.2) / (math.exp(0.3) + math.exp(-0.2))))
    several = head(kind="multi-label").loss(logits, torch.tensor([[1.0, float("nan")]])).item()
    assert several == pytest.approx(math.log(1 + math.exp(-0.3)))
