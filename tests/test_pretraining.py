"""Queue, teacher and predictor: scores against loops over plain numbers, state against what a batch should leave, resume to equal weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import mmcl.stages.supervise as supervising
from mmcl.api import BackboneSpec, Encoded, Items, NoParams, PluginError, RecipeError, StageError
from mmcl.model.frozen import encode_rows
from mmcl.model.sides import Queue
from mmcl.model.windows import draw_batch, draw_batches, items_of, spans_drawn
from mmcl.objective.directed import Past, score_directed
from mmcl.objective.score import Embedded, score
from mmcl.plugins import plugins
from mmcl.runs import RunFolder
from mmcl.stages.composed import batches_of_epoch, pool_of
from mmcl.stages.learners import learner_of, look_again, seen_by
from mmcl.stages.prepare import prepare
from mmcl.stages.pretrain import pretrain
from mmcl.stages.units import pretrain_key, units_of
from mmcl.stopping import Stopped
from mmcl.testing import check_backbone
from tests.conftest import LEAST

RECIPE = (
    """\
format: 1
name: tiny
seed: 3
dataset: {use: toy, samples: 48, speakers: 6}
"""
    + LEAST.replace("dropout: 0.1", "dropout: 0.0")
    + """\
pretrain: {batch_size: 8, epochs: 2, optimizer: {use: sgd, lr: 1e-2}, checkpoint_minutes: 0}
protocol: {use: official}
"""
)
ALL = ("pretrain.objective={queue: 20, momentum: 0.9, predictor: {hidden: 5}}",)


def built(what: str, name: str, **options):
    spec = plugins().get(what, name).spec
    return spec.build(spec.params(**options))


def batch(n=6, width=4, absent=(1, 4), queued=5):
    """Two modalities, of which the second lacks some rows; a teacher's embeddings, and a queue of each."""
    rng = torch.Generator().manual_seed(0)

    def some(k):
        return torch.randn(k, width, generator=rng, dtype=torch.float64)

    rows = {"a": torch.arange(n), "b": torch.tensor([i for i in range(n) if i not in absent])}
    embedded = {name: Embedded(some(len(r)).requires_grad_(), r, some(len(r))) for name, r in rows.items()}
    items = Items(torch.arange(n) + 100, torch.zeros(n, dtype=torch.int64), group=torch.arange(n) % 3)
    past = {}
    for k, name in enumerate(rows):  # recordings 98 to 102, then others: some of the batch among them
        who = Items(
            torch.arange(98, 98 + queued) + k,
            torch.zeros(queued, dtype=torch.int64),
            modality=name,
            group=torch.arange(queued) % 3,
        )
        past[name] = Past(some(queued), who)
    return embedded, items, past


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def by_loops(embedded, items, past, tau):
    """InfoNCE of every anchor with its recording's other modality, one number after the other (He et al.: MoCo, CVPR 2020, Eq. 1)."""
    directions = []
    for mine, other in (("a", "b"), ("b", "a")):
        there = {name: {int(r): k for k, r in enumerate(one.rows)} for name, one in embedded.items()}
        shared = [row for row in range(len(items.row)) if row in there[mine] and row in there[other]]
        terms = []
        for row in shared:
            anchor = embedded[mine].z[there[mine][row]].tolist()
            keys = [embedded[other].key[there[other][r]].tolist() for r in shared]
            keys += [
                z.tolist()
                for z, who in zip(past[other].z, past[other].who.row.tolist(), strict=True)
                if who != int(items.row[row])
            ]
            powers = [math.exp(cosine(anchor, key) / tau) for key in keys]
            terms.append(-math.log(powers[shared.index(row)] / sum(powers)))
        directions.append(sum(terms) / len(terms))
    return sum(directions) / 2


