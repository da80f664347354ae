"""Is what is being learned still worth something? Effective rank and spread of embeddings, and warnings in words.

Collapse shows in embeddings that are all alike, that lie in few directions, or that answer no better than guessing, long before a probe shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

ALIKE = 0.98
"""Mean cosine of different recordings of one modality above which they count as one point, if nothing is told apart either."""
FALLEN = 0.25
"""Share of its highest so far to which the effective rank may fall, and FEW directions, before it is called falling."""
FEW = 4.0
CHANCE = 0.02
"""How near, as a share of the loss of guessing, a training loss may stay to it."""
PATIENCE = 3
"""Epochs before anything is said of losses and ranks: every run begins at chance."""


@torch.no_grad()
def describe(z: Tensor) -> dict[str, Tensor]:
    """Of one modality's embeddings [n, D]: effective rank (Roy, Vetterli 2007) and mean cosine of different rows; nothing for n < 3, or where they are no
    numbers.

    The effective rank is exp of the entropy of the singular values of the centred, length-1 embeddings: how many directions they use.
    """
    if len(z) < 3 or not bool(torch.isfinite(z).all()):
        return {}
    unit = torch.nn.functional.normalize(z.float(), dim=-1)
    n = len(unit)
    alike = (unit.sum(0).square().sum() - n) / (n * (n - 1))
    values = torch.linalg.svdvals(unit - unit.mean(0))
    total = values.sum()
    if float(total) <= 1e-6:
        return {"rank": torch.ones(()), "alike": alike}
    share = values / total
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {"rank": entropy.exp(), "alike": alike}


def warnings(history: Sequence[Mapping[str, Any]], candidates: int) -> list[str]:
    """What looks wrong so far, a sentence each; [] while all looks well.

    history     rows of history.jsonl
    candidates  rows among which an anchor's positive is to be found (batch size × views)
    """
    if not history:
        return []
    sentences: list[str] = []
    last = history[-1]
    for name, values in last.get("embeddings", {}).items():
        near = [row["embeddings"][name]["alike"] > ALIKE for row in history[-PATIENCE:] if name in row.get("embeddings", {})]
        blind = all(
            pair["accuracy"] < 2 / max(candidates, 1)
            for which, pair in last["pairs"].items()
            if name in which.split("~") and "accuracy" in pair
        )
        # Random networks begin with embeddings in a narrow cone: only where nothing is told apart in it has it collapsed.
        if len(history) > PATIENCE and all(near) and blind:
            sentences.append(
                f"the embeddings of '{name}' are almost the same for every recording (mean cosine {values['alike']:.3f}): they have collapsed to a point"
            )
            continue
        ranks = [row["embeddings"][name]["rank"] for row in history if name in row.get("embeddings", {})]
        if len(history) > PATIENCE and ranks and ranks[-1] < FALLEN * max(ranks) and ranks[-1] < FEW:
            sentences.append(
                f"the embeddings of '{name}' use {ranks[-1]:.1f} directions, down from {max(ranks):.1f}: their effective rank is falling"
            )
    if candidates > 1 and len(history) > PATIENCE:
        chance = math.log(candidates)
        for pair, values in last["pairs"].items():
            if "accuracy" in values and abs(values["loss"] - chance) < CHANCE * chance and values["accuracy"] < 2 / candidates:
                sentences.append(
                    f"the loss of {pair} is still that of guessing ({values['loss']:.3f}, guessing {chance:.3f}): nothing links the two yet"
                )
    for pair, values in last["pairs"].items():
        temperature = values.get("temperature")
        if temperature is not None and (temperature < 0.0101 or temperature > 2):
            sentences.append(
                f"the learned temperature of {pair} has run to {temperature:.4f}: its bound, or far from any useful value"
            )
    learned = {pair for row in history for pair in row["pairs"]}
    for pair in sorted({pair for row in history for pair in row.get("skipped_pairs", {})} - learned):
        which = f"the pair {pair}" if "~" in pair else f"the group loss {pair}"
        sentences.append(f"{which} never had two recordings in common in any batch: it has taught nothing")
    return sentences
