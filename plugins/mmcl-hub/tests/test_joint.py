"""Models of a joint space, and learned weights over layers: tiny random models of the real classes, saved to a folder."""

from __future__ import annotations

import pickle

import mmcl_hub
import numpy as np
import pytest
import torch
from mmcl_hub import HfJointParams, HfSpeechParams, HfTextParams, LayerMixParams
from mmcl_hub.features import HfSpeech, HfText
from mmcl_hub.joint import HfJoint
from mmcl_hub.layers import LayerMix

from mmcl.api import Audio, DataError, Layout, Pictures, Source, Stream, Video, Words
from mmcl.testing import check_backbone, check_modality

transformers = pytest.importorskip("transformers")
SPECS: list = []
mmcl_hub.register_modalities(SPECS.append)
TEXT, SPEECH, _, JOINT = SPECS
BACKBONES: list = []
mmcl_hub.register_backbones(BACKBONES.append)
MIX = next(one for one in BACKBONES if one.name == "layer-mix")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random CLIP of a space of 6, that reads pictures of 16 × 16 and a dozen words."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    inner = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**inner, "vocab_size": 18, "max_position_embeddings": 12, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**inner, "image_size": 16, "patch_size": 8}, projection_dim=6
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    words(folder, 12)
    return folder


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    """A random CLAP of a space of 6, that reads a second of sound at 8 kHz."""
    folder = tmp_path_factory.mktemp("clap")
    torch.manual_seed(0)
    audio = {
        "hidden_size": 32,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "num_mel_bins": 16,
    }
    audio |= {
        "spec_size": 32,
        "window_size": 2,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "enable_fusion": False,
        "num_classes": 3,
    }
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 18}
    text |= {"max_position_embeddings": 16, "pad_token_id": 0}
    audio["hidden_size"] = 16
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=6)
    model = transformers.ClapModel(config)
    for weight in model.parameters():  # as they begin, its few units may all be dead
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=8000,
        hop_length=128,
        max_length_s=1,
        fft_window_size=256,
        frequency_max=4000,
        truncation="rand_trunc",
    ).save_pretrained(folder)
    words(folder, 12)
    return folder


def words(folder, longest: int) -> None:
    pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] the film great ##er was so it word ##s a ##b c d"
    (folder / "vocab.txt").write_text("\n".join(pieces.split()))
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=longest).save_pretrained(folder)
    (folder / "vocab.txt").unlink(missing_ok=True)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def projected(output) -> np.ndarray:
    return (output if isinstance(output, torch.Tensor) else output.pooler_output).detach().numpy()


def test_a_film_is_the_mean_of_its_pictures_in_the_space(clip):
    frames = RNG.integers(0, 255, (10, 3, 20, 24), dtype=np.uint8)
    params = HfJointParams(model=str(clip), step=0.5)
    assert JOINT.layout(params, Source("video", "v")) == Layout("vector", ("channel",), {"channel": 6})
    got = HfJoint(params).extract(Video(frames, 4.0))  # 2.5 s: pictures 0, 2, 4, 6, 8
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(clip)
    each = []
    for k in (0, 2, 4, 6, 8):
        given = processor(images=[torch.from_numpy(frames[k])], return_tensors="pt")
        each.append(unit(projected(model.get_image_features(**given))[0]))
    np.testing.assert_allclose(got, np.mean(each, axis=0), atol=1e-5)
    steps = HfJointParams(model=str(clip), step=0.5, pool="none")
    assert JOINT.layout(steps, Source("video", "v")).rate == 2
    np.testing.assert_allclose(HfJoint(steps).extract(Video(frames, 4.0)), np.stack(each), atol=1e-5)
    check_modality(JOINT, raw=Video(frames, 4.0), source=Source("video", "v"), params=params)
    pictures = Pictures(frames[[0, 2, 4, 6, 8]])  # the same ones, without a clock
    np.testing.assert_allclose(HfJoint(params).extract(pictures), got, atol=1e-5)
    check_modality(JOINT, raw=pictures, source=Source("pictures", "p"), params=params)


def test_words_are_one_vector_of_the_same_space(clip):
    params = HfJointParams(model=str(clip))
    spoken = Words(("the", "", "words", "film"))
    got = HfJoint(params).extract(spoken)
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip)
    wanted = projected(model.get_text_features(**tokenizer("the words film", return_tensors="pt")))
    np.testing.assert_allclose(got, unit(wanted)[0], atol=1e-5)
    long = HfJoint(params).extract(Words(("film",) * 40))  # cut at what the model reads
    assert long.shape == (6,)
    check_modality(JOINT, raw=spoken, source=Source("words", "w"), params=params)
    with pytest.raises(DataError, match="transcript is empty"):
        HfJoint(params).extract(Words(("", " ")))


