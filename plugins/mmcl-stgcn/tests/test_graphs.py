"""What the graphs must be: adjacency as computed by hand, faces that are symmetric, and refusals that say what to do."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from mmcl_stgcn import STGCN, StgcnParams
from mmcl_stgcn.graphs import GRAPHS, Graph, graph_for, hops, partitions

from mmcl.api import Layout

#   0 ─ 1 ─ 3 ─ 4        centre 1; 2 and 3 are equally far from it
#       │   │
#       2 ──┘
FIVE = Graph("five", 5, ((0, 1), (1, 2), (1, 3), (2, 3), (3, 4)), 1)
A, B, C = Fraction(1, 2), Fraction(1, 4), Fraction(1, 3)  # degrees with the joint itself: 2, 4, 3, 4, 2


def table(**entries: Fraction) -> list[list[float]]:
    """A 5 × 5 matrix [from][to] from entries such as e01=…, zero elsewhere."""
    matrix = [[0.0] * 5 for _ in range(5)]
    for name, value in entries.items():
        matrix[int(name[1])][int(name[2])] = float(value)
    return matrix


SELF = {"e00": A, "e11": B, "e22": C, "e33": B, "e44": A}
INWARD = {"e01": B, "e21": B, "e31": B, "e43": B}  # from a joint farther from the centre
OUTWARD = {"e10": A, "e12": C, "e13": B, "e34": A}  # from a joint nearer to the centre
LEVEL = {"e23": B, "e32": C}  # between equally far joints


def test_partitions_of_a_small_graph_are_those_worked_out_by_hand() -> None:
    assert partitions(FIVE, "uniform", 1) == [table(**SELF, **INWARD, **OUTWARD, **LEVEL)]
    assert partitions(FIVE, "distance", 1) == [table(**SELF), table(**INWARD, **OUTWARD, **LEVEL)]
    assert partitions(FIVE, "spatial", 1) == [table(**SELF, **LEVEL), table(**OUTWARD), table(**INWARD)]


def test_the_published_code_takes_distances_beyond_its_reach_for_equal() -> None:
    """Of five joints, 3 and 4 are two edges or more from the centre 0: between them the code sees no difference, Eq. 8 does."""
    chain = Graph("chain", 5, ((0, 1), (1, 2), (2, 3), (3, 4)), 0)
    itself, level_or_outer, inner = partitions(chain, "spatial-code", 1)
    assert [[a for a in range(5) if itself[a][b]] for b in range(5)] == [[0], [1], [2], [3], [4]]
    assert [[a for a in range(5) if level_or_outer[a][b]] for b in range(5)] == [[1], [2], [3], [2, 4], [3]]
    assert [[a for a in range(5) if inner[a][b]] for b in range(5)] == [[], [0], [1], [], []]


def test_how_many_neighbours_of_a_face_stand_elsewhere_in_the_published_code() -> None:
    face = GRAPHS["face-51"]
    level, nearer, farther = partitions(face, "spatial", 1)
    itself, outer, inner = partitions(face, "spatial-code", 1)
    joints = range(face.joints)
    apart = [
        (a, b)
        for a in joints
        for b in joints
        for one, other in ((level, itself), (farther, outer), (nearer, inner))
        if one[a][b] != other[a][b]
    ]
    assert len(apart) == 114
    assert len(set(apart)) == 57
    assert sum(level[a][b] + nearer[a][b] + farther[a][b] > 0 for a in joints for b in joints) == 177


def test_two_hops_reach_the_neighbours_of_neighbours() -> None:
    near, far = partitions(FIVE, "distance", 2)[1:]
    assert [[b for b in range(5) if near[a][b]] for a in range(5)] == [[1], [0, 2, 3], [1, 3], [1, 2, 4], [3]]
    assert [[b for b in range(5) if far[a][b]] for a in range(5)] == [[2, 3], [4], [0, 4], [0], [1, 2]]
    assert hops(5, FIVE.edges)[0] == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("strategy", ["uniform", "distance", "spatial", "spatial-code"])
@pytest.mark.parametrize("reach", [1, 2])
def test_what_reaches_a_joint_always_weighs_one_in_all(name: str, strategy: str, reach: int) -> None:
    subsets = partitions(GRAPHS[name], strategy, reach)
    assert len(subsets) == {"uniform": 1, "distance": reach + 1, "spatial": 3, "spatial-code": 1 + 2 * reach}[strategy]
    for to in range(GRAPHS[name].joints):
        assert sum(row[to] for subset in subsets for row in subset) == pytest.approx(1)


@pytest.mark.parametrize("name", GRAPHS)
def test_shipped_graphs_are_in_one_piece_and_name_every_edge_once(name: str) -> None:
    graph = GRAPHS[name]
    assert max(map(max, hops(graph.joints, graph.edges))) < graph.joints
    assert len({frozenset(edge) for edge in graph.edges}) == len(graph.edges)


def test_kinect_skeleton_is_a_tree_of_named_bones() -> None:
    names = ["head", "neck", "spine", "hips"]
    names += [f"{side} {part}" for side in ("left", "right") for part in ("shoulder", "elbow", "wrist", "hand")]
    names += [f"{side} {part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "foot")]
    bones = {("head", "neck"), ("neck", "spine"), ("spine", "hips")}
    for side in ("left", "right"):
        arm, leg = ["shoulder", "elbow", "wrist", "hand"], ["hip", "knee", "ankle", "foot"]
        bones |= {("neck", f"{side} shoulder"), ("hips", f"{side} hip")}
        bones |= {(f"{side} {a}", f"{side} {b}") for limb in (arm, leg) for a, b in pairwise(limb)}
    graph = GRAPHS["kinect-20"]
    assert {(names[a], names[b]) for a, b in graph.edges} == bones
    assert names[graph.centre] == "spine"


def mirror_68() -> list[int]:
    """Where each of iBUG's 68 points lies in a mirrored face."""
    mirror = (
        [16 - i for i in range(17)] + [43 - i for i in range(17, 27)] + list(range(27, 31)) + [66 - i for i in range(31, 36)]
    )
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]  # eyes
    mirror += [102 - i for i in range(48, 55)] + [114 - i for i in range(55, 60)]  # outer lip
    return mirror + [124 - i for i in range(60, 65)] + [132 - i for i in range(65, 68)]  # inner lip


