"""A stranger's packages, installed as pip installs them: the good one works like ours, the broken one stops nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
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
    assert {name for name, *_ in good} == {"plug-in mmcl_example", "backbone mean-pool", "loss example-nce"}
    assert good[0][1:] == ["uses nothing that will go", True, ""]
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


# ------------------------------------------------------------------- two real packages, as wheels, in a fresh environment

ROOT = HERE.parents[1]
REAL = ("mmcl-torchaudio-conformer", "mmcl-hydraulics")

BOTH = """\
format: 1
name: rig
seed: 1
dataset: {use: hydraulics}
modalities:
  flow: {features: {use: signals, rate: 1}, backbone: {use: torchaudio-conformer, width: 8, layers: 1, heads: 2, feedforward: 8, kernel: 3}}
  temperature: {features: {use: signals}, backbone: {use: torchaudio-conformer, width: 8, layers: 1, heads: 2, feedforward: 8, kernel: 3}}
projection: {hidden: 8, width: 8}
pretrain: {batch_size: 8, epochs: 2}
probe: {inputs: [flow, all], tasks: [pump], heads: {linear: {use: linear, l2: [0.1]}}}
protocol: {use: hold-out, valid: 0.2, test: 0.3}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment in which mmcl and both packages are installed from wheels; what they depend on is the tests' own."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed here, and a test installs nothing from the network")
    folder = tmp_path_factory.mktemp("fresh")
    offline = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    for name in REAL:
        shutil.copytree(HERE / name, folder / name)
    projects = [str(ROOT), *(str(folder / name) for name in REAL)]
    outside(folder, "-m", "pip", "wheel", *offline, "--no-build-isolation", "--wheel-dir", "wheels", *projects)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    there = [path for path in sys.path if Path(path).name == "site-packages" and Path(path).is_dir()]
    wheels = sorted(str(path) for path in (folder / "wheels").glob("*.whl"))
    assert len(wheels) == 3
    outside(folder, "-m", "pip", "--python", str(python), "install", *offline, *wheels)
    packages = next((folder / "venv").rglob("site-packages"))
    (packages / "dependencies.pth").write_text(
        "\n".join(there)
    )  # behind what is installed here, and without its own .pth files
    return python


def fresh(python: Path, folder: Path, *command: str) -> str:
    """What mmcl prints in the fresh environment."""
    alone = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MMCL_PLUGINS")}
    done = subprocess.run([python, "-m", *command], cwd=folder, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_real_packages_are_listed_checked_and_run_from_their_wheels(environment, tmp_path):
    where = fresh(environment, tmp_path, "mmcl", "plugins", "--json")
    listed = {one["package"]: one for one in json.loads(where)}
    assert {*REAL, "mmcl"} <= set(listed)
    for name in REAL:
        assert "  ok " in fresh(environment, tmp_path, "mmcl", "check-plugin", name)  # exit code 2 where one fails
        shutil.copytree(HERE / name / "tests", tmp_path / name)
        assert " passed" in fresh(environment, tmp_path, "pytest", "-p", "no:cacheprovider", "-k", "not contract", name)
    write = (
        "from mmcl_hydraulics import HYDRAULICS; from pathlib import Path; HYDRAULICS.sample(Path('data/hydraulics'), 48, 0)"
    )
    subprocess.run([environment, "-c", write], cwd=tmp_path, check=True)
    (tmp_path / "rig.yaml").write_text(BOTH)
    fresh(environment, tmp_path, "mmcl", "run", "rig.yaml", "--data", "data", "--out", "run")
    (scores,) = (tmp_path / "run").rglob("scores.jsonl")
    assert {json.loads(line)["input"] for line in scores.read_text().splitlines()} >= {"flow", "all"}
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    assert {plan["dataset"]["package"], *(one["backbone"]["package"] for one in plan["modalities"].values())} == set(REAL)