def test_sound_is_read_in_pieces_that_are_never_cut_at_random(clap):
    sound = RNG.normal(size=20_000).astype(np.float32) * 0.1  # 2.5 s
    params = HfJointParams(model=str(clap), step=1.0, pool="none")
    assert JOINT.layout(params, Source("audio", "a")).rate == 1
    got = HfJoint(params).extract(Audio(sound, 8000))
    model = transformers.ClapModel.from_pretrained(clap).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(clap)
    each = []
    for k in range(3):
        given = extractor(sound[8000 * k : 8000 * (k + 1)], sampling_rate=8000, return_tensors="pt")
        each.append(unit(projected(model.get_audio_features(**given))[0]))
    np.testing.assert_allclose(got, np.stack(each), atol=1e-5)
    mean = HfJointParams(model=str(clap), step=1.0)
    np.testing.assert_allclose(HfJoint(mean).extract(Audio(sound, 8000)), np.mean(each, axis=0), atol=1e-5)
    again = pickle.loads(pickle.dumps(HfJoint(mean)))
    np.testing.assert_array_equal(again.extract(Audio(sound, 8000)), HfJoint(mean).extract(Audio(sound, 8000)))
    with pytest.raises(DataError, match="is longer than model .* reads at a time"):
        HfJoint(HfJointParams(model=str(clap), step=2.0)).extract(Audio(sound, 8000))
    check_modality(JOINT, raw=Audio(sound, 8000), source=Source("audio", "a"), params=mean)


def test_what_does_not_fit_a_joint_space_is_refused_before_a_recording_is_read(clip, clap, bert, tmp_path):
    for params, type, sentence in (
        (HfJointParams(model=str(clip)), "audio", r"\(clip\) reads video and pictures and words, and this source is audio"),
        (HfJointParams(model=str(clap)), "video", r"\(clap\) reads audio and words, and this source is video"),
        (HfJointParams(model=str(clip), pool="none"), "words", "one vector of all words"),
        (HfJointParams(model=str(clip), dim=7), "video", "has 6 values a vector, dim says 7"),
        (HfJointParams(model=str(bert(tmp_path / "bert"))), "words", "is of the type 'bert'"),
        (HfJointParams(), "words", "needs a model"),
        (HfJointParams(model="openai/clip"), "words", r"say how wide its space is \(dim:\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            JOINT.layout(params, Source(type, "s"))
    for params in (HfJointParams(model=str(clip)), HfJointParams(model="openai/clip", dim=6)):  # pool left out; its width given
        assert JOINT.layout(params, Source("words", "s")) == Layout("vector", ("channel",), {"channel": 6})


def test_all_layers_of_a_text_model_stand_beside_one_another(bert, tmp_path):
    folder = bert(tmp_path / "bert")
    params = HfTextParams(model=str(folder), layers="all")
    layout = TEXT.layout(params, Source("words", "w"))
    assert (layout.axes, layout.sizes) == (("time", "layer", "channel"), {"layer": 4, "channel": 12})
    given = Words(("the", "film"))
    got = HfText(params).extract(given)
    for layer in range(4):
        one = HfText(HfTextParams(model=str(folder), layer=layer)).extract(given)
        np.testing.assert_array_equal(got.values[:, layer], one.values)
        np.testing.assert_array_equal(got.times, one.times)
    check_modality(TEXT, params=params)
    for more in ({"pool": "mean"}, {"layer": 1}):  # without them, as above
        with pytest.raises(ValueError, match="leave pool and layer out"):
            TEXT.layout(HfTextParams(model=str(folder), layers="all", **more), Source("words", "w"))
    with pytest.raises(ValueError, match="needs a folder or a package"):
        TEXT.layout(HfTextParams(model="roberta-large", dim=1024, layers="all"), Source("words", "w"))


def test_all_layers_of_a_speech_model_stand_beside_one_another(tmp_path):
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
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
    )
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path)
    sound = Audio(RNG.normal(size=1600).astype(np.float32), 16_000)
    params = HfSpeechParams(model=str(tmp_path), layers="all")
    got = HfSpeech(params).extract(sound)
    assert got.shape[1:] == SPEECH.layout(params, Source("audio", "a")).shape == (3, 8)
    for layer in range(3):
        np.testing.assert_array_equal(got[:, layer], HfSpeech(HfSpeechParams(model=str(tmp_path), layer=layer)).extract(sound))


def test_an_option_that_came_later_is_silent_at_its_default():
    assert "layers" not in HfTextParams(model="x").stated()
    assert HfTextParams(model="x", layers="all").stated()["layers"] == "all"


def test_weights_over_layers_are_a_softmax_and_learn():
    layout = Layout("layers", ("time", "layer", "channel"), {"layer": 3, "channel": 4}, 10.0)
    torch.manual_seed(0)
    net = LayerMix(LayerMixParams(width=5, normalise=False), layout)
    with torch.no_grad():
        net.weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
    values, steps = torch.randn(2, 6, 3, 4), torch.arange(6) < torch.tensor([6, 4])[:, None]
    encoded = net(Stream(values, steps, torch.ones(2, dtype=torch.bool)))
    share = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    for row, length in enumerate((6, 4)):
        mixed = sum(share[k] * values[row, :length, k].numpy() for k in range(3))
        wanted = (mixed @ net.project.weight.detach().numpy().T + net.project.bias.detach().numpy()).mean(0)
        np.testing.assert_allclose(encoded.vector[row].detach().numpy(), wanted, atol=1e-5)
    encoded.vector.square().sum().backward()
    assert bool((net.weights.grad != 0).all())
    check_backbone(MIX, layout=layout)


def test_layers_that_differ_in_size_weigh_alike_once_they_are_normalised():
    layout = Layout("layers", ("time", "layer", "channel"), {"layer": 2, "channel": 4}, 10.0)
    net = LayerMix(LayerMixParams(width=3), layout)
    values, steps = torch.randn(1, 5, 2, 4), torch.ones(1, 5, dtype=torch.bool)
    larger = values * torch.tensor([1.0, 50.0])[None, None, :, None]
    first, second = (net(Stream(one, steps, torch.ones(1, dtype=torch.bool))).vector for one in (values, larger))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)
