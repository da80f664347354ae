"""Graphs of joints and landmarks, and how far apart their nodes are. Imports no torch: `mmcl check` uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import pairwise

from mmcl.api import Layout


@dataclasses.dataclass(frozen=True)
class Graph:
    """Nodes 0 to joints − 1, undirected edges, and the node from which the spatial partition measures."""

    name: str
    joints: int
    edges: tuple[tuple[int, int], ...]
    centre: int


def _path(*nodes: int) -> list[tuple[int, int]]:
    return list(pairwise(nodes))


def _ring(first: int, last: int) -> list[tuple[int, int]]:
    return [*_path(*range(first, last + 1)), (last, first)]


def _face_51() -> tuple[tuple[int, int], ...]:
    """The 51 points without the jaw: node i is iBUG landmark i + 17; paths, rings and the links between them."""
    edges: list[tuple[int, int]] = [
        *_path(*range(10)),  # brows, right to left, joined above the nose
        *_path(10, 11, 12, 13),
        *_path(14, 15, 16, 17, 18),  # nose: bridge, nostrils
        *_ring(19, 24),
        *_ring(25, 30),
        *_ring(31, 42),
        *_ring(43, 50),  # eyes, outer and inner lip
        (0, 19),
        (9, 28),
        (10, 14),
        (10, 18),
        (10, 22),
        (10, 25),
        (13, 16),
        (16, 34),
        (19, 31),
        (28, 37),
        (31, 43),
        (33, 44),
        (34, 45),
        (35, 46),
        (37, 47),
    ]
    return tuple(edges)


def _face_68() -> tuple[tuple[int, int], ...]:
    """The jaw line (0 to 16), the inner face shifted by 17, and the jaw tied to brows and mouth."""
    inner = [(a + 17, b + 17) for a, b in _face_51()]
    return (*_path(*range(17)), *inner, (0, 17), (16, 26), (3, 48), (13, 54), (8, 57))


KINECT_20 = (
    (0, 1),
    (1, 2),
    (2, 3),  # head, shoulder centre, spine, hip centre
    (1, 4),
    (4, 5),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (10, 11),  # left arm, right arm
    (3, 12),
    (12, 13),
    (13, 14),
    (14, 15),
    (3, 16),
    (16, 17),
    (17, 18),
    (18, 19),  # left leg, right leg
)


def _face_51_printed() -> tuple[tuple[int, int], ...]:
    """The same as it stands in MPUC-MER's code, with what look like slips: a brow in the order 5 7 6 8, two chords of the lip."""
    return (*(edge for edge in _face_51() if edge not in ((5, 6), (7, 8))), (5, 7), (6, 8), (44, 50), (46, 48))


GRAPHS = {
    "face-51-mpuc": Graph("face-51-mpuc", 51, _face_51_printed(), 16),
    "kinect-20": Graph("kinect-20", 20, KINECT_20, 2),  # the spine is nearest to the body's centre of gravity
    "face-51": Graph("face-51", 51, _face_51(), 16),  # the nose base moves least with expression
    "face-68": Graph("face-68", 68, _face_68(), 33),
}


def graph_for(name: str, edges: Sequence[Sequence[int]], centre: int | None, layout: Layout) -> Graph:
    """The graph that options and stream ask for. Raises ValueError, with a sentence, if it does not fit the stream's joints."""
    joints = layout.sizes["joint"]
    if name != "custom" and edges:
        raise ValueError(f"edges are for graph: custom, and graph is '{name}'")
    if name == "auto":
        stated = layout.notes.get("graph")
        if layout.notes.get("edges"):
            name, edges = "custom", layout.notes["edges"]
        elif stated in GRAPHS:
            name = str(stated)
        else:
            whose = f"calls its graph '{stated}', which is none of ours" if stated else "does not name its graph"
            raise ValueError(f"the stream of {joints} joints {whose}; set graph: to {_fitting(joints)}")
        centre = layout.notes.get("centre") if centre is None else centre
    if name == "custom":
        if not edges:
            raise ValueError("graph: custom needs edges:, such as [[0, 1], [1, 2]]")
        pairs = tuple((int(a), int(b)) for a, b in edges)
        wrong = [pair for pair in pairs if not all(0 <= node < joints for node in pair) or pair[0] == pair[1]]
        if wrong:
            raise ValueError(f"edge {list(wrong[0])} must join two different joints of {joints} (0 to {joints - 1})")
        reach = [sum(distances) for distances in hops(joints, pairs)]
        graph = Graph("custom", joints, pairs, reach.index(min(reach)))
    else:
        graph = GRAPHS[name]
        if graph.joints != joints:
            raise ValueError(
                f"the stream has {joints} joints, graph '{name}' has {graph.joints}; set graph: to {_fitting(joints)}"
            )
    if centre is not None:
        if not 0 <= centre < joints:
            raise ValueError(f"centre {centre} is none of {joints} joints (0 to {joints - 1})")
        graph = dataclasses.replace(graph, centre=centre)
    return graph


