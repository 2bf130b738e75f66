"""The front door: what is loaded, how errors become messages and exit codes."""

import subprocess
import sys

import click
import pytest

from clipsearch import errors
from clipsearch.cli import COMMANDS, group, main
from clipsearch.cli.console import Console
from clipsearch.errors import ClipsearchError


def fresh_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_and_version_load_click_and_nothing_else():
    code = (
        "import sys\nfrom clipsearch.cli import run\n"
        "assert run(['--help']) == 0 and run(['--version']) == 0\n"
        "heavy = {'numpy', 'rich', 'PIL', 'pyarrow', 'torch', 'duckdb', 'onnxruntime', 'clipsearch.types'}\n"
        "print(sorted(heavy & set(sys.modules)), [m for m in sys.modules if m.startswith('clipsearch.cli.')])\n"
    )
    done = fresh_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] ['clipsearch.cli.console']"
    assert "clipsearch 0" in done.stdout


def test_importing_the_command_modules_loads_no_room():
    code = (
        "import sys\nfrom clipsearch.cli import COMMANDS, group\nimport click\n"
        "for name in COMMANDS: group.get_command(click.Context(group), name)\n"
        "print([m for m in sys.modules if m.startswith('clipsearch.') and not m.startswith('clipsearch.cli')],"
        " 'numpy' in sys.modules, 'rich' in sys.modules)\n"
    )
    assert fresh_python(code).stdout.strip() == "['clipsearch.errors'] False False"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_of_a_command_what_the_command_says_of_itself(name):
    command = group.get_command(click.Context(group), name)
    assert command is not None and command.name == name
    assert command.short_help == COMMANDS[name][1]
    assert (command.help or "").startswith(COMMANDS[name][1])


def test_no_arguments_show_the_help(cli):
    assert cli().out == cli("--help").out
    assert cli("models").out == cli("models", "--help").out


def test_an_unknown_command_is_a_usage_error_that_offers_the_nearest(cli):
    done = cli("serach", "x")
    assert done.code == 2 and done.out == b""
    assert "Did you mean 'search'?" in done.err


def test_an_unknown_option_is_a_usage_error(cli):
    done = cli("search", "x", "--jsn")
    assert done.code == 2 and done.err.startswith("error: No such option") and "clipsearch search --help" in done.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError, 2),
        (errors.QueryImageError, 2),
        (errors.MissingExtraError, 2),
        (errors.CorruptShardError, 4),
        (errors.CollectionNotFoundError, 10),
        (errors.LockedError, 11),
        (errors.ManifestMismatchError, 12),
    ],
)
def test_each_error_has_its_message_and_its_exit_code_and_no_traceback(cli, fake, error, code):
    fake.failure = error("what happened.\nwhat to do")
    done = cli("search", "dog")
    assert (done.code, done.out, done.err) == (code, b"", "error: what happened.\nwhat to do\n")
    assert cli("search", "dog", "-q").err == done.err


def test_every_error_of_the_tree_has_an_exit_code_of_the_table():
    kinds = [error for error in vars(errors).values() if isinstance(error, type)]
    assert all(issubclass(error, ClipsearchError) for error in kinds)
    assert {error.exit_code for error in kinds} == {1, 2, 4, 10, 11, 12}


@pytest.mark.parametrize(("arguments", "code"), [(("search", "dog"), 2), (("index", "."), 1)])
def test_a_bug_is_one_line_and_search_keeps_its_1_for_nothing_found(cli, fake, arguments, code):
    fake.failure = ZeroDivisionError("division\nby zero")
    done = cli(*arguments, "-i", "photos")
    assert done.code == code
    assert done.err.splitlines()[-1] == (
        "error: unexpected ZeroDivisionError: division by zero; run with --debug for the traceback"
    )
    assert "Traceback" not in done.err


def test_no_failure_of_search_looks_like_nothing_found(cli, fake):
    fake.failure = errors.StorageError("the disk is full")
    assert cli("search", "dog").code == 2
    assert cli("index", ".", "-i", "photos").code == 1


def test_a_file_name_in_a_message_cannot_reach_the_terminal(cli, fake):
    fake.failure = errors.InputError("no \x1b]0;title\x07 \udce9\nsecond line")
    assert cli("search", "dog").err == "error: no \\x1b]0;title\\x07 \\xe9\nsecond line\n"
    assert cli("search", "./no\x1b[2J.jpg").err.startswith("error: There is no file ./no\\x1b[2J.jpg.")


def test_debug_shows_the_traceback(cli, fake):
    fake.failure = ZeroDivisionError("x")
    done = cli("search", "dog", "--debug")
    assert "Traceback" in done.err and "in search" in done.err and done.code == 2
    fake.failure = errors.LockedError("busy")
    assert "Traceback" in cli("search", "dog", "--debug").err


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(cli, fake):
    fake.failure = KeyboardInterrupt()
    done = cli("index", ".", "-i", "photos")
    assert done.code == 130
    assert done.err.splitlines()[-1] == ("interrupted: what is finished is saved. The same command goes on from there.")
    searched = cli("search", "dog")
    assert (searched.code, searched.err) == (130, "interrupted\n")


def test_main_exits_with_the_code(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["search"])
    assert exit_.value.code == 2
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0


def test_errors_are_red_only_on_a_terminal_that_wants_colours(cli, fake, monkeypatch):
    fake.failure = errors.LockedError("busy")
    assert cli("search", "x", terminal=True).err.startswith("\x1b[1;31merror:\x1b[0m busy")
    assert cli("search", "x", "--no-color", terminal=True).err == "error: busy\n"
    monkeypatch.setenv("TERM", "dumb")
    assert cli("search", "x", terminal=True).err == "error: busy\n"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli("search", "x", terminal=True).err == "error: busy\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(cli, shell):
    done = cli("completion", shell)
    assert done.code == 0 and done.err == ""
    assert "_CLIPSEARCH_COMPLETE" in done.out.decode() and f"{shell}_complete" in done.out.decode()


def completions(monkeypatch, capsys, words: str, position: int) -> list[str]:
    monkeypatch.setenv("_CLIPSEARCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(position))
    with pytest.raises(SystemExit):
        main([])
    return [line.split(",", 1)[1] for line in capsys.readouterr().out.split()]


def test_the_shell_completes_commands_collections_and_models(fake, home, monkeypatch, capsys):
    (home / "birds").mkdir()
    (home / "birds" / "CURRENT").write_text("1")
    (home / "not-one").mkdir()
    assert completions(monkeypatch, capsys, "clipsearch ", 1) == list(COMMANDS)
    assert completions(monkeypatch, capsys, "clipsearch search -i ", 3) == ["birds", "photos"]
    assert completions(monkeypatch, capsys, "clipsearch search -i p", 3) == ["photos"]
    assert "mini" in completions(monkeypatch, capsys, "clipsearch index . --model mi", 4)


@pytest.mark.parametrize("say", [Console.note, Console.complain])
def test_a_terminal_gets_messages_broken_between_words_and_a_pipe_whole(monkeypatch, capsysbinary, say):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    path = "/a/path/that/is/longer/than/the/whole/terminal/is/wide.jpg"
    text = f"  one two three four five six seven eight nine ten {path} and more\nshort  line"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say(Console(), text)
    wide = capsysbinary.readouterr().err.decode()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    say(Console(), text)
    plain = capsysbinary.readouterr().err.decode()
    assert text in plain and len(plain.splitlines()) == 2
    assert wide.split() == plain.split() and "short  line\n" in wide
    assert all(len(line) <= 40 or line == path for line in wide.splitlines())
