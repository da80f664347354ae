"""R(2+1)D-18: which frames it looks at, whose weights it takes, and that it is torchvision's network."""

from __future__ import annotations

import mmcl_r2plus1d
import pytest
import torch
from mmcl_r2plus1d import R2PLUS1D, R2plus1dParams
from safetensors.torch import save_file
from torchvision.models.video import r2plus1d_18

from mmcl.api import DataError, Layout, Stream
from mmcl.testing import check_backbone, make_stream
from mmcl.testing.weights import write_evil_weights

SIDE = 16


def layout(channels=3):
    return Layout("video", ("time", "channel", "height", "width"), {"channel": channels, "height": SIDE, "width": SIDE}, 10.0)


def stream(*lengths, pad=0, channels=3):
    return make_stream(layout(channels), lengths, pad)


def make(channels=3, **options):
    torch.manual_seed(0)
    return R2PLUS1D.build(R2plus1dParams(**options), layout(channels))


def test_frames_are_taken_evenly_from_the_real_ones_alone():
    network, given = make(frames=4), stream(10, 4, 2, 1, pad=5)
    taken = network.taken(given)
    assert taken.shape == (4, 3, 4, SIDE, SIDE)
    for row, places in enumerate([[0, 3, 6, 9], [0, 1, 2, 3], [0, 0, 0, 1], [0, 0, 0, 0]]):
        for k, place in enumerate(places):
            assert torch.equal(taken[row, :, k], given.values[row, place]), (row, k)


def test_it_is_torchvisions_network_with_another_last_layer(tmp_path):
    torch.manual_seed(5)
    theirs = r2plus1d_18(weights=None)
    save_file(theirs.state_dict(), str(tmp_path / "w.safetensors"))
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    given = stream(8, 8)
    theirs.fc = torch.nn.Identity()
    theirs.eval()
    for name in ("w.safetensors", "w.pth"):
        ours = make(weights=str(tmp_path / name)).eval()
        with torch.no_grad():
            wanted = ours.project(theirs(given.values.transpose(1, 2)))
            torch.testing.assert_close(ours(given).vector, wanted)
    assert sum(p.numel() for p in theirs.parameters()) == 31_300_125  # 31.5 million with the class layer


def test_grey_frames_give_what_three_equal_channels_give(tmp_path):
    torch.manual_seed(5)
    save_file(r2plus1d_18(weights=None).state_dict(), str(tmp_path / "w.safetensors"))
    colour, grey = (make(n, weights=str(tmp_path / "w.safetensors")).eval() for n in (3, 1))
    grey.project.load_state_dict(colour.project.state_dict())
    given = stream(8, channels=1)
    thrice = Stream(given.values.expand(-1, -1, 3, -1, -1).contiguous(), given.steps, given.present)
    with torch.no_grad():
        torch.testing.assert_close(grey(given).vector, colour(thrice).vector, rtol=1e-4, atol=1e-4)


def test_still_statistics_stay_still_while_training():
    network = make(batch_statistics=False).train()
    before = network.network.stem[1].running_mean.clone()
    network(stream(8, 8))
    assert torch.equal(network.network.stem[1].running_mean, before)
    moving = make().train()
    moving(stream(8, 8))
    assert not torch.equal(moving.network.stem[1].running_mean, before)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_none_of_the_code_in_a_file_of_weights_runs(name, tmp_path):
    write_evil_weights(tmp_path / name, tmp_path / "was here")
    with pytest.raises(DataError, match=rf"{name}: is not a file of weights"):
        make(weights=str(tmp_path / name))
    assert not (tmp_path / "was here").exists()


