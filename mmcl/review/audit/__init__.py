"""audit: looks in a finished run's files for anything by which the test set could have been seen, and says where.

Trusts no statement of the run: splits, statistics, chosen epochs, and what heads with a solver of their own chose and predict, are
derived again from the files beside them. Of heads that were trained and not kept, only what can be read is checked.

    case         the run under audit, and what a check yields
    statements   checks of what the files say
    copies       one recording under two names
    refits       checks that compute again; they alone need torch, and import it when they are called
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...api.errors import MmclError, StageError
from ...runs import RunFolder, distrust
from . import copies, refits, statements
from .case import Case, Leak, case_of

CHECKS: Mapping[str, Callable[[Case], Iterator[Leak]]] = {
    "no recording in two splits": statements.recordings,
    "no group in two splits": statements.groups,
    "prepared streams are those that were written": statements.streams,
    "no recording twice under two names, across splits": copies.copies,
    "pretraining saw training inputs alone, and no labels": statements.pretraining,
    "normalisation from training rows alone": refits.normalisation,
    "epochs chosen by validation loss": statements.epochs,
    "features of each split are of that split": statements.features,
    "heads chosen on validation rows": statements.choices,
    "probes fitted on training rows and chosen on validation rows": refits.probes,
    "thresholds of trained models from validation rows": refits.thresholds,
    "few labels were few, and of training rows": refits.few_labels,
    "predictions are of test recordings": statements.predictions,
    "nothing chosen after the test set was opened": statements.openings,
}
"""Every check by the sentence that it proves, in the order in which they are made."""


@dataclass(frozen=True)
class Finding:
    """One leak, or what looks like one."""

    check: str  # a key of CHECKS
    evidence: str
    asked: bool = False  # the recipe says so in so many words


@dataclass(frozen=True)
class Audited:
    """What was looked at, and what came to light."""

    checks: tuple[str, ...]
    findings: tuple[Finding, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)  # check → why it could not be made


def audit(run: RunFolder) -> Audited:
    """Every check over a run. Raises StageError if it is not a run, or is not finished."""
    with distrust(run.root):
        case = case_of(run)
        finished = case.units("probe")
    if not finished:
        raise StageError(f"{run.root}: has no finished probe; audit a run that `mmcl run` has finished")
    findings: list[Finding] = []
    left_out: dict[str, str] = {}
    for name, check in CHECKS.items():
        try:
            with distrust(run.root):
                for leak in check(case):
                    findings.append(Finding(name, leak.evidence, leak.asked))
        except MmclError as error:
            left_out[name] = str(error)
    return Audited(tuple(CHECKS), tuple(findings), left_out)


def audit_folder(folder: Path) -> Audited:
    """`audit` of a path. Raises StageError if it is no run folder."""
    if not (folder / "plan.json").is_file():
        raise StageError(f"{folder}: is no run folder (it has no plan.json); name one such as runs/NAME")
    return audit(RunFolder(folder))
