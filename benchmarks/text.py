"""A transformer of six layers on sentences as long as those of MELD: forward and backward against padded rows."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks import parts
from benchmarks.side_by_side import Row, compare, devices

# how many of MELD's 9,989 training utterances have 1, 2, 3, … words
COUNTS = (
    1193,
    799,
    804,
    802,
    746,
    725,
    656,
    558,
    466,
    413,
    412,
    358,
    286,
    246,
    247,
    214,
    192,
    169,
    142,
    102,
    104,
    80,
    61,
    50,
    35,
)
COUNTS = (*COUNTS, 28, 20, 10, 13, 6, 11, 7, 5, 9, 3, 3, 1, 5, 2, 1, 1, 1, 0, 1)


def text() -> Iterator[Row]:
    """A batch of 32 utterances."""
    lengths = random.Random(0).choices(range(1, len(COUNTS) + 1), COUNTS, k=32)
    for device in devices():
        for precision, wanted in (("float32", (2.6, 2.6)), ("bf16", (2.6, 4.0))):
            side = parts.text(lengths).to(device)
            apart = parts.check_equal(side)
            side.ours.train()
            side.plain.train()
            ratio = compare(
                lambda s=side, p=precision: s.encode_ours(p).float().square().mean().backward(),
                lambda s=side: s.encode_plain().square().mean().backward(),
                7,
                device,
            )
            facts = {"differs": apart, "filled": sum(lengths) / (max(lengths) * len(lengths))}
            yield Row(f"text-real-lengths, {precision}, {device}", ratio, *wanted, facts)


WORKLOADS = {"text-real-lengths": text}
