"""What the features are worth beyond one score: each figure against a slow way to the same, and the test set left alone till the end."""

from __future__ import annotations

import math
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcl_heads import LINEAR, LinearParams
from safetensors.torch import load_file, save_file

from mmcl.api import Encoded, Labelled, Layout, Task, Timed
from mmcl.data.prepared import load_prepared
from mmcl.data.store import Store, StoreWriter
from mmcl.data.whose import read_whose
from mmcl.data.windows import Late
from mmcl.evaluate.geometry import alignment, effective_rank, gap, uniformity
from mmcl.evaluate.maps import flatten
from mmcl.evaluate.metrics import single_label
from mmcl.recipe.planner import load_plan
from mmcl.report import run_and_report as run_all
from mmcl.runs import RunFolder, read_json, read_jsonl, write_json
from mmcl.stages import worth as stage_module
from mmcl.stages.worth import few
from tests.conftest import split_of

ON = (
    "worth={few_shot: [0.1, 0.5, 0.999], draws: 2, points: 20, maps: [pca], "
    "robustness: {noise: [1.0], loss: [0.5], late: [0.3]}}",
)


def run_with(run: RunFolder, *overrides: str) -> None:
    """Go on with a finished run, its recipe changed."""
    run_all(load_plan(run.root / "recipe.yaml", overrides), run, workers=1, overwrite=True)


def folder_of(run: RunFolder, stage: str = "worth"):
    return run.stage(stage, 0, 3)


def rows_of(run: RunFolder, what: str, **values):
    rows = read_jsonl(folder_of(run) / "worth.jsonl")
    return [r for r in rows if r["what"] == what and all(r[key] == value for key, value in values.items())]


def copied(run: RunFolder, to) -> RunFolder:
    shutil.copytree(run.root.parent, to / "runs")
    return RunFolder(to / "runs" / "tiny")


@pytest.fixture(scope="module")
def worthy(tiny_run, tmp_path_factory) -> RunFolder:
    """The session's run with everything of `worth`. Tests read it and leave it as it is."""
    run = copied(tiny_run, tmp_path_factory.mktemp("worth"))
    run_with(run, *ON)
    return run


# ---- geometry


def unit(z):
    return [row / math.sqrt(sum(float(v) ** 2 for v in row)) for row in np.asarray(z, np.float64)]


@pytest.mark.parametrize("seed", range(3))
def test_geometry_is_what_slow_loops_give(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(17, 5)) * 3, rng.normal(size=(17, 5)) + 1
    ua, ub = unit(a), unit(b)
    nearness = sum(float(((x - y) ** 2).sum()) for x, y in zip(ua, ub, strict=True)) / 17
    pairs = [math.exp(-2 * float(((ua[i] - ua[j]) ** 2).sum())) for i in range(17) for j in range(i)]
    assert alignment(torch.tensor(a), torch.tensor(b)) == pytest.approx(nearness, rel=1e-12)
    assert uniformity(torch.tensor(a)) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-12)
    assert gap(torch.tensor(a), torch.tensor(b)) == pytest.approx(np.linalg.norm(np.mean(ua, 0) - np.mean(ub, 0)), rel=1e-12)
    values = np.linalg.svd(np.array(ua) - np.mean(ua, 0), compute_uv=False)
    share = values / values.sum()
    assert effective_rank(torch.tensor(a)) == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-4)


def test_identical_embeddings_are_aligned_and_without_gap():
    z = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    assert alignment(z, 8 * z) == pytest.approx(0, abs=1e-12)
    assert gap(z, 8 * z) == pytest.approx(0, abs=1e-12)


def test_a_circle_is_as_uniform_as_its_integral_says_and_a_point_is_not_at_all():
    n = 3000
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    # exp(−2·(2 − 2·cos t)) over the circle is exp(−4)·I0(4)
    assert uniformity(circle) == pytest.approx(-4 + math.log(float(np.i0(4.0))), abs=0.01)
    assert uniformity(torch.ones(9, 3)) == pytest.approx(0, abs=1e-12)
    assert gap(circle, -circle) == pytest.approx(0, abs=1e-9)
    assert alignment(circle, -circle) == pytest.approx(4)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_so_many_orthogonal_directions_are_the_effective_rank(k):
    z = torch.cat([torch.eye(8)[:k], -torch.eye(8)[:k]]).repeat(2, 1)
    assert effective_rank(z) == pytest.approx(k, rel=1e-5)


