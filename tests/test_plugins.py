"""The loader: finds what is installed, survives what is broken, and knows whose a name is."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mmcl.api import VERSION, PluginError, UnknownNameError
from mmcl.plugins import OURS, REGISTRIES, Plugins, load, plugins

ROOT = Path(__file__).resolve().parents[1]

GOOD = """
from mmcl.api import LossSpec, NoParams, hookimpl

@hookimpl
def register_losses(register):
    for name in {names!r}:
        register(LossSpec(name, "from {package}", NoParams, lambda params: None))
"""

_count = itertools.count()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An empty folder on sys.path in which packages can be installed, and the loader can look."""
    modules = []

    class World:
        def install(self, package, body=None, names=("first",), version="1.0", plugin=None, folder="site", requires=()):
            site = tmp_path / folder
            site.mkdir(exist_ok=True)
            module = f"stranger_{next(_count)}"
            modules.append(module)
            (site / f"{module}.py").write_text(body if body is not None else GOOD.format(names=names, package=package))
            info = site / f"{re.sub('[-.]', '_', package)}-{version}.dist-info"
            info.mkdir()
            asked = "".join(f"Requires-Dist: {line}\n" for line in requires)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{asked}")
            (info / "entry_points.txt").write_text(f"[mmcl]\n{plugin or package.removeprefix('mmcl-')} = {module}\n")
            monkeypatch.syspath_prepend(str(site))

        def look(self, limit=None, folders=("site",)) -> Plugins:
            installed = importlib.metadata.distributions(path=[str(tmp_path / folder) for folder in folders])
            return load([point for one in installed for point in one.entry_points if point.group == "mmcl"], limit)

    yield World()
    for module in modules:
        sys.modules.pop(module, None)


def names(registry: Plugins, what: str = "loss") -> list[str]:
    return [name for name, _ in registry.all(what)]


# ---------------------------------------------------------------------------------------------------- broken packages


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import a_library_that_nobody_has", "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"),
        ("from mmcl.api import Gone", "ImportError: cannot import name 'Gone'"),
        ("def half(:", "SyntaxError: "),
        ("raise SystemExit('needs a licence')", "SystemExit: needs a licence"),
        ("import sys; sys.exit()", "SystemExit"),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line"),
        ("class Odd(Exception): pass\nraise Odd", "Odd"),
        ("x = 1", "implements none of the hooks (register_kinds, register_modalities"),
    ],
)
def test_broken_package_is_listed_with_its_reason_and_stops_nothing(world, body, reason):
    world.install("mmcl-broken", body, version="0.3")
    world.install("mmcl-good")
    registry = world.look()
    assert names(registry) == ["first"]
    (failed,) = registry.failed
    assert (failed.plugin, failed.package, failed.version, failed.offers) == ("broken", "mmcl-broken", "0.3", ())
    assert failed.failure.startswith(reason) or reason in failed.failure
    assert "\n" not in failed.failure


FIRST, SECOND = map(int, VERSION.split("."))


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (
            f"'{FIRST + 1}.0'",
            f"is written for contract {FIRST + 1}.0 of mmcl.api, and this mmcl has {VERSION}; install a release of it",
        ),
        (f"'{FIRST - 1}'", f"is written for contract {FIRST - 1} of mmcl.api"),
        (
            f"'{FIRST}.{SECOND + 1}'",
            f"needs contract {FIRST}.{SECOND + 1} of mmcl.api, and this mmcl has {VERSION}; install a later mmcl",
        ),
        ("1.0", "MMCL_API must be the contract's version as mmcl.api.VERSION has it"),
        ("'one'", "MMCL_API must be the contract's version"),
        (f"'{FIRST}'", None),
        (f"'{FIRST}.{SECOND}'", None),
    ],
)
def test_plugin_for_another_contract_is_refused_in_a_sentence(world, declared, reason):
    world.install("mmcl-other", f"MMCL_API = {declared}\n" + GOOD.format(names=("first",), package="other"))
    registry = world.look()
    if reason is None:
        assert names(registry) == ["first"]
        return
    assert names(registry) == []
    assert reason in registry.failed[0].failure


@pytest.mark.parametrize(
    ("requires", "refused"),
    [
        (["mmcl<0.0.1"], True),
        (["mmcl>=99"], True),
        (["numpy>=1", "MMCL[hf] >=99,<100"], True),
        (["mmcl>=0.0.1"], False),
        (["mmcl"], False),
        (["mmcl-toolbox<0.0.1", "mmcl.more<0", "mmcl_other<0"], False),
        (['mmcl<0.0.1; extra == "old"'], False),
        (['mmcl<0.0.1; python_version < "3"'], False),
    ],
)
def test_plugin_that_asks_for_another_mmcl_is_refused_before_it_is_imported(world, requires, refused):
    body = "raise RuntimeError('imported')" if refused else None
    world.install("acme-other", body, requires=requires, plugin="other")
    registry = world.look()
    assert names(registry) == ([] if refused else ["first"])
    if refused:
        version = importlib.metadata.version("mmcl")
        assert (
            f"and {version} is installed; install a release of acme-other for this mmcl, or an mmcl of those versions"
            in registry.failed[0].failure
        )


