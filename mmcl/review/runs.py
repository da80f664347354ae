"""runs: what lies in a folder of runs, and how to be rid of it: which recipe, how far, how good, since when, how large.

Nothing is removed that mmcl did not write, and nothing that a run still needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..api.errors import StageError
from ..data.parts import PARTS
from ..evaluate.metrics import HEADLINE
from ..recipe.plan import main_input
from ..runs import (
    LOCKS,
    MARKER,
    RunFolder,
    distrust,
    distrusting,
    kind_of,
    locked,
    read_json,
    refuse_links,
    remove_run,
    remove_tree,
)

DEPTH = 4
"""How far below a folder of runs a run may lie: a sweep's trials are the deepest."""


@dataclass(frozen=True)
class Listed:
    """One run, as its files have it."""

    folder: str  # relative to the folder that was asked for
    kind: str  # run or sweep
    recipe: str
    state: str
    task: str | None
    metric: str | None
    score: float | None  # of the main input under the first head, on test recordings; None: none yet
    time: float | None  # seconds since 1970 at which its files last changed
    size: int  # bytes, without prepared streams

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Unused:
    """Prepared streams that no run of their folder names."""

    folder: Path
    size: int  # bytes


def runs_in(root: Path) -> list[Listed]:
    """The runs and sweeps of a folder, or the one that it is itself, newest first. Raises StageError if it is no folder."""
    if not root.is_dir():
        raise StageError(f"{root}: is no folder; name the one that your runs lie in, as in mmcl runs DIR")
    folders = [root] if kind_of(root) else sorted(one for one in root.iterdir() if one.is_dir() and not one.is_symlink())
    listed = [_listed(one, root) for one in folders if kind_of(one)]
    return sorted(listed, key=lambda one: (-(one.time or 0.0), one.folder))


def remove(folders: Sequence[Path], really: bool) -> list[tuple[Path, int]]:
    """The runs that are removed, or would be, each with its bytes. All are looked at before the first is removed.

    really  False: nothing is removed

    Raises StageError, with nothing removed, if one is no run of mmcl's, holds somebody's files or is being written.
    """
    sizes = []
    with ExitStack() as all_of_them:
        for folder in dict.fromkeys(one.resolve() if one.is_symlink() else one for one in folders):
            if kind_of(folder) is None:
                raise StageError(f"{folder}: is no run of mmcl (it has no {MARKER}); nothing was removed")
            all_of_them.enter_context(RunFolder(folder).held(""))
            remove_run(folder, really=False)
            sizes.append((folder, _size(folder)))
        for folder, _ in sizes if really else ():
            remove_run(folder)
    return sizes


@distrusting
def prune(root: Path, really: bool) -> list[Unused]:
    """The prepared streams in a folder of runs that none of its runs names; removed, or would be.

    really  False: nothing is removed

    Raises StageError, with nothing removed, if a run is being written, or cannot be read and so may need any of them.
    """
    if not root.is_dir():
        raise StageError(f"{root}: is no folder; name the one that your runs lie in, as in mmcl runs prune DIR")
    prepared = root / "prepared"
    if not prepared.is_dir():
        return []
    refuse_links(prepared)
    used: set[str] = set()
    with ExitStack() as all_of_them:
        for folder in _below(root, prepared):
            all_of_them.enter_context(RunFolder(folder).held(""))
            if (folder / "folds.json").exists():
                stores = read_json(folder / "folds.json")["stores"].values()
                used |= {os.path.normpath((folder / str(one["folder"])).absolute()) for one in stores}
        unused = [
            Unused(one, _size(one))
            for one in sorted(prepared.glob("*/*"))
            if (_is_store(one) or _is_parts(one)) and str(one.absolute()) not in used
        ]
        for one in unused if really else ():
            with locked(one.folder.with_name(f".{one.folder.name.removesuffix(PARTS)}.lock"), wait=False) as mine:
                if not mine:
                    raise StageError(
                        f"{one.folder}: another mmcl process is preparing these streams; run the same command later"
                    )
                remove_tree(one.folder)
    return unused


