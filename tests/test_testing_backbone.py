"""The kit for plug-in authors is kept honest by mutants: each breaks one rule of a backbone, and must be caught for that."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mmcl.api import BackboneSpec, Encoded, Field, Layout, NoParams, Params
from mmcl.testing import NotTried, check_backbone, make_layouts, make_stream
from mmcl.testing.batch import make_rows, row_of, stack_rows
from mmcl.testing.networks import expect_near_in_bfloat16, expect_read_out_in_parts, idle_parameters


class Good(nn.Module):
    """Convolution, BatchNorm over real steps, convolution, masked mean."""

    def __init__(self, params, layout):
        super().__init__()
        self.width = 8
        self.first = nn.Conv1d(layout.sizes["channel"], 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.second = nn.Conv1d(8, 8, 3, padding=1)

    def normalised(self, hidden, steps):
        out = torch.zeros_like(hidden)
        out[steps] = self.norm(hidden[steps]).to(out.dtype)
        return out

    def read_out(self, hidden, steps):
        return (hidden * steps[..., None]).sum(1) / steps.sum(1, keepdim=True)

    def hide(self, hidden, steps):
        return hidden * steps[..., None]

    def forward(self, stream):
        steps = stream.steps
        hidden = self.first(stream.values.transpose(1, 2)).transpose(1, 2)
        hidden = self.hide(self.normalised(hidden, steps).relu(), steps)
        hidden = self.second(hidden.transpose(1, 2)).transpose(1, 2)
        hidden = hidden * steps[..., None]
        return Encoded(self.read_out(hidden, steps), hidden, steps)


class ForgetsTheMask(Good):
    def read_out(self, hidden, steps):
        return hidden.mean(1)


class TakesTheMaximumOverPadding(Good):
    def read_out(self, hidden, steps):
        return hidden.amax(1)


class NormalisesPadding(Good):
    """In eval mode nothing shows: the filler is hidden again right after."""

    def normalised(self, hidden, steps):
        return self.norm(hidden.transpose(1, 2)).transpose(1, 2)


class LeaksOnceTrained(Good):
    """Nothing is hidden before the second convolution; but at first, zeros stay zeros, and padding leaks only later."""

    def __init__(self, params, layout):
        super().__init__(params, layout)
        self.first = nn.Conv1d(layout.sizes["channel"], 8, 1, bias=False)
        self.norm = self.make_norm()

    def normalised(self, hidden, steps):
        return self.norm(hidden.transpose(1, 2)).transpose(1, 2)

    def hide(self, hidden, steps):
        return hidden


class LeaksThroughItsBias(LeaksOnceTrained):
    def make_norm(self):
        return nn.GroupNorm(8, 8)

    def normalised(self, hidden, steps):
        return functional.layer_norm(hidden, (8,), self.norm.weight, self.norm.bias)


class LeaksThroughItsStatistics(LeaksOnceTrained):
    def make_norm(self):
        return nn.BatchNorm1d(8, affine=False)


class Lookup(nn.Module):
    """Of ids: a vector each, and their mean."""

    def __init__(self, params, layout):
        super().__init__()
        self.width = 8
        self.table = nn.Embedding(layout.notes["vocab"], 8)

    def forward(self, stream):
        hidden = self.table(stream.values[..., 0].long())
        return Encoded(self.read_out(hidden, stream.steps))

    def read_out(self, hidden, steps):
        return (hidden * steps[..., None]).sum(1) / steps.sum(1, keepdim=True)


class LooksUpPaddingToo(Lookup):
    def read_out(self, hidden, steps):
        return hidden.mean(1)


class TakesIdsForAmounts(Lookup):
    """Another recording's ids reach this one."""

    def read_out(self, hidden, steps):
        vector = super().read_out(hidden, steps)
        return vector - vector.mean(0)


class GoodWithDropout(Good):
    def __init__(self, params, layout):
        super().__init__(params, layout)
        self.dropout = nn.Dropout(0.5)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def read_out(self, hidden, steps):
        hidden, _ = self.attention(hidden, hidden, hidden, key_padding_mask=~steps)
        return super().read_out(self.dropout(hidden), steps)


