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


@pytest.mark.parametrize(
    "spec",
    [offered.RANDOM, offered.BY_GROUP, offered.BY_LABEL, offered.BY_LENGTH, offered.BY_SHARD, offered.HARD],
    ids=lambda s: s.name,
)
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


def near(n: int, seed: int = 0) -> Pool:
    """Recordings with embeddings of two modalities, some lacking one."""
    return make_pool(n, seed=seed, embedded=True)


def cosine(pool: Pool, i: int, j: int) -> float:
    """The mean over modalities that both have, number by number; −1 where there is none."""
    both = [v for v in pool.embeddings.values() if v[i].any() and v[j].any()]
    return sum(sum(float(a) * float(b) for a, b in zip(v[i], v[j], strict=True)) for v in both) / len(both) if both else -1.0


@pytest.mark.parametrize(("share", "skip"), [(0.5, 0), (1.0, 0), (0.5, 3), (0.1, 0)])
def test_hard_a_batch_holds_the_nearest_of_all_that_are_left_as_loops_have_it(share, skip):
    pool, size = near(40), 8
    built = {frozenset(one) for one in batches(offered.HARD, pool, size, share=share, skip=skip)}
    order, left, expected = np.random.default_rng(0).permutation(40).tolist(), set(range(40)), set()
    while left:
        first, *others = [place for place in order if place in left]
        ranked = sorted(
            others, key=lambda j: -cosine(pool, first, j)
        )  # equal ones in the order of `others`, as sorted is stable
        chosen = ranked[skip:][: max(2, round(share * size)) - 1]
        rest = [place for place in others if place not in chosen][: size - 1 - len(chosen)]
        expected.add(frozenset([first, *chosen, *rest]))
        left -= {first, *chosen, *rest}
    assert built == expected


def test_hard_negatives_are_nearer_than_those_of_batches_at_random():
    pool = near(64)

    def within(spec: SamplerSpec, **options) -> float:
        return np.mean([cosine(pool, i, j) for one in batches(spec, pool, 8, **options) for i in one for j in one if i != j])

    assert within(offered.HARD, share=1.0) > within(offered.HARD, share=0.5) > within(offered.RANDOM) + 0.02


def test_hard_never_takes_a_recording_for_its_own_nearest():
    pool = near(24)
    twice = Pool(
        *(np.concatenate([part, part]) for part in (pool.row, pool.group, pool.seconds)),
        embeddings={name: np.concatenate([part, part]) for name, part in pool.embeddings.items()},
    )
    built = batches(offered.HARD, twice, 8, share=0.5)
    assert sorted(place for one in built for place in one) == list(range(48))
    alone = batches(offered.HARD, twice, 4, share=1.0)
    assert sum(len(set(twice.row[one])) < len(one) for one in alone) <= 1, "only where nothing else is left"


def test_hard_is_random_where_nothing_is_encoded_yet():
    bare = make_pool(30)
    assert batches(offered.HARD, bare, 8) == batches(offered.RANDOM, bare, 8)


def in_shards(shards) -> Pool:
    n = len(shards)
    return Pool(np.arange(n), np.zeros(n, int), np.zeros(n), shard=np.array(shards))


def test_by_shard_each_shard_is_open_in_one_window_alone():
    recordings = in_shards([k for k in range(20) for _ in range(10)])
    drawn = batches(offered.BY_SHARD, recordings, 10, window=4)
    for first in range(0, 20, 4):  # 4 shards of 10 recordings are 4 batches of 10
        shards = [set(recordings.shard[one].tolist()) for one in drawn[first : first + 4]]
        assert len(set().union(*shards)) == 4
        assert max(map(len, shards)) > 1  # mixed within the window
    order = [recordings.shard[one[0]] for one in drawn]
    assert order != sorted(order)
    assert batches(offered.BY_SHARD, recordings, 10, seed=1, window=4) != drawn


def test_by_shard_with_a_window_of_all_shards_is_any_order_and_so_is_one_without_shards():
    recordings = in_shards([k for k in range(4) for _ in range(50)])
    seen = [len(set(recordings.shard[one].tolist())) for one in batches(offered.BY_SHARD, recordings, 20, window=4)]
    assert min(seen) == 4
    unknown = pool([0] * 40)
    assert batches(offered.BY_SHARD, unknown, 8) == batches(offered.RANDOM, unknown, 8)