def _below(root: Path, apart: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Every run in a folder, however deep: those of a sweep too."""
    for one in sorted(root.iterdir()):
        if one == apart or not one.is_dir() or one.is_symlink():
            continue
        if (one / "folds.json").exists() or (one / "plan.json").exists():
            yield one
        elif depth > 1:
            yield from _below(one, apart, depth - 1)


def _is_parts(folder: Path) -> bool:
    """Whether a folder holds parts of a store that was never put together, and nothing else."""
    key = folder.name.removesuffix(PARTS).rpartition("-")[2]
    inside = [path for path in folder.iterdir() if not path.name.endswith(".lock")] if folder.name.endswith(PARTS) else []
    return bool(inside) and all(_is_store(path, key) for path in inside)


def _is_store(folder: Path, key: str | None = None) -> bool:
    """Whether a folder holds prepared streams and nothing else.

    key  what they must be named after; left out: what its own name says
    """
    if not folder.is_dir() or not (folder / "store.json").is_file():
        return False
    names = [path.name for path in folder.iterdir()]
    ours = all(name in ("store.json", "index.safetensors") or name.startswith("shard-") for name in names)
    try:
        kept = str(read_json(folder / "store.json").get("key") or "no key")
    except StageError:  # whatever it is, no store of ours that could be named
        return False
    return ours and (folder.name.endswith(kept) if key is None else key == kept)


def _listed(folder: Path, root: Path) -> Listed:
    """One run or sweep; what is damaged is said in its state."""
    kind, name = str(kind_of(folder)), "." if folder == root else str(folder.relative_to(root))
    recipe, state, task, metric, score = "", "", None, None, None
    try:
        refuse_links(folder)
        with distrust(folder):
            if kind == "sweep":
                recipe, state, metric, score = _sweep(folder)
            else:
                about = read_json(folder / "plan.json") if (folder / "plan.json").exists() else {}
                recipe = str(about.get("plan", {}).get("name", ""))
                state = _state(RunFolder(folder), about)
                task, metric, score = _score(folder, about)
    except StageError as error:
        state = f"damaged: {error}"
    times = [path.stat().st_mtime for path in folder.iterdir() if path.is_file() and path.name not in LOCKS]
    return Listed(name, kind, recipe, state, task, metric, score, max(times, default=None), _size(folder))


def _state(run: RunFolder, about: Mapping[str, Any]) -> str:
    """How far a run has come, in a few words."""
    working = "at work, " if _at_work(run.root) else ""
    planned = run.planned()
    if planned is None:
        return f"{working}begun"
    plan = about["plan"]
    stages = [s for s in ("pretrain", "embed", "probe", "supervise", "worth") if s in ("embed", "probe") or plan.get(s)]
    stages = [s for s in stages if s != "pretrain" or plan["pretrain"]["epochs"]]
    done = {stage: len(run.units(stage)) for stage in stages}
    open_ones = [stage for stage in stages if done[stage] < len(planned)]
    if not open_ones:
        return f"{working}finished" if (run.root / "report.json").exists() else f"{working}finished, no report"
    return f"{working}{open_ones[0]} {done[open_ones[0]]} of {len(planned)}"


def _at_work(folder: Path) -> bool:
    """Whether a process is writing a run. Nothing is left behind in it."""
    if not (folder / ".lock").exists():
        return False
    try:
        with locked(folder / ".lock", wait=False) as mine:
            return not mine
    except PermissionError:  # somebody else's run
        return False


def _score(folder: Path, about: Mapping[str, Any]) -> tuple[str | None, str | None, float | None]:
    """The main score: (task, metric, value), as the report's first card has it."""
    if not (folder / "report.json").exists():
        return None, None, None
    plan = about["plan"]
    main, head = main_input(plan["probe"]["inputs"]), next(iter(plan["probe"]["heads"]))
    encoder = "pretrained" if plan["pretrain"]["epochs"] else "random"
    for row in read_json(folder / "report.json")["summary"]:
        mine = (row["input"], row["head"], row["encoder"]) == (main, head, encoder)
        if mine and row["metric"] in HEADLINE.values():
            return row["task"], row["metric"], row["mean"]
    return None, None, None


def _sweep(folder: Path) -> tuple[str, str, str | None, float | None]:
    """A sweep: its recipe, how many trials there are, what is searched for and the test score of the best values."""
    about = read_json(folder / "sweep.json") if (folder / "sweep.json").exists() else {}
    if not (folder / "trials.json").exists():
        return str(about.get("name", "")), "begun", None, None
    trials = read_json(folder / "trials.json")
    final = trials.get("final") or {}
    count = len(trials["trials"])
    return str(trials["name"]), f"{count} trial{'' if count == 1 else 's'}", trials.get("metric"), final.get("mean")


def _size(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
