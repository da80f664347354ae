"""Published weights of networks: tensors alone, whatever else a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..api.errors import DataError


def read_weights(path: Path) -> Any:
    """What a safetensors file or a torch file holds: tensors by name, perhaps in mappings of mappings.

    A torch file is a pickle, which could run anything. `weights_only` builds tensors and plain containers and refuses the rest
    (hardened in torch 2.6; 2.11 is the least that mmcl installs with).

    Raises DataError if the file is neither, or holds anything else.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        why = str(error).strip().split("\n", 1)[0][:160] or type(error).__name__
        raise DataError(
            f"{path}: is not a file of weights that can be read safely ({why}); a safetensors file, or a torch file of tensors alone was "
            "expected"
        ) from error
