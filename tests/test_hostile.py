"""Somebody's run folder is opened while every call that could write, start a program or reach a network is listened to."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmcl.api import RecipeError
from mmcl.plugins import plugins
from mmcl.report import run_and_report
from mmcl.review.audit import audit_folder
from mmcl.review.rerun import plan_of
from mmcl.runs import RunFolder, read_json
from mmcl.shapes import FOLD
from mmcl.use.opened import stated_plan

LISTENER = """
import json, os, sys
run, home, report, ways = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4].split(",")
sys.dont_write_bytecode = True
import torch, numpy, matplotlib.figure, mmcl, mmcl.cli  # what is loaded before says nothing of the folder
from mmcl.api.errors import MmclError
from mmcl.plugins import plugins
from pathlib import Path
plugins().all("dataset")
events, outcomes = [], {}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.utime",
           "shutil.rmtree", "shutil.move", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp")

def inside(path):
    if isinstance(path, int):
        return True
    path = os.path.realpath(os.fsdecode(path))
    # Numba, below librosa, keeps what it compiled beside the library; it knows nothing of the folder.
    return (path + os.sep).startswith(os.path.realpath(run) + os.sep) or path == "/dev/null" or "__pycache__" in path

def listen(event, args):
    if event == "open" and args and not isinstance(args[0], int):
        mode, flags = args[1], args[2] or 0
        writes = (isinstance(mode, str) and any(sign in mode for sign in "wax+")) or flags & WRITES
        if writes and not inside(args[0]):
            events.append(["write", str(args[0])])
        if os.path.realpath(os.fsdecode(args[0])).startswith(home):
            events.append(["read of what is not the run's", str(args[0])])
    elif event in STARTS or event.startswith("os.exec"):
        events.append([event, repr(args)[:200]])
    elif event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        events.append([event, repr(args)[:200]])
    elif event == "os.mkdir" and os.path.isdir(args[0]):
        pass  # nothing is made
    elif event in CHANGES and not all(inside(one) for one in args[:2] if isinstance(one, (str, bytes))):
        events.append([event, repr(args)[:200]])
    elif event == "pickle.find_class":
        events.append([event, repr(args)[:200]])

def words(*command):
    return lambda: mmcl.cli.cli.main(list(command), standalone_mode=False)

file = os.path.join(os.path.dirname(run), "new.wav")
OPENS = {
    "report": words("report", run),
    "audit": words("audit", run),
    "compare": words("compare", run),
    "runs": words("runs", os.path.dirname(run)),
    "embed": words("embed", run, file, "--out", os.path.join(run, "features.npz")),
    "predict": words("predict", run, file),
    "rerun": lambda: __import__("mmcl.review.rerun", fromlist=["x"]).plan_of(Path(run)),
}
sys.addaudithook(listen)
for name in ways:
    try:
        OPENS[name]()
        outcomes[name] = "done"
    except MmclError as error:
        outcomes[name] = f"refused: {error}"
    except SystemExit as error:
        outcomes[name] = f"exit {error.code}"
    except BaseException as error:
        outcomes[name] = f"ERROR {type(error).__name__}: {error}"
