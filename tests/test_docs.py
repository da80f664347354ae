"""What the docs show is what the code does."""

from __future__ import annotations

import importlib
import itertools
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mmcl.plugins import plugins
from mmcl.recipe import schema
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "papers").glob("*.md")),
    *sorted((ROOT / "docs" / "api").glob("*.md")),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


RECIPES = [(page, text) for page in PAGES for text in blocks(page, "yaml") if text.startswith("format:")]


@pytest.mark.parametrize(("page", "text"), RECIPES, ids=lambda v: v.name if isinstance(v, Path) else "")
def test_every_recipe_in_the_docs_is_sound(page, text):
    make_plan(parse_recipe(text, page.name), Path("data"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_in_the_docs_exists(page):
    from mmcl.cli import COMMANDS

    for name in re.findall(r"^ {4}(?:\$ )?mmcl ([a-z-]+)", page.read_text(encoding="utf-8"), re.M):
        assert name in COMMANDS, f"{page.name} shows 'mmcl {name}'"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_make_target_in_the_docs_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for name in re.findall(r"^ {4}make ([a-z]+)", page.read_text(encoding="utf-8"), re.M):
        assert name in targets


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("reference/") and "docs/reference/" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_backbone_of_the_tutorial_passes_the_checks_it_names(tmp_path, monkeypatch):
    from mmcl.testing import check_backbone

    page = ROOT / "docs" / "write-a-backbone.md"
    package = tmp_path / "mmcl_lstm"
    package.mkdir()
    light, network, test = blocks(page, "python")
    (package / "__init__.py").write_text(light)
    (package / "network.py").write_text(network)
    monkeypatch.syspath_prepend(str(tmp_path))
    import mmcl_lstm  # written above

    check_backbone(mmcl_lstm.LSTM)
    assert "check_backbone(LSTM)" in test
    for name in [n for n in sys.modules if n.startswith("mmcl_lstm")]:
        del sys.modules[name]


def test_arrow_dataset_of_its_page_is_read_as_its_recipe_says(tmp_path, monkeypatch):
    import numpy as np
    import yaml

    from mmcl.media import write_audio

    page = ROOT / "docs" / "your-own-data.md"
    monkeypatch.chdir(tmp_path)
    for p, mood, i in itertools.product(range(1, 8), ("happy", "sad"), (1, 2)):
        write_audio(Path(f"study/speaker{p}/{mood}/0{i}.wav"), np.full(800, 0.01 * p), 8000)
    (script,) = blocks(page, "python")
    exec(compile(script, page.name, "exec"), {})
    (options,) = [text for text in blocks(page, "yaml") if "use: hub-arrow" in text]
    options = yaml.safe_load(options)["dataset"]
    spec = plugins().get("dataset", options.pop("use")).spec
    root = Path(options.pop("root"))
    params = spec.complete(spec.params(**options), root)
    dataset = spec.build(params, root)
    refs = dataset.samples()
    assert [ref.split for ref in refs] == ["train"] * 20 + ["test"] * 8
    assert {ref.group for ref in refs} == {f"speaker{p}" for p in range(1, 8)}
    info = spec.info(params)
    assert (set(info.sources), info.tasks["emotion"].classes) == ({"voice", "wrist"}, ("happy", "sad"))
    voice, wrist = (dataset.read(refs[-1].id, source) for source in ("voice", "wrist"))
    assert (voice.rate, len(voice.samples)) == (8000, 800)
    assert voice.samples == pytest.approx(0.07, abs=1e-4)
    assert (wrist.rate, wrist.values.shape) == (50, (50, 3))


def test_group_loss_of_its_page_keeps_the_contract():
    text, test = blocks(ROOT / "docs" / "group-losses.md", "python")
    scope: dict = {}
    exec(compile(text + test, "group-losses.md", "exec"), scope)
    scope["test_centre_keeps_the_contract"]()


WRITTEN = re.compile(r"^`((?:mmcl_\w+|tests)/\w+\.py)`[^\n]*\n\n```python\n(.*?)```", re.M | re.S)
"""A file of a package on a page: its path in backticks, and what stands in it."""
WHOLE = [page for page in sorted((ROOT / "docs").glob("write-*.md")) if "`tests/" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", WHOLE, ids=lambda page: page.stem)
def test_package_of_a_page_passes_the_tests_that_the_page_shows(page, tmp_path, monkeypatch):
    from mmcl.testing import check_spec

    files = dict(WRITTEN.findall(page.read_text(encoding="utf-8")))
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    package = next(path.split("/")[0] for path in files if path.endswith("__init__.py"))
    offered = [hook for hook in vars(importlib.import_module(package)).items() if hook[0].startswith("register_")]
    for _, hook in offered:
        hook(check_spec)  # in place of the registry
    assert offered
    (test,) = [text for path, text in files.items() if path.startswith("tests/")]
    scope: dict = {}
    exec(compile(test, page.name, "exec"), scope)
    tests = [check for name, check in scope.items() if name.startswith("test_")]
    for check in tests:
        check()
    assert tests
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        del sys.modules[name]


def test_every_kind_of_plugin_has_a_page_with_a_whole_example():
    from mmcl.api import hooks

    page_of_hooks = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    for hook in [name for name in vars(hooks) if name.startswith("register_")]:
        (row,) = re.findall(rf"^\| `{hook}` \| .+$", page_of_hooks, re.M)
        (page,) = re.findall(r"\[how\]\(([\w-]+\.md)(?:#[\w-]+)?\)", row)
        assert f"def {hook}(register):" in (ROOT / "docs" / page).read_text(encoding="utf-8")


def test_kind_of_its_page_is_sound():
    from mmcl.testing import check_spec

    (text,) = [text for text in blocks(ROOT / "docs" / "write-a-modality.md", "python") if "register_kinds" in text]
    scope: dict = {}
    exec(compile(text, "write-a-modality.md", "exec"), scope)
    check_spec(scope["BANDS"])


def test_dataset_of_the_tutorial_lists_and_reads(tmp_path):
    import numpy as np
    import soundfile

    from mmcl.testing import check_dataset

    text, _, test = blocks(ROOT / "docs" / "write-a-dataset.md", "python")
    assert "check_dataset(WRIST, tmp_path)" in test
    scope: dict = {}
    exec(compile(text, "write-a-dataset.md", "exec"), scope)
    (tmp_path / "index.csv").write_text("id,person,mood\nr1,ann,tense\nr2,bob,calm\n")
    soundfile.write(tmp_path / "r1.wav", np.zeros(800, np.float32), 16000)
    (tmp_path / "r2.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    spec = scope["WRIST"]
    check_dataset(spec, tmp_path / "made")
    dataset = spec.build(spec.params(), tmp_path)
    first, second = dataset.samples()
    assert (set(first.sources), set(second.sources)) == ({"audio"}, {"wrist"})
    assert dataset.read("r1", "audio").rate == 16000
    np.testing.assert_array_equal(dataset.read("r2", "wrist").values, [[1, 2, 3], [4, 5, 6]])


def test_films_of_the_tutorial_keep_the_contract(tmp_path):
    from mmcl.testing import check_dataset

    _, text, _ = blocks(ROOT / "docs" / "write-a-dataset.md", "python")
    scope: dict = {"__name__": "films_of_a_page"}
    exec(compile(text, "write-a-dataset.md", "exec"), scope)
    check_dataset(scope["CLIPS"], tmp_path)
    root = tmp_path / "again"
    scope["write_sample"](root, 6, 0)
    dataset = scope["Clips"](root)
    refs = dataset.samples()
    assert {ref.group for ref in refs} == {f"p{i}" for i in range(6)}
    assert dataset.read(refs[0].id, "film").frames.shape == (10, 3, 48, 64)
    assert {dataset.read(ref.id, "film").rate for ref in refs} == {10.0, 11.0, 12.0}  # their own, as the page says
    assert len(dataset.read(refs[0].id, "voice").samples) >= 16_000 * 0.9


def test_features_of_arrays_of_ones_own_come_from_the_module_as_the_start_page_says(tiny_run):
    import torch

    from mmcl import load_encoders

    (text,) = blocks(ROOT / "docs" / "start.md", "python")
    encoders = load_encoders(next(path for _, _, path in tiny_run.units("pretrain")))
    channels = encoders["audio"].layout.sizes["channel"]
    scope: dict = {"encoders": encoders}
    exec(compile(text.replace("120, 40)", f"120, {channels})"), "start.md", "exec"), scope)
    assert scope["vectors"].shape == (3, encoders["audio"].width)
    stream = scope["Stream"](scope["values"][1:2, :75], scope["steps"][1:2, :75], torch.ones(1, dtype=torch.bool))
    with torch.no_grad():  # alone, and without its padding
        torch.testing.assert_close(
            encoders["audio"].backbone(encoders["audio"].normalise(stream)).vector, scope["vectors"][1:2]
        )


def test_the_catalogue_names_the_built_ins_and_what_its_file_says():
    import tomllib

    import yaml

    page = runpy.run_path(str(ROOT / "docs" / "build.py"))["catalogue_page"]()
    for what in ("backbone", "group-loss", "dataset", "scorer"):
        for name, _ in plugins().all(what):
            assert f"| `{name}` | mmcl |" in page
    for one in yaml.safe_load((ROOT / "docs" / "catalogue.yaml").read_text())["packages"]:
        assert f"| {one['package']} | {one['licence']} | {one['home']} |" in page
        if (ROOT / one["home"]).is_dir():
            assert tomllib.loads((ROOT / one["home"] / "pyproject.toml").read_text())["project"]["name"] == one["package"]


def test_reference_pages_name_every_built_in_and_every_key(monkeypatch, tmp_path):
    module = runpy.run_path(str(ROOT / "docs" / "build.py"))
    page = module["plugins_page"]()
    for what in ("backbone", "modality", "loss", "dataset", "head"):
        for name, _ in plugins().all(what):
            assert f"### {name}" in page
    assert "`temperature`" in page
    recipe = module["recipe_page"]()
    assert "`patience`" in recipe
    assert "\n## worth\n" in recipe
    assert not re.search(r"\b(Union|Literal)\b", recipe)
    kinds = [row.split(" | ")[1] for row in recipe.splitlines() if row.startswith("| `")]
    assert len(kinds) > 100
    assert not [kind for kind in kinds if re.search(r"Union|Literal|Annotated|Optional|\[|any value|NoneType", kind)]
    for section in vars(schema).values():
        if (
            isinstance(section, type)
            and issubclass(section, schema.Section)
            and section.__module__ == schema.__name__
            and section is not schema.Section
        ):
            assert not section.__doc__ or section.__doc__.strip() in recipe, section.__name__
    assert "## mmcl run" in module["commands_page"]()


HOUSE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:mmcl|plugins|recipes|docs|tests|benchmarks)/[^` ]*)`", HOUSE)))


@pytest.mark.parametrize("path", PATHS)
def test_page_of_the_house_names_what_is_there(path):
    assert (ROOT / path).exists()


def test_arrows_on_the_page_of_the_house_are_those_that_the_layers_are_held_to():
    below = runpy.run_path(str(ROOT / "tests" / "test_layers.py"))["BELOW"]
    rows = re.findall(r"^\| `(mmcl/[^`]+)` \| .+ \| ([^|]+) \|$", HOUSE, re.M)
    names = {"__init__": "mmcl"}  # the row of mmcl/__init__.py
    arrows = {names.get(Path(room).stem, Path(room).stem): set(re.findall(r"\w+", imports)) for room, imports in rows}
    assert arrows == below


def test_light_rooms_on_the_page_of_the_house_are_held_to_it():
    light = runpy.run_path(str(ROOT / "tests" / "test_layers.py"))["LIGHT"]
    (sentence,) = re.findall(r"circle\. ([^|]+?) import no torch", HOUSE)
    rooms = {Path(room).stem for room in re.findall(r"`([^`]+)`", sentence)}
    assert rooms
    assert rooms <= light


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = re.findall(r"^ +- (\S+\.md)$", text, re.M)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert set(pages) <= set(shown)
    assert len(shown) == len(set(shown))


def test_site_builds_strictly_and_shows_every_public_name(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason="the site needs pip install 'mmcl[docs]'")
    import mmcl
    import mmcl.api
    import mmcl.media
    import mmcl.testing

    runpy.run_path(str(ROOT / "docs" / "build.py"))["main"]()
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    elsewhere = {"mmcl.api.Field", "mmcl.api.hookspec", "mmcl.__version__"}  # said in words, or no part of the reference
    modules = {"mmcl": mmcl, "contract": mmcl.api, "media": mmcl.media, "testing": mmcl.testing}
    for page, module in modules.items():
        html = (tmp_path / "api" / f"{page}.html").read_text(encoding="utf-8")
        for name in {f"{module.__name__}.{name}" for name in module.__all__} - elsewhere:
            assert f'id="{name}"' in html, f"{page}.html does not show {name}"
        assert not re.search(r'id="mmcl[\w.]*\._(?!_)', html), "a private name is shown"


def test_docstrings_keep_their_columns_and_their_marks():
    pytest.importorskip("griffe", reason="the site needs pip install 'mmcl[docs]'")
    shown = runpy.run_path(str(ROOT / "docs" / "prose.py"))["shown"]
    assert shown("A path, `a_b`.\n\nset   overrides\ndata  folder\n       of data") == (
        "A path, `a_b`.\n\n```text\nset   overrides\ndata  folder\n       of data\n```"
    )
    assert shown("float32 [n], a * b, an_id") == r"float32 \[n\], a \* b, an\_id"
