"""Files of weights that mean harm, for the tests of whoever reads weights."""

from __future__ import annotations

import os
from pathlib import Path


class _MakesFolder:
    """What unpickles it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def write_evil_weights(path: Path, mark: Path) -> None:
    """A torch file that makes the folder `mark` when it is opened as a pickle."""
    import torch

    torch.save({"encoder": _MakesFolder(str(mark))}, path)
