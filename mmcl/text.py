"""Text as people's files have it: byte order marks, UTF-16, either line ending, quotes of Windows; decoded and counted, or refused."""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

WINDOWS = "characters of Windows-1252 in text, decoded"
UNREADABLE = "characters that cannot be decoded"

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SIGNS = {code: bytes([code]).decode("cp1252", "replace") for code in range(0x80, 0xA0)}
"""What Windows-1252 has where Unicode has controls: dashes, quotes, the euro."""
_SIGNS = {code: sign for code, sign in _SIGNS.items() if sign != "\ufffd"}
_PUNCTUATION = frozenset((0x82, 0x84, 0x85, *range(0x91, 0x98), 0xA0))
"""Bytes of Windows-1252 that stand alone in a text which has no other sign beyond ASCII: quotes, dashes, dots, a fixed blank."""


def read_text(path: Path, seen: Counter[str] | None = None, lenient: bool = False) -> str:
    """The text of a file, in lines that end with a line feed; `decoded` of its bytes. Raises OSError as well."""
    return decoded(path.read_bytes(), seen, lenient)


def decoded(content: bytes, seen: Counter[str] | None = None, lenient: bool = False) -> str:
    """Text in UTF-8, or in UTF-16 with its mark; no mark is left at its head, and lines end with a line feed.

    Quotes and dashes of Windows-1252, whether they stand there as bytes or as the controls U+0080 to U+009F (from a table that was
    taken for Latin-1 once), become what they were.

    seen     counts what was mended
    lenient  signs that are not UTF-8 become U+FFFD, and are counted, where names and numbers alone matter

    Raises UnicodeDecodeError for what is no such text.
    """
    seen = Counter() if seen is None else seen
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        beyond = [byte for byte in content if byte >= 0x80]
        if encoding == "utf-8" and beyond and _PUNCTUATION.issuperset(beyond):
            seen[WINDOWS] += len(beyond)
            text = content.decode("cp1252")
        elif lenient:
            text = content.decode(encoding, "replace")
            seen[UNREADABLE] += text.count("\ufffd")
        else:
            raise
    if (controls := sum(text.count(chr(code)) for code in _SIGNS)) > 0:
        seen[WINDOWS] += controls
        text = text.translate(_SIGNS)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_number(text: str) -> bool:
    """Whether a text is a number, of those that `float` reads: nan and inf are."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def not_text(name: str) -> str | None:
    """None for a text that can be written; of one that cannot (the name of a file in another encoding) a form that can, to be shown."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
    return None
