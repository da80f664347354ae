"""`mmcl sample`: tiny copies of corpora in their true format, and the command that tries a recipe on one."""

from __future__ import annotations

import shlex

import pytest

from mmcl.cli import main
from mmcl.plugins import plugins
from mmcl.recipe.planner import load_plan
from mmcl.recipe.shipped import find

CORPORA = [name for name, offer in plugins().all("dataset") if offer.spec.sample is not None and offer.spec.needs_root]


def sample(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["sample", *arguments])
    return int(done.value.code or 0)


@pytest.mark.parametrize("name", CORPORA)
def test_a_sample_is_read_by_its_dataset_where_data_would_lie(tmp_path, capsys, name):
    assert sample(name, str(tmp_path), "-n", "12") == 0
    assert "no score on them means anything" in capsys.readouterr().out
    spec = plugins().get("dataset", name).spec
    params = spec.params.model_validate({"table": "recordings.csv"} if name == "folder" else {})
    params = spec.complete(params, tmp_path / name) if spec.complete else params
    assert len(spec.build(params, tmp_path / name).samples()) > 1


def test_the_sample_of_a_recipe_has_the_files_that_its_options_read_and_says_how_to_try_it(tmp_path, capsys):
    assert sample("ravdess_actor_split", str(tmp_path), "-n", "12") == 0
    printed = capsys.readouterr().out
    words = shlex.split(printed.split("try it: ")[1])
    assert words[:3] == ["mmcl", "run", "ravdess_actor_split"]
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    plan = load_plan(find("ravdess_actor_split"), sets, tmp_path)
    assert plan.recipe.pretrain.epochs == 1
    spec = plan.dataset.spec
    sources = [one.sources for one in spec.build(plan.dataset.params, plan.root).samples()]
    assert sum({"audio", "openface", "video"} <= set(one) for one in sources) > 6
    frames = next(iter((tmp_path / "ravdess" / "OpenFace").glob("01-01-*.csv"))).read_text()
    assert frames.count("\n") > 60


def test_nothing_is_written_over_and_what_is_no_corpus_is_refused(tmp_path, capsys):
    (tmp_path / "meld").mkdir()
    (tmp_path / "meld" / "mine.csv").write_text("x")
    assert sample("meld", str(tmp_path)) == 2
    assert "is there already, and nothing is written over it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "meld").iterdir()] == ["mine.csv"]
    assert sample("toy", str(tmp_path)) == 2
    assert "makes its own data" in capsys.readouterr().err
    assert sample("ravdes", str(tmp_path)) == 2
    assert "did you mean 'ravdess'" in capsys.readouterr().err