def test_plugin_that_prints_while_it_is_imported_spoils_no_answer(world, capsys):
    world.install("mmcl-loud", "print('hello from the import')\n" + GOOD.format(names=("first",), package="loud"))
    assert names(world.look()) == ["first"]
    told = capsys.readouterr()
    assert told.out == ""
    assert "hello from the import" in told.err


def test_plugin_that_hangs_is_named_with_the_way_round_and_its_seconds_are_told(world, capsys, monkeypatch):
    monkeypatch.setattr("mmcl.plugins.PATIENCE", 0.05)
    world.install("mmcl-slow", "import time\ntime.sleep(0.4)\n" + GOOD.format(names=("first",), package="slow"))
    world.install("mmcl-quick", GOOD.format(names=("second",), package="quick"))
    registry = world.look()
    assert names(registry) == ["first", "second"]
    told = capsys.readouterr().err
    assert "plug-in 'slow' of package mmcl-slow is still being imported after 0.05 s; it may hang. MMCL_PLUGINS=none" in told
    assert "mmcl-quick" not in told
    seconds = {one.plugin: one.seconds for one in registry.loaded}
    assert seconds["slow"] >= 0.4 > seconds["quick"] > 0


def test_hook_that_raises_half_way_leaves_none_of_its_offers(world):
    world.install("mmcl-half", GOOD.format(names=("first", "second"), package="half") + "    raise OSError('disk')\n")
    registry = world.look()
    assert names(registry) == []
    assert registry.failed[0].failure == "OSError: disk"


def test_later_hook_that_raises_takes_the_earlier_ones_back(world):
    """Losses are asked for before heads: what was offered by then goes too, or half a plug-in would be there."""
    body = (
        GOOD.format(names=("first",), package="half")
        + "\n@hookimpl\ndef register_heads(register):\n    raise OSError('disk')\n"
    )
    world.install("mmcl-half", body)
    assert names(world.look()) == []


def test_function_that_is_no_hook_is_reported(world):
    """A misspelt hook would otherwise simply never be called."""
    body = GOOD.format(names=("first",), package="x").replace("register_losses", "register_loss")
    world.install("mmcl-typo", body)
    (failed,) = world.look().failed
    assert "register_loss" in failed.failure
    assert "unknown hook" in failed.failure


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("'info-nce'", "registered a str as loss; it must be a LossSpec"),
        ("LossSpec('Info_NCE', 'x', NoParams, print)", "'Info_NCE' must be lower-case letters, digits and hyphens"),
        ("LossSpec('a:b', 'x', NoParams, print)", "'a:b' must be lower-case letters, digits and hyphens"),
        ("LossSpec('x', '', NoParams, print)", "needs a one-line summary"),
        ("LossSpec('x', 'a\\nb', NoParams, print)", "needs a one-line summary"),
        ("LossSpec('x', 'x', dict, print)", "params must be a subclass of mmcl.api.Params"),
    ],
)
def test_spec_that_is_none_is_refused_when_it_is_registered(world, given, reason):
    top = "from mmcl.api import LossSpec, NoParams, hookimpl\n\n"
    world.install("mmcl-odd", f"{top}@hookimpl\ndef register_losses(register):\n    register({given})\n")
    (failed,) = world.look().failed
    assert failed.failure.startswith("PluginError: ")
    assert reason in failed.failure


def test_name_registered_twice_by_one_plugin_is_refused(world):
    world.install("mmcl-twice", names=("same", "same"))
    assert "registers loss 'same' twice" in world.look().failed[0].failure


def test_one_name_may_stand_for_things_of_two_sorts(world):
    body = GOOD.format(names=("vicreg",), package="x") + (
        "\nfrom mmcl.api import PositivesSpec\n\n@hookimpl\ndef register_positives(register):\n"
        "    register(PositivesSpec('vicreg', 'x', NoParams, print))\n"
    )
    world.install("mmcl-two", body)
    registry = world.look()
    assert registry.failed == ()
    assert names(registry) == names(registry, "positives") == ["vicreg"]


# ------------------------------------------------------------------------------------------------------ whose name it is


