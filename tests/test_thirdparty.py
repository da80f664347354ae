"""A stranger's packages, installed as pip installs them: the good one works like ours, the broken one stops nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "thirdparty"


def install(project: Path, site: Path) -> None:
    """What `pip install --target` writes of a pure project, made here without the network: the package and its metadata."""
    about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    name, version = about["project"]["name"], about["project"]["version"]
    for package in about["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(project / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = "\n".join(f"{key} = {value}" for key, value in about["project"]["entry-points"]["mmcl"].items())
    (info / "entry_points.txt").write_text(f"[mmcl]\n{points}\n")


def outside(site: Path, *command: str, **environment: str) -> str:
    """What a fresh process prints that has `site` on its path."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=site,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LOOK = """
import json, sys
from mmcl.plugins import plugins
known = plugins()
print(json.dumps({
    "strangers": {one.plugin: [one.package, one.version, one.failure] for one in known.loaded if one.package != "mmcl"},
    "failed": [one.plugin for one in known.failed],
    "backbones": {name: offer.package for name, offer in known.all("backbone")},
    "losses": {name: offer.package for name, offer in known.all("loss")},
    "heavy": [name for name in ("torch", "torchvision", "torchaudio", "librosa") if name in sys.modules],
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which both strangers are installed."""
    folder = tmp_path_factory.mktemp("site")
    install(HERE / "mmcl-example", folder)
    install(HERE / "mmcl-broken", folder)
    return folder


@pytest.fixture(scope="module")
def seen(site):
    return json.loads(outside(site, "-c", LOOK))


def test_good_package_offers_its_names_beside_ours(seen):
    assert seen["strangers"]["example"] == ["mmcl-example", "0.1.0", None]
    assert seen["backbones"]["mean-pool"] == "mmcl-example"
    assert seen["losses"]["example-nce"] == "mmcl-example"
    assert "mmcl" in seen["backbones"].values()
    assert "mmcl" in seen["losses"].values()


def test_broken_package_is_listed_with_its_reason_and_stops_nothing(seen):
    package, version, failure = seen["strangers"]["broken"]
    assert (package, version) == ("mmcl-broken", "0.3.0")
    assert failure == "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"
    assert seen["failed"] == ["broken"]


def test_strangers_are_known_without_torch(seen):
    assert seen["heavy"] == []


def test_strangers_are_left_out_on_request(site):
    assert json.loads(outside(site, "-c", LOOK, MMCL_PLUGINS="none"))["strangers"] == {}
    assert set(json.loads(outside(site, "-c", LOOK, MMCL_PLUGINS="example"))["strangers"]) == {"example"}


CHECK = """
import json
from mmcl.testing import check_plugin
results = [result for name in ("mmcl_example", "mmcl_broken") for result in check_plugin(name)]
print(json.dumps([[result.name, result.check, result.passed, result.message] for result in results]))
"""


def test_good_package_passes_every_check_and_the_broken_one_fails_with_its_reason(site):
    *good, broken = json.loads(outside(site, "-c", CHECK))
    assert {name for name, *_ in good} == {"backbone mean-pool", "loss example-nce"}
    assert [one for one in good if one[2] is not True] == []
    assert broken[:3] == ["plug-in mmcl_broken", "loads", False]
    assert "a_library_that_nobody_has" in broken[3]


def test_good_package_passes_its_own_tests(site, tmp_path):
    shutil.copytree(HERE / "mmcl-example" / "tests", tmp_path / "tests")
    out = outside(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "tests"))
    assert "2 passed" in out


def test_pip_installs_both_as_they_are(tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed here, and a test installs nothing from the network")
    offline = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    for project in ("mmcl-example", "mmcl-broken"):
        shutil.copytree(HERE / project, tmp_path / project)
        outside(tmp_path, "-m", "pip", "install", *offline, "--target", "site", f"./{project}")
    seen = json.loads(outside(tmp_path / "site", "-c", LOOK))
    assert seen["backbones"]["mean-pool"] == "mmcl-example"
    assert seen["failed"] == ["broken"]
