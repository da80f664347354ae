"""Commands, as rows call them."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from mmcl.cli import cli


def call(*words: str) -> None:
    """A command, whose errors come through."""
    cli.main([*words], standalone_mode=False)


def printed(*words: str) -> str:
    """What a command prints to stdout and to stderr; its errors come through."""
    with StringIO() as text, redirect_stdout(text), redirect_stderr(text):
        call(*words)
        return text.getvalue()
