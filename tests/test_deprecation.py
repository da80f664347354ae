"""What will go is said one release ahead: to the author of a plug-in and to whoever writes a recipe, once, with what to write in its place."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

import mmcl.api
from mmcl.api import Deprecated, Deprecation, Params
from mmcl.api.deprecation import deprecated_names
from mmcl.api.hooks import hookspec
from mmcl.cli import cli
from mmcl.plugins import DEPRECATED_NAMES, OURS, load, plugins
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.recipe.slots import Section
from mmcl.testing import check_plugin, check_spec

LIGHT = """
from typing import ClassVar

from mmcl import api as contract
from mmcl.api import Deprecated, Field, LossSpec, ModalitySpec, Layout, Params, hookimpl


class Options(Params):
    DEPRECATED: ClassVar = {"heat": Deprecated("acme 1.1", "acme 2.0", "write `temperature`")}
    heat: float | None = Field(None, gt=0, description="what temperature was called")
    temperature: float = Field(0.1, gt=0, description="of the softmax")


def build(params):
    from .heavy import Loss

    return Loss()


@hookimpl
def register_losses(register):
    register(LossSpec("acme-nce", "a loss of a stranger", Options, build))


@hookimpl
def register_modalities(register):
    register(ModalitySpec("acme-waves", "waves", ("sequence",), Options, lambda p, s: Layout("signal", ("time", "channel"), {"channel": 1}, 1.0), build, version=3))
"""
HEAVY = "import mmcl.api\n\n\nclass Loss:\n    mark = mmcl.api.hookspec\n"
RECIPE = """\
format: 1
name: mine
dataset: toy
modalities:
  text: {features: {use: hashed-words}, backbone: {use: mlp}}
  audio: {features: {use: log-mel}, backbone: {use: tcn}}
pretrain:
  objective:
    loss:
      use: acme-nce
      heat: 0.2
probe: {tasks: [emotion]}
"""


def write_acme(folder, heavy=HEAVY):
    """A stranger's package, installed into a folder."""
    package = folder / "acme"
    package.mkdir()
    (package / "__init__.py").write_text(LIGHT)
    (package / "heavy.py").write_text(heavy)
    info = folder / "mmcl_acme-1.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmcl-acme\nVersion: 1.1\n")
    (info / "entry_points.txt").write_text("[mmcl]\nacme = acme\n")
    (info / "top_level.txt").write_text("acme\n")


