"""A tiny made-up copy of a corpus in its true file format, so that a recipe can be tried before the corpus is there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ..api.errors import DataError, PluginError, UnknownNameError
from ..plugins import plugins
from ..recipe.plan import Plan
from ..recipe.planner import load_plan
from ..recipe.shipped import find, names


def write_sample(target: str, folder: Path, n: int, seed: int) -> tuple[Path, str | None]:
    """Writes the copy below a folder; where it lies, and for a recipe the command that tries it.

    target  name of a dataset, or a recipe (a shipped name or a file), whose dataset and options are then taken

    Raises UnknownNameError, DataError where the folder holds something, and PluginError for a dataset without a sample.
    """
    plan = _plan(target, folder)
    spec: Any = plan.dataset.spec if plan else plugins().get("dataset", target).spec
    root = folder / str(spec.name)
    if not spec.needs_root:
        raise DataError(f"dataset '{spec.name}' makes its own data; there is nothing to be written")
    if spec.sample is None:
        raise PluginError(f"dataset '{spec.name}' has no sample")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: is there already, and nothing is written over it; give another folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{root}: cannot be made a folder ({error.strerror}); give another one") from error
    if plan is not None and spec.sample_for is not None:
        spec.sample_for(plan.dataset.params, root, n, seed)
    else:
        spec.sample(root, n, seed)
    return root, command(plan, target, folder) if plan else None


def _plan(target: str, folder: Path) -> Plan | None:
    """The plan of a recipe; None where a dataset is named."""
    known = [name for name, _ in plugins().all("dataset")]
    if target in known:
        return None
    if target not in names() and not target.endswith((".yaml", ".yml")):
        raise UnknownNameError("dataset or recipe", target, [*known, *names()])
    return load_plan(find(target), data=folder)


def command(plan: Plan, target: str, folder: Path) -> str:
    """How to run a recipe on a sample in a minute or so: few epochs, small batches, one split."""
    sets = ["probe.training.epochs=2"]
    if plan.recipe.pretrain.epochs > 0:
        sets += ["pretrain.epochs=1", "pretrain.batch_size=8"]
    if plan.supervised is not None:
        sets += ["supervise.epochs=1", "supervise.batch_size=8"]
    if plan.recipe.worth is not None:
        sets.append("worth=")
    if len(plan.seeds) > 1:
        sets.append(f"seed={plan.seeds[0]}")
    if plan.recipe.protocol.use != "official":
        sets.append(f"protocol={{use: hold-out, by: {plan.recipe.protocol.by}, test: 0.3, valid: 0.3}}")
    words = ["mmcl", "run", target, "--data", str(folder), "--out", str(folder / "runs" / plan.name)]
    for one in sets:
        words += ["--set", one]
    return shlex.join(words)