@pytest.mark.parametrize("held", [10**6, 10], ids=["whole", "blocks"])
def test_teachers_candidates_and_past_ones_are_scored_as_loops_score_them(held):
    embedded, items, past = batch()
    loss = built("loss", "info-nce", temperature=0.2)
    same_sample = built("positives", "same-sample")
    objective = score_directed(embedded, items, [("a", "b")], same_sample, loss, past=past, held=held)
    assert float(objective.loss.detach()) == pytest.approx(by_loops(embedded, items, past, 0.2), rel=1e-12)
    objective.loss.backward()
    grads = [one.z.grad for one in embedded.values()]
    again, _, _ = batch()
    whole = score_directed(again, items, [("a", "b")], same_sample, loss, past=past).loss
    for grad, expected in zip(grads, torch.autograd.grad(whole, [one.z for one in again.values()]), strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("combine", ["mean", "sum", "count"])
@pytest.mark.parametrize("loss", ["info-nce", "siglip", "triplet", "vicreg"])
def test_alike_sides_without_a_past_give_what_plain_pairs_give(loss, combine):
    embedded, items, _ = batch()
    embedded = {name: replace(one, key=None) for name, one in embedded.items()}
    pairs, rule = [("a", "b"), ("a", "a")], built("positives", "within-group")
    arguments = (embedded, items, pairs, rule, built("loss", loss), (2.0, 0.5), combine)
    plain, directed = score(*arguments), score_directed(*arguments)
    assert float(directed.loss.detach()) == pytest.approx(float(plain.loss.detach()), rel=1e-6)
    assert directed.skipped == plain.skipped
    for name, figures in plain.pairs.items():
        assert {k: float(v) for k, v in directed.pairs[name].items()} == pytest.approx(
            {k: float(v) for k, v in figures.items()}, rel=1e-5
        )


def test_what_is_past_is_never_a_positive_and_the_rule_ignores_what_it_would():
    embedded, items, past = batch()
    seen = []

    class Watching:
        reduction, symmetric = "mean", False

        def __call__(self, pair):
            seen.append(pair)
            return built("loss", "info-nce")(pair)

    score_directed(embedded, items, [("a", "b")], built("positives", "across-group"), Watching(), past=past)
    rows = [row for row in range(6) if row not in (1, 4)]
    for pair, other in zip(seen, ("b", "a"), strict=True):
        assert not pair.positive[:, 4:].any()
        expected = [
            [
                who == 100 + row or g == row % 3
                for who, g in zip(past[other].who.row.tolist(), past[other].who.group.tolist(), strict=True)
            ]
            for row in rows
        ]
        assert pair.ignore[:, 4:].tolist() == expected
        assert not pair.right.requires_grad


def test_the_anchors_own_recording_is_ignored_among_what_is_past_whatever_the_rule_says_of_it():
    embedded, items, past = batch()
    seen = []

    def same_window(left, right):
        positive = (left.row[:, None] == right.row[None, :]) & (left.view[:, None] == right.view[None, :])
        return positive, positive & False

    class Watching:
        reduction, symmetric = "mean", False

        def __call__(self, pair):
            seen.append(pair)
            return built("loss", "info-nce")(pair)

    for one in past.values():
        one.who.view += 1
    score_directed(embedded, items, [("a", "b")], same_window, Watching(), past=past)
    for pair, other in zip(seen, ("b", "a"), strict=True):
        expected = [[who == 100 + row for who in past[other].who.row.tolist()] for row in (0, 2, 3, 5)]
        assert pair.ignore[:, 4:].tolist() == expected
        assert any(map(any, expected))


def test_a_queue_holds_the_newest_in_order():
    queue, taken = Queue(5, 2), []
    assert len(queue.held()[0]) == 0
    for n in (2, 2, 3, 9, 1):
        new = torch.randn(n, 2)
        queue.take(new, torch.arange(len(taken), len(taken) + n), torch.ones(n, dtype=torch.int64))
        taken += new.tolist()
        z, row, view = queue.held()
        newest = taken[-5:]
        assert z.tolist() == newest
        assert row.tolist() == list(range(len(taken)))[-5:]
        assert view.tolist() == [1] * len(newest)


@pytest.fixture(scope="module")
def prepared(tiny_plan, tmp_path_factory):
    """A run that is prepared, to be copied."""
    run = RunFolder(tmp_path_factory.mktemp("directed") / "runs" / "tiny")
    prepare(tiny_plan(text=RECIPE), run, workers=1)
    return run


def trained(plan, prepared, folder):
    """The encoders' weights of a run of this plan, whose streams are those that are prepared."""
    run = RunFolder(folder, prepared.prepared)
    prepare(plan, run, workers=1)
    pretrain(plan, run)
    return load_file(str(run.stage("pretrain", 0, 3) / "encoders.safetensors"))


def test_a_teacher_follows_by_the_moving_average_and_the_queue_takes_its_embeddings(tiny_plan, prepared):
    unit = units_of(tiny_plan(*ALL, text=RECIPE), prepared)[0]
    learner = learner_of(unit, torch.device("cpu"))
    expected = {name: value.detach().clone() for name, value in learner.encoders.items() for name, value in named(name, value)}
    optimizer = torch.optim.SGD([w for w in learner.model.parameters() if w.requires_grad], lr=0.5)
    rows = [list(unit.fold.train[:8]), list(unit.fold.train[8:14])]
    queued = []
    for batch_rows, one in zip(rows, draw_batches(unit.plan, unit.prepared.stores, rows, 1, 0), strict=True):
        items = items_of(batch_rows, 1)
        encoded = learner.forward(one, len(batch_rows), {}, None)
        key = encoded["audio"].key
        assert key is not None
        assert not key.requires_grad
        objective = learner.objective(encoded, items)
        optimizer.zero_grad()
        learner.backward(objective)
        optimizer.step()
        learner.stepped(encoded, items)
        queued += key.tolist()
        for name, encoder in learner.encoders.items():
            for weight, value in named(name, encoder):
                expected[weight] = 0.9 * expected[weight] + 0.1 * value.detach()
    for name, teacher in learner.sides.teachers.items():
        for weight, value in named(name, teacher):
            torch.testing.assert_close(value, expected[weight])
            assert value.grad is None
    assert learner.sides.queues["audio"].held()[0].tolist() == queued
    assert all(w.grad is not None for w in learner.sides.predictors.parameters())


def named(name, encoder):
    return [(f"{name}/{key}", value) for key, value in encoder.named_parameters()]


def test_a_stop_within_an_epoch_goes_on_to_the_same_weights(tiny_plan, prepared, tmp_path, monkeypatch):
    plan = tiny_plan(*ALL, "pretrain.keep=last", text=RECIPE)
    straight = trained(plan, prepared, tmp_path / "straight")
    calls = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr("mmcl.stages.pretrain.asked", lambda: 2 if next(calls) == 3 else 0)
        patch.setattr("mmcl.engine.ranks.asked", lambda: 0)
        with pytest.raises(Stopped):
            trained(plan, prepared, tmp_path / "broken")
    broken = trained(plan, prepared, tmp_path / "broken")
    assert straight.keys() == broken.keys()
    assert all(torch.equal(value, broken[name]) for name, value in straight.items())
    assert not any("sides" in name for name in straight), "what is beside the encoders is thrown away"
    plain = trained(tiny_plan(text=RECIPE), prepared, tmp_path / "plain")
    assert any(not torch.equal(value, straight[name]) for name, value in plain.items())


def test_small_parts_learn_the_same(tiny_plan, prepared, tmp_path):
    whole = trained(tiny_plan(*ALL, "pretrain.epochs=1", text=RECIPE), prepared, tmp_path / "whole")
    parts = trained(tiny_plan(*ALL, "pretrain.epochs=1", "pretrain.micro_batch=3", text=RECIPE), prepared, tmp_path / "parts")
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=1e-4, atol=1e-6)


