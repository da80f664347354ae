"""`make fuzz`: every fuzzer, or those named, each in a process of its own; exit code 1 if any case failed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARES = {
    **{
        "tensors": 200,
        "stores": 150,
        "json-words": 150,
        "tables": 120,
        "arrays": 120,
        "sounds": 60,
        "corpora": 60,
        "matlab": 60,
    },
    **{"converted": 30, "sweeps": 30, "films": 10, "recipes": 6, "run-folders": 2, "kept-parts": 2},
    **{"remote": 40, "uploaded": 20, "parts": 30, "columns": 60, "checkpoints": 30, "indexes": 40},
}
"""How the cases are shared out: slower ones get fewer."""


def one(name: str, cases: int, start: int, seconds: float) -> None:
    """One fuzzer in this process; a line of JSON at the end."""
    import torch

    from . import places, readers, runs
    from .machine import fuzz

    torch.set_num_threads(1)
    memory = Path("/dev/shm")  # where there is one: most of a case's time would go to the disk
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        outcome = fuzz((readers.FUZZERS | places.FUZZERS | runs.FUZZERS)[name](Path(folder)), cases, start, seconds)
    print(json.dumps(vars(outcome)))


def main() -> int:
    """Every fuzzer that is named, one after the other."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SHARES)}; left out: all")
    parser.add_argument("--cases", type=int, default=10_000, help="in all")
    parser.add_argument("--seconds", type=float, default=1e9, help="in all")
    parser.add_argument("--start", type=int, default=0, help="number of the first case, from which it is drawn")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        one(options.names[0], options.cases, options.start, options.seconds)
        return 0
    names = options.names or list(SHARES)
    parts, total, failed, began = sum(SHARES[name] for name in names), 0, 0, time.monotonic()
    for name in names:
        share = SHARES[name] / parts
        words = [name, "--child", "--cases", str(max(1, round(options.cases * share))), "--start", str(options.start)]
        words += ["--seconds", str(options.seconds * share if options.seconds < 1e8 else 1e9)]
        done = subprocess.run([sys.executable, "-m", "fuzz", *words], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(f"{name}: the process ended with {done.returncode}")
            failed += 1
            continue
        outcome = json.loads(done.stdout.splitlines()[-1])
        total, failed = total + outcome["cases"], failed + outcome["failed"]
        share = outcome["failed"] / max(1, outcome["cases"])
        print(
            f"{name}: {outcome['cases']:,} cases, {outcome['refused']:,} refused, {outcome['failed']:,} failed ({100 * share:.1f} %), "
            f"the slowest took {outcome['slowest']:.1f} s",
            flush=True,
        )
        for where, (count, case) in sorted(outcome["failures"].items(), key=lambda row: -row[1][0]):
            print(f"    {count:,} × {where}\n        {case[:600]}")
    print(f"{total:,} cases in {time.monotonic() - began:.0f} s, {failed:,} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
