"""UniVA's parts against slow readings of their equations, and its scores against what they are made of."""

from __future__ import annotations

import csv
import math

import mmcl_univa
import numpy as np
import pytest
import torch
from mmcl_univa import (
    FusionParams,
    LabelsParams,
    TableParams,
    WordsParams,
)
from mmcl_univa.affect import PUBLISHED, correlation, of_names, read_lexicon
from mmcl_univa.fusion import Fusion
from mmcl_univa.scorers import Labels, TableScores, TextRegressor

from mmcl.api import DataError, Encoded, SampleRef, Task, Words
from mmcl.testing import check_head, check_plugin, check_scorer
from mmcl.testing.corpora import real_data

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


def test_the_toolkits_own_checks_pass(tmp_path):
    results = check_plugin(mmcl_univa, tmp_path)
    assert {r.name for r in results} >= {"head univa-fusion", "scorer va-labels"}
    assert [(r.name, r.check, r.message) for r in results if r.passed is False] == []
    untried = {r.name for r in results if r.passed is None}
    assert untried <= {"scorer va-words", "scorer va-table"}


def specs(what):
    offered = []
    getattr(mmcl_univa, f"register_{what}")(offered.append)
    return offered


# ------------------------------------------------------------------------------------------------------------------ head


def head(**options):
    torch.manual_seed(0)
    task = Task("emotions", "multi-label", EMOTIONS)
    return Fusion(FusionParams(**options), task, {"text": 4, "audio": 3}).double()


