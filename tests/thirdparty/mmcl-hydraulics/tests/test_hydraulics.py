"""It keeps mmcl's contract, and what is wrong in a file is said with its line."""

import numpy as np
import pytest
from mmcl_hydraulics import HYDRAULICS

from mmcl.api import DataError
from mmcl.testing import check_dataset, check_spec


def test_it_keeps_the_contract(tmp_path):
    check_spec(HYDRAULICS)
    check_dataset(HYDRAULICS, tmp_path)


def test_cycles_that_follow_one_another_under_one_setting_are_one_group(tmp_path):
    HYDRAULICS.sample(tmp_path, 6, 0)
    rig = HYDRAULICS.build(HYDRAULICS.params(), tmp_path)
    assert [ref.group for ref in rig.samples()] == ["run-000", "run-000", "run-001", "run-001", "run-002", "run-002"]
    assert rig.read("cycle-0003", "pressure").values.shape == (6000, 6)


def test_a_line_that_is_cut_short_is_named(tmp_path):
    HYDRAULICS.sample(tmp_path, 3, 0)
    lines = (tmp_path / "FS2.txt").read_text().splitlines()
    (tmp_path / "FS2.txt").write_text("\n".join([lines[0], lines[1][: len(lines[1]) // 2], lines[2]]))
    rig = HYDRAULICS.build(HYDRAULICS.params(), tmp_path)
    assert np.isfinite(rig.read("cycle-0002", "flow").values).all()
    with pytest.raises(DataError, match=r"FS2\.txt: line 2 has \d+ values; 600 finite"):
        rig.read("cycle-0001", "flow")
