"""The loss `example-nce`."""

from __future__ import annotations

import torch

from mmcl.api import Pair, Scored


class ExampleNce:
    """−log of the share that positives have in the softmax; the mean over anchors that have one."""

    reduction = "mean"
    symmetric = False

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, pair: Pair) -> Scored:
        logits = pair.similarity() / self.temperature
        lowest = torch.finfo(logits.dtype).min  # −∞ would turn the gradient of an empty row into NaN
        everyone = logits.masked_fill(pair.ignore, lowest).logsumexp(1)
        positives = logits.masked_fill(~pair.positive, lowest).logsumexp(1)
        anchors = pair.positive.any(1)
        total = (everyone - positives).masked_fill(~anchors, 0.0).sum()
        return Scored(total / anchors.sum().clamp_min(1), anchors.sum())
