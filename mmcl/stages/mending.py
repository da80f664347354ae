"""What a run folder's log and marks need before and after a run: lines that can be read, and digests of the files that no stage answers for."""

from __future__ import annotations

import os
from pathlib import Path

from ..api.errors import StageError
from ..data.prepared import RECORDINGS
from ..runs import WRITTEN, RunFolder, digest, finish, open_file, read_json, spoilt, write_json, write_text
from ..screen import say
from ..shapes import parsed, shape_of

OF_NO_STAGE = ("recipe.yaml", "folds.csv", "plan.json", "prepare.json", "folds.json", RECORDINGS, "report.json")


def mend_log(run: RunFolder) -> None:
    """Take lines out of log.jsonl that cannot be read, as a full disk or a crash leaves them, and say what is no longer known."""
    path = run.root / "log.jsonl"
    if not os.path.lexists(path):
        if (run.root / "plan.json").is_file():
            say(f"{path}: is missing; when the test set was opened so far is no longer known, and a new log is begun")
        return
    check = shape_of(path)
    assert check is not None

    def whole(line: str) -> bool:
        try:
            check(parsed(line))
        except ValueError:
            return False
        return True

    with open_file(path) as file:
        lines = file.read().decode(errors="replace").split("\n")
    kept = [line for line in lines if line and whole(line)]
    if lost := sum(bool(line) for line in lines) - len(kept):
        some = "1 line cannot be read and is" if lost == 1 else f"{lost} lines cannot be read and are"
        say(f"{path}: {some} taken out; what happened then is no longer known")
    if lost or lines[-1]:
        write_text(path, "".join(f"{line}\n" for line in kept))


def seal(run: RunFolder) -> None:
    """Keep digests of the files that no stage answers for, so that damage can be told from a fault of ours."""
    finish(run.root, "run", WRITTEN, [name for name in OF_NO_STAGE if (run.root / name).is_file()])


def seal_report(root: Path) -> None:
    """The same of report.json alone, once it is written again; who has written the other files is not said anew."""
    try:
        known = read_json(root / WRITTEN)
    except StageError:
        return
    write_json(root / WRITTEN, {**known, "files": {**known["files"], "report.json": digest(root / "report.json")}})


def drop_spoilt(folder: Path) -> None:
    """Of a folder of `supervise`, take away the models of which a file is not what was written: they alone are trained again."""
    try:
        changed = spoilt(folder, read_json(folder / "finished.json"))
    except StageError:  # nothing finished, or nobody knows what did
        changed = {}
    for path in sorted((folder / "models").glob("*.json")):
        weights = path.with_suffix(".safetensors")
        try:
            bad = read_json(path).get("sha256", digest(weights)) != digest(weights)
        except StageError:
            bad = True
        if bad or any(f"models/{one.name}" in changed for one in (path, weights)):
            path.unlink()
            weights.unlink(missing_ok=True)