class GoodWithDropoutOption(Good):
    """Not a module: only the option can switch it off."""

    def __init__(self, params, layout):
        super().__init__(params, layout)
        self.p = params.dropout

    def hide(self, hidden, steps):
        return functional.dropout(super().hide(hidden, steps), self.p, self.training)


class IsAlwaysRandomInTraining(Good):
    def hide(self, hidden, steps):
        return functional.dropout(super().hide(hidden, steps), 0.5, self.training)


class SeesOtherRows(Good):
    def read_out(self, hidden, steps):
        vector = super().read_out(hidden, steps)
        return vector - vector.mean(0)


class TakesPlacesFromTheBatch(Good):
    def read_out(self, hidden, steps):
        return super().read_out(hidden, steps) + torch.arange(len(hidden))[:, None]


class HasAnUnusedParameter(Good):
    def __init__(self, params, layout):
        super().__init__(params, layout)
        self.class_layer = nn.Linear(8, 3)


class DetachesHalfway(Good):
    def hide(self, hidden, steps):
        return super().hide(hidden, steps).detach()


class PromisesAnotherWidth(Good):
    def __init__(self, params, layout):
        super().__init__(params, layout)
        self.width = 9


class HasNoWidth(Good):
    def __init__(self, params, layout):
        super().__init__(params, layout)
        del self.width


class ShortensItsSequenceAlone(Good):
    def forward(self, stream):
        encoded = super().forward(stream)
        return Encoded(encoded.vector, encoded.sequence[:, ::2], encoded.steps)


class ForgetsTheStepsOfItsSequence(Good):
    def forward(self, stream):
        encoded = super().forward(stream)
        return Encoded(encoded.vector, encoded.sequence)


class DividesByOneStepLess(Good):
    """The deviation over a single step is 0/0."""

    def read_out(self, hidden, steps):
        return torch.stack([row[mask].std(0) for row, mask in zip(hidden, steps, strict=True)])


class DropsInEval(Good):
    def hide(self, hidden, steps):
        return functional.dropout(super().hide(hidden, steps), 0.5, training=True)


class DrawsFromNumpy(Good):
    def __init__(self, params, layout):
        super().__init__(params, layout)
        with torch.no_grad():
            self.second.weight.copy_(torch.from_numpy(np.random.default_rng().standard_normal((8, 8, 3))))


class KeepsAWeightToItself(Good):
    def __init__(self, params, layout):
        super().__init__(params, layout)
        self.projection = torch.randn(8, 8)

    def read_out(self, hidden, steps):
        return super().read_out(hidden, steps) @ self.projection


class WritesIntoTheStream(Good):
    def forward(self, stream):
        stream.values.mul_(0.5)
        return super().forward(stream)


class OverflowsInHalfPrecision(Good):
    def read_out(self, hidden, steps):
        if hidden.dtype == torch.bfloat16:
            hidden = (hidden.half() * 1e6).float()
        return super().read_out(hidden, steps)


def backbone(network, **more):
    return BackboneSpec("tiny", "a tiny backbone", (("time", "channel"),), NoParams, network, **more)


def test_good_backbone_passes():
    check_backbone(backbone(Good))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (ForgetsTheMask, ": 1 more padded steps change"),
        (TakesTheMaximumOverPadding, r"a recording of 1 step\(s\) alone is not encoded as within a batch"),
        (NormalisesPadding, "in train mode, more padded steps change"),
        (LeaksThroughItsBias, ": 1 more padded steps change"),
        (LeaksThroughItsStatistics, ": 1 more padded steps change"),
        (SeesOtherRows, "other recordings in the batch change"),
        (TakesPlacesFromTheBatch, "rows in another order"),
        (HasAnUnusedParameter, "'class_layer.weight' gets no gradient"),
        (DetachesHalfway, "'first.weight' gets no gradient"),
        (PromisesAnotherWidth, r"\[rows, width\] = \(4, 9\)"),
        (HasNoWidth, "`width`"),
        (ShortensItsSequenceAlone, r"sequence is \[rows, T', D\]"),
        (ForgetsTheStepsOfItsSequence, "a sequence comes together with its steps"),
        (DividesByOneStepLess, "NaN"),
        (DropsInEval, "two calls on one stream give different vectors"),
        (DrawsFromNumpy, "under one torch seed differ in 'second.weight'"),
        (KeepsAWeightToItself, "loaded into a newly built network"),
        (WritesIntoTheStream, "the stream it was given is changed"),
        (OverflowsInHalfPrecision, "bfloat16"),
    ],
)
def test_backbone_that_breaks_a_rule_is_caught_for_it(network, words):
    with pytest.raises(AssertionError, match=words):
        check_backbone(backbone(network))


