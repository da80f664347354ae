"""The kit for plug-in authors is kept honest by mutants: each breaks one rule of the contract, and must be caught for that."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mmcl.api import (
    Audio,
    BackboneSpec,
    DataError,
    DatasetInfo,
    DatasetSpec,
    Encoded,
    Field,
    HeadSpec,
    Items,
    Kind,
    Layout,
    LossSpec,
    ModalitySpec,
    NoParams,
    Pair,
    Params,
    PositivesSpec,
    SampleRef,
    Scored,
    Sequence,
    Shown,
    Source,
    Task,
    Timed,
)
from mmcl.testing import (
    NotTried,
    check_backbone,
    check_dataset,
    check_head,
    check_loss,
    check_modality,
    check_plugin,
    check_positives,
    check_spec,
    make_layouts,
    make_pair,
    make_raw,
    make_sources,
    make_stream,
    make_variants,
)

# -------------------------------------------------------------------------------------------------------------- backbone


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
        found = super().read_out(hidden, steps)
        return found - found.mean(0)


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


def test_made_up_rows_do_not_depend_on_padding_or_on_other_rows():
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


# ------------------------------------------------------------------------------------------------------------------ loss


def nce(pair, positive=None, divide_by=None, logits=None):
    """Mean over anchors of −log(Σ positives / Σ candidates that are not ignored)."""
    logits = pair.similarity() / 0.2 if logits is None else logits
    positive = pair.positive if positive is None else positive
    kept = torch.finfo(logits.dtype).min
    up = logits.masked_fill(~positive, kept).logsumexp(1)
    down = logits.masked_fill(pair.ignore, kept).logsumexp(1)
    anchors = positive.any(1)
    each = torch.where(anchors, down - up, 0.0)
    return Scored(each.sum() / (divide_by or anchors.sum().clamp_min(1)) + 0 * logits.sum(), anchors.sum())


def nce_by_loops(pair):
    values = []
    for i in range(len(pair.left)):
        up = down = 0.0
        for j in range(len(pair.right)):
            e = math.exp(float(functional.cosine_similarity(pair.left[i], pair.right[j], dim=0)) / 0.2)
            up += e if pair.positive[i, j] else 0.0
            down += 0.0 if pair.ignore[i, j] else e
        if up:
            values.append(math.log(down) - math.log(up))
    return sum(values) / len(values)


def loss(function, reduction="mean", symmetric=False):
    """A loss spec around a function of a pair."""

    def build(params):
        def score(pair):
            return function(pair)

        score.reduction, score.symmetric = reduction, symmetric
        return score

    return LossSpec("tiny", "a tiny loss", NoParams, build)


def transposed(pair):
    return nce(pair, positive=pair.positive.T.contiguous() if pair.positive.shape[0] == pair.positive.shape[1] else None)


def by_place(pair):
    return nce(pair, positive=torch.eye(*pair.positive.shape, dtype=torch.bool) & pair.positive.any(1, keepdim=True))


def over_all_rows(pair):
    return nce(pair, divide_by=len(pair.left))


def nan_without_positives(pair):
    logits = pair.similarity() / 0.2
    up = (logits.exp() * pair.positive).sum(1).log()
    down = (logits.exp() * ~pair.ignore).sum(1).log()
    anchors = pair.positive.any(1)
    return Scored(((down - up) * anchors).sum() / anchors.sum(), anchors.sum())


def nan_in_the_gradient_alone(pair):
    logits = pair.similarity() / 0.2
    anchors = pair.positive.any(1)
    up = (logits.exp() * pair.positive).sum(1).log()
    down = (logits.exp() * ~pair.ignore).sum(1).log()
    each = torch.where(anchors, down - up, 0.0)
    return Scored(each.sum() / anchors.sum().clamp_min(1), anchors.sum())


def counts_everyone(pair):
    scored = nce(pair)
    return Scored(scored.loss, torch.tensor(len(pair.left)))


def ignores_nothing(pair):
    return nce(Pair(pair.left, pair.right, pair.positive, torch.zeros_like(pair.ignore)))


def writes_into_the_cosines(pair):
    return nce(pair, logits=pair.similarity().div_(0.2))


def forgets_one_side(pair):
    return nce(Pair(pair.left, pair.right.detach(), pair.positive, pair.ignore))


def detaches_the_denominator(pair):
    logits = pair.similarity() / 0.2
    held = logits.detach()
    return Scored(
        nce(pair).loss + (held.logsumexp(1).sum() - logits.logsumexp(1).sum()) / len(logits), pair.positive.any(1).sum()
    )


def rounds(pair):
    return Scored(
        nce(Pair(pair.left.bfloat16(), pair.right.bfloat16(), pair.positive, pair.ignore)).loss, pair.positive.any(1).sum()
    )


def logs_with_gradient(pair):
    scored = nce(pair)
    return Scored(scored.loss, scored.anchors, {"loss": scored.loss})


def no_gradient_without_anchors(pair):
    return nce(pair) if pair.positive.any() else Scored(torch.zeros(()), torch.tensor(0))


def test_good_loss_passes_and_equals_its_brute_force():
    check_loss(loss(nce), brute_force=nce_by_loops)


def test_loss_that_is_a_sum_passes_as_a_sum():
    check_loss(loss(lambda pair: nce(pair, divide_by=1), "sum"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (loss(transposed), "come in another order"),
        (loss(by_place), "come in another order"),
        (loss(over_all_rows), "anchors without a positive change the loss of the others"),
        (loss(nan_without_positives), "nan"),
        (loss(nan_in_the_gradient_alone), "gradient of left is not finite"),
        (loss(counts_everyone), "`anchors` counts the anchors"),
        (loss(writes_into_the_cosines), "pair.cosine is changed in place"),
        (loss(forgets_one_side), "'right' gets no gradient|slope"),
        (loss(detaches_the_denominator), "the gradient is not the slope"),
        (loss(rounds), "leave float64 alone"),
        (loss(logs_with_gradient), "metric 'loss' is a detached tensor"),
        (loss(no_gradient_without_anchors), "has a gradient"),
        (loss(nce, "sum"), "says reduction = 'sum'"),
        (loss(lambda pair: nce(pair, divide_by=1), "mean"), "says reduction = 'mean'"),
        (loss(nce, "average"), "`reduction` is"),
        (loss(nce, symmetric=True), "says symmetric = True"),
        (loss(lambda pair: nce(pair).loss), "gives an mmcl.api.Scored"),
    ],
)
def test_loss_that_breaks_a_rule_is_caught_for_it(spec, words):
    with pytest.raises(AssertionError, match=words):
        check_loss(spec)


@pytest.mark.parametrize("wrong", [ignores_nothing, transposed, over_all_rows, by_place])
def test_wrong_formula_is_caught_by_brute_force(wrong):
    with pytest.raises(AssertionError, match=r"differs from the brute-force computation"):
        check_loss(loss(wrong), brute_force=nce_by_loops)


def test_learned_temperature_must_be_one_dimensional_and_is_reached():
    class Learned(nn.Module):
        reduction, symmetric = "mean", False

        def __init__(self, shape, used=True):
            super().__init__()
            self.scale = nn.Parameter(torch.full(shape, 5.0))
            self.used = used

        def forward(self, pair):
            return nce(pair, logits=pair.similarity() * (self.scale if self.used else 5.0))

    check_loss(LossSpec("learned", "τ is learned", NoParams, lambda params: Learned((1,))))
    with pytest.raises(AssertionError, match="learned parts are 1-d"):
        check_loss(LossSpec("learned", "τ is learned", NoParams, lambda params: Learned(())))
    with pytest.raises(AssertionError, match="'scale' gets no gradient"):
        check_loss(LossSpec("learned", "τ is learned", NoParams, lambda params: Learned((1,), used=False)))


def test_made_up_pairs_have_something_to_learn_everywhere():
    for seed in range(20):
        pair = make_pair(6, 9, seed=seed)
        assert not (pair.positive & pair.ignore).any()
        negative = ~pair.positive & ~pair.ignore
        assert pair.positive.any(1).all()
        assert negative.any(1).all()
        assert pair.positive[:, :6].any(0).all()
        assert negative[:, 1:7].any(0).all()


# ------------------------------------------------------------------------------------------------------------- positives


def same_row(left, right):
    positive = left.row[:, None] == right.row[None, :]
    return positive, torch.zeros_like(positive)


def positives(rule, needs=()):
    return PositivesSpec("tiny", "a tiny rule", NoParams, lambda params: rule, lambda params, names: needs)


def test_good_rules_pass():
    def same_label(left, right):
        positive = left.targets["mood"][:, None] == right.targets["mood"][None, :]
        return positive, torch.zeros_like(positive)

    check_positives(positives(same_row))
    check_positives(positives(same_label, ("mood",)))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda left, right: (torch.eye(len(left.row), len(right.row)).bool(),) * 2, "positive and ignored at once"),
        (lambda left, right: tuple(mask.int() for mask in same_row(left, right)), "bool"),
        (lambda left, right: same_row(right, left), r"\(3, 10\)"),
        (lambda left, right: (same_row(left, right)[1],) * 2, "a negative of itself"),
        (
            lambda left, right: (
                same_row(left, right)[0] | (left.row[:, None] > right.row.float().mean()),
                same_row(left, right)[1],
            ),
            "depends on the other rows",
        ),
    ],
)
def test_rule_that_breaks_a_rule_is_caught_for_it(rule, words):
    with pytest.raises(AssertionError, match=words):
        check_positives(positives(rule))


def test_rule_that_needs_other_targets_asks_for_them():
    def near(left, right):
        far = (left.targets["va"][:, None] - right.targets["va"][None]).norm(dim=2)
        return far < 0.5, (far >= 0.5) & (far < 1)

    def square(left, right):
        mine, theirs = left.targets["va"].reshape(len(left.row), 7), right.targets["va"].reshape(len(right.row), 7)
        return (mine[:, None] == theirs[None]).all(2), torch.zeros(len(mine), len(theirs), dtype=torch.bool)

    with pytest.raises(NotTried, match="items="):
        check_positives(positives(square, ("va",)))
    check_positives(positives(near, ("va",)))  # two values are made up where classes cannot be used
    row = torch.arange(8)
    check_positives(positives(near, ("va",)), items=Items(row, row * 0, {"va": torch.rand(8, 2)}))


# -------------------------------------------------------------------------------------------------------------- modality


class Halves:
    """The mean of every two steps."""

    def extract(self, raw):
        steps = len(raw.values) // 2 * 2
        return raw.values[:steps].reshape(-1, 2, *raw.values.shape[1:]).mean(1)


def modality(extract=None, **layout):
    """A modality that halves the rate of a sequence; `layout` changes what it promises."""

    def promise(params, source):
        if len(source.notes["shape"]) != 1:
            raise ValueError("channels only")
        given = {"kind": "signal", "axes": ("time", "channel"), "sizes": {"channel": 6}, "rate": source.rate / 2}
        return Layout(**{**given, **layout})

    made = Halves() if extract is None else SimpleNamespace(extract=extract)
    return ModalitySpec("halves", "half as many steps", ("sequence",), NoParams, promise, lambda params, source: made)


def halved(raw):
    return Halves().extract(raw)


def in_place(raw):
    raw.values[:] *= 2
    return halved(raw)


def with_nan(raw):
    found = halved(raw)
    found[0, 0] = np.nan
    return found


def timed(raw):
    values = halved(raw)
    return Timed(values, np.stack([np.arange(len(values))] * 2, 1)[::-1].astype(float))


def test_good_modality_passes():
    check_modality(modality())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (modality(sizes={"channel": 5}), "a stream has the axes"),
        (modality(sizes={}), "sizes gives a length for every axis"),
        (modality(rate=30.0), "lasts 2.00 s"),
        (modality(rate=None), "the layout needs a rate"),
        (modality(notes={"names": ("a", "b")}), "JSON"),
        (modality(axes=("channel", "time")), "time is the first axis"),
        (modality(lambda raw: halved(raw).astype(np.int64)), "float or uint8"),
        (modality(with_nan), "NaN"),
        (modality(in_place), "changed the raw recording"),
        (modality(lambda raw: halved(raw) + np.random.default_rng().random()), "two extractions of one recording differ"),
        (modality(lambda raw: halved(raw)[:0]), "no step at all"),
        (modality(timed, rate=None), "in the order of time"),
    ],
)
def test_modality_that_breaks_a_rule_is_caught_for_it(spec, words):
    with pytest.raises(AssertionError, match=words):
        check_modality(spec)


def test_modality_that_no_made_up_source_suits_asks_for_one():
    def layout(params, source):
        if source.notes.get("shape") != [2]:
            raise ValueError("two channels or nothing")
        return Layout("signal", ("time", "channel"), {"channel": 2}, source.rate)

    spec = ModalitySpec(
        "two", "two channels", ("sequence",), NoParams, layout, lambda p, s: SimpleNamespace(extract=lambda raw: raw.values)
    )
    with pytest.raises(NotTried, match="two channels or nothing"):
        check_modality(spec)
    source = Source("sequence", "two channels", 50.0, {"shape": [2]})
    check_modality(spec, Sequence(np.zeros((9, 2), np.float32), 50.0), source)
    check_modality(spec, source=source)


def test_made_up_recordings_are_what_their_sources_say():
    for kind in ("audio", "video", "words", "table", "sequence"):
        for source in make_sources(kind):
            raw = make_raw(source)
            assert type(raw).__name__.lower() == kind
            if kind in ("video", "sequence"):
                shape = (raw.frames if kind == "video" else raw.values).shape
                assert shape == (round(2 * source.rate), *source.notes["shape"])
    assert isinstance(make_raw(Source("audio", "")), Audio)


# --------------------------------------------------------------------------------------------------------------- dataset


class Folder:
    """One .bin file of 6 float32 channels a recording: <speaker>-<number>.bin."""

    sources = "wrist"

    def __init__(self, params, root):
        self.root = root

    def files(self):
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; ask the authors for the data")
        return sorted(self.root.glob("*.bin"))

    def ref(self, path):
        speaker, number = path.stem.split("-")
        return SampleRef(
            path.stem, speaker, {"wrist": path.name}, {"mood": int(number) % 2}, "test" if speaker == "a" else "train"
        )

    def samples(self):
        return [self.ref(path) for path in self.files()]

    def read(self, id, source):
        path = self.root / f"{id}.bin"
        values = np.frombuffer(self.whole(path), np.float32)
        return Sequence(values.reshape(-1, 6), 50.0)

    def whole(self, path):
        content = path.read_bytes()
        if len(content) != 50 * 6 * 4:
            raise DataError(f"{path}: has {len(content)} bytes, a recording has {50 * 6 * 4}")
        return content


def write_sample(root, n, seed):
    draw = np.random.default_rng(seed)
    for i in range(n):
        (root / f"{'abc'[i % 3]}-{i}.bin").write_bytes(b"\0" * 4 + draw.random(299, np.float32).tobytes())


INFO = DatasetInfo(
    {"wrist": Source("sequence", "a sensor", 50.0, {"shape": [6]})},
    {"mood": Task("mood", "single-label", ("calm", "tense"))},
    "speaker",
    ("train", "test"),
)


def dataset(folder=Folder, info=INFO, sample=write_sample):
    return DatasetSpec("tiny", "a tiny corpus", NoParams, lambda params: info, folder, sample)


def mutant(**changes):
    return type("Mutant", (Folder,), changes)


def with_ref(change):
    def ref(self, path):
        good = Folder.ref(self, path)
        return SampleRef(**{**{name: getattr(good, name) for name in good.__dataclass_fields__}, **change(good)})

    return mutant(ref=ref)


def test_good_dataset_passes(tmp_path):
    check_dataset(dataset(), tmp_path)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (dataset(with_ref(lambda good: {"id": good.group})), "ids are unique"),
        (dataset(with_ref(lambda good: {"group": " "})), "has no speaker as its group"),
        (dataset(with_ref(lambda good: {"targets": {"mood": 2}})), "index of one of its 2 classes"),
        (dataset(with_ref(lambda good: {"targets": {"mood": True}})), "index of one of its 2 classes"),
        (dataset(with_ref(lambda good: {"targets": {"age": 2}})), "a task that info does not know"),
        (dataset(with_ref(lambda good: {"sources": {"ankle": "x"}})), "sources that info does not know: ankle"),
        (dataset(with_ref(lambda good: {"sources": {"wrist": "/data/x.bin"}})), "relative to the root"),
        (dataset(with_ref(lambda good: {"split": "dev"})), "official split 'dev'"),
        (
            dataset(with_ref(lambda good: {"split": "test" if good.targets["mood"] else "train"})),
            "would leak",
        ),
        (dataset(with_ref(lambda good: {"sources": {}})), "no recording of the tiny copy has it"),
        (dataset(mutant(samples=lambda self: self.files()[:0])), "holds no recording"),
        (
            dataset(mutant(samples=lambda self: np.random.default_rng().permutation(Folder.samples(self)).tolist())),
            "another order",
        ),
        (dataset(mutant(files=lambda self: sorted(self.root.glob("*.bin")))), "missing folder raises DataError"),
        (dataset(mutant(read=lambda self, id, source: Audio(np.zeros(9, np.float32), 9))), "gives mmcl.api.Sequence"),
        (
            dataset(mutant(read=lambda self, id, source: Sequence(Folder.read(self, id, source).values[:, :5], 50.0))),
            "info says steps of shape",
        ),
        (
            dataset(mutant(read=lambda self, id, source: Sequence(Folder.read(self, id, source).values, 25.0))),
            "info says 50 a second",
        ),
        (
            dataset(mutant(read=lambda self, id, source: Sequence(Folder.read(self, id, source).values * np.nan, 50.0))),
            "NaN",
        ),
        (dataset(mutant(whole=lambda self, path: path.read_bytes()[:240] or bytes(24))), "is read as if nothing were wrong"),
        (dataset(mutant(whole=lambda self, path: path.read_bytes())), "is read as if nothing were wrong|DataError"),
        (dataset(sample=None), "brings no `sample`"),
    ],
)
def test_dataset_that_breaks_a_rule_is_caught_for_it(spec, words, tmp_path):
    with pytest.raises(AssertionError, match=words):
        check_dataset(spec, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources": {}}, "names no source"),
        ({"sources": {"wrist": Source("accelerometer", "a sensor")}}, "is of type 'accelerometer'"),
        ({"tasks": {"mood": Task("feeling", "single-label", ("calm", "tense"))}}, "calls itself 'feeling'"),
        ({"tasks": {"mood": Task("mood", "ranking", ("calm", "tense"))}}, "is of type 'ranking'"),
        ({"tasks": {"mood": Task("mood", "single-label", ("calm", "calm"))}}, "different names for its classes"),
        ({"tasks": {"mood": Task("mood", "single-label", ("calm",))}}, "different names for its classes"),
        ({"group": ""}, "must never stand on both sides"),
        ({"official": ("train", "dev")}, "official splits are of train, valid and test"),
    ],
)
def test_info_that_breaks_a_rule_is_caught_for_it(change, words, tmp_path):
    with pytest.raises(AssertionError, match=words):
        check_dataset(dataset(info=replace(INFO, **change)), tmp_path)


def test_damaged_file_that_raises_something_else_is_caught_and_mended(tmp_path):
    def whole(self, path):
        content = path.read_bytes()
        if len(content) != 50 * 6 * 4:
            raise ValueError("buffer size")
        return content

    with pytest.raises(AssertionError, match=r"raises DataError, .* found ValueError: buffer size"):
        check_dataset(dataset(mutant(whole=whole)), tmp_path)
    assert all(path.stat().st_size == 1200 for path in (tmp_path / "sample").iterdir()), "the tiny copy is left whole"


# ------------------------------------------------------------------------------------------------------------------ head


class Layer(nn.Module):
    def __init__(self, params, task, widths):
        super().__init__()
        self.task = task
        self.layer = nn.Linear(sum(widths.values()), len(task.classes))

    def features(self, encoded):
        return torch.cat([one.vector for one in encoded.values()], 1)

    def forward(self, encoded):
        return self.layer(self.features(encoded))


class LeastSquares(Layer):
    """Brings its own solver."""

    def fit(self, train, valid, generator):
        target = train.target
        if self.task.type == "single-label":
            target = functional.one_hot(target, len(self.task.classes)).float()
        if self.task.type == "multi-label":
            target = target * 2 - 1
        ones = torch.ones(len(target), 1)
        x = torch.cat([self.features(train.encoded), ones], 1).double()
        solution = torch.linalg.lstsq(x.T @ x + 1e-3 * torch.eye(x.shape[1]), x.T @ target.double()).solution.float()
        with torch.no_grad():
            self.layer.weight.copy_(solution[:-1].T)
            self.layer.bias.copy_(solution[-1])
        return {"l2": 1e-3}


class LearnsNothing(Layer):
    def forward(self, encoded):
        return super().forward(encoded).detach() + 0 * self.layer.bias.sum()


class CentresTheBatch(Layer):
    def features(self, encoded):
        found = super().features(encoded)
        return found - found.mean(0)


class DividesByTheVector(Layer):
    def features(self, encoded):
        return torch.cat([one.vector / one.vector.norm(dim=1, keepdim=True) for one in encoded.values()], 1)


class GivesOneOutputMore(Layer):
    def forward(self, encoded):
        return torch.cat([super().forward(encoded)] * 2, 1)


class KeepsWhatItFound(LeastSquares):
    shift = 0.0

    def fit(self, train, valid, generator):
        self.shift = float(len(train.target))
        return super().fit(train, valid, generator)

    def forward(self, encoded):
        return super().forward(encoded) + 1e-3 * self.shift


class DrawsInFit(LeastSquares):
    def fit(self, train, valid, generator):
        found = super().fit(train, valid, generator)
        self.layer.weight.data += (
            1e-4 * torch.from_numpy(np.random.default_rng().standard_normal(self.layer.weight.shape)).float()
        )
        return found


class HasAnIdleLayer(Layer):
    def __init__(self, params, task, widths):
        super().__init__(params, task, widths)
        self.idle = nn.Linear(2, 2)


class ShowsItsWeights(Layer):
    """A good one: a table with a hole."""

    def show(self):
        rows = tuple((*row[1:], None) for row in self.layer.weight.tolist())
        return (Shown("weights", self.task.classes, tuple(f"feature {i}" for i in range(len(rows[0]))), rows),)


class ShowsAColumnTooFew(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=tuple(row[:-1] for row in one.values)),)


class ShowsARowTooMany(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=(*one.values, one.values[0])),)


class ShowsInfinity(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=((math.inf, *one.values[0][1:]), *one.values[1:])),)


class ShowsTensors(ShowsItsWeights):
    def show(self):
        (one,) = super().show()
        return (replace(one, values=tuple(tuple(torch.ones(len(one.columns))) for _ in one.rows)),)


class ShowsNumbersAlone(ShowsItsWeights):
    def show(self):
        return (super().show()[0].values,)


class ShowsOneTitleTwice(ShowsItsWeights):
    def show(self):
        return (*super().show(), *super().show())


def head(build, tasks=("single-label", "multi-label", "regression")):
    return HeadSpec("tiny", "a tiny head", tasks, NoParams, build, solver=hasattr(build, "fit"))


@pytest.mark.parametrize("build", [Layer, LeastSquares])
def test_head_whose_spec_is_wrong_about_its_solver_is_caught(build):
    spec = HeadSpec("tiny", "a tiny head", ("single-label",), NoParams, build, solver=not hasattr(build, "fit"))
    with pytest.raises(AssertionError, match="HeadSpec.solver is"):
        check_head(spec)


@pytest.mark.parametrize("build", [Layer, LeastSquares, ShowsItsWeights])
def test_good_heads_pass(build):
    check_head(head(build))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (LearnsNothing, "on separable data it reaches"),
        (CentresTheBatch, "a row alone gets another output"),
        (DividesByTheVector, "not finite|missing"),
        (GivesOneOutputMore, r"\[rows, outputs\]"),
        (KeepsWhatItFound, "it gives other outputs"),
        (DrawsInFit, "fitted twice"),
        (HasAnIdleLayer, "'idle.weight' gets no gradient"),
        (ShowsAColumnTooFew, "'weights': has a value for each of 3 rows and 14 columns; found 3 rows of 13 values"),
        (ShowsARowTooMany, "found 4 rows of 14 values"),
        (ShowsInfinity, "plain finite numbers"),
        (ShowsTensors, "plain finite numbers"),
        (ShowsNumbersAlone, "Shown tables, found tuple"),
        (ShowsOneTitleTwice, "have one title"),
    ],
)
def test_head_that_breaks_a_rule_is_caught_for_it(build, words):
    with pytest.raises(AssertionError, match=words):
        check_head(head(build, ("single-label",)))


# ------------------------------------------------------------------------------------------------------ specs and plug-ins

PACKAGE = """
from mmcl.api import Field, Kind, LossSpec, Params, hookimpl
{top}

