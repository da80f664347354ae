"""Every check over everything that a plug-in package offers."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from ..api.hooks import PROJECT
from ..plugins import load
from .checks import Check, NotTried, Result, run_check
from .spec import spec_checks
from .table import checks_of


def check_plugin(module: ModuleType | str, tmp_path: Path | None = None) -> list[Result]:
    """Every check over everything that a plug-in package offers; raises nothing.

    module    the package, or its name
    tmp_path  where tiny copies of datasets are written; a folder that is removed afterwards if left out
    """
    package = module if isinstance(module, str) else module.__name__
    (loaded,) = load([EntryPoint(package, package, PROJECT)]).loaded
    if loaded.failure:
        return [Result(f"plug-in {package}", "loads", False, f"'{package}' does not load: {loaded.failure}")]
    if not loaded.offers:
        return [Result(f"plug-in {package}", "offers something", False, f"'{package}' registers nothing in any of its hooks")]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for offer in loaded.offers:
            subject = f"{offer.what} {offer.name}"
            contract = contract_checks(offer.spec, (tmp_path or Path(folder)) / offer.name)
            for name, check in itertools.chain(spec_checks(offer.spec), contract):
                try:
                    run_check(name, check)
                except NotTried as why:
                    results.append(Result(subject, name, None, str(why)))
                except AssertionError as wrong:
                    results.append(Result(subject, name, False, str(wrong)))
                else:
                    results.append(Result(subject, name, True))
    return results


def contract_checks(spec: Any, folder: Path, params: Any = None) -> Iterable[Check]:
    """What is checked of what a spec builds, if it builds anything; tiny copies of datasets are written under `folder`."""
    contract = checks_of(spec).contract
    return () if contract is None else contract(spec, params, folder)
