"""Canonical correlation: against the classical computation, on planted spaces, with missing modalities."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from mmcl.api.kinds import Layout
from mmcl.data.store import Store, StoreWriter
from mmcl.data.windows import WHOLE, Span
from mmcl.evaluate.retrieval import retrieval
from mmcl.model.canonical import STEPS, WHOLE_RECORDINGS, _fit, fit_canonical
from mmcl.model.pooled import PARTS, part_means

VECTOR = Layout("vector", ("channel",), {"channel": 6})
SIGNAL = Layout("sequence", ("time", "channel"), {"channel": 3}, 10.0)
TOKENS = Layout("tokens", ("time",), {}, None)


def stored(folder, layout, recordings):
    """A store of recordings by row; rows that are None are missing."""
    writer = StoreWriter(folder, layout)
    for row, values in enumerate(recordings):
        if values is not None:
            values = values if layout.timed else values.reshape(layout.shape)
            writer.add(row, values.astype(np.int64 if layout is TOKENS else np.float32))
    writer.close({"key": "k"})
    return Store(folder)


def planted(n, widths, noise, seed=0):
    """Vectors of several modalities that share two hidden numbers a recording."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    return [hidden @ rng.normal(size=(2, width)) + noise * rng.normal(size=(n, width)) for width in widths]


def test_directions_correlate_as_the_classical_computation_says(tmp_path):
    left, right = planted(200, (6, 6), 1.0)
    stores = {"a": stored(tmp_path / "a", VECTOR, left[:, None]), "b": stored(tmp_path / "b", VECTOR, right[:, None])}
    canonical = fit_canonical(stores, range(200), 0.0, None)
    spaces = canonical.project(stores, range(200))
    bases = [np.linalg.qr(x - x.mean(0))[0] for x in (left, right)]
    classical = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    for k, wanted in enumerate(classical):
        a, b = spaces["a"][:, k].numpy(), spaces["b"][:, k].numpy()
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(wanted, abs=1e-4)
        assert a.std() ** 2 == pytest.approx(wanted / 2, rel=1e-3)  # weighted by the root of its correlation


def test_what_is_shared_is_retrieved_in_recordings_that_nothing_was_fitted_on(tmp_path):
    left, right = planted(300, (6, 6), 0.3)
    alone = np.random.default_rng(9).normal(size=(300, 6))
    stores = {
        name: stored(tmp_path / name, VECTOR, values[:, None]) for name, values in (("a", left), ("b", right), ("c", alone))
    }
    spaces = fit_canonical(stores, range(200), 0.05, 4.0).project(stores, range(200, 300))
    value, chance = retrieval(spaces["a"], spaces["b"], 32)["R@1"]
    assert value > 8 * chance
    value, chance = retrieval(spaces["a"], spaces["c"], 32)["R@1"]
    assert value < 4 * chance


def test_three_modalities_share_one_space(tmp_path):
    each = planted(300, (6, 6, 6), 0.3)
    stores = {f"m{k}": stored(tmp_path / f"m{k}", VECTOR, values[:, None]) for k, values in enumerate(each)}
    spaces = fit_canonical(stores, range(200), 0.05, 4.0).project(stores, range(200, 300))
    for a in spaces:
        for b in spaces:
            value, chance = retrieval(spaces[a], spaces[b], 32)["R@1"]
            assert value > 8 * chance


def test_a_missing_modality_is_zeros_and_one_that_nobody_has_is_in_no_space(tmp_path):
    left, right = planted(60, (6, 6), 0.3)
    some = [None if k % 5 == 0 else row[None] for k, row in enumerate(right)]
    stores = {
        "a": stored(tmp_path / "a", VECTOR, left[:, None]),
        "b": stored(tmp_path / "b", VECTOR, some),
        "c": stored(tmp_path / "c", VECTOR, [None] * 60),
    }
    spaces = fit_canonical(stores, range(50), 0.05, 4.0).project(stores, range(60))
    assert not spaces["b"][::5].any()
    assert spaces["b"][1::5].any(1).all()
    assert (spaces["a"].shape[1], spaces["c"].shape[1]) == (6, 0)
    alone = fit_canonical({"a": stores["a"]}, range(50), 0.05, 4.0).project({"a": stores["a"]}, range(60))
    assert alone["a"].shape == (60, 0)


