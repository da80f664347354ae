"""Networks as torch.compile translates them, for batches of one shape alone: nothing is translated again at each step.

A batch of any other shape (the last of an epoch, recordings that lack a modality) goes through the network as it is written, so that what a
batch gives depends on that batch alone, and a run that was stopped goes on to the same weights.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, cast

import torch
from torch import nn

from ..api.batch import Encoded, Stream
from ..api.errors import StageError


class Compiled:
    """A backbone and its translation.

    rows, steps  how many a batch has that goes through the translation; None: a stream without time
    whose        its name in messages
    """

    def __init__(self, backbone: nn.Module, rows: int, steps: int | None, whose: str) -> None:
        self.backbone, self.rows, self.steps, self.whose = backbone, rows, steps, whose
        self.batches = 0  # that went through the translation
        self._translated: Any = None

    def takes(self, stream: Stream) -> bool:
        """Whether a batch is of its shape, and learned from."""
        fits = len(stream.present) == self.rows and (self.steps is None or stream.steps.shape[1] == self.steps)
        return fits and torch.is_grad_enabled() and self.backbone.training

    def __call__(self, stream: Stream) -> Encoded:
        """What the backbone makes of the rows. Raises StageError if torch cannot translate it here."""
        if self._translated is None:
            self._translated = torch.compile(self.backbone, dynamic=False)
        self.batches += 1
        if self.batches > 1:  # else it is being translated
            return cast(Encoded, self._translated(stream))
        from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of graph breaks, which are no fault
            logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
            try:
                return cast(Encoded, self._translated(stream))
            except (BackendCompilerFailed, TorchDynamoException) as error:
                why = f"{type(error).__name__}: {error}".strip().splitlines()[0]
                raise StageError(
                    f"{self.whose}: torch.compile cannot translate it here ({why}); leave its modality out of pretrain.compile (a C++ "
                    "compiler must be installed on a processor)"
                ) from error
