"""Every registered plug-in keeps what the kit's table asks of its kind, with every choice of its options."""

from __future__ import annotations

import functools
import re

import pytest

from mmcl.plugins import REGISTRIES, plugins
from mmcl.testing import NotTried, check_modality, check_spec, make_variants
from mmcl.testing.checks import run_checks
from mmcl.testing.plugin import contract_checks
from mmcl.testing.table import TABLE

EVERY = [(what, offer.spec) for what in REGISTRIES for _, offer in plugins().all(what)]
BUILT = [what for what, (_, kind) in REGISTRIES.items() if TABLE[kind].contract is not None]
SMALL = {
    ("head", "attention"): {"width": 16, "hidden": 16},
    ("head", "ima-fusion"): {"feedforward": 16, "layers": 1},
    ("backbone", "r2plus1d"): {"frames": 3, "width": 16},
    ("backbone", "resnet-2d"): {"channels": (4, 8)},
    ("backbone", "timm"): {"model": "test_efficientnet", "frames": 3},
    ("backbone", "st-gcn"): {"channels": (8, 16), "strides": (1, 2)},
}
"""Options that make a plug-in small enough to be checked in seconds; what it computes stays the same."""
EXCUSED = {
    "backbone": "needs a model|needs the timm library",
    "modality": "set file:|needs a model",
    "scorer": "cannot be read .No such file|needs a model",
}
"""Kinds of which some need a file or a folder of the user's, and what they say then."""


def variants():
    """(kind, spec, options) of all that is built: the defaults and every other choice, one at a time."""
    for what, spec in EVERY:
        if what not in BUILT:
            continue
        choices = make_variants(spec.params)
        if what == "dataset":  # whose choices name other releases of it: their own tests check them
            choices = choices[:1]
        for n, params in enumerate(choices):
            yield pytest.param(
                what, spec, params.model_copy(update=SMALL.get((what, spec.name), {})), id=f"{what}-{spec.name}-{n}"
            )


def fitting():
    """(modality, dataset, source) wherever the modality, with its default options, says it fits."""
    for name, modality in plugins().all("modality"):
        for corpus, dataset in plugins().all("dataset"):
            if dataset.spec.needs_root and dataset.spec.sample is None:
                continue
            for source, about in dataset.spec.info(dataset.spec.params()).sources.items():
                if about.type not in modality.spec.accepts:
                    continue
                try:
                    modality.spec.layout(modality.spec.params(), about)
                except ValueError:
                    continue
                yield pytest.param(modality.spec, dataset.spec, source, id=f"{name}-of-{corpus}-{source}")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A dataset on its tiny copy, written once a session."""

    @functools.cache
    def build(spec):
        if not spec.needs_root:
            return spec.build(spec.params(), None)
        root = tmp_path_factory.mktemp(spec.name)
        spec.sample(root, 4, 0)
        return spec.build(spec.params(), root)

    return build


def test_the_table_has_a_row_for_everything_that_can_be_registered():
    assert set(TABLE) == {kind for _, kind in REGISTRIES.values()}


@pytest.mark.parametrize("what", REGISTRIES)
def test_there_is_one_of_every_kind(what):
    assert plugins().all(what)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=f"{what}-{spec.name}") for what, spec in EVERY])
def test_every_plugin_is_described_and_light(spec):
    check_spec(spec)


@pytest.mark.parametrize(("what", "spec", "params"), list(variants()))
def test_every_plugin_keeps_the_contract_of_its_kind(what, spec, params, tmp_path):
    try:
        run_checks(contract_checks(spec, tmp_path, params))
    except NotTried as why:
        if what not in EXCUSED:
            raise
        if params == spec.params() and not re.search(EXCUSED[what], str(why)):
            raise  # the defaults must fit something made up here
        pytest.skip(str(why))


@pytest.mark.parametrize(("spec", "corpus", "source"), list(fitting()))
def test_every_modality_takes_every_source_that_it_says_it_takes(spec, corpus, source, tiny):
    dataset = tiny(corpus)
    ref = next(ref for ref in dataset.samples() if source in ref.sources)
    check_modality(spec, dataset.read(ref.id, source), corpus.info(corpus.params()).sources[source])
