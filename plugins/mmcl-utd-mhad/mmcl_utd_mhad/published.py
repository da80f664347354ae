"""Published figures on UTD-MHAD across subjects, and which score of which recipe stands beside each."""

from __future__ import annotations

from mmcl.api import Benchmark, Cell, PublishedSpec, PublishedTable

CROSS_SUBJECT = Benchmark(
    dataset="utd-mhad",
    task="action",
    classes=27,
    tested=(("subject-2", "subject-4", "subject-6", "subject-8"),),
    recordings=430,
    protocol="subjects 1, 3, 5 and 7 train, subjects 2, 4, 6 and 8 test",
)

SELF_SUPERVISED = "Learned without labels with augmentations of its own, then a network of its own on the frozen encoder; subjects 1, 3 and 5 train, 7 validates."
SUPERVISED = "The same networks trained end to end with labels, not frozen; subjects 1, 3 and 5 train, 7 validates."


def _cell(row: str, column: str, value: float, input: str, note: str) -> Cell:
    return Cell(
        row,
        column,
        value,
        recipe="utd_mhad",
        task="action",
        input=input,
        head="linear",
        note=note,
        sources=tuple(input.split("+")),
    )


CMC_CMKM = PublishedSpec(
    name="cmc-cmkm",
    summary="CMC-CMKM: skeleton and inertial sensor of UTD-MHAD, learned without labels and with them",
    paper=(
        "Brinzea, Khaertdinov, Asteriadis: Contrastive Learning with Cross-Modal Knowledge Mining for Multimodal Human Activity Recognition, "
        "IJCNN 2022 (arXiv 2205.10071); figures of its authors' repository, github.com/razzu/cmc-cmkm"
    ),
    tables=(
        PublishedTable(
            name="Results",
            caption="UTD-MHAD, cross-subject, accuracy in percent",
            cells=(
                _cell("SimCLR", "inertial", 72.09, "inertial", SELF_SUPERVISED),
                _cell("Supervised", "inertial", 76.74, "inertial", SUPERVISED),
                _cell("SimCLR", "skeleton", 95.11, "skeleton", SELF_SUPERVISED),
                _cell("Supervised", "skeleton", 94.65, "skeleton", SUPERVISED),
                _cell("CMC", "inertial and skeleton", 96.04, "skeleton+inertial", SELF_SUPERVISED),
                _cell("CMC-CMKM", "inertial and skeleton", 97.67, "skeleton+inertial", SELF_SUPERVISED),
                _cell("Supervised", "inertial and skeleton", 97.21, "skeleton+inertial", SUPERVISED),
            ),
            benchmark=CROSS_SUBJECT,
        ),
    ),
)