@pytest.mark.parametrize("target", ["softmax", "normalised"])
@pytest.mark.parametrize("prior", ["on", "off", "reference"])
def test_the_loss_is_divergence_and_prior(target, prior):
    fusion = head(target=target, prior=prior, kl_weight=2.0, prior_weight=0.5)
    output = torch.randn(4, 6, dtype=torch.float64)
    labels = torch.tensor([[1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 1], [0.0] * 6, [math.nan] * 6], dtype=torch.float64)
    chances = [[math.exp(v) / math.fsum(map(math.exp, row)) for v in row] for row in output.tolist()]
    terms = []
    for row, chance in zip(labels.tolist()[:3], chances, strict=False):
        if target == "softmax":
            wanted = [math.exp(v) / math.fsum(map(math.exp, row)) for v in row]
        elif sum(row):
            wanted = [v / sum(row) for v in row]
        else:
            continue
        terms.append(math.fsum(w * math.log(w / c) for w, c in zip(wanted, chance, strict=True) if w))
    expected = 2.0 * math.fsum(terms) / len(terms)
    matrix = correlation([PUBLISHED[name] for name in EMOTIONS])
    if prior == "on":
        expected += 0.5 * np.mean(
            [math.fsum(matrix[j][k] * (c[j] - c[k]) ** 2 for j in range(6) for k in range(6)) for c in chances]
        )
    elif prior == "reference":
        logs = np.log(chances)
        expected += (
            0.5 * math.fsum(matrix[j][k] * np.linalg.norm(logs[:, j] - logs[:, k]) for j in range(6) for k in range(6)) / 4
        )
    assert (fusion.loss(output, labels) + fusion.penalty(output)).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_target_of_the_authors_is_as_reported():
    fusion = head()
    wanted, _ = fusion.distribution(
        torch.tensor([[1.0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]), torch.zeros(1, dtype=torch.float64)
    )
    np.testing.assert_allclose(wanted[:, [0, 5]].numpy(), [[0.352, 0.130], [0.288, 0.106]], atol=5e-4)


def test_it_says_yes_above_the_threshold_of_the_probability():
    fusion = head(threshold=0.18)
    output = torch.log(torch.tensor([[0.5, 0.19, 0.17, 0.1, 0.03, 0.01]], dtype=torch.float64))
    assert (fusion.decide(output) > 0).tolist() == [[True, True, False, False, False, False]]


def test_correlation_is_the_authors_matrix_on_their_values():
    """NRC-VAD's values for six emotions, stretched over each axis, give the printed matrix."""
    values = [(1, 0.735), (0.225, 0.333), (0.167, 0.865), (0.875, 0.875), (0.052, 0.775), (0.073, 0.840)]
    got = correlation(values)
    printed = {
        (0, 1): -0.850,
        (0, 2): -0.214,
        (0, 3): 0.884,
        (0, 4): -0.529,
        (0, 5): -0.372,
        (1, 2): -0.332,
        (1, 3): -0.998,
        (1, 4): 0.003,
        (1, 5): -0.172,
        (2, 3): 0.266,
        (2, 4): 0.942,
        (2, 5): 0.986,
        (3, 4): -0.072,
        (3, 5): 0.104,
        (4, 5): 0.985,
    }
    for (i, j), value in printed.items():
        assert got[i][j] == pytest.approx(value, abs=1.5e-3)
        assert got[j][i] == got[i][j]


def test_a_prior_over_unknown_names_is_refused_in_one_sentence():
    with pytest.raises(
        DataError, match="head univa-fusion, prior: valence and arousal of 'ennui' are not known without the NRC-VAD lexicon"
    ):
        Fusion(FusionParams(prior="on"), Task("m", "multi-label", ("ennui", "sad")), {"text": 4})


def test_missing_modalities_are_zeros():
    fusion = head()
    text, audio = torch.randn(2, 4, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    output = fusion({"audio": Encoded(audio), "text": Encoded(text)})
    torch.testing.assert_close(output, text @ fusion.project.weight[:, :4].T + fusion.project.bias)


def test_what_is_shown_is_the_prior_and_the_reference_as_it_has_drifted():
    (one,) = head(prior="on").show()
    assert (one.title, one.rows, one.columns) == ("Correlation of emotions", EMOTIONS, EMOTIONS)
    np.testing.assert_allclose(one.values, correlation([PUBLISHED[name] for name in EMOTIONS]), atol=1e-6)
    assert list(head(prior="off").show()) == []
    learned = head(prior="reference")
    before = np.array(learned.show()[0].values)
    torch.optim.SGD(learned.parameters(), 0.1).zero_grad()
    learned.loss(torch.randn(4, 6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)[:4]).backward()
    torch.optim.SGD(learned.parameters(), 0.1).step()
    np.testing.assert_allclose(learned.show()[0].values, before - 0.1 * learned.correlation.grad.numpy(), atol=1e-12)
    assert np.abs(np.array(learned.show()[0].values) - before).max() > 1e-3
    for prior in ("on", "off"):  # at a weight that leaves random labels to be learned
        check_head(specs("heads")[0], FusionParams(prior=prior, prior_weight=0.01))


# ---------------------------------------------------------------------------------------------------------------- scores


def ref(**targets):
    return SampleRef("a", "g", {}, targets)


def test_labels_are_placed_by_name_and_several_by_their_mean(tmp_path):
    tasks = {
        "emotion": Task("emotion", "single-label", ("happy", "sad")),
        "emotions": Task("emotions", "multi-label", EMOTIONS),
    }
    single = Labels(LabelsParams(), tasks)
    assert single(ref(emotion=1), None) == list(PUBLISHED["sad"])
    assert single(ref(), None) is None
    several = Labels(LabelsParams(task="emotions"), tasks)
    assert several(ref(emotions=[1, 0, 1, 0, 0, 0]), None) == pytest.approx(
        np.mean([PUBLISHED["happy"], PUBLISHED["anger"]], axis=0)
    )
    assert several(ref(emotions=[0] * 6), None) is None
    (tmp_path / "nrc.txt").write_text("Word\tValence\tArousal\tDominance\nhappy\t1.0\t0.735\t0.7\nsad\t0.225\t0.333\t0.1\n")
    measured = Labels(LabelsParams(lexicon=str(tmp_path / "nrc.txt")), tasks)
    assert measured(ref(emotion=0), None) == pytest.approx([1.0, 0.47])
    check_scorer(specs("scorers")[0], tasks=tasks)


def test_unknown_names_and_broken_lexicons_are_refused(tmp_path):
    with pytest.raises(ValueError, match="valence and arousal of 'ennui' are not known without the NRC-VAD lexicon"):
        of_names(("ennui",), "")
    with pytest.raises(DataError, match="cannot be read"):
        read_lexicon(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_text("happy\t1.0\t0.7\t0.7\nsad\tlow\t0.3\t0.1\n")
    with pytest.raises(DataError, match=r"bad.txt:2: 'low' or '0.3' is no number"):
        read_lexicon(tmp_path / "bad.txt")
    with pytest.raises(ValueError, match="has no labels 'mood'"):
        mmcl_univa.labels_task(LabelsParams(task="mood"), {})


def test_a_table_is_brought_to_our_scale(tmp_path):
    (tmp_path / "va.csv").write_text("id,valence,arousal\na,1,5\nb,3,2\n")
    table = TableScores(TableParams(file=str(tmp_path / "va.csv"), low=1, high=5))
    assert table(ref(), None) == [-1.0, 1.0]
    assert table(SampleRef("zzz", "g", {}, {}), None) is None
    with pytest.raises(DataError, match=r"va.csv:2: \[1.0, 5.0\] lies outside the scale of -1 to 1"):
        TableScores(TableParams(file=str(tmp_path / "va.csv")))


def test_a_table_that_names_a_recording_twice_is_refused_and_its_rows_are_counted(tmp_path):
    path = tmp_path / "va.csv"
    path.write_text("id,valence,arousal\na,1,0\nb,0,1\n")
    assert TableScores(TableParams(file=str(path))).facts["recordings that it names"] == 2
    path.write_text("id,valence,arousal\na,1,0\nb,0,1\na,0,0\n")
    with pytest.raises(DataError, match="va.csv:4: names 'a' a second time"):
        TableScores(TableParams(file=str(path)))


def test_neutral_is_in_the_middle_whatever_the_lexicon_says(tmp_path):
    """UniVA's authors set it by hand; the column that the paper's heat map has for M3ED follows from it."""
    (tmp_path / "nrc.txt").write_text("neutral\t0.469\t0.184\t0.357\nhappy\t1.0\t0.735\t0.7\n")
    assert of_names(("neutral", "happy"), str(tmp_path / "nrc.txt")) == [(0.0, 0.0), pytest.approx((1.0, 0.47))]
    names = (*EMOTIONS, "neutral")
    column = [row[-1] for row in correlation(of_names(names, ""))]
    assert column[:6] == pytest.approx([-0.558, 0.912, -0.691, -0.881, -0.409, -0.562], abs=2e-3)


def write_bank(path, rows=240):
    rng = np.random.default_rng(0)
    good, bad, calm, loud = ("love", "great", "happy"), ("hate", "awful", "sad"), ("quiet", "slow"), ("scream", "now", "fire")
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "split", "V", "A", "D", "text"])
        for i in range(rows):
            v, a = rng.integers(0, 2, 2)
            words = [rng.choice(good if v else bad), rng.choice(loud if a else calm), "the", "house"]
            rng.shuffle(words)
            out.writerow([i, ("train", "train", "dev", "test")[i % 4], 2 + 2 * v, 2 + 2 * a, 3, " ".join(words)])
    return path


def test_a_bank_beyond_its_scale_is_refused(tmp_path):
    path = tmp_path / "emobank.csv"
    path.write_text("id,split,V,A,D,text\n1,train,7,3,3,the house\n")
    with pytest.raises(DataError, match=r"emobank.csv:2: \[7.0, 3.0\] lies outside EmoBank's scale of 1 to 5"):
        TextRegressor(WordsParams(corpus=str(path)))


def test_a_regressor_learns_from_text_and_says_how_well(tmp_path):
    scorer = TextRegressor(WordsParams(corpus=str(write_bank(tmp_path / "emobank.csv"))))
    assert scorer.facts["r valence"] > 0.9
    assert scorer.facts["r arousal"] > 0.9
    happy = scorer(ref(), Words(("I", "love", "the", "great", "quiet", "house")))
    angry = scorer(ref(), Words(("awful", "fire", "scream")))
    assert happy[0] > 0.2 > -0.2 > angry[0]
    assert angry[1] > happy[1]
    assert scorer(ref(), Words((" ",))) is None
    (tmp_path / "bad.csv").write_text("id,split,V,A,text\n1,train,high,3,x\n")
    with pytest.raises(DataError, match=r"bad.csv:2: column 'V' is 'high'"):
        TextRegressor(WordsParams(corpus=str(tmp_path / "bad.csv")))


@pytest.mark.real
def test_on_emobank_it_reaches_what_is_asked():
    corpus = real_data("text/emobank.csv") / "text/emobank.csv"
    facts = TextRegressor(WordsParams(corpus=str(corpus))).facts
    assert facts["r valence"] >= 0.55
    assert facts["r arousal"] >= 0.30
