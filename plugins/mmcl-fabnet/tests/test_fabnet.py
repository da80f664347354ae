"""fab-net: the encoder against convolutions written out, files of weights of every make, and what is refused."""

from __future__ import annotations

import copy
import pickle

import mmcl_fabnet
import numpy as np
import pytest
import torch
from mmcl_fabnet import FabNetParams
from mmcl_fabnet.network import Encoder, FabNet, frozen_encoder
from safetensors.torch import save_file

from mmcl.api import DataError, Source, Video
from mmcl.testing import check_modality, check_spec
from mmcl.testing.weights import write_evil_weights

SPECS = []
mmcl_fabnet.register_modalities(SPECS.append)
(SPEC,) = (spec for spec in SPECS if spec.name == "fab-net")
SOURCE = Source("video", "made up", 25.0, {"shape": [3, 40, 56]})
NONE = FabNetParams(weights="none")


def film(frames=6, channels=3, height=40, width=56, rate=25.0):
    return Video(np.random.default_rng(0).integers(0, 256, (frames, channels, height, width), dtype=np.uint8), rate)


def levels(frames, rate=25.0):
    """Frame k is of the one brightness 9 · k."""
    return Video(np.repeat(np.arange(frames, dtype=np.uint8) * 9, 3 * 4).reshape(frames, 3, 2, 2), rate)


def extracted(video, source=SOURCE, **options):
    return FabNet(FabNetParams(**{"weights": "none", **options}), source).extract(video)


@pytest.fixture(scope="module")
def trained():
    """An encoder whose normalisations have seen something, as if it had been trained."""
    encoder, generator = frozen_encoder(FabNetParams(weights="none", seed=5)), torch.Generator().manual_seed(0)
    for name, tensor in encoder.state_dict().items():
        if tensor.ndim == 1:
            values = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(values + 0.5 if name.endswith(("running_var", "weight")) else values - 0.5)
    return encoder


def slow(encoder, image):
    """[3, 256, 256] → [256]: a sum over the 16 places of each kernel; normalisation and leaky ReLU by their formulas."""
    for layer in encoder.layers:
        parts = {name: value.double().numpy() for name, value in layer.state_dict().items()}
        if isinstance(layer, torch.nn.Conv2d):
            wide, side = np.pad(image, ((0, 0), (1, 1), (1, 1))), image.shape[1] // 2
            image = sum(
                np.tensordot(parts["weight"][:, :, i, j], wide[:, i : i + 2 * side : 2, j : j + 2 * side : 2], 1)
                for i in range(4)
                for j in range(4)
            )
            image = image + parts["bias"][:, None, None]
        elif isinstance(layer, torch.nn.BatchNorm2d):
            mean, variance, weight, bias = (parts[n][:, None, None] for n in ("running_mean", "running_var", "weight", "bias"))
            image = (image - mean) / np.sqrt(variance + 1e-5) * weight + bias
        else:
            image = np.where(image > 0, image, 0.2 * image)
    assert image.shape == (256, 1, 1)
    return image[:, 0, 0]


def resized(image, size):
    """Each channel by another library's bilinear filter, which smooths before it shrinks."""
    from PIL import Image

    return np.stack(
        [np.asarray(Image.fromarray(c.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)) for c in image]
    )


# --------------------------------------------------------------------------------------------------------------- network


def test_the_encoder_is_eight_strided_convolutions_down_to_256_values(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "fab.pth")
    video = film(2, height=300, width=90)
    got = extracted(video, weights=str(tmp_path / "fab.pth"))
    assert got.shape == (2, 256)
    assert got.dtype == np.float32
    for frame, features in zip(video.frames, got, strict=True):
        wanted = slow(trained, resized(frame, 256).astype(np.float64) / 255)
        np.testing.assert_allclose(features, wanted, atol=1e-3 * np.abs(wanted).max())


def test_batches_change_nothing_and_the_mean_is_the_mean_of_frames():
    video = film()
    frames = extracted(video)
    assert np.abs(frames - frames[0])[1:].max() > 1e-3
    np.testing.assert_allclose(extracted(video, batch=4), frames, atol=1e-5)
    np.testing.assert_allclose(extracted(video, pool="mean"), frames.mean(0), atol=1e-6)


def test_grey_frames_are_read_as_three_equal_channels():
    video = film(2, channels=1)
    np.testing.assert_array_equal(extracted(video), extracted(Video(video.frames.repeat(3, 1), video.rate)))


