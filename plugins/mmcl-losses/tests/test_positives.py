"""Positives by valence and arousal and by labels, against pairs looked at one by one."""

from __future__ import annotations

import math

import numpy as np
import torch
from mmcl_losses import VALENCE_AROUSAL, SameLabelParams, VaPositivesParams, va_needs
from mmcl_losses.positives import SameLabel, ValenceArousal

from mmcl.api import Items
from mmcl.testing import check_positives


def items(rows, values, view=0, modality="text", name="va-text"):
    return Items(torch.tensor(rows), torch.full((len(rows),), view), {name: torch.tensor(values)}, modality)


def test_neighbours_in_the_plane_are_positives_strictly_within_the_threshold():
    values = [[0.0, 0.0], [0.0, 0.1], [0.06, 0.08], [0.05, 0.0], [math.nan, 0.0], [5.0, 5.0]]
    one = items([0, 1, 2, 3, 4, 0], values)
    positive, ignore = ValenceArousal(VaPositivesParams())(one, one)
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            own = [0, 1, 2, 3, 4, 0][i] == [0, 1, 2, 3, 4, 0][j]
            unknown = any(map(math.isnan, (*a, *b)))
            near = not unknown and float(np.linalg.norm(np.float32(a) - np.float32(b))) < np.float32(0.1)
            assert bool(positive[i, j]) == (own or near), (i, j)
            assert bool(ignore[i, j]) == (unknown and not own), (i, j)


def test_each_modality_is_placed_by_its_own_score():
    params = VaPositivesParams()
    assert va_needs(params, ("text", "audio")) == ("va-text", "va-audio")
    assert va_needs(VaPositivesParams(target="va"), ("text", "audio")) == ("va",)
    both = {"va-text": torch.zeros(3, 2), "va-audio": torch.tensor([[0.0, 0], [1, 1], [2, 2]])}
    rows, view = torch.arange(3), torch.zeros(3, dtype=torch.int64)
    for name, wanted in (("text", 9), ("audio", 3)):
        one = Items(rows, view, both, name)
        assert int(ValenceArousal(params)(one, one)[0].sum()) == wanted
    check_positives(
        VALENCE_AROUSAL,
        items=Items(torch.arange(8), torch.zeros(8, dtype=torch.int64), {"va-one": torch.rand(8, 2)}, "one"),
    )


def test_same_labels_means_all_of_them():
    one = items([0, 1, 2, 3, 3], [[1.0, 0], [1, 0], [1, 1], [math.nan, 0], [math.nan, 0]], name="emotions")
    positive, ignore = SameLabel(SameLabelParams(target="emotions"))(one, one)
    assert positive.int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    assert ignore.int().tolist() == [[0, 0, 0, 1, 1]] * 3 + [[1, 1, 1, 0, 0]] * 2
    single = items([0, 1, 2], [4, 4, -1], name="emotion")
    positive, ignore = SameLabel(SameLabelParams())(single, single)
    assert positive.int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert ignore.int().tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
