"""Somebody's run folder is opened while every call that could write, start a program or reach a network is listened to."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import click
import numpy as np
import pytest

from mmcl.api import RecipeError
from mmcl.cli import cli
from mmcl.plugins import plugins
from mmcl.report import run_and_report
from mmcl.review.audit import audit_folder
from mmcl.review.rerun import plan_of
from mmcl.runs import RunFolder, read_arrays, read_json, write_arrays, write_json
from mmcl.shapes import FOLD
from mmcl.use.opened import stated_plan

EAR = """
import json, os, sys
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.utime",
           "shutil.rmtree", "shutil.move", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp")

def below(path, folder):
    return (path + os.sep).startswith(os.path.realpath(folder) + os.sep)

OURS = (["uname", "-p"], ["/sbin/ldconfig", "-p"], ["git", "-c", "core.fsmonitor=false", "-C"])
# what the standard library asks of the machine, and mmcl of the folder of the user's own recipe

def started(args):
    command = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return not any(list(command[: len(one)]) == one for one in OURS)

def inside(path):
    if isinstance(path, int):
        return True
    path = os.path.realpath(os.fsdecode(path))
    # Numba, below librosa, keeps what it compiled beside the library; it knows nothing of the folder.
    return any(below(path, folder) for folder in (run, *mine)) or path == "/dev/null" or "__pycache__" in path

def listen(event, args):
    if event == "open" and args and not isinstance(args[0], int):
        mode, flags = args[1], args[2] or 0
        writes = (isinstance(mode, str) and any(sign in mode for sign in "wax+")) or flags & WRITES
        if writes and not inside(args[0]):
            events.append(["write", str(args[0])])
        if os.path.realpath(os.fsdecode(args[0])).startswith(home):
            events.append(["read of what is not the run's", str(args[0])])
    elif event in STARTS or event.startswith("os.exec"):
        if event != "subprocess.Popen" or started(args):
            events.append([event, repr(args)[:200]])
    elif event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        events.append([event, repr(args)[:200]])
    elif event == "os.mkdir" and os.path.isdir(args[0]):
        pass  # nothing is made
    elif event in CHANGES and not all(inside(one) for one in args[event == "shutil.copyfile" : 2] if isinstance(one, (str, bytes))):
        events.append([event, repr(args)[:200]])
    elif event == "pickle.find_class":
        events.append([event, repr(args)[:200]])
"""
"""What puts down what a process does to files, processes and networks, in `events`.

run   the folder that it may write in        mine  others that it may write in
home  what it may not read, the reader's own
"""

LISTENER = (
    EAR
    + """
run, home, own, report, ways = *sys.argv[1:5], sys.argv[5].split(",")
events, mine = [], [own]
sys.dont_write_bytecode = True
import torch, numpy, matplotlib.figure, mmcl, mmcl.cli  # what is loaded before says nothing of the folder
from mmcl.api.errors import MmclError
from mmcl.plugins import plugins
from pathlib import Path
outcomes = {}
plugins().all("dataset")

def words(*command):
    return lambda: mmcl.cli.cli.main(list(command), standalone_mode=False)

def inner(*names):
    return os.path.join(own, *names)

file = os.path.join(os.path.dirname(run), "new.wav")
if any(way.startswith("export ") for way in ways):
    try:
        import onnx, onnxruntime, onnxscript, torch.onnx, torch.onnx._internal.exporter._compat
    except ImportError:
        ways = [way for way in ways if way != "export onnx"]
