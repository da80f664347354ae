"""Reads finished runs: looks for leaks, compares, repeats, fills a paper's tables. Reads numbers, draws nothing."""
