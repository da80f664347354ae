"""One reader of text for everything: marks, both line endings, UTF-16, and the quotes of Windows, decoded and counted."""

from __future__ import annotations

from collections import Counter

import pytest

from mmcl.media import decoded, read_text

LINES = "I’m “here” – you don’t … café 你好\nsay\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_marks_and_line_endings_are_no_text(tmp_path, encoding, ending):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (tmp_path / "a.txt").write_bytes((mark + LINES.replace("\n", ending)).encode(encoding))
    seen = Counter()
    assert read_text(tmp_path / "a.txt", seen) == LINES
    assert not seen


def test_quotes_of_windows_become_what_they_were_and_are_counted():
    plain = "I’m “here” – don’t …\n"
    seen = Counter()
    assert decoded(plain.encode("cp1252"), seen) == plain  # bytes that are no UTF-8
    assert (
        decoded(plain.encode("cp1252").decode("latin-1").encode(), seen) == plain
    )  # taken for Latin-1 once: U+0092 and the like
    assert seen == {"characters of Windows-1252 in text, decoded": 12}


@pytest.mark.parametrize("content", ["你好，世界".encode("gbk"), "Ärger".encode("latin-1"), b"\x81", bytes(range(128, 256))])
def test_what_is_neither_is_refused_or_counted(content):
    with pytest.raises(UnicodeDecodeError):
        decoded(content)
    seen = Counter()
    text = decoded(content, seen, lenient=True)
    assert seen["characters that cannot be decoded"] == text.count("\ufffd") > 0
