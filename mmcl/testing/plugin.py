"""Every check over everything that a plug-in package offers."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from ..api.dataset import DatasetSpec
from ..api.errors import DataError
from ..api.hooks import PROJECT
from ..api.modality import ModalitySpec
from ..plugins import Loaded, Offer, load
from .checks import Check, NotTried, Result, refusal, run_check
from .dataset import data_checks
from .modality import expect_extracted
from .spec import look_ahead, spec_checks
from .table import checks_of


def check_plugin(
    module: ModuleType | str, tmp_path: Path | None = None, data: Path | None = None, recordings: int = 24
) -> list[Result]:
    """Every check over everything that a plug-in package offers; raises nothing.

    module      the package, or its name
    tmp_path    where tiny copies of datasets are written; a folder that is removed afterwards if left out
    data        the author's real recordings: datasets are checked on DATA/NAME, or on DATA where there is no such folder, and the package's
                modalities on what is read there; nothing is written
    recordings  how many of them are read
    """
    package = module if isinstance(module, str) else module.__name__
    look_ahead(package)
    (loaded,) = load([EntryPoint(package, package, PROJECT)]).loaded
    if loaded.failure:
        return [Result(f"plug-in {package}", "loads", False, f"'{package}' does not load: {loaded.failure}")]
    if not loaded.offers:
        return [Result(f"plug-in {package}", "offers something", False, f"'{package}' registers nothing in any of its hooks")]
    outdated = _of_its_package(loaded).deprecations
    results = [Result(f"plug-in {package}", "uses nothing that will go", True, sentence) for sentence in outdated or ("",)]
    with tempfile.TemporaryDirectory() as folder:
        for offer in loaded.offers:
            subject = f"{offer.what} {offer.name}"
            contract = contract_checks(offer.spec, (tmp_path or Path(folder)) / offer.name)
            real = () if data is None else real_checks(offer, loaded.offers, data, recordings)
            for name, check in itertools.chain(spec_checks(offer.spec), contract, real):
                try:
                    run_check(name, check)
                except NotTried as why:
                    results.append(Result(subject, name, None, str(why)))
                except AssertionError as wrong:
                    results.append(Result(subject, name, False, str(wrong)))
                else:
                    results.append(Result(subject, name, True))
    return results


def _of_its_package(loaded: Loaded) -> Loaded:
    """The same with the distribution that its module came with, where one is installed."""
    module = loaded.module.partition(".")[0]
    for name in packages_distributions().get(module, ()):
        return replace(loaded, package=name, version=version(name))
    return replace(loaded, package=module)


def contract_checks(spec: Any, folder: Path, params: Any = None) -> Iterable[Check]:
    """What is checked of what a spec builds, if it builds anything; tiny copies of datasets are written under `folder`."""
    contract = checks_of(spec).contract
    if contract is None:
        return ()
    try:
        return contract(spec, spec.params() if params is None else params, folder)
    except ValueError as error:
        reason = str(error)

    def incomplete() -> None:
        raise NotTried(
            f"'{spec.name}' has options without a sound default, so what it builds can be checked with options alone: params= of its check ({reason})"
        )

    return [("it can be built with its defaults", incomplete)]


def real_checks(offer: Offer, offers: Iterable[Offer], data: Path, recordings: int) -> Iterator[Check]:
    """What a dataset promises of real recordings, and every modality of its package of what is read there."""
    spec = offer.spec
    if not isinstance(spec, DatasetSpec) or not spec.needs_root:
        return
    root = data / spec.name if (data / spec.name).is_dir() else data
    for name, check in data_checks(spec, root, most=recordings):
        yield f"real data: {name}", check
    for other in offers:
        if isinstance(other.spec, ModalitySpec):
            yield (
                f"real data: modality {other.name} extracts",
                functools.partial(_extracts, spec, other.spec, root, recordings),
            )


def _extracts(spec: DatasetSpec, modality: ModalitySpec, root: Path, recordings: int) -> None:
    """Some recordings of every source that the modality takes."""
    params = spec.params()
    params = spec.complete(params, root) if spec.complete is not None else params
    dataset, options = spec.build(params, root), modality.params()
    refs = list(dataset.samples())
    for name, source in spec.info(params).sources.items():
        if source.type not in modality.accepts or refusal(functools.partial(modality.layout, options, source)) is not None:
            continue
        having = [ref for ref in refs if name in ref.sources]
        for ref in having[:: max(1, len(having) // recordings)][:recordings]:
            try:
                raw = dataset.read(ref.id, name)
            except DataError:
                continue
            try:
                expect_extracted(modality, raw, source, options)
            except DataError:
                continue
            except AssertionError as error:
                raise AssertionError(f"'{name}' of recording '{ref.id}': {error}") from error
