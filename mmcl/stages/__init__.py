"""The stages of a run, in order. Each reads files and writes files; none hands anything to the next in memory."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..api.errors import MmclError
from ..recipe.plan import Plan
from ..runs import RunFolder, write_json, write_text
from ..screen import say
from .surroundings import determinism, git_of, hardware

ORDER = ("prepare", "pretrain", "embed", "probe", "supervise", "worth", "report")


WORTH_SAYING = 0.2
"""Seconds below which a stage had nothing to do."""


def run_all(
    plan: Plan,
    run: RunFolder,
    workers: int | None = None,
    strict: bool = False,
    device: str = "auto",
    stop_after: str | None = None,
) -> Path:
    """Every stage that is not finished yet; the path of the report.

    workers     processes that prepare streams; left out: one a core
    strict      end at the first stream that cannot be read
    device      "auto", "cpu" or "cuda"
    stop_after  name of the last stage to run
    """
    from ..engine.devices import pick_device
    from ..engine.resources import Meter
    from .embed import embed
    from .prepare import prepare
    from .pretrain import pretrain
    from .probe import probe
    from .report import report
    from .supervise import supervise
    from .worth import worth

    where = device if stop_after == "prepare" else str(pick_device(device))
    begun = run.root.exists()
    with run.held():
        write_text(run.root / "recipe.yaml", plan.text)
        if plan.fold_of is not None:  # so that the folder alone is enough to run it again
            rows = "".join(f"{name},{fold}\n" for name, fold in plan.fold_of.items())
            write_text(run.root / "folds.csv", f"{plan.fold_key},fold\n{rows}")
        write_json(run.root / "plan.json", about(plan, where))
        run.log("run", command=sys.argv[1:], mmcl=__version__)
        for name in ORDER:
            meter = Meter()
            if name == "prepare":
                try:
                    prepare(plan, run, workers, strict)
                except MmclError:
                    if not begun:  # without data there is no run: nothing is left behind
                        shutil.rmtree(run.root, ignore_errors=True)
                    raise
            elif name == "pretrain":
                if plan.recipe.pretrain.epochs > 0:
                    pretrain(plan, run, device)
            elif name == "embed":
                embed(plan, run, device)
            elif name == "probe":
                probe(plan, run)
            elif name == "supervise":
                supervise(plan, run, device)
            elif name == "worth":
                worth(plan, run, device)
            else:
                report(plan, run)
            took = meter.read()
            if took["seconds"] >= WORTH_SAYING:
                run.log("took", stage=name, **took)
            if name == stop_after:
                break
        say(f"{plan.name}: done")
    return run.root / "report.html"


def about(plan: Plan, device: str) -> dict[str, Any]:
    """What plan.json says: the plan with every default, and where it ran."""
    versions = {"python": platform.python_version(), "mmcl": __version__}
    for package in (
        "torch",
        "torchvision",
        "torchaudio",
        "numpy",
        "scipy",
        "scikit-learn",
        "librosa",
        "safetensors",
        "pydantic",
    ):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "format": 1,
        "mmcl": __version__,
        "versions": versions,
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        "device": device,
        "git": git_of(plan.folder),
        "hardware": hardware(device),
        "determinism": determinism(),
        "uses_labels": plan.uses_labels(),
        "protocol": f"{plan.recipe.protocol.use} by {plan.recipe.protocol.by}",
        "plan": plan.to_json(),
    }
