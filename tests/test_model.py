"""Encoders: normalisation from real steps of present rows alone, rebuilding from disk, checkpoints."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mmcl.api import BackboneSpec, DataError, Encoded, Field, Layout, Params, PluginError, Stream
from mmcl.engine.means import Mean
from mmcl.engine.optim import build_optimizer, rate
from mmcl.engine.progress import Progress, weights_of
from mmcl.engine.resume import load_checkpoint, save_checkpoint
from mmcl.model.augment import Augmentation, augment
from mmcl.model.encoder import Encoder, Normalise, build_encoder
from mmcl.model.keep import load_encoders, save_encoders
from mmcl.model.windows import WindowMean
from mmcl.plugins import Loaded, Offer, Plugins
from mmcl.recipe.optimisers import AdamW, Cosine, Linear, Sgd, Step

SIGNAL = Layout("signal", ("time", "channel"), {"channel": 3}, 50.0)
VIDEO = Layout("video", ("time", "channel", "height", "width"), {"channel": 2, "height": 4, "width": 5}, 10.0)
VECTOR = Layout("vector", ("channel",), {"channel": 4})


class PoolParams(Params):
    """Options of the test backbone."""

    width: int = Field(6, ge=1, description="size of the vector")


class Pool(nn.Module):
    """Masked mean, a linear layer and batch normalisation."""

    def __init__(self, params: PoolParams, layout: Layout) -> None:
        super().__init__()
        self.width = params.width
        self.linear = nn.Linear(layout.sizes["channel"], params.width)
        self.norm = nn.BatchNorm1d(params.width)
        self.dropout = nn.Dropout(0.3)

    def forward(self, stream: Stream) -> Encoded:
        mask = stream.steps[..., None].to(stream.values)
        mean = (stream.values * mask).sum(1) / mask.sum(1)
        return Encoded(self.dropout(self.norm(self.linear(mean))))


POOL = BackboneSpec("pool", "masked mean and a linear layer", (("time", "channel"),), PoolParams, Pool)
OFFERS = Plugins([Loaded("t", "mmcl", "0", "t", (Offer("backbone", POOL, "mmcl", "0", "t"),))])


def some_stream(layout: Layout, rows: int = 5, steps: int = 9, seed: int = 0) -> Stream:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, steps + 1, (rows,), generator=generator)
    mask = torch.arange(steps)[None] < lengths[:, None]
    if not layout.timed:
        return Stream(
            torch.randn(rows, *layout.shape, generator=generator) * 3 + 2,
            torch.ones(rows, 1, dtype=torch.bool),
            torch.ones(rows, dtype=torch.bool),
        )
    values = torch.randn(rows, steps, *layout.shape, generator=generator) * 3 + 2
    values = values * mask.view(rows, steps, *[1] * len(layout.shape))
    return Stream(values, mask, torch.ones(rows, dtype=torch.bool))


def encoder(seed: int = 0):
    return build_encoder("a", SIGNAL, POOL, PoolParams(), seed, hidden=8, width=4, normalise=True)


@pytest.mark.parametrize("layout", [SIGNAL, VIDEO, VECTOR], ids=lambda layout: layout.kind)
def test_statistics_come_from_real_steps_alone(layout):
    streams = [some_stream(layout, seed=s, steps=5 + s) for s in range(4)]
    norm = Normalise(layout)
    norm.fit(streams)
    axis = layout.axes.index("channel")
    real = []
    for stream in streams:
        for values, mask in zip(stream.values, stream.steps, strict=True):
            kept = values[mask] if layout.timed else values
            real.append(kept.movedim(axis, 0).reshape(layout.sizes["channel"], -1))
    everything = torch.cat(real, 1)
    torch.testing.assert_close(norm.mean, everything.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.deviation, everything.std(1, correction=0), rtol=1e-4, atol=1e-4)
    for stream in streams:
        out = norm(stream)
        if layout.timed:
            assert float(out.values[~out.steps].abs().sum()) == 0.0


def test_a_channel_that_never_changes_is_not_blown_up():
    stream = Stream(torch.full((3, 4, 3), 7.0), torch.ones(3, 4, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    norm = Normalise(SIGNAL)
    norm.fit([stream])
    assert float(norm(stream).values.abs().max()) < 1e-4


def test_absent_rows_never_reach_the_backbone_or_its_batch_statistics():
    stream = some_stream(SIGNAL, rows=6)
    stream.present[[1, 4]] = False
    stream.values[[1, 4]] = 1e6  # would wreck any statistic
    one, other = encoder(), encoder()
    torch.manual_seed(1)
    encoded, rows = one.encode(stream)
    assert rows.tolist() == [0, 2, 3, 5]
    keep = torch.tensor([0, 2, 3, 5])
    torch.manual_seed(1)
    alone, _ = other.encode(Stream(stream.values[keep], stream.steps[keep], stream.present[keep]))
    torch.testing.assert_close(encoded.vector, alone.vector)
    torch.testing.assert_close(one.backbone.norm.running_mean, other.backbone.norm.running_mean)


def test_weights_depend_on_the_address_alone():
    torch.rand(7)
    one = encoder(3)
    torch.rand(100)
    two = encoder(3)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not torch.equal(encoder(4).backbone.linear.weight, one.backbone.linear.weight)


def about() -> dict:
    return {
        "projection": {"hidden": 8, "width": 4},
        "modalities": {
            "a": {
                "layout": SIGNAL.to_json(),
                "normalise": "channel",
                "backbone": {"use": "pool", "params": {"width": 6}, "version": "0"},
            }
        },
    }


def test_encoders_come_back_from_disk_without_the_recipe(tmp_path):
    saved = encoder(5)
    saved.normalise.fit([some_stream(SIGNAL)])
    save_encoders(tmp_path, {"a": saved}, about())
    loaded = load_encoders(tmp_path, OFFERS)["a"]
    stream = some_stream(SIGNAL, seed=8)
    assert not loaded.training
    torch.testing.assert_close(loaded.encode(stream)[0].vector, saved.eval().encode(stream)[0].vector, rtol=0, atol=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoders.json", "encoders.safetensors"]


def test_weights_that_do_not_fit_name_both_versions(tmp_path):
    config = about()
    config["modalities"]["a"]["backbone"]["params"]["width"] = 7
    save_encoders(tmp_path, {"a": encoder()}, config)
    with pytest.raises(PluginError, match="do not fit the backbone 'pool'"):
        load_encoders(tmp_path, OFFERS)
    with pytest.raises(DataError, match="name the 'pretrain' folder"):
        load_encoders(tmp_path / "nowhere", OFFERS)


@pytest.mark.parametrize("section", [Sgd(), AdamW()], ids=lambda s: s.use)
def test_a_checkpoint_goes_on_to_bit_identical_weights(tmp_path, section):
    def steps(model, optimizer, numbers):
        for k in numbers:
            torch.manual_seed(k)
            loss = model.project(model.encode(some_stream(SIGNAL, seed=k))[0]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    straight, broken, fresh = encoder(), encoder(), encoder(99)
    steps(straight, build_optimizer(section, straight), range(8))
    optimizer = build_optimizer(section, broken)
    steps(broken, optimizer, range(5))
    kept = {name: value + 1 for name, value in broken.state_dict().items()}
    save_checkpoint(tmp_path / "resume", broken, optimizer, kept, {"key": "k", "epoch": 5, "loss": 0.1 + 0.2})
    again = build_optimizer(section, fresh)
    counters, best = load_checkpoint(tmp_path / "resume", "k", fresh, again)
    assert counters == {"key": "k", "epoch": 5, "loss": 0.1 + 0.2}
    assert all(torch.equal(best[name], value) for name, value in kept.items())
    steps(fresh, again, range(5, 8))
    assert all(torch.equal(a, b) for a, b in zip(straight.state_dict().values(), fresh.state_dict().values(), strict=True))


def test_a_checkpoint_of_another_plan_is_not_used(tmp_path):
    model = encoder()
    optimizer = build_optimizer(Sgd(), model)
    save_checkpoint(tmp_path / "resume", model, optimizer, {}, {"key": "old"})
    assert load_checkpoint(tmp_path / "resume", "new", model, optimizer) is None
    assert load_checkpoint(tmp_path / "never", "old", model, optimizer) is None


def test_a_checkpoint_survives_a_kill_between_its_two_renames(tmp_path):
    model = encoder()
    optimizer = build_optimizer(Sgd(), model)
    save_checkpoint(tmp_path / "resume", model, optimizer, {}, {"key": "k", "epoch": 1})
    (tmp_path / "resume").rename(tmp_path / "resume.old")
    assert load_checkpoint(tmp_path / "resume", "k", model, optimizer)[0]["epoch"] == 1


@pytest.mark.parametrize("best_name", ["best", "best_loss"])
def test_progress_comes_back_whole_with_the_best_weights(tmp_path, best_name):
    model = encoder()
    optimizer = build_optimizer(Sgd(), model)
    state = Progress(key="k", best_name=best_name)
    assert not state.restore(tmp_path / "resume", model, optimizer)
    state.finish_epoch({"epoch": 1}, monitored=0.1 + 0.2, model=model, skipped={"a~b": 2})
    best = weights_of(model)
    nn.init.zeros_(model.backbone.linear.weight)
    state.finish_epoch({"epoch": 2}, monitored=0.5, model=model, skipped={"a~b": 1})
    state.step = 7
    state.save(tmp_path / "resume", model, optimizer)
    again = Progress(key="k", best_name=best_name)
    other = encoder(9)
    assert again.restore(tmp_path / "resume", other, build_optimizer(Sgd(), other))
    assert (again.epoch, again.step, again.best_epoch, again.best) == (2, 7, 1, 0.1 + 0.2)
    assert (again.history, again.skipped) == ([{"epoch": 1}, {"epoch": 2}], {"a~b": 3})
    assert again.seconds == state.seconds
    assert all(torch.equal(value, best[name]) for name, value in again.weights.items())
    assert not other.backbone.linear.weight.any()
    assert not Progress(key="other", best_name=best_name).restore(tmp_path / "resume", other, build_optimizer(Sgd(), other))


@pytest.mark.parametrize(
    ("best_name", "more"), [("best_loss", {"skipped": {"a~b": 4}}), ("best", {})], ids=["pretrain", "supervise"]
)
def test_progress_goes_on_from_checkpoints_of_either_stage_as_they_always_were(tmp_path, best_name, more):
    model = encoder()
    optimizer = build_optimizer(Sgd(), model)
    state = {"key": "k", "epoch": 5, "step": 40, "best_epoch": 3, best_name: 0.25, "history": [{}] * 5, "seconds": 9.5, **more}
    save_checkpoint(tmp_path / "resume", model, optimizer, weights_of(model), state)
    progress = Progress(key="k", best_name=best_name)
    assert progress.restore(tmp_path / "resume", model, optimizer)
    assert (progress.epoch, progress.step, progress.best_epoch, progress.best, progress.seconds) == (5, 40, 3, 0.25, 9.5)
    assert progress.skipped == more.get("skipped", {})
    progress.save(tmp_path / "resume", model, optimizer)
    assert state.items() <= json.loads((tmp_path / "resume" / "state.json").read_text()).items()


def test_patience_counts_from_the_best_epoch():
    model, state = encoder(), Progress(key="k")
    over = []
    for value in (3.0, 2.0, 2.0, 5.0, 1.0, 4.0):
        state.finish_epoch({}, monitored=value, model=model)
        over.append(state.patience_is_over(2))
    assert over == [False, False, False, True, False, False]
    assert (state.best, state.best_epoch) == (1.0, 5)
    assert not state.patience_is_over(None)


def test_a_mean_weighs_each_batch_by_its_recordings():
    mean = Mean()
    assert mean.value is None
    mean.add(torch.tensor(1.0), 3)
    mean.add(torch.tensor(5.0), 1)
    assert mean.value == 2.0


def test_the_mean_over_windows_is_each_recordings_own():
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    means = WindowMean(4, 3)
    means.add(torch.tensor([2, 0, 2]), vectors[:3])
    means.add(torch.tensor([2, 3]), vectors[3:])
    expected = [vectors[1], torch.zeros(3), (vectors[0] + vectors[2] + vectors[3]) / 3, vectors[4]]
    torch.testing.assert_close(means.value, torch.stack(expected))
    assert means.present.tolist() == [True, False, True, True]


def test_schedules_are_the_formulas():
    step = Step(use="step", every=5, gamma=0.9)
    assert [rate(step, 1.0, 100, e) for e in (0, 4.9, 5, 10.2)] == pytest.approx([1, 1, 0.9, 0.81])
    cosine = Cosine(use="cosine", floor=0.1, warmup=2)
    assert rate(cosine, 1.0, 10, 2) == pytest.approx(1.0)
    assert rate(cosine, 1.0, 10, 6) == pytest.approx(0.1 + 0.9 * 0.5)
    assert rate(cosine, 1.0, 10, 10) == pytest.approx(0.1)
    assert 0 < rate(cosine, 1.0, 10, 0) < 0.01
    linear = Linear(use="linear", warmup=2)
    assert [rate(linear, 1.0, 10, e) for e in (2, 4, 6, 10)] == pytest.approx([1, 0.75, 0.5, 0])
    assert rate(cosine, 1.0, 10, 1) == pytest.approx(0.5, abs=1e-2)


def test_adamw_decays_matrices_only():
    groups = build_optimizer(AdamW(weight_decay=0.5), encoder()).param_groups
    assert {(g["weight_decay"], min(p.ndim for p in g["params"]), max(p.ndim for p in g["params"])) for g in groups} == {
        (0.5, 2, 2),
        (0.0, 1, 1),
    }


def test_augmentation_leaves_padding_zero_and_depends_on_its_generator_alone():
    stream = some_stream(SIGNAL)
    how = Augmentation(noise=0.5, gain=0.3, mask_time=0.5, mask_channels=0.3)
    one = augment(stream, SIGNAL, how, torch.Generator().manual_seed(1))
    torch.rand(5)
    two = augment(stream, SIGNAL, how, torch.Generator().manual_seed(1))
    assert torch.equal(one.values, two.values)
    assert float(one.values[~stream.steps].abs().sum()) == 0.0
    assert not torch.equal(one.values, stream.values)
    assert not Augmentation()


def test_rotation_turns_every_triple_of_a_row_alike_and_keeps_lengths_and_angles():
    layout = Layout("skeleton", ("time", "joint", "channel"), {"joint": 4, "channel": 6}, 30.0)
    values = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    stream = Stream(values, torch.ones(3, 5, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    turned = augment(stream, layout, Augmentation(rotate=1.0), torch.Generator().manual_seed(1)).values
    assert not torch.allclose(turned, values, atol=0.1)
    before, after = values.reshape(3, -1, 3).double(), turned.reshape(3, -1, 3).double()
    torch.testing.assert_close(before @ before.mT, after @ after.mT, rtol=0, atol=1e-5)  # all lengths and angles within a row
    for i in range(3):
        matrix = torch.linalg.lstsq(before[i], after[i]).solution
        assert float(torch.linalg.det(matrix)) == pytest.approx(1.0, abs=1e-4)  # no mirror


def test_plan_of_encoders_is_plain_json(tmp_path):
    save_encoders(tmp_path, {"a": encoder()}, about())
    assert json.loads((tmp_path / "encoders.json").read_text())["format"] == 1


# --- large batches in small memory ------------------------------------------------------------------------------------------


class _Norming(nn.Module):
    """A network with batch normalisation and dropout."""

    width = 6

    def __init__(self, norm: bool, dropout: float) -> None:
        super().__init__()
        self.line = nn.Linear(3, 6)
        self.norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.calls: list[int] = []

    def forward(self, stream):
        self.calls.append(len(stream.values))
        return Encoded(vector=self.drop(self.norm(torch.tanh(self.line(stream.values).mean(1)))))


def _encoder_with(norm: bool = False, dropout: float = 0.0) -> Encoder:
    torch.manual_seed(1)
    return Encoder(SIGNAL, _Norming(norm, dropout), nn.Linear(6, 4), normalise=False).double()


def _stream(n: int = 11) -> Stream:
    torch.manual_seed(2)
    return Stream(
        torch.randn(n, 5, 3, dtype=torch.float64), torch.ones(n, 5, dtype=torch.bool), torch.ones(n, dtype=torch.bool)
    )


def _loss(z):
    z = torch.nn.functional.normalize(z, dim=-1)
    return (z @ z.T / 0.1).logsumexp(1).sum()  # every row depends on every other, as in a contrastive loss


def test_parts_give_the_whole_batchs_gradient():
    whole, parts = _encoder_with(), _encoder_with()
    a, b = _loss(whole.embed(_stream())), _loss(parts.embed(_stream(), 4))
    assert torch.equal(a, b)
    a.backward()
    b.backward()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-12, atol=1e-12)
    assert parts.backbone.calls == [4, 4, 3, 3, 4, 4] or sorted(parts.backbone.calls) == [3, 3, 4, 4, 4, 4]


def test_dropout_draws_the_same_twice():
    encoder = _encoder_with(dropout=0.5)
    torch.manual_seed(3)
    loss = _loss(encoder.embed(_stream(), 4))
    loss.backward()
    gradient = encoder.backbone.line.weight.grad.clone()
    again = _encoder_with(dropout=0.5)
    torch.manual_seed(3)
    z = torch.cat(
        [
            again.embed(Stream(s.values[k : k + 4], s.steps[k : k + 4], s.present[k : k + 4]))
            for s in [_stream()]
            for k in (0, 4, 8)
        ]
    )
    _loss(z).backward()
    assert torch.allclose(gradient, again.backbone.line.weight.grad, rtol=1e-10, atol=1e-12)


def test_running_statistics_move_once():
    encoder, again = _encoder_with(norm=True), _encoder_with(norm=True)
    _loss(encoder.embed(_stream(), 4)).backward()
    s = _stream()
    for k in (0, 4, 8):
        again.embed(Stream(s.values[k : k + 4], s.steps[k : k + 4], s.present[k : k + 4]))
    assert torch.equal(encoder.backbone.norm.running_mean, again.backbone.norm.running_mean)
    assert int(encoder.backbone.norm.num_batches_tracked) == 3
    assert encoder.backbone.norm.momentum == 0.1


def test_nothing_is_computed_again_without_gradient():
    encoder = _encoder_with()
    with torch.no_grad():
        encoder.embed(_stream(), 4)
    assert encoder.backbone.calls == [11]
