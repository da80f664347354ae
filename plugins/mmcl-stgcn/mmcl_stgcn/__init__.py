"""The backbones `st-gcn` (Yan et al. 2018) and `stgcn-yu` (Yu et al. 2018): graph convolutions on any graph."""

from __future__ import annotations

from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Parts, ReadOutWidth, Register, hookimpl

from .graphs import graph_for, graph_of, partition_problem


class StgcnParams(Params):
    """Options of `st-gcn`."""

    graph: Literal["auto", "kinect-20", "face-68", "face-51", "face-51-mpuc", "custom"] = Field(
        "auto", description="which joints are neighbours; auto: what the stream says of itself; custom: `edges`"
    )
    edges: tuple[tuple[int, int], ...] = Field(
        (), description="pairs of neighbouring joints, counted from 0, for graph: custom"
    )
    centre: int | None = Field(
        None,
        ge=0,
        description="joint from which partition: spatial measures; left out: the graph's own, or the nearest to all others",
    )
    partition: Literal["spatial", "distance", "uniform", "spatial-code"] = Field(
        "spatial",
        description=(
            "subsets of neighbours with weights of their own: as far from the centre as the joint itself, nearer, farther (3); "
            "by how many edges away (max_hop + 1); all (1); spatial-code: as the published code, which knows no distance to the centre beyond "
            "max_hop (1 + 2 · max_hop)"
        ),
    )
    max_hop: int = Field(1, ge=1, le=10, description="how many edges away a neighbour may be")
    kernel: int = Field(9, ge=1, le=99, description="steps that a temporal convolution spans; odd")
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64, 64, 64, 64, 128, 128, 128, 256, 256, 256), min_length=1, description="width of each unit"
    )
    strides: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        description="temporal stride of each unit; left out: 2 wherever the width grows (by default the 5th and 8th)",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout at the end of each temporal convolution (the paper: 0.5)")
    edge_importance: bool = Field(True, description="learn how much each edge counts, in each unit")
    readout: Literal["mean", "mean+std"] = Field(
        "mean",
        description=(
            "how steps and joints become one vector: their mean, as the paper; or that and the mean of each joint's deviation "
            "over steps (twice as wide)"
        ),
    )
    parts: Parts = 1
    width: ReadOutWidth = None

    @property
    def steps(self) -> tuple[int, ...]:
        """The temporal stride of each unit."""
        if self.strides is not None:
            return self.strides
        return tuple(2 if i and c > self.channels[i - 1] else 1 for i, c in enumerate(self.channels))


def fits(params: StgcnParams, layout: Layout) -> None:
    """Refuse a graph that is not the stream's, and options that contradict each other."""
    if len(params.steps) != len(params.channels):
        raise ValueError(f"strides has {len(params.steps)} entries, channels has {len(params.channels)}; there must be as many")
    if params.kernel % 2 == 0:
        raise ValueError(f"kernel {params.kernel} has no centre; make it odd")
    graph = graph_for(params.graph, params.edges, params.centre, layout)
    if params.partition == "spatial" and (problem := partition_problem(graph)):
        raise ValueError(problem)


def build(params: StgcnParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Stgcn

    return Stgcn(params, layout)


STGCN = BackboneSpec(
    name="st-gcn",
    summary="spatial-temporal graph convolutions over joints or landmarks",
    accepts=(("time", "joint", "channel"),),
    params=StgcnParams,
    build=build,
    fits=fits,
    paper="Yan, Xiong, Lin: Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition, AAAI 2018",
    follows=(
        "BatchNorm of the input, units (graph convolution over K subsets of neighbours, BatchNorm, ReLU, temporal"
        " convolution, BatchNorm, dropout, residual, ReLU), partitions (partition: spatial is Eq. 8 with hops to a fixed centre in "
        "place of mean distances; the published code takes all distances beyond max_hop for equal, which puts 57 of the 177 neighbours of "
        "face-51 into another subset, 114 entries of the three matrices: partition: spatial-code), widths, learnt edge importance; one person. Adjacency A·D⁻¹ and strides at the"
        " 5th and 8th unit, as the authors' code. Differs: batch statistics over real steps alone; no biases "
        "before a BatchNorm; dropout 0.1; the vector is the pooled width, without the class layer. The faces' "
        "graphs are ours: iBUG's 68 points, or 51 without the jaw, centred on the nose base. MPUC-MER's code runs"
        " another network (Yu et al. 2018) under this name."
    ),
)


class StgcnYuParams(Params):
    """Options of `stgcn-yu`."""

    graph: Literal["auto", "kinect-20", "face-68", "face-51", "face-51-mpuc", "custom"] = Field(
        "auto",
        description="which joints are neighbours; auto: what the stream says of itself; face-51-mpuc: as the authors' file has it, "
        "with four edges that look like slips; custom: `edges`",
    )
    edges: tuple[tuple[int, int], ...] = Field(
        (), description="pairs of neighbouring joints, counted from 0, for graph: custom"
    )
    readout: Literal["mean", "flatten"] = Field(
        "mean",
        description="mean over nodes and real steps, then a linear layer; or, as the authors, all steps of a node through one "
        "linear layer and all nodes through another, which fixes the number of steps",
    )
    steps: int = Field(90, ge=11, le=2000, description="steps of readout: flatten (MPUC-MER: 90 on RAVDESS, 30 on MOSEI)")
    width: int = Field(512, ge=1, description="size of the vector")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the read-out")


def fits_yu(params: StgcnYuParams, layout: Layout) -> None:
    """Refuse a graph that is not the stream's."""
    graph_of(params.graph, params.edges, layout)


def build_yu(params: StgcnYuParams, layout: Layout) -> Backbone:
    """The network."""
    from .yu import StgcnYu

    return StgcnYu(params, layout)


STGCN_YU = BackboneSpec(
    name="stgcn-yu",
    summary="the traffic STGCN of Yu et al., which MPUC-MER's code runs on landmarks",
    accepts=(("time", "joint", "channel"),),
    params=StgcnYuParams,
    build=build_yu,
    fits=fits_yu,
    paper="Yu, Yin, Zhu: Spatio-Temporal Graph Convolutional Networks, IJCAI 2018; the code of MPUC-MER (ICPR 2022), A.3.1",
    follows=(
        "The authors' port: time blocks that add a sigmoid where Yu et al. multiply by it, one normalised adjacency, BatchNorm "
        "over nodes, no residuals, T − 10 steps left. Differs: the mean over real steps and nodes by default, 0.1 million weights "
        "in place of 16 (readout: flatten is theirs); statistics of real steps alone; rows that are too short are repeated."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(STGCN)
    register(STGCN_YU)
