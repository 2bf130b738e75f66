"""The documentation is true: every command and option has help and a place in docs/cli.md; examples parse."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from clipsearch.cli import COMMANDS, group
from clipsearch.flows.writer import MODELS

ROOT = Path(__file__).parent.parent
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.exists()]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name; those of groups as well."""
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", inner) for sub, inner in command.commands.items())


ALL = dict(commands())
OPTIONS = [(name, p) for name, c in ALL.items() for p in c.params if isinstance(p, click.Option)]


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, body)
        for page in PAGES
        for kind, body in BLOCK.findall(page.read_text(encoding="utf-8"))
        if kind == language
    ]


def section(name: str) -> str:
    """Return the part of docs/cli.md on a command."""
    match = re.search(rf"^## clipsearch {name.split()[0]}\n(.*?)(?=^## |\Z)", CLI_PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/cli.md has no section on {name}"
    return match[1]


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_and_a_section(name):
    command = ALL[name]
    assert command.help and command.short_help
    assert len(command.short_help) <= 65 and command.short_help.endswith(".")
    assert name.split()[-1] in section(name)


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=[f"{n} {o.opts[-1]}" for n, o in OPTIONS])
def test_every_option_has_help_and_is_documented(name, option):
    assert option.help
    shared = CLI_PAGE.split("## clipsearch ", 1)[0]
    for spelling in (*option.opts, *option.secondary_opts):
        where = section(name) + shared
        assert re.search(rf"`{re.escape(spelling)}[ `\\\[]", where), (
            f"docs/cli.md does not mention {spelling} of {name}"
        )


@pytest.mark.parametrize("name", [n for n in COMMANDS])
def test_the_documentation_invents_no_option(name):
    known = {s for n, o in OPTIONS if n.split()[0] == name for s in (*o.opts, *o.secondary_opts)} | {"-h", "--help"}
    table = re.findall(r"^\| (`-.*?) \|", section(name), re.MULTILINE)
    assert {s for row in table for s in re.findall(r"`(--?[a-z0-9-]+)", row)} <= known


@pytest.mark.parametrize(("page", "body"), blocks("python"), ids=lambda value: value[:20].split("\n")[0])
def test_python_examples_compile_and_use_public_names_only(page, body):
    import clipsearch

    compile(body, page, "exec")
    for name in re.findall(r"\bclipsearch\.([A-Za-z_]\w*)", body):
        assert name in clipsearch.__all__, f"{page} uses clipsearch.{name}"


def shell_lines() -> list[tuple[str, str]]:
    """Return every call of clipsearch in the shell examples, without prompts, comments and the rest of a pipe."""
    found = []
    for page, body in [*blocks("sh"), *blocks("bash"), *blocks("console"), *blocks("shell")]:
        for line in body.replace("\\\n", " ").splitlines():
            if match := re.search(r"(?:^|[|;&$] *)(clipsearch .*)", line):
                found.append((page, match[1]))
    return found


def test_there_are_examples_to_check():
    assert len(shell_lines()) > 15


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_shell_examples_parse(page, line):
    words = shlex.shlex(line, posix=True, punctuation_chars="|>;&")
    words.whitespace_split = True
    arguments = []
    for word in list(words)[1:]:
        if set(word) <= set("|>;&"):
            break
        arguments.append(word)
    parse(group, arguments)


def parse(command: click.Command, arguments: list[str]) -> None:
    """Parse as a real call does, commands below commands too, and run nothing."""
    try:
        ctx = command.make_context("clipsearch", list(arguments))
    except click.exceptions.Exit:  # --help, --version
        return
    if isinstance(command, click.Group) and arguments:
        rest = [*getattr(ctx, "_protected_args", ()), *ctx.args]
        _, inner, tail = command.resolve_command(ctx, rest)
        assert inner is not None
        parse(inner, tail)


def test_the_models_that_examples_name_exist():
    from clipsearch.embed.card import load_card

    named = [m for _, line in shell_lines() for m in re.findall(r"(?:--model|pull|path) ([\w.-]+)(?:\s|$)", line)]
    assert {load_card(name).name for name in set(named) - set(MODELS)} - {"hashing"}
