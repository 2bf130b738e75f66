"""Is it one SELECT over the collection's tables?

Wider than a filter: any SELECT that DuckDB parses, as long as what it reads is ``images``, ``captions``, its own WITH
tables or ``search('words', k)``, and what it calls is on the list of functions. Names of WITH tables count where they
are in sight, so that none can stand for a system table elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from clipsearch.filter.allowed import SQL_FUNCTIONS, SQL_HELP
from clipsearch.filter.tree import Node, Refusal, Source, leftmost, location, parse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_LENGTH = 100_000
MAX_SEARCHES, MAX_K, DEFAULT_K = 20, 100_000, 10
TABLES = ("images", "captions")
EMBEDDING = "embedding"

_QUERIES = {"SELECT_NODE", "SET_OPERATION_NODE"}
_SOURCES = {"JOIN", "SUBQUERY", "EMPTY", "EXPRESSION_LIST", "BASE_TABLE", "TABLE_FUNCTION"}
_PARTS = {"ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"}
_PARTS |= {"ORDER_DEFAULT", "ORDER_ASCENDING", "ORDER_DESCENDING", "ASCENDING", "DESCENDING"}
_EXPRESSIONS = {
    *("COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "BETWEEN", "OPERATOR", "CAST", "TYPE", "FUNCTION"),
    *("CASE", "SUBQUERY", "WINDOW", "STAR", "COLLATE", "POSITIONAL_REFERENCE"),
}
_OPERATORS = {
    *("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "COMPARE_IN", "COMPARE_NOT_IN"),
    *("OPERATOR_COALESCE", "OPERATOR_TRY", "ARRAY_EXTRACT", "ARRAY_SLICE", "STRUCT_EXTRACT", "ARRAY_CONSTRUCTOR"),
    "GROUPING_FUNCTION",
}
_NAMES = {
    "RECURSIVE_CTE_NODE": "WITH RECURSIVE is",
    "SHOW_REF": "DESCRIBE, SUMMARIZE and SHOW are",
    "LAMBDA": "a lambda is",
    "PARAMETER": "a parameter is",
    "PIVOT": "PIVOT is",
}


@dataclass(frozen=True, slots=True)
class Search:
    """A ``search('words', k)`` that stands as a table."""

    words: str
    k: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A SELECT that passed, and what it needs.

    Attributes:
        source: its text, which is what runs.
        searches: the searches it reads, each once.
        tables: those of ``TABLES`` that it reads.
        embedding: it names the column ``embedding``.
    """

    source: Source
    searches: tuple[Search, ...]
    tables: frozenset[str]
    embedding: bool


def statement_source(text: str) -> Source:
    """Return a statement's text with what is needed to run it and to complain of it."""
    return Source(text, "", "statement", f"Allowed: {SQL_HELP}")


def check_statement(connection: "DuckDBPyConnection", source: Source) -> Statement:
    """Return the statement, if it is one SELECT over the collection's tables.

    Raises:
        Refusal: it is not.
    """
    source.check_text(MAX_LENGTH)
    walk = _Walk()
    walk.value(parse(connection, source), frozenset())
    return Statement(source, tuple(walk.searches), frozenset(walk.tables), walk.embedding)


Scope = frozenset[str]  # the WITH tables in sight, in lower case


class _Walk:
    """Look at every node of a statement."""

    def __init__(self) -> None:
        self.searches: dict[Search, None] = {}
        self.tables: set[str] = set()
        self.embedding = False

    def value(self, value: Any, scope: Scope) -> None:  # Any: a part of the tree
        """Refuse a part of the tree, or what is inside it."""
        if isinstance(value, list):
            for part in value:
                self.value(part, scope)
        elif isinstance(value, Mapping):
            scope = self._with(value, scope)
            for part in self._inside(value, scope):
                self.value(part, scope)

    def _with(self, node: Node, scope: Scope) -> Scope:
        """Check the WITH tables of a query, each in sight of the ones before it, and return what is in sight then."""
        for entry in (node.get("cte_map") or {}).get("map", ()):
            table = entry["value"]
            if any(value for name, value in table.items() if name not in ("aliases", "materialized", "query_node")):
                raise Refusal("that form of WITH is not allowed.", leftmost(entry))
            self.value(table["query_node"], scope)
            scope |= {str(entry["key"]).lower()}
        return scope

    def _inside(self, node: Node, scope: Scope) -> Iterator[Any]:
        kind, type_ = node.get("class"), node.get("type")
        if kind is not None:
            self._expression(node, str(kind))
        elif type_ == "TABLE_FUNCTION":
            self._search(node)
            return
        elif type_ == "BASE_TABLE":
            self._table(node, scope)
        elif isinstance(type_, str) and type_ not in _QUERIES | _SOURCES | _PARTS:
            raise Refusal(f"{_NAMES.get(type_, f'{type_} is')} not allowed.", leftmost(node))
        yield from (part for name, part in node.items() if name not in ("cte_map", "sample", "qualified_name"))

    def _expression(self, node: Node, kind: str) -> None:
        if kind not in _EXPRESSIONS or (kind == "OPERATOR" and node["type"] not in _OPERATORS):
            told = _NAMES.get(kind, f"{node.get('type')} is")
            raise Refusal(f"{told} not allowed.", leftmost(node))
        if kind in ("FUNCTION", "WINDOW"):
            _check_function(node)
        if kind == "COLUMN_REF" and str(node["column_names"][-1]).lower() == EMBEDDING:
            self.embedding = True

    def _table(self, node: Node, scope: Scope) -> None:
        name = str(node["table_name"])
        qualified = node.get("schema_name") or node.get("catalog_name") or node.get("at_clause")
        if not qualified and name.lower() in scope:
            return
        if qualified or name.lower() not in TABLES:
            near = get_close_matches(name.lower(), TABLES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise Refusal(f"no table is called {name!r}.{hint}", location(node))
        self.tables.add(name.lower())

    def _search(self, node: Node) -> None:
        function = node["function"]
        name = str(function.get("function_name", "")).lower()
        if name != "search" or function.get("schema") or function.get("catalog"):
            raise Refusal(f"the table function {name!r} is not allowed.", leftmost(node))
        self.searches[_read_search(function)] = None
        if len(self.searches) > MAX_SEARCHES:
            raise Refusal(f"there are more than {MAX_SEARCHES} searches.", leftmost(node))


def _check_function(node: Node) -> None:
    name = str(node["function_name"]).lower()
    if name not in SQL_FUNCTIONS or node.get("schema") or node.get("catalog"):
        near = get_close_matches(name, [known for known in SQL_FUNCTIONS if known.isidentifier()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise Refusal(f"the function {name!r} is not allowed.{hint}", leftmost(node))


def _read_search(function: Node) -> Search:
    wrong = Refusal(
        f"search takes words in quotes and a number from 1 to {MAX_K:,}, as in search('a dog', 5).", leftmost(function)
    )
    arguments = function["arguments"]
    if not 1 <= len(arguments) <= 2 or any(a["name"] or a["expression"]["class"] != "CONSTANT" for a in arguments):
        raise wrong
    literals = [argument["expression"]["literal"] for argument in arguments]
    kinds = [literal["kind"] for literal in literals]
    if kinds not in (["STRING"], ["STRING", "INTEGER"]):
        raise wrong
    k = int(literals[1]["text"]) if len(literals) == 2 else DEFAULT_K
    if not 1 <= k <= MAX_K or not literals[0]["text"].strip():
        raise wrong
    return Search(str(literals[0]["text"]), k)
