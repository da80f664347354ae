"""The engines by name, and what must be the same on every machine that one of them uses."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from .. import __version__
from ..api.errors import StageError
from ..engine.cluster import Ray
from ..engine.places import LOCAL, Engine
from ..installed import code_of
from ..plugins import OURS, plugins

PACKAGES = ("torch", "torchvision", "torchaudio", "numpy", "scipy", "scikit-learn", "librosa", "safetensors", "pydantic")
"""Packages on whose versions results may depend."""


def engine_of(name: str, address: str | None = None) -> Engine:
    """The engine of that name. Raises StageError for another name, and for an address that nothing is done with."""
    if name not in ("local", "ray"):
        raise StageError(f"there is no engine '{name}'; there are local and ray")
    if name == "local" and address is not None:
        raise StageError("an address is that of a Ray cluster; give --engine ray with it")
    return LOCAL if name == "local" else Ray(address, installation)


def versions() -> dict[str, str]:
    """The versions of Python, of mmcl and of PACKAGES."""
    known = {"python": platform.python_version(), "mmcl": __version__}
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed"
    return known


def installation() -> dict[str, str]:
    """What is installed here and can change results: versions, and the code of mmcl and of every plug-in as a hash."""
    known = versions()
    known["mmcl"] += f" (code {code_of('mmcl')})"
    for one in plugins().loaded:
        state = (
            "which cannot be loaded"
            if one.failure
            else f"(code {code_of(one.module, None if one.package == OURS else one.package)})"
        )
        known[f"plug-in {one.plugin}"] = f"{one.package} {one.version} {state}"
    return known
