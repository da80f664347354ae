"""What is said of plug-ins that do not load, of what they use that will go, and of new ones, followed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from mmcl import __version__
from mmcl.api import VERSION, UnknownNameError
from mmcl.cli import main
from mmcl.plugins import Plugins, require_offered
from tests import test_deprecation as deprecation
from tests.test_plugins import GOOD
from tests.test_plugins import world as world

FIRST, SECOND = map(int, VERSION.split("."))


def only_failure(registry: Plugins) -> str:
    (one,) = registry.failed
    return str(one.failure)


def offered(registry: Plugins) -> list[str]:
    assert registry.failed == ()
    return [name for name, _ in registry.all("loss")]


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A stranger's package whose light and heavy files can be written again; what they use that will go is told."""
    deprecation.write_acme(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def look():
        forget()
        from mmcl.installed import code_of

        code_of.cache_clear()
        (one,) = deprecation.loaded(tmp_path).loaded
        assert one.failure is None
        return one

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
            del sys.modules[name]

    yield look
    forget()


def test_what_will_go_is_left_out_and_all_works_as_before(acme, tmp_path):
    before = acme()
    assert before.deprecations == (deprecation.FIELD, deprecation.NAME)
    (tmp_path / "acme" / "heavy.py").write_text("class Loss:\n    pass\n")
    assert acme().deprecations == (deprecation.FIELD,)
    (tmp_path / "acme" / "__init__.py").write_text(deprecation.LIGHT.replace(", version=3", ""))
    after = acme()
    assert after.deprecations == ()
    assert [offer.name for offer in after.offers] == [offer.name for offer in before.offers]


def test_a_change_of_a_modalitys_files_is_noticed_without_a_version(acme, tmp_path):
    (tmp_path / "acme" / "__init__.py").write_text(deprecation.LIGHT.replace(", version=3", ""))
    code = acme().offers[0].code
    assert acme().offers[0].code == code
    (tmp_path / "acme" / "heavy.py").write_text("class Loss:\n    steps = 2\n")
    assert acme().offers[0].code != code


@pytest.mark.parametrize("way", ["installed again", "removed"])
def test_a_damaged_package_is_installed_again_or_removed(world, tmp_path, way):
    world.install("mmcl-wave", names=("wave",))
    world.install("mmcl-good", names=("good",))
    (info,) = (tmp_path / "site").glob("mmcl_wave-*")
    metadata = (info / "METADATA").read_text()
    (info / "METADATA").write_text("")
    output = only_failure(world.look())
    assert output.startswith(f"{info}: ")
    assert output.endswith("install the package again, or remove the folder")
    if way == "removed":
        shutil.rmtree(info)
        assert offered(world.look()) == ["good"]
    else:
        (info / "METADATA").write_text(metadata)
        assert offered(world.look()) == ["good", "wave"]


@pytest.mark.parametrize("way", ["a release of it", "that mmcl"])
def test_a_plug_in_for_another_mmcl_is_replaced_or_mmcl_is(world, tmp_path, monkeypatch, way):
    world.install("acme-other", requires=["mmcl>=99,<100"], plugin="other", names=("one",))
    assert (
        f"asks for mmcl<100,>=99, and {__version__} is installed; install a release of acme-other for this mmcl, or an mmcl of those versions"
        in (only_failure(world.look()))
    )
    if way == "that mmcl":
        monkeypatch.setattr("mmcl.plugins.__version__", "99.1")
    else:
        shutil.rmtree(next((tmp_path / "site").glob("acme_other-*")))
        world.install("acme-other", requires=[f"mmcl>={__version__}"], plugin="other", names=("one",), version="2.0")
    assert offered(world.look()) == ["one"]


@pytest.mark.parametrize(
    ("declared", "words", "later"),
    [
        (
            f"{FIRST + 1}.0",
            f"install a release of it for contract {FIRST}, or an mmcl with contract {FIRST + 1}",
            f"{FIRST + 1}.0",
        ),
        (f"{FIRST}.{SECOND + 1}", "install a later mmcl", f"{FIRST}.{SECOND + 1}"),
    ],
)
def test_a_plug_in_for_another_contract_is_replaced_or_mmcl_is(world, tmp_path, monkeypatch, declared, words, later):
    body = "MMCL_API = '{}'\n" + GOOD.format(names=("one",), package="other")
    world.install("acme-other", body.replace("{}", declared, 1), plugin="other")
    assert only_failure(world.look()).endswith(words)
    with monkeypatch.context() as patch:
        patch.setattr("mmcl.plugins.VERSION", later)
        assert offered(world.look()) == ["one"]
    shutil.rmtree(next((tmp_path / "site").glob("acme_other-*")))
    world.install("acme-other", body.replace("{}", f"{FIRST}.{SECOND}", 1), plugin="other", version="0.9")
    assert offered(world.look()) == ["one"]


def test_a_package_that_is_not_there_offers_its_name_once_it_is_installed(world):
    world.install("mmcl-good", names=("good",))
    for name, words in (
        ("acme-more:quite-another", "The package acme-more is not installed here: pip install acme-more."),
        ("quite-another", "If another package offers it, install that one here; 'mmcl plugins' lists those that are."),
    ):
        with pytest.raises(UnknownNameError) as error:
            world.look().get("loss", name)
        assert words in str(error.value)
    world.install("acme-more", names=("quite-another",))
    for name in ("acme-more:quite-another", "quite-another"):
        assert world.look().get("loss", name).package == "acme-more"


def test_a_run_of_packages_that_are_not_here_opens_once_they_are_installed(world, monkeypatch):
    from mmcl.api import PluginError

    plan = {"loss": {"use": "quite-another", "package": "acme-more", "version": "1.0"}}
    world.install("mmcl-good", names=("good",))
    monkeypatch.setattr("mmcl.plugins.plugins", world.look)
    with pytest.raises(PluginError, match=r"; if you know that package: pip install acme-more==1\.0$"):
        require_offered(plan, "runs/mine")
    with pytest.raises(PluginError, match=r"; if you know that package: pip install acme-more==1\.0$"):
        world.look().kept("loss", plan["loss"])
    world.install("acme-more", names=("quite-another",), version="1.0")
    require_offered(plan, "runs/mine")
    assert world.look().kept("loss", plan["loss"]).version == "1.0"


FAULTY = """

@hookimpl
def register_losses(register):
    from mmcl.api import LossSpec

    register(LossSpec("faulty", "fails when it is built", NoParams, lambda params: 1 / 0))
"""
RECIPE = """\
format: 1
name: study
dataset: {use: study}
modalities:
  left: {source: left, features: {use: signals}, backbone: {use: mlp}}
  right: {source: right, features: {use: signals}, backbone: {use: mlp}}
pretrain: {batch_size: 8, epochs: 1, objective: {loss: faulty}}
protocol: official
"""


@pytest.mark.parametrize("way", ["option", "variable"])
def test_the_way_to_a_fault_of_a_plug_in_is_shown(study, tmp_path, monkeypatch, capsys, way):
    study.add(FAULTY)
    (tmp_path / "r.yaml").write_text(RECIPE)
    run = ["run", "r.yaml", "--workers", "1", "--stop-after", "pretrain"]

    def ends(*words: str) -> str:
        with pytest.raises(SystemExit) as left:
            main([*words])
        assert left.value.code == 2
        return capsys.readouterr().err

    output = ends(*run)
    assert "; --traceback (or MMCL_TRACEBACK=1) shows the way there" in output
    assert "Traceback" not in output
    if way == "variable":
        monkeypatch.setenv("MMCL_TRACEBACK", "1")
    shown = ends(*run, *(("--traceback",) if way == "option" else ()))
    assert "Traceback (most recent call last)" in shown
    assert str(study.folder / "__init__.py") in shown


# ------------------------------------------------------------------------------------------------------------ a new package


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """The folder of the programs of an environment of its own, in which everything of this one can be used and nothing is changed."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed here, and a test installs nothing from the network")
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=False)
    (packages,) = folder.rglob("site-packages")
    there = [path for path in sys.path if Path(path).name == "site-packages" and Path(path).is_dir()]
    (packages / "these.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in there))
    programs = folder / "bin"
    offline = "--no-build-isolation --no-index --disable-pip-version-check --quiet"
    whole = (
        "" if importlib.util.find_spec("editables") else 'for word; do shift; [ "$word" = -e ] || set -- "$@" "$word"; done\n'
    )
    (programs / "pip").write_text(f'#!/bin/sh\n{whole}exec "{programs}/python" -m pip "$@" {offline}\n')
    for name in ("pytest", "mmcl"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{programs}/python" -m {name} "$@"\n')
    for name in ("pip", "pytest", "mmcl"):
        (programs / name).chmod(0o755)
    return programs


@pytest.mark.skipif(os.name == "nt", reason="programs of the environment are scripts of a shell")
def test_a_new_package_is_installed_tested_and_described_by_the_line_that_says_what_is_next(fresh, tmp_path):
    def typed(line: str, code: int = 0) -> str:
        alone = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MMCL_PLUGINS")}
        env = {**alone, "PATH": f"{fresh}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    output = typed("mmcl new-plugin preset mine --out 'a study; of mine'")
    install, look = re.findall(r"^mmcl: next: (.+); then: (mmcl describe .+)$", output, re.M)[0]
    assert "no module 'mmcl_mine' is installed; pip install -e the package, or name its module" in typed(
        "mmcl check-plugin mmcl-mine", 2
    )
    assert "1 passed" in typed(install)
    assert "package: mmcl-mine 0.1.0" in typed(look)
    assert " 0 failed" in typed("mmcl check-plugin mmcl_mine")
