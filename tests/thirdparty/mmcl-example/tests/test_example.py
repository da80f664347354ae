"""Both keep mmcl's contract, and the loss is what its equation says."""

import math

from mmcl_example import EXAMPLE_NCE, MEAN_POOL

from mmcl.api import Pair
from mmcl.testing import check_backbone, check_loss, check_spec


def by_loops(pair: Pair) -> float:
    cosine, losses = pair.similarity().tolist(), []
    for i in range(len(pair.left)):
        everyone = sum(math.exp(c / 0.1) for j, c in enumerate(cosine[i]) if not pair.ignore[i, j])
        positives = sum(math.exp(c / 0.1) for j, c in enumerate(cosine[i]) if pair.positive[i, j])
        if positives:
            losses.append(math.log(everyone / positives))
    return sum(losses) / len(losses)


def test_mean_pool_keeps_the_contract():
    check_spec(MEAN_POOL)
    check_backbone(MEAN_POOL)


def test_example_nce_keeps_the_contract_and_equals_its_equation():
    check_spec(EXAMPLE_NCE)
    check_loss(EXAMPLE_NCE, brute_force=by_loops)
