"""What messages of mmcl tell people to do, read out of its source, and what shows that doing it works.

An offer is a text of the source that says to do something: a clause that begins with an imperative, or one that names a command, an option
or a package. Each is followed here (`Row`), or by a test that stands elsewhere (`Elsewhere`), or is one of a family that says the same.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    "call",
    "compare",
    "embed and",
    "indent",
    "audit a",
    "look",
    "read it",
    "repeat",
    "send",
    "upload",
    "add",
    "allow",
    "ask",
    "build",
    "check",
    "choose",
    "convert",
    "copy",
    "cut",
    "delete",
    "download",
    "drop",
    "export",
    "extend",
    "fetch",
    "fill",
    "free",
    "get",
    "give",
    "install",
    "keep",
    "leave",
    "let",
    "lower",
    "make",
    "mend",
    "move",
    "name",
    "number",
    "open",
    "pass",
    "pick",
    "prepare",
    "put",
    "raise",
    "remove",
    "rename",
    "repair",
    "replace",
    "run",
    "save",
    "say",
    "set",
    "shorten",
    "sort",
    "split",
    "spell",
    "start",
    "take",
    "train",
    "try",
    "turn",
    "unpack",
    "use",
    "wait",
    "work",
    "write",
]
CLAUSE = re.compile(rf"(?:^|[;:(] ?|, |, or |, and |\. |\bor |\bthen )(?:{'|'.join(VERBS)})\b(?! +\))")
COMMAND = re.compile(r"(?<![\w-])--[a-z][a-z-]+|\bmmcl [a-z][a-z-]+ |pip install|\bexport [A-Z]|ffmpeg -|`[a-z]+ --")
TOLD_ELSEWHERE = {"Field", "option", "argument", "command", "Params", "Spec", "compile", "getLogger"}
"""Calls whose texts describe options, commands and patterns: nothing that one reads when something went wrong."""
LEFT_OUT = ("published.py", "presets.py")


@dataclass(frozen=True)
class Offer:
    """A text that says to do something.

    where  file and innermost function or class, as "mmcl/data/folds.py make_folds"; the file alone at the top of a module
    text   the text, whatever is put into it shown as {}
    """

    where: str
    line: int
    text: str


@dataclass(frozen=True)
class Row:
    """An offer that is followed: first what leads to it, then the same with the advice taken.

    where  as in Offer
    words  a piece of the offer's text, which the error shows too
    first  ends in an error of mmcl that shows the words; given an empty folder
    then   does what they say; ends well in the same folder
    """

    where: str
    words: str
    first: Callable[[Path], object]
    then: Callable[[Path], object]


@dataclass(frozen=True)
class Elsewhere:
    """An offer that a test of another file follows: "tests/test_x.py::test_name"."""

    where: str
    words: str
    test: str


@dataclass(frozen=True)
class NoOffer:
    """A text that only looks as if it said to do something, or whose doing no test can try; with the reason."""

    where: str
    words: str
    why: str


def offers() -> list[Offer]:
    """All of them, in the order of files and lines."""
    files = [*(ROOT / "mmcl").rglob("*.py"), *(ROOT / "plugins").glob("*/mmcl_*/**/*.py")]
    return [
        Offer(f"{path.relative_to(ROOT).as_posix()} {scope}".strip(), line, " ".join(text.split()))
        for path in sorted(files)
        if path.name not in LEFT_OUT
        for scope, line, text in _texts(ast.parse(path.read_text(encoding="utf-8")), "")
        if CLAUSE.search(text) or COMMAND.search(text)
    ]


def is_test(test: str) -> bool:
    """Whether "file::name" is a test that stands there."""
    file, _, name = test.partition("::")
    path = ROOT / file
    return path.is_file() and any(
        isinstance(one, ast.FunctionDef) and one.name == name for one in ast.parse(path.read_text(encoding="utf-8")).body
    )


def _texts(node: ast.AST, scope: str) -> Iterator[tuple[str, int, str]]:
    """(function, line, text) of the texts below a node that are no docstrings."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        scope = node.name
    if isinstance(node, ast.Expr) and _text(node.value) is not None:
        return
    if isinstance(node, ast.Call) and _name(node.func) in TOLD_ELSEWHERE:
        return
    text = _text(node)
    if text is None:
        for inner in ast.iter_child_nodes(node):
            yield from _texts(inner, scope)
    elif " " in text.strip():
        yield scope, getattr(node, "lineno", 0), text


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
    return None
