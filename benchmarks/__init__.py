"""Ratios against plain PyTorch, measured side by side in one process: `make bench`."""
