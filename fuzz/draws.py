"""What cases are drawn from: small functions of a seeded generator, so that a case's number is all it takes to have it again.

Of a case of half a millisecond a library of strategies takes three, and nothing that it adds (it makes cases smaller, it keeps them) is used here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

EDGES = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
)
SIGNS = "\x00\t\n\r \"'\\/,;:.#&*<>[]{}%-+0aA~\x7f\x85é߿中\u2028\ufeff\ufffd\U0001f600"


class Draw:
    """Draws one value from a generator."""

    def __init__(self, draw: Callable[[Random], Any]) -> None:
        self.draw = draw

    def __call__(self, random: Random) -> Any:
        return self.draw(random)

    def __or__(self, other: Draw) -> Draw:
        return one_of(self, other)

    def map(self, change: Callable[[Any], Any]) -> Draw:
        """The same, changed."""
        return Draw(lambda random: change(self.draw(random)))


def just(value: Any) -> Draw:
    """That value; whoever gets it must not change it."""
    return Draw(lambda random: value)


def sampled_from(values: Sequence[Any]) -> Draw:
    """One of some values; whoever gets it must not change it."""
    return Draw(lambda random: random.choice(values))


def booleans() -> Draw:
    return sampled_from((False, True))


def one_of(*draws: Draw) -> Draw:
    """From one of several."""
    return Draw(lambda random: random.choice(draws)(random))


def tuples(*draws: Draw) -> Draw:
    """One from each."""
    return Draw(lambda random: tuple(one(random) for one in draws))


def lists(draw: Draw, min_size: int = 0, max_size: int = 3) -> Draw:
    """Some from one."""
    return Draw(lambda random: [draw(random) for _ in range(random.randint(min_size, max_size))])


def integers(low: int | None = None, high: int | None = None) -> Draw:
    """Any from low to high; without them whole numbers of every length, often those at which something ends."""
    if low is not None and high is not None:
        return Draw(lambda random: random.randint(low, high))
    return Draw(
        lambda random: (
            random.choice(EDGES) + random.randint(-1, 1)
            if random.random() < 0.3
            else random.getrandbits(random.choice((3, 8, 16, 40, 90))) * random.choice((1, -1))
        )
    )


def floats() -> Draw:
    """Any 64 bits, read as a number, or one of everyday size."""
    return Draw(
        lambda random: (
            struct.unpack("<d", random.randbytes(8))[0]
            if random.random() < 0.4
            else round(random.uniform(-100, 100), random.randint(0, 4))
        )
    )


def binary(min_size: int, max_size: int) -> Draw:
    return Draw(lambda random: random.randbytes(random.randint(min_size, max_size)))


def text(max_size: int) -> Draw:
    """Signs that mean something somewhere, and any of Unicode but halves of characters."""

    def sign(random: Random) -> str:
        if random.random() < 0.7:
            return random.choice(SIGNS)
        number = random.randrange(0x110000 - 0x800)
        return chr(number if number < 0xD800 else number + 0x800)

    return Draw(lambda random: "".join(sign(random) for _ in range(random.randint(0, max_size))))