def test_a_momentum_of_zero_is_the_encoder_of_the_step_before(tiny_plan, prepared):
    unit = units_of(tiny_plan("pretrain.objective.momentum=0", text=RECIPE), prepared)[0]
    learner = learner_of(unit, torch.device("cpu"))
    for weight in learner.encoders["text"].parameters():
        nn.init.normal_(weight)
    learner.sides.queues.clear()
    learner.sides.stepped(learner.encoders, {}, torch.zeros(0), torch.zeros(0))
    teacher = dict(learner.sides.teachers["text"].named_parameters())
    assert all(torch.equal(value, teacher[name]) for name, value in learner.encoders["text"].named_parameters())


@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        (
            ("pretrain.objective={queue: 8, loss: vicreg}",),
            "'vicreg' has no use for further negatives; losses that have are dcl, info-nce",
        ),
        (
            ("pretrain.objective.loss=cosine",),
            "without a predictor all embeddings become one: set pretrain.objective.predictor",
        ),
        (("pretrain.objective={pairs: none, group: gram, momentum: 0.9}",), "a loss of a group sees the batch alone"),
        (
            ("pretrain.objective.queue=8", "supervise={heads: {linear: mlp}, contrast: 0.1}"),
            "supervise.contrast adds plain pairs alone",
        ),
        (("pretrain.objective.momentum=1",), "less than 1"),
        (("pretrain.objective.queue=0",), "greater than or equal to 1"),
        (("pretrain.objective.predictor={width: 3}",), "width: is not a key here; known: hidden, norm"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_a_sentence(tiny_plan, sets, sentence):
    with pytest.raises(RecipeError) as error:
        tiny_plan(*sets, text=RECIPE)
    assert sentence in str(error.value)


# ------------------------------------------------------------------------------------------- windows of unlike length


CROPS = "pretrain.views=[{share: 1.0}, {share: 0.3, count: 2}]"


@pytest.mark.parametrize("window", ["{seconds: 0.8}", "{}", "{share: 0.5}"])
def test_crops_are_shares_of_the_window_and_lie_within_the_recording(tiny_plan, prepared, window):
    unit = units_of(tiny_plan(CROPS, text=RECIPE), prepared)[0]
    stores = unit.prepared.stores
    rows = [row for row in unit.fold.train if all(row in store for store in stores.values())][:5]
    plan = tiny_plan(CROPS, f"window={window}", text=RECIPE.replace("window: {seconds: 0.8}", "window: {}"))
    shares = plan.recipe.pretrain.shares
    assert shares == (1.0, 0.3, 0.3)
    items = items_of(rows, shares)
    assert items.view.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    spans = spans_drawn(plan, stores, items.row.tolist(), np.random.default_rng(0), [shares[v] for v in items.view])
    for row, view, span in zip(items.row.tolist(), items.view.tolist(), spans, strict=True):
        length = min(stores[name].seconds(row) for name in stores if stores[name].layout.rate)
        whole = {"{seconds: 0.8}": (0.8, 0.8), "{}": (length, length), "{share: 0.5}": (0.5 * length, length)}[window]
        if span.seconds is None:
            assert window == "{}"
            assert view == 0
            continue
        assert shares[view] * whole[0] - 1e-9 <= span.seconds <= shares[view] * whole[1] + 1e-9
        assert 0 <= span.start <= length - span.seconds + 1e-9
    batch = draw_batch(plan, stores, rows, shares, np.random.default_rng(0)).streams["audio"]
    steps = batch.steps.sum(1).view(3, 5)
    assert bool((steps[1:] <= 0.3 * steps[0].max() + 1).all())
    assert not torch.equal(batch.values[5:10], batch.values[10:]), "two crops of one length are cut at places of their own"


def test_a_list_of_whole_windows_is_their_number_to_the_last_bit(tiny_plan, prepared, tmp_path):
    number, lengths = (
        trained(tiny_plan(f"pretrain={{epochs: 1, batch_size: 8, views: {views}}}", text=RECIPE), prepared, tmp_path / name)
        for name, views in (("number", "2"), ("list", "[{share: 1.0, count: 2}]"))
    )
    assert all(torch.equal(value, lengths[name]) for name, value in number.items())
    crops = trained(
        tiny_plan(CROPS, "pretrain.epochs=1", "pretrain.objective.pairs=all+same", text=RECIPE), prepared, tmp_path / "crops"
    )
    assert any(not torch.equal(value, crops[name]) for name, value in number.items())


@pytest.mark.parametrize(
    ("views", "sentence"),
    [
        ("[{share: 0}]", "share: must be greater than 0"),
        ("[]", "at least 1"),
        ("[{count: 2}]", "share: is missing"),
        ("9", "less than or equal to 8"),
    ],
)
def test_views_that_cannot_be_cut_are_refused(tiny_plan, views, sentence):
    with pytest.raises(RecipeError) as error:
        tiny_plan(f"pretrain.views={views}", text=RECIPE)
    assert sentence in str(error.value)


# ------------------------------------------------------------------------------------------------------------ samplers


@pytest.mark.parametrize("more", [(), ("pretrain.balance=emotion",)], ids=["plain", "balanced"])
def test_the_sampler_random_gives_the_batches_of_no_sampler(tiny_plan, prepared, more):
    plain, named_so = (tiny_plan(*more, *sets, text=RECIPE) for sets in ((), ("pretrain.sampler=random",)))
    unit = units_of(plain, prepared)[0]
    for epoch in range(3):
        one, other = (
            batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=epoch) for plan in (plain, named_so)
        )
        assert one == other
        assert one != batches_of_epoch(plain, unit.prepared, unit.fold, *unit.address, epoch=epoch + 1)


