"""Run one SELECT over the collection's tables and give back its rows, column by column."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipsearch.errors import InputError
from clipsearch.filter.connection import limited, locked_down, seal
from clipsearch.filter.statement import DEFAULT_K, Search, Statement, check_statement, statement_source
from clipsearch.filter.tree import Refusal

SECONDS = 60.0
MAX_BYTES = 2**30
BATCH_ROWS = 10_000

# What search('words', k) stands for: the rows that were found before the statement ran. The odd names keep out of the
# way of the statement's own.
_SEARCH = (
    f"CREATE MACRO search(_words, _k := {DEFAULT_K}) AS TABLE "
    "SELECT id, rank, score FROM _found WHERE _asked_words = _words AND _asked_k = _k ORDER BY rank"
)
_EXPLAIN = "EXPLAIN "
FOUND_COLUMNS = ("_asked_words", "_asked_k", "id", "rank", "score")


@dataclass(frozen=True, slots=True)
class SqlResult:
    """The rows of a SELECT.

    Attributes:
        columns: names, as the statement gives them.
        types: DuckDB's types, such as BIGINT.
        schema: Arrow schema; ``batches``: Arrow record batches. Any reader of Arrow takes them.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    schema: Any  # Any: this room does not import pyarrow
    batches: Sequence[Any]

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as tuples of Python values."""
        for batch in self.batches:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def run_select(
    text: str,
    tables: Callable[[Statement], Mapping[str, Any]],  # Any: Arrow tables
    *,
    seconds: float = SECONDS,
    max_bytes: int = MAX_BYTES,
) -> SqlResult:
    """Run a SELECT.

    Args:
        text: the statement.
        tables: gives what a statement that passed needs: Arrow tables by name. ``_found`` has the rows of all its
            searches, see ``FOUND_COLUMNS``; it is needed where there are any.
        seconds: time it may take.
        max_bytes: size that its answer may have.

    Raises:
        FilterSyntaxError: it is not one SELECT over the collection's tables.
        InputError: it took too long, needs too much memory, or answers too much.
    """
    source = statement_source(text)
    with locked_down() as connection:
        try:
            statement = check_statement(connection, source)
            found = tables(statement)
            if "_found" in found:
                connection.register("_found", found["_found"])
                connection.execute(_SEARCH).fetchall()
            seal(connection, {name: table for name, table in found.items() if name != "_found"})
            # Look up names and types first: ``sql`` below would not tell the place of a mistake.
            with limited(connection, seconds, "statement", len(_EXPLAIN)):
                connection.execute(_EXPLAIN + source.statement).fetchall()
            with limited(connection, seconds, "statement"):
                return _collect(connection.sql(source.statement), max_bytes)
        except Refusal as problem:
            raise source.error(problem) from None


def _collect(relation: Any, max_bytes: int) -> SqlResult:  # Any: a DuckDB relation, whose stub lacks its methods
    columns, types = tuple(relation.columns), tuple(str(type_) for type_ in relation.types)
    reader = relation.to_arrow_reader(BATCH_ROWS)
    batches, size = [], 0
    for batch in reader:
        size += batch.nbytes
        if size > max_bytes:
            raise InputError(
                f"The answer is larger than {max_bytes / 2**20:,.0f} MB. Add LIMIT, or select fewer columns."
            )
        batches.append(batch)
    return SqlResult(columns, types, reader.schema, batches)


__all__ = ["FOUND_COLUMNS", "Search", "SqlResult", "Statement", "run_select"]
