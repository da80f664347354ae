"""It keeps mmcl's contract; torchaudio's network alone, given lengths, does not."""

import torch
from mmcl_torchaudio_conformer import CONFORMER, ConformerParams
from torchaudio.models import Conformer

from mmcl.api import Layout, Stream
from mmcl.testing import check_backbone, check_spec


def test_it_keeps_the_contract():
    check_spec(CONFORMER)
    check_backbone(CONFORMER)


def test_torchaudios_own_lengths_do_not_keep_padding_out_and_this_does():
    torch.manual_seed(0)
    alone = Conformer(8, 2, 16, 1, 5, use_group_norm=True).eval()
    row, lengths = torch.randn(1, 6, 8), torch.tensor([6, 9])
    padded = torch.cat([nothing_behind(row), torch.randn(1, 9, 8)])
    with torch.no_grad():
        assert not torch.allclose(alone(padded, lengths)[0][0, :6], alone(row, lengths[:1])[0][0], atol=1e-4)
        network = CONFORMER.build(ConformerParams(), Layout("signal", ("time", "channel"), {"channel": 8}, 25.0)).eval()
        steps, there = torch.arange(9)[None, :] < lengths[:, None], torch.ones(2, dtype=torch.bool)
        together = network(Stream(padded, steps, there)).vector[:1]
        torch.testing.assert_close(together, network(Stream(row, steps[:1, :6], there[:1])).vector)


def nothing_behind(row):
    """The row with three padded steps."""
    return torch.nn.functional.pad(row, (0, 0, 0, 3))
