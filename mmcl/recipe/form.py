"""Reads a recipe: YAML into plain values, with the line of every key.

A recipe is a small part of YAML 1.2: mappings, lists, text, numbers, true/false and null. `3e-4` is a number; `no`, `on` and
`12:30` are words. Tags, anchors and a key given twice are refused. Lists become tuples, so that nothing changes later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..api.errors import Problem, RecipeError

Key = tuple[str | int, ...]

NAMED = (("modalities",), ("probe", "heads"), ("supervise", "heads"), ("scores",))
"""Sections whose keys are names of the user's choice: an empty override takes one away."""

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass
class Document:
    """A recipe as read: its values, and where each key stands (file and line, or "--set").

    text   as it is written
    whole  what runs without any other file: the text, or everything written out where it is derived from another recipe
    """

    values: dict[str, Any]
    file: str
    text: str
    places: dict[Key, tuple[str, int | None]] = field(default_factory=dict)
    folder: Path = Path()
    whole: str = ""

    def problem(self, key: Key, text: str) -> Problem:
        """A problem at `key`, placed at the line of the key or of the nearest one around it."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.places:
                file, line = self.places[key[:end]]
                return Problem(dotted(key), text, line, file)
        return Problem(dotted(key), text, None, self.file)


def dotted(key: Key) -> str:
    """A key as people write it: probe.heads.linear.l2[1]."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def document_of(text: str, file: str, folder: Path) -> Document:
    """A recipe by itself."""
    document = Document({}, file, text, {(): (file, 1)}, folder, text)
    problems: list[Problem] = []
    values = _values(text, file, document.places, (), problems)
    if values is None and not problems:
        problems.append(Problem("", "is empty; a recipe starts with 'format: 1'", 1, file))
    elif not isinstance(values, dict) and not problems:
        problems.append(Problem("", "must be a mapping of keys, such as 'format: 1'", 1, file))
    if problems:
        raise RecipeError(problems)
    document.values = values
    return document


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted word means."""
    if text in ("", "null", "~"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def as_yaml(values: Any, flow: bool = False) -> str:
    """Values as YAML that reads back as the same values; with `flow` in one line, as --set takes it."""
    text: str = yaml.dump(values, Dumper=_Writer, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=10**6)
    return text.removesuffix("...\n").rstrip("\n") if flow else text


class _Writer(yaml.SafeDumper):
    """Writes what this reader reads: no anchors, and quotes around words that it would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _written(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=None if scalar(text) == text else "'")


_Writer.add_representer(str, _written)
_Writer.add_representer(tuple, lambda writer, items: writer.represent_list(items))


def _values(text: str, file: str, places: dict[Key, tuple[str, int | None]], at: Key, problems: list[Problem]) -> Any:
    """YAML text as values; problems are added, and so is the place of every key below `at`."""

    def line_of(mark: yaml.Mark) -> int | None:
        return None if file == "--set" else int(mark.line) + 1

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark, begun = error.problem_mark or error.context_mark, error.context_mark
        words = " ".join(str(w) for w in (error.context, error.problem) if w)
        if "'\\t'" in words:
            words += "; indent with spaces"
        elif error.context == "while scanning a simple key":  # what is missing is noticed a line later
            mark, words = begun or mark, words + "; a key is followed by a colon and a space"
        elif "mapping values are not allowed" in words:
            words += "; keys of one section are indented alike, each with a colon and a space; a text with ': ' in it stands in quotes"
        elif begun and mark and begun.line < mark.line and file != "--set":
            words += f"; it begins on line {begun.line + 1}"
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
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return scalar(node.value) if plain else node.value

    return None if node is None else build(node, at)


def lay_over(document: Document, override: str, problems: list[Problem]) -> None:
    """Lay one `a.b=c` over the values; `a.b=` sets null, which takes an optional section away."""
    path, equals, text = override.partition("=")
    names: list[str] = [part.strip() for part in path.split(".")]
    if not equals or not all(names):
        problems.append(Problem("", f"--set {override}: must look like key.inner=value"))
        return
    key: Key = tuple(names)
    for old in [k for k in document.places if k[: len(key)] == key]:
        del document.places[old]
    value = _values(text, "--set", document.places, key, problems)
    document.places[key] = ("--set", None)
    inner: Any = document.values
    for depth, name in enumerate(names[:-1]):
        if not isinstance(inner, dict):
            break
        if inner.get(name) is None:
            inner[name] = {}
        elif isinstance(inner[name], str):
            inner[name] = {"use": inner[name]}  # `head: linear` is short for `head: {use: linear}`
        inner = inner[name]
        document.places.setdefault(key[: depth + 1], ("--set", None))
    if not isinstance(inner, dict):
        problems.append(Problem(dotted(key), f"cannot be set: '{dotted(key[:-1])}' is not a mapping", None, "--set"))
        return
    if value is None and not text.strip() and key[:-1] in NAMED:
        if inner.pop(names[-1], None) is None:
            problems.append(
                Problem(dotted(key), f"is not there to be taken away; there are {', '.join(inner) or 'none'}", None, "--set")
            )
        return
    inner[names[-1]] = value
