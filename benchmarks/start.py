"""How long `mmcl list-backbones` takes, over bare `import click, pluggy, yaml`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.side_by_side import Row, compare


def call(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def start() -> Iterator[Row]:
    """The imports over the command: lower than 1."""
    ratio = compare(lambda: call("-m", "mmcl", "list-backbones"), lambda: call("-c", "import click, pluggy, yaml"))
    yield Row("start, list-backbones", ratio, facts={"times bare imports": 1 / ratio.median})


WORKLOADS = {"start": start}
