"""Reads a recipe: YAML into plain values, with the line of every key.

A recipe is a small part of YAML 1.2: mappings, lists, text, numbers, true/false and null. `3e-4` is a number; `no`, `on` and
`12:30` are words. Tags, anchors and a key given twice are refused. Lists become tuples, so that nothing changes later.
`base` names a recipe whose keys hold wherever this one does not say otherwise.
"""

from __future__ import annotations

import codecs
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ..api.errors import MmclError, Problem, RecipeError
from .base import lay_over_base
from .defaults import default_at
from .document import NAMED, Base, Document, Key, Places, anchored, below, dotted, not_there
from .shipped import find

_INT = re.compile(r"[-+]?[0-9]+")
_HALF = re.compile("[\ud800-\udfff]")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read_recipe(path: Path, overrides: Iterable[str] = (), name: str | None = None) -> Document:
    """The recipe in a file, with `a.b=c` overrides laid over it.

    Raises RecipeError with every problem of form: bad YAML, a tag, an anchor, a key given twice, a malformed override.
    """
    file = name or str(path)
    return parse_recipe(_text_of(path, file), file, overrides, path.resolve().parent)


def parse_recipe(
    text: str, file: str, overrides: Iterable[str] = (), folder: Path = Path(), base: Base | None = None
) -> Document:
    """As `read_recipe`, from text.

    base  what the recipe derives from, where that has been read already
    """
    document = Document(values={}, file=file, text=text, places={(): (file, 1)}, folder=folder, whole=text)
    problems: list[Problem] = []
    document.values = _mapping(text, file, document.places, problems)
    if "base" in document.values:
        _derive(document, base, problems)
    if problems:
        raise RecipeError(problems)
    for override in overrides:
        _lay_over(document, override, problems)
    if problems:
        raise RecipeError(problems)
    return document


def written_out(document: Document, overrides: Sequence[str] = ()) -> str:
    """The recipe whole, as YAML that needs no base and may lie in any folder; the comment at its head stays.

    overrides  those that have been laid over it
    """
    lines = document.text.removeprefix("\ufeff").splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    if document.base is not None:
        head.append(
            f"# Written out whole: what it changes of {document.base.name} is in it, and so is the rest of that recipe."
        )
    if overrides:
        head.append(f"# Laid over it: {'; '.join(overrides)}")
    return "".join(f"{line}\n" for line in head) + as_yaml(anchored(document.values, document.folder), flow=None)


def require_whole(text: str, file: str) -> None:
    """Refuse a run's recipe that derives from another file: a run writes its recipe out whole, and nothing outside its folder is read.

    Raises RecipeError.
    """
    places: Places = {}
    if "base" in _mapping(text, file, places, []):
        line = places.get(("base",), (file, None))[1]
        raise RecipeError(
            [Problem("base", "a run's recipe is whole and derives from nothing; this one was changed", line, file)]
        )