@pytest.mark.parametrize("steps", [1, 7, 10, 37])
def test_means_over_parts_are_those_of_a_slow_loop(steps):
    values = np.random.default_rng(0).normal(size=(steps, 3)).astype(np.float32)
    whole = part_means(values, SIGNAL).reshape(PARTS, 3)
    for k in range(PARTS):
        first = k * steps // PARTS
        last = max(first + 1, (k + 1) * steps // PARTS)
        slow = sum(values[t].astype(np.float64) for t in range(first, last)) / (last - first)
        np.testing.assert_allclose(whole[k], slow)


def test_when_something_happens_counts_and_only_what_is_inside_the_span(tmp_path):
    """Both modalities have one bump at the same moment; their means over all of the time are all alike."""
    rng = np.random.default_rng(3)
    moments = rng.integers(0, PARTS, 300)
    bump = [np.zeros((40, 3)) for _ in moments]
    for values, moment in zip(bump, moments, strict=True):
        values[2 * moment : 2 * moment + 2] = 1.0  # in the first 20 steps, two seconds
        values[20:] = rng.normal(0, 50, (20, 3))
    stores = {
        "a": stored(tmp_path / "a", SIGNAL, bump),
        "b": stored(tmp_path / "b", SIGNAL, [v + rng.normal(0, 0.05, v.shape) for v in bump]),
    }
    span = Span(0.0, 2.0)
    spaces = fit_canonical(stores, range(200), 0.0, None, span).project(stores, range(200, 300), span)
    similar = torch.nn.functional.normalize(spaces["a"], dim=1) @ torch.nn.functional.normalize(spaces["b"], dim=1).T
    nearest = moments[200:][similar.argmax(1).numpy()]
    assert (nearest == moments[200:]).mean() > 0.95


def test_ids_are_compared_by_how_often_they_come(tmp_path):
    rng = np.random.default_rng(5)
    kinds = rng.integers(0, 4, 200)
    tokens = [np.full(5 + k % 3, kind) for k, kind in enumerate(kinds)]
    stores = {
        "words": stored(tmp_path / "words", TOKENS, tokens),
        "vector": stored(tmp_path / "vector", VECTOR, np.eye(6)[kinds][:, None] + rng.normal(0, 0.1, (200, 1, 6))),
    }
    spaces = fit_canonical(stores, range(150), 0.05, 4.0).project(stores, range(150, 200))
    similar = torch.nn.functional.normalize(spaces["words"], dim=1) @ torch.nn.functional.normalize(spaces["vector"], dim=1).T
    assert (kinds[150:][similar.argmax(1).numpy()] == kinds[150:]).mean() > 0.95
    assert spaces["words"].shape[1] <= WHOLE_RECORDINGS.directions


def moving(n, people, seed=4):
    """Two signals of people with a face of their own: what moves is shared, what stays says who it is and nothing else."""
    rng = np.random.default_rng(seed)
    who = np.arange(n) % people
    turn = rng.normal(size=(2, 3, 3))
    shared = rng.normal(size=(n, 50, 3))
    faces = 20 * rng.normal(size=(2, people, 1, 3))
    return [shared @ turn[k] + faces[k][who] + 0.3 * rng.normal(size=(n, 50, 3)) for k in (0, 1)], [f"p{k}" for k in who]


def test_steps_less_their_recordings_mean_are_taken_where_what_stays_only_tells_people_apart(tmp_path):
    streams, groups = moving(240, 12)
    stores = {name: stored(tmp_path / name, SIGNAL, values) for name, values in zip("ab", streams, strict=True)}
    train = [row for row, group in enumerate(groups) if group not in ("p10", "p11")]
    test = [row for row in range(240) if row not in train]
    canonical = fit_canonical(stores, train, 0.05, 4.0, groups=[groups[row] for row in train])
    assert canonical.form == STEPS
    spaces = canonical.project(stores, test)
    assert retrieval(spaces["a"], spaces["b"], 32)["R@1"][0] > 0.9
    whole = _fit(stores, train, 0.05, 4.0, WHOLE, WHOLE_RECORDINGS).project(stores, test)
    assert retrieval(whole["a"], whole["b"], 32)["R@1"][0] < 0.6


def test_the_space_of_steps_is_that_of_the_classical_computation_on_centred_steps(tmp_path):
    streams, _ = moving(60, 6)
    stores = {name: stored(tmp_path / name, SIGNAL, values) for name, values in zip("ab", streams, strict=True)}
    spaces = _fit(stores, range(60), 0.0, None, WHOLE, STEPS).project(stores, range(60))
    points = [(values - values.mean(1, keepdims=True)).reshape(-1, 3) for values in streams]
    classical = np.linalg.svd(np.linalg.qr(points[0])[0].T @ np.linalg.qr(points[1])[0], compute_uv=False)
    for k, wanted in enumerate(classical):
        a, b = (spaces[name].reshape(-1, 3)[:, k].numpy() for name in "ab")
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(wanted, abs=1e-3)


def test_whole_recordings_are_taken_where_only_what_stays_is_shared(tmp_path):
    rng = np.random.default_rng(7)
    hidden = rng.normal(size=(200, 1, 3))
    streams = [hidden + rng.normal(size=(200, 40, 3)) for _ in range(2)]
    stores = {name: stored(tmp_path / name, SIGNAL, values) for name, values in zip("ab", streams, strict=True)}
    assert fit_canonical(stores, range(200), 0.05, 4.0).form == WHOLE_RECORDINGS


def test_no_recording_or_too_few_give_a_space_without_falling_over(tmp_path):
    streams, _ = moving(4, 2)
    stores = {name: stored(tmp_path / name, SIGNAL, values) for name, values in zip("ab", streams, strict=True)}
    assert fit_canonical(stores, [], 0.05, 4.0).project(stores, [0, 1])["a"].shape == (2, 0)
    assert fit_canonical(stores, [0, 1, 2], 0.05, 4.0).project(stores, [])["a"].shape[0] == 0


def test_large_recordings_are_projected_block_by_block_to_the_same_places(tmp_path, monkeypatch):
    streams, _ = moving(200, 6)
    stores = {name: stored(tmp_path / name, SIGNAL, values) for name, values in zip("ab", streams, strict=True)}
    canonical = _fit(stores, range(60), 0.05, 4.0, WHOLE, STEPS)
    before = canonical.project(stores, range(200))
    monkeypatch.setattr("mmcl.model.canonical.MOST", 1)  # blocks of the least size, 64
    after = canonical.project(stores, range(200))
    assert all(torch.equal(before[name], after[name]) for name in "ab")
    fewer = _fit(stores, range(200), 0.05, 4.0, WHOLE, STEPS)
    monkeypatch.undo()
    even = _fit(stores, [int(k) for k in np.linspace(0, 199, 64)], 0.05, 4.0, WHOLE, STEPS)
    np.testing.assert_allclose(fewer.turn["a"], even.turn["a"])


@pytest.mark.parametrize(("count", "width"), [(60, 9), (12, 40), (30, 30)])
def test_whitened_points_are_the_principal_components_whichever_way_they_are_computed(monkeypatch, count, width):
    from mmcl.model import canonical

    values = np.random.default_rng(4).normal(size=(count, width)) * np.linspace(3, 0.2, width)
    values[:, -1] = values[:, 0]
    exact = canonical._whitening(values, 6)
    monkeypatch.setattr(canonical, "EXACT", 0)
    drawn = canonical._whitening(values, 6)
    white = values @ exact
    assert np.allclose(white.T @ white / count, np.eye(6), atol=1e-10)
    assert np.allclose(exact, drawn, atol=1e-3 * np.abs(exact).max())
    left = np.linalg.svd(values)[1][:6]
    assert np.allclose(1 / np.linalg.norm(exact, axis=0), left / np.sqrt(count))


def test_parts_of_a_stream_are_the_means_of_its_steps():
    values = np.random.default_rng(2).normal(5, 1, size=(7, 3)).astype(np.float32)
    for parts in (1, 2, 4, 7, 10):
        edges = np.linspace(0, 7, parts + 1)
        wanted = [values[int(a) : max(int(a) + 1, int(b))].astype(float).mean(0) for a, b in pairwise(edges)]
        assert np.allclose(part_means(values, SIGNAL, parts), np.concatenate(wanted), rtol=0, atol=1e-12)
    still = np.full((50, 3), 0.1, np.float32)
    assert np.array_equal(part_means(still, SIGNAL, 4), np.full(12, np.float64(np.float32(0.1))))
