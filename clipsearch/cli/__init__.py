"""The front door: the command ``clipsearch``.

A command parses its arguments, makes one call of ``Collection`` and hands the answer to ``present``. What holds for
all of them is here, once: the table of commands, and how an exception becomes a message and an exit code.

Importing this package, and ``clipsearch --help``, load click and nothing else. A command's module is imported when the
command runs; its one-line help stands in the table, so that the list of commands needs none of them.

Exit codes: 0 done or found · 1 ``search`` found nothing (elsewhere: a bug) · 2 wrong usage or input · 3 ``index``
finished, files were skipped · 4 damaged · 10 no collection · 11 locked · 12 made with another model · 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from clipsearch.cli.console import Console
from clipsearch.errors import ClipsearchError

COMMANDS: dict[str, tuple[str, str]] = {
    "index": ("clipsearch.cli.index:command", "Index pictures, or bring a collection up to date."),
    "watch": ("clipsearch.cli.watch:command", "Keep a collection current with a folder."),
    "search": ("clipsearch.cli.search:command", "Search a collection with words, a picture, or both."),
    "searches": ("clipsearch.cli.searches:command", "List or remove saved searches."),
    "tag": ("clipsearch.cli.tag:command", "Give pictures tags of a list of labels, at a stated level."),
    "describe": ("clipsearch.cli.describe:command", "Say in words what a picture shows."),
    "ask": ("clipsearch.cli.ask:command", "Answer a question about a picture, or about all."),
    "status": ("clipsearch.cli.status:command", "Show what a collection holds."),
    "verify": ("clipsearch.cli.verify:command", "Check every byte of a collection."),
    "repair": ("clipsearch.cli.repair:command", "Make again what is damaged in a collection."),
    "compact": ("clipsearch.cli.compact:command", "Merge small shards and drop deleted rows."),
    "columns": ("clipsearch.cli.columns:command", "List the columns that --where and sql can name."),
    "sql": ("clipsearch.cli.sql:command", "Run one SELECT over a collection's metadata."),
    "duplicates": ("clipsearch.cli.duplicates:command", "Find pictures that are there more than once."),
    "cluster": ("clipsearch.cli.cluster:command", "Part the pictures into clusters with names."),
    "export": ("clipsearch.cli.export:command", "Write a collection's rows for other tools."),
    "models": ("clipsearch.cli.models:command", "List the models, locate, download or export one."),
    "evaluate": ("clipsearch.cli.evaluate:command", "Measure searches, words and duplicates on your own pictures."),
    "augment": ("clipsearch.cli.augment:command", "Measure what helps text queries here, and use it."),
    "generate": ("clipsearch.cli.generate:command", "Draw a picture of words; it never becomes a hit."),
    "generated": ("clipsearch.cli.generated:command", "List, show or remove generated pictures."),
    "completion": ("clipsearch.cli.completion:command", "Print a shell's completion script."),
}
INTERRUPTED, PIPE_CLOSED = 130, 141


class _Passing(Exception):
    """Carries an exception past click, which would answer it in its own way."""


class FrontDoor(click.Group):
    """The group of all commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return getattr(import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which was probably meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from clipsearch.registry import suggest

            raise click.UsageError(suggest("command", name, COMMANDS), ctx)
        ctx.ensure_object(Console).command = name
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # Any: what the command returns, its exit code or None
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, KeyboardInterrupt, EOFError) as problem:
            raise _Passing from problem


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from clipsearch import __version__

        click.echo(f"clipsearch {__version__}")
        ctx.exit()


@click.group(
    cls=FrontDoor,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Documentation of every command: docs/cli.md, and clipsearch COMMAND --help.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def group(ctx: click.Context) -> None:
    """Search your pictures with words and with pictures.

    \b
    clipsearch index ./photos
    clipsearch search "two dogs playing in snow"
    clipsearch search ./query.jpg
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; ``args`` stand for ``sys.argv[1:]``."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; whatever goes wrong has been said on stderr."""
    console = Console()
    try:
        code = group.main(
            args=None if args is None else list(args), prog_name="clipsearch", standalone_mode=False, obj=console
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SystemExit:  # shell completion leaves this way
        raise
    except _Passing as passing:
        return _answer(passing.__cause__ or passing, console)
    except BaseException as problem:
        return _answer(problem, console)


def _answer(problem: BaseException, console: Console) -> int:
    """Say what went wrong, once and in a few lines, and return the exit code."""
    if isinstance(problem, BrokenPipeError):  # the reader has what it wanted, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter's last flush would complain
        return PIPE_CLOSED
    if console.debug:
        from traceback import print_exception

        print_exception(problem)
    if isinstance(problem, KeyboardInterrupt | click.Abort):
        console.complain(str(problem) or "", "interrupted")
        return INTERRUPTED
    if isinstance(problem, click.ClickException):
        console.complain(problem.format_message() + _help_hint(problem))
        return _code(problem.exit_code, console)
    if isinstance(problem, ClipsearchError):
        console.complain(str(problem))
        return _code(problem.exit_code, console)
    return _answer_unexpected(problem, console)


def _code(code: int, console: Console) -> int:
    """Return the exit code; 1 is an answer of some commands (nothing found, none of these), whose failures say 2."""
    return 2 if code == 1 and console.command in ("search", "ask") else code


def _help_hint(problem: click.ClickException) -> str:
    ctx = getattr(problem, "ctx", None)
    return f"\nSee: {ctx.command_path} --help" if ctx else ""


def _answer_unexpected(problem: BaseException, console: Console) -> int:
    hint = "" if console.debug else "; run with --debug for the traceback"
    what = " ".join(str(problem).split())
    console.complain(f"unexpected {type(problem).__name__}: {what}{hint}" if what else f"unexpected {problem!r}{hint}")
    return _code(1, console)
