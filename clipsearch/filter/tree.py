"""DuckDB's parse tree as JSON: how it is got, and how a place in it is told to a person."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipsearch.errors import FilterSyntaxError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Node = Mapping[str, Any]  # Any: a node's fields are texts, numbers, nodes and lists of nodes
MAX_DEPTH = 150  # nested expressions; DuckDB's parser counts
NEAR = 24  # characters of the text that a message quotes
LONGEST = 240  # characters of a reason; names in it may be as long as the text

CONNECTION_OPTIONS = {"errors_as_json": True, "max_expression_depth": MAX_DEPTH}


class Refusal(Exception):
    """Something is not allowed: what, and the byte in the statement at which it stands (None where unknown)."""

    def __init__(self, what: str, at: int | None = None) -> None:
        super().__init__(what)
        self.what, self.at = what, at


@dataclass(frozen=True, slots=True)
class Source:
    """A text that a user gave, the statement that it is a part of, and how to say what is wrong with it.

    Attributes:
        text: as given.
        before: what the statement has before it.
        called: what a message calls it: "filter", "statement".
        help: what is allowed, the further lines of a message.
    """

    text: str
    before: str
    called: str
    help: str

    @property
    def statement(self) -> str:
        """Return what is parsed, checked and run. The line end closes a comment at the end of the text."""
        return f"{self.before}{self.text}\n"

    def error(self, problem: Refusal) -> FilterSyntaxError:
        """Return the error that names the place, in characters from 1."""
        at = max(0, (problem.at or 0) - len(self.before.encode()))
        position = len(self.text.encode("utf-8", "replace")[:at].decode("utf-8", "ignore")) + 1
        near = " ".join(self.text[position - 1 : position - 1 + NEAR].split())
        where = f"position {position}" + (f", near {near!r}" if near else "")
        what = problem.what if len(problem.what) <= LONGEST else f"{problem.what[:LONGEST]}…"
        return FilterSyntaxError(f"The {self.called} is refused at {where}: {what}\n{self.help}")

    def check_text(self, limit: int) -> None:
        """Refuse what is empty, too long, or no Unicode text."""
        try:
            self.text.encode()
        except UnicodeEncodeError as problem:
            place = len(self.before.encode()) + len(self.text[: problem.start].encode())
            raise Refusal("a character there is not valid UTF-8.", place) from None
        if not self.text.strip():
            raise Refusal(f"the {self.called} is empty.")
        if len(self.text) > limit:
            raise Refusal(f"it has {len(self.text):,} characters; at most {limit:,} are read.")


def parse(connection: "DuckDBPyConnection", source: Source) -> Node:
    """Return the only statement of a source as DuckDB parses it.

    Raises:
        Refusal: it is no SQL, or not one SELECT.
    """
    rows = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [source.statement]).fetchall()
    try:
        document = json.loads(rows[0][0])
    except RecursionError:
        raise Refusal("it is nested too deeply.") from None
    if document.get("error"):
        raise _syntax(document)
    statements = document.get("statements", [])
    if len(statements) != 1:
        raise Refusal("there is more than one statement.", _second(statements))
    if statements[0].get("named_param_map"):
        raise Refusal("parameters such as ? and $1 are not allowed.")
    return statements[0]["node"]


def _syntax(document: Node) -> Refusal:
    message = str(document.get("error_message", "it cannot be parsed"))
    if document.get("error_type") == "not implemented":
        return Refusal("only SELECT is allowed.")
    if message.startswith("Max expression depth"):
        return Refusal("it is nested too deeply.")
    return Refusal(f"{one_line(message)}.", _number(document.get("position")))


def _second(statements: list[Node]) -> int | None:
    places = [place for node in statements[1:] for place in _places(node)]
    return min(places, default=None)


def _places(value: Any) -> list[int]:  # Any: a part of the tree
    if isinstance(value, Mapping):
        own = location(value)
        return ([own] if own is not None else []) + [p for part in value.values() for p in _places(part)]
    return [p for part in value for p in _places(part)] if isinstance(value, list) else []


def location(node: Node) -> int | None:
    """Return the byte of the statement at which a node begins, where DuckDB says so."""
    return _number(node.get("query_location"))


def leftmost(node: Node) -> int | None:
    """Return the byte at which a node or the first thing inside it begins."""
    return min(_places(node), default=None)


def _number(value: Any) -> int | None:  # Any: a number, a text with one, None; 2**64 - 1 stands for unknown
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 2**31 else None


def unplaced(node: Node) -> str:
    """Return a tree as text without the places in it: equal for two spellings of the same expression."""
    return _PLACES.sub("", json.dumps(node))


_PLACES = re.compile(r'"query_location(_length)?": \d+(, )?')


def refused_by_duckdb(problem: Exception, before: int = 0) -> Refusal:
    """Return what DuckDB said while binding or running as a refusal: its sentence and its place.

    ``before`` is the number of bytes that stood before the statement.
    """
    text = str(problem)
    try:
        told = json.loads(text[text.index("{") :])
    except ValueError:
        return Refusal(f"{one_line(text.split(chr(10))[0])}.")
    message = str(told.get("exception_message", text)).split("\n")[0]
    at = _number(told.get("position"))
    return Refusal(f"{one_line(message)}.", None if at is None else at - before)


def one_line(text: str) -> str:
    """Return a text on one line, without the full stop."""
    return " ".join(text.split()).rstrip(".!") or "it cannot be read"
