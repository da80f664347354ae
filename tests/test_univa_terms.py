"""UniVA's total loss, term by term: the presets' own settings against slow readings of the paper's equations and of its code's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcl_losses import SupConParams, VaPositivesParams
from mmcl_losses.positives import ValenceArousal
from mmcl_losses.sup_con import SupCon
from mmcl_univa import FusionParams
from mmcl_univa.affect import PUBLISHED, correlation
from mmcl_univa.fusion import Fusion

from mmcl.api import Encoded, Items, Task
from mmcl.evaluate.answers import loss_of, mixed
from mmcl.model.contrast import Contrast
from mmcl.objective.score import Embedded
from mmcl.plugins import plugins
from mmcl.recipe.planner import load_plan
from mmcl.stages.prepare import by_split

ROOT = Path(__file__).parents[1]
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
NAMES = ("text", "audio", "video")
N, D, TAU, DELTA = 5, 4, 0.4, 0.1


def plan_of(preset: str | None, recipe: str = "univa_mosei"):
    sets = plugins().get("preset", preset).spec.sets if preset else ()
    return load_plan(ROOT / "recipes" / f"{recipe}.yaml", sets, Path("data"))


def contrast_of(h: list[list[float]], places: list[list[float]]) -> float:
    """Eq. 4 and 5 as a double loop: B anchors, 2B candidates, its own copy a positive; the mean over anchors."""
    total = 0.0
    for i in range(N):
        others = [(j, copy) for j in range(N) for copy in (0, 1) if (j, copy) != (i, 0)]
        products = {one: math.fsum(a * b for a, b in zip(h[i], h[one[0]], strict=True)) / TAU for one in others}
        whole = math.log(math.fsum(math.exp(v) for v in products.values()))
        near = [one for one in others if one[0] == i or math.dist(places[i], places[one[0]]) < DELTA]
        total += -math.fsum(products[one] - whole for one in near) / len(near)
    return total / N


@pytest.mark.parametrize("preset", ["univa-paper", "univa-reference"])
def test_the_total_loss_is_the_sum_of_its_terms(preset):
    plan = plan_of(preset)
    section = plan.recipe.supervise
    torch.manual_seed(0)
    vectors = {name: torch.randn(N, D, dtype=torch.float64) * 0.7 for name in NAMES}
    places = {name: torch.tensor([[0, 0], [0.05, 0.05], [0.5, 0], [0.5, 0.09], [-1, 1]], dtype=torch.float64) for name in NAMES}
    labels = torch.tensor(
        [[1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6, [0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 1]], dtype=torch.float64
    )
    head = Fusion(
        plan.supervised.heads["univa"].params, Task("emotions", "multi-label", EMOTIONS), dict.fromkeys(NAMES, D)
    ).double()
    output = head.eval()({name: Encoded(v) for name, v in vectors.items()})
    contrast = Contrast(
        pairs=plan.pairs,
        weights=plan.weights or (1.0,) * 3,
        positives=ValenceArousal(plan.positives.params),
        loss=SupCon(plan.loss.params),
        targets={f"va-{name}": value for name, value in places.items()},
        groups=torch.arange(N),
        combine=plan.recipe.pretrain.objective.combine,
        copies=plan.recipe.pretrain.copies,
    )
    items = Items(row=torch.arange(N), view=torch.zeros(N, dtype=torch.int64), targets={})
    embedded = {name: Embedded(z=v, rows=torch.arange(N)) for name, v in vectors.items()}
    beside = contrast(embedded, items, torch.device("cpu")).loss
    loss = loss_of(head, head.task, output, labels, None)
    got = mixed(loss, beside, section.contrast, section.mix, head, output).item()

    each = {name: contrast_of(vectors[name].tolist(), places[name].tolist()) for name in NAMES}
    chances = output.softmax(1).detach().numpy()
    wanted = labels.softmax(1).numpy()
    divergence = (wanted * np.log(wanted / chances)).sum(1)
    matrix = np.array(correlation([PUBLISHED[name] for name in EMOTIONS]))
    share = section.contrast
    if preset == "univa-paper":
        apart = (chances[:, :, None] - chances[:, None, :]) ** 2
        expected = share * sum(each.values()) + (1 - share) * divergence.mean() + (matrix * apart).sum((1, 2)).mean()
    else:
        logs = np.log(chances)
        apart = np.sqrt(((logs[:, :, None] - logs[:, None, :]) ** 2).sum(0))
        summed = (3 * each["text"] + each["audio"] + each["video"]) / 3
        expected = (1 - share) * (1000 * divergence.mean() / 6 + (matrix * apart).sum() / N) + share * summed
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("recipe", ["univa_mosei", "univa_m3ed", "univa_mosei_roberta", "univa_m3ed_glove"])
def test_a_recipe_of_the_authors_settings_is_the_preset_of_their_code(recipe):
    """What the head of the file says: laying the preset over it changes nothing."""
    plain, laid = (plan_of(preset, recipe).to_json() for preset in (None, "univa-reference"))
    assert {key: value for key, value in plain.items() if key != "overrides"} == {
        key: value for key, value in laid.items() if key != "overrides"
    }


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("univa_m*.yaml")), ids=lambda p: p.stem)
@pytest.mark.parametrize("preset", ["univa-paper", "univa-reference"])
def test_both_presets_fit_every_recipe_of_the_paper(path, preset):
    plan = plan_of(preset, path.stem)
    section = plan.recipe.supervise
    assert (section.mix, section.schedule.use, section.choose, section.metric) == ("share", "linear", "score", "f1_micro")
    assert plan.recipe.projection.use == "none"
    head = plan.supervised.heads["univa"].params
    assert (head.divergence, head.kl_weight) == (("recording", 1.0) if preset == "univa-paper" else ("element", 1000.0))


@pytest.mark.parametrize("recipe", ["univa_mosei_delta", "univa_mosei_modalities"])
def test_an_ablation_equals_the_recipe_at_the_point_that_they_share(recipe):
    one, other = (plan_of(None, name).to_json() for name in ("univa_mosei", recipe))
    for key in ("dataset", "modalities", "scores", "window", "projection", "pretrain", "protocol"):
        assert one[key] == other[key], key
    supervise = [{k: v for k, v in plan["supervise"].items() if k != "inputs"} for plan in (one, other)]
    assert supervise[0] == supervise[1]


@pytest.mark.parametrize(("gap", "near"), [(0.1, False), (0.1 - 1e-7, False), (0.1 + 1e-7, False), (0.09999, True)])
@pytest.mark.parametrize("start", [-0.7, 0.0, 0.3, 0.61])
def test_no_rounding_puts_a_distance_below_delta(gap, near, start):
    """In float32, 0.7 − 0.6 is 0.09999996: less than 0.1, and a positive that is none."""
    places = torch.tensor([[start, 0.6], [start, 0.6 + gap]], dtype=torch.float32)
    items = Items(row=torch.arange(2), view=torch.zeros(2, dtype=torch.int64), targets={"va": places})
    positive, _ = ValenceArousal(VaPositivesParams(target="va", threshold=0.1))(items, items)
    assert bool(positive[0, 1]) == near


def test_scores_are_standardised_by_the_first_numbers_deviation_within_a_split():
    values = [[1.0, 5.0], [3.0, 0.0], None, [10.0, 1.0], [10.0, 2.0]]
    scaled = by_split(["train", "train", "train", "test", "test"], values)
    assert scaled == [[-1.0, 3.0], [1.0, -2.0], None, [0.0, -9.0], [0.0, -8.0]]


def test_sup_con_of_copies_needs_no_second_window():
    params = SupConParams(normalise=False, temperature=TAU)
    assert FusionParams().divergence == "recording"
    z = torch.eye(3, dtype=torch.float64)
    contrast = Contrast(
        pairs=[("text", "text")],
        weights=[1.0],
        positives=plugins().get("positives", "same-sample").spec.build(None),
        loss=SupCon(params),
        targets={},
        groups=torch.arange(3),
        copies=2,
    )
    items = Items(row=torch.arange(3), view=torch.zeros(3, dtype=torch.int64), targets={})
    loss = contrast({"text": Embedded(z=z, rows=torch.arange(3))}, items, torch.device("cpu")).loss
    assert loss.item() == pytest.approx(math.log(math.exp(1 / TAU) + 4) - 1 / TAU)