def test_samplers_are_told_groups_lengths_and_the_labels_that_they_ask_for(tiny_plan, prepared):
    plan = tiny_plan("pretrain.sampler={use: by-label, how: together, each: 1}", text=RECIPE)
    unit = units_of(plan, prepared)[0]
    pool, samples = pool_of(plan, plan.sampler, unit.prepared, unit.fold.train), unit.prepared.samples
    assert pool.row.tolist() == list(unit.fold.train)
    rows = range(len(pool.row))
    for i in rows:
        assert [pool.group[i] == pool.group[j] for j in rows] == [
            samples[pool.row[i]].group == samples[pool.row[j]].group for j in rows
        ]
        assert pool.targets["emotion"][i] == samples[pool.row[i]].targets["emotion"]
        stores = [store for store in unit.prepared.stores.values() if int(pool.row[i]) in store]
        assert pool.seconds[i] == max(store.seconds(int(pool.row[i])) for store in stores)
    built = batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=0)
    mixed = [one for one in built if len({samples[row].targets["emotion"] for row in one}) > 1]
    assert len(mixed) <= 3, "only where a label's recordings end does a batch have several"
    assert plan.uses_labels()
    assert plan.labels == ["emotion"]
    assert not tiny_plan("pretrain.sampler=by-group", text=RECIPE).uses_labels()