def test_larger_images_give_the_mean_over_places():
    video = film(1)
    encoder = frozen_encoder(NONE)
    image = torch.from_numpy(resized(video.frames[0], 512) / 255)[None]
    with torch.no_grad():
        wanted = encoder.layers(image)
    assert wanted.shape == (1, 256, 2, 2)
    np.testing.assert_allclose(extracted(video, size=512), wanted.mean((2, 3)), atol=1e-4)


@pytest.mark.parametrize(("rate", "fps"), [(25.0, 10.0), (30.0, 7.0), (25.0, 25.0)])
def test_the_frames_taken_are_the_nearest_in_time(rate, fps):
    source = Source("video", "made up", rate, {"shape": [3, 2, 2]})
    times = [k / fps for k in range(100) if k / fps <= 19 / rate + 1e-9]
    places = [min(range(20), key=lambda i: (round(abs(i / rate - time), 9), -i)) for time in times]  # of two, the later
    taken = extracted(levels(20, rate), source, fps=fps)
    np.testing.assert_allclose(taken, extracted(levels(20, rate), source)[places], atol=1e-5)
    np.testing.assert_array_equal(extracted(levels(20, rate), source, fps=fps, longest=3), taken[:3])


# --------------------------------------------------------------------------------------------------------------- weights


def old_file(state):
    """A training checkpoint: the encoder among other things, saved from several devices, without BatchNorm's counters."""
    named = {f"module.encoder.{n}": v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    more = {"module.decoder.0.weight": torch.zeros(8, 256, 4, 4)}
    return {"epoch": 3, "optimizer": {"state": {}}, "state_dict": {**more, **named}}


def own_names(state):
    """Convolutions first, then normalisations, as attributes of a class rather than in a row."""
    convolutions = [n.rpartition(".")[0] for n, v in state.items() if v.ndim == 4]
    norms = [n.rpartition(".")[0] for n in state if n.endswith("running_mean")]
    names = {
        **{n: f"encoder.conv{i}" for i, n in enumerate(convolutions)},
        **{n: f"encoder.bn{i}" for i, n in enumerate(norms)},
    }
    return {
        f"{new}.{part}": state[f"{old}.{part}"]
        for old, new in names.items()
        for part in ("weight", "bias", "running_mean", "running_var")
        if f"{old}.{part}" in state
    }


@pytest.mark.parametrize("make", ["state_dict", "checkpoint", "own names", "safetensors", "safetensors of own names"])
def test_weights_are_read_from_every_make_of_file(make, trained, tmp_path):
    state = trained.state_dict()
    path = tmp_path / ("fab.safetensors" if make.startswith("safetensors") else "fab.pth")
    if path.suffix == ".safetensors":
        save_file(own_names(state) if "own" in make else {f"encoder.{n}": v for n, v in state.items()}, path)
    else:
        torch.save({"state_dict": state, "checkpoint": old_file(state), "own names": own_names(state)}[make], path)
    video = film(2)
    got = extracted(video, weights=str(path))
    np.testing.assert_array_equal(got, trained.embed(video.frames, 256))
    assert np.abs(got - extracted(video)).max() > 1e-2
    frozen = frozen_encoder(FabNetParams(weights=str(path)))
    assert not frozen.training
    assert not any(weight.requires_grad for weight in frozen.parameters())


CONVOLUTION, NORM = "layers.2.weight", "layers.3.running_var"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s.update({CONVOLUTION: torch.zeros(128, 64, 3, 3)}),
            r"'layers.2.weight' is \[128, 64, 3, 3\]; the weight of convolution 2 of 8 is \[128, 64, 4, 4\]",
        ),
        (
            lambda s: s.update({NORM: torch.ones(64), "layers.6.running_var": torch.ones(9)}),
            r"'layers.3.running_var' is \[64\]; the running_var of the normalisation after convolution 2 is \[128\]",
        ),
        (lambda s: s.pop("layers.0.bias"), r"'layers.0.bias' is missing; convolution 1 of 8 has a bias of \[64\]"),
        (lambda s: [s.pop(f"layers.20.{part}") for part in ("weight", "bias")], "ends before convolution 8 of 8"),
        (lambda s: s.update({"layers.21.weight": torch.zeros(7, 256)}), r"'layers.21.weight' \[7, 256\] has no place"),
        (lambda s: s["layers.8.bias"].fill_(float("nan")), "'layers.8.bias' holds values that are no finite numbers"),
        (lambda s: [s.pop(n) for n in list(s) if s[n].ndim == 4], "holds no convolution"),
    ],
    ids=["convolution", "first of two", "no bias", "too few", "too many", "nan", "no convolution"],
)
def test_the_first_tensor_that_does_not_fit_is_named(change, words, tmp_path):
    state = {name: tensor.clone() for name, tensor in Encoder().state_dict().items()}
    change(state)
    torch.save(state, tmp_path / "fab.pth")
    with pytest.raises(DataError, match=words):
        extracted(film(1), weights=str(tmp_path / "fab.pth"))


