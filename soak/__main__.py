"""Kill runs by SIGKILL, let them go on, and hold what comes out against a run that nobody disturbed: byte by byte, file by file.

    python -m soak moments --kills 105      at random moments of every stage, the report included
    python -m soak calls                    before every call that changes a file of a small run: what it leaves is gone on with
    python -m soak calls --first 40 --last 80
    python -m soak calls --kill --every 6   the same, each in a process that is killed

Each process is a copy of one that has done the work before, so that nothing has to be imported. `--what rerun` does so in a folder with prepared streams of its own, as a repetition has; `--what sweep` with a sweep of two trials.
Says where each kill fell, and ends with 1 if a byte differs, a file is left behind or a process stays.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import io
import json
import mmap
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SAMPLES = 24
RECIPE = f"""\
format: 1
name: small
seed: 3
dataset: {{use: toy, samples: {SAMPLES}, speakers: 6, missing: 0.0}}
modalities:
  text: {{features: {{use: hashed-words, dim: 4}}, backbone: {{use: mlp, hidden: [4], width: 4}}}}
  audio: {{features: {{use: log-mel, bands: 4, hop: 0.1, window: 0.2}}, backbone: {{use: tcn, channels: [4], dropout: 0.1}}}}
window: {{seconds: 0.8}}
projection: {{hidden: 4, width: 4}}
pretrain: {{batch_size: 8, epochs: 3, optimizer: {{use: adamw, lr: 1e-3}}, checkpoint_minutes: 0}}
probe: {{tasks: [emotion], inputs: [all], heads: {{linear: {{use: linear, l2: [0.1]}}}}}}
supervise: {{heads: {{mlp: {{use: mlp, hidden: 4}}}}, inputs: [audio], tasks: [emotion], epochs: 2, batch_size: 8, checkpoint_minutes: 0}}
worth: {{few_shot: [0.5], draws: 1, transfer: false, missing: false, maps: [pca], points: 10}}
report: {{against: [random, pooled]}}
protocol: {{use: official}}
"""
SWEEP = """\
sweep: {space: {pretrain.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}, trials: 3, startup: 2}
"""
STAGES = ("before", "prepare", "pretrain", "embed", "probe", "supervise", "worth", "report", "after")
COMPARED = re.compile(
    r"\.safetensors$|/(scores|predictions|retrieval|searches|worth)\.jsonl$|report\.json$|store\.json$|(encoders|heads|maps|folds)\.json$"
)
CALLS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "shutil.rmtree")
PR_SET_CHILD_SUBREAPER = 36


class Told:
    """What the child tells its parent, in memory that both have: the stage that it is in, and how many calls changed a file so far."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)

    def put(self, stage: int | None = None, calls: int | None = None) -> None:
        if stage is not None:
            self._memory[0:8] = stage.to_bytes(8, "little")
        if calls is not None:
            self._memory[8:16] = calls.to_bytes(8, "little")

    @property
    def stage(self) -> int:
        return int.from_bytes(self._memory[0:8], "little")

    @property
    def calls(self) -> int:
        return int.from_bytes(self._memory[8:16], "little")


def work(what: str, folder: Path) -> None:
    """One whole piece of work in this process."""
    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe
    from mmcl.report import run_and_report, search_and_report
    from mmcl.runs import RunFolder

    if what == "sweep":
        from mmcl.recipe.search import Source, make_sweep

        search_and_report(make_sweep(Source(RECIPE + SWEEP, "small.yaml", Path(), (), None, None)), folder / "runs" / "small")
        return
    root = folder / "runs" / "small"
    run_and_report(
        make_plan(parse_recipe(RECIPE, "small.yaml")), RunFolder(root, root / "prepared" if what == "rerun" else None), 1
    )


def _announced(told: Told) -> None:
    """Have each stage say that it begins."""
    for number, name in enumerate(STAGES):
        if name in ("before", "after"):
            continue
        module = importlib.import_module("mmcl.report.page" if name == "report" else f"mmcl.stages.{name}")
        real = getattr(module, name)

        def begins(*args: object, _real: Callable[..., object] = real, _number: int = number, **more: object) -> object:
            told.put(stage=_number)
            try:
                return _real(*args, **more)
            finally:
                told.put(stage=len(STAGES) - 1 if STAGES[_number] == "report" else _number)

        setattr(module, name, begins)


def killed_at(last: int) -> Callable[[int], None]:
    """Kill this process before the call of that number."""

    def before(number: int) -> None:
        if number == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return before


