"""The checks of a kind of stream, and made-up layouts of every kind."""

from __future__ import annotations

from typing import Any

from ..api.kinds import Kind, Layout
from .checks import expect


def make_layouts(axes: tuple[str, ...]) -> list[Layout]:
    """Made-up layouts with these axes, small ones first; a backbone is checked on the first that its `fits` takes."""
    kind = "-".join(axes)
    rate = 25.0 if "time" in axes else None

    def one(joints: int, channels: int, side: int, graph: str) -> Layout:
        usual = {"joint": joints, "channel": channels, "height": side, "width": side}
        sizes = {axis: usual.get(axis, 5) for axis in axes if axis != "time"}
        return Layout(kind, axes, sizes, rate, notes={"graph": graph} if "joint" in axes else {})

    if "height" in axes:
        return [
            one(20, channels, side, "kinect-20") for channels, side in ((3, 32), (1, 32), (3, 64), (1, 64), (3, 112), (3, 224))
        ]
    if "joint" in axes:
        return [one(20, 3, 0, "kinect-20"), one(20, 6, 0, "kinect-20"), one(68, 2, 0, "face-68"), one(51, 2, 0, "face-51")]
    if "channel" not in axes:
        return [Layout(kind, axes, {axis: 1 for axis in axes if axis != "time"}, rate, notes={"vocab": 16})]
    return [one(0, channels, 0, "") for channels in (6, 30, 64, 128, 512)]


def expect_kind(kind: Kind) -> None:
    """The axes of a kind are axes."""
    expect_axes(f"kind '{kind.name}'", kind.axes)


def expect_axes(subject: str, axes: Any) -> None:
    """Axes are a tuple of different names, time before the others."""
    expect(
        isinstance(axes, tuple) and bool(axes) and len(set(axes)) == len(axes) and ("time" not in axes or axes[0] == "time"),
        f'{subject}: axes are a tuple of different names with time first, such as ("time", "channel"); found {axes!r}',
    )
