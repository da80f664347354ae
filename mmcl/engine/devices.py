"""Which device a run uses, and in which precision. Never changed behind the user's back."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from ..api.errors import StageError


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one, else the processor.

    Raises StageError if CUDA is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise StageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return torch.device(name)


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which networks run; losses stand outside it and are float32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
