"""Which joint each joint hangs on. Imports nothing heavy: `mmcl check` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINECT_20 = (1, 2, 3, 3, 1, 4, 5, 6, 1, 8, 9, 10, 3, 12, 13, 14, 3, 16, 17, 18)
"""Parents in the order of UTD-MHAD: head, shoulder centre, spine, hip centre (its own), left arm, right arm, left leg, right leg."""


def parents_of(notes: Mapping[str, Any], joints: int) -> tuple[int, ...]:
    """The next joint towards the root, of each joint; the root is its own.

    By the source's `edges` from its `root` (else `centre`, else joint 0), or by its `graph` where that is a known one. Raises
    ValueError if neither is there, or the edges do not reach every joint.
    """
    edges = notes.get("edges")
    if not edges:
        if notes.get("graph") == "kinect-20" and joints == len(KINECT_20):
            return KINECT_20
        raise ValueError(
            f"bones need to know which joints are joined: the source has no edges (notes: edges), and its graph "
            f"'{notes.get('graph', '')}' of {joints} joints is none of ours (kinect-20); set streams and scale without bones"
        )
    root = int(notes.get("root", notes.get("centre", 0)))
    parents, reached = {root: root}, [root]
    for joint in reached:
        for first, second in edges:
            for here, there in ((int(first), int(second)), (int(second), int(first))):
                if here == joint and there not in parents:
                    parents[there] = joint
                    reached.append(there)
    if sorted(parents) != list(range(joints)):
        lost = sorted(set(range(joints)) ^ set(parents))
        raise ValueError(f"the source's edges do not join joints {lost} to joint {root}, of {joints}")
    return tuple(parents[joint] for joint in range(joints))
