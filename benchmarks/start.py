"""How long `mmcl list-backbones` takes, over bare `import click, pluggy, yaml`."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.side_by_side import compare


def call(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> None:
    """Print the ratio (lower is better here: how many times the bare imports)."""
    ratio = compare(lambda: call("-c", "import click, pluggy, yaml"), lambda: call("-m", "mmcl", "list-backbones"))
    print(
        f"start: `mmcl list-backbones` takes {ratio.median:.1f}x bare imports ({ratio.theirs:.0f} ms against {ratio.ours:.0f} ms)"
    )