Path(report).write_text(json.dumps({"events": events[:], "outcomes": outcomes}))
"""


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def _links(run, home):
    for name in ("report.html.tmp", "plan.json.tmp"):
        (run / name).symlink_to(home / ".bashrc")
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(home / ".bashrc")


def _leads_elsewhere(run, home):
    folds = read_json(run / "folds.json")
    folds["stores"]["audio"]["folder"] = os.path.relpath(home / "prepared" / "a" / "b", run)
    (run / "folds.json").write_text(json.dumps(folds), encoding="utf-8")


def _programs(run, home):
    """Whatever could be taken for code or for an object: modules, start files of Python, pickles under the names of weights."""
    evil = f"open({str(home / 'ran')!r}, 'w').write('x')\n"
    for name in ("conftest.py", "sitecustomize.py", "mmcl.py", "numpy.py", "mmcl_toy.py", "__init__.py", "setup.py"):
        (run / name).write_text(evil, encoding="utf-8")
    for path in [*run.rglob("heads.safetensors"), *run.rglob("encoders.safetensors")]:
        path.write_bytes(pickle.dumps(_Evil()))
        path.with_suffix(".pkl").write_bytes(pickle.dumps(_Evil()))


def _recipe(run, home):
    (run / "recipe.yaml").write_text(f"base: {home / 'secret.yaml'}\nname: x\n", encoding="utf-8")


def _tags(run, home):
    text = (run / "recipe.yaml").read_text(encoding="utf-8")
    (run / "recipe.yaml").write_text(
        f"{text}about: !!python/object/apply:os.system ['touch {home / 'ran'}']\n", encoding="utf-8"
    )


def _names(run, home):
    """Names and paths in what the plan says: they reach messages and pages, and nothing is opened by them."""
    about = read_json(run / "plan.json")
    about["plan"]["name"] = "../../../home/x"
    about["plan"]["dataset"]["root"] = str(home)
    about["git"] = {"commit": "$(touch /tmp/never)", "dirty": False}
    (run / "plan.json").write_text(json.dumps(about), encoding="utf-8")


def _untouched(run, home):
    pass


HOSTILE = {
    "untouched": _untouched,
    "links": _links,
    "streams elsewhere": _leads_elsewhere,
    "programs": _programs,
    "recipe with a base": _recipe,
    "recipe with a tag": _tags,
    "names and paths": _names,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_is_written_outside_or_started_or_fetched(kind, tiny_run, tmp_path):
    from mmcl.media import write_audio

    home = tmp_path / "home"
    home.mkdir()
    for name in (".bashrc", "secret.yaml"):
        (home / name).write_text("my own words", encoding="utf-8")
    shutil.copytree(tiny_run.root, tmp_path / "runs" / "tiny")
    shutil.copytree(tiny_run.prepared, tmp_path / "runs" / "prepared")
    import numpy as np

    write_audio(tmp_path / "runs" / "new.wav", np.sin(np.arange(16000) / 7) * 0.3, 16000)
    run = tmp_path / "runs" / "tiny"
    HOSTILE[kind](run, home)
    ways = (
        "report,audit,compare,runs,embed,predict,rerun"
        if kind in ("untouched", "names and paths")
        else "report,compare,runs,predict,rerun"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", LISTENER, str(run), str(home), str(tmp_path / "heard.json"), ways],
        cwd=run,  # where code of the current folder would be found
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "MMCL_TRACEBACK": ""},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "heard.json").read_text(encoding="utf-8"))
    assert result["events"] == [], result
    assert not [one for one in result["outcomes"].values() if one.startswith("ERROR")], result
    assert sorted(path.name for path in home.iterdir()) == [".bashrc", "secret.yaml"]
    assert {path.read_text(encoding="utf-8") for path in home.iterdir()} == {"my own words"}
    if kind == "untouched":
        assert {way: outcome for way, outcome in result["outcomes"].items() if outcome != "done"} == {}


TAKES = """
import sys
from pathlib import Path
import torch, mmcl
from mmcl.api.errors import MmclError
from mmcl.report.page import write_report
from mmcl.review.compare import compare_runs
from mmcl.review.rerun import plan_of
run = Path(sys.argv[1])
unit = run / "fold-00" / "seed-3"
ways = {"report": lambda: write_report(run), "compare": lambda: compare_runs([run]), "rerun": lambda: plan_of(run), "open": lambda: mmcl.open(run),
        "encoders": lambda: mmcl.load_encoders(unit / "pretrain"), "heads": lambda: mmcl.load_heads(unit / "probe"),
        "features": lambda: mmcl.features(run)}
for name, way in ways.items():
    try:
        way()
        print(name, "is done")
    except MmclError as error:
        print(name, "is refused:", str(error)[:200])