@pytest.fixture
def acme(tmp_path, monkeypatch):
    write_acme(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


def loaded(folder):
    (dist,) = importlib.metadata.distributions(path=[str(folder)])
    return load(dist.entry_points)


NAME = (
    "plug-in 'acme' (package mmcl-acme 1.1): mmcl.api.hookspec (acme/heavy.py line 5) is deprecated since contract 1.3 and goes with contract "
    "2.0: leave it out; hooks are declared by mmcl alone, and `hookimpl` is all that offers something"
)
FIELD = (
    "plug-in 'acme' (package mmcl-acme 1.1): ModalitySpec.version (modality 'acme-waves') is deprecated since contract 1.3 and goes with "
    "contract 2.0: leave it out; a change of the package's files is noticed by itself"
)


def test_author_is_told_of_a_name_in_a_heavy_file_and_of_a_field_of_a_spec_each_in_one_sentence(acme):
    (one,) = loaded(acme).loaded
    assert one.failure is None
    assert one.deprecations == (FIELD, NAME)
    assert "acme.heavy" not in sys.modules  # its files are read, and not imported


@pytest.mark.parametrize(
    "use",
    [
        "from mmcl.api import hookspec",
        "from mmcl.api import hookimpl, hookspec as declare",
        "import mmcl.api\nmmcl.api.hookspec",
        "import mmcl.api as contract\ncontract.hookspec",
        "from mmcl import api\napi.hookspec",
        "def late():\n    from mmcl.api import hookspec",
    ],
)
def test_a_name_is_seen_in_whatever_way_it_is_written(tmp_path, monkeypatch, use):
    from mmcl.installed import names_used

    (tmp_path / "planted_use.py").write_text(use)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(names_used("planted_use", DEPRECATED_NAMES)) == ["mmcl.api.hookspec"]


def test_another_librarys_name_of_that_kind_is_no_use(tmp_path, monkeypatch):
    from mmcl.installed import names_used

    (tmp_path / "planted_none.py").write_text(
        "import pluggy\nfrom mmcl.api import hookimpl\nhookspec = pluggy.HookspecMarker('x')\nhookspec"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert names_used("planted_none", DEPRECATED_NAMES) == {}


def test_check_plugin_says_it_and_goes_on_to_pass(acme):
    results = check_plugin("acme")
    told = [one for one in results if one.check == "uses nothing that will go"]
    assert [(one.passed, one.message) for one in told] == [(True, FIELD), (True, NAME)]


def test_commands_say_it_once_and_without_a_traceback(acme, tmp_path):
    (tmp_path / "mine.yaml").write_text(RECIPE)
    env = {"PYTHONPATH": str(acme), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "mmcl", "check", "mine.yaml"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    key = "pretrain.objective.loss.heat"
    assert done.stderr.splitlines() == [
        f"mmcl: mine.yaml:11: {key} is deprecated since acme 1.1 and goes with acme 2.0: write `temperature`",
        f"mmcl: {FIELD}; and 1 more ('mmcl plugins' lists them)",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mmcl", "plugins", "--json"], env=env, capture_output=True, text=True, check=True
    )
    rows = {one["plugin"]: one["deprecated"] for one in json.loads(done.stdout)}
    assert rows.pop("acme") == [FIELD, NAME]
    assert not any(rows.values())


def test_no_built_in_uses_what_will_go():
    ours = [one for one in plugins().loaded if one.package == OURS]
    assert ours
    assert [sentence for one in ours for sentence in one.deprecations] == []


def test_a_section_of_a_recipe_and_its_schema_say_what_will_go(monkeypatch):
    from mmcl.recipe.schema import Recipe, Window

    monkeypatch.setattr(Window, "DEPRECATED", {"hop": Deprecated("mmcl 0.2", "mmcl 0.3", "write `step`")})
    text = RECIPE.partition("pretrain:")[0]
    given = parse_recipe(f"{text}window: {{seconds: 2, hop: 1}}\n", "a.yaml")
    (sentence,) = make_plan(given).outdated
    assert sentence == "a.yaml:7: window.hop is deprecated since mmcl 0.2 and goes with mmcl 0.3: write `step`"
    assert make_plan(parse_recipe(f"{text}window: {{seconds: 2}}\n", "a.yaml")).outdated == ()
    over = parse_recipe(text, "a.yaml", ["window.seconds=2", "window.hop=1"])
    assert make_plan(over).outdated == ("--set: window.hop is deprecated since mmcl 0.2 and goes with mmcl 0.3: write `step`",)
    Recipe.model_rebuild(force=True)
    Window.model_rebuild(force=True)
    assert Window.model_json_schema()["properties"]["hop"]["deprecated"] is True
    assert "deprecated" not in Window.model_json_schema()["properties"]["seconds"]


def test_an_option_is_marked_where_it_is_described(acme, monkeypatch):
    from mmcl.cli import describe

    module = importlib.import_module("acme")
    rows = {row["name"]: row for row in describe._options(module.Options)}
    assert rows["heat"]["description"].endswith(
        "(this is deprecated since acme 1.1 and goes with acme 2.0: write `temperature`)"
    )
    assert module.Options.model_json_schema()["properties"]["heat"]["deprecated"] is True


def test_a_deprecated_name_works_and_warns_whoever_uses_it():
    with pytest.warns(Deprecation, match="mmcl.api.hookspec is deprecated since contract 1.3") as told:
        from mmcl.api import hookspec as old
    assert old is hookspec
    assert {one.filename for one in told} == {__file__}
    with pytest.raises(AttributeError, match="no attribute 'certainly_not'"):
        _ = mmcl.api.certainly_not


def test_checks_of_a_spec_warn_its_author(acme):
    module = importlib.import_module("acme")
    specs = []
    module.register_modalities(specs.append)
    with pytest.warns(Deprecation, match="ModalitySpec.version of modality 'acme-waves'"):
        check_spec(specs[0])


def test_a_hook_that_will_go_is_told_and_still_called(acme, monkeypatch):
    from mmcl import plugins as module
    from mmcl.api import hooks

    going = Deprecation("", Deprecated("contract 1.9", "contract 2.0", "offer scores instead"))
    monkeypatch.setattr(hooks, "register_losses", hookspec(warn_on_impl=going)(lambda register: None))
    hooks.register_losses.__name__ = "register_losses"
    module._manager.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (one,) = loaded(acme).loaded
    finally:
        monkeypatch.undo()
        module._manager.cache_clear()
    assert [offer.name for offer in one.offers] == ["acme-waves", "acme-nce"]
    assert one.deprecations[0].endswith(
        "hook register_losses is deprecated since contract 1.9 and goes with contract 2.0: offer scores instead"
    )


def every_deprecation():
    """Each of ours: its place, and what is said of it."""
    for module, table in DEPRECATED_NAMES.items():
        yield from ((f"{module}.{name}", one) for name, (_, one) in table.items())
    for name in mmcl.api.__all__:
        yield from (
            ((f"mmcl.api.{name}.{field}", one) for field, one in vars(getattr(mmcl.api, name)).get("DEPRECATED", {}).items())
            if isinstance(getattr(mmcl.api, name), type)
            else ()
        )
    sections = [Section, Params]
    for section in sections:
        sections += section.__subclasses__()
        if section.__module__.startswith("mmcl"):
            yield from ((f"{section.__qualname__}.{field}", one) for field, one in vars(section).get("DEPRECATED", {}).items())


def test_each_of_ours_goes_with_a_later_release_than_the_one_that_says_so():
    known = dict(every_deprecation())
    assert {"mmcl.api.hookspec", "mmcl.api.ModalitySpec.version"} <= set(known)
    for what, one in known.items():
        (kind, since), (other, gone) = one.since.split(" "), one.gone.split(" ")
        assert kind == other, what
        numbers = [tuple(int(part) for part in version.split(".")) for version in (since, gone)]
        assert numbers[0] < numbers[1], what
        if kind == "contract":
            assert numbers[1][1] == 0, f"{what}: what is taken away raises the contract's first number"
            assert numbers[0] <= tuple(int(part) for part in mmcl.api.VERSION.split(".")), what
        assert one.instead
        assert not one.instead.endswith(".")


def test_names_that_will_go_are_defined_and_are_listed_nowhere_else():
    for module, table in DEPRECATED_NAMES.items():
        public = importlib.import_module(module)
        for name, (where, _) in table.items():
            assert hasattr(importlib.import_module(where), name)
            assert name not in public.__all__
            assert name not in vars(public)  # or nobody would be warned


def test_the_option_on_the_page_for_authors_is_one_that_goes():
    page = (Path(__file__).resolve().parents[1] / "docs" / "publish-a-plugin.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```python\n(.*?)```", page, re.M | re.S)
    scope: dict = {}
    exec(compile(text, "publish-a-plugin.md", "exec", dont_inherit=True), scope)
    assert scope["MyNetParams"].model_json_schema()["properties"]["size"]["deprecated"] is True
    assert NAME.partition(": mmcl")[2].partition(" (")[0] in page  # the sentence that the page shows is the one that is said


def test_what_is_none_of_its_names_is_no_attribute():
    look = deprecated_names("some.module", {})
    with pytest.raises(AttributeError, match=r"'some.module' has no attribute 'x'"):
        look("x")


def test_plugins_as_a_list_names_what_goes(acme, monkeypatch):
    from mmcl import plugins as module

    installed = loaded(acme)
    monkeypatch.setattr(module, "plugins", lambda: installed)
    out = CliRunner().invoke(cli, ["plugins"]).output
    assert out.count("will go: ") == 2
    assert "will go: mmcl.api.hookspec (acme/heavy.py line 5) is deprecated since contract 1.3" in out
