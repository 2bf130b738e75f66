"""The DuckDB that filters share: apart from each other, ready in a forked process, and nothing heavy beside it."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from filter_rows import COLUMNS, ROWS, arrow

from clipsearch.errors import FilterSyntaxError
from clipsearch.filter.connection import Engine
from clipsearch.filter.mask import allowed_ids

REPOSITORY = str(Path(__file__).parents[3])


def test_filters_at_the_same_time_each_see_their_own_rows():
    engine = Engine().start()
    tables = [arrow([{"id": 10 * n + i, "width": i} for i in range(5)]) for n in range(8)]

    def ask(number):
        table = tables[number % 8]
        return allowed_ids("width >= 2", COLUMNS, lambda: table, engine=engine).ids.tolist()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(80)))
    assert answers == [[10 * (n % 8) + i for i in (2, 3, 4)] for n in range(80)]


def test_a_filter_finds_nothing_of_the_one_before_it():
    engine = Engine()
    allowed_ids("width > 1", COLUMNS, lambda: arrow(ROWS), engine=engine)
    with engine.connection() as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("SELECT * FROM images")


def test_the_configuration_is_locked():
    with Engine().connection() as connection, pytest.raises(duckdb.Error, match="locked"):
        connection.execute("SET threads = 2")


def test_after_a_refusal_and_a_timeout_the_next_filter_runs():
    engine = Engine()
    for wrong in ("width >", "width > taken", "widht > 1", "CAST(name AS INTEGER) > 1"):
        with pytest.raises(FilterSyntaxError, match="position"):
            allowed_ids(wrong, COLUMNS, lambda: arrow(ROWS), engine=engine)
    assert len(allowed_ids("width > 1", COLUMNS, lambda: arrow(ROWS), engine=engine).ids) == 4


def test_only_columns_that_a_filter_names_are_handed_over():
    names = ("Width > 1 AND camera LIKE 'C%'", {"width", "camera"}), ("1 = 1", set()), ("ID > 3", {"id"})
    for text, columns in names:
        assert allowed_ids(text, COLUMNS, lambda: arrow(ROWS)).expression.columns == columns


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_filters_on():
    code = """
        import os, sys
        sys.path[:0] = sys.argv[1:]
        from filter_rows import COLUMNS, ROWS, arrow
        from clipsearch.filter.connection import Engine
        from clipsearch.filter.mask import allowed_ids
        engine = Engine()
        ask = lambda: len(allowed_ids("width > 1", COLUMNS, lambda: arrow(ROWS), engine=engine).ids)
        assert ask() == 4
        child = os.fork()
        if child == 0:
            sys.exit(0 if ask() == 4 else 1)  # not os._exit: all is taken down, also what was inherited
        assert os.waitpid(child, 0)[1] == 0 and ask() == 4
    """
    done = run(code)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_the_filters_that_run():
    code = """
        import os, sys, threading, time, warnings
        sys.path[:0] = sys.argv[1:]
        warnings.simplefilter("ignore")
        from filter_rows import COLUMNS, ROWS, arrow
        from clipsearch.filter.connection import Engine
        from clipsearch.filter.mask import allowed_ids
        engine, answers, table = Engine(), [], arrow(ROWS)
        def work():
            while len(answers) < 60:
                answers.append(len(allowed_ids("width > 1", COLUMNS, lambda: table, engine=engine).ids))
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            child = os.fork()
            if child == 0:
                os._exit(0 if len(allowed_ids("width > 1", COLUMNS, lambda: table, engine=engine).ids) == 4 else 1)
            assert os.waitpid(child, 0)[1] == 0
        for thread in threads:
            thread.join()
        assert set(answers) == {4}
    """
    done = run(code)
    assert done.returncode == 0 and done.stderr == ""


def test_a_filter_leaves_pandas_alone_and_the_process_ends_quietly():
    code = """
        import sys
        sys.path[:0] = sys.argv[1:]
        import pyarrow as pa
        from clipsearch.filter.connection import Engine
        from clipsearch.filter.mask import allowed_ids
        ids = pa.Array.from_buffers(pa.int64(), 2, [None, pa.py_buffer(bytes(8) + b"\\1" + bytes(7))])
        table = pa.Table.from_arrays([ids], names=["id"])
        engine = Engine().start()
        found = allowed_ids("id > 0", ["id"], lambda: table, engine=engine)
        assert found.ids.tolist() == [1]
        assert "pandas" not in sys.modules, "pandas"
    """
    done = run(code)
    assert done.returncode == 0 and done.stderr == ""


def run(code):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
    return subprocess.run(
        [*command, REPOSITORY, f"{REPOSITORY}/tests"], capture_output=True, text=True, check=False, timeout=60
    )