def copied(folder: Path, copies: Path, numbers: range, told: Told) -> Callable[[int], None]:
    """Copy the folder before each call of those numbers: the files are what they are after a kill, which takes nothing from a disk."""

    def before(number: int) -> None:
        if number in numbers:
            (here := copies / f"{number}-{told.stage}").mkdir(parents=True)
            if folder.exists():
                shutil.copytree(folder, here, symlinks=True, dirs_exist_ok=True)

    return before


def _counted(told: Told, folder: Path, before: Callable[[int], None]) -> None:
    """Count calls that change a file in a folder, and do something before each."""
    inside, count, within = str(folder), 0, False

    def listen(event: str, args: tuple[object, ...]) -> None:
        nonlocal count, within
        if within:
            return
        if event == "open":
            changes = bool(int(str(args[2] or 0)) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(
                s in str(args[1] or "") for s in "wax+"
            )
        else:
            changes = event in CALLS
        if changes and args and isinstance(args[0], str | bytes | os.PathLike) and os.fsdecode(args[0]).startswith(inside):
            count += 1
            told.put(calls=count)
            within = True
            before(count)
            within = False

    sys.addaudithook(listen)


def begun(what: str, folder: Path, told: Told, before: Callable[[int], None] | None = None, draws: bool = True) -> int:
    """Begin the work in a process of its own; its number.

    before  what is done before each call that changes a file, given its number
    draws   pictures too: they take more than half of the time of a report, and no file
    """
    told.put(stage=0, calls=0)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        quiet = os.open(folder / "words", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        _announced(told)
        if not draws:
            _undrawn()
        if before is not None:
            _counted(told, folder / "runs", before)
        work(what, folder)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is written down, and the parent sees the code
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _undrawn() -> None:
    """Have every picture be an empty one."""
    from markupsafe import Markup

    from mmcl.report.figures import picture as module

    real = module.picture
    for one in [one for name, one in sys.modules.items() if name.startswith("mmcl.report.figures")]:
        if getattr(one, "picture", None) is real:
            setattr(one, "picture", lambda draw, alt: module.Picture(Markup(), Markup(), alt))  # noqa: B010 - a module


def ended(child: int) -> int:
    """Wait for a process; its code, or minus the signal that ended it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def finished(what: str, folder: Path, told: Told, draws: bool = True) -> None:
    """The work, to its end. Raises RuntimeError if it does not end well."""
    if (code := ended(begun(what, folder, told, draws=draws))) != 0:
        raise RuntimeError(f"{folder}: ended with {code}:\n{(folder / 'words').read_text(encoding='utf-8')[-3000:]}")


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file below runs/; the bytes of those that hold no time."""
    root = folder / "runs"
    return {
        (name := path.relative_to(root).as_posix()): path.read_bytes()
        if COMPARED.search(name) and "/trials/" not in name
        else None
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def differences(ours: dict[str, bytes | None], theirs: dict[str, bytes | None]) -> list[str]:
    """A sentence for each file that differs, is missing or is left behind."""
    return (
        [f"{name} is left behind" for name in ours.keys() - theirs.keys()]
        + [f"{name} is missing" for name in theirs.keys() - ours.keys()]
        + [f"{name} has other bytes" for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
    )


def stay() -> list[int]:
    """Processes that outlive a killed one by more than ten seconds; as their reaper we are given them."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        left = [int(one) for one in children.read_text(encoding="ascii").split()] if children.exists() else []
        if not left:
            return []
        time.sleep(0.05)
    return left


def killed_within(child: int, told: Told, stage: int, delay: float) -> int | None:
    """Kill a process so many seconds after a stage began in it; the stage in which that fell, None if it had ended before."""
    while told.stage < stage:
        if os.waitpid(child, os.WNOHANG)[0]:
            return None
        time.sleep(0.0005)
    time.sleep(delay)
    fell = told.stage
    os.kill(child, signal.SIGKILL)
    return fell if ended(child) == -signal.SIGKILL else None


def moments(what: str, kills: int, seed: int, place: Path, told: Told) -> tuple[Counter[str], list[str]]:
    """Rounds in which one run is killed once in each stage, at a random moment of it, and then ends."""
    draw = random.Random(seed)
    calm = place / "calm"
    calm.mkdir()
    lasts = _lasts(what, calm, told)
    expected, fell, wrong = content(calm), Counter[str](), list[str]()
    rounds = 0
    while sum(fell.values()) < kills and rounds < 4 * kills:
        folder = place / f"round-{rounds}"
        folder.mkdir()
        for stage in (s for s in range(len(STAGES) - 1) if lasts[s] > 0):
            where = killed_within(begun(what, folder, told), told, stage, draw.uniform(0, lasts[stage]))
            if where is not None:
                fell[STAGES[where]] += 1
            wrong += [f"round {rounds}, {STAGES[stage]}: process {one} stays" for one in stay()]
        finished(what, folder, told)
        wrong += [f"round {rounds}: {one}" for one in differences(content(folder), expected)]
        shutil.rmtree(folder)
        rounds += 1
        print(f"round {rounds}: {sum(fell.values())} kills, {dict(fell)}, {len(wrong)} faults", flush=True)
    return fell, wrong


def _lasts(what: str, folder: Path, told: Told) -> list[float]:
    """Seconds that each stage of undisturbed work takes; a sweep has none but those of its last run."""
    child, begins, last = begun(what, folder, told), [0.0] * len(STAGES), time.monotonic()
    code, stage = None, 0
    while code is None:
        now, seen = time.monotonic(), told.stage
        begins[stage] += now - last
        last, stage = now, seen
        if (gone := os.waitpid(child, os.WNOHANG))[0]:
            code = os.waitstatus_to_exitcode(gone[1])
        time.sleep(0.0005)
    if code:
        raise RuntimeError((folder / "words").read_text(encoding="utf-8")[-3000:])
    return begins


def calls(what: str, numbers: slice, kill: bool, place: Path, told: Told) -> tuple[Counter[str], list[str]]:
    """What is there before each call that changes a file is gone on with, one after the other.

    numbers  which calls, from 1
    kill     in a process that is killed there; else in a copy of the folder, taken there
    """
    folder, copies = place / "calm", place / "copies"
    folder.mkdir()
    if code := ended(begun(what, folder, told, lambda number: None, draws=False)):
        raise RuntimeError(f"ended with {code}:\n{(folder / 'words').read_text(encoding='utf-8')[-3000:]}")
    count, expected = told.calls, content(folder)
    which = range(1, count + 1)[numbers]
    print(f"{count} calls change a file; {len(which)} are tried", flush=True)
    if not kill:
        shutil.rmtree(folder / "runs")
        if code := ended(begun(what, folder, told, copied(folder / "runs", copies, which, told), draws=False)):
            raise RuntimeError(f"ended with {code}:\n{(folder / 'words').read_text(encoding='utf-8')[-3000:]}")
    fell, wrong = Counter[str](), list[str]()
    for number in which:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        if kill:
            if ended(begun(what, folder, told, killed_at(number), draws=False)) == -signal.SIGKILL:
                fell[STAGES[told.stage]] += 1
            wrong += [f"call {number}: process {one} stays" for one in stay()]
        else:
            (copy,) = copies.glob(f"{number}-*")
            copy.rename(folder / "runs")
            fell[STAGES[int(copy.name.split("-")[1])]] += 1
        try:
            finished(what, folder, told, draws=False)
        except RuntimeError as error:
            wrong.append(f"call {number}: {error}")
        wrong += [f"call {number}: {one}" for one in differences(content(folder), expected)]
        if number in which[:: max(1, len(which) // 20)]:
            print(f"call {number}: {dict(fell)}, {len(wrong)} faults", flush=True)
    return fell, wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("how", choices=("moments", "calls"))
    parser.add_argument("--what", choices=("run", "rerun", "sweep"), default="run")
    parser.add_argument("--kills", type=int, default=105, help="how many, at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--first", type=int, default=1, help="the first call")
    parser.add_argument("--last", type=int, help="the last call; left out: the last that there is")
    parser.add_argument("--every", type=int, default=1, help="of the calls: 1 for all")
    parser.add_argument("--kill", action="store_true", help="a process at each call, instead of copying what it leaves")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    import torch

    torch.set_num_threads(1)  # so that a copy of this process can go on: it has no thread of which none is left
    told, memory = Told(), Path("/dev/shm")
    place_in = memory if os.access(memory, os.W_OK) else None  # most of the time would go to the disk
    with tempfile.TemporaryDirectory(prefix="soak-", dir=place_in) as place:
        (Path(place) / "first").mkdir()
        with contextlib.redirect_stderr(io.StringIO()):
            work(given.what, Path(place) / "first")  # so that all that is imported and compiled is, in every copy
        if given.how == "moments":
            fell, wrong = moments(given.what, given.kills, given.seed, Path(place), told)
        else:
            numbers = slice(given.first - 1, given.last, given.every)
            fell, wrong = calls(given.what, numbers, given.kill, Path(place), told)
    print(
        json.dumps({"what": given.what, "how": given.how, "kills": sum(fell.values()), "fell": fell, "faults": wrong}, indent=1)
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
