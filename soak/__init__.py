"""Runs that are killed: at random moments spread over all stages, and before every call that changes a file. `python -m soak --help`."""
