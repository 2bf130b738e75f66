"""The metadata as tables: what columns there are, and SQL over them with ``search('words', k)`` as a table."""

from collections.abc import Callable
from typing import Any

import numpy as np

from clipsearch.filter.describe import ColumnInfo, describe
from clipsearch.filter.select import FOUND_COLUMNS, Search, SqlResult, Statement, run_select
from clipsearch.store import Snapshot
from clipsearch.types import SearchResult

__all__ = ["ColumnInfo", "SqlResult", "columns", "save_parquet", "sql"]

KINDS = {"images": "images", "captions": "texts"}  # table of a statement → rows of the collection
Ask = Callable[[str, int], SearchResult]


def columns(snapshot: Snapshot) -> list[ColumnInfo]:
    """Return what filters can name, and how many images have a value there."""
    return describe(snapshot.metadata_table())


def sql(snapshot: Snapshot, statement: str, ask: Ask, *, seconds: float) -> SqlResult:
    """Run one SELECT over ``images``, ``captions`` and ``search('words', k)``.

    Args:
        snapshot: the version to read.
        statement: the SELECT.
        ask: answers one search with its best images, from the same version.
        seconds: time that the statement may take; its searches come first and do not count.

    Raises:
        FilterSyntaxError: it is not one SELECT over those tables.
        InputError: it took too long, needs too much memory, or answers too much.
    """

    def tables(needed: Statement) -> dict[str, Any]:  # Any: Arrow tables, which corridors do not import
        read = snapshot.table_with_embeddings if needed.embedding else snapshot.metadata_table
        found = {name: read(kind) for name, kind in KINDS.items() if name in needed.tables}
        if needed.searches:
            found["_found"] = _found(needed.searches, ask)
        return found

    return run_select(statement, tables, seconds=seconds)


def _found(searches: tuple[Search, ...], ask: Ask) -> Any:  # Any: an Arrow table
    from clipsearch.store.metadata import table_of

    results = [ask(search.words, search.k) for search in searches]
    counts = [len(result) for result in results]
    values = (
        [search.words for search, n in zip(searches, counts, strict=True) for _ in range(n)],
        np.repeat([search.k for search in searches], counts),
        np.concatenate([result.ids for result in results]),
        np.concatenate([np.arange(1, n + 1) for n in counts]),
        np.concatenate([result.scores for result in results]),
    )
    return table_of(dict(zip(FOUND_COLUMNS, values, strict=True)))


def save_parquet(result: SqlResult, path: str) -> None:
    """Write the rows of a statement as a Parquet file.

    Raises:
        OSError: it cannot be written.
        ValueError: a column has a type that Parquet does not know.
    """
    from clipsearch.store.metadata import write_parquet

    write_parquet(path, result.schema, result.batches)