@pytest.mark.parametrize("mutant", [LeaksThroughItsBias, LeaksThroughItsStatistics])
def test_leak_that_shows_only_after_training_is_hidden_at_first(mutant):
    """Why the kit moves biases and statistics before it looks: newly built, these two are invariant."""
    layout = make_layouts(("time", "channel"))[0]
    network = mutant(None, layout).eval()
    short, long = (network(make_stream(layout, (5, 3), padding)).vector for padding in (0, 4))
    torch.testing.assert_close(short, long)


def test_dropout_is_switched_off_where_padding_is_compared_in_training():
    class Dropping(Params):
        dropout: float = Field(0.5, ge=0, lt=1, description="after the first convolution")

    check_backbone(backbone(GoodWithDropout))
    check_backbone(replace(backbone(GoodWithDropoutOption), params=Dropping))
    with pytest.raises(NotTried, match="pass params that switch everything random off"):
        check_backbone(backbone(IsAlwaysRandomInTraining))


def test_a_backbone_of_ids_is_given_whole_numbers_below_their_vocabulary():
    spec = replace(backbone(Lookup), accepts=(("time", "token"),))
    (layout,) = make_layouts(("time", "token"))
    values = make_stream(layout, (400,)).values
    assert set(values.unique().tolist()) == set(range(1, layout.notes["vocab"]))
    check_backbone(spec)
    for network, words in (
        (LooksUpPaddingToo, "more padded steps change"),
        (TakesIdsForAmounts, "other recordings in the batch"),
    ):
        with pytest.raises(AssertionError, match=words):
            check_backbone(replace(spec, build=network))


def test_a_backbone_that_is_rebuilt_otherwise_than_built_is_caught():
    class Deeper(Good):
        def __init__(self, params, layout):
            super().__init__(params, layout)
            self.third = nn.Linear(8, 8)

    check_backbone(backbone(Good, rebuild=Good))
    with pytest.raises(AssertionError, match="saved weights do not fit a network that is built for them .*third.* `rebuild`"):
        check_backbone(backbone(Good, rebuild=Deeper))


def test_backbone_that_raises_is_reported_with_its_error():
    with pytest.raises(AssertionError, match=r"while checking that .*KeyError: 'joint'"):
        check_backbone(backbone(lambda params, layout: layout.sizes["joint"]))


def test_backbone_whose_fits_refuses_everything_asks_for_a_layout():
    def fits(params, layout):
        if layout.sizes["channel"] != 7:
            raise ValueError("seven channels or nothing")

    spec = backbone(Good, fits=fits)
    with pytest.raises(NotTried, match=r"seven channels or nothing.*layout="):
        check_backbone(spec)
    check_backbone(spec, layout=Layout("signal", ("time", "channel"), {"channel": 7}, 50.0))
    with pytest.raises(AssertionError, match="fits refuses this layout: seven"):
        check_backbone(spec, layout=Layout("signal", ("time", "channel"), {"channel": 6}, 50.0))


def test_backbone_without_time_is_checked_too():
    class Vector(nn.Module):
        def __init__(self, params, layout):
            super().__init__()
            self.width = 4
            self.layer = nn.Linear(layout.sizes["channel"], 4)

        def forward(self, stream):
            return Encoded(self.layer(stream.values))

    class Centred(Vector):
        def forward(self, stream):
            return Encoded(self.layer(stream.values - stream.values.mean(0)))

    def spec(network):
        return BackboneSpec("flat", "a layer", (("channel",),), NoParams, network)

    check_backbone(spec(Vector))
    with pytest.raises(AssertionError, match="other recordings in the batch change"):
        check_backbone(spec(Centred))


