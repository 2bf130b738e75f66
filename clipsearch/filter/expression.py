"""Is it one scalar boolean expression over known columns?

The expression is read as the WHERE clause of a SELECT, without brackets around it: so a bracket that closes too early
is a syntax error, and ORDER BY, UNION or a second statement show in the tree as what they are. Then every node must be
of a listed class, with listed names, and with nothing in those fields that a listed node has no use for.

    width > 2000 AND camera LIKE 'Canon%'

    CONJUNCTION_AND
    ├── COMPARE_GREATERTHAN   COLUMN_REF width · CONSTANT 2000
    └── FUNCTION ~~           COLUMN_REF camera · CONSTANT 'Canon%'
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from clipsearch.filter.allowed import BOOLEAN_COLUMNS, CONDITIONS, FILTER_FUNCTIONS, FILTER_HELP, FILTER_TYPES, NOW
from clipsearch.filter.tree import Node, Refusal, Source, leftmost, location, parse, unplaced

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_LENGTH = 20_000
_BEFORE = "SELECT id FROM images WHERE\n"

_COMPARISONS = {
    *("COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN", "COMPARE_LESSTHANOREQUALTO"),
    *("COMPARE_GREATERTHANOREQUALTO", "COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM"),
}
_CONDITION_OPERATORS = {"OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "COMPARE_IN", "COMPARE_NOT_IN"}
_LITERALS = {"STRING", "INTEGER", "NUMERIC", "BOOLEAN", "NULL_LITERAL"}
# Fields that a node of each class may use; all its others must be empty.
_PLACE = {"class", "type", "query_location", "query_location_length"}
_FIELDS = {
    "COLUMN_REF": {"column_names"},
    "CONSTANT": {"literal"},
    "COMPARISON": {"left", "right"},
    "CONJUNCTION": {"children"},
    "BETWEEN": {"input", "lower", "upper"},
    "OPERATOR": {"children"},
    "CAST": {"child", "try_cast", "type_expr"},
    "TYPE": {"type_name", "qualified_name"},
    "FUNCTION": {"function_name", "is_operator", "arguments", "qualified_name"},
}
_STATEMENT = {"type", "select_list", "from_table", "where_clause", "aggregate_handling"}
_NAMES = {
    "SUBQUERY": "a subquery",
    "PARAMETER": "a parameter",
    "STAR": "a star",
    "WINDOW": "a window function",
    "LAMBDA": "a lambda",
    "CASE": "CASE",
    "COLLATE": "COLLATE",
    "POSITIONAL_REFERENCE": "a column by its number",
    "DEFAULT": "DEFAULT",
}
_CLAUSES = {
    "modifiers": "ORDER BY, LIMIT or DISTINCT",
    "cte_map": "WITH",
    "group_expressions": "GROUP BY",
    "group_sets": "GROUP BY",
    "having": "HAVING",
    "qualify": "QUALIFY",
    "sample": "SAMPLE",
}


@dataclass(frozen=True, slots=True)
class Expression:
    """A filter that passed.

    Attributes:
        source: its text and the statement to run.
        key: equal for two spellings of the same filter.
        lasting: its answer stays the same as long as the rows do; not so where it names today's date.
        columns: names of the columns that it reads.
    """

    source: Source
    key: str
    lasting: bool
    columns: frozenset[str]


def filter_source(text: str, columns: Sequence[str]) -> Source:
    """Return a filter's text with what is needed to run it and to complain of it."""
    return Source(text, _BEFORE, "filter", f"Columns: {', '.join(columns)}.\nAllowed: {FILTER_HELP}")


def check_expression(connection: "DuckDBPyConnection", source: Source, columns: Sequence[str]) -> Expression:
    """Return the filter, if it is one scalar boolean expression over ``columns``.

    Raises:
        Refusal: it is not.
    """
    source.check_text(MAX_LENGTH)
    node = parse(connection, source)
    if node.get("type") != "SELECT_NODE":
        raise Refusal("a second SELECT is not allowed in a filter.", leftmost(node))
    for field, value in node.items():
        if field not in _STATEMENT and not _is_empty(value):
            raise Refusal(f"{_CLAUSES.get(field, field)} is not allowed in a filter.", leftmost({"": value}))
    condition = node["where_clause"]
    walk = _Walk(columns)
    walk.node(condition)
    check_condition(condition)
    return Expression(source, unplaced(condition), walk.lasting, frozenset(walk.used))


def _is_empty(value: Any) -> bool:  # Any: a field of a node
    if isinstance(value, dict):
        return value.get("type") in (None, "ORDER_MODIFIER") and all(
            _is_empty(part) for name, part in value.items() if name != "type"
        )
    return value is None or value is False or value in ("", [])


