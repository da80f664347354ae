"""The tags of a page, apart from what stands between them. Nothing here draws, so that pages without pictures load nothing that does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

TAG = re.compile(r"<[^>]*>")
_refers = re.compile(r"(?<= id=\")[^\"]+(?=\")|(?<=href=\"#)[^\"]+|(?<=url\(#)[^)]+")


def distinct_ids(page: str) -> str:
    """The page with ids that no two pictures share."""
    count = itertools.count(1)

    def rename(svg: re.Match[str]) -> str:
        mine = next(count)
        tags = "".join(TAG.findall(svg[0]))
        names = {id: f"p{mine}-{k}" for k, id in enumerate(dict.fromkeys(re.findall(r" id=\"([^\"]+)\"", tags)), 1)}
        return in_tags(lambda tag: _refers.sub(lambda m: names.get(m[0], m[0]), tag), svg[0])

    return re.sub(r"<svg .*?</svg>", rename, page, flags=re.DOTALL)


def in_tags(change: Callable[[str], str], text: str) -> str:
    """A text with its tags changed; what stands between them is people's own words, such as names of classes, whatever they look like."""
    return TAG.sub(lambda tag: change(tag[0]), text)
