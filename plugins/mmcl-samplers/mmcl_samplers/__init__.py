"""Which recordings stand in a batch together."""

from __future__ import annotations

from typing import Literal

from mmcl.api import Field, NoParams, Params, Register, Sampler, SamplerSpec, hookimpl


def build_random(params: NoParams) -> Sampler:
    """The sampler."""
    from .composed import at_random

    return at_random


class ByGroupParams(Params):
    """Options of `by-group`."""

    how: Literal["together", "spread"] = Field(
        "together",
        description="together: a batch is of few groups, so that negatives are of the anchor's own; spread: each group's recordings are shared out evenly",
    )
    each: int = Field(4, ge=1, le=1024, description="together: groups in a batch, as far as their recordings reach")


def build_by_group(params: ByGroupParams) -> Sampler:
    """The sampler."""
    from .composed import ByGroup

    return ByGroup(params)


class ByLabelParams(Params):
    """Options of `by-label`."""

    target: str = Field(
        "emotion", description="task by whose labels recordings are put together (all of them, for a multi-label task)"
    )
    how: Literal["together", "spread"] = Field(
        "spread",
        description="together: a batch is of few labels; spread: every batch has the labels in the shares of the whole",
    )
    each: int = Field(4, ge=1, le=1024, description="together: labels in a batch, as far as their recordings reach")


def build_by_label(params: ByLabelParams) -> Sampler:
    """The sampler."""
    from .composed import ByLabel

    return ByLabel(params)


class ByLengthParams(Params):
    """Options of `by-length`."""

    batches: int = Field(
        16,
        ge=1,
        le=4096,
        description="so many batches of recordings, drawn at random, are put in order of length at a time; 1: at random, many: hardly at random",
    )


def build_by_length(params: ByLengthParams) -> Sampler:
    """The sampler."""
    from .composed import ByLength

    return ByLength(params)


class ByShardParams(Params):
    """Options of `by-shard`."""

    window: int = Field(
        8,
        ge=1,
        le=4096,
        description="files of prepared streams (256 MB each) whose recordings are mixed; as many must fit into the cache of a remote store",
    )


def build_by_shard(params: ByShardParams) -> Sampler:
    """The sampler."""
    from .composed import ByShard

    return ByShard(params)


class HardParams(Params):
    """Options of `hard`."""

    share: float = Field(
        0.5, gt=0, le=1, description="of a batch: recordings that are near its first one; the others are drawn at random"
    )
    refresh: int = Field(
        1, ge=1, le=1000, description="epochs after which recordings are encoded anew, which takes a pass over all of them"
    )
    skip: int = Field(
        0,
        ge=0,
        le=1000,
        description="nearest recordings that are passed over, as the very nearest may be the same in all but name (false negatives)",
    )


def build_hard(params: HardParams) -> Sampler:
    """The sampler."""
    from .composed import Hard

    return Hard(params)


RANDOM = SamplerSpec(
    name="random",
    summary="recordings in random order, what is done where a recipe names no sampler",
    params=NoParams,
    build=build_random,
)
BY_GROUP = SamplerSpec(
    name="by-group",
    summary="batches of few groups (speakers), or with every group shared out evenly; no labels",
    params=ByGroupParams,
    build=build_by_group,
)
BY_LABEL = SamplerSpec(
    name="by-label",
    summary="batches with labels in the shares of the whole, or of few labels (supervised)",
    params=ByLabelParams,
    build=build_by_label,
    needs=lambda params: (params.target,),
)
BY_LENGTH = SamplerSpec(
    name="by-length",
    summary="recordings of like length together, so that little is padded; no labels",
    params=ByLengthParams,
    build=build_by_length,
)
BY_SHARD = SamplerSpec(
    name="by-shard",
    summary="files of prepared streams in random order, recordings mixed within some of them: for remote stores and slow disks; no labels",
    params=ByShardParams,
    build=build_by_shard,
)
HARD = SamplerSpec(
    name="hard",
    summary="recordings that are near each other under the encoders as they are, so that negatives are hard; no labels",
    params=HardParams,
    build=build_hard,
    looks=lambda params: params.refresh,
)


@hookimpl
def register_samplers(register: Register[SamplerSpec]) -> None:
    """Offer the samplers."""
    for sampler in (RANDOM, BY_GROUP, BY_LABEL, BY_LENGTH, BY_SHARD, HARD):
        register(sampler)