class _Walk:
    """Look at every node of an expression."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._known = {name.lower(): name for name in columns}
        self.lasting = True
        self.used: set[str] = set()
        self._checks: dict[str, Callable[[Node], Iterable[Node]]] = {
            "COLUMN_REF": self._column,
            "CONSTANT": self._constant,
            "COMPARISON": self._comparison,
            "CONJUNCTION": lambda node: node["children"],
            "BETWEEN": lambda node: (node["input"], node["lower"], node["upper"]),
            "OPERATOR": self._operator,
            "CAST": self._cast,
            "FUNCTION": self._function,
        }

    def node(self, node: Node) -> None:
        """Refuse a node, or what is inside it."""
        kind = str(node.get("class"))
        if kind not in self._checks:
            raise Refusal(f"{_NAMES.get(kind, kind)} is not allowed in a filter.", leftmost(node))
        try:
            _check_fields(node)
            inside = list(self._checks[kind](node))
        except (KeyError, TypeError, AttributeError):  # a tree of a shape that this code does not know
            raise Refusal(f"{kind} is not understood there.", leftmost(node)) from None
        for part in inside:
            self.node(part)

    def _column(self, node: Node) -> Iterable[Node]:
        names = node["column_names"]
        name = ".".join(names)
        if len(names) == 1 and name.lower() in NOW:
            self.lasting = False
        elif len(names) != 1 or name.lower() not in self._known:
            raise Refusal(unknown_column(name, self._columns), location(node))
        else:
            self.used.add(self._known[name.lower()])
        return ()

    def _constant(self, node: Node) -> Iterable[Node]:
        if node["literal"]["kind"] not in _LITERALS:
            raise Refusal("a constant of that kind is not allowed in a filter.", location(node))
        return ()

    def _comparison(self, node: Node) -> Iterable[Node]:
        if node["type"] not in _COMPARISONS:
            raise Refusal(f"{node['type']} is not allowed in a filter.", location(node))
        return node["left"], node["right"]

    def _operator(self, node: Node) -> Iterable[Node]:
        if node["type"] not in _CONDITION_OPERATORS | {"OPERATOR_COALESCE"}:
            shown = {"ARRAY_EXTRACT": "[ ]", "ARRAY_SLICE": "[ : ]", "OPERATOR_TRY": "TRY"}.get(node["type"])
            raise Refusal(f"{shown or node['type']} is not allowed in a filter.", location(node))
        return node["children"]

    def _cast(self, node: Node) -> Iterable[Node]:
        target = node["type_expr"]
        _check_fields(target)
        if str(target["type_name"]).upper() not in FILTER_TYPES or len(target["qualified_name"]["path"]) != 1:
            raise Refusal(f"no cast to the type {target['type_name']!r} is allowed in a filter.", location(node))
        return (node["child"],)

    def _function(self, node: Node) -> Iterable[Node]:
        name = str(node["function_name"]).lower()
        if name not in FILTER_FUNCTIONS or len(node["qualified_name"]["path"]) != 1:
            near = get_close_matches(name, [known for known in FILTER_FUNCTIONS if known.isidentifier()], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise Refusal(f"the function {name!r} is not allowed in a filter.{hint}", location(node))
        if any(argument["name"] for argument in node["arguments"]):
            raise Refusal(f"{name} takes no argument by its name.", location(node))
        self.lasting &= name != "today"
        return [argument["expression"] for argument in node["arguments"]]


def _check_fields(node: Node) -> None:
    allowed = _PLACE | _FIELDS[node["class"]]
    for field, value in node.items():
        if field not in allowed and not _is_empty(value):
            raise Refusal(f"{field.replace('_', ' ')} is not allowed there.", leftmost(node))


def unknown_column(name: str, columns: Sequence[str]) -> str:
    """Return the sentence on a column that is not there."""
    near = get_close_matches(name.lower(), columns, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else " A text stands in single quotes."
    return f"no column is called {name!r}.{hint}"


def check_condition(node: Node) -> None:
    """Refuse what is a value and not a condition.

    Raises:
        Refusal: it is neither true nor false, as ``width`` or ``width + 1``.
    """
    kind, parts = node["class"], []
    if kind == "CONJUNCTION" or node["type"] in ("OPERATOR_NOT", "OPERATOR_COALESCE"):
        parts = node["children"]
    elif not _answers(node):
        raise Refusal("that is a value, not a condition; compare it with something.", leftmost(node))
    for part in parts:
        check_condition(part)


def _answers(node: Node) -> bool:
    kind = node["class"]
    if kind == "CONSTANT":
        return node["literal"]["kind"] in ("BOOLEAN", "NULL_LITERAL")
    if kind == "CAST":
        return str(node["type_expr"]["type_name"]).upper() in ("BOOLEAN", "BOOL")
    if kind == "COLUMN_REF":
        return ".".join(node["column_names"]).lower() in BOOLEAN_COLUMNS
    if kind == "FUNCTION":
        return str(node["function_name"]).lower() in CONDITIONS
    return kind in ("COMPARISON", "BETWEEN") or node["type"] in _CONDITION_OPERATORS
