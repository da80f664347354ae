"""Edits, and what they make of bytes, of text, of JSON and of safetensors files."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from . import draws

DEEP = "\x00deep"
"""Stands for 1,200 lists within each other, which `json.dumps` would not write."""
LONG = "\x00long"
"""Stands for an integer of 4,400 digits."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30),
    *(0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "x",
        "train",
        "test",
        "../..",
        "/etc/passwd",
        "a/b",
        "\ud800",
        "\x00",
        "é" * 9,
        "x" * 5000,
        "<b>",
        "1",
        "nan",
        "F64",
    ),
    *(
        [],
        {},
        [[]],
        [0],
        [0, 0],
        [-1],
        [1, 2, 3],
        [None],
        ["x"],
        [[1]],
        [0] * 2000,
        {"": 1},
        {"x": {}},
        {"use": "x"},
        {"\ud800": 1},
    ),
    *(DEEP, LONG, [DEEP], {"x": LONG}),
)
"""What is put in place of a value."""

numbers = draws.integers(0, 2**32)
json_edit = draws.one_of(
    draws.tuples(draws.just("set"), numbers, draws.sampled_from(range(len(VALUES))).map(VALUES.__getitem__)),
    draws.tuples(draws.just("set"), numbers, draws.one_of(draws.integers(), draws.floats(), draws.text(max_size=6))),
    draws.tuples(draws.sampled_from(["drop", "twice", "rename", "empty", "wrap"]), numbers, draws.just(None)),
    draws.tuples(draws.just("swap"), numbers, numbers),
)
json_edits = draws.lists(json_edit, min_size=1, max_size=3)

byte_edit = draws.tuples(
    draws.sampled_from(["set", "insert", "remove", "cut", "zero", "number", "copy"]),
    numbers,
    draws.one_of(
        draws.binary(min_size=1, max_size=4),
        draws.sampled_from([b"\xff" * 8, b"\x00" * 8, b"[" * 1200, b'"', b"{", b"\xff\xfe", b"\n"]),
    ),
    draws.sampled_from([0, 1, 4, 64, 1000, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]),
)
byte_edits = draws.lists(byte_edit, min_size=1, max_size=4)


def tampered_bytes(content: bytes, edits: Sequence[tuple[str, int, bytes, int]]) -> bytes:
    """Bytes with every edit made."""
    data = bytearray(content)
    for how, at, some, number in edits:
        place = at % (len(data) + 1)
        if how == "set":
            data[place : place + len(some)] = some
        elif how == "insert":
            data[place:place] = some
        elif how == "remove":
            del data[place : place + 1 + number % 64]
        elif how == "cut":
            del data[place:]
        elif how == "zero":
            data[place : place + 64] = bytes(len(data[place : place + 64]))
        elif how == "number":  # a length or an offset, where formats like to have them: near the head
            place = at % min(len(data) + 1, 256)
            width = struct.pack("<Q", number % 2**64)[: 4 if at % 2 else 8]
            data[place : place + len(width)] = width
        else:
            data[place:place] = data[place : place + 64]
    return bytes(data)


def tampered_json(value: Any, edits: Sequence[tuple[str, int, Any]]) -> str:
    """JSON text of a value with every edit made. The value itself stays as it is."""
    value = json.loads(json.dumps(value))
    for how, at, shared in edits:
        new = copy.deepcopy(shared)
        places = list(_places(value))
        if not places:
            return text_of(new)
        holder, key = places[at % len(places)]
        if how == "set":
            holder[key] = new
        elif how == "drop":
            del holder[key]
        elif how == "twice" and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif how == "rename" and isinstance(holder, dict):
            holder[f"{key}~"] = holder.pop(key)
        elif how == "empty":
            holder[key] = type(holder[key])() if holder[key] is not None else {}
        elif how == "wrap":
            holder[key] = [holder[key]]
        elif how == "swap":
            other, name = places[new % len(places)]
            if not _inside(holder[key], other) and not _inside(other[name], holder):
                holder[key], other[name] = other[name], holder[key]
    return text_of(value)


def text_of(value: Any) -> str:
    """JSON text, with what stands for the deep and the long written out."""
    text = json.dumps(value)
    return text.replace(json.dumps(DEEP), "[" * 1200 + "]" * 1200).replace(json.dumps(LONG), "9" * 4400)


def tampered_tensors(content: bytes, edits: Sequence[tuple[str, int, Any]]) -> bytes:
    """A safetensors file whose header has every edit made and is as long as it says."""
    size = struct.unpack("<Q", content[:8])[0]
    header = tampered_json(json.loads(content[8 : 8 + size]), edits).encode("utf-8", "surrogatepass")
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every value below, as what holds it and by which key; of long lists a few."""
    if depth > 12:
        return
    if isinstance(value, dict):
        for key, inner in list(value.items()):
            yield value, key
            yield from _places(inner, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value[:4]):
            yield value, index
            yield from _places(inner, depth + 1)


def _inside(outer: Any, inner: Any) -> bool:
    return outer is inner or any(_inside(holder[key], inner) for holder, key in _places(outer))