def test_a_run_trains_on_the_batches_of_its_sampler(tiny_plan, prepared, tmp_path, monkeypatch):
    seen = []
    real = items_of
    monkeypatch.setattr("mmcl.stages.pretrain.items_of", lambda rows, views: seen.append(list(rows)) or real(rows, views))
    plan = tiny_plan("pretrain={sampler: by-length, epochs: 1, batch_size: 8}", text=RECIPE)
    trained(plan, prepared, tmp_path / "run")
    unit = units_of(plan, prepared)[0]
    expected = batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=0)
    assert seen[: len(expected)] == expected
    assert expected != batches_of_epoch(
        tiny_plan("pretrain.batch_size=8", text=RECIPE), unit.prepared, unit.fold, *unit.address, epoch=0
    )


HARD = "pretrain={sampler: {use: hard, refresh: 2}, epochs: 4, batch_size: 8, keep: last}"


def batches_trained_on(plan, prepared, folder, monkeypatch):
    """The batches of every step of a run of 4 epochs, epoch by epoch."""
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "mmcl.stages.pretrain.batches_of_epoch", lambda *a, **k: seen.append(batches_of_epoch(*a, **k)) or seen[-1]
        )
        weights = trained(plan, prepared, folder)
    return seen, weights


def test_a_sampler_that_looks_is_told_what_the_encoders_make_of_recordings_every_so_many_epochs(
    tiny_plan, prepared, tmp_path, monkeypatch
):
    plan, taken = tiny_plan(HARD, text=RECIPE), []
    unit = units_of(plan, prepared)[0]
    rows = sorted(unit.fold.train)
    real = look_again

    def looked(learner, unit, epoch):
        fresh = encode_rows(plan, learner.encoders, unit.prepared.stores, rows, torch.device("cpu"))
        taken.append({name: one.projection.clone() for name, one in fresh.items()})
        real(learner, unit, epoch)

    monkeypatch.setattr("mmcl.stages.pretrain.look_again", looked)
    built, _ = batches_trained_on(plan, prepared, tmp_path / "run", monkeypatch)
    held = {0: None, 1: 1, 2: 1, 3: 3}  # epoch → the one before which the encoders were asked
    for epoch, when in held.items():
        seen = None
        if when is not None:
            seen = {name: torch.zeros(len(unit.prepared.samples), 4) for name in taken[when]}
            for name, vectors in taken[when].items():
                seen[name][rows] = torch.nn.functional.normalize(vectors, dim=-1)
        assert built[epoch] == batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=epoch, seen=seen)
    assert built[1] != batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=1)


def test_a_stop_within_an_epoch_of_hard_batches_goes_on_to_the_same_weights(tiny_plan, prepared, tmp_path, monkeypatch):
    plan = tiny_plan(HARD, text=RECIPE)
    straight = trained(plan, prepared, tmp_path / "straight")
    unit = units_of(plan, prepared)[0]
    steps = len(batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=0))
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr("mmcl.stages.pretrain.asked", lambda: 2 if next(calls) == steps + 2 else 0)
        patch.setattr("mmcl.engine.ranks.asked", lambda: 0)
        with pytest.raises(Stopped):
            trained(plan, prepared, tmp_path / "broken")
    broken = trained(plan, prepared, tmp_path / "broken")
    assert all(torch.equal(value, broken[name]) for name, value in straight.items())
    assert not any("seen" in name for name in straight), "what is beside the encoders is thrown away"


def test_every_rank_has_the_batches_of_what_the_first_ones_encoders_see(tiny_plan, prepared):
    plan = tiny_plan(HARD, text=RECIPE)
    unit = units_of(plan, prepared)[0]
    first, second = (learner_of(unit, torch.device("cpu")) for _ in range(2))
    with torch.no_grad():  # a rank whose arithmetic rounds otherwise
        for weight in second.model.parameters():
            weight.add_(torch.randn(weight.shape), alpha=0.5)

    class Ranks:
        size = 2

        def as_first(self, model):
            model.load_state_dict(seen_by(first).state_dict())

    look_again(first, unit, 1)
    second.ranks = Ranks()
    look_again(second, unit, 1)
    one, other = (
        batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=1, seen=seen_by(learner).held())
        for learner in (first, second)
    )
    assert one == other
    second.ranks = first.ranks
    look_again(second, unit, 1)
    assert one != batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=1, seen=seen_by(second).held())


