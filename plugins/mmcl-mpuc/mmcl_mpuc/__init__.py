"""What MPUC-MER's authors' code really is, under names of its own, the paper's settings, and its tables."""

from __future__ import annotations

from mmcl.api import PresetSpec, PublishedSpec, Register, hookimpl

from .presets import PRESETS
from .published import MPUC_MER


@hookimpl
def register_presets(register: Register[PresetSpec]) -> None:
    """Offer the settings."""
    for preset in PRESETS:
        register(preset)


@hookimpl
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer the paper's tables."""
    register(MPUC_MER)