@pytest.mark.parametrize("name", ["fab.pth", "fab.safetensors"])
def test_a_file_that_is_no_weights_is_refused_and_none_of_its_code_runs(name, tmp_path):
    write_evil_weights(tmp_path / name, tmp_path / "was here")
    with pytest.raises(DataError, match=rf"{name}: is not a file of weights that can be read safely"):
        extracted(film(1), weights=str(tmp_path / name))
    assert not (tmp_path / "was here").exists()


def test_a_missing_file_is_one_sentence_that_says_how_to_get_it(tmp_path):
    params = FabNetParams(weights=str(tmp_path / "fab.pth"))
    for attempt in (lambda: SPEC.layout(params, SOURCE), lambda: FabNet(params, SOURCE).extract(film(1))):
        with pytest.raises(
            DataError, match="fab.pth: there is no such file of weights; download FAb-Net's model by hand from .*fabnet.html"
        ):
            attempt()


def test_random_weights_are_seeded_and_called_random(tmp_path):
    before = torch.get_rng_state()
    modality = FabNet(NONE, SOURCE)
    got = modality.extract(film(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    np.testing.assert_array_equal(extracted(film(3)), got)
    assert np.abs(extracted(film(3), seed=1) - got).max() > 1e-2
    modality.extract(film(2))
    assert modality.counts() == {"frames embedded by random weights (weights: none)": 5}
    assert SPEC.layout(NONE, SOURCE).notes == {"weights": "random, seed 0"}
    torch.save(Encoder().state_dict(), path := tmp_path / "fab.pth")
    read = FabNet(FabNetParams(weights=str(path)), SOURCE)
    read.extract(film(2))
    assert list(read.counts().values()) == [0]
    assert SPEC.layout(read.params, SOURCE).notes == {"weights": f"fab.pth, {path.stat().st_size} bytes"}


# -------------------------------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("options", [{"fps": 5.0}, {"fps": 5.0, "pool": "mean"}, {"fps": 5.0, "batch": 3, "seed": 2}], ids=str)
def test_the_toolkits_own_checks_pass(options):
    check_spec(SPEC)
    check_modality(SPEC, params=FabNetParams(weights="none", **options))


def test_a_worker_process_gets_the_same_values():
    modality = FabNet(NONE, SOURCE)
    got = modality.extract(film(2))
    assert len(pickle.dumps(modality)) < 10_000  # the options travel, the network does not
    np.testing.assert_array_equal(copy.deepcopy(modality).extract(film(2)), got)  # which goes the way of a pickle


def test_sources_and_options_that_do_not_fit_are_refused():
    unknown = Source("video", "made up", None, {"shape": [3, 8, 8]})
    for params, source, words in (
        (FabNetParams(), SOURCE, "needs a model's weights: the path of FAb-Net's checkpoint, or weights: none"),
        (NONE, Source("video", "made up", 25.0, {"shape": [2, 8, 8]}), "reads 1 or 3 channels"),
        (NONE, Source("video", "made up", 25.0), "has frames of shape unknown"),
        (NONE, unknown, "does not say its frame rate; set fps:"),
        (FabNetParams(weights="none", fps=30.0), SOURCE, "fps 30 is above the source's 25 frames"),
    ):
        with pytest.raises(ValueError, match=words):
            SPEC.layout(params, source)
    assert SPEC.layout(FabNetParams(weights="none", pool="mean"), unknown).axes == ("channel",)
    assert SPEC.layout(FabNetParams(weights="none", fps=4.0), unknown).rate == 4.0


def test_recordings_that_are_not_what_their_source_promises_are_refused():
    for video, words in (
        (Video(np.zeros((0, 3, 8, 8), np.uint8), 25.0), "has no frames"),
        (Video(np.zeros((2, 3, 8, 8), np.float32), 25.0), "has frames of type float32"),
        (Video(np.zeros((2, 4, 8, 8), np.uint8), 25.0), "1 or 3, height, width"),
        (film(2, rate=30.0), "has 30 frames per second; its source promises 25"),
    ):
        with pytest.raises(DataError, match=words):
            extracted(video)
