"""What travels between the parts of a model: Stream → Encoded. Tensors only; shapes are written here once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class Stream:
    """One modality of a batch. Padded steps and missing rows are zeros in `values` and False in the masks."""

    values: Tensor  # [B, T, ...]; [B, ...] for a kind without time
    steps: Tensor  # bool [B, T]: which steps are real; bool [B, 1] for a kind without time
    present: Tensor  # bool [B]: which recordings have this modality at all

    def to(self, device: torch.device | str) -> Stream:
        """The same stream on another device."""
        return Stream(self.values.to(device), self.steps.to(device), self.present.to(device))


@dataclass
class Encoded:
    """What a backbone makes of a stream, and what a head is given."""

    vector: Tensor  # [B, width]
    sequence: Tensor | None = None  # [B, T', D], for backbones that keep time; D may differ from width
    steps: Tensor | None = None  # bool [B, T'], together with `sequence`
    present: Tensor | None = None  # bool [B]; set by the toolkit, not by the backbone


@dataclass
class Items:
    """Who stands in each row of a batch: what positives are decided from."""

    row: Tensor  # int64 [N]: index of the recording in the dataset
    view: Tensor  # int64 [N]: which window of that recording (0, 1, …)
    targets: Mapping[str, Tensor] = field(default_factory=dict)  # [N] or [N, classes], only those that positives ask for
    modality: str = ""  # whose embeddings stand in these rows, by its name in the recipe
    group: Tensor | None = (
        None  # int64 [N]: which recordings are of one group (a speaker, a video); no label, and numbers mean nothing else
    )


@dataclass
class Batch:
    """Several recordings, cut to the same span of time in every modality."""

    items: Items
    streams: Mapping[str, Stream]
