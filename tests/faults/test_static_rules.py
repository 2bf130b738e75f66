"""What the package never does, whatever the input: told by reading it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "clipsearch"
FILES = sorted(PACKAGE.rglob("*.py"))


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            yield file.relative_to(PACKAGE), node


@cache
def calls() -> list[tuple[str, str, dict[str, str]]]:
    """Return where each call is, what is called, and its keywords, all as text."""
    return [
        (
            f"{file}:{node.lineno}",
            ast.unparse(node.func),
            {word.arg or "**": ast.unparse(word.value) for word in node.keywords},
        )
        for file, node in nodes()
        if isinstance(node, ast.Call)
    ]


def imports() -> set[str]:
    found: set[str] = set()
    for _, node in nodes():
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_nothing_is_unpickled():
    assert not imports() & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    assert not [where for where, _, words in calls() if words.get("allow_pickle", "False") != "False"]


@pytest.mark.parametrize("name", ["eval", "exec", "os.rename", "os.system", "os.popen"])
def test_a_dangerous_function_is_not_called(name):
    assert not [where for where, called, _ in calls() if called == name]


def test_no_shell_and_no_code_of_strangers_is_run():
    for where, name, words in calls():
        assert "shell" not in words, where
        assert words.get("trust_remote_code", "False") == "False", where
        if name == "torch.load":
            assert words.get("weights_only") == "True", where


def test_every_picture_is_opened_by_an_allowed_decoder_only():
    opened = [(where, words) for where, name, words in calls() if name == "Image.open"]
    assert opened and not [where for where, words in opened if "formats" not in words]
