"""Randomness with an address: a draw depends on where it is used, never on how many draws came before."""

from __future__ import annotations

import hashlib


def address(*parts: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, such as address(seed, "fold", 3, "batches", epoch)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