def _text_of(path: Path, file: str) -> str:
    """The text of a recipe's file. Raises RecipeError if it cannot be read, or is larger than a recipe can be."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for, a device has no end
            raise RecipeError(f"{file}: is neither a file nor a folder")
        if (size := path.stat().st_size) > LARGEST:
            raise RecipeError(f"{file}: has {size:,} bytes; a recipe has at most {LARGEST:,}")
        return (content := path.read_bytes()).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            words, line = "is text in UTF-16; save it as UTF-8", 1
        else:
            words, line = f"is not UTF-8 text (byte {error.start})", content.count(b"\n", 0, error.start) + 1
        raise RecipeError([Problem("", words, line, file)]) from error


def _mapping(text: str, file: str, places: Places, problems: list[Problem]) -> dict[str, Any]:
    """The keys of a recipe, or none where it has no keys, and then that is a problem."""
    before = len(problems)
    values = _values(text, file, places, (), problems)
    if isinstance(values, dict):
        return values
    if len(problems) == before:
        missing = "is empty; a recipe starts with 'format: 1'"
        problems.append(Problem("", missing if values is None else "must be a mapping of keys, such as 'format: 1'", 1, file))
    return {}


def _derive(document: Document, base: Base | None, problems: list[Problem]) -> None:
    """Merge a document with the recipe that its key `base` names, and write it out whole."""
    given = document.values.pop("base")
    if not isinstance(given, str):
        problems.append(document.problem(("base",), "must be the name of a shipped recipe, or a file relative to this one"))
        return
    try:
        base = base or _base(given, document)
    except MmclError as error:
        problems.append(document.problem(("base",), str(error)))
        return
    places: Places = {(): (base.file, 1)}
    before = len(problems)
    values = _mapping(base.text, base.file, places, problems)
    if "base" in values:
        above = values["base"]
        sentence = f"'{given}' derives from '{above}' itself; a base is a whole recipe, so that two files say everything"
        problems.append(document.problem(("base",), sentence))
    if len(problems) > before:
        return
    if base.folder != document.folder.resolve():
        values = anchored(values, base.folder)
    problems += lay_over_base(document, values, places)
    document.base = base
    document.whole = written_out(document)


def _base(given: str, document: Document) -> Base:
    """The recipe of that name, or the file beside this one. Raises RecipeError or UnknownNameError if there is none."""
    path = find(given, document.folder)
    beside = (document.folder / given).is_file()
    file = str(Path(document.file).parent / given) if beside else str(path)
    return Base(name=given, text=_text_of(path, file), file=file, folder=path.resolve().parent)


LARGEST = 2_000_000
"""Bytes that a recipe's file may have."""
LONG = 20_000
"""Characters from which a text is read by libyaml, where that is at hand: it takes a fifth of the time, and says less of what is wrong."""
DIGITS = 19
"""The most digits that a whole number of a recipe has: what is longer is none that anything here could count."""
DEEPEST = 40
"""Lists and mappings within each other that a recipe may have."""


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted word means."""
    if text in ("", "null", "~"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text) and len(text.lstrip("+-")) <= DIGITS:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def as_yaml(values: Any, flow: bool | None = False) -> str:
    """Values as YAML that reads back as the same values.

    flow  True: in one line, as --set takes it; None: each innermost mapping and list in one line
    """
    text: str = yaml.dump(values, Dumper=_Writer, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=10**6)
    return text.removesuffix("...\n").rstrip("\n") if flow else text


class _Writer(yaml.SafeDumper):
    """Writes what this reader reads: no anchors, and quotes around words that it would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _written(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Ends of lines, which quotes of the other kind would fold, and blanks that a reader would take for spaces.
    broken = any(sign in text for sign in "\x85\u2028\u2029") or _unusual_blank(text) is not None
    style = '"' if broken else None if scalar(text) == text else "'"
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Writer.add_representer(str, _written)
_Writer.add_representer(tuple, lambda writer, items: writer.represent_list(items))


def _values(text: str, file: str, places: Places, at: Key, problems: list[Problem]) -> Any:
    """YAML text as values; problems are added, and so is the place of every key below `at`."""

    def line_of(mark: yaml.Mark) -> int | None:
        return None if file == "--set" else int(mark.line) + 1

    try:
        node = _nodes(text)
    except RecursionError:
        problems.append(Problem(dotted(at), f"has more than {DEEPEST} lists or mappings within each other", None, file))
        return None
    except yaml.MarkedYAMLError as error:
        mark, words = _spoilt(error, text, file)
        problems.append(Problem(dotted(at), f"is not valid YAML: {words}", line_of(mark) if mark else None, file))
        return None
    except yaml.reader.ReaderError as error:  # a control character; only its place in the text is known
        line = None if file == "--set" else text.count("\n", 0, error.position) + 1
        problems.append(Problem(dotted(at), f"is not valid YAML: {str(error).splitlines()[0]}", line, file))
        return None
    seen: set[int] = set()

    def refuse_signs(node: yaml.Node, key: Key) -> None:
        """Say that a value or key has a tag or an anchor: an anchor that nobody uses shows in the text alone."""
        sign = text[node.start_mark.index : node.start_mark.index + 1]
        if sign == "!":
            problems.append(Problem(dotted(key), "has a tag (!…); recipes have no tags", line_of(node.start_mark), file))
        elif sign == "&":
            words = "uses an anchor (&name, *name); write the value out"
            problems.append(Problem(dotted(key), words, line_of(node.start_mark), file))

    def build(node: yaml.Node, key: Key) -> Any:
        places.setdefault(key, (file, line_of(node.start_mark)))
        if len(key) > DEEPEST + len(at):
            raise RecursionError
        if id(node) in seen:  # an alias; its anchor has been said
            return None
        seen.add(id(node))
        if not (
            isinstance(node, yaml.MappingNode) and node.value and node.value[0][0].start_mark.index == node.start_mark.index
        ):
            refuse_signs(node, key)  # a mapping that begins with its first key has none of its own
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            first: dict[str, int | None] = {}
            for name_node, value_node in node.value:
                here = line_of(name_node.start_mark)
                if not isinstance(name_node, yaml.ScalarNode):
                    problems.append(Problem(dotted(key), "has a key that is not a word", here, file))
                    continue
                name = str(name_node.value)
                refuse_signs(name_node, (*key, name))
                if not name_node.style and (blank := _unusual_blank(name)):
                    problems.append(Problem(dotted(key), f"has a key with a {blank} in it; write a space", here, file))
                    continue
                if name in mapping:
                    where = f" (first on line {first[name]})" if first[name] else ""
                    problems.append(Problem(dotted((*key, name)), f"is given twice{where}", here, file))
                    continue
                first[name] = here
                places[(*key, name)] = (file, here)
                mapping[name] = build(value_node, (*key, name))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return tuple(build(item, (*key, i)) for i, item in enumerate(node.value))
        plain = isinstance(node, yaml.ScalarNode) and not node.style  # "" where libyaml read it
        if words := _beyond(node.value, plain):
            problems.append(Problem(dotted(key), words, line_of(node.start_mark), file))
        return scalar(node.value) if plain else node.value

    try:
        return None if node is None else build(node, at)
    except RecursionError:
        problems.append(Problem(dotted(at), f"has more than {DEEPEST} lists or mappings within each other", None, file))
        return None


def _nodes(text: str) -> yaml.Node | None:
    """YAML text as nodes. Raises what yaml.SafeLoader raises."""
    # libyaml takes tabs within words, which the other reader refuses; what it refuses is said in the other's words.
    if len(text) > LONG and yaml.__with_libyaml__ and not any(sign in text for sign in "\t\ufeff"):
        with suppress(yaml.YAMLError):
            return _composed(yaml.CSafeLoader(text))
    return _composed(yaml.SafeLoader(text))


def _composed(loader: yaml.SafeLoader | yaml.CSafeLoader) -> yaml.Node | None:
    """The only document of a loader."""
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def _spoilt(error: yaml.MarkedYAMLError, text: str, file: str) -> tuple[yaml.Mark | None, str]:
    """Where YAML is not valid, and why, with what would mend it."""
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    words = " ".join(str(w) for w in (error.context, error.problem) if w)
    blank = _unusual_blank("\n".join(text.split("\n")[: mark.line + 1 if mark else None]))
    if "'\\t'" in words:
        words += "; indent with spaces"
    elif blank:
        words += f"; there is a {blank} at or above this line, which looks like a space and is none"
    elif error.context == "while scanning a simple key":  # what is missing is noticed a line later
        mark, words = begun or mark, words + "; a key is followed by a colon and a space"
    elif "mapping values are not allowed" in words:
        words += (
            "; keys of one section are indented alike, each with a colon and a space; a text with ': ' in it stands in quotes"
        )
    elif begun and mark and begun.line < mark.line and file != "--set":
        words += f"; it begins on line {begun.line + 1}"
    return mark, words


def _beyond(text: str, plain: bool) -> str | None:
    """Why a word is none that a recipe may have: a number that nothing counts, or a sign that no file can hold."""
    digits = len(text.lstrip("+-"))
    if plain and digits > DIGITS and _INT.fullmatch(text):
        return f"is a whole number of {digits:,} digits; at most {DIGITS} are read"
    return "has half of a character in it (a lone surrogate)" if _HALF.search(text) else None


def _unusual_blank(text: str) -> str | None:
    """The name of the first blank in a text that is neither a space nor an end of line nor a tab; None where there is none."""
    for sign in text:
        if sign.isspace() and sign not in " \t\n\r":
            return f"U+{ord(sign):04X} ({unicodedata.name(sign, 'a blank').lower()})"
    return None


def _has(values: Any, names: Sequence[str]) -> bool:
    """Whether a recipe has a section, or a name that may stand for one, at this key."""
    for name in names:
        if not isinstance(values, dict) or values.get(name) is None:
            return False
        values = values[name]
    return isinstance(values, dict | str)


def _lay_over(document: Document, override: str, problems: list[Problem]) -> None:
    """Lay one `a.b=c` over the values and the defaults of sections that they leave out; `a.b=` sets null, which takes an optional
    section away; `a.b?=c` is laid only where the recipe has an `a` that can have a `b`."""
    path, equals, text = override.partition("=")
    path, lenient = path.removesuffix("?"), path.endswith("?")
    names: list[str] = [part.strip() for part in path.split(".")]
    if not equals or not all(names):
        problems.append(Problem("", f"--set {override}: must look like key.inner=value"))
        return
    key: Key = tuple(names)
    if key[0] == "base":
        text = "cannot be set: what a recipe derives from is read before anything is laid over it"
        problems.append(Problem(dotted(key), text, None, "--set"))
        return
    if lenient and not _has(document.values, names[:-1]):
        return
    for old in below(document.places, key):
        del document.places[old]
    document.taken = {one for one in document.taken if one[: len(key)] != key}
    if lenient:
        document.lenient.add(key)
    value = _values(text, "--set", document.places, key, problems)
    document.places[key] = ("--set", None)
    inner: Any = document.values
    for depth, name in enumerate(names[:-1]):
        if not isinstance(inner, dict):
            break
        if inner.get(name) is None:
            inner[name] = default_at(key[: depth + 1])
        elif isinstance(inner[name], str):
            inner[name] = {"use": inner[name]}  # `head: linear` is short for `head: {use: linear}`
        inner = inner[name]
        document.places.setdefault(key[: depth + 1], ("--set", None))
    if not isinstance(inner, dict):
        problems.append(Problem(dotted(key), f"cannot be set: '{dotted(key[:-1])}' is not a mapping", None, "--set"))
        return
    if value is None and not text.strip() and key[:-1] in NAMED:
        if inner.pop(names[-1], None) is None:
            problems.append(Problem(dotted(key), not_there(inner), None, "--set"))
        return
    inner[names[-1]] = value
