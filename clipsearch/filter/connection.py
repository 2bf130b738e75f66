"""A DuckDB that can compute and nothing else.

Every call makes a new one, in memory: some milliseconds, and then no state outlives a statement, threads share
nothing, and a forked process finds no half-used connection. Files, network, extensions and Python's variables are out
of reach, and the configuration is locked before a user's text comes near. A timer stops what takes too long.

What DuckDB says goes wrong is translated here: its exceptions do not leave the room.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from clipsearch.errors import InputError
from clipsearch.filter.tree import CONNECTION_OPTIONS, refused_by_duckdb

MEMORY_LIMIT = "1GB"
_LOCKED: dict[str, Any] = {  # Any: texts, numbers, truth values
    "threads": 1,
    "memory_limit": MEMORY_LIMIT,
    "max_temp_directory_size": "0B",
    "enable_external_access": False,
    "allow_community_extensions": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    **CONNECTION_OPTIONS,
}
Tables = Mapping[str, Any]  # name → Arrow table; Any: this room does not import pyarrow


class Stopped(InputError):
    """The time was up."""


@contextmanager
def locked_down() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection; ``seal`` it before it meets a user's text."""
    connection = duckdb.connect(":memory:", config=_LOCKED)
    try:
        yield connection
    finally:
        connection.close()


def seal(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """Put tables in, and lock the configuration behind them."""
    for name, table in tables.items():
        connection.register(name, table)
    connection.execute("SET lock_configuration = true").fetchall()


@contextmanager
def limited(connection: duckdb.DuckDBPyConnection, seconds: float, called: str, before: int = 0) -> Iterator[None]:
    """Run for so long; what DuckDB finds wrong becomes a ``Refusal``, running out of time or memory an InputError.

    ``before`` is the number of bytes that stand before the statement in what runs.

    Raises:
        Stopped: it took longer.
        InputError: it needs more memory than the limit.
        Refusal: DuckDB does not accept it.
    """
    late = threading.Event()

    def stop() -> None:
        late.set()
        with suppress(duckdb.Error):  # closed in this very moment
            connection.interrupt()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (duckdb.Error, OSError, RuntimeError, UnicodeError) as problem:  # OSError: from an Arrow stream
        if late.is_set():
            raise Stopped(f"The {called} took longer than {seconds:g} s and was stopped. Make it simpler.") from None
        if isinstance(problem, duckdb.OutOfMemoryException) or "Out of Memory" in str(problem):
            raise InputError(f"The {called} needs more than {MEMORY_LIMIT} of memory. Make it simpler.") from None
        raise refused_by_duckdb(problem, before) from None
    finally:
        timer.cancel()
