"""PairLoss: scores the embeddings of two modalities. Positives: says which rows belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .batch import Items
from .params import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Steps:
    """One side of a pair, step by step: what the projection makes of `Encoded.sequence`."""

    z: Tensor  # [N, T, D]
    real: Tensor  # bool [N, T]: which steps are real
    times: Tensor  # float [N, T]: the middle of each, in seconds from where the recording's window begins, in every modality the same


@dataclass
class Pair:
    """Anchors on the left, candidates on the right, and which of them belong together.

    N anchors, K candidates; K > N when candidates come from other processes too. The masks already hold everything that
    labels, ids, views and ranks could say, so a loss never hears of those.
    """

    left: Tensor  # [N, D], as the projection made them (not normalised)
    right: Tensor  # [K, D]
    positive: Tensor  # bool [N, K]
    ignore: Tensor  # bool [N, K]: neither positive nor negative
    cosine: Tensor | None = None  # [N, K] cosine similarities, where the toolkit has them already (read `similarity()`)
    weight: Tensor | None = (
        None  # float [N, K] in [0, 1], above 0 where `positive`: how far it belongs to the anchor; None: all by 1
    )
    left_steps: Steps | None = None  # of N anchors, where the loss asks for sequences
    right_steps: Steps | None = None  # of K candidates

    def similarity(self) -> Tensor:
        """Cosine similarity of every anchor with every candidate, [N, K], at least float32; computed once."""
        if self.cosine is None:
            from torch.nn.functional import normalize

            left, right = self.left, self.right
            if left.dtype.itemsize < 4:
                left, right = left.float(), right.float()
            self.cosine = normalize(left, dim=-1) @ normalize(right, dim=-1).T
        return self.cosine


@dataclass
class Scored:
    """A loss's answer. `loss` is a scalar with gradient; `anchors` how many anchors had something to learn from."""

    loss: Tensor
    anchors: Tensor  # scalar; anchors that have nothing to learn from (no positive, or no negative where it needs one) are left out of both
    metrics: Mapping[str, Tensor] = field(default_factory=dict)  # detached scalars, for the log


@runtime_checkable
class PairLoss(Protocol):
    """A torch.nn.Module or a plain callable; learned parts (a temperature) are 1-d parameters.

    reduction  "mean" or "sum" if the loss is that over independent anchors: big batches are then scored in blocks of rows.
               "whole" if it needs all rows at once.
    symmetric  True if swapping left and right gives the same value, so that one direction is enough.
    lonely     an attribute that need not be there. True: an anchor without a positive has something to learn from, as each couple is judged
               by itself (a sigmoid in place of a softmax).
    """

    reduction: str
    symmetric: bool

    def __call__(self, pair: Pair) -> Scored:
        """The loss of the anchors in `pair.left` against the candidates in `pair.right`."""
        ...


@dataclass(frozen=True)
class Softmax:
    """A loss of an anchor i that is a softmax over candidates of scaled cosines s_ij, as a loss may say of itself.

        L_i = factor · mean over positives p of −log(exp(scale · s_ip) / Σ_a exp(scale · s_ia))

    Anchors without a positive are left out, and without `positives_below` those without a negative too; their metrics are `accuracy`,
    `positive_cosine`, `negative_cosine`, and `temperature` if the scale is learned.
    """

    scale: Tensor | float  # 1/τ; a tensor of one number, with its graph, if it is learned
    positives_below: bool = True  # a runs over every candidate that is not ignored; False: over the negatives alone
    factor: float = 1.0
    ignore_above: float | None = None  # negatives whose cosine lies above this are ignored

    @property
    def number(self) -> float:
        """The scale, without its graph."""
        return float(self.scale if isinstance(self.scale, float | int) else self.scale.detach())


@runtime_checkable
class SoftmaxLoss(Protocol):
    """A PairLoss that may say that it is a plain softmax: the toolkit then scores both directions and all pairs at once, in less time.

    A capability that nobody must offer. Calling the loss stays its definition, and what it says must be what it gives (the checks compare).
    """

    def softmax(self) -> Softmax | None:
        """What this loss is, with its scale as it stands now; None if it is something else."""
        ...


@dataclass(frozen=True)
class LossSpec:
    """What a loss plug-in registers. `build`: params → PairLoss.

    equation   the formula in plain text, as `mmcl describe` prints it
    soft       whether it reads `Pair.weight`; any other is refused beside a rule that weighs positives
    queue      whether candidates of earlier batches may stand among the negatives (`pretrain.objective.queue`); False for a loss without negatives
    predictor  whether it is refused without `pretrain.objective.predictor`, as embeddings would all become one
    sequences  whether it reads `Pair.left_steps` and `right_steps`: every modality then needs a backbone that keeps time and steps a second
    """

    name: str
    summary: str
    params: type[Params]
    build: Callable[[Any], PairLoss]
    equation: str = ""
    paper: str = ""
    soft: bool = False
    queue: bool = True
    predictor: bool = False
    sequences: bool = False


@runtime_checkable
class Positives(Protocol):
    """Decides which candidates belong to which anchors."""

    def __call__(self, left: Items, right: Items) -> tuple[Tensor, Tensor]:
        """Two bool matrices [N, K]: positive, and ignore (neither positive nor negative). A `soft` rule: weights in [0, 1] for positive."""
        ...


@dataclass(frozen=True)
class PositivesSpec:
    """What a positives plug-in registers. `build`: params → Positives.

    needs  (params, names of the modalities) → names of the targets read from `Items.targets`. Anything but () looks at labels
           or scores while pretraining: every report says so
    soft   whether it gives weights in [0, 1] for its first matrix, float [N, K], 0 for what does not belong to the anchor
    """

    name: str
    summary: str
    params: type[Params]
    build: Callable[[Any], Positives]
    needs: Callable[[Any, tuple[str, ...]], tuple[str, ...]] = lambda params, modalities: ()
    paper: str = ""
    soft: bool = False
