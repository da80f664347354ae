"""The checks of a spec of any sort: name, summary, options, light imports."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from ..api.deprecation import Deprecation, deprecated_fields
from .checks import Check, expect, run_checks
from .imports import heavy_imports
from .params import expect_options
from .table import checks_of, word_of


def check_spec(spec: Any) -> None:
    """Name, summary and options of a spec of any sort are in order, and importing its package does nothing but import what is light."""
    run_checks(spec_checks(spec))
    for name, deprecated in deprecated_fields(spec).items():
        what = f"{type(spec).__name__}.{name} of {word_of(spec)} '{spec.name}'"
        warnings.warn(Deprecation(deprecated.sentence(what), deprecated), stacklevel=2)


def spec_checks(spec: Any) -> Iterator[Check]:
    """What a spec says of itself, and what its package imports."""
    checks = checks_of(spec)
    yield "name and summary read well", lambda: _name(spec)
    if checks.content is not None:
        yield from checks.content(spec)
    if checks.contract is not None:
        yield "every option has a default and a sentence", lambda: expect_options(spec, word_of(spec))
        yield "the package imports nothing heavy", lambda: _light(spec)


def _name(spec: Any) -> None:
    what = word_of(spec)
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    expect(
        isinstance(spec.name, str) and bool(spec.name) and set(spec.name) <= allowed and not spec.name.startswith("-"),
        f"the name of a {what} is lower-case letters, digits and hyphens, so that it can be typed anywhere; found "
        f"{spec.name!r}",
    )
    summary = spec.summary
    expect(
        isinstance(summary, str) and bool(summary.strip()) and summary.splitlines() == [summary] and len(summary) <= 160,
        f"{what} '{spec.name}': the summary is one line of at most 160 characters, as lists print it; found {summary!r}",
    )
    if (fields := checks_of(spec).fields) is not None:
        fields(spec)


def look_ahead(package: str) -> None:
    """Import a package in a fresh process before it is imported here, and does here what it does."""
    heavy_imports(package, os.pathsep.join(sys.path))


def _light(spec: Any) -> None:
    build = spec.build
    while isinstance(build, functools.partial):
        build = build.func
    package = build.__module__.partition(".")[0]
    subject = f"{word_of(spec)} '{spec.name}'"
    imported = heavy_imports(package, os.pathsep.join(sys.path))
    if isinstance(imported, str):
        raise AssertionError(f"{subject}: its package '{package}' does not load in a fresh process: {imported}")
    for moment, modules in imported.items():
        expect(
            not modules,
            f"{subject}: {moment} {', '.join(modules)}. Every command imports every plug-in, so all of them would be slowed "
            "down or disturbed: move it into the function that `build` calls",
        )
