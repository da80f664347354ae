"""The tables of MPUC-MER as they were printed: sums that only right figures give."""

from __future__ import annotations

import statistics

from mmcl_mpuc.published import MPUC_MER

TABLES = {table.name: {(cell.row, cell.column): cell for cell in table.cells} for table in MPUC_MER.tables}
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


def test_the_overall_figures_of_table_ii_are_the_means_of_their_rows():
    """Every row's printed mean fits its six cells to the rounding of the paper: a mistyped cell would not."""
    table = TABLES["Table II"]
    for row in dict.fromkeys(row for row, _ in table):
        mean = statistics.mean(table[row, emotion].value for emotion in EMOTIONS)
        assert abs(mean - table[row, "overall"].value) < 0.12, row


def test_tables_agree_with_one_another():
    for column in ("actor split", "plain split"):
        assert TABLES["Table I"]["MPUC-MER, all three", column].value == TABLES["Table III"]["MPUC-MER", column].value
    assert TABLES["Table II"]["MPUC-MER, w-ACC", "overall"].value == TABLES["Table IV"]["MPUC-MER", "w-ACC"].value
    assert TABLES["Table II"]["CAE-LR (Table IV), F1", "overall"].value == TABLES["Table IV"]["CAE-LR", "F1"].value
    assert all(t["MPUC-MER, all three", "plain split"].value > 90 for t in (TABLES["Table I"],))
