"""What frames through a network of timm must be: the network on each real frame alone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys

import pytest
import torch
from mmcl_timm import TIMM, TimmParams
from mmcl_timm.network import taken

from mmcl.api import DataError, Layout
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows

pytest.importorskip("timm", reason="needs pip install 'mmcl[timm]'")

LAYOUT = Layout("video", ("time", "channel", "height", "width"), {"channel": 3, "height": 32, "width": 48}, 25.0)
SMALLEST = {"model": "test_efficientnet"}


def build(**options: object):
    torch.manual_seed(0)
    return TIMM.build(TimmParams.model_validate({**SMALLEST, **options}), LAYOUT).eval()


def rows(*lengths: int, pad: int = 0):
    stream = make_rows((3, 32, 48), *lengths, pad=pad)
    stream.values = stream.values.float()
    return stream


@pytest.mark.parametrize(
    "model", ["test_efficientnet", "test_vit"]
)  # a convolution, and a transformer with positions of its own
def test_the_vector_is_the_mean_of_what_the_network_gives_of_each_real_frame(model):
    network = build(model=model)
    with torch.no_grad():
        encoded = network(rows(4, 1, 2, pad=2))
        for row, length in enumerate((4, 1, 2)):
            frames = [network.network(frame[None])[0] for frame in rows(4, 1, 2).values[row, :length]]
            torch.testing.assert_close(encoded.vector[row], torch.stack(frames).mean(0), rtol=1e-4, atol=1e-4)


def test_frames_are_taken_evenly_from_the_real_ones():
    stream = rows(7, 1, 3, pad=2)
    values, steps = taken(stream.values, stream.steps, 3)
    for row, places in enumerate(([0, 3, 6], [0, 0, 0], [0, 1, 2])):
        assert torch.equal(values[row], stream.values[row, places])
    assert steps.all()


def test_normalise_takes_the_mean_and_the_deviation_of_the_models_weights():
    plain, brought = build(), build(normalise="model")
    stream = rows(2, 2)
    mean, deviation = (torch.tensor(brought.network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    before = rows(2, 2)
    before.values = (before.values - mean) / deviation
    torch.testing.assert_close(brought(stream).vector, plain(before).vector)


@pytest.mark.parametrize(
    "options", [{"frames": 2}, {"readout": "mean+std", "parts": 2, "width": 6}, {"batch_statistics": False}], ids=str
)
def test_it_keeps_the_contract(options):
    check_backbone(TIMM, TimmParams.model_validate({**SMALLEST, "frames": 3, **options}))


def test_statistics_that_are_to_stay_do_and_a_single_frame_can_be_trained_on():
    still, learning = build(batch_statistics=False).train(), build().train()
    for network, moves in ((still, False), (learning, True)):
        before = {name: value.clone() for name, value in network.named_buffers()}
        network(rows(1)).vector.sum().backward()
        assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
        network(rows(3, 2))
        assert moves != all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_weights_come_from_a_file_and_saved_ones_need_none(tmp_path):
    from safetensors.torch import save_file

    source = build()
    save_file({**source.network.state_dict(), "classifier.weight": torch.zeros(4, 4)}, tmp_path / "own.safetensors")
    other = build(weights=str(tmp_path / "own.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), other.parameters(), strict=True))
    (tmp_path / "own.safetensors").unlink()
    TIMM.rebuild(TimmParams(**SMALLEST, weights=str(tmp_path / "own.safetensors")), LAYOUT)
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "own.safetensors")
    with pytest.raises(DataError, match=r"own\.safetensors: lacks '.+'"):
        build(weights=str(tmp_path / "own.safetensors"))


def test_an_unknown_name_is_refused_with_near_ones():
    with pytest.raises(DataError, match=r"no model 'resnet_18'; near: .*resnet18"):
        build(model="resnet_18")


def test_a_size_that_a_transformer_cannot_take_is_refused():
    odd = Layout("video", LAYOUT.axes, {"channel": 3, "height": 31, "width": 32}, 25.0)
    with pytest.raises(DataError, match=r"31 × 32 do not come out even in patches of 16 × 16, as 'test_vit'"):
        TIMM.build(TimmParams(model="test_vit"), odd)


def test_without_the_library_the_plan_says_how_to_get_it(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match=r"pip install 'mmcl\[timm\]'"):
            TIMM.fits(TimmParams(), LAYOUT)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "timm", None)
        with pytest.raises(DataError, match=r"pip install 'mmcl\[timm\]'"):
            build()
    brought = [one for one in importlib.metadata.requires("mmcl") or () if one.split("extra == ")[-1].strip("'\"") == "timm"]
    assert [one.startswith("timm") for one in brought] == [True]
    TIMM.fits(TimmParams(), LAYOUT)  # with it
    assert build()(rows(2, 1)).vector.isfinite().all()


def test_adapters_alone_learn_and_change_nothing_at_first():
    plain, adapted = build(model="test_vit"), build(model="test_vit", adapters=2)
    torch.testing.assert_close(adapted(rows(2, 1)).vector, plain(rows(2, 1)).vector)
    learned = {name.rsplit(".", 1)[1] for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert learned == {"down", "up"}
    check_backbone(TIMM, TimmParams(model="test_vit", adapters=2, frames=2))


def test_a_network_without_linear_layers_takes_no_adapters():
    with pytest.raises(DataError, match="'test_resnet' of timm has no linear layer for adapters"):
        build(model="test_resnet", adapters=2)
