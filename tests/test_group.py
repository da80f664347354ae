"""Group losses in the objective: missing modalities, blocks, weights, plans and a run."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mmcl.api import Group, Items, Pair, Scored
from mmcl.api.errors import RecipeError
from mmcl.objective.group import score_group
from mmcl.objective.score import Embedded
from mmcl.plugins import plugins
from mmcl.testing import make_group


def same_sample(left: Items, right: Items):
    positive = left.row[:, None] == right.row[None, :]
    return positive, torch.zeros_like(positive)


def built(name: str, **options):
    spec = plugins().get("group-loss", name).spec
    torch.manual_seed(0)
    return spec.build(spec.params(**options), dict.fromkeys(("a", "b", "c", "d"), 6))


def batch(n: int, absent: dict[str, set[int]], names=("a", "b", "c"), seed: int = 0, views: int = 1):
    rng = torch.Generator().manual_seed(seed)
    z = {name: torch.randn(n * views, 6, generator=rng, dtype=torch.float64) for name in names}
    rows = {
        name: torch.tensor([i for i in range(n * views) if i % n not in absent.get(name, set())], dtype=torch.int64)
        for name in names
    }
    items = Items(torch.arange(n).repeat(views), torch.arange(views).repeat_interleave(n))
    return z, {name: Embedded(z[name][rows[name]].requires_grad_(), rows[name]) for name in names}, items


def by_rows(loss, z, present, items) -> float:
    """Each row on its own, on the modalities that it has, against the rows that have them all; the mean over rows."""
    terms = []
    for i in range(len(items.row)):
        mine = [name for name in z if present[name][i]]
        if len(mine) < 2:
            continue
        candidates = [j for j in range(len(items.row)) if all(present[name][j] for name in mine)]
        if len(candidates) < 2:
            continue
        positive = torch.tensor([[bool(items.row[i] == items.row[j]) for j in candidates]])
        itself = torch.tensor([[i == j for j in candidates]])
        left = {name: z[name][i : i + 1] for name in mine}
        right = {name: z[name][candidates] for name in mine}
        scored = loss(Group(left, right, positive, torch.zeros_like(positive), itself))
        terms += [float(scored.loss.detach())] if int(scored.anchors) else []
    return sum(terms) / len(terms)


ABSENT = {
    "none missing": {},
    "one modality missing somewhere": {"a": {1, 4}},
    "each missing somewhere": {"a": {1, 4}, "b": {0}, "c": {5}},
    "a recording with one modality": {"a": {2}, "b": {2}},
    "a recording with nothing": {"a": {2}, "b": {2}, "c": {2}},
    "a modality that nobody has": {"c": set(range(7))},
}


@pytest.mark.parametrize("absent", ABSENT.values(), ids=ABSENT)
@pytest.mark.parametrize(
    ("name", "options", "views"),
    [("symile", {"negatives": "aligned"}, 1), ("symile", {}, 2), ("gram", {}, 1), ("comm", {"heads": 2, "width": 4}, 2)],
)
def test_each_recording_is_scored_on_the_modalities_that_it_has(absent, name, options, views):
    loss = built(name, **options).double()
    z, embedded, items = batch(7, absent, views=views)
    present = {m: [i in set(embedded[m].rows.tolist()) for i in range(7 * views)] for m in z}
    scored = score_group(embedded, items, tuple(z), same_sample, loss)
    assert float(scored.loss) == pytest.approx(by_rows(loss, z, present, items), rel=1e-9)


@pytest.mark.parametrize("name", ["symile", "gram", "comm"])
def test_blocks_have_the_value_and_the_gradient_of_the_whole(name):
    options = {"heads": 2, "width": 4} if name == "comm" else {}
    loss = built(name, **options).double()
    learned = [p for p in loss.parameters() if p.requires_grad]
    results = []
    for held in (10**9, 40):
        _, embedded, items = batch(7, {"a": {1, 4}}, views=2)
        scored = score_group(embedded, items, ("a", "b", "c"), same_sample, loss, held=held)
        inputs = [e.z for e in embedded.values()] + learned
        results.append((scored.loss.detach(), torch.autograd.grad(scored.loss, inputs, materialize_grads=True), scored.metrics))
    (whole, of_whole, metrics), (blocks, of_blocks, in_blocks) = results
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-12)
    for one, other in zip(of_blocks, of_whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert metrics.keys() == in_blocks.keys()
    for key, value in metrics.items():
        assert float(in_blocks[key]) == pytest.approx(float(value), rel=1e-9), key


def test_rows_with_too_few_modalities_are_counted_and_an_empty_batch_has_no_loss():
    _, embedded, items = batch(4, {"a": {0, 1}, "b": {0, 2}, "c": {1, 2, 3}})
    triangle = built("triangle")
    scored = score_group(embedded, items, ("a", "b", "c"), same_sample, triangle, fewest=3)
    assert scored.loss is None
    assert scored.short == 4  # of three modalities none has all


def test_masks_hold_for_every_two_modalities():
    seen = []

    class Watching:
        reduction = "mean"

        def __call__(self, group: Group) -> Scored:
            seen.append(group)
            return Scored(sum(z.sum() for z in group.left.values()), torch.tensor(1))

    def rule(left: Items, right: Items):
        positive, ignore = same_sample(left, right)
        positive = positive | ((left.modality, right.modality) == ("a", "b"))  # in one direction of one pair alone
        ignore[:, 2] = (left.modality, right.modality) == ("c", "a")
        return positive, ignore

    _, embedded, items = batch(4, {})
    score_group(embedded, items, ("a", "b", "c"), rule, Watching())
    (group,) = seen
    assert group.ignore[:, 2].all()
    assert group.ignore.sum() == 4
    assert torch.equal(group.positive, torch.eye(4, dtype=torch.bool) & ~group.ignore)
    assert group.modalities == ("a", "b", "c")


def plan_of(tiny_plan, *overrides: str):
    return tiny_plan("pretrain.views=2", *overrides)


def test_plans_without_a_group_are_as_they_were(tiny_plan):
    assert "group" not in tiny_plan().to_json()["pretrain"]["objective"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["pretrain.objective.pairs=none"], "none leaves nothing to contrast"),
        (["pretrain.objective.group={use: symile, modalities: [text, nose]}"], "no modality is named 'nose'"),
        (["pretrain.objective.group={use: symile, modalities: [text, text]}"], "names a modality twice"),
        (["pretrain.objective.group={use: triangle, modalities: [text, audio]}"], "takes 3 modalities, and there are 2"),
        (["pretrain.objective.group={use: symile, modalities: [text]}"], "takes 2 or more modalities, and there are 1"),
        (["pretrain.objective.group={use: gram, anchor: nose}"], "no modality of the group is named 'nose'"),
        (["pretrain.objective.group=comm", "pretrain.views=1"], "set pretrain.views: 2"),
        (["pretrain.objective.group={use: symile, weight: 0}"], "weight"),
        (["pretrain.objective.group=symmile"], "symile"),
    ],
)
def test_what_does_not_suit_is_refused_in_a_sentence(tiny_plan, overrides, sentence):
    with pytest.raises(RecipeError) as refused:
        plan_of(tiny_plan, *overrides)
    assert sentence in str(refused.value)


def test_links_are_the_pairs_and_every_two_of_the_group(tiny_plan):
    plan = plan_of(tiny_plan, "pretrain.objective.pairs=[[text, audio]]", "pretrain.objective.group=symile")
    assert plan.contrasted == ("text", "audio", "landmarks")
    assert plan.linked == (("text", "audio"), ("text", "landmarks"), ("audio", "landmarks"))
    alone = plan_of(
        tiny_plan, "pretrain.objective.pairs=none", "pretrain.objective.group={use: gram, modalities: [text, audio]}"
    )
    assert alone.contrasted == ("text", "audio")
    assert alone.linked == (("text", "audio"),)


def test_a_run_learns_by_a_group_alone_and_beside_pairs_and_its_report_says_so(tiny_plan, tmp_path):
    from mmcl.report import run_and_report
    from mmcl.runs import RunFolder, read_jsonl

    learned = {}
    for name, overrides in {
        "alone": ["pretrain.objective.pairs=none", "pretrain.objective.group=symile", "pretrain.choose=retrieval"],
        "both": ["pretrain.objective.group={use: comm, weight: 0.5, heads: 4}"],
    }.items():
        plan = plan_of(tiny_plan, *overrides)
        run = RunFolder(tmp_path / name)
        run_and_report(plan, run, workers=1)
        folder = next(path for _, _, path in run.units("pretrain"))
        history = read_jsonl(folder / "history.jsonl")
        loss = plan.group.loss.use
        assert all(math.isfinite(row["pairs"][loss]["loss"]) for row in history)
        assert ("text~audio" in history[0]["pairs"]) == (name == "both")
        learned[name] = plan.to_json()["pretrain"]["objective"]["group"]["use"]
        page = (run.root / "report.html").read_text()
        assert f"“{loss}” on text, audio and landmarks at once" in page
    assert learned == {"alone": "symile", "both": "comm"}


def test_symile_of_two_modalities_with_aligned_negatives_is_info_nce():
    group = make_group(("a", "b"), anchors=6, candidates=6)
    value = built("symile", negatives="aligned", temperature=0.1, learn_temperature=False)(group).loss
    spec = plugins().get("loss", "info-nce").spec
    nce = spec.build(spec.params(temperature=0.1))
    both = [nce(Pair(group.left[x], group.right[y], group.positive, group.ignore)).loss for x, y in (("a", "b"), ("b", "a"))]
    torch.testing.assert_close(value, sum(both) / 2, rtol=0, atol=1e-12)


def xor(n: int, seed: int):
    """Three modalities of signs: any two are independent, the third is their product (the paper's own example)."""
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(0, 2, (n, 16), generator=rng) * 2.0 - 1 for _ in range(2))
    return {"a": a, "b": b, "c": a * b}


def group_of(z: dict) -> Group:
    same = torch.eye(len(next(iter(z.values()))), dtype=torch.bool)
    return Group(z, z, same, torch.zeros_like(same), same)


def test_symile_sees_what_only_three_modalities_say_together_and_pairs_do_not():
    """Saporta et al. 2024, §4: of an exclusive or, every pair is independent."""
    z = xor(64, 0)
    symile = built("symile", temperature=0.1, negatives="aligned")
    scored = symile(group_of(z))
    assert float(scored.metrics["accuracy"]) > 0.9
    spec = plugins().get("loss", "info-nce").spec
    nce, same = spec.build(spec.params()), torch.eye(64, dtype=torch.bool)
    for x, y in itertools.combinations(z, 2):
        assert float(nce(Pair(z[x], z[y], same, ~same & False)).metrics["accuracy"]) < 0.1
