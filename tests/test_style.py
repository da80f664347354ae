"""How the code is written, where a machine can tell: short files and functions, the formatter's layout, words that say what they hold."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FILE, FUNCTION = 600, 80
"""The most lines of a file of the core, and of a function in it."""

VAGUE = re.compile(r"(^|_)(found|said|made|spot|heard)(_|$)", re.IGNORECASE)
"""Words that say how a value came about and not what it is: a name says rng, config, batch, logits, metrics, history."""


def long_files(files: Mapping[str, str], most: int = FILE) -> dict[str, int]:
    """Files with more lines than `most`, and how many; `files` holds path → text."""
    return {path: size for path, text in files.items() if (size := text.count("\n")) > most}


def long_functions(source: str, most: int = FUNCTION) -> list[str]:
    """Functions with more lines than `most`, decorators left out, as 'name, line 12: 93 lines'."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = [(node, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions]
    return [f"{node.name}, line {node.lineno}: {size} lines" for node, size in sizes if size > most]


def unformatted(source: str) -> list[int]:
    """Lines on which the formatter is told to look away."""
    comments = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT]
    return [token.start[0] for token in comments if re.match(r"#\s*fmt:\s*(skip|off)", token.string)]


def identifiers(source: str) -> Iterator[str]:
    """Every name that a file gives or uses: of variables, arguments, attributes, functions, classes, modules. No text, no comment."""
    for node in ast.walk(ast.parse(source)):
        for field, value in ast.iter_fields(node):
            if isinstance(node, ast.Constant) or field == "type_comment":
                continue
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str):
                    yield from one.split(".")


def vague_names(source: str) -> dict[str, int]:
    """Identifiers that hold one of the VAGUE words, and how often."""
    return dict(Counter(name for name in identifiers(source) if VAGUE.search(name)))


def files(*folders: str) -> dict[str, str]:
    """The text of every Python file below some folders, by its path."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


CORE = files("mmcl")
EVERYTHING = files("mmcl", "plugins", "tests", "benchmarks", "fuzz", "soak")


def test_no_file_of_the_core_is_long():
    assert long_files(CORE) == {}


def test_no_function_of_the_core_is_long():
    assert {path: long for path, text in CORE.items() if (long := long_functions(text))} == {}


def test_the_formatter_is_never_told_to_look_away():
    assert {path: lines for path, text in EVERYTHING.items() if (lines := unformatted(text))} == {}


def test_names_say_what_they_hold():
    assert {path: names for path, text in EVERYTHING.items() if (names := vague_names(text))} == {}


# The rules can fail: each of these snippets breaks one.


def test_file_of_one_line_too_many_is_caught():
    assert long_files({"mmcl/a.py": "pass\n" * FILE, "mmcl/b.py": "pass\n" * (FILE + 1)}) == {"mmcl/b.py": FILE + 1}


@pytest.mark.parametrize(
    "head",
    ["def long():", "async def long():", "class C:\n  def long(self):", "def outer():\n  def long():", "@cache\ndef long():"],
)
def test_function_of_one_line_too_many_is_caught(head):
    indent = "    " if "  def" in head else "  "

    def source(lines):
        return head + f"\n{indent}pass" * (lines - 1)

    assert not [one for one in long_functions(source(FUNCTION)) if one.startswith("long")]
    (caught,) = [one for one in long_functions(source(FUNCTION + 1)) if one.startswith("long")]
    assert caught.endswith(f"{FUNCTION + 1} lines")


@pytest.mark.parametrize("line", ["x = [1,\n  2]  # fmt: skip", "x=1 #fmt:skip", "# fmt: off\nx=1"])
def test_line_that_the_formatter_leaves_alone_is_caught(line):
    assert len(unformatted(line)) == 1


def test_formatter_may_be_written_about():
    assert unformatted("x = '# fmt: skip'\n# a line with fmt: skip\n") == []


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "made_batch = 1",
        "best_found: int",
        "def test_it_is_said(): ...",
        "class said: ...",
        "lambda heard: 0",
        "def f(*, spot=1): ...",
        "def f(*found): ...",
        "f(made=1)",
        "x.heard",
        "import a.found",
        "from a import said_of_it",
        "from a.spot import b",
        "import a as made",
        "for _, found in x: pass",
        "[0 for said in x]",
        "if (found := 1): pass",
        "with f() as made: pass",
        "try: pass\nexcept ValueError as heard: pass",
        "def f():\n  global spot",
        "match x:\n  case [*found]: pass",
        "match x:\n  case {'a': 1, **said}: pass",
        "match x:\n  case C(made=1): pass",
        "f'{heard}'",
        "FOUND = 1",
    ],
)
def test_name_that_does_not_say_what_it_holds_is_caught(source):
    assert sum(vague_names(source).values()) == 1


@pytest.mark.parametrize(
    "source",
    [
        "x = 'found'",
        "f'found {x} made'",
        "# said\nx = 1",
        "def f():\n  '''heard'''",
        "foundation = homemade = spotless = unheard = 1",
        "raise FileNotFoundError",
        "x['spot']",
        "x: dict[str, int] = {'made': 1}",
    ],
)
def test_other_names_and_all_text_are_let_through(source):
    assert vague_names(source) == {}