# not ru_maxrss, which a process takes over from the one that it was copied from
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024)
"""


def _stuffed(run):
    """Values that nobody asks for, in every file, as many as are let through: of the sort that takes most beside its text."""
    for path in [*run.glob("*.json"), *run.rglob("finished.json"), *run.rglob("encoders.json"), *run.rglob("heads.json")]:
        value = read_json(path)
        path.write_text(
            json.dumps({**value, "more": []}).replace('"more": []', f'"more": [{"[],[]," * 40_000}0]'), encoding="utf-8"
        )


def _wide(run):
    """A network of two gigabytes."""
    for path in run.rglob("encoders.json"):
        about = read_json(path)
        about["projection"] = {"hidden": 22_000, "width": 22_000}
        path.write_text(json.dumps(about), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [_stuffed, _wide], ids=["stuffed", "wide"])
def test_what_opens_a_run_takes_no_more_than_a_gigabyte_beside_what_its_files_hold(kind, tiny_run, tmp_path):
    shutil.copytree(tiny_run.root, tmp_path / "runs" / "tiny")
    shutil.copytree(tiny_run.prepared, tmp_path / "runs" / "prepared")
    kind(tmp_path / "runs" / "tiny")
    holds = sum(path.stat().st_size for path in (tmp_path / "runs").rglob("*.json*")) / 2**20
    done = subprocess.run(
        [sys.executable, "-c", TAKES, str(tmp_path / "runs" / "tiny")], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    *told, took = done.stdout.splitlines()
    assert int(took) < 1024 + FOLD * holds, told
    assert "report is done" in told
    if kind is _wide:
        assert int(took) < 1024
        assert any(line.startswith("encoders is refused") and "GiB of memory" in line for line in told)
    else:
        assert "encoders is done" in told


def test_the_listener_notices_what_it_looks_for(tmp_path):
    """Each kind of event is caused by hand, in the way of a command."""
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    causes = (
        f"def bad():\n    open({str(tmp_path / 'x')!r}, 'w').close()\n    os.rename({str(tmp_path / 'x')!r}, {str(tmp_path / 'y')!r})\n"
        f"    __import__('subprocess').run(['true'])\n    __import__('socket').getaddrinfo('127.0.0.1', 80)\n"
        f"    open({str(tmp_path / 'runs' / 'tiny' / 'z')!r}, 'w').close()\n"
        f"    open({str(tmp_path / 'home' / 'q')!r}, 'a').close()\n"
    )
    script = LISTENER.replace("OPENS = {", causes + 'OPENS = {"bad": bad, ', 1)
    words = [str(tmp_path / "runs" / "tiny"), str(tmp_path / "home"), str(tmp_path / "heard.json"), "bad"]
    subprocess.run([sys.executable, "-P", "-c", script, *words], check=True, capture_output=True)
    kinds = [event for event, _ in json.loads((tmp_path / "heard.json").read_text(encoding="utf-8"))["events"]]
    assert [kind for kind in kinds if kind in ("write", "os.rename", "subprocess.Popen", "socket.getaddrinfo")] == [
        "write",
        "os.rename",
        "subprocess.Popen",
        "socket.getaddrinfo",
        "write",
    ]
    assert "read of what is not the run's" in kinds


@pytest.mark.parametrize("opens", [plan_of, stated_plan])
@pytest.mark.parametrize("text", ["base: /etc/passwd\nname: x\n", "{base: ../../secret, name: x}\n", "'base': quickstart\n"])
def test_a_runs_recipe_that_derives_from_another_file_is_refused_before_that_is_read(opens, text, tiny_run, tmp_path):
    shutil.copytree(tiny_run.root, tmp_path / "tiny")
    (tmp_path / "tiny" / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="base: a run's recipe is whole and derives from nothing; this one was changed"):
        opens(tmp_path / "tiny")


def test_an_audit_reads_nothing_where_a_plan_says_that_recordings_lie(tiny_plan, tmp_path):
    """Neither recordings nor the table that names them: a hostile plan could name any folder of the reader's."""
    root = tmp_path / "data" / "folder"
    plugins().get("dataset", "folder").spec.sample(root, 24, 0)
    recipe = (
        "format: 1\nname: own\ndataset: {use: folder, table: recordings.csv}\nmodalities:\n  one: {source: hand, features: {use: signals}, "
        "backbone: {use: mlp, hidden: [4], width: 4}}\npretrain: {epochs: 0}\nprobe: {inputs: [one], heads: {linear: {use: linear, "
        "l2: [0.1]}}}\nreport: {against: []}\nprotocol: {use: hold-out, test: 0.3, valid: 0.3}\n"
    )
    run = RunFolder(tmp_path / "runs" / "own")
    run_and_report(tiny_plan(text=recipe, data=tmp_path / "data"), run, workers=1, stop_after="probe")
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in ("open", "os.listdir", "os.scandir") else None)
    audited = audit_folder(run.root)
    assert (audited.findings, audited.left_out) == ((), {})
    assert any(str(run.root) in name for name in opened)  # the listener listens
    assert not [name for name in opened if name.startswith(str(root))]


def test_security_page_names_what_is_tested():
    page = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")
    for word in ("plug-in", "run folder", "recipe", "recording", "report"):
        assert word in page.lower()
