"""How frozen features are centred, scaled and clipped before a head sees them: by training rows, or by each group's own."""

from __future__ import annotations

import pytest
import torch

from mmcl.api import StageError
from mmcl.model.scale import Scale, fitted_scale

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 1, 1, 1, 1e-4, 0.0]) + 3


def encode(scale: Scale, x, rows=None, groups=None, present=None):
    here = torch.ones(len(x), dtype=torch.bool) if present is None else present
    return scale.encoded({"a": x}, {"a": here}, torch.ones(len(x), dtype=torch.bool) if rows is None else rows, groups)["a"]


def test_training_rows_have_mean_0_and_deviation_1_and_a_constant_stays():
    values = encode(fitted_scale({"a": X}), X).vector
    torch.testing.assert_close(values[:, :4].mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(values[:, :4].std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    assert not values[:, 5].any()


def test_what_hardly_varies_in_training_does_not_explode_elsewhere():
    other = X + torch.tensor([0, 0, 0, 0, 1.0, 0])
    wild = encode(fitted_scale({"a": X}), other).vector
    assert wild[:, 4].abs().min() > 1000
    floored = encode(fitted_scale({"a": X}, floor=0.05), other).vector
    median = X.std(0, correction=0)[:5].median()
    torch.testing.assert_close(floored[:, 4], (other[:, 4] - X[:, 4].mean()) / (0.05 * median), rtol=1e-4, atol=1e-3)
    clipped = encode(fitted_scale({"a": X}, floor=0.05, clip=4.0), other).vector
    assert clipped.max() == 4
    torch.testing.assert_close(clipped[:, :4], encode(fitted_scale({"a": X}), other).vector[:, :4].clamp(-4, 4))


def test_by_group_each_groups_own_rows_have_mean_0_and_an_offset_of_a_person_is_gone():
    groups = torch.arange(40) % 4
    shifted = X + 7 * groups[:, None] * (1 + torch.arange(6))
    scale = fitted_scale({"a": shifted})
    values = encode(scale, shifted, groups=groups).vector
    plain = encode(scale, X, groups=groups).vector
    torch.testing.assert_close(values[:, :4], plain[:, :4], rtol=1e-2, atol=0.35)
    for group in range(4):
        own = shifted[groups == group].double()
        torch.testing.assert_close(
            values[groups == group].double().mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-5, rtol=0
        )
        deviation = torch.maximum(own.std(0, correction=0), 0.1 * scale.deviation["a"].double())
        torch.testing.assert_close(values[groups == group].double(), (own - own.mean(0)) / deviation, rtol=1e-4, atol=1e-5)


def test_by_group_uses_all_rows_of_a_group_whether_they_are_asked_for_or_not_and_no_row_that_lacks_the_modality():
    groups = torch.arange(40) % 2
    rows = torch.arange(40) < 10
    scale = fitted_scale({"a": X})
    torch.testing.assert_close(encode(scale, X, rows, groups).vector, encode(scale, X, None, groups).vector[rows])
    present = torch.arange(40) != 4
    spoilt = X.clone()
    spoilt[4] = 1e6
    values = encode(scale, spoilt, None, groups, present)
    assert not values.vector[4].any()
    assert values.vector.abs().max() < 100


def test_a_group_with_a_single_recording_is_refused_in_a_sentence():
    with pytest.raises(StageError, match="one group has a single recording of 'a'; use standardise: train"):
        encode(fitted_scale({"a": X}), X, groups=torch.tensor([0] * 39 + [1]))
