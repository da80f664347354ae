"""`make bench`: every benchmark, or those named."""

from __future__ import annotations

import sys

import torch

from benchmarks import pairs, start

EVERY = {"pairs": pairs, "start": start}

if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in sys.argv[1:] or EVERY:
        EVERY[name].main()
