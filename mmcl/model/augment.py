"""Random changes to a stream: while pretraining as the recipe's `augment` says, at test as `worth.robustness` says."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..api.batch import Stream
from ..api.kinds import Layout


@dataclass(frozen=True)
class Augmentation:
    """What is changed, and how much; all off unless asked for. Shares and factors are explained at `augment` in the recipe."""

    noise: float = 0.0
    gain: float = 0.0
    mask_time: float = 0.0
    mask_channels: float = 0.0
    rotate: float = 0.0
    lose: float = 0.0  # share of the steps set to the mean, each for itself
    mask_bands: float = 0.0
    mask_joints: float = 0.0
    speed: float = 0.0
    permute: int = 1
    mirror: float = 0.0

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) != one.default for one in fields(self))


def mirror(stream: Stream, layout: Layout, probability: float, generator: torch.Generator | None) -> Stream:
    """Some recordings seen in a mirror: left and right joints change places, and one direction its sign.

    Done on values as they were measured, before they are normalised. The layout says how, in its notes:
    {"mirror": {"swap": [place of each joint's counterpart, …], "negate": [channels that change sign, …]}}.
    """
    if not probability:
        return stream
    how = layout.notes["mirror"]
    rows = torch.rand(len(stream.values), generator=generator) < probability
    joint, channel = (layout.axes.index(axis) + 1 for axis in ("joint", "channel"))
    turned = stream.values.index_select(joint, torch.tensor(how["swap"], device=stream.values.device))
    sign = torch.ones(layout.sizes["channel"])
    sign[list(how["negate"])] = -1
    turned = turned * sign.to(turned).view([-1 if axis == channel else 1 for axis in range(turned.ndim)])
    chosen = rows.to(stream.values.device).view(-1, *[1] * (turned.ndim - 1))
    return Stream(torch.where(chosen, turned, stream.values), stream.steps, stream.present)


def augment(stream: Stream, layout: Layout, how: Augmentation, generator: torch.Generator | None) -> Stream:
    """A stream with random changes; zero is the channel's mean here, so masking sets values to the mean.

    Each kind of change draws only where it is asked for, so that one more changes nothing of what the others draw before it.
    """
    values, rows = stream.values, len(stream.values)
    ones = [1] * (values.ndim - 1)
    if how.rotate:
        turns = rotations(how.rotate * (2 * torch.rand(rows, 3, generator=generator) - 1)).to(values)
        axis = layout.axes.index("channel") + 1
        threes = values.movedim(axis, -1)
        turned = torch.einsum("b...gx,bxy->b...gy", threes.reshape(*threes.shape[:-1], -1, 3), turns)
        values = turned.flatten(-2).movedim(-1, axis)
    if how.gain:
        factor = 1 + how.gain * (2 * torch.rand(rows, generator=generator) - 1)
        values = values * factor.to(values).view(rows, *ones)
    if how.noise:
        values = values + how.noise * torch.randn(values.shape, generator=generator).to(values)
    if how.mask_channels:
        values = values * _kept(values, layout.axes.index("channel") + 1, how.mask_channels, generator)
    if how.mask_time and layout.timed:
        lengths = stream.steps.sum(1)
        span = (lengths * how.mask_time * torch.rand(rows, generator=generator).to(lengths.device)).round()
        start = ((lengths - span + 1) * torch.rand(rows, generator=generator).to(lengths.device)).floor()
        step = torch.arange(values.shape[1], device=values.device)
        hidden = (step >= start[:, None]) & (step < (start + span)[:, None])
        values = values * spread(~hidden, values)
    if how.lose and layout.timed:
        values = values * spread(torch.rand(stream.steps.shape, generator=generator).to(values) >= how.lose, values)
    if how.mask_joints:
        values = values * _kept(values, layout.axes.index("joint") + 1, how.mask_joints, generator)
    if how.mask_bands:
        axis = layout.axes.index("channel") + 1
        size = values.shape[axis]
        span = (size * how.mask_bands * torch.rand(rows, generator=generator)).round()
        start = ((size - span + 1) * torch.rand(rows, generator=generator)).floor()
        band = torch.arange(size)
        hidden = (band >= start[:, None]) & (band < (start + span)[:, None])
        values = values * (~hidden).to(values).view([rows if a == 0 else size if a == axis else 1 for a in range(values.ndim)])
    stream = Stream(values * spread(stream.steps, values), stream.steps, stream.present)
    if how.permute > 1 and layout.timed:
        stream = permuted(stream, how.permute, generator)
    if how.speed and layout.timed:
        stream = stretched(stream, 1 + how.speed * (2 * torch.rand(rows, generator=generator) - 1))
    return stream


def permuted(stream: Stream, parts: int, generator: torch.Generator | None) -> Stream:
    """Every recording cut into up to so many parts, at random places, and the parts set in another order."""
    places = torch.arange(stream.values.shape[1]).repeat(len(stream.values), 1)
    for row, length in enumerate(stream.steps.sum(1).tolist()):
        number = min(int(torch.randint(1, parts + 1, (1,), generator=generator)), length)
        if number < 2:
            continue
        cuts = (torch.randperm(length - 1, generator=generator)[: number - 1] + 1).sort().values.tolist()
        pieces = torch.arange(length).tensor_split(cuts)
        order = torch.randperm(number, generator=generator).tolist()
        places[row, :length] = torch.cat([pieces[i] for i in order])
    places = places.to(stream.values.device)
    return Stream(stream.values[_each(places), places], stream.steps, stream.present)


def stretched(stream: Stream, factor: Tensor) -> Stream:
    """Every recording played so many times as fast [B], by linear interpolation between its real steps; none gets shorter than one."""
    lengths = stream.steps.sum(1)
    factor = factor.to(lengths.device)
    after = torch.where(lengths > 0, (lengths / factor).round().clamp_min(1), torch.zeros_like(factor)).long()
    steps = torch.arange(max(1, int(after.max())), device=lengths.device)[None] < after[:, None]
    place = torch.arange(steps.shape[1], device=lengths.device)[None] * ((lengths - 1) / (after - 1).clamp_min(1))[:, None]
    place = torch.minimum(place.clamp_min(0), (lengths - 1).clamp_min(0)[:, None].to(place))
    low = place.floor().long()
    high = torch.minimum(low + 1, (lengths - 1).clamp_min(0)[:, None])
    share = (place - low).to(stream.values).view(*place.shape, *[1] * (stream.values.ndim - 2))
    rows = _each(low)
    values = torch.lerp(stream.values[rows, low], stream.values[rows, high], share)
    return Stream(values * spread(steps, values), steps, stream.present)


def rotations(angles: Tensor) -> Tensor:
    """Rotation matrices [n, 3, 3] about x, then y, then z, by angles [n, 3] in radians."""
    sine, cosine, one, zero = angles.sin(), angles.cos(), torch.ones(len(angles)), torch.zeros(len(angles))
    turned = []
    for axis in range(3):
        s, c = sine[:, axis], cosine[:, axis]
        rows = (
            ((one, zero, zero), (zero, c, -s), (zero, s, c)),
            ((c, zero, s), (zero, one, zero), (-s, zero, c)),
            ((c, -s, zero), (s, c, zero), (zero, zero, one)),
        )[axis]
        turned.append(torch.stack([torch.stack(row, -1) for row in rows], -2))
    return turned[2] @ turned[1] @ turned[0]


def spread(mask: Tensor, values: Tensor) -> Tensor:
    """A mask [B, T] in the shape of values [B, T, ...] (or [B, ...] without time, where T is 1)."""
    if values.ndim == 2:
        return mask[:, :1].to(values.dtype)
    return mask.to(values.dtype).view(*mask.shape, *[1] * (values.ndim - 2))


def _kept(values: Tensor, axis: int, share: float, generator: torch.Generator | None) -> Tensor:
    """Ones, and zeros for a share of an axis, drawn for each recording."""
    keep = torch.rand(len(values), values.shape[axis], generator=generator) >= share
    return keep.to(values).view([-1 if a == 0 else values.shape[axis] if a == axis else 1 for a in range(values.ndim)])


def _each(places: Tensor) -> Tensor:
    return torch.arange(len(places), device=places.device)[:, None].expand_as(places)
