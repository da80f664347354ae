"""Every registered modality keeps the contract: on made-up recordings, and on every source of every dataset that it takes."""

from __future__ import annotations

import functools
import re

import pytest

from mmcl.plugins import plugins
from mmcl.testing import NotTried, check_modality, check_spec, make_variants

EVERY = plugins().all("modality")


def variants():
    for name, offer in EVERY:
        for n, params in enumerate(make_variants(offer.spec.params)):
            yield pytest.param(offer.spec, params, id=f"{name}-{n}")


def fitting():
    """(modality, dataset, source) wherever the modality, with its default options, says it fits."""
    for name, modality in EVERY:
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


def test_there_are_modalities():
    assert EVERY


@pytest.mark.parametrize(("name", "offer"), EVERY, ids=[name for name, _ in EVERY])
def test_every_modality_is_described_and_light(name, offer):
    check_spec(offer.spec)


@pytest.mark.parametrize(("spec", "params"), list(variants()))
def test_every_modality_keeps_the_contract(spec, params):
    try:
        check_modality(spec, params=params)
    except NotTried as why:
        if params == spec.params() and not re.search("set file:|needs a model", str(why)):  # which need a file of the user's
            raise  # the defaults must fit something made up here
        pytest.skip(str(why))


@pytest.mark.parametrize(("spec", "corpus", "source"), list(fitting()))
def test_every_modality_takes_every_source_that_it_says_it_takes(spec, corpus, source, tiny):
    dataset = tiny(corpus)
    ref = next(ref for ref in dataset.samples() if source in ref.sources)
    check_modality(spec, dataset.read(ref.id, source), corpus.info(corpus.params()).sources[source])