SHARD = 500  # bytes
SHARDS = "pretrain={sampler: {use: by-shard, window: 2}, epochs: 2, batch_size: 4, keep: last}"


@pytest.fixture(scope="module")
def in_shards(tiny_plan, tmp_path_factory):
    """A run whose streams lie in many small shards."""
    run = RunFolder(tmp_path_factory.mktemp("shards") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.data.store.SHARD_BYTES", SHARD)
        prepare(tiny_plan(SHARDS, text=RECIPE), run)
    return run


def test_batches_by_shard_read_few_shards_at_a_time_and_a_stop_within_them_goes_on_to_the_same_weights(
    tiny_plan, in_shards, tmp_path, monkeypatch
):
    plan = tiny_plan(SHARDS, text=RECIPE)
    unit = units_of(plan, in_shards)[0]
    most = max(unit.prepared.stores.values(), key=lambda store: int(store.shards.max()))
    lies_in = dict(zip(most.rows.tolist(), most.shards.tolist(), strict=True))
    assert len(set(lies_in.values())) > 5
    steps = batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=0)
    read = [{lies_in[row] for row in batch if row in lies_in} for batch in steps]
    when = {shard: [k for k, one in enumerate(read) if shard in one] for shard in set().union(*read)}
    most_at_once = max(sum(times[0] <= k <= times[-1] for times in when.values()) for k in range(len(steps)))
    assert most_at_once <= 4 < len(when), "a window of two shards, and the next where a batch lies in both"
    straight = trained(plan, in_shards, tmp_path / "straight")
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr("mmcl.stages.pretrain.asked", lambda: 2 if next(calls) == len(steps) + 2 else 0)
        patch.setattr("mmcl.engine.ranks.asked", lambda: 0)
        with pytest.raises(Stopped):
            trained(plan, in_shards, tmp_path / "broken")
    broken = trained(plan, in_shards, tmp_path / "broken")
    assert all(torch.equal(value, broken[name]) for name, value in straight.items())


def test_labels_are_learned_in_batches_of_few_shards_too(tiny_plan, in_shards, monkeypatch):
    section = "supervise={heads: {mlp: mlp}, inputs: [audio], batch_size: 4, epochs: 2, sampler: {use: by-shard, window: 2}}"
    seen: list[list[list[int]]] = []
    draw = supervising.draw_batches

    def spied(plan, stores, rows, *more, **named):
        seen.append(rows)
        return draw(plan, stores, rows, *more, **named)

    monkeypatch.setattr(supervising, "draw_batches", spied)
    supervising.supervise(tiny_plan(SHARDS, section, text=RECIPE), in_shards)
    assert len(seen) == 2
    unit = units_of(tiny_plan(SHARDS, text=RECIPE), in_shards)[0]
    store = unit.prepared.stores["audio"]
    lies_in = dict(zip(store.rows.tolist(), store.shards.tolist(), strict=True))
    for batches in seen:
        rows = [row for batch in batches for row in batch]
        assert sorted(rows) == sorted(row for row in unit.fold.train if row in lies_in)
        read = [{lies_in[row] for row in batch} for batch in batches]
        when = {shard: [k for k, one in enumerate(read) if shard in one] for shard in set().union(*read)}
        assert max(sum(times[0] <= k <= times[-1] for times in when.values()) for k in range(len(read))) <= 4 < len(when)
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    "built",
    [
        lambda n: [range(n), [0, 1]],
        lambda n: [range(1, n)],
        lambda n: [[k] for k in range(n)],
        lambda n: [range(n)],
        lambda n: [],
    ],
    ids=["twice", "lost", "alone", "too long", "none"],
)
def test_a_sampler_that_breaks_its_contract_is_named(tiny_plan, prepared, built):
    plan = tiny_plan("pretrain.sampler=random", text=RECIPE)
    part = replace(
        plan.sampler, spec=replace(plan.sampler.spec, build=lambda params: lambda pool, size, rng: built(len(pool.row)))
    )
    unit = units_of(plan, prepared)[0]
    with pytest.raises(
        PluginError, match=r"sampler 'random' \(pretrain.sampler; package mmcl .*\): puts each of the .* into exactly one batch"
    ):
        batches_of_epoch(replace(plan, sampler=part), unit.prepared, unit.fold, *unit.address, epoch=0)


