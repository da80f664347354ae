"""Read-outs and resampling against one row, one part and one step after another, written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from mmcl.api import each_step, parts_of, read_out, resampled
from mmcl.testing.batch import make_rows

LENGTHS = (7, 1, 4, 0)


def batch():
    """Rows of these lengths, padding that is not zero, and which steps are real."""
    hidden = torch.randn(len(LENGTHS), 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return hidden, torch.arange(9) < torch.tensor(LENGTHS)[:, None]


def slow_parts(length, parts):
    """Which part each real step is in."""
    return [i * parts // length for i in range(length)]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_are_equally_long_stretches_of_the_real_steps(parts):
    _, steps = batch()
    held = parts_of(steps, parts)
    assert held.shape == (len(LENGTHS), parts, 9)
    for row, length in enumerate(LENGTHS):
        where = slow_parts(length, parts)
        wanted = [[t < length and where[t] == part for t in range(9)] for part in range(parts)]
        assert held[row].tolist() == wanted


@pytest.mark.parametrize("parts", [1, 3])
def test_it_is_the_mean_and_the_deviation_of_each_part_alone(parts):
    hidden, steps = batch()
    got = read_out(hidden, steps, parts, deviation=True)
    torch.testing.assert_close(read_out(hidden, steps, parts), got[:, : 3 * parts])
    for row, length in enumerate(LENGTHS):
        means, deviations = [], []
        for part in range(parts):
            own = [hidden[row, t] for t in range(length) if slow_parts(length, parts)[t] == part]
            mean = sum(own) / len(own) if own else torch.zeros(3, dtype=torch.float64)
            variance = sum((x - mean) ** 2 for x in own) / len(own) if own else torch.zeros(3, dtype=torch.float64)
            means.append(mean)
            deviations.append((variance + 1e-6) ** 0.5)
        torch.testing.assert_close(got[row], torch.cat([*means, *deviations]))


def test_half_precision_is_summed_in_float32():
    hidden = torch.full((1, 3000, 1), 1.0, dtype=torch.bfloat16)
    hidden[0, 0] = 0.0
    mean = read_out(hidden, torch.ones(1, 3000, dtype=torch.bool))
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(2999 / 3000, abs=1e-6)


def test_a_step_that_stands_alone_has_no_deviation():
    hidden, steps = batch()
    plain = each_step(hidden, steps, 6)
    torch.testing.assert_close(plain, torch.cat([hidden, torch.zeros_like(hidden)], 2))
    project = nn.Linear(6, 5, dtype=torch.float64)
    got = each_step(hidden, steps, 5, project)
    for row, length in enumerate(LENGTHS):
        for t in range(9):
            alone = project(torch.cat([hidden[row, t], torch.zeros(3, dtype=torch.float64)]))
            torch.testing.assert_close(got[row, t], alone if t < length else torch.zeros(5, dtype=torch.float64))
    assert math.isclose(got[3].abs().max().item(), 0.0)


@pytest.mark.parametrize("count", [2, 7, 16, 23, 50])
def test_resampling_is_linear_interpolation_of_the_real_steps(count):
    lengths = (23, 1, 4, 2, 130)
    stream = make_rows((2, 3), *lengths, pad=3)
    stream.values[~stream.steps] = math.nan
    got = resampled(stream.values, stream.steps, count)
    assert got.shape == (len(lengths), count, 2, 3)
    for row, length in enumerate(lengths):
        place = np.linspace(0, length - 1, count)
        for i, j in itertools.product(range(2), range(3)):
            wanted = np.interp(place, np.arange(length), stream.values[row, :length, i, j].numpy())
            np.testing.assert_allclose(got[row, :, i, j].numpy(), wanted, rtol=0, atol=1e-12)


def test_resampling_to_the_length_that_is_there_changes_no_bit():
    stream = make_rows((3,), 50)
    assert torch.equal(resampled(stream.values.float(), stream.steps, 50), stream.values.float())
