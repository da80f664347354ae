"""Fuzzing: everything that mmcl reads, tampered with; nothing but its own errors may come out, within 1 GB and 10 seconds a case.

    make fuzz                                     every fuzzer, FUZZ_CASES cases in all (or FUZZ_SECONDS)
    python -m fuzz --cases 2000 stores tensors    some of them

A fuzzer (`fuzz/readers.py`, `fuzz/runs.py`) has whole files, edits (`fuzz/edits.py`) that a case's number draws (`fuzz/draws.py`), and what is called on the
tampered file. `fuzz/machine.py` counts the cases and keeps the smallest one for each way of failing. A short run of each fuzzer, and what
once failed, are tests: `tests/test_fuzz.py`.
"""
