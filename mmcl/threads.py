"""Tells OpenMP, on which torch's threads run, to wait for each other briefly and then to sleep.

Left alone a thread that is done with its share of a product spins for 300,000 rounds, some 15 ms of a processor of today. Where other
programs want the same cores that is longer than the system lets anybody compute, so the thread that is waited for stands in a queue
behind the one that waits: with two threads on two cores of a machine that has ten other jobs, training was measured at a fourth of the
speed. After about one millisecond a thread sleeps instead; on a quiet machine nothing is lost, for the next product comes sooner.
"""

from __future__ import annotations

import os

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""By which a user says so himself: then nothing is changed."""

SPINS = 20_000


def wait_briefly() -> None:
    """Set it for this process and those that it starts; to be called before torch is imported, for OpenMP looks once, when it is loaded."""
    if not any(name in os.environ for name in VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
