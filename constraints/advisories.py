"""`make audit-dependencies`: what pip-audit knows of the installed packages, a line each; the JSON that it wrote stands in the file that is named.

Exit code 1: there are advisories. Where no package could be looked up (no network, or a registry without advisories), that is said, and no fault.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def verdict(text: str) -> tuple[list[str], int]:
    """The lines to print and the exit code for what pip-audit wrote; "" where it wrote nothing."""
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        packages = []
    known = [one for one in packages if "skip_reason" not in one]
    if not known:
        return ["advisories cannot be had here: pip-audit reaches no service that has some, so no package was looked up"], 0
    hit = [(one, advisory) for one in known for advisory in one["vulns"]]
    lines = [
        f"{one['name']} {one['version']}: {advisory['id']}"
        + (f"; mended in {', '.join(advisory['fix_versions'])}" if advisory.get("fix_versions") else "")
        for one, advisory in hit
    ]
    left_out = f"; {len(packages) - len(known)} could not be looked up" if len(packages) > len(known) else ""
    return [*lines, f"{len(known)} packages looked up, {len(hit)} advisories{left_out}"], int(bool(hit))


if __name__ == "__main__":
    path = Path(sys.argv[1])
    lines, code = verdict(path.read_text(encoding="utf-8") if path.is_file() else "")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.exit(code)
