"""What the docs show is what the code does."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from mmcl.plugins import plugins
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "papers").glob("*.md")),
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
    package = tmp_path / "mmcl_gru"
    package.mkdir()
    light, network, test = blocks(page, "python")
    (package / "__init__.py").write_text(light)
    (package / "network.py").write_text(network)
    monkeypatch.syspath_prepend(str(tmp_path))
    import mmcl_gru  # written above

    check_backbone(mmcl_gru.GRU)
    assert "check_backbone(GRU)" in test
    for name in [n for n in sys.modules if n.startswith("mmcl_gru")]:
        del sys.modules[name]


def test_dataset_of_the_tutorial_lists_and_reads(tmp_path):
    import numpy as np
    import soundfile

    from mmcl.testing import check_dataset

    text, test = blocks(ROOT / "docs" / "write-a-dataset.md", "python")
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


def test_reference_pages_name_every_built_in_and_every_key(monkeypatch, tmp_path):
    module = runpy.run_path(str(ROOT / "docs" / "build.py"))
    page = module["plugins_page"]()
    for what in ("backbone", "modality", "loss", "dataset", "head"):
        for name, _ in plugins().all(what):
            assert f"### {name}" in page
    assert "`temperature`" in page
    assert "`patience`" in module["recipe_page"]()
    assert "## mmcl run" in module["commands_page"]()
