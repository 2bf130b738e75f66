"""A filter's answer: the ids of the rows that it lets pass, and a small memory of such answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from clipsearch.filter.connection import Engine, limited
from clipsearch.filter.expression import Expression, check_expression, filter_source
from clipsearch.filter.tree import Refusal
from clipsearch.types import Ints

SECONDS = 5.0
EXPLAIN = "EXPLAIN "


@dataclass(frozen=True, slots=True)
class Mask:
    """Row ids (n,) int64, ascending, that a filter lets pass; the filter, and whether it may be remembered."""

    ids: Ints
    expression: Expression


class MaskCache:
    """The last answers, by the filter as given and by the filter as understood.

    For one version of a collection: its rows do not change, so an answer stays true. Its owner takes care that one
    thread at a time is inside.
    """

    def __init__(self, limit: int = 32, budget_bytes: int = 128 * 2**20) -> None:
        self._limit, self._budget = limit, budget_bytes
        self._keys: dict[str, str] = {}  # text → key
        self._masks: dict[str, Mask] = {}  # key → answer, least recently used first

    def get(self, text: str) -> Mask | None:
        """Return the answer to a filter, given by its text or by its key."""
        key = self._keys.get(text, text)
        mask = self._masks.pop(key, None)
        if mask is not None:
            self._masks[key] = mask
        return mask

    def put(self, text: str, mask: Mask) -> None:
        """Remember an answer, and forget the oldest ones where there are too many."""
        if not mask.expression.lasting or mask.ids.nbytes > self._budget:
            return
        key = mask.expression.key
        self._masks.pop(key, None)
        self._masks[key] = mask
        while len(self._masks) > self._limit or sum(m.ids.nbytes for m in self._masks.values()) > self._budget:
            del self._masks[next(iter(self._masks))]
        self._keys[text] = key
        recent = list(self._keys.items())[-4 * self._limit :]
        self._keys = {spelling: meant for spelling, meant in recent if meant in self._masks}


def allowed_ids(
    text: str,
    columns: Sequence[str],
    table: Callable[[], Any],  # Any: an Arrow table, which this room does not import
    *,
    engine: Engine | None = None,
    known: Callable[[str], Mask | None] = lambda key: None,
    seconds: float = SECONDS,
) -> Mask:
    """Return the ids of the rows for which a filter is true; not of those for which it is false or NULL.

    Args:
        text: the filter, such as ``width > 2000 AND camera LIKE 'Canon%'``.
        columns: names of the columns that it may use.
        table: gives the rows: an Arrow table with ``columns``, ``id`` among them. Asked for once the filter passed;
            only the columns that the filter names are looked at.
        engine: where it runs; None starts one for this filter.
        known: gives the answer to a filter of that key, where it is remembered.
        seconds: time it may take.

    Raises:
        FilterSyntaxError: it is not one boolean expression over the columns.
        InputError: it took too long, or needs too much memory.
    """
    source = filter_source(text, columns)
    with (engine or Engine()).connection() as connection:
        try:
            expression = check_expression(connection, source, columns)
            return known(expression.key) or Mask(_run(connection, expression, table(), seconds), expression)
        except Refusal as problem:
            raise source.error(problem) from None


class _Stream:
    """An Arrow table that DuckDB reads as it lies, instead of asking Arrow to filter it first."""

    def __init__(self, table: Any) -> None:  # Any: as above
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:  # Any: capsules
        return self._table.__arrow_c_stream__(requested_schema)


def _run(connection: Any, expression: Expression, table: Any, seconds: float) -> Ints:  # Any: as above
    connection.register("images", _Stream(table.select(sorted({"id", *expression.columns}))))
    statement = expression.source.statement
    with limited(connection, seconds, "filter", len(EXPLAIN)):
        try:
            relation = connection.sql(statement)
        except duckdb.Error:  # of a wrong name or type it does not tell the place; this does
            connection.execute(EXPLAIN + statement).fetchall()
            raise
    with limited(connection, seconds, "filter"):
        chunks = relation.to_arrow_table().column("id").chunks
    # not ``to_numpy``: that would make Arrow import pandas where it is installed, which takes half a second
    ids = np.concatenate([np.empty(0, np.int64), *(np.from_dlpack(chunk) for chunk in chunks)], dtype=np.int64)
    ids = ids if (ids[1:] > ids[:-1]).all() else np.sort(ids)
    ids.flags.writeable = False  # it is shared
    return ids