def test_too_few_recordings_have_no_geometry():
    none, one = torch.zeros(0, 4), torch.ones(1, 4)
    assert (alignment(none, none), gap(none, one), uniformity(one), effective_rank(one)) == (None, None, None, None)


# ---- maps


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_is_the_same_for_the_same_and_fills_the_square(method):
    z = np.random.default_rng(0).normal(size=(40, 6)) * 50 + 7
    points = flatten(z, method, 5)
    np.testing.assert_array_equal(points, flatten(z.copy(), method, 5))
    assert points.shape == (40, 2)
    assert np.abs(points).max() == pytest.approx(1)
    assert points.max(0) + points.min(0) == pytest.approx([0, 0], abs=1e-9)


def test_pca_shows_the_two_longest_directions():
    rng = np.random.default_rng(1)
    z = np.zeros((50, 5))
    z[:, 3], z[:, 1] = 10 * rng.normal(size=50), rng.normal(size=50)
    points = flatten(z, "pca", 0)
    assert abs(np.corrcoef(points[:, 0], z[:, 3])[0, 1]) > 0.99
    assert abs(np.corrcoef(points[:, 1], z[:, 1])[0, 1]) > 0.99


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_points_have_a_map_too(method, n):
    points = flatten(np.random.default_rng(n).normal(size=(n, 3)), method, 0)
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()
    assert np.abs(points).max() <= 1 + 1e-12


@pytest.mark.parametrize("value", [0.0, 0.1, 123.456, 1e6 / 3])
@pytest.mark.parametrize("n", [3, 7, 20])
def test_points_that_are_all_the_same_stay_in_the_middle(value, n):
    np.testing.assert_array_equal(flatten(np.full((n, 4), value), "tsne", 0), np.zeros((n, 2)))


def test_one_dimension_lies_on_a_line():
    points = flatten(np.arange(6.0)[:, None], "pca", 0)
    assert sorted(np.abs(points[:, 0]).round(6).tolist()) == pytest.approx([0.2, 0.2, 0.6, 0.6, 1, 1])
    assert not points[:, 1].any()


def test_an_unknown_map_is_refused():
    with pytest.raises(ValueError, match="no map is named 'isomap'"):
        flatten(np.random.default_rng(0).normal(size=(9, 3)), "isomap", 0)


# ---- few


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60),
    st.floats(0.001, 0.999),
    st.integers(0, 99),
)
def test_few_takes_whole_groups_in_turn_and_no_row_that_is_not_marked(rows, share, seed):
    marked, groups = torch.tensor([m for m, _ in rows]), [f"g{g}" for _, g in rows]
    kept = few(marked, groups, share, np.random.default_rng(seed))
    assert torch.equal(kept, few(marked, groups, share, np.random.default_rng(seed)))
    assert not bool((kept & ~marked).any())
    n = int(marked.sum())
    assert int(kept.sum()) == math.ceil(share * n - 1e-9)
    sizes = Counter(g for g, m in zip(groups, marked.tolist(), strict=True) if m)
    taken = Counter(g for g, k in zip(groups, kept.tolist(), strict=True) if k)
    assert sum(taken[g] < sizes[g] for g in taken) <= 1  # the next group is begun when the last is used up


