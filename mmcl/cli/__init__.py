"""The command `mmcl`. Light to start: no command but `run` imports torch, and each command's file is imported when it is called."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

import click

from .. import __version__
from ..screen import launched, plain, say
from ..stopping import SilentEnd, Stopped, Witness, listening
from ..threads import wait_briefly

COMMANDS = {
    "run": ("run", "Run a recipe, or go on with it."),
    "prepare": ("prepare", "Prepare one share of a recipe's recordings, beside others."),
    "check": ("check", "Say everything that is wrong with a recipe, and what it would do."),
    "profile": ("profile", "Measure where a step's time and memory go, and say what would help."),
    "new-dataset": ("begin", "Write a table of the recordings in a folder."),
    "new-recipe": ("begin", "Write a recipe for a table."),
    "new-plugin": ("begin", "Write a package with a new plug-in that passes every check."),
    "check-plugin": ("checking", "Check all that a package of plug-ins offers, on real data too."),
    "sample": ("sample", "Write a tiny made-up copy of a corpus, to try a recipe on."),
    "data": ("data", "Look at recordings before a run: counts, lengths, gaps, defects."),
    "embed": ("use", "Take frozen features of recordings with a finished run."),
    "predict": ("use", "Say what a finished run answers about recordings."),
    "search": ("use", "Find the recordings nearest to a recording."),
    "serve": ("serve", "Answer over HTTP with a finished run, and show a page."),
    "doctor": ("doctor", "Say what works on this machine, and what to do about the rest."),
    "schema": ("schema", "Print the JSON schema of recipes, for editors."),
    "sweep": ("sweep", "Search over values of a recipe, on validation recordings alone."),
    "report": ("report", "Write the report of a run again, or of several on one page."),
    "compare": ("compare", "Set runs side by side, with intervals and tests over speakers."),
    "runs": ("runs", "List runs; remove some, or streams that none needs."),
    "rerun": ("rerun", "Repeat a run from its folder, and say what differs."),
    "replay": ("replay", "Look at the batch whose loss was no number."),
    "audit": ("audit", "Look for leaks in a run's files."),
    "export": ("export", "Write what a run learned as one graph: ONNX or PyTorch."),
    "publish": ("export", "Lay what a run learned in a folder that can be given away."),
    "upload": ("upload", "Put the prepared streams of a run at a URL, for runs elsewhere."),
    "tables": ("tables", "Lay your runs' figures beside a paper's tables."),
    "describe": ("describe", "Show one plug-in: options, bounds, source."),
    "plugins": ("plugins", "List plug-ins, what each offers, and why any failed."),
    "list-backbones": ("lists", "List networks from a stream to a vector."),
    "list-modalities": ("lists", "List ways of turning recordings into streams."),
    "list-losses": ("lists", "List losses between two modalities."),
    "list-group-losses": ("lists", "List losses of any number of modalities at once."),
    "list-positives": ("lists", "List rules for what belongs together."),
    "list-samplers": ("lists", "List ways of putting recordings into batches."),
    "list-datasets": ("lists", "List corpora."),
    "list-heads": ("lists", "List probes."),
    "list-pretexts": ("lists", "List ways of learning one vector of all modalities."),
    "list-presets": ("lists", "List papers' settings to lay over a recipe."),
    "list-scorers": ("lists", "List ways of scoring recordings, such as valence and arousal."),
    "list-published": ("lists", "List papers whose tables your runs can be laid beside."),
    "list-recipes": ("lists", "List the recipes that come with mmcl."),
}
"""Command → (file, help in the overview)."""

SECTIONS = {
    "Recipes": (
        "run",
        "prepare",
        "check",
        "profile",
        "new-dataset",
        "new-recipe",
        "sample",
        "data",
        "sweep",
        "report",
        "runs",
        "upload",
        "rerun",
        "replay",
        "compare",
        "audit",
        "tables",
        "doctor",
        "schema",
        "list-recipes",
    ),
    "A finished run at work": ("embed", "predict", "search", "serve", "export", "publish"),
    "Plug-ins": (
        "new-plugin",
        "check-plugin",
        "describe",
        "plugins",
        *(name for name in COMMANDS if name.startswith("list-") and name != "list-recipes"),
    ),
}
"""How the overview is divided."""


class Commands(click.Group):
    """Imports a command's file when it is called, and suggests the nearest for one that does not exist."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name][0]}", __package__)
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name where there is none of this name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, without importing any command."""
        width = max(map(len, COMMANDS))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", COMMANDS[name][1]) for name in names])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click does; `--help` prints in here."""
        with _reader_may_leave():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        with _reader_may_leave():
            return super().invoke(ctx)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """End quietly, with 0, when whoever reads stdout has closed it (`mmcl schema | head -1`): click would exit with 1."""
    try:
        yield
    except BrokenPipeError as error:
        try:
            os.write(sys.stdout.fileno(), b"\n")  # does nobody read stdout any more, or was it a worker's pipe?
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from error
        raise RuntimeError(f"a pipe other than stdout broke: {error}") from error  # or click would exit without a word


