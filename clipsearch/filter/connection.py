"""A DuckDB that can compute and nothing else.

It lies in memory. Files, network, extensions and Python's variables are out of reach, and the configuration is locked
before a user's text comes near. A timer stops what takes too long.

Starting one takes 10 to 20 ms, longer than most filters run. A SELECT, which may define and hold what it likes, has
one to itself all the same (``locked_down``). Filters can hold nothing: each has a connection to itself, with its own
tables, and the DuckDB behind it stays (``Engine``).

What DuckDB says goes wrong is translated here: its exceptions do not leave the room.
"""

import os
import threading
import weakref
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


class Engine:
    """A DuckDB for any number of filters, from any number of threads, each on a connection of its own.

    A forked process makes itself another: in the inherited one a lock may be held by a thread that is not there.
    """

    def __init__(self) -> None:
        self._made: tuple[int, duckdb.DuckDBPyConnection] | None = None  # process, connection
        self._inherited: list[Any] = []  # kept, for closing it could wait for such a lock; Any: never touched
        self._starting: threading.Thread | None = None

    def start(self) -> "Engine":
        """Begin to start in the background; whoever asks for a connection first waits for it."""
        self._starting = threading.Thread(target=self._try, daemon=True)
        self._starting.start()
        return self

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection, sealed."""
        connection = self._ready().cursor()
        try:
            yield connection
        finally:
            connection.close()

    def _ready(self) -> duckdb.DuckDBPyConnection:
        """Return the DuckDB. Two threads may both make one; one of the two is kept."""
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.join()
        made = self._made
        if made is None or made[0] != os.getpid():
            self._inherited.append(made)
            made = self._made = self._make()
        return made[1]

    def _try(self) -> None:
        with suppress(duckdb.Error):  # told to the one who asks for a connection, and tries again
            self._made = self._make()

    def _make(self) -> tuple[int, duckdb.DuckDBPyConnection]:
        database = duckdb.connect(":memory:", config=_LOCKED)
        seal(database, {})
        weakref.finalize(self, _close, os.getpid(), database)  # at the latest before Python itself is taken down
        return os.getpid(), database


def _close(process: int, database: duckdb.DuckDBPyConnection) -> None:
    if process == os.getpid():
        database.close()


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
