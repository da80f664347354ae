"""Fuzzers of a finished run's folder: every JSON file of it, its weights, and all that opens a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import draws, edits
from .machine import Fuzzer

RECIPE = """\
format: 1
name: tiny
seed: 3
dataset: {use: toy, samples: 36, speakers: 6, missing: 0.0}
modalities:
  text: {features: {use: hashed-words, dim: 4}, backbone: {use: mlp, hidden: [4], width: 4}}
  audio: {features: {use: log-mel, bands: 4, hop: 0.1, window: 0.2}, backbone: {use: tcn, channels: [4], dropout: 0.1}}
window: {seconds: 0.8}
projection: {hidden: 4, width: 4}
pretrain: {batch_size: 16, epochs: 2, optimizer: {use: adamw, lr: 1e-3}}
probe: {tasks: [emotion], inputs: [audio, all], heads: {linear: {use: linear, l2: [0.1]}}}
supervise: {tasks: [emotion], inputs: [audio], heads: {mlp: {use: mlp, hidden: 4}}, epochs: 1, batch_size: 16, optimizer: {use: adamw, lr: 1e-3}}
worth: {few_shot: [0.5], draws: 1, missing: false, transfer: false, robustness: {noise: [1.0], loss: [], late: []}, maps: [pca], points: 10}
protocol: {use: official}
"""
"""A run of two modalities that goes through every stage in seconds."""


def small_run(folder: Path) -> Path:
    """A finished run, with its report; made once for each folder."""
    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe
    from mmcl.report import run_and_report
    from mmcl.runs import RunFolder

    root = folder / "runs" / "tiny"
    if not (root / "report.html").exists():
        run_and_report(make_plan(parse_recipe(RECIPE, "tiny.yaml")), RunFolder(root), workers=1, device="cpu")
    return root


def openers(root: Path) -> dict[str, Callable[[], Any]]:
    """All that opens a run's folder, by name."""
    from mmcl.data.prepared import load_prepared
    from mmcl.report.page import write_report
    from mmcl.report.several import report_runs
    from mmcl.review.audit import audit_folder
    from mmcl.review.compare import compare_runs
    from mmcl.review.published import runs_of
    from mmcl.review.rerun import differences, plan_of
    from mmcl.review.runs import prune, runs_in
    from mmcl.runs import RunFolder
    from mmcl.stages.earlier import earlier
    from mmcl.use.opened import Opened, describe
    from mmcl.use.table import features_of

    return {
        "report": lambda: write_report(root),
        "several": lambda: report_runs([root, root]),
        "audit": lambda: audit_folder(root),
        "compare": lambda: compare_runs([root]),
        "tables": lambda: runs_of([root]),
        "plan": lambda: plan_of(root),
        "differences": lambda: differences(root, root),
        "list": lambda: runs_in(root.parent),
        "prune": lambda: prune(root.parent, really=False),
        "open": lambda: describe(Opened(root)),
        "features": lambda: features_of(root, "test"),
        "prepared": lambda: load_prepared(RunFolder(root)),
        "earlier": lambda: earlier(RunFolder(root)),
    }


def run_folders(folder: Path, slow: bool = True) -> Fuzzer:
    """Every JSON file of a run, edited as JSON; then one of those that open runs, with `slow` also those that compute again."""
    root = small_run(folder)
    files = sorted(path for path in root.rglob("*.json*") if path.is_file())
    kept = {path: path.read_text(encoding="utf-8") for path in files}
    ways = openers(root)
    names = sorted(name for name in ways if slow or name not in ("audit", "several"))

    def call(case: tuple[int, str, Any, Any]) -> None:
        number, way, json_edits, byte_edits = case
        path = files[number % len(files)]
        try:
            path.write_bytes(_tampered(path, kept[path], json_edits, byte_edits))
            ways[way]()
        finally:
            path.write_text(kept[path], encoding="utf-8")

    # Those that read little are tried more often.
    way = draws.sampled_from(
        [*names, *(n for n in names if n not in ("report", "several", "audit")), "plan", "prepared", "compare"]
    )
    return Fuzzer(
        draws.tuples(draws.integers(0, len(files) - 1), way, edits.json_edits, draws.just(None) | edits.byte_edits), call
    )


def _tampered(path: Path, text: str, json_edits: Any, byte_edits: Any) -> bytes:
    if byte_edits is not None and len(text) % 4 == 0:
        return edits.tampered_bytes(text.encode(), byte_edits)
    if path.suffix == ".json":
        return edits.tampered_json(json.loads(text), json_edits).encode("utf-8", "surrogatepass")
    lines = text.splitlines()
    at = json_edits[0][1] % len(lines) if lines else 0
    if not lines:
        return b"{}\n"
    lines[at] = edits.tampered_json(json.loads(lines[at]), json_edits)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def kept_parts(folder: Path) -> Fuzzer:
    """Kept encoders, heads and networks: what is said of them, and their weights; each is opened and asked."""
    import mmcl

    root = small_run(folder)
    unit = root / "fold-00" / "seed-3"
    loads: list[tuple[list[Path], Callable[[], Any]]] = [
        (
            [unit / "pretrain" / f"encoders.{end}" for end in ("json", "safetensors")],
            lambda: mmcl.load_encoders(unit / "pretrain"),
        ),
        ([unit / "pretrain" / "encoders.json"], lambda: mmcl.load_joint(unit / "pretrain")),
        ([unit / "probe" / f"heads.{end}" for end in ("json", "safetensors")], lambda: mmcl.load_heads(unit / "probe")),
    ]
    for network in (unit / "supervise" / "models").glob("*.json"):
        loads.append(([network, network.with_suffix(".safetensors")], lambda: mmcl.load_heads(unit / "supervise")))
    files = [(path, load) for paths, load in loads for path in paths]
    kept = {path: path.read_bytes() for path, _ in files}

    def call(case: tuple[int, bool, Any, Any]) -> None:
        number, form, json_edits, byte_edits = case
        path, load = files[number]
        content = kept[path]
        if not form:
            content = edits.tampered_bytes(content, byte_edits)
        elif path.suffix == ".json":
            content = edits.tampered_json(json.loads(content), json_edits).encode("utf-8", "surrogatepass")
        else:
            content = edits.tampered_tensors(content, json_edits)
        try:
            path.write_bytes(content)
            load()
        finally:
            path.write_bytes(kept[path])

    form = draws.sampled_from([True, True, True, False])
    return Fuzzer(draws.tuples(draws.integers(0, len(files) - 1), form, edits.json_edits, edits.byte_edits), call)


FUZZERS = {"run-folders": run_folders, "kept-parts": kept_parts}
"""Name → what makes the fuzzer in an empty folder."""

__all__ = ["FUZZERS", "openers", "small_run"]