class TinyParams(Params):
    temperature: float = Field(0.1, gt=0, description="divides the cosines")


def build(params):
    import torch
    def loss(pair):
        from mmcl.api import Scored
        logits = pair.similarity() / params.temperature
        low = torch.finfo(logits.dtype).min
        anchors = pair.positive.any(1)
        each = logits.masked_fill(pair.ignore, low).logsumexp(1) - logits.masked_fill(~pair.positive, low).logsumexp(1)
        total = each.masked_fill(~anchors, 0.0).sum() + 0 * logits.sum()
        return Scored(total / {divisor}, anchors.sum())
    loss.reduction, loss.symmetric = "mean", False
    return loss


TINY = LossSpec("tiny-nce", "a tiny loss", TinyParams, build)


@hookimpl
def register_losses(register):
    {hook}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a plug-in package and returns its name."""
    import sys

    made = []

    def write(name, top="", hook="register(TINY)", divisor="anchors.sum().clamp_min(1)"):
        (tmp_path / f"{name}.py").write_text(PACKAGE.format(top=top, hook=hook, divisor=divisor))
        made.append(name)
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in made:
        sys.modules.pop(name, None)


def test_good_plugin_has_only_passes(package):
    results = check_plugin(package("kit_good"))
    assert {r.name for r in results} == {"loss tiny-nce"}
    assert [r for r in results if not r.passed] == []
    assert len(results) == len({(r.name, r.check) for r in results}), "every check has a name of its own"
    assert "blocks of rows add up to the whole" in {r.check for r in results}


def test_plugin_is_checked_as_a_module_too(package):
    import importlib

    assert all(r.passed for r in check_plugin(importlib.import_module(package("kit_module"))))


def test_one_broken_rule_is_listed_beside_the_kept_ones(package):
    results = check_plugin(package("kit_wrong", divisor="len(pair.left)"))
    failed = {r.check: r.message for r in results if r.passed is False}
    assert set(failed) == {"anchors without positives are left out", "blocks of rows add up to the whole"}
    assert all(message.startswith("loss 'tiny-nce'") for message in failed.values())
    assert any(r.passed for r in results)


def test_plugin_that_does_not_load_is_one_failure_with_its_reason(package):
    (result,) = check_plugin(package("kit_broken", top="raise OSError('no licence file')"))
    assert (result.passed, result.check) == (False, "loads")
    assert "OSError: no licence file" in result.message
    (result,) = check_plugin("kit_that_is_nowhere")
    assert result.passed is False


def test_plugin_that_offers_nothing_is_one_failure(package):
    (result,) = check_plugin(package("kit_empty", hook="pass"))
    assert result.passed is False
    assert "registers nothing" in result.message


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("kit_top", {"top": "import torch"}, "importing 'kit_top' imports torch"),
        ("kit_hook", {"hook": "import sklearn; register(TINY)"}, "calling its hooks imports .*sklearn"),
    ],
)
def test_heavy_import_before_build_is_caught_at_its_moment(package, name, change, words):
    import importlib

    module = importlib.import_module(package(name, **change))
    with pytest.raises(AssertionError, match=words):
        check_spec(module.TINY)


def test_result_says_when_a_check_could_not_be_tried(tmp_path, monkeypatch):
    (tmp_path / "kit_refuses.py").write_text(
        "from mmcl.api import BackboneSpec, NoParams, hookimpl\n"
        "def fits(params, layout):\n    raise ValueError('never')\n"
        "SPEC = BackboneSpec('never', 'takes nothing', (('time', 'channel'),), NoParams, lambda p, l: None, fits)\n"
        "@hookimpl\ndef register_backbones(register):\n    register(SPEC)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (untried,) = [r for r in check_plugin("kit_refuses") if r.passed is not True]
    assert untried.passed is None
    assert "give it one that it takes" in untried.message


def spec_with(params=NoParams, name="tiny", summary="a tiny loss", build=None):
    return LossSpec(name, summary, params, build or (lambda params: None))


class NoSentence(Params):
    margin: float = 0.5


class NoDefault(Params):
    margin: float = Field(description="how far apart")


class WrongDefault(Params):
    margin: float = Field(-1.0, gt=0, description="how far apart")


class TakesAnything(Params, extra="allow"):
    margin: float = Field(1.0, gt=0, description="how far apart")


class Changes(Params, frozen=False):
    margin: float = Field(1.0, gt=0, description="how far apart")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (spec_with(NoSentence), "'margin' has no description"),
        (spec_with(NoDefault), "'margin' has no default"),
        (spec_with(WrongDefault), "a default breaks its own type or bounds"),
        (spec_with(TakesAnything), "accepts an unknown option"),
        (spec_with(Changes), "options can be changed"),
        (spec_with(name="Tiny_Loss"), "lower-case letters, digits and hyphens"),
        (spec_with(summary="two\nlines"), "the summary is one line"),
        (spec_with(summary=" "), "the summary is one line"),
        (Kind("odd", ("channel", "time"), "time comes last"), "time first"),
        (BackboneSpec("none", "takes nothing", (), NoParams, Good), "accepts names no axes"),
        (HeadSpec("odd", "an odd task", ("ranking",), NoParams, Layer), "types of task"),
        (object(), "is no spec"),
    ],
)
def test_spec_that_breaks_a_rule_is_caught_for_it(spec, words):
    with pytest.raises(AssertionError, match=words):
        check_spec(spec)


def test_variants_are_the_defaults_and_every_other_choice_one_at_a_time():
    class Choices(Params):
        norm: Literal["layer", "batch", "none"] = Field("batch", description="which")
        bias: bool = Field(True, description="whether")
        width: int = Field(8, description="how wide")

    assert [(v.norm, v.bias, v.width) for v in make_variants(Choices)] == [
        ("batch", True, 8),
        ("layer", True, 8),
        ("none", True, 8),
        ("batch", False, 8),
    ]


def test_importing_the_kit_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, mmcl.testing; print([m for m in mmcl.testing.HEAVY if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    assert done.stdout.strip() == "[]"