def test_bare_name_means_ours_and_the_package_reaches_the_strangers(world):
    world.install("mmcl", names=("info-nce",), plugin="losses")
    world.install("mmcl-rival", names=("info-nce", "other"))
    registry = world.look()
    assert registry.get("loss", "info-nce").package == OURS
    assert registry.get("loss", "mmcl:info-nce").package == OURS
    assert registry.get("loss", "mmcl-rival:info-nce").package == "mmcl-rival"
    assert registry.get("loss", "other").package == "mmcl-rival"
    assert names(registry) == ["info-nce", "mmcl-rival:info-nce", "other"]


def test_listed_names_reach_what_they_list(world):
    world.install("mmcl", names=("a", "b"), plugin="losses")
    world.install("mmcl-one", names=("b", "c", "d"))
    world.install("mmcl-two", names=("c", "b"))
    registry = world.look()
    assert len(registry.all("loss")) == 7
    for name, offer in registry.all("loss"):
        assert registry.get("loss", name) is offer


def test_two_strangers_with_one_name_must_be_told_apart(world):
    world.install("mmcl-one", names=("same",))
    world.install("mmcl-two", names=("same",))
    registry = world.look()
    with pytest.raises(PluginError, match="'same' is offered by 2 packages: write 'mmcl-one:same' or 'mmcl-two:same'"):
        registry.get("loss", "same")
    for package in ("mmcl-one", "mmcl-two"):
        assert registry.get("loss", f"{package}:same").package == package


@pytest.mark.parametrize("written", ["mmcl-rival", "mmcl_rival", "MMCL.Rival"])
def test_package_may_be_written_as_packaging_lets_it(world, written):
    world.install("mmcl_rival", names=("x",))
    assert world.look().get("loss", f"{written}:x").package == "mmcl_rival"


def test_unknown_name_suggests_the_nearest_and_lists_what_failed(world):
    world.install("mmcl-good", names=("info-nce", "siglip"))
    world.install("mmcl-broken", "import a_library_that_nobody_has")
    with pytest.raises(UnknownNameError) as caught:
        world.look().get("loss", "info-nse")
    text = str(caught.value)
    assert "unknown loss 'info-nse'; did you mean 'info-nce'?" in text
    assert "siglip" in text
    assert "Plug-ins that failed to load: broken" in text


def test_unknown_name_says_what_would_offer_it(world):
    world.install("mmcl-good", names=("info-nce",))
    registry = world.look()
    with pytest.raises(UnknownNameError, match="If another package offers it, install that one here; 'mmcl plugins' lists"):
        registry.get("loss", "quite-another")
    with pytest.raises(UnknownNameError, match="The package mmcl-other is not installed here: pip install mmcl-other."):
        registry.get("loss", "mmcl-other:quite-another")
    for name in ("info-nse", "mmcl-good:quite-another"):  # a slip, and a package that is there
        with pytest.raises(UnknownNameError) as caught:
            registry.get("loss", name)
        assert "install" not in str(caught.value)


def test_name_of_another_sort_is_unknown(world):
    world.install("mmcl-good", names=("info-nce",))
    with pytest.raises(UnknownNameError, match="unknown head 'info-nce'; known: none"):
        world.look().get("head", "info-nce")
    with pytest.raises(UnknownNameError, match="unknown loss 'mmcl-other:info-nce'"):
        world.look().get("loss", "mmcl-other:info-nce")


def test_order_of_installation_changes_nothing(world):
    for package in ("mmcl-b", "mmcl-a", "mmcl-c"):
        world.install(package, names=(package[-1],))
    world.install("mmcl", names=("z",), plugin="losses")
    registry = world.look()
    assert [one.package for one in registry.loaded] == ["mmcl", "mmcl-a", "mmcl-b", "mmcl-c"]


# ------------------------------------------------------------------------------------------------------- which are registry


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (None, ["mmcl", "mmcl-one", "mmcl-two"]),
        ("none", ["mmcl"]),
        ("", ["mmcl"]),
        ("one", ["mmcl", "mmcl-one"]),
        ("two, one", ["mmcl", "mmcl-one", "mmcl-two"]),
        ("mmcl-two", ["mmcl", "mmcl-two"]),
        ("nobody", ["mmcl"]),
    ],
)
def test_strangers_can_be_limited_but_ours_are_always_there(world, limit, wanted):
    world.install("mmcl", names=("z",), plugin="losses")
    world.install("mmcl-one", names=("a",))
    world.install("mmcl-two", names=("b",))
    assert [one.package for one in world.look(limit).loaded] == wanted


def test_plugin_that_is_left_out_is_not_even_imported(world):
    world.install("mmcl-loud", "raise SystemExit")
    assert world.look("none").loaded == ()


def test_package_that_stands_twice_on_the_path_is_loaded_once(world):
    world.install("mmcl-good", names=("a",), version="2.0", folder="first")
    world.install("mmcl-good", names=("a",), version="1.0", folder="second")
    registry = world.look(folders=("first", "second"))
    assert [(one.package, one.version) for one in registry.loaded] == [("mmcl-good", "2.0")]
    assert names(registry) == ["a"]
    assert registry.get("loss", "a").version == "2.0"


