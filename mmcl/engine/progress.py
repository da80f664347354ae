"""How far a training has come: what a checkpoint keeps, what a patience waits for, and the best weights so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..seeding import address
from ..stopping import stop_for
from .ranks import Ranks, is_sharded
from .resume import load_checkpoint, save_checkpoint, save_sharded_checkpoint


@dataclass
class Progress:
    """How far one training has come. `restore` begins it, anew or from the last checkpoint; `save` writes a checkpoint."""

    key: str  # fingerprint of everything that the weights depend on: only a checkpoint with the same one is gone on from
    best_name: str = "best"  # what a checkpoint calls `best`
    epoch: int = 0  # epochs that are done
    step: int = 0  # steps that are done, over all epochs
    best_epoch: int = 0  # counted from 1; 0: none yet
    best: float | None = None  # the lowest monitored value
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch
    skipped: dict[str, int] = field(default_factory=dict)  # pair of modalities → batches that had nothing to contrast in it
    seconds: float = 0.0  # of training, those before an interruption included
    weights: dict[str, Tensor] = field(default_factory=dict)  # those of the best epoch, in the processor's memory
    within: dict[str, Any] = field(
        default_factory=dict
    )  # of an epoch that was stopped: how many batches are done, and means over them
    continued: list[int] = field(default_factory=list)  # epochs after which a finished training went on
    writes: bool = True  # whether `save` writes: of several processes one does
    sharded: Ranks | None = None  # those that hold parts of the weights, all of which write

    def __post_init__(self) -> None:
        self._began = self._saved = time.monotonic()

    def restore(self, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Go on from the checkpoint in a folder, if there is one with this key; whether there was."""
        needs = ("epoch", "step", "best_epoch", self.best_name, "history", "seconds")
        checkpoint = load_checkpoint(folder, self.key, model, optimizer, needs)
        if checkpoint is None:
            self.weights = weights_of(model)
        else:
            state, self.weights = checkpoint
            self.epoch, self.step = state["epoch"], state["step"]
            self.best_epoch, self.best = state["best_epoch"], state[self.best_name]
            self.history, self.skipped = state["history"], state.get("skipped", {})
            self.seconds, self.continued = state["seconds"], state.get("continued", [])
            self.within = state.get("within", {})
        self._began = time.monotonic() - self.seconds
        self._saved = time.monotonic()
        return checkpoint is not None

    def go_on(self, folder: Path, before: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Go on from a checkpoint of a training with the key `before`, which had fewer epochs, if there is one; whether there was."""
        now, self.key = self.key, before
        try:
            restored = self.restore(folder, model, optimizer)
        finally:
            self.key = now
        if restored:
            self.continued = [*self.continued, self.epoch]
        return restored

    def save(self, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put a checkpoint in place of the one before."""
        if not self.writes and self.sharded is None:
            return
        state = {
            "key": self.key,
            "epoch": self.epoch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            self.best_name: self.best,
            "history": self.history,
            "skipped": self.skipped,
            "seconds": self.seconds,
            **({"within": self.within} if self.within else {}),
            **({"continued": self.continued} if self.continued else {}),
        }
        if self.sharded is None:
            save_checkpoint(folder, model, optimizer, self.weights, state)
        else:
            save_sharded_checkpoint(folder, model, optimizer, self.weights, state, self.sharded)
        self._saved = time.monotonic()

    def stop_for(
        self,
        number: int,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        what: str,
        within: Callable[[], dict[str, Any]],
    ) -> None:
        """If a signal asked for an end, write a checkpoint of this very step and raise Stopped.

        number  of the signal; 0: none came
        within  says what a checkpoint keeps of the epoch that is under way; {} after its end
        """

        def keep() -> str:
            self.within = within()
            self.seconds = time.monotonic() - self._began
            self.save(folder, model, optimizer)
            return f"{what}: a checkpoint of step {self.step}, in epoch {self.epoch + bool(self.within)}, is written"

        stop_for(number, keep)

    def due(self, minutes: float) -> bool:
        """Whether the last checkpoint, or the beginning, is so many minutes ago; where all ranks write, by the first one's clock."""
        is_due = time.monotonic() - self._saved >= 60 * minutes
        return is_due if self.sharded is None else bool(self.sharded.first_number(float(is_due)))

    def seed_step(self, *where: str | int) -> torch.Generator:
        """Seeds torch for the next step (dropout, and whatever else draws while stepping); the generator of its augmentations."""
        torch.manual_seed(address(*where, "step", self.step))
        return torch.Generator().manual_seed(address(*where, "augment", self.step))

    def seed_objective(self, *where: str | int) -> None:
        """Seeds torch for what all processes work out alike, after each has drawn for its own rows."""
        torch.manual_seed(address(*where, "objective", self.step))

    def finish_epoch(
        self, row: dict[str, Any], monitored: float, model: nn.Module, skipped: Mapping[str, int] | None = None
    ) -> None:
        """Count an epoch that is done: its row of the history, and its weights if its monitored value is the lowest so far."""
        self.history.append(row)
        self.within = {}
        self.epoch += 1
        for pair, batches in (skipped or {}).items():
            self.skipped[pair] = self.skipped.get(pair, 0) + batches
        if self.best is None or monitored < self.best:
            self.best, self.best_epoch, self.weights = monitored, self.epoch, weights_of(model)
        self.seconds = time.monotonic() - self._began

    def patience_is_over(self, patience: int | None) -> bool:
        """Whether the best epoch is so many epochs ago."""
        return patience is not None and self.epoch - self.best_epoch >= patience


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights, in the processor's memory; of those that are sharded this rank's part, where it is."""
    return {
        name: value.detach().clone() if is_sharded(value) else value.detach().to("cpu", copy=True)
        for name, value in model.state_dict().items()
    }