def test_a_mirrored_face_has_the_same_graph() -> None:
    whole, inner = GRAPHS["face-68"], GRAPHS["face-51"]
    mirror = mirror_68()
    edges = {frozenset(edge) for edge in whole.edges}
    assert {frozenset(mirror[i] for i in edge) for edge in edges} == edges
    assert {frozenset(i + 17 for i in edge) for edge in inner.edges} == {edge for edge in edges if min(edge) >= 17}
    assert inner.centre + 17 == whole.centre == mirror[whole.centre] == 33
    assert len(inner.edges) == 63  # MPUC-MER's 65 without the two stray chords of the inner lip


def skeleton(joints: int, **notes: Any) -> Layout:
    return Layout("skeleton", ("time", "joint", "channel"), {"joint": joints, "channel": 3}, 30.0, notes=notes)


def refusal(layout: Layout, **options: Any) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        STGCN.fits(StgcnParams.model_validate(options), layout)
    return str(caught.value)


def test_a_stream_that_names_its_graph_needs_no_option() -> None:
    STGCN.fits(StgcnParams(), skeleton(20, graph="kinect-20"))
    STGCN.fits(StgcnParams(graph="face-51"), skeleton(51))
    STGCN.fits(StgcnParams(), skeleton(3, edges=[[0, 1], [1, 2]], centre=1))


def test_refusals_name_the_number_of_joints_and_the_graph_that_would_fit() -> None:
    text = refusal(skeleton(68, graph="kinect-20"))
    assert "68 joints, graph 'kinect-20' has 20; set graph: to face-68" in text
    assert "set graph: to custom, with edges" in refusal(skeleton(21), graph="kinect-20")


def test_refusals_of_graphs_that_cannot_be() -> None:
    assert "does not name its graph" in refusal(skeleton(20))
    assert "'kinect-25', which is none of ours" in refusal(skeleton(25, graph="kinect-25"))
    assert "needs edges" in refusal(skeleton(3), graph="custom")
    assert "edges are for graph: custom" in refusal(skeleton(20), graph="kinect-20", edges=((0, 1),))
    assert "edge [1, 3] must join two different joints of 3" in refusal(skeleton(3), graph="custom", edges=((0, 1), (1, 3)))
    assert "edge [1, 1] must join" in refusal(skeleton(3), graph="custom", edges=((0, 1), (1, 1)))
    assert "centre 20 is none of 20 joints" in refusal(skeleton(20), graph="kinect-20", centre=20)


def test_a_graph_in_pieces_is_refused_only_where_distance_to_the_centre_counts() -> None:
    layout, options = skeleton(4), {"graph": "custom", "edges": ((0, 1), (2, 3)), "centre": 0}
    assert "in pieces: no edges lead from joint 2 to the centre 0" in refusal(layout, **options)
    STGCN.fits(StgcnParams.model_validate({**options, "partition": "distance"}), layout)


def test_a_graph_without_a_centre_gets_the_joint_nearest_to_all() -> None:
    assert graph_for("custom", ((0, 1), (1, 2), (2, 3), (3, 4)), None, skeleton(5)).centre == 2
    assert graph_for("auto", (), None, skeleton(5, edges=[[0, 1], [1, 2], [2, 3], [3, 4]], centre=1)).centre == 1
    assert graph_for("auto", (), 3, skeleton(5, edges=[[0, 1], [1, 2], [2, 3], [3, 4]], centre=1)).centre == 3


def test_contradicting_options_are_refused() -> None:
    layout = skeleton(20, graph="kinect-20")
    assert "strides has 2 entries, channels has 3" in refusal(layout, channels=(4, 4, 8), strides=(1, 2))
    assert "kernel 4 has no centre" in refusal(layout, kernel=4)


def test_default_strides_are_two_at_the_fifth_and_the_eighth_unit() -> None:
    assert StgcnParams().steps == (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)
