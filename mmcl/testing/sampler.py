"""The checks of a sampler: every place once, batches of a size, nothing random but from the generator."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..api.sampler import Pool, SamplerSpec
from .checks import Check, expect, run_checks
from .general import general_checks, process_check

if TYPE_CHECKING:
    import numpy as np


def check_sampler(spec: SamplerSpec, params: Any = None, pool: Pool | None = None) -> None:
    """A sampler puts every recording of an epoch into exactly one batch of two to `size`, and draws from its generator alone.

    pool  recordings with the targets that it needs; made up, with a class of 0–3 for each target, if left out
    """
    run_checks(sampler_checks(spec, params, pool))


def sampler_checks(spec: SamplerSpec, params: Any = None, pool: Pool | None = None) -> Iterator[Check]:
    """What a sampler promises."""
    params = spec.params() if params is None else params

    def trial(options: Any, moved: Callable[[Any], None]) -> None:
        _batches(spec, options, _pool_for(spec, options, 24) if pool is None else pool, 8)

    yield process_check(spec, f"sampler '{spec.name}'", params, trial)
    yield "every place stands in exactly one batch, of two to `size`", lambda: _complete(spec, params, pool)
    if pool is None and spec.looks(params):
        yield "it does without embeddings in the first epoch", lambda: _first_epoch(spec, params)
    yield "equal generators give equal batches, others others", lambda: _random(spec, params, pool)
    yield "what it is given stays as it is", lambda: _unchanged(spec, params, pool)
    yield from general_checks(f"sampler '{spec.name}'", params, trial, tensors=False)


def make_pool(n: int, targets: Sequence[str] = (), seed: int = 0, embedded: bool = False) -> Pool:
    """Made-up recordings, numbered with gaps, of unlike lengths and of groups of unlike sizes; a quarter of their labels are unknown.

    embedded  with embeddings of two modalities, of which one in five recordings lacks one
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    labels = {name: np.where(rng.uniform(size=n) < 0.25, -1, rng.integers(0, 4, n)) for name in targets}
    group = np.minimum(rng.integers(0, 9, n), rng.integers(0, 9, n))
    embeddings = {}
    for name in ("voice", "face") if embedded else ():
        vectors = rng.normal(size=(n, 6)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[rng.uniform(size=n) < 0.2] = 0
        embeddings[name] = vectors
    return Pool(np.arange(n) * 3 + 7, group, rng.gamma(2.0, 2.0, n), labels, embeddings, np.arange(n) // 5)


def _pool_for(spec: SamplerSpec, params: Any, n: int) -> Pool:
    """Made-up recordings, with all that a sampler asks for."""
    return make_pool(n, spec.needs(params), embedded=spec.looks(params) > 0)


def _sizes(spec: SamplerSpec, params: Any, pool: Pool | None) -> Iterator[tuple[Pool, int]]:
    """Pools and sizes of batches: a pool that sizes divide, ones that leave a last place alone, small ones, one recording, none."""
    pools = [_pool_for(spec, params, n) for n in (48, 49, 33, 7, 2, 1, 0)] if pool is None else [pool]
    for one in pools:
        for size in (2, 8, 64):
            yield one, size


def _batches(spec: SamplerSpec, params: Any, pool: Pool, size: int, seed: int = 0) -> list[list[int]]:
    import numpy as np

    batches = spec.build(params)(pool, size, np.random.default_rng(seed))
    return [[int(place) for place in one] for one in batches]


def _complete(spec: SamplerSpec, params: Any, pool: Pool | None) -> None:
    for one, size in _sizes(spec, params, pool):
        wrong = wrong_batches(_batches(spec, params, one, size), len(one.row), size)
        expect(wrong is None, f"sampler '{spec.name}', of {len(one.row)} recordings in batches of {size}: {wrong}")


def _first_epoch(spec: SamplerSpec, params: Any) -> None:
    """Before anything is learned there is nothing to look at."""
    one = make_pool(33, spec.needs(params))
    try:
        wrong = wrong_batches(_batches(spec, params, one, 8), 33, 8)
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        wrong = f"it raised {type(error).__name__}: {error}"
    expect(wrong is None, f"sampler '{spec.name}' looks at embeddings, of which the first epoch has none: {wrong}")


def wrong_batches(batches: Sequence[Sequence[int]], n: int, size: int) -> str | None:
    """What is wrong with the batches of n places, in words; None: nothing."""
    places = sorted(int(place) for one in batches for place in one)
    if places != list(range(n)):
        twice = [place for place, after in itertools.pairwise(places) if place == after]
        strange = [place for place in places if not 0 <= place < n]
        lost = sorted(set(range(n)) - set(places))
        what = (
            f"place {twice[0]} comes twice"
            if twice
            else f"there is no place {strange[0]}"
            if strange
            else f"place {lost[0]} is missing"
        )
        return f"every place from 0 to {n - 1} stands in exactly one batch; {what}"
    short = [one for one in batches if len(one) < min(2, n)]
    long = [one for one in batches if len(one) > size + 1]
    if short:
        return f"a batch has two recordings at least, as one has no negatives; one has {len(short[0])}"
    if long:
        return f"a batch has `size` places, and one more where that would stand alone; one has {len(long[0])}"
    return None


def _random(spec: SamplerSpec, params: Any, pool: Pool | None) -> None:
    import numpy as np

    one = next(_sizes(spec, params, pool))[0]
    states = _global_states()
    sampler = spec.build(params)
    first, again = ([list(places) for places in sampler(one, 8, np.random.default_rng(0))] for _ in range(2))
    expect(
        first == again,
        f"sampler '{spec.name}' gives other batches when asked twice with equal generators: everything random comes from `rng`",
    )
    now = _global_states()
    expect(states == now, f"sampler '{spec.name}' draws from a global generator: everything random comes from `rng`")
    others = [_batches(spec, params, one, 8, seed) for seed in (1, 2, 3)]
    expect(
        len(one.row) < 16 or any(other != first for other in others),
        f"sampler '{spec.name}' gives the same batches from any generator: every epoch would be the same",
    )


def _global_states() -> str:
    """Where the generators stand that everybody shares."""
    import random

    import numpy as np

    return f"{random.getstate()} {np.random.get_state()}"  # noqa: NPY002 - looked at, not drawn from


def _unchanged(spec: SamplerSpec, params: Any, pool: Pool | None) -> None:
    one = next(_sizes(spec, params, pool))[0]
    before = _copies(one)
    _batches(spec, params, one, 8)
    same = all((old == new).all() for old, new in zip(before, _copies(one), strict=True))
    expect(same, f"sampler '{spec.name}' changes its pool in place; the next epoch is given the same arrays")


def _copies(pool: Pool) -> list[np.ndarray[Any, Any]]:
    known = [pool.row, pool.group, pool.seconds, *pool.targets.values(), *pool.embeddings.values()]
    return [value.copy() for value in (*known, *([] if pool.shard is None else [pool.shard]))]
