"""Sampler: says which recordings stand in a batch together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .params import Params

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pool:
    """The n recordings of one epoch, one a place. One that the recipe draws several times (`pretrain.balance`) has several places.

    No stream is read for it: groups, lengths and targets are known before. Embeddings are there only for a sampler that asks for them
    (`SamplerSpec.looks`), and not in the first epoch, before anything is learned.
    """

    row: NDArray[np.int64]  # [n]: index of the recording in the dataset
    group: NDArray[np.int64]  # [n]: which are of one group (a speaker, a video); numbers mean nothing else
    seconds: NDArray[np.float64]  # [n]: how long each goes on in any of its modalities; 0 where none has time
    targets: Mapping[str, NDArray[Any]] = field(
        default_factory=dict
    )  # [n] or [n, classes], only those asked for; −1 or NaN: unknown
    embeddings: Mapping[str, NDArray[np.float32]] = field(
        default_factory=dict
    )  # modality → [n, D], each of length 1, zeros where it is missing; as the encoders made them when they were last asked
    shard: NDArray[np.int64] | None = (
        None  # [n]: which lie in one file of prepared streams, numbered as they lie; None: not known
    )


@runtime_checkable
class Sampler(Protocol):
    """Puts the recordings of an epoch into batches."""

    def __call__(self, pool: Pool, size: int, rng: np.random.Generator) -> Sequence[Sequence[int]]:
        """Batches of places 0 to n − 1, each place in exactly one of them, in the order in which they are trained on.

        A batch has at most `size` places, and at least 2, as one recording has no negatives: a last place that would stand alone joins the
        batch before. Everything random comes from `rng`: equal generators give equal batches.
        """
        ...


@dataclass(frozen=True)
class SamplerSpec:
    """What a sampler plug-in registers. `build`: params → Sampler.

    needs  params → names of the targets read from `Pool.targets`. Anything but () looks at labels while pretraining: every report says so
    looks  params → every how many epochs `Pool.embeddings` are made anew, which costs a pass over all recordings; 0: it reads none
    """

    name: str
    summary: str
    params: type[Params]
    build: Callable[[Any], Sampler]
    needs: Callable[[Any], tuple[str, ...]] = lambda params: ()
    looks: Callable[[Any], int] = lambda params: 0
    paper: str = ""
