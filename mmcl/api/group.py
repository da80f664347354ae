"""GroupLoss: scores the embeddings of any number of modalities at once, beside or in place of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .loss import Scored
from .params import Params

if TYPE_CHECKING:
    from torch import Tensor


def _any(params: Any, modalities: tuple[str, ...]) -> None:
    """Fits whatever the modalities are."""


@dataclass
class Group:
    """Anchors on the left, candidates on the right, each with all of the same modalities, and which of them belong together.

    N anchors, K candidates; K > N when candidates come from other processes too. No modality is ever missing here: the toolkit
    scores recordings that have the same modalities together, each against all recordings that have these at least. As with a
    Pair, the masks hold everything that labels, ids, views and ranks could say.
    """

    left: Mapping[str, Tensor]  # modality → [N, D], as the projection made them (not normalised)
    right: Mapping[str, Tensor]  # modality → [K, D]; the same names in the same order
    positive: Tensor  # bool [N, K]: belongs to the anchor, as every two of the modalities have it
    ignore: Tensor  # bool [N, K]: neither positive nor negative
    itself: Tensor  # bool [N, K]: the anchor's own row; of two modalities of it the positive, of one against itself neither

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in the order of the recipe."""
        return tuple(self.left)


@runtime_checkable
class GroupLoss(Protocol):
    """A torch.nn.Module or a plain callable.

    reduction  "mean" or "sum" if the loss is that over independent anchors: big batches are then scored in blocks of anchors.
               "whole" if it needs all anchors at once.
    """

    reduction: str

    def __call__(self, group: Group) -> Scored:
        """The loss of the anchors in `group.left` against the candidates in `group.right`."""
        ...


@dataclass(frozen=True)
class GroupLossSpec:
    """What a group loss plug-in registers.

    build     (params, {modality: width of its embedding}) → GroupLoss, for all modalities of the recipe's group
    fewest    modalities of a recording that it needs; one that has fewer is left out
    most      modalities that it takes; None: any number
    views     windows of a recording (`pretrain.views`) that it needs
    fits      (params, names of the modalities) → None; raises ValueError with a sentence where they do not suit
    equation  the formula in plain text, as `mmcl describe` prints it
    missing   what it does with a recording that lacks some of the modalities, in a sentence
    """

    name: str
    summary: str
    params: type[Params]
    build: Callable[[Any, Mapping[str, int]], GroupLoss]
    fewest: int = 2
    most: int | None = None
    views: int = 1
    fits: Callable[[Any, tuple[str, ...]], None] = _any
    equation: str = ""
    missing: str = "a recording is scored on the modalities that it has, against the recordings that have them all"
    paper: str = ""
