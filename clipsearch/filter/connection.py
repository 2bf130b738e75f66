"""A DuckDB that can compute and nothing else.

It lies in memory. Files, network, extensions and Python's variables are out of reach, and the configuration is locked
before a user's text comes near. A timer stops what takes too long.

Starting one takes 20 to 30 ms, longer than most filters run. A SELECT, which may define and hold what it likes, has
one to itself all the same (``locked_down``). Filters can hold nothing: each has a connection to itself, with its own
tables, and the DuckDB behind it stays (``Engine``).

What DuckDB says goes wrong is translated here: its exceptions do not leave the room.
"""

import atexit
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
FILTER_THREADS = 2  # a text looked for in a million paths takes 20 ms then, not 40
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

    DuckDB has threads, which a forked process has not, and must not outlive Python. So it is taken down before a fork,
    when the filters that run have ended, and at the end of the process; the next filter starts another.
    """

    def __init__(self) -> None:
        self._database: duckdb.DuckDBPyConnection | None = None
        self._users = 0
        self._down = False
        self._free = threading.Condition()  # guards them all; held to start and to take down, not while a filter runs
        _ENGINES.add(self)

    def start(self) -> "Engine":
        """Begin to start in the background; whoever asks for a connection waits for it."""
        threading.Thread(target=self._try, daemon=True).start()
        return self

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection, sealed."""
        with self._free:
            self._free.wait_for(lambda: not self._down)
            connection = self._ready().cursor()
            self._users += 1
        try:
            yield connection
        finally:
            connection.close()
            with self._free:
                self._users -= 1
                self._free.notify_all()

    def _try(self) -> None:
        with suppress(duckdb.Error), self._free:  # told to the one who asks for a connection, and tries again
            self._ready()

    def _ready(self) -> duckdb.DuckDBPyConnection:
        if self._database is None:
            self._database = duckdb.connect(":memory:", config={**_LOCKED, "threads": FILTER_THREADS})
            seal(self._database, {})
            _practise(self._database)
        return self._database

    def take_down(self, patience: float) -> None:
        """Close when no filter runs, or after so many seconds leave it; no filter starts until ``go_on``."""
        self._free.acquire()
        self._down = True
        if self._free.wait_for(lambda: not self._users, patience) and self._database is not None:
            self._database.close()
            self._database = None

    def go_on(self) -> None:
        """Let filters start again."""
        self._down = False
        self._free.notify_all()
        self._free.release()


def _practise(connection: duckdb.DuckDBPyConnection) -> None:
    """Go once through what a filter goes through; the first time takes 7 ms, and nobody waits for it here."""
    trial = "SELECT id FROM (VALUES (1::BIGINT, 'a')) images(id, name) WHERE name LIKE 'a%' AND id > 0"
    connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [trial]).fetchall()
    connection.sql(trial).to_arrow_table()


_ENGINES: "weakref.WeakSet[Engine]" = weakref.WeakSet()
_PATIENCE = 10.0  # a filter is stopped after 5 s


def _take_all_down(patience: float = _PATIENCE) -> None:
    _DOWN.extend(_ENGINES)
    for engine in _DOWN:
        engine.take_down(patience)


def _go_on() -> None:
    while _DOWN:
        _DOWN.pop().go_on()


_DOWN: list[Engine] = []  # between the two
atexit.register(_take_all_down, 0.0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_all_down, after_in_parent=_go_on, after_in_child=_go_on)


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