@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        (("pretrain.sampler=by-size",), "unknown sampler 'by-size'"),
        (
            ("pretrain.sampler={use: by-label, target: mood}",),
            "'by-label' needs the target 'mood'; 'toy' has the tasks emotion",
        ),
        (
            ("pretrain.sampler=by-label", "pretrain.transductive=[valid]"),
            "would read the labels of the splits in pretrain.transductive",
        ),
        (("pretrain.sampler={use: by-length, batches: 0}",), "pretrain.sampler.batches: must be greater than or equal to 1"),
        (("supervise={heads: {mlp: mlp}, sampler: by-size}",), "unknown sampler 'by-size'"),
        (("supervise={heads: {mlp: mlp}, sampler: hard}",), "'hard' looks at embeddings, which only pretraining keeps"),
    ],
)
def test_samplers_that_do_not_suit_are_refused(tiny_plan, sets, sentence):
    with pytest.raises(RecipeError) as error:
        tiny_plan(*sets, text=RECIPE)
    assert sentence in str(error.value)


# ----------------------------------------------------------------------------------------------------------- sequences


SEQUENCES = ("pretrain.objective.loss={use: time-nce, every: 0.2}", "pretrain.epochs=1")
FACES = RECIPE.replace(
    "  text: {features: {use: hashed-words, dim: 4}, backbone: {use: mlp, hidden: [4], width: 4}}",
    "  faces: {features: {use: face-landmarks}, backbone: {use: linear-1d}}",
)


@pytest.fixture(scope="module")
def faces(tiny_plan, tmp_path_factory):
    """A run with sound and landmarks, prepared."""
    run = RunFolder(tmp_path_factory.mktemp("faces") / "runs" / "tiny")
    prepare(tiny_plan(*SEQUENCES, text=FACES), run, workers=1)
    return run


def test_steps_go_through_the_projection_and_say_when_they_are(tiny_plan, faces):
    unit = units_of(tiny_plan(*SEQUENCES, text=FACES), faces)[0]
    learner, rows = learner_of(unit, torch.device("cpu")), list(unit.fold.train[:4])
    batch = draw_batch(unit.plan, unit.prepared.stores, rows, 1, np.random.default_rng(0))
    encoded = learner.forward(batch, 4, {}, None)
    for name, one in encoded.items():
        encoder, stream = learner.encoders[name], batch.streams[name]
        known = stream.present.nonzero().squeeze(1)
        assert one.rows.tolist() == known.tolist()
        inner, _ = encoder.encode(stream)
        torch.testing.assert_close(one.steps.z, encoder.projection(inner.sequence))
        assert torch.equal(one.steps.real, inner.steps)
        rate = unit.prepared.stores[name].layout.rate
        for times, real in zip(one.steps.times.tolist(), one.steps.real.tolist(), strict=True):
            assert [t for t, r in zip(times, real, strict=True) if r] == pytest.approx(
                [(k + 0.5) / rate for k in range(sum(real))]
            )
    objective = learner.objective(encoded, items_of(rows, 1))
    learner.backward(objective)
    assert all(w.grad is not None and bool(w.grad.any()) for w in learner.encoders["faces"].projection.parameters())


def test_small_parts_of_sequences_learn_the_same(tiny_plan, faces, tmp_path):
    whole, parts = (
        trained(tiny_plan(*SEQUENCES, *more, text=FACES), faces, tmp_path / name)
        for name, more in (("whole", ()), ("parts", ("pretrain.micro_batch=3",)))
    )
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        (("modalities.words={features: {use: hashed-words}, backbone: mlp}",), "'words' (word-vectors) has no steps a second"),
        (("pretrain.views=2",), "windows of one recording begin at different ones: set pretrain.views: 1"),
        (("pretrain.objective.momentum=0.9",), "is of sequences, which queue, momentum and predictor know nothing of"),
        (("supervise={heads: {linear: mlp}, contrast: 0.1}",), "are not contrasted beside labels: set supervise.contrast: 0"),
    ],
)
def test_sequences_that_cannot_be_contrasted_are_refused(tiny_plan, sets, sentence):
    with pytest.raises(RecipeError) as error:
        tiny_plan(*SEQUENCES, *sets, text=FACES)
    assert sentence in str(error.value)