def test_few_comes_from_as_few_groups_as_can_be_where_all_are_of_a_size():
    marked, groups = torch.ones(60, dtype=torch.bool), [f"g{i % 6}" for i in range(60)]
    for seed in range(20):
        for share, fewest in ((0.01, 1), (1 / 6, 1), (0.2, 2), (0.5, 3), (0.99, 6)):
            kept = few(marked, groups, share, np.random.default_rng(seed))
            assert len({g for g, k in zip(groups, kept.tolist(), strict=True) if k}) == fewest
    first = [few(marked, groups, 0.1, np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert len({tuple(one) for one in first}) > 10


# ---- Late

SIGNAL = Layout("signal", ("time", "channel"), {"channel": 3}, rate=50.0)
WORDS = Layout("word-vectors", ("time", "channel"), {"channel": 2})
VECTOR = Layout("vector", ("channel",), {"channel": 4})


def store_of(folder, layout, streams):
    writer = StoreWriter(folder, layout)
    for row, stream in streams.items():
        writer.add(row, stream)
    writer.close({"key": "k", "skipped": []})
    return Store(folder)


@pytest.mark.parametrize("seconds", [0.25, 0.51, 1.99, 2.0, 30.0])
def test_a_late_signal_is_the_signal_without_its_first_steps(tmp_path, seconds):
    streams = {row: np.random.default_rng(row).normal(size=(100 + row, 3)).astype(np.float32) for row in (0, 4)}
    late = Late(store_of(tmp_path / "s", SIGNAL, streams), seconds)
    for row, values in streams.items():
        rest = values[min(round(seconds * 50), len(values) - 1) :]
        np.testing.assert_array_equal(late.values(row), rest)
        np.testing.assert_array_equal(late.values(row, 3, 8), rest[3:8])
        np.testing.assert_array_equal(late.values(row, 2), rest[2:])
        assert late.length(row) == len(rest) >= 1
        assert late.seconds(row) == pytest.approx(len(rest) / 50)
        assert late.times(row) is None
    assert 4 in late
    assert 5 not in late


@pytest.mark.parametrize(("seconds", "left"), [(0.2, [0, 1, 2]), (0.3, [1, 2]), (1.0, [1, 2]), (1.2, [2]), (9.0, [2])])
def test_late_words_are_those_whose_middle_is_still_to_come(tmp_path, seconds, left):
    times = np.array([[0.0, 0.5], [0.9, 1.3], [2.0, 2.4]])
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    late = Late(store_of(tmp_path / "w", WORDS, {0: Timed(values, times)}), seconds)
    np.testing.assert_array_equal(late.values(0), values[left])
    np.testing.assert_allclose(late.times(0), np.maximum(times[left] - seconds, 0))
    assert late.length(0) == len(left)
    assert late.seconds(0) == pytest.approx(max(0.0, 2.4 - seconds))


def test_what_has_no_time_is_never_late(tmp_path):
    late = Late(store_of(tmp_path / "v", VECTOR, {0: np.arange(4, dtype=np.float32)}), 5.0)
    np.testing.assert_array_equal(late.values(0), [[0, 1, 2, 3]])
    assert (late.length(0), late.seconds(0), late.times(0)) == (1, 0.0, None)
    untimed = store_of(tmp_path / "w", WORDS, {0: np.ones((3, 2), np.float32)})  # steps in order, nobody knows when
    assert Late(untimed, 5.0).length(0) == 3


# ---- the stage


def features_of(run: RunFolder, kind: str, split: str):
    """What `embed` wrote: modality → (vector, projection, present), and targets."""
    tensors = load_file(str(folder_of(run, "embed") / f"{kind}-{split}.safetensors"))
    names = dict.fromkeys(key.split("/")[0] for key in tensors)
    targets = read_whose(folder_of(run, "embed"), split)["targets"]
    parts = ("vector", "projection", "present")
    return {n: tuple(tensors[f"{n}/{p}"] for p in parts) for n in names}, torch.tensor([t["emotion"] for t in targets])


def standard(values, train, present):
    """In deviations from the mean of the training rows that have it; what never changes is left alone, and nothing explodes."""
    here = train[present].double().numpy()
    spread = here.std(0)
    floor = 0.05 * np.sort(spread[spread > 1e-6])[(np.sum(spread > 1e-6) - 1) // 2]
    spread = np.where(spread > 1e-6, np.maximum(spread, floor), 1)
    return ((values - torch.tensor(here.mean(0)).float()) / torch.tensor(spread).float()).float().clamp(-4, 4)


def groups_of(run: RunFolder, *splits: str):
    """A number for the group of every recording, equal in all of these splits."""
    names = [read_whose(folder_of(run, "embed"), split)["groups"] for split in splits]
    order = sorted({name for each in names for name in each})
    return [torch.tensor([order.index(name) for name in each]) for each in names]


def linear(train: Labelled, valid: Labelled):
    widths = {name: one.vector.shape[1] for name, one in train.encoded.items()}
    classes = tuple("abcdefgh"[: 1 + int(train.target.max())])
    head = LINEAR.build(LinearParams(l2=(0.1, 1.0)), Task("emotion", "single-label", classes), widths)
    head.fit(train, valid, torch.Generator())
    return head


def accuracy(rows):
    (one,) = [r for r in rows if r["metric"] == "accuracy"]
    return one["value"]


@pytest.mark.parametrize("encoder", ["pretrained", "random"])
def test_all_labels_all_modalities_and_nothing_spoilt_is_the_probes_score(worthy, encoder):
    scores = {
        r["metric"]: (r["value"], r["n"])
        for r in read_jsonl(folder_of(worthy, "probe") / "scores.jsonl")
        if (r["input"], r["head"], r["encoder"]) == ("all", "linear", encoder) and "/" not in r["metric"]
    }
    assert scores
    ways = [rows_of(worthy, "missing", encoder=encoder, left=["text", "audio", "landmarks"])]
    ways += [rows_of(worthy, "few-shot", encoder=encoder, share=0.999, draw=draw) for draw in (0, 1)]  # one minimum
    if encoder == "pretrained":
        ways.append(rows_of(worthy, "robustness", encoder=encoder, change="none"))
    for rows in ways:
        assert {r["metric"]: (r["value"], r["n"]) for r in rows} == scores


def test_a_head_that_is_trained_is_the_probes_own_too(tiny_run, tmp_path):
    run = copied(tiny_run, tmp_path)
    run_with(
        run,
        "probe={inputs: [all], heads: {mlp: {use: mlp, hidden: 4}}, training: {epochs: 3}, seeds: [2, 5]}",
        "worth={few_shot: [0.5], draws: 1, transfer: false, geometry: false, maps: []}",
    )
    for encoder in ("pretrained", "random"):
        scores = {
            r["metric"]: r["value"]
            for r in read_jsonl(folder_of(run, "probe") / "scores.jsonl")
            if (r["encoder"], r["head_seed"]) == (encoder, 2)
        }
        whole = rows_of(run, "missing", encoder=encoder, left=["text", "audio", "landmarks"])
        assert {r["metric"]: r["value"] for r in whole} == scores


@pytest.mark.parametrize("left", ["text", "audio", "landmarks"])
def test_one_modality_left_is_the_main_head_on_the_recordings_that_have_it(worthy, left):
    (train, y), (valid, y_valid), (test, y_test) = (features_of(worthy, "pretrained", s) for s in ("train", "valid", "test"))

    def encoded(split, keep):
        return {
            name: Encoded(standard(split[name][0], train[name][0], train[name][2]) * (split[name][2] & (name in keep))[:, None])
            for name in ("text", "audio", "landmarks")
        }

    everything = ("text", "audio", "landmarks")
    group, group_valid = groups_of(worthy, "train", "valid")
    head = linear(Labelled(encoded(train, everything), y, group), Labelled(encoded(valid, everything), y_valid, group_valid))
    here = test[left][2]
    guess = head(encoded(test, (left,))).argmax(1)
    rows = rows_of(worthy, "missing", encoder="pretrained", left=[left])
    assert {r["n"] for r in rows} == {int(here.sum())}
    assert int(here.sum()) < len(here)
    assert accuracy(rows) == pytest.approx(float((guess == y_test)[here].double().mean()))


@pytest.mark.parametrize("encoder", ["pretrained", "random"])
@pytest.mark.parametrize("source", ["text", "audio", "landmarks"])
def test_transfer_is_a_head_fitted_by_hand_on_projections(worthy, encoder, source):
    (train, y), (valid, y_valid), (test, y_test) = (features_of(worthy, encoder, s) for s in ("train", "valid", "test"))

    group, group_valid, group_test = groups_of(worthy, "train", "valid", "test")

    def labelled(split, target, group, name):
        _, projection, present = split[name]
        values = standard(projection, train[name][1], train[name][2])  # each modality in its own deviations
        return Labelled({"shared": Encoded(values[present])}, target[present], group[present])

    head = linear(labelled(train, y, group, source), labelled(valid, y_valid, group_valid, source))
    for to in ("text", "audio", "landmarks"):
        asked = labelled(test, y_test, group_test, to)
        guess = head(asked.encoded).argmax(1)
        rows = rows_of(worthy, "transfer", encoder=encoder, **{"from": source, "to": to})
        expected = single_label(asked.target.numpy(), guess.numpy())
        assert {r["metric"]: (r["value"], r["n"]) for r in rows} == {m: (pytest.approx(v), n) for m, (v, n) in expected.items()}


def test_few_shot_says_how_many_labels_from_how_many_people(worthy):
    folds = split_of(worthy.root)
    train = folds["folds"][0]["train"]
    people = {folds["samples"][row]["group"] for row in train}
    for share in (0.1, 0.5, 0.999):
        rows = rows_of(worthy, "few-shot", share=share)
        assert {(r["encoder"], r["draw"]) for r in rows} == {(e, d) for e in ("pretrained", "random") for d in (0, 1)}
        assert {r["labels"] for r in rows} == {math.ceil(share * len(train))}
        assert all(1 <= r["groups"] <= len(people) for r in rows)
    assert {r["groups"] for r in rows_of(worthy, "few-shot", share=0.1)} == {1}
    # Both encoders are asked with the same labels.
    drawn = {(r["share"], r["draw"]): set() for r in rows_of(worthy, "few-shot")}
    for r in rows_of(worthy, "few-shot"):
        drawn[r["share"], r["draw"]].add((r["labels"], r["groups"]))
    assert all(len(each) == 1 for each in drawn.values())


def test_geometry_in_the_file_is_that_of_the_projections(worthy):
    test, _ = features_of(worthy, "pretrained", "test")
    both = test["audio"][2] & test["text"][2]
    (row,) = [r for r in rows_of(worthy, "geometry", encoder="pretrained", of=["text", "audio"]) if r["metric"] == "gap"]
    assert row["value"] == pytest.approx(gap(test["audio"][1][both], test["text"][1][both]))
    assert row["n"] == int(both.sum())
    (row,) = [r for r in rows_of(worthy, "geometry", encoder="random", of=["text"]) if r["metric"] == "uniformity"]
    alone, _ = features_of(worthy, "random", "test")
    assert row["value"] == pytest.approx(uniformity(alone["text"][1][alone["text"][2]]))


def test_every_way_of_spoiling_is_tested_for_all_and_for_each_alone(worthy):
    tested = {(r["change"], r["level"], r["of"]) for r in rows_of(worthy, "robustness")}
    each = ("all", "text", "audio", "landmarks")
    levels = (("noise", 1.0), ("loss", 0.5), ("late", 0.3))
    assert tested == {("none", 0.0, "all")} | {(how, level, of) for how, level in levels for of in each}


def test_maps_show_test_recordings_once_with_who_they_are(worthy):
    folds = split_of(worthy.root)
    test = {folds["samples"][row]["id"]: folds["samples"][row] for row in folds["folds"][0]["test"]}
    maps = read_json(folder_of(worthy) / "maps.json")["maps"]
    assert {(m["encoder"], m["of"]) for m in maps} == {
        (e, of) for e in ("pretrained", "random") for of in ("shared", "text", "audio", "landmarks")
    }
    for one in maps:
        assert len(one["x"]) == len(one["y"]) == len(one["id"]) == len(set(zip(one["id"], one["modality"], strict=True)))
        assert len(set(one["id"])) <= 20
        assert all(test[id]["group"] == group for id, group in zip(one["id"], one["group"], strict=True))
        assert one["targets"]["emotion"] == [test[id]["targets"]["emotion"] for id in one["id"]]


def watched(monkeypatch):
    """What the stage does, in order, and the state of every head that it fits."""
    seen, heads = [], []
    read, fit, log, encode = stage_module.read_features, stage_module.fit_head, RunFolder.log, stage_module.encode_rows

    def fitting(*args):
        head, facts = fit(*args)
        seen.append("fit")
        heads.append({name: value.clone() for name, value in head.state_dict().items()})
        return head, facts

    monkeypatch.setattr(stage_module, "read_features", lambda f, kind, s: (seen.append(s), read(f, kind, s))[1])
    monkeypatch.setattr(stage_module, "encode_rows", lambda *a: (seen.append("encoded"), encode(*a))[1])
    monkeypatch.setattr(stage_module, "fit_head", fitting)
    monkeypatch.setattr(RunFolder, "log", lambda run, event, **v: (seen.append(event), log(run, event, **v))[1])
    return seen, heads


def test_nothing_of_the_test_split_is_in_any_head(worthy, tmp_path, monkeypatch):
    run = copied(worthy, tmp_path)
    shutil.rmtree(folder_of(run))
    seen, first = watched(monkeypatch)
    run_with(run, *ON)
    assert seen.count("test opened") == 1
    opened = seen.index("test opened")
    # encoders × (shares × draws + all labels + modalities), less the pretrained one's on all labels, which the probe has kept
    assert seen.count("fit") == 2 * (3 * 2 + 1 + 3) - 1
    assert not {"test", "encoded"} & set(seen[:opened])
    assert "fit" not in seen[opened:]
    assert "test" in seen[opened:]
    before = list(first)
    mark = folder_of(run, "embed") / "finished.json"  # whose digests would have what is changed made again
    write_json(mark, {name: value for name, value in read_json(mark).items() if name != "files"})
    for kind in ("pretrained", "random"):  # other test features, and other answers
        path = folder_of(run, "embed") / f"{kind}-test.safetensors"
        save_file({k: v if v.dtype == torch.bool else 3 - v.contiguous() for k, v in load_file(str(path)).items()}, str(path))
    shutil.rmtree(folder_of(run))
    first.clear()
    run_with(run, *ON)
    assert len(first) == len(before)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, first, strict=True) for name in a)
    assert (folder_of(run) / "worth.jsonl").read_bytes() != (folder_of(worthy) / "worth.jsonl").read_bytes()


def done(run: RunFolder, since: int) -> list[str]:
    stages = ("pretrain", "embed", "probe", "supervise", "worth")
    return [row["event"] for row in read_jsonl(run.root / "log.jsonl")[since:] if row["event"] in stages]


def test_running_again_does_nothing_and_other_shares_ask_for_this_stage_alone(worthy, tmp_path):
    run = copied(worthy, tmp_path)
    before, since = (folder_of(run) / "worth.jsonl").read_bytes(), len(read_jsonl(run.root / "log.jsonl"))
    run_with(run, *ON)
    assert done(run, since) == []
    run_with(run, *ON, "worth.few_shot=[0.2]")
    assert done(run, since) == ["worth"]
    assert {r["share"] for r in rows_of(run, "few-shot")} == {0.2}
    run_with(run, *ON)
    assert done(run, since) == ["worth", "worth"]
    assert (folder_of(run) / "worth.jsonl").read_bytes() == before
    run_with(run)  # left out of the recipe: nothing is done
    assert done(run, since) == ["worth", "worth"]


def test_left_out_it_does_nothing(tiny_run):
    assert not folder_of(tiny_run).exists()
    assert "worth" not in {row["event"] for row in read_jsonl(tiny_run.root / "log.jsonl")}


SMALL = "worth={few_shot: [0.5], draws: 1, points: 20, maps: [pca], robustness: {noise: [1.0]}}"


def test_a_pretext_has_one_vector_and_so_no_modality_to_lose_or_to_carry_over_to(tiny_plan, run):
    cae = "pretrain={pretext: {use: cae, steps: 10, channels: [2, 2, 2, 2]}, batch_size: 16, epochs: 1, optimizer: {use: adamw, lr: 1e-3}}"
    none = [f"modalities.{name}.backbone=" for name in ("text", "audio", "landmarks")]
    run_all(tiny_plan(cae, *none, "probe.inputs=[all]", SMALL), run, workers=1)
    rows = read_jsonl(folder_of(run) / "worth.jsonl")
    assert {r["what"] for r in rows} == {"few-shot", "geometry"}
    assert {tuple(r["of"]) for r in rows if r["what"] == "geometry"} == {("joint",)}
    assert {m["of"] for m in read_json(folder_of(run) / "maps.json")["maps"]} == {"joint"}


def test_encoders_that_labels_have_trained_are_in_the_maps(tiny_run, tmp_path):
    run = copied(tiny_run, tmp_path)
    trained = "supervise={heads: {mlp: {use: mlp, hidden: 8}}, inputs: [audio, all], batch_size: 16, epochs: 1}"
    run_with(run, trained, SMALL)
    maps = read_json(folder_of(run) / "maps.json")["maps"]
    assert {m["of"] for m in maps if m["encoder"] == "supervised mlp"} == {"text", "audio", "landmarks"}
    since = len(read_jsonl(run.root / "log.jsonl"))
    run_with(run, trained.replace("epochs: 1", "epochs: 2"), SMALL)
    assert done(run, since) == ["supervise", "worth"]


def test_maps_of_training_recordings_show_them_and_no_others(tiny_plan, run):
    """UniVA's Figure 3 is of the training set."""
    worth = "worth={few_shot: [], missing: false, transfer: false, geometry: false, maps: [pca], maps_of: train}"
    run_all(tiny_plan(worth, "pretrain.epochs=1", "dataset.samples=48"), run, workers=1)
    prepared = load_prepared(run)
    trained = {prepared.samples[row].id for row in prepared.folds[0].train}
    maps = read_json(folder_of(run) / "maps.json")["maps"]
    assert maps
    assert {one["side"] for one in maps} == {"train"}
    assert all(set(one["id"]) <= trained for one in maps)
    assert "of training recordings" in (run.root / "report.html").read_text(encoding="utf-8")
