"""What a check is, how it is run, and how it reports: an AssertionError with a sentence, or a Result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class NotTried(AssertionError):
    """Nothing made up here fits this plug-in: the check needs an argument from its author."""


@dataclass(frozen=True)
class Result:
    """How one check of one thing went."""

    name: str  # "backbone tcn"
    check: str  # "more padding changes nothing"
    passed: bool | None  # None: not tried, `message` says what it would need
    message: str = ""  # why it failed or was not tried; of a check that passed, what it uses that will go


Check = tuple[str, Callable[[], None]]
"""What is checked, as a sentence, and the check itself, which raises AssertionError."""


def expect(right: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence unless it is right."""
    if not right:
        raise AssertionError(sentence)


def refusal(ask: Callable[[], Any]) -> str | None:
    """The sentence with which a plug-in refuses, or None."""
    try:
        ask()
    except ValueError as error:
        return str(error)
    return None


def run_checks(checks: Iterable[Check]) -> None:
    """All checks, one after another, up to the first that fails."""
    for name, check in checks:
        run_check(name, check)


def run_check(name: str, check: Callable[[], None]) -> None:
    """One check, leaving torch's generator and threads as they were; any error it meets becomes a failure that says where."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # everything here is tiny, and sums in one order are equal to the bit
    try:
        with torch.random.fork_rng(devices=[]):
            check()
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"while checking that {name}: {type(error).__name__}: {error}") from error
    finally:
        torch.set_num_threads(threads)