def test_a_backbone_that_keeps_no_time_is_named(tiny_plan, faces):
    mlp = "modalities.audio.backbone={use: mlp, hidden: [4], width: 4}"
    with pytest.raises(StageError, match="backbone 'mlp' .* keeps no time, .*; use one that does, or another loss$"):
        embedded(tiny_plan(*SEQUENCES, mlp, text=FACES), faces)
    assert embedded(tiny_plan(*SEQUENCES, text=FACES), faces)["audio"].steps is not None
    assert embedded(tiny_plan(mlp, text=FACES), faces)["audio"].steps is None


def test_a_backbone_whose_steps_and_vector_differ_in_width_is_named(tiny_plan, faces):
    backbone = "modalities.audio.backbone={{use: conv-tasnet, bottleneck: 8, hidden: 8, blocks: 1, repeats: 1, width: {}}}"
    with pytest.raises(
        StageError, match="has steps of 8 numbers and a vector of 4; .*: make them alike by the backbone's options$"
    ):
        embedded(tiny_plan(*SEQUENCES, backbone.format(4), text=FACES), faces)
    steps = embedded(tiny_plan(*SEQUENCES, backbone.format(8), text=FACES), faces)["audio"].steps
    assert steps.z[steps.real].abs().sum(1).min() > 0


def embedded(plan, run):
    """What the encoders of a plan, not trained yet, make of four recordings."""
    unit = units_of(plan, run)[0]
    batch = draw_batch(unit.plan, unit.prepared.stores, list(unit.fold.train[:4]), 1, np.random.default_rng(0))
    return learner_of(unit, torch.device("cpu")).forward(batch, 4, {}, None)


# -------------------------------------------------------------------------------------------------------------- frozen


FROZEN = RECIPE.replace("  audio: {features", "  audio: {frozen: true, features")


def test_a_frozen_backbone_stays_as_it_is_built_and_its_projection_learns(tiny_plan, prepared, tmp_path):
    plan = tiny_plan("pretrain.objective.momentum=0.9", "pretrain.epochs=1", "pretrain.keep=last", text=FROZEN)
    first = learner_of(units_of(plan, prepared)[0], torch.device("cpu"))
    assert not first.encoders["audio"].backbone.training
    first.model.train()
    assert not first.encoders["audio"].backbone.training, "dropout and running statistics are training too"
    assert first.encoders["audio"].projection.training
    assert first.encoders["text"].backbone.training
    before = {f"{name}/{key}": value for name, one in first.encoders.items() for key, value in one.state_dict().items()}
    after = trained(plan, prepared, tmp_path / "run")
    same = {name for name, value in after.items() if torch.equal(value, before[name])}
    audio = {name for name in after if name.startswith("audio/backbone")}
    assert audio <= same
    assert not any("projection" in name for name in same if name.endswith("weight"))
    assert any(name.startswith("text/backbone") for name in set(after) - same)
    assert pretrain_key(plan, *key_of(plan, prepared)) != pretrain_key(
        tiny_plan("pretrain.objective.momentum=0.9", "pretrain.epochs=1", "pretrain.keep=last", text=RECIPE),
        *key_of(plan, prepared),
    )


def key_of(plan, prepared):
    unit = units_of(plan, prepared)[0]
    return unit.prepared, unit.fold, unit.seed


def test_frozen_encoders_that_leave_nothing_to_learn_are_refused(tiny_plan):
    with pytest.raises(
        RecipeError, match="projection: none, and all contrasted backbones are frozen: nothing is left to learn"
    ):
        tiny_plan("projection.use=none", "modalities.text.frozen=true", text=FROZEN)
    tiny_plan("projection.use=none", text=FROZEN)


def test_the_kit_says_that_a_backbone_is_frozen_on_purpose():
    class Still(nn.Module):
        width = 3

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3).requires_grad_(False)

        def forward(self, stream):
            steps = stream.steps[..., None]
            return Encoded((self.layer(stream.values) * steps).sum(1) / steps.sum(1).clamp_min(1))

    spec = BackboneSpec("still", "a layer that stays", (("time", "channel"),), NoParams, lambda params, layout: Still())
    with pytest.warns(UserWarning, match="backbone 'still'.*: frozen on purpose"):
        check_backbone(spec)


def test_a_modality_may_be_called_loss_beside_a_loss_with_weights(tiny_plan, tmp_path):
    plan = tiny_plan(
        "pretrain.objective.loss={use: info-nce, learn_temperature: true}",
        text=RECIPE.replace("  text: {features", "  loss: {source: words, features"),
    )
    run = RunFolder(tmp_path / "runs" / "tiny")
    weights = trained(plan, run, run.root)
    assert {name.partition("/")[0] for name in weights} == {"loss", "audio"}
