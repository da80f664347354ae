"""UniVA's settings, term by term: as its text has them, and as its authors' code has them."""

from __future__ import annotations

from mmcl.api import PresetSpec

PAPER = "UniVA: A Unimodal Valence-Arousal Driven Contrastive Learning Framework for Multimodal Multi-Label Emotion Recognition"

_BOTH = (
    "projection=none",  # contrast straight on the representations H_m
    "pretrain.views=1",
    "pretrain.copies=2",  # every representation stands twice (§3.3.2)
    "pretrain.objective.pairs?=same",
    "pretrain.objective.loss.normalise?=false",  # Eq. 5 has products, no cosines
    "supervise.mix=share",  # λ is supervise.contrast, which the recipe gives
    "supervise.schedule.use=linear",
    "supervise.choose=score",
    "supervise.metric=f1_micro",
    "supervise.clip=1.0",
    "supervise.heads.univa.target?=softmax",
    "supervise.heads.univa.threshold?=0.18",
)

TEXT = PresetSpec(
    name="univa-paper",
    summary="UniVA as its text has it: Eq. 4 to 11, modalities summed, the prior on probabilities beside the rest",
    sets=(
        *_BOTH,
        "pretrain.objective.combine?=sum",
        "pretrain.objective.weights?={}",
        "supervise.heads.univa.kl_weight?=1.0",
        "supervise.heads.univa.divergence?=recording",
        "supervise.heads.univa.prior_form?=probabilities",
        "supervise.heads.univa.prior_weight?=1.0",
        "supervise.heads.univa.dropout?=0.0",
        "scores.va-text.standardise?=",
        "scores.va-audio.standardise?=",
        "scores.va-video.standardise?=",
    ),
    paper=PAPER,
    follows="λ · Σ contrast + (1 − λ) · divergence + prior (Eq. 11), contrast and divergence as means over a batch's recordings. The text "
    "gives no λ, no temperature, no schedule and no rule of choosing: λ is the recipe's, and the others are the code's. It does not say "
    "which distribution the labels are: their softmax, as in the code. δ, and whether there is a prior, are the recipe's.",
)
REFERENCE = PresetSpec(
    name="univa-reference",
    summary="UniVA as its authors' code has it: divergence times 1000 over recordings and classes, the prior on logarithms, learned",
    sets=(
        *_BOTH,
        "pretrain.objective.combine?=count",
        "pretrain.objective.weights.text?=3",  # where a recipe weighs at all, which is on CMU-MOSEI
        "supervise.heads.univa.kl_weight?=1000.0",
        "supervise.heads.univa.divergence?=element",
        "supervise.heads.univa.prior_form?=logs",
        "supervise.heads.univa.prior_weight?=1.0",
        "supervise.heads.univa.dropout?=0.1",
        "scores.va-text.standardise?=split",
        "scores.va-audio.standardise?=split",
        "scores.va-video.standardise?=split",
    ),
    paper=PAPER,
    follows="The code: (1 − α) · (1000 · divergence + prior) + α · contrast, α being supervise.contrast; valence and arousal by the mean and "
    "deviation of valence in each split, so that 0.1 is a tenth of that deviation. With GloVe on CMU-MOSEI the code has no prior: --set "
    "supervise.heads.univa.prior=off. Not as in the code: batches come from one process; positions reach as far as `longest`.",
)
PRESETS = (TEXT, REFERENCE)
