"""What batches each sampler makes."""

from __future__ import annotations

from collections import Counter

import mmcl_samplers as offered
import numpy as np
import pytest

from mmcl.api import Pool, SamplerSpec
from mmcl.testing import check_sampler, make_pool, make_variants


def batches(spec: SamplerSpec, pool: Pool, size: int, seed: int = 0, **options):
    return [list(one) for one in spec.build(spec.params(**options))(pool, size, np.random.default_rng(seed))]


@pytest.mark.parametrize("spec", [offered.RANDOM, offered.BY_GROUP, offered.BY_LABEL, offered.BY_LENGTH], ids=lambda s: s.name)
def test_each_keeps_the_contract_with_every_choice(spec):
    for params in make_variants(spec.params):
        check_sampler(spec, params)


def pool(groups, seconds=None, labels=None) -> Pool:
    n = len(groups)
    return Pool(
        np.arange(n),
        np.array(groups),
        np.zeros(n) if seconds is None else np.array(seconds, float),
        {} if labels is None else {"emotion": np.array(labels)},
    )


def test_together_a_batch_has_as_many_groups_as_asked_for():
    recordings = pool([k for k in range(8) for _ in range(16)])
    for each, size in ((1, 16), (2, 16), (4, 16), (4, 8)):
        for one in batches(offered.BY_GROUP, recordings, size, each=each):
            counts = Counter(recordings.group[one].tolist())
            assert len(counts) <= each
            assert set(counts.values()) <= {k * size // each for k in range(1, each + 1)}
    assert max(len(Counter(recordings.group[one].tolist())) for one in batches(offered.RANDOM, recordings, 16)) > 6


def test_spread_every_batch_has_the_shares_of_the_whole():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    recordings = pool(list(range(100)), labels=labels)
    for one in batches(offered.BY_LABEL, recordings, 20, how="spread"):
        counts = Counter(recordings.targets["emotion"][one].tolist())
        for label, expected in ((0, 12), (1, 6), (2, 2)):
            assert abs(counts[label] - expected) <= 1
    at_random = [Counter(recordings.targets["emotion"][one].tolist())[0] for one in batches(offered.RANDOM, recordings, 20)]
    assert max(abs(count - 12) for count in at_random) > 1


def test_labels_of_several_classes_are_one_label_each():
    both = [[0, 1], [1, 1], [0, 0], [1, 0]] * 8
    recordings = pool(list(range(32)), labels=both)
    for one in batches(offered.BY_LABEL, recordings, 8, how="together", each=1):
        assert len({tuple(row) for row in recordings.targets["emotion"][one].tolist()}) == 1


def padded(recordings: Pool, batches) -> float:
    """Share of a batch that is padding, over all batches."""
    real = sum(recordings.seconds[one].sum() for one in batches)
    return 1 - real / sum(len(one) * recordings.seconds[one].max() for one in batches)


def test_by_length_pads_less_and_still_mixes():
    recordings = make_pool(640)
    plain, sorted_by = batches(offered.RANDOM, recordings, 16), batches(offered.BY_LENGTH, recordings, 16, batches=10)
    assert padded(recordings, sorted_by) < 0.4 * padded(recordings, plain)
    together = Counter(
        frozenset(one) for seed in range(5) for one in batches(offered.BY_LENGTH, recordings, 16, seed, batches=10)
    )
    assert max(together.values()) == 1, "no batch comes again in another epoch"
    order = [float(recordings.seconds[one].mean()) for one in sorted_by]
    assert order != sorted(order)
    assert batches(offered.BY_LENGTH, recordings, 16, batches=1) != sorted_by
