"""`make bench`, or `python -m benchmarks [--only NAME]… [--threads N] [--json FILE]`: every benchmark, or those named."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch

from benchmarks.side_by_side import Row, machine

EVERY = {
    "ceiling": "ceiling",
    "step-mosei-4mod": "steps",
    "step-ravdess": "steps",
    "r2plus1d": "video",
    "embed-frozen-video": "video",
    "text-real-lengths": "text",
    "epoch-quickstart": "epoch",
    "epoch-utd_mhad_3mod": "epoch",
    "epoch-ravdess_audio_au": "epoch",
    "pairs": "pairs",
    "probe-5k-512": "probing",
    "probe-23k-2048": "probing",
    "prepare-audio": "preparing",
    "start": "start",
    "ranks": "ranks",
    "growth": "growth",
}
"""Name of a workload → the file that has it: `workloads` there, by name, yield its rows."""


def main() -> None:
    """Run them, print the table as it grows, keep it as one JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=EVERY, metavar="NAME", help=f"one of {', '.join(EVERY)}; may be repeated"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), help="where the figures are kept (default: bench.json)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = machine()
    print("; ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    rows: list[Row] = []
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    for name in arguments.only or EVERY:
        workloads = importlib.import_module(f"benchmarks.{EVERY[name]}").WORKLOADS
        for row in cast(Callable[[], Iterator[Row]], workloads[name])():
            print(row, flush=True)
            rows.append(row)
            kept = {"began": began, "machine": about, "rows": [one.to_json() for one in rows]}
            arguments.json.write_text(json.dumps(kept, indent=1) + "\n")  # after every row: a stopped run keeps what it has
    print(f"kept in {arguments.json}; load {machine()['load']} now")


if __name__ == "__main__":
    main()