def _fitting(joints: int) -> str:
    """The graphs of so many joints, for messages; with other edges any number has one."""
    return " or ".join([*(graph.name for graph in GRAPHS.values() if graph.joints == joints), "custom, with edges"])


def graph_of(name: str, edges: Sequence[Sequence[int]], layout: Layout) -> Graph:
    """The graph without a centre of its own: for networks that ask for neighbours alone."""
    return graph_for(name, edges, None, layout)


def hops(joints: int, edges: Iterable[tuple[int, int]]) -> list[list[float]]:
    """How many edges lie between every two nodes; infinity where none leads there."""
    far = float("inf")
    neighbours: list[set[int]] = [set() for _ in range(joints)]
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    table = []
    for start in range(joints):
        distance = [far] * joints
        distance[start] = 0.0
        reached = [start]
        for node in reached:  # grows as it goes: nearer nodes come before farther ones
            for other in neighbours[node]:
                if distance[other] == far:
                    distance[other] = distance[node] + 1
                    reached.append(other)
        table.append(distance)
    return table


def partition_problem(graph: Graph) -> str | None:
    """Why the spatial partition cannot be made, or None: every node needs a distance to the centre."""
    alone = [node for node, distance in enumerate(hops(graph.joints, graph.edges)[graph.centre]) if distance == float("inf")]
    if alone:
        return (
            f"graph '{graph.name}' is in pieces: no edges lead from joint {alone[0]} to the centre {graph.centre}; "
            "add edges, or set partition: distance"
        )
    return None


def partitions(graph: Graph, strategy: str, max_hop: int) -> list[list[list[float]]]:
    """The column-normalised adjacency A·D⁻¹, split into subsets [K][from][to] (Yan et al. 2018, Eq. 8 and before it).

    uniform: one subset. distance: the node itself, then each distance. spatial: as far from the centre as the node itself
    (root), nearer (centripetal), farther (centrifugal). spatial-code: as the published code has it, which knows distances to the centre
    up to max_hop alone and takes all beyond for equal: the node itself, then for each hop those as far or farther, and those nearer.
    Every column, summed over subsets, is 1.
    """
    table = hops(graph.joints, graph.edges)
    near = [[table[a][b] <= max_hop for b in range(graph.joints)] for a in range(graph.joints)]
    degree = [sum(near[a][b] for a in range(graph.joints)) for b in range(graph.joints)]
    count = {"uniform": 1, "distance": max_hop + 1, "spatial": 3, "spatial-code": 1 + 2 * max_hop}[strategy]
    subsets = [[[0.0] * graph.joints for _ in range(graph.joints)] for _ in range(count)]
    for a in range(graph.joints):
        for b in range(graph.joints):
            if not near[a][b]:
                continue
            if strategy == "uniform":
                k = 0
            elif strategy == "distance":
                k = int(table[a][b])
            elif strategy == "spatial-code":
                hop = int(table[a][b])
                sender, receiver = (
                    d if d <= max_hop else float("inf") for d in (table[graph.centre][a], table[graph.centre][b])
                )
                k = 0 if hop == 0 else 2 * hop - 1 if sender >= receiver else 2 * hop
            else:
                sender, receiver = table[graph.centre][a], table[graph.centre][b]
                k = 0 if sender == receiver else 1 if sender < receiver else 2
            subsets[k][a][b] = 1 / degree[b]
    return subsets