def test_what_is_no_file_of_weights_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="there is no such file; weights is none, kinetics400 or a file's path"):
        make(weights=str(tmp_path / "nowhere.pth"))
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not a file of weights"):
        make(weights=str(tmp_path / "bad.pth"))
    save_file({"a": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(DataError, match="are not those of"):
        make(weights=str(tmp_path / "other.safetensors"))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(DataError, match="put it at .*r2plus1d_18-91a641e6.pth, or set weights: to its path"):
        make(weights="kinetics400")


def test_streams_it_cannot_take_are_refused():
    for sizes, words in (
        ({"channel": 2, "height": 32, "width": 32}, "takes 1 or 3"),
        ({"channel": 3, "height": 8, "width": 8}, "too small"),
    ):
        with pytest.raises(ValueError, match=words):
            mmcl_r2plus1d.fits(R2plus1dParams(), Layout("video", ("time", "channel", "height", "width"), sizes, 10.0))


def test_the_toolkits_own_checks_pass():
    check_backbone(R2PLUS1D, R2plus1dParams(frames=4), layout())


def twin(network):
    """torchvision's own network with the same weights."""
    theirs = r2plus1d_18(weights=None)
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(network.network.state_dict())  # the same names, so that old checkpoints load
    return theirs


def apart(one, other):
    """How far two tensors are from each other, over the length of the second."""
    return float((one.detach().double() - other).norm() / other.detach().double().norm())


def learned(network, values):
    """What a network gives, and the gradients of its weights."""
    output = network(values)
    output.square().sum().backward()
    return [output.detach(), *(p.grad for p in network.parameters())]


def test_in_two_dimensions_it_learns_what_torchvisions_learns_in_three():
    network = make(frames=5, dropout=0).double().train()
    values = torch.randn(2, 3, 4, 20, 16, dtype=torch.float64).contiguous(memory_format=torch.channels_last_3d)
    theirs = twin(network).double().train()
    for one, other in zip(learned(network.network, values), learned(theirs, values), strict=True):
        assert apart(one, other) < 1e-6


def test_in_single_precision_it_learns_to_the_bit_what_torchvisions_learns():
    network = make(frames=4, dropout=0).train()
    theirs = twin(network).train()
    given = stream(6, 6)
    ours = network(given).vector
    assert torch.equal(ours, network.project(theirs(network.taken(given))))


def test_every_convolution_gives_what_pytorchs_gives_in_single_precision():
    network = make(frames=4).network
    seen = []
    with torch.no_grad():
        for layer in [m for m in network.modules() if isinstance(m, torch.nn.Conv3d)]:
            values = torch.randn(2, layer.in_channels, 5, 9, 7).contiguous(memory_format=torch.channels_last_3d)
            wanted = torch.nn.functional.conv3d(values, layer.weight, None, layer.stride, layer.padding)
            assert apart(layer(values), wanted) < 2e-6
            seen.append((layer.kernel_size, layer.stride))
    assert len(set(seen)) == 6, "spatial, temporal and 1 × 1 × 1 ones, with strides and without"


def test_frozen_it_gives_what_it_gives_with_its_normalisations_unfolded():
    network = make(frames=4).train()
    for _ in range(3):  # running statistics that are not 0 and 1
        network(stream(8, 8, 4))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.bias)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    network.eval()
    given = stream(8, 5)
    with torch.no_grad():
        wanted = network.project(twin(network).eval()(network.taken(given)))
        assert apart(network(given).vector, wanted) < 1e-4, "each rounding is multiplied by the gains of sixteen layers"
    assert network(given).vector.requires_grad, "with gradients nothing is folded"


def frozen(network, given, half=False):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        return network(given).vector.float()


def test_frozen_it_follows_every_change_of_its_weights():
    """What is folded is kept between batches, and never beyond a change."""
    network, given = make(frames=2).eval(), stream(4)
    before = frozen(network, given, half=True)
    block = network.network.layer1[0].conv1
    assert block[0][0].kept is not None
    assert torch.equal(frozen(network, given, half=True), before)

    def check_changed():
        after = frozen(network, given, half=True)
        assert not torch.equal(after, before)
        network.train().eval()  # lets go of what is kept
        assert block[0][0].kept is None
        assert torch.equal(after, frozen(network, given, half=True))

    for part in (block[0][0].weight, block[0][1].weight, block[1].bias, block[1].running_mean, block[1].running_var):
        with torch.no_grad():
            part.mul_(1.5).add_(0.05)
        check_changed()
        before = frozen(network, given, half=True)
    network.load_state_dict({name: 1.01 * value for name, value in network.state_dict().items()})
    check_changed()
    assert not torch.equal(frozen(network, given), before), "each precision has its own"
    assert block[0][0].kept[1].dtype is torch.float32


def test_without_a_convolution_that_rectifies_it_gives_the_same(monkeypatch):
    network, given = make(frames=2).eval(), stream(4)
    seen = frozen(network, given), frozen(network, given, half=True)
    monkeypatch.setattr("mmcl_r2plus1d.network.FUSED", False)
    assert apart(frozen(network, given), seen[0].double()) < 1e-5
    assert apart(frozen(network, given, half=True), seen[1].double()) < 0.02


def test_half_precision_is_used_on_a_processor_and_stays_near():
    network, given = make(frames=8).eval(), stream(8, 8, 8)
    kinds = set()
    for layer in [m for m in network.network.modules() if isinstance(m, torch.nn.Conv3d)]:
        layer.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    exact = network(given).vector.detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = network(given).vector.float().detach()
    assert kinds == {torch.float32, torch.bfloat16}
    assert apart(near, exact) < 0.05
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert apart(network(given).vector, exact) < 0.05
