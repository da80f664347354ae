"""The checks that a plug-in author runs: plain functions, for pytest or by hand.

check_spec        name, summary, options, and a package that imports in milliseconds
check_modality    check_backbone    check_loss       check_positives    check_dataset    check_head
check_pretext     check_scorer      check_group_loss check_sampler
check_plugin      all of these over everything that a package offers, as a list of results

Each raises AssertionError with a sentence: what was expected, why it matters, what was found. `NotTried`, which is an
AssertionError too, says that nothing made up here fits the plug-in, and which argument would help.

Streams, pairs and raw recordings are made up (`make_layouts`, `make_stream`, `make_pair`, `make_sources`,
`make_raw`); give your own layout, source or raw recording where those don't suit. Checks use the default options;
`make_variants` gives the others: `for params in make_variants(TcnParams): check_backbone(TCN, params)`.

One file a kind of plug-in, as in `mmcl.api`; `mmcl.testing.table` says what is checked of which kind.
"""

from __future__ import annotations

from .backbone import check_backbone
from .batch import make_stream
from .checks import NotTried, Result
from .dataset import check_dataset
from .group import check_group_loss, make_group
from .head import check_head
from .imports import HEAVY
from .kinds import make_layouts
from .loss import check_loss, check_positives, make_pair
from .modality import check_modality
from .params import make_variants
from .plugin import check_plugin
from .pretext import check_pretext
from .raw import make_raw, make_sources
from .sampler import check_sampler, make_pool
from .scorer import check_scorer
from .spec import check_spec

__all__ = [
    "HEAVY",
    "NotTried",
    "Result",
    "check_backbone",
    "check_dataset",
    "check_group_loss",
    "check_head",
    "check_loss",
    "check_modality",
    "check_plugin",
    "check_positives",
    "check_pretext",
    "check_sampler",
    "check_scorer",
    "check_spec",
    "make_group",
    "make_layouts",
    "make_pair",
    "make_pool",
    "make_raw",
    "make_sources",
    "make_stream",
    "make_variants",
]