def test_random_rows_do_not_depend_on_padding_or_on_other_rows():
    layout = make_layouts(("time", "joint", "channel"))[0]
    one, other = make_stream(layout, (5, 2, 3)), make_stream(layout, (5,), padding=4)
    torch.testing.assert_close(one.values[0, :5], other.values[0, :5])
    assert one.values.shape == (3, 5, 20, 3)
    assert one.steps.sum(1).tolist() == [5, 2, 3]
    assert not one.values[1, 2:].any()
    assert other.values.shape[1] == other.steps.shape[1] == 9


def test_checks_leave_the_generator_and_the_threads_as_they_were():
    torch.manual_seed(3)
    wanted, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(3)
    torch.set_num_threads(2)
    try:
        check_backbone(backbone(Good))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.rand(3), wanted)


# -------------------------------------------------------------------------------- what tests of backbones share


def test_rows_are_the_same_whatever_stands_beside_them_and_one_comes_alone():
    stream, longer = make_rows((2, 3), 5, 1), make_rows((2, 3), 5, 1, 7, pad=2)
    assert stream.values.dtype == torch.float64
    assert longer.values.shape == (3, 9, 2, 3)
    torch.testing.assert_close(longer.values[:2, :5], stream.values)
    assert longer.steps.sum(1).tolist() == [5, 1, 7]
    alone = row_of(longer, 1, 1)
    assert torch.equal(alone.values, stream.values[1:2, :1])
    assert alone.steps.tolist() == [[True]]
    assert row_of(longer, 1).values.shape == (1, 9, 2, 3)
    ids = stack_rows([torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])], padding=1)
    assert ids.values[..., 0].tolist() == [[1, 2, 0], [3, 0, 0]]
    assert ids.steps.tolist() == [[True, True, False], [True, False, False]]


def test_half_precision_that_goes_astray_is_caught():
    layout = make_layouts(("time", "channel"))[0]
    expect_near_in_bfloat16(Good(None, layout).eval(), make_stream(layout, (9, 4)))
    with pytest.raises(AssertionError, match="not close"):
        expect_near_in_bfloat16(OverflowsInHalfPrecision(None, layout).eval(), make_stream(layout, (9, 4)))


def test_parameters_without_a_gradient_are_named():
    layout = make_layouts(("time", "channel"))[0]
    good, unused = Good(None, layout), HasAnUnusedParameter(None, layout)
    assert idle_parameters(good, good(make_stream(layout, (9, 4))).vector) == []
    assert idle_parameters(unused, unused(make_stream(layout, (9, 4))).vector) == ["class_layer.weight", "class_layer.bias"]
    everything = [name for name, _ in good.named_parameters()]
    assert idle_parameters(good, good(make_stream(layout, (9, 4))).vector, least=math.inf) == everything


class Parts(nn.Module):
    """Means and deviations of so many stretches of the real steps, by cutting them up beforehand."""

    def __init__(self, parts, shift=0, least=1e-6):
        super().__init__()
        self.parts, self.width, self.shift, self.least = parts, 2 * parts * 2, shift, least

    def forward(self, stream):
        rows = []
        for values, real in zip(stream.values, stream.steps, strict=True):
            edges = [math.ceil(k * int(real.sum()) / self.parts) for k in range(self.parts + 1)]
            cut = [values[a + self.shift : b + self.shift] for a, b in itertools.pairwise(edges)]
            mean = [part.mean(0) if len(part) else torch.zeros(2).double() for part in cut]
            spread = [part.var(0, correction=0) if len(part) else torch.zeros(2).double() for part in cut]
            rows.append(torch.cat([*mean, (torch.cat(spread) + self.least).sqrt()]))
        return Encoded(torch.stack(rows), stream.values, stream.steps)


def test_parts_that_are_cut_elsewhere_or_spread_otherwise_are_caught():
    stream = make_rows((2,), 11, 4, 2, pad=3)
    expect_read_out_in_parts(Parts(3), stream, 3)
    expect_read_out_in_parts(Parts(3, least=1e-3), stream, 3, deviations=False)
    for wrong in (Parts(3, shift=1), Parts(3, least=1e-3)):
        with pytest.raises(AssertionError, match="not close"):
            expect_read_out_in_parts(wrong, stream, 3)