OPENS = {
    "report": words("report", run),
    "audit": words("audit", run),
    "compare": words("compare", run),
    "tables": words("tables", "mpuc-mer", run),
    "runs list": words("runs", "list", os.path.dirname(run)),
    "runs rm": words("runs", "rm", run),
    "runs prune": words("runs", "prune", os.path.dirname(run)),
    "data show": words("data", "show", run, "toy-00000", "--out", inner("one.html")),
    "replay": words("replay", run),
    "embed": words("embed", run, file, "--out", inner("features.npz")),
    "predict": words("predict", run, file),
    "search": words("search", run, file),
    "export onnx": words("export", run, inner("onnx"), "--to", "onnx"),
    "export torch-export": words("export", run, inner("torch"), "--to", "torch-export"),
    "export webdataset": words("export", run, inner("tars"), "--to", "webdataset"),
    "publish": words("publish", run, inner("published")),
    "rerun": lambda: __import__("mmcl.review.rerun", fromlist=["x"]).plan_of(Path(run)),
    "sweep": words("sweep", inner("sweep.yaml"), "--out", run),
    "run": words("run", inner("recipe.yaml"), "--out", run, "--workers", "1"),
    "prepare": words("prepare", inner("recipe.yaml"), "--shard", "1/1", "--out", run, "--workers", "1"),
    "upload": words("upload", run, "file://" + inner("uploaded")),
    "profile": words("profile", inner("recipe.yaml"), "--out", run, "--workers", "1", "--steps", "1", "--device", "cpu"),
}
sys.addaudithook(listen)
for name in ways:
    mine[1:] = [os.path.join(os.path.dirname(run), "prepared")] if name in ("sweep", "run", "prepare", "profile") else []
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
)


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


WAYS = (
    *("report", "audit", "compare", "tables", "runs list", "runs rm", "runs prune", "data show", "replay", "rerun"),
    *("embed", "predict", "search", "export onnx", "export torch-export", "export webdataset", "publish"),
    "upload",
    *("sweep", "run", "prepare", "profile"),  # these also write the streams that they prepare, beside the folder
)
LISTENED_APART = {"serve"}
"""Commands that are listened to by a test of their own, as their work is done in other processes."""


@pytest.fixture
def laid(tiny_run, tmp_path):
    """Lays a hostile copy of a run between files of the reader's own; where the copy lies, and those."""
    from mmcl.media import write_audio

    home, run, own = tmp_path / "home", tmp_path / "runs" / "tiny", tmp_path / "own"
    for folder in (home, own):
        folder.mkdir()
    for name in (".bashrc", "secret.yaml"):
        (home / name).write_text("my own words", encoding="utf-8")
    shutil.copytree(tiny_run.root, run)
    shutil.copytree(tiny_run.prepared, tmp_path / "runs" / "prepared")
    write_audio(tmp_path / "runs" / "new.wav", np.sin(np.arange(16000) / 7) * 0.3, 16000)
    shutil.copy(run / "recipe.yaml", own / "recipe.yaml")
    (own / "sweep.yaml").write_text((run / "recipe.yaml").read_text() + "sweep: {trials: 2, space: {seed: [1, 2]}}\n")
    pretrained = run / "fold-00" / "seed-3" / "pretrain"
    weights = read_arrays(pretrained / "encoders.safetensors")
    write_arrays(pretrained / "lost.safetensors", {name.replace("/", ".", 1): one for name, one in weights.items()})
    lost = {
        "format": 1,
        "fold": 0,
        "seed": 3,
        "epoch": 1,
        "step": 0,
        "loss": "nan",
        "pairs": ["text~audio"],
        "rows": [0, 1, 2, 3],
    }
    lost |= {"recordings": ["a", "b", "c", "d"], "views": [0] * 4, "windows": [[0.0, 0.8]] * 4}
    write_json(pretrained / "lost.json", lost)

    def lay(kind):
        HOSTILE[kind](run, home)
        return run, home, own

    yield lay
    assert sorted(path.name for path in home.iterdir()) == [".bashrc", "secret.yaml"]
    assert {path.read_text(encoding="utf-8") for path in home.iterdir()} == {"my own words"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_is_written_outside_or_started_or_fetched(kind, laid, tmp_path):
    run, home, own = laid(kind)
    done = subprocess.run(
        [sys.executable, "-P", "-c", LISTENER, str(run), str(home), str(own), str(tmp_path / "heard.json"), ",".join(WAYS)],
        cwd=run,  # where code of the current folder would be found
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "MMCL_TRACEBACK": "", "TMPDIR": str(own)},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "heard.json").read_text(encoding="utf-8"))
    assert result["events"] == [], result
    assert not [one for one in result["outcomes"].values() if one.startswith("ERROR")], result
    if kind == "untouched":
        assert {way: outcome for way, outcome in result["outcomes"].items() if outcome != "done" and way != "sweep"} == {}