# ------------------------------------------------------------------------------------------------------------- our own


def test_every_built_in_plugin_loads_and_offers_something():
    ours = [one for one in plugins().loaded if one.package == OURS]
    assert {one.plugin: one.failure for one in ours if one.failure} == {}
    assert [one.plugin for one in ours if not one.offers] == []
    assert {offer.what for one in ours for offer in one.offers} == set(REGISTRIES)


def test_built_in_offers_name_the_installed_version():
    assert {offer.version for one in plugins().loaded if one.package == OURS for offer in one.offers} == {
        importlib.metadata.version("mmcl")
    }


def test_folders_and_entry_points_name_the_same_plugins():
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())
    assert folders
    points = about["project"]["entry-points"]["mmcl"]
    assert sorted(points.items()) == sorted((name.removeprefix("mmcl-"), name.replace("-", "_")) for name in folders)
    for name in folders:
        assert (ROOT / "plugins" / name / name.replace("-", "_") / "__init__.py").is_file()
        assert (ROOT / "plugins" / name / "README.md").is_file(), f"plugins/{name} has no README.md"
        assert list((ROOT / "plugins" / name / "tests").glob("test_*.py")), f"plugins/{name} has no tests"


def built(version: str, folder: Path) -> zipfile.ZipFile:
    """What hatchling makes of this tree: a wheel to give away ("standard") or one that points here ("editable")."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed (it comes with mmcl[dev])")
    return zipfile.ZipFile(next(wheel.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=[version])))


def test_a_wheel_holds_the_core_every_plugins_package_and_the_recipes_and_nothing_beside_them(tmp_path):
    with built("standard", tmp_path) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = set()
    for top, parts in (("mmcl", 0), ("plugins", 2), ("recipes", 1)):
        for path in (ROOT / top).rglob("*"):
            where = path.relative_to(ROOT).parts[parts:]
            if path.is_dir() or "__pycache__" in where or (top == "plugins" and not where[0].startswith("mmcl_")):
                continue  # beside a plug-in's package stand its tests and its README
            wanted.add("/".join(("mmcl", "shipped", *where) if top == "recipes" else where))
    assert {"mmcl_toy/corpus.py", "mmcl/shipped/quickstart.yaml"} <= wanted
    assert packed == wanted


def test_an_editable_install_looks_for_every_plugin_where_it_stands(tmp_path):
    with built("editable", tmp_path) as wheel:
        lines = [
            line
            for name in sorted(wheel.namelist())
            if name.endswith(".pth")
            for line in wheel.read(name).decode().splitlines()
        ]
        assert "mmcl/shipped/quickstart.yaml" in wheel.namelist()
    assert lines == [str(ROOT), *sorted(str(path) for path in (ROOT / "plugins").iterdir() if path.is_dir())]


def test_loading_every_plugin_imports_nothing_heavy():
    code = (
        "import sys, json; from mmcl.plugins import plugins; from mmcl.testing import HEAVY; registry = plugins();"
        "print(json.dumps([len(registry.loaded), [m for m in HEAVY if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, heavy = json.loads(done.stdout)
    assert count >= len(list((ROOT / "plugins").iterdir()))
    assert heavy == []


# ------------------------------------------------------------------------------------------------ damaged distributions


DAMAGED = {
    "no METADATA": (
        "mmcl_wave-0.3.dist-info",
        {"entry_points.txt": b"[mmcl]\nwave = mmcl_wave\n"},
        "has no METADATA with a name",
    ),
    "no name": (
        "mmcl_wave-0.3.dist-info",
        {"entry_points.txt": b"[mmcl]\nwave = mmcl_wave\n", "METADATA": b""},
        "has no METADATA with a name",
    ),
    "a folder without a name": (".dist-info", {}, None),
    "entry points that are no text": ("mmcl_wave-0.3.dist-info", {"entry_points.txt": b"[mmcl]\n\xff\xfe = x\n"}, None),
    "a name that pip sets aside": ("~orch-2.1.dist-info", {"RECORD": b""}, None),
}


@pytest.mark.parametrize(("folder", "files", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_distribution_stops_no_command(tmp_path, folder, files, reason):
    """What an interrupted installation leaves; pydantic and torch list distributions too, and end with a TypeError at such a one."""
    (tmp_path / folder).mkdir()
    for name, content in files.items():
        (tmp_path / folder / name).write_bytes(content)
    code = "import mmcl.cli, torch; mmcl.cli.main(['plugins'])"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "tcn  (mmcl " in done.stdout
    if reason is not None:
        assert f"failed: {tmp_path / folder}: {reason}" in done.stdout
