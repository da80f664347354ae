"""What MPUC-MER's authors' code really is, under names of its own, and the paper's tables."""

from __future__ import annotations

from mmcl.api import PublishedSpec, Register, hookimpl

from .published import MPUC_MER


@hookimpl
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer the paper's tables."""
    register(MPUC_MER)