APART = (
    EAR
    + """
class Told(list):
    def append(self, one):
        os.write(kept, (json.dumps([os.getpid(), *one]) + chr(10)).encode())

run, home, *mine, kept = os.environ["EAR"].split(os.pathsep)
kept, events = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), Told()

def of_other_machines(event, args):
    if event in ("socket.bind", "socket.connect") and (isinstance(args[1], (str, bytes)) or args[1][0] == "127.0.0.1"):
        return  # a pipe, or the address that it listens at
    if event == "pickle.find_class" and args[1] not in ("system", "popen", "exec", "eval", "Popen", "spawn", "execv"):
        return  # what processes of one program send each other; what a stranger's pickle would start is listened to
    if event != "socket.getaddrinfo" or args[0] not in ("127.0.0.1", b"127.0.0.1"):
        listen(event, args)

events.append(["listens", ""])
sys.addaudithook(of_other_machines)
"""
)
"""The same for a command and all the processes that it starts, as each begins with a module of this name; only sockets of this machine are let pass."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["untouched", "names and paths", "programs", "streams elsewhere"])
def test_a_server_writes_starts_and_fetches_nothing_outside(kind, laid, tmp_path):
    for module in ("fastapi", "python_multipart", "uvicorn"):
        pytest.importorskip(module, reason="the extra serve is not installed: pip install 'mmcl[serve]'")
    run, home, own = laid(kind)
    (tmp_path / "ear").mkdir()
    (tmp_path / "ear" / "sitecustomize.py").write_text(APART, encoding="utf-8")
    told = tmp_path / "heard"
    env = os.environ | {"TMPDIR": str(own), "EAR": os.pathsep.join(map(str, (run, home, own, told)))}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "ear"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "mmcl", "serve", str(run), "--port", "0", "--device", "cpu"]
    serving = subprocess.Popen(command, cwd=run, stderr=subprocess.PIPE, text=True, env=env)
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'
    body += (tmp_path / "runs" / "new.wav").read_bytes() + b"\r\n--b--\r\n"
    statuses, words = [], ""
    try:
        assert serving.stderr is not None
        for line in serving.stderr:
            words += line
            if address := re.search(r"answers at (http://127\.0\.0\.1:\d+/)", line):
                for where in ("api/predict", "api/embed", "api/search", "api/look"):
                    request = urllib.request.Request(
                        address[1] + where, body, {"content-type": "multipart/form-data; boundary=b"}
                    )
                    with urllib.request.urlopen(request, timeout=300) as reply:
                        statuses.append(reply.status)
                serving.send_signal(signal.SIGINT)
        code = serving.wait(100)
    finally:
        serving.kill()
    lines = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if line[1] != "listens"] == []
    assert len({line[0] for line in lines}) >= 2, "the process that answers was listened to"
    if kind == "untouched":
        assert (statuses, code) == ([200] * 4, 0), words
    assert "Traceback" not in words
    assert code in (0, 2)


def test_every_command_that_takes_a_run_is_listened_to():
    """A new one is seen by the name of its argument, or by an --out that is a run's folder."""

    def commands(group, context, before=""):
        for name in group.list_commands(context):
            one = group.get_command(context, name)
            yield from commands(one, context, f"{name} ") if isinstance(one, click.Group) else [(before + name, one)]

    takes = {
        name
        for name, one in commands(cli, click.Context(cli))
        for param in one.params
        if (isinstance(param, click.Argument) and ("run" in param.name or re.search(r"RUN|DIR\]", param.metavar or "")))
        or (param.name == "out" and isinstance(param.type, click.Path) and not param.type.file_okay)
    }
    listened = {"export" if way.startswith("export ") else way for way in WAYS} | LISTENED_APART
    assert takes - {"new-plugin"} == listened  # whose --out becomes a package


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
    words = [str(tmp_path / name) for name in ("runs/tiny", "home", "own", "heard.json")] + ["bad"]
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
