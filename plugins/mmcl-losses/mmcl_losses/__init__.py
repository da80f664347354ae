"""Pair losses and rules for positives."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from mmcl.api import Field, LossSpec, NoParams, PairLoss, Params, Positives, PositivesSpec, Register, hookimpl

UNIVA = "UniVA: A Unimodal Valence-Arousal Driven Contrastive Learning Framework for Multimodal Multi-Label Emotion Recognition"

LARGEST_SCALE = 100.0
"""A learned 1/τ is held below this (Radford et al. 2021): beyond it the softmax is a maximum and training diverges."""


# ----------------------------------------------------------------------------------------------------------------- losses


class InfoNceParams(Params):
    """Options of `info-nce`."""

    LATER = ("hardness", "false_negatives")

    denominator: Literal["all", "negatives"] = Field(
        "all",
        description="all: positives and negatives (InfoNCE, CLIP); negatives: negatives alone (MPUC-MER, Eq. 1 as printed)",
    )
    reduction: Literal["mean", "sum"] = Field("mean", description="mean or sum over anchors that have something to learn from")
    temperature: float = Field(0.07, gt=0, description="τ, by which cosine similarities are divided; its start if learned")
    factor: float = Field(1.0, gt=0, description="the loss is multiplied by this; MPUC-MER's code has 0.5")
    learn_temperature: bool = Field(False, description="learn τ by gradient descent, never below 0.01 (CLIP)")
    hardness: float = Field(
        0.0,
        ge=0,
        le=20,
        description="β: negatives weigh exp(β·cosine) in the denominator, their mean weight being 1, so that those near the anchor count "
        "for more (Robinson et al. 2021); 0: all alike",
    )
    false_negatives: float | None = Field(
        None,
        gt=-1,
        lt=1,
        description="cosine above which a negative counts neither way, since it may well belong together with the anchor; left out: none",
    )

    @model_validator(mode="after")
    def _start_within_bounds(self) -> Self:
        if self.learn_temperature and self.temperature < 1 / LARGEST_SCALE:
            raise ValueError(
                f"a learned temperature is held at {1 / LARGEST_SCALE:g} or more, so it cannot start at {self.temperature:g}; "
                f"start at {1 / LARGEST_SCALE:g} or more, or set learn_temperature: false"
            )
        return self


class GroupParams(Params):
    """Options of `within-group` and `across-group`."""

    keep: float = Field(
        0.0, ge=0, lt=1, description="share of the other negatives that stay, a fixed choice for every two recordings; 0: none"
    )


def build_info_nce(params: InfoNceParams) -> PairLoss:
    """The loss."""
    from .info_nce import InfoNce

    return InfoNce(params)


class SupConParams(Params):
    """Options of `sup-con`."""

    form: Literal["out", "in"] = Field(
        "out", description="out: mean over positives outside the logarithm (Khosla et al., Eq. 2; UniVA); in: inside it (Eq. 3)"
    )
    temperature: float = Field(0.1, gt=0, description="τ, by which similarities are divided (UniVA's code: 0.4 to 0.7)")
    normalise: bool = Field(True, description="cosines; false: products of the vectors as they are, as UniVA has it")
    reduction: Literal["mean", "sum"] = Field("mean", description="mean or sum over anchors that have a positive")


def build_sup_con(params: SupConParams) -> PairLoss:
    """The loss."""
    from .sup_con import SupCon

    return SupCon(params)


NEAREST = "cosine above which a negative counts neither way, since it may well belong together with the anchor; left out: none"


class SigLipParams(Params):
    """Options of `siglip`."""

    scale: float = Field(10.0, gt=0, le=LARGEST_SCALE, description="t, by which cosines are multiplied; its start if learned")
    bias: float = Field(-10.0, ge=-100, le=100, description="b, added to them; its start if learned")
    learn: bool = Field(True, description="learn t and b by gradient descent")
    false_negatives: float | None = Field(None, gt=-1, lt=1, description=NEAREST)


def build_siglip(params: SigLipParams) -> PairLoss:
    """The loss."""
    from .binary import SigLip

    return SigLip(params)


class DclParams(Params):
    """Options of `dcl`."""

    temperature: float = Field(0.1, gt=0, description="τ, by which cosines are divided")
    sigma: float | None = Field(
        None,
        gt=0,
        description="σ of the weights of positives (DCLW; 0.5 in the paper), whose mean is over the batch; left out: all 1",
    )
    false_negatives: float | None = Field(None, gt=-1, lt=1, description=NEAREST)


def build_dcl(params: DclParams) -> PairLoss:
    """The loss."""
    from .binary import Dcl

    return Dcl(params)


class TripletParams(Params):
    """Options of `triplet`."""

    margin: float = Field(0.2, gt=0, le=2, description="by how much a positive's cosine is to lie above a negative's")
    negatives: Literal["hardest", "semi-hard", "all"] = Field(
        "hardest",
        description="hardest: the most similar negative; semi-hard: the most similar of those below the positive; all: the sum over all, of anchor after anchor, "
        "so that big batches are slow",
    )
    false_negatives: float | None = Field(None, gt=-1, lt=1, description=NEAREST)


def build_triplet(params: TripletParams) -> PairLoss:
    """The loss."""
    from .binary import Triplet

    return Triplet(params)


class VicRegParams(Params):
    """Options of `vicreg`."""

    invariance: float = Field(25.0, ge=0, description="λ, of the distance between the two rows of a positive")
    variance: float = Field(25.0, ge=0, description="μ, of the deviation of each dimension that is below 1")
    covariance: float = Field(1.0, ge=0, description="ν, of the covariances between dimensions")


def build_vicreg(params: VicRegParams) -> PairLoss:
    """The loss."""
    from .redundancy import VicReg

    return VicReg(params)


class BarlowTwinsParams(Params):
    """Options of `barlow-twins`."""

    redundancy: float = Field(0.005, ge=0, description="λ, of the correlations between different dimensions")
    factor: float = Field(
        1.0, gt=0, description="the loss, a sum over dimensions, is multiplied by this; the authors' code has 0.024"
    )


def build_barlow_twins(params: BarlowTwinsParams) -> PairLoss:
    """The loss."""
    from .redundancy import BarlowTwins

    return BarlowTwins(params)


# -------------------------------------------------------------------------------------------------------------- positives


class TimeNceParams(Params):
    """Options of `time-nce`."""

    temperature: float = Field(0.07, gt=0, description="τ, by which cosines are divided")
    every: float = Field(
        1.0, gt=0, le=3600, description="seconds in a slot, over which steps are averaged; slots are what is contrasted"
    )
    negatives: Literal["seconds", "recordings", "all"] = Field(
        "all", description="other seconds of the same recording, all seconds of others, or both"
    )
    near: int = Field(0, ge=0, le=1000, description="slots on either side of the same one that are no negatives of it")


def build_time_nce(params: TimeNceParams) -> PairLoss:
    """The loss."""
    from .time_nce import TimeNce

    return TimeNce(params)


def build_same_sample(params: NoParams) -> Positives:
    """The rule."""
    from .positives import same_sample

    return same_sample


def build_cross_window(params: NoParams) -> Positives:
    """The rule."""
    from .positives import cross_window

    return cross_window


def build_within_group(params: GroupParams) -> Positives:
    """The rule."""
    from .positives import ByGroup

    return ByGroup(params, within=True)


def build_across_group(params: GroupParams) -> Positives:
    """The rule."""
    from .positives import ByGroup

    return ByGroup(params, within=False)


class VaPositivesParams(Params):
    """Options of `valence-arousal`."""

    target: str = Field(
        "va-{modality}",
        description="score that holds valence and arousal; {modality} stands for the modality of the rows, so that each has its own",
    )
    threshold: float = Field(
        0.1,
        gt=0,
        description="δ: recordings nearer than this in the plane of valence and arousal belong together, by more than 1e-6, which no rounding makes",
    )


def va_needs(params: VaPositivesParams, modalities: tuple[str, ...]) -> tuple[str, ...]:
    """The scores of these modalities."""
    return tuple(dict.fromkeys(params.target.replace("{modality}", name) for name in modalities))


def build_va(params: VaPositivesParams) -> Positives:
    """The rule."""
    from .positives import ValenceArousal

    return ValenceArousal(params)


class VaWeightsParams(VaPositivesParams):
    """Options of `valence-arousal-weights`."""

    threshold: float = Field(
        0.5, gt=0, description="δ: the distance in the plane of valence and arousal at which a weight is 0"
    )


def build_va_weights(params: VaWeightsParams) -> Positives:
    """The rule."""
    from .positives import ValenceArousalWeights

    return ValenceArousalWeights(params)


class SharedLabelsParams(Params):
    """Options of `shared-labels`."""

    target: str = Field("emotion", description="multi-label task of whose labels the share in common is the weight")


def build_shared_labels(params: SharedLabelsParams) -> Positives:
    """The rule."""
    from .positives import SharedLabels

    return SharedLabels(params)


class SameLabelParams(Params):
    """Options of `same-label`."""

    target: str = Field("emotion", description="task whose labels must be the same (all of them, for a multi-label task)")


def build_same_label(params: SameLabelParams) -> Positives:
    """The rule."""
    from .positives import SameLabel

    return SameLabel(params)


def build_cosine(params: NoParams) -> PairLoss:
    """The loss."""
    from .redundancy import Cosine

    return Cosine()


INFO_NCE = LossSpec(
    name="info-nce",
    summary="softmax over candidates: the positive against the negatives",
    params=InfoNceParams,
    build=build_info_nce,
    equation="L_i = mean over positives p of −log exp(cos(i,p)/τ) / Σ_a exp(cos(i,a)/τ); "
    "a runs over all candidates that are not ignored, or over the negatives alone",
    paper="van den Oord et al. 2018; Radford et al. 2021 (CLIP); several positives: Khosla et al. 2020, L_out; "
    "denominator: negatives: MPUC-MER (ICPR 2022), Eq. 1",
)
SUP_CON = LossSpec(
    name="sup-con",
    summary="contrast with several positives an anchor, cosines or plain products",
    params=SupConParams,
    build=build_sup_con,
    equation="L_i = −mean over positives p of log(exp(s_ip/τ) / Σ_a exp(s_ia/τ)), a over all that are not ignored; form: in, the mean inside the log",
    paper="Khosla et al.: Supervised Contrastive Learning, NeurIPS 2020; UniVA, Eq. 5",
    soft=True,
)
SIGLIP = LossSpec(
    name="siglip",
    summary="every couple by itself, positive or negative, through a sigmoid",
    params=SigLipParams,
    build=build_siglip,
    equation="L = mean over i of −Σ_j log σ(z_ij·(t·cos(i,j) + b)), z_ij = 1 for positives, −1 for negatives; t and b learned",
    paper="Zhai et al.: Sigmoid Loss for Language Image Pre-Training, ICCV 2023, Algorithm 1",
    soft=True,
)
DCL = LossSpec(
    name="dcl",
    summary="softmax without the positive in its denominator",
    params=DclParams,
    build=build_dcl,
    equation="L_i = mean over positives p of −w_ip·cos(i,p)/τ + log Σ_a exp(cos(i,a)/τ), a over the negatives; w = 1, or with sigma 2 − exp(cos(i,p)/σ) / its mean",
    paper="Yeh et al.: Decoupled Contrastive Learning, ECCV 2022, Eq. 5 and 6",
)
TRIPLET = LossSpec(
    name="triplet",
    summary="a positive nearer than the hardest negative by a margin",
    params=TripletParams,
    build=build_triplet,
    equation="L_i = mean over positives p of max over negatives j of [margin + cos(i,j) − cos(i,p)]₊; negatives: all, the sum in place of the max",
    paper="Faghri et al.: VSE++, BMVC 2018, Eq. 5 and 6; semi-hard: Schroff et al.: FaceNet, CVPR 2015",
)
VICREG = LossSpec(
    name="vicreg",
    summary="positives alike, each dimension spread, no two alike; no negatives",
    params=VicRegParams,
    build=build_vicreg,
    equation="L = λ·mean‖z − z′‖² + μ·(v(Z) + v(Z′)) + ν·(c(Z) + c(Z′)); v = mean_d [1 − √(Var_d + ε)]₊, c = Σ_d≠e Cov_de² / D",
    paper="Bardes, Ponce, LeCun: VICReg, ICLR 2022, Eq. 1 to 6",
    queue=False,
)
BARLOW_TWINS = LossSpec(
    name="barlow-twins",
    summary="equal dimensions correlated, different ones not; no negatives",
    params=BarlowTwinsParams,
    build=build_barlow_twins,
    equation="L = Σ_d (1 − C_dd)² + λ·Σ_d≠e C_de², C the correlations over positives",
    paper="Zbontar et al.: Barlow Twins, ICML 2021, Eq. 1 and 2",
    queue=False,
)
TIME_NCE = LossSpec(
    name="time-nce",
    summary="two modalities at the same second against other seconds, step by step",
    params=TimeNceParams,
    build=build_time_nce,
    equation="L_i = mean over seconds s of −log exp(cos(i_s,p_s)/τ) / Σ exp(cos(i_s,a_t)/τ), over p_s, other seconds of p and all seconds of negatives",
    paper="Korbar et al.: Cooperative Learning of Audio and Video Models from Self-Supervised Synchronization, NeurIPS 2018 (negatives); van den Oord et al. 2018 (loss)",
    queue=False,
    sequences=True,
)
COSINE = LossSpec(
    name="cosine",
    summary="positives alike, and nothing else; for a predictor",
    params=NoParams,
    build=build_cosine,
    equation="L_i = mean over positives p of 2 − 2·cos(i,p)",
    paper="Grill et al.: BYOL, NeurIPS 2020, Eq. 2; Chen, He: SimSiam, CVPR 2021, Eq. 1, twice that plus 2",
    soft=True,
    queue=False,
    predictor=True,
)
SAME_SAMPLE = PositivesSpec(
    name="same-sample",
    summary="two modalities of one recording belong together; no labels",
    params=NoParams,
    build=build_same_sample,
    paper="MPUC-MER (ICPR 2022), §III-B",
)
CROSS_WINDOW = PositivesSpec(
    name="cross-window",
    summary="two modalities of one recording in different windows belong together; the same window counts neither way",
    params=NoParams,
    build=build_cross_window,
    paper="the code of MPUC-MER (ICPR 2022), where the paper's text has same-sample; needs pretrain.views: 2",
)
WITHIN_GROUP = PositivesSpec(
    name="within-group",
    summary="as same-sample, with negatives of the anchor's own group (speaker) alone; no labels",
    params=GroupParams,
    build=build_within_group,
    paper="negatives of one person: Yarici et al. 2025 (arXiv 2507.03250), who reweight them; here the others are left out",
)
ACROSS_GROUP = PositivesSpec(
    name="across-group",
    summary="as same-sample, with negatives of other groups (speakers) alone; no labels",
    params=GroupParams,
    build=build_across_group,
)
VALENCE_AROUSAL = PositivesSpec(
    name="valence-arousal",
    summary="recordings near in valence and arousal belong together",
    params=VaPositivesParams,
    build=build_va,
    needs=va_needs,
    paper=f"{UNIVA}, Eq. 4 and 5",
)
VALENCE_AROUSAL_WEIGHTS = PositivesSpec(
    name="valence-arousal-weights",
    summary="recordings belong together the more, the nearer they are in valence and arousal",
    params=VaWeightsParams,
    build=build_va_weights,
    needs=va_needs,
    paper=f"the distance of {UNIVA}, Eq. 4, as a weight in place of a threshold",
    soft=True,
)
SHARED_LABELS = PositivesSpec(
    name="shared-labels",
    summary="recordings belong together by the share of labels that both have (Jaccard; supervised)",
    params=SharedLabelsParams,
    build=build_shared_labels,
    needs=lambda params, modalities: (params.target,),
    soft=True,
)
SAME_LABEL = PositivesSpec(
    name="same-label",
    summary="recordings with the same labels belong together (supervised)",
    params=SameLabelParams,
    build=build_same_label,
    needs=lambda params, modalities: (params.target,),
    paper="Khosla et al. 2020; UniVA, Table 5: Sup-CL",
)


@hookimpl
def register_losses(register: Register[LossSpec]) -> None:
    """Offer the losses."""
    register(INFO_NCE)
    register(SUP_CON)
    for loss in (SIGLIP, DCL, TRIPLET, VICREG, BARLOW_TWINS, COSINE, TIME_NCE):
        register(loss)


@hookimpl
def register_positives(register: Register[PositivesSpec]) -> None:
    """Offer the rules."""
    register(SAME_SAMPLE)
    register(CROSS_WINDOW)
    register(WITHIN_GROUP)
    register(ACROSS_GROUP)
    register(VALENCE_AROUSAL)
    register(SAME_LABEL)
    register(VALENCE_AROUSAL_WEIGHTS)
    register(SHARED_LABELS)
