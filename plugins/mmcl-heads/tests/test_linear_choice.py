"""How the linear head chooses: by groups left out, with modalities of different width under one penalty."""

from __future__ import annotations

import pytest
import torch
from mmcl_heads import LATE, LINEAR, LateParams, LinearParams
from torch.nn import functional

from mmcl.api import Encoded, Labelled, Task

TASK = Task("mood", "single-label", ("a", "b", "c"))
GRID = (1e-3, 1e-2, 1e-1, 1.0)


def people(seed, groups, each=20, width=12, nuisance=2.0):
    """Recordings whose class shows in the first features; each person has an offset of their own in all of them."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(3, (len(groups) * each,), generator=generator)
    x = 0.8 * torch.randn(len(target), width, generator=generator)
    x[:, :3] += functional.one_hot(target).float()
    group = torch.tensor(groups).repeat_interleave(each)
    offsets = nuisance * torch.randn(max(groups) + 1, width, generator=torch.Generator().manual_seed(7))
    return Labelled({"voice": Encoded(x + offsets[group])}, target, group)


def fit(train, valid, **options):
    widths = {name: one.vector.shape[1] for name, one in train.encoded.items()}
    head = LINEAR.build(LinearParams(**{"l2": GRID, **options}), TASK, widths)
    return head, head.fit(train, valid, torch.Generator())


def alone(train, l2):
    """Fitted with one penalty on these rows and nothing else."""
    empty = Labelled({name: Encoded(one.vector[:0]) for name, one in train.encoded.items()}, train.target[:0])
    return fit(train, empty, l2=(l2,), blocks="none")[0]


def without(rows, group):
    keep = rows.group != group
    return Labelled({name: Encoded(one.vector[keep]) for name, one in rows.encoded.items()}, rows.target[keep])


def joined(*parts):
    encoded = {name: Encoded(torch.cat([part.encoded[name].vector for part in parts])) for name in parts[0].encoded}
    return Labelled(encoded, torch.cat([part.target for part in parts]), torch.cat([part.group for part in parts]))


def test_l2_is_chosen_by_leaving_each_group_out_of_train_and_valid_together():
    train, valid = people(0, [0, 1, 2]), people(1, [3])
    both = joined(train, valid)
    losses = {}
    for l2 in GRID:
        total = 0.0
        for group in range(4):
            head = alone(without(both, group), l2)
            out = both.group == group
            logits = head({"voice": Encoded(both.encoded["voice"].vector[out])})
            total += functional.cross_entropy(logits, both.target[out], reduction="sum").item()
        losses[l2] = total / len(both.target)
    head, facts = fit(train, valid)
    assert facts["l2"] == min(losses, key=losses.get)
    assert facts["groups_loss"] == pytest.approx(min(losses.values()), rel=1e-4)
    torch.testing.assert_close(head.weight, alone(both, facts["l2"]).weight)


def test_groups_make_another_choice_than_a_validation_set_of_the_same_people():
    train = people(0, [0, 1, 2], nuisance=3.0)
    same_people = people(5, [0, 1, 2], nuisance=3.0)
    strangers = people(6, [8, 9], each=200, nuisance=3.0)
    by_valid, facts_valid = fit(train, same_people, by="valid")
    by_groups, facts_groups = fit(train, same_people, by="groups")
    assert facts_groups["l2"] > facts_valid["l2"], "people that were not seen ask for more penalty"

    def loss(head):
        return functional.cross_entropy(head(strangers.encoded), strangers.target).item()

    assert loss(by_groups) < loss(by_valid)


def test_without_groups_or_with_one_alone_validation_rows_choose():
    train, valid = people(0, [0, 1]), people(1, [3])
    nameless = Labelled(train.encoded, train.target), Labelled(valid.encoded, valid.target)
    _, facts = fit(*nameless)
    _, asked = fit(train, valid, by="valid")
    assert "groups_loss" not in facts
    assert facts == asked
    one = Labelled(train.encoded, train.target, torch.zeros(40, dtype=torch.int64))
    other = Labelled(valid.encoded, valid.target, torch.zeros(20, dtype=torch.int64))
    assert "valid_loss" in fit(one, other)[1]


def test_many_groups_are_dealt_into_five_parts_none_of_them_cut():
    train, valid = people(0, list(range(11)), each=7), people(1, [12, 13], each=5)
    head = LINEAR.build(LinearParams(), TASK, {"voice": 12})
    parts = head._parts(train, valid)
    group = torch.cat([train.group, valid.group])
    assert len(parts) == 5
    assert torch.stack(parts).sum(0).tolist() == [1] * len(group), "every row is left out once"
    for part in parts:
        assert not set(group[part].tolist()) & set(group[~part].tolist())
    assert max(int(p.sum()) for p in parts) - min(int(p.sum()) for p in parts) <= 7


def wide_and_narrow(seed, groups, scale=1.0):
    """A narrow modality that knows the class, and a wide one that knows next to nothing."""
    rows = people(seed, groups, nuisance=0.3)
    noise = torch.randn(len(rows.target), 300, generator=torch.Generator().manual_seed(seed + 50))
    return Labelled({"voice": rows.encoded["voice"], "face": Encoded(scale * noise)}, rows.target, rows.group)


def accuracy(head, rows):
    return (head(rows.encoded).argmax(1) == rows.target).double().mean().item()


def test_a_wide_modality_does_not_drown_a_narrow_one():
    train, valid, test = wide_and_narrow(0, [0, 1, 2]), wide_and_narrow(1, [3]), wide_and_narrow(2, [4, 5, 6, 7, 8, 9])
    plain, equal, searched = (fit(train, valid, blocks=blocks)[0] for blocks in ("none", "equal", "search"))
    assert accuracy(equal, test) > accuracy(plain, test) + 0.03
    assert accuracy(searched, test) >= accuracy(equal, test) - 0.01


def test_equal_blocks_are_the_plain_fit_on_features_scaled_by_hand_and_no_unit_matters():
    train, valid = wide_and_narrow(0, [0, 1, 2]), wide_and_narrow(1, [3])
    widths = {"voice": 12, "face": 300}
    head, _ = fit(train, valid, l2=(0.1,), refit="train")
    variances = {name: train.encoded[name].vector.double().var(0, correction=0).sum() for name in widths}
    factors = {name: (312 / 2 / variances[name]).sqrt() for name in widths}
    scaled = Labelled({n: Encoded((e.vector.double() * factors[n]).float()) for n, e in train.encoded.items()}, train.target)
    by_hand = alone(scaled, 0.1)
    expected = by_hand.weight.double() * torch.cat([factors[n].expand(w) for n, w in widths.items()])
    torch.testing.assert_close(head.weight.double(), expected, rtol=1e-3, atol=1e-5)
    louder = Labelled({"voice": train.encoded["voice"], "face": Encoded(10 * train.encoded["face"].vector)}, train.target)
    quiet = fit(Labelled(train.encoded, train.target), valid, l2=(0.1,), refit="train")[0]
    loud = fit(louder, valid, l2=(0.1,), refit="train")[0]
    torch.testing.assert_close(loud(louder.encoded), quiet(train.encoded), rtol=1e-2, atol=1e-3)


def misleading(seed, groups):
    """A modality that knows the class, and one that shows it in another way in every person."""
    rows = people(seed, groups, nuisance=0.3)
    codes = torch.randn(20, 3, 30, generator=torch.Generator().manual_seed(3))
    return Labelled({"voice": rows.encoded["voice"], "face": Encoded(codes[rows.group, rows.target])}, rows.target, rows.group)


def test_searched_shares_are_reported_and_serve_people_that_were_left_out():
    train, valid, test = misleading(0, [0, 1, 2]), misleading(1, [3]), misleading(2, [4, 5, 6, 7, 8, 9])
    by_equal, equal = fit(train, valid, blocks="equal")
    by_search, searched = fit(train, valid, blocks="search")
    assert searched["groups_loss"] < equal["groups_loss"]
    assert searched["share face"] < searched["share voice"], "what misleads is turned down"
    assert set(searched) - set(equal) == {"share voice", "share face"}
    losses = [functional.cross_entropy(head(test.encoded), test.target).item() for head in (by_search, by_equal)]
    assert losses[0] < losses[1]


def test_one_modality_is_the_same_with_and_without_blocks():
    train, valid = people(0, [0, 1, 2]), people(1, [3])
    torch.testing.assert_close(fit(train, valid, blocks="none")[0].weight, fit(train, valid, blocks="search")[0].weight)


def test_late_fusion_leaves_groups_out_in_every_modality_by_itself():
    train, valid = wide_and_narrow(0, [0, 1, 2]), wide_and_narrow(1, [3])
    present = torch.arange(len(train.target)) % 3 != 0
    train.encoded["voice"].present = present
    late = LATE.build(LateParams(l2=GRID), TASK, {"voice": 12, "face": 300})
    facts = late.fit(train, valid, torch.Generator())
    mine = Labelled({"voice": Encoded(train.encoded["voice"].vector[present])}, train.target[present], train.group[present])
    _, apart = fit(mine, Labelled({"voice": valid.encoded["voice"]}, valid.target, valid.group))
    assert facts["voice l2"] == apart["l2"]
    assert facts["voice groups_loss"] == pytest.approx(apart["groups_loss"])
