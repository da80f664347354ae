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
    summary="the contrast of MPUC-MER's code (two windows, the other as positive, half the loss), its graph, scaling and positions",
    sets=(
        *_COMMON,
        "pretrain.objective.positives=cross-window",
        "pretrain.objective.loss={use: info-nce, temperature: 0.07, factor: 0.5}",
        "pretrain.views=2",
        "window.embed=start",
        "modalities.landmarks.features.jaw?=drop",
        "modalities.landmarks.features.normalise?=clip-minmax",
        "modalities.landmarks.backbone.graph?=face-51-mpuc",
        "modalities.landmarks.normalise?=none",
        "modalities.text.backbone.use?=transformer-batch-positions",
    ),
    paper=PAPER,
    follows="Of the code: its contrast, the first window, and of the recipes that have them the graph and the scaling of landmarks and the "
    "positions of words. Not set, each with a key: the read-out of 16 million weights (modalities.landmarks.backbone.readout: flatten, "
    "steps: 90 on RAVDESS, 30 on CMU-MOSEI), Kinetics' weights (modalities.video.backbone.weights: kinetics400, normalise: kinetics), "
    "drawing by class (pretrain.balance: emotion), validation and test inputs (pretrain.transductive: [valid, test]). Not offered: its "
    "jitter, flips and crops of pictures, the joint loop, stopping on labelled validation accuracy.",
)


def _unimodal(name: str, modality: str, *sets: str) -> PresetSpec:
    return PresetSpec(
        name=f"mpuc-{name}",
        summary=f"MPUC-MER's unimodal baseline of {name}: that modality alone, with its own training setting",
        sets=(f"supervise.inputs=[{modality}]", *sets),
        paper=PAPER,
        follows="The paper's section on unimodal learning; what it does not name of a setting is that of the recipe.",
    )


UNIMODAL = {
    "acoustics": _unimodal(
        "acoustics",
        "audio",
        "supervise.optimizer.lr=1e-3",
        "supervise.schedule={use: step, every: 10, gamma: 0.9}",
        "supervise.batch_size=32",
        "supervise.epochs=100",
    ),
    "images": _unimodal(
        "images",
        "video",
        "supervise.optimizer.lr=0.01",
        "supervise.optimizer.momentum=0.9",
        "supervise.schedule={use: constant}",
        "supervise.epochs=150",
    ),
    "landmarks": _unimodal(
        "landmarks",
        "landmarks",
        "supervise.optimizer.lr=1e-3",
        "supervise.optimizer.momentum=0.9",
        "supervise.schedule={use: constant}",
        "supervise.epochs=2000",
        "supervise.patience=100",
    ),
}
"""The training setting of each modality alone, by the paper's name of it."""

PRESETS = (MPUC, MPUC_EQ1, MPUC_REFERENCE, *UNIMODAL.values())
