"""Recipes that derive from another: what is merged, what is replaced, and at which line of which file a mistake stands."""

from __future__ import annotations

import json
import typing
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mmcl.api import RecipeError
from mmcl.cli import main
from mmcl.recipe import schema
from mmcl.recipe.base import NULL_IS_A_VALUE
from mmcl.recipe.planner import load_plan, make_plan
from mmcl.recipe.read import as_yaml, parse_recipe, read_recipe
from mmcl.recipe.search import load_sweep
from mmcl.recipe.shipped import find, heading, names

WHOLE = """\
# The whole one
format: 1
name: whole
seed: [1, 2]
dataset: {use: toy, samples: 96}
modalities:
  words: {features: hashed-words, backbone: {use: mlp, hidden: [8], width: 8}}
  audio: {features: {use: log-mel, bands: 8}, backbone: tcn}
projection: {hidden: 256, width: 64}
pretrain:
  optimizer: {use: adamw, lr: 1e-2}
  batch_size: 16
  patience: 5
probe:
  heads: {linear: linear, late: late}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "whole.yaml").write_text(WHOLE)
    return tmp_path


def derived(folder: Path, changes: str, *overrides: str):
    (folder / "mine.yaml").write_text(f"format: 1\nbase: whole.yaml\nname: mine\n{changes}")
    return read_recipe(folder / "mine.yaml", overrides, "mine.yaml")


def problems(folder: Path, changes: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        make_plan(derived(folder, changes, *overrides))
    return str(error.value).splitlines()


# ------------------------------------------------------------------------------------------------------------- merging


def test_a_mapping_is_merged_key_by_key_and_base_itself_is_gone(folder):
    values = derived(folder, "pretrain: {batch_size: 32, epochs: 4}\nwindow: {seconds: 2}\n").values
    assert values["pretrain"] == {"optimizer": {"use": "adamw", "lr": 1e-2}, "batch_size": 32, "patience": 5, "epochs": 4}
    assert (values["name"], values["seed"], values["window"]) == ("mine", (1, 2), {"seconds": 2})
    assert "base" not in values
    assert list(values["modalities"]) == ["words", "audio"]


def test_a_list_is_replaced(folder):
    values = derived(folder, "seed: [7]\nmodalities: {words: {backbone: {hidden: [4, 4]}}}\n").values
    assert values["seed"] == (7,)
    assert values["modalities"]["words"]["backbone"] == {"use": "mlp", "hidden": (4, 4), "width": 8}


def test_null_takes_a_key_away_and_the_default_holds(folder):
    document = derived(folder, "pretrain: {batch_size: null, optimizer: null}\nprobe: {heads: {late: null}}\nseed: null\n")
    plan = make_plan(document)
    assert plan.recipe.pretrain.batch_size == schema.Pretrain().batch_size
    assert plan.recipe.pretrain.optimizer == schema.Sgd()
    assert (list(plan.heads), plan.seeds) == (["linear"], (0,))


def test_null_where_the_base_has_nothing_means_what_it_means_in_any_recipe(folder):
    assert make_plan(derived(folder, "worth: null\npretrain: {clip: null}\n")).recipe.worth is None
    assert problems(folder, "pretrain: {clipp: null}\n")[0].startswith("mine.yaml:4: pretrain.clipp: is not a key here")
    assert problems(folder, "modalities: {face: null}\n") == [
        "mine.yaml:4: modalities.face: is not there to be taken away; there are words, audio"
    ]


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ("{use: tcn, kernel: 5}", "{use: gru, width: 4}", {"use": "gru", "width": 4}),
        ("{use: tcn, kernel: 5}", "{use: tcn, dropout: 0}", {"use": "tcn", "kernel": 5, "dropout": 0}),
        ("{use: tcn, kernel: 5}", "{dropout: 0}", {"use": "tcn", "kernel": 5, "dropout": 0}),
        ("{use: tcn, kernel: 5}", "{kernel: null}", {"use": "tcn"}),
        ("{use: tcn, kernel: 5}", "tcn", {"use": "tcn", "kernel": 5}),
        ("{use: tcn, kernel: 5}", "gru", "gru"),
        ("tcn", "{dropout: 0}", {"use": "tcn", "dropout": 0}),
        ("tcn", "{use: gru, width: 4}", {"use": "gru", "width": 4}),
        ("tcn", "gru", "gru"),
    ],
)
def test_a_part_whose_use_changes_is_replaced_and_any_other_is_merged(lower, upper, expected, tmp_path):
    (tmp_path / "base.yaml").write_text(f"modalities:\n  audio:\n    backbone: {lower}\n")
    document = parse_recipe(f"base: base.yaml\nmodalities: {{audio: {{backbone: {upper}}}}}\n", "r.yaml", folder=tmp_path)
    assert document.values["modalities"]["audio"]["backbone"] == expected


def test_names_of_the_users_choice_may_be_called_use(tmp_path):
    (tmp_path / "base.yaml").write_text("probe: {heads: {use: linear, late: late}}\n")
    document = parse_recipe("base: base.yaml\nprobe: {heads: {use: mlp}}\n", "r.yaml", folder=tmp_path)
    assert document.values["probe"]["heads"] == {"use": "mlp", "late": "late"}


def test_null_stays_a_value_where_it_is_one(folder):
    assert make_plan(derived(folder, "projection: {hidden: null}\n")).recipe.projection.hidden is None
    assert make_plan(derived(folder, "projection: {hidden: null}\n")).recipe.projection.width == 64


def sections(model: type[BaseModel], at: tuple[str, ...] = ()) -> typing.Iterator[tuple[tuple[str, ...], typing.Any]]:
    for name, field in model.model_fields.items():
        yield (*at, name), field
        for one in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from sections(one, (*at, name))


def test_every_key_at_which_null_is_unlike_its_default_is_known():
    unlike = {
        key
        for key, field in sections(schema.Recipe)
        if type(None) in typing.get_args(field.annotation)
        and not field.is_required()
        and field.get_default(call_default_factory=True) is not None
    }
    assert unlike == NULL_IS_A_VALUE


def test_a_null_that_would_quietly_be_the_default_of_a_plug_in_is_refused(folder):
    part = "{use: transformer-batch-positions, heads: 4, output: 64}"
    (folder / "whole.yaml").write_text(WHOLE.replace("{use: mlp, hidden: [8], width: 8}", part))
    changes = "modalities: {words: {backbone: {output: null}}}\n"
    (line,) = problems(folder, changes)
    assert line.startswith("mine.yaml:4: modalities.words.backbone.output: null takes away what the base has")
    assert "the default, 512, would hold" in line
    plan = make_plan(derived(folder, changes, "modalities.words.backbone.output="))
    assert plan.modalities[0].backbone.params.output is None


# ---------------------------------------------------------------------------------------------------------- both files


def test_each_mistake_stands_at_its_line_of_its_file(folder):
    (folder / "whole.yaml").write_text(WHOLE.replace("bands: 8", "bands: 0").replace("patience: 5", "patience: 0"))
    lines = problems(folder, "pretrain:\n  batch_size: 1\n  epohcs: 4\n")
    assert [line.rsplit("/", 1)[-1].split(": ")[:2] for line in lines] == [
        ["mine.yaml:5", "pretrain.batch_size"],
        ["mine.yaml:6", "pretrain.epohcs"],
        ["whole.yaml:8", "modalities.audio.features.bands"],
        ["whole.yaml:13", "pretrain.patience"],
    ]
    assert lines[2].startswith(f"{Path('whole.yaml')}:8: "), "as the recipe names it, from where the recipe is named"


def test_a_missing_key_of_the_base_stands_at_the_line_that_took_it_away(folder):
    assert problems(folder, "\nmodalities:\n  audio:\n    backbone: null\n") == [
        "mine.yaml:7: modalities.audio.backbone: is missing"
    ]
    assert problems(folder, "dataset: null\n") == ["mine.yaml:4: dataset: is missing"]


def test_a_replaced_part_has_no_line_of_the_base_left(folder):
    lines = problems(
        folder, "modalities:\n  audio:\n    features: {use: log-mel, mean: x}\n    backbone: {use: mlp, hiddn: [1]}\n"
    )
    assert [line.split(": ")[0] for line in lines] == ["mine.yaml:6", "mine.yaml:7"]


def test_problems_of_form_in_both_files_are_told_at_once(folder):
    (folder / "whole.yaml").write_text("format: 1\nseed: 1\nseed: 2\n")
    assert problems(folder, "about: !x 1\n") == [
        "mine.yaml:4: about: has a tag (!…); recipes have no tags",
        "whole.yaml:3: seed: is given twice (first on line 2)",
    ]


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("mosei_4mdo", "base: unknown recipe 'mosei_4mdo'; did you mean 'mosei_4mod'"),
        ("nowhere.yaml", "base: nowhere.yaml: there is no such file"),
        ("quickstart.yaml", "there is no such file here; the shipped recipe is called 'quickstart'"),
        (".", "base: .: is a folder; name a recipe's file"),
        ("[whole.yaml]", "base: must be the name of a shipped recipe, or a file relative to this one"),
        ("", "base: must be the name of a shipped recipe, or a file relative to this one"),
        ("latin.yaml", "base: latin.yaml:1: is not UTF-8 text (byte 3)"),
        ("empty.yaml", "empty.yaml:1: is empty; a recipe starts with 'format: 1'"),
        ("univa_m3ed_plain", "base: 'univa_m3ed_plain' derives from 'univa_m3ed' itself; a base is a whole recipe"),
        ("self.yaml", "base: 'self.yaml' derives from 'self.yaml' itself"),
        ("other.yaml", "base: 'other.yaml' derives from 'self.yaml' itself"),
    ],
)
def test_a_base_that_cannot_be_taken_is_refused_in_a_sentence(base, sentence, folder):
    (folder / "latin.yaml").write_bytes(b"a: \xe9\n")
    (folder / "empty.yaml").write_text("")
    (folder / "other.yaml").write_text("format: 1\nbase: self.yaml\n")
    (folder / "self.yaml").write_text(f"format: 1\nbase: {base}\n")
    with pytest.raises(RecipeError) as error:
        read_recipe(folder / "self.yaml", (), "self.yaml")
    assert sentence in str(error.value)
    if "base:" in sentence:
        assert str(error.value).startswith("self.yaml:2: ")


# ------------------------------------------------------------------------------------------- what is laid over both of them


def test_overrides_and_presets_are_laid_over_the_merged_recipe(folder):
    document = derived(
        folder, "pretrain: {batch_size: 32}\n", "pretrain.batch_size=4", "modalities.words=", "pretrain.patience="
    )
    assert (document.values["pretrain"]["batch_size"], list(document.values["modalities"])) == (4, ["audio"])
    assert document.values["pretrain"]["patience"] is None
    assert problems(folder, "", "pretrain.patience=0")[0].startswith("--set: pretrain.patience: must be greater")
    assert problems(folder, "", "base=quickstart") == [
        "--set: base: cannot be set: what a recipe derives from is read before anything is laid over it"
    ]


@pytest.mark.parametrize(("mark", "end"), [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_byte_order_marks_and_line_ends_of_either_file_change_nothing(mark, end, folder):
    plain = derived(folder, "pretrain: {epochs: 2}\n")
    for name in ("whole.yaml", "mine.yaml"):
        text = (folder / name).read_text()
        (folder / name).write_bytes((mark + text.replace("\n", end)).encode())
    marked = read_recipe(folder / "mine.yaml", (), "mine.yaml")
    assert marked.values == plain.values
    assert marked.places == plain.places


# ---------------------------------------------------------------------------------------------------------- written out whole


def test_a_recipe_without_base_is_kept_as_written():
    text = "# mine\nformat: 1   # of one\n"
    assert parse_recipe(text, "r.yaml").whole == text


def test_a_derived_recipe_is_kept_whole_with_what_it_derives_from_at_its_head(folder):
    document = derived(folder, "pretrain: {epochs: 2}\n", "seed=4")
    assert "# Written out whole: what it changes of whole.yaml is in it" in document.whole
    again = parse_recipe(document.whole, "r.yaml").values
    assert (again["pretrain"]["epochs"], again["seed"]) == (2, (1, 2)), "overrides stand apart, in plan.json"
    assert set(yaml.safe_load(document.whole)) == set(again)


def test_a_file_of_folds_is_taken_from_the_folder_of_the_recipe_that_names_it(folder):
    (folder / "inner").mkdir()
    for name, fold in (("whole", "a"), ("inner/mine", "b")):
        (folder / f"{name}.csv").write_text(f"group,fold\n{fold}1,0\n{fold}2,1\n")
    (folder / "whole.yaml").write_text(WHOLE + "protocol: {use: folds, file: whole.csv}\n")
    (folder / "inner" / "mine.yaml").write_text("format: 1\nbase: ../whole.yaml\nname: mine\n")
    assert set(load_plan(folder / "inner" / "mine.yaml").fold_of) == {"a1", "a2"}
    assert set(load_plan(folder / "inner" / "mine.yaml", ["protocol.file=mine.csv"]).fold_of) == {"b1", "b2"}


def resolved(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments, "--resolved"])
    out = capsys.readouterr()
    assert not ended.value.code, out.err
    return out.out


@pytest.mark.parametrize("name", names())
def test_check_resolved_prints_a_recipe_of_the_same_plan(name, tmp_path, capsys):
    text = resolved(capsys, name, "--data", str(tmp_path))
    (tmp_path / "copy.yaml").write_text(text)
    plan, again = (load_plan(path, data=tmp_path).to_json() for path in (find(name), tmp_path / "copy.yaml"))
    if "file" in plan["protocol"]:  # found from anywhere, where it is printed
        assert Path(again["protocol"]["file"]) == find(name).parent / plan["protocol"]["file"]
        again["protocol"]["file"] = plan["protocol"]["file"]
    assert json.dumps(again) == json.dumps(plan), "the order of names too"
    assert "\nbase:" not in text
    assert heading(tmp_path / "copy.yaml") == heading(find(name))


def test_check_resolved_holds_what_is_laid_over_it(folder, capsys):
    derived(folder, "seed: 3\n")
    text = resolved(capsys, str(folder / "mine.yaml"), "--set", "modalities.words=", "--set", "pretrain.epochs=0")
    assert "# Laid over it: modalities.words=; pretrain.epochs=0" in text
    assert list(parse_recipe(text, "r.yaml").values["modalities"]) == ["audio"]


def test_check_prints_one_thing_at_a_time(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", "quickstart", "--resolved", "--json"])
    assert ended.value.code == 2
    assert "give one of the two" in capsys.readouterr().err


PLAIN = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)


@given(st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=4), inner)))
def test_what_is_written_in_short_lines_reads_back_as_the_same_values(value):
    text = as_yaml({"a": value}, flow=None)
    assert parse_recipe(text, "r.yaml").values == {"a": value}


# --------------------------------------------------------------------------------------------------------- schema and sweeps


def test_a_sweep_of_a_derived_recipe_reads_its_base_once(folder):
    derived(folder, "sweep: {space: {pretrain.batch_size: [4, 8]}, sampler: grid}\n")
    search = load_sweep(folder / "mine.yaml")
    (folder / "whole.yaml").unlink()
    assert search.plan_of({"pretrain.batch_size": 8}).recipe.pretrain.batch_size == 8
    best = search.recipe_of({"pretrain.batch_size": 8}, "best", "the best")
    assert make_plan(parse_recipe(best, "best.yaml")).recipe.pretrain.patience == 5
    (folder / "whole.yaml").write_text(WHOLE)
    derived(folder, "sweep: {space: {pretrain.batch_size: [1]}}\n")
    with pytest.raises(RecipeError, match=r"mine.yaml:4: sweep.space.pretrain.batch_size: with 1: must be"):
        load_sweep(folder / "mine.yaml", name="mine.yaml")


@pytest.mark.slow
def test_a_run_folder_of_a_derived_recipe_runs_again_without_its_base(tmp_path):
    from mmcl.report import run_and_report
    from mmcl.review.audit import audit
    from mmcl.review.rerun import differences, plan_of
    from mmcl.runs import RunFolder

    small = WHOLE.replace("samples: 96", "samples: 96, speakers: 12").replace("patience: 5", "epochs: 2")
    (tmp_path / "whole.yaml").write_text(small)
    (tmp_path / "mine.yaml").write_text("format: 1\nbase: whole.yaml\nname: mine\nseed: 3\nwindow: {seconds: 0.8}\n")
    sets = ("pretrain.batch_size=8", "probe.heads.late=")
    first = RunFolder(tmp_path / "runs" / "mine")
    run_and_report(load_plan(tmp_path / "mine.yaml", sets), first, workers=1)
    (tmp_path / "whole.yaml").unlink()
    (tmp_path / "mine.yaml").unlink()

    before = {path: path.stat().st_mtime_ns for path in first.root.rglob("finished.json")}
    run_and_report(plan_of(first.root), first, workers=1)  # resumed: nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in first.root.rglob("finished.json")} == before
    second = RunFolder(tmp_path / "runs" / "again")
    run_and_report(plan_of(first.root), second, workers=1)
    repeated = differences(first.root, second.root)
    assert (repeated.differences, repeated.other_weights) == ((), ())
    assert audit(first).left_out == {}
