"""The settings of MPUC-MER as the text has them, as its equations are printed, and as its authors' code has them."""

from __future__ import annotations

from mmcl.api import PresetSpec

PAPER = "Franceschini et al., Multimodal Emotion Recognition with Modality-Pairwise Unsupervised Contrastive Loss, ICPR 2022"

_COMMON = (
    "projection={hidden: 1024, width: 512}",
    "pretrain.optimizer={use: sgd, lr: 1e-3, momentum: 0.9, weight_decay: 1e-3}",
    "pretrain.objective.pairs=all",
)

MPUC = PresetSpec(
    name="mpuc",
    summary="MPUC-MER as we read it: InfoNCE, mean over anchors, aligned windows, training inputs alone, no labels",
    sets=(
        *_COMMON,
        "pretrain.objective.positives=same-sample",
        "pretrain.objective.loss={use: info-nce, temperature: 0.07}",
        "pretrain.views=1",
    ),
    paper=PAPER,
    follows="The text, but for Eq. 1: the positive stands in the denominator, and anchors are averaged, not summed.",
)
MPUC_EQ1 = PresetSpec(
    name="mpuc-eq1",
    summary="MPUC-MER with Eq. 1 as printed: the positive is not in the denominator, anchors are summed",
    sets=(
        *_COMMON,
        "pretrain.objective.positives=same-sample",
        "pretrain.objective.loss={use: info-nce, temperature: 0.07, denominator: negatives, reduction: sum}",
        "pretrain.views=1",
    ),
    paper=PAPER,
    follows="Eq. 1 and 2. The sum makes the step grow with the batch, so the learning rate means something else than with a mean.",
)
MPUC_REFERENCE = PresetSpec(
    name="mpuc-reference",
    summary="MPUC-MER as its authors' code has it: two windows, the other window as positive, half the loss, first window read",
    sets=(
        *_COMMON,
        "pretrain.objective.positives=cross-window",
        "pretrain.objective.loss={use: info-nce, temperature: 0.07, factor: 0.5}",
        "pretrain.views=2",
        "window.embed=start",
    ),
    paper=PAPER,
    follows="The code but for three things that use labels or test inputs, each with a key of its own: drawing recordings by class "
    "(pretrain.balance: emotion), contrasting validation and test inputs (pretrain.transductive: [valid, test]), and stopping on "
    "labelled validation accuracy, which is not offered.",
)
PRESETS = (MPUC, MPUC_EQ1, MPUC_REFERENCE)