class _Plain:
    """A stream to which text is written without signs that a terminal obeys."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """As the stream does."""
        return self.stream.write(plain(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def _plain_stdout() -> Iterator[None]:
    """Within it, what is printed holds nothing that a terminal obeys: results name what stands in somebody's run or data."""
    before = sys.stdout
    sys.stdout = cast("TextIO", _Plain(before))
    try:
        yield
    finally:
        sys.stdout = before


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="mmcl")
@click.option(
    "--traceback", is_flag=True, expose_value=False, help="Show where in the code an error arose (or MMCL_TRACEBACK=1)."
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Learn from recordings of several time series without labels: contrast every pair of modalities, freeze, probe.

    Begin with:  mmcl run quickstart
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit code 0: done; 2: something for the user to mend; 1: our bug; 130, 143, 129: stopped by Ctrl-C, TERM, HUP."""
    for stream in (sys.stdout, sys.stderr):  # a sign that the terminal does not have is replaced, and ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    wait_briefly()
    given = sys.argv[1:] if arguments is None else arguments
    show = "--traceback" in given or os.environ.get("MMCL_TRACEBACK", "") not in ("", "0")
    given = [a for a in given if a != "--traceback"]  # anywhere on the line
    rank, ranks = launched()
    speaks = rank == 0  # of several processes that are told the same, one says what is wrong
    try:
        word = next((a for a in given if not a.startswith("-")), "")
        if ranks > 1 and word in COMMANDS and word not in ("run", "replay"):
            raise click.UsageError(f"mmcl {word} works in one process; start it without torchrun")
        with listening(tell=speaks), _plain_stdout():
            code: Any = cli.main(given, prog_name="mmcl", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except SilentEnd as end:
        sys.exit(end.code)
    except click.ClickException as error:
        if speaks:
            error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        stopped = error if isinstance(error, Stopped) else error.__cause__  # click makes Abort of it
        words = stopped if isinstance(stopped, Stopped) else "interrupted; run the same command again to go on"
        if speaks:
            say(f"mmcl: {words}")
        sys.exit(stopped.code if isinstance(stopped, Stopped) else 130)
    except Exception as error:  # noqa: BLE001 - the last line of defence: the user's to mend, or else our bug, said as such
        from ..api.errors import MmclError  # late: it brings numpy and pydantic, which `mmcl --help` can do without
        from .surroundings import library_of, sentence_of

        unfit = library_of(error)
        if unfit is None and not isinstance(error, MmclError | MemoryError | OSError):
            from ..plugins import fault_of

            error = fault_of(error) or error
        if unfit is None and isinstance(error, MmclError):
            if show:
                traceback.print_exc()
            for line in str(error).splitlines() if speaks or isinstance(error, Witness) else ():
                say(f"mmcl: {line}")
            sys.exit(2)
        if sentence := unfit or sentence_of(error):
            if show:
                traceback.print_exc()
            say(f"mmcl: {sentence}")
            sys.exit(2)
        traceback.print_exc()
        click.echo(
            f"mmcl {__version__}: this is a bug in mmcl or in a plug-in; please report it with the lines above", err=True
        )
        sys.exit(1)
