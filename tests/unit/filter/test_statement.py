"""SQL over the metadata: what runs, what is refused, and how search stands as a table."""

import pyarrow as pa
import pytest
from filter_rows import ROWS, arrow

from clipsearch.errors import FilterSyntaxError, InputError
from clipsearch.filter import connection
from clipsearch.filter.select import FOUND_COLUMNS, run_select
from clipsearch.filter.statement import Search

IMAGES = arrow(ROWS)
CAPTIONS = pa.table({"id": [20, 21, 22], "image_id": [3, 3, 8], "text": ["a dog", "two dogs", "a cat"]})
FOUND = [("a dog", 2, 8, 1, 0.5), ("a dog", 2, 3, 2, 0.25), ("a dog", 10, 5, 1, 0.5), ("it's", 2, 13, 1, 0.75)]


@pytest.fixture
def needed():
    return []


@pytest.fixture
def sql(needed):
    def tables(statement):
        needed.append(statement)
        found = {"images": IMAGES, "captions": CAPTIONS}
        if statement.searches:
            found["_found"] = pa.table(dict(zip(FOUND_COLUMNS, zip(*FOUND, strict=True), strict=True)))
        return found

    return lambda text, **how: run_select(text, tables, **how)


ORDINARY = [
    ("SELECT count(*) FROM images", [(4,)]),
    ("FROM images SELECT id ORDER BY id DESC LIMIT 1", [(13,)]),
    ("SELECT format, count(*) AS n FROM images GROUP BY format HAVING n > 1", [("jpeg", 2)]),
    ("SELECT i.id FROM images i JOIN captions c ON c.image_id = i.id GROUP BY ALL ORDER BY 1", [(3,), (8,)]),
    ("SELECT name FROM images, captions WHERE image_id = images.id AND text = 'a cat'", [("ç 100%.png",)]),
    ("WITH big AS (SELECT * FROM images WHERE width > 3000) SELECT count(*) FROM big", [(2,)]),
    ("WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT y FROM b", [(2,)]),
    ("SELECT max(x) FROM (SELECT width AS x FROM images)", [(4000,)]),
    ("SELECT id FROM images WHERE id IN (SELECT image_id FROM captions) ORDER BY id", [(3,), (8,)]),
    ("SELECT 1 UNION ALL SELECT 2", [(1,), (2,)]),
    ("SELECT row_number() OVER (ORDER BY width) FROM images LIMIT 1", [(1,)]),
    ("SELECT id FROM images QUALIFY rank() OVER (ORDER BY width DESC) = 1", [(3,)]),
    ("SELECT CASE WHEN width > 3500 THEN 'large' ELSE 'small' END FROM images WHERE id = 3", [("large",)]),
    ("SELECT * EXCLUDE (image_id) FROM captions WHERE id = 20", [(20, "a dog")]),
    ("SELECT DISTINCT year(taken) FROM images WHERE taken IS NOT NULL ORDER BY ALL", [(2023,), (2024,)]),
    ("SELECT string_agg(name, ', ' ORDER BY name) FROM images WHERE format = 'jpeg'", [("a.jpg, b.JPG",)]),
    ("SELECT * FROM search('a dog', 2)", [(8, 1, 0.5), (3, 2, 0.25)]),
    ("SELECT * FROM search('a dog')", [(5, 1, 0.5)]),
    ("SELECT name FROM search('it''s', 2) JOIN images USING (id)", [("d.heic",)]),
    ("SELECT a.id FROM search('a dog', 2) a JOIN search('a dog') b ON a.rank = b.rank", [(8,)]),
    ("VALUES (1), (2)", [(1,), (2,)]),
    ("SELECT 1; -- the end", [(1,)]),
]


@pytest.mark.parametrize(("text", "expected"), ORDINARY, ids=[text for text, _ in ORDINARY])
def test_an_ordinary_statement_gives_its_rows(sql, text, expected):
    assert list(sql(text)) == expected


HOSTILE = [
    "SELECT * FROM read_csv('secret.txt')",
    "SELECT * FROM read_text('secret.txt')",
    "SELECT * FROM read_blob('secret.txt')",
    "SELECT * FROM 'secret.txt'",
    "SELECT * FROM 'secret.csv'",
    "SELECT * FROM glob('*')",
    "SELECT * FROM sniff_csv('secret.txt')",
    "SELECT * FROM parquet_metadata('secret.txt')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('images')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_settings",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM pragma_database_list()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM main.images",
    "SELECT * FROM memory.main.images",
    "SELECT * FROM _found",
    "SELECT * FROM NEEDED",
    "WITH x AS (SELECT 1) SELECT * FROM (SELECT 1 AS y) z, duckdb_tables",
    "SELECT (WITH duckdb_settings AS (SELECT 1 AS a) SELECT a FROM duckdb_settings), * FROM duckdb_settings",
    "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
    "WITH RECURSIVE r AS (SELECT 1 x UNION ALL SELECT x + 1 FROM r) SELECT * FROM r",
    "WITH RECURSIVE r(x) USING KEY (x) AS (SELECT 1 UNION SELECT 2) SELECT * FROM r",
    "WITH d AS (DELETE FROM images RETURNING *) SELECT * FROM d",
    "WITH d AS (INSERT INTO images VALUES (1) RETURNING *) SELECT * FROM d",
    "WITH d AS (UPDATE images SET id = 1 RETURNING *) SELECT * FROM d",
    "SELECT * FROM range(1000000000)",
    "SELECT * FROM generate_series(1, 1000000000)",
    "SELECT unnest(range(1000000000))",
    "SELECT * FROM unnest([1, 2])",
    "SELECT repeat('x', 2000000000)",
    "SELECT lpad('x', 2000000000, 'y')",
    "SELECT list_transform([1], x -> x + 1)",
    "SELECT [x FOR x IN [1, 2]]",
    "SELECT getenv('HOME')",
    "SELECT current_setting('memory_limit')",
    "SELECT getvariable('x')",
    "SELECT version()",
    "SELECT system.main.lower('x')",
    "SELECT COLUMNS(c -> c LIKE 'i%') FROM images",
    "SELECT ?",
    "SELECT $a",
    "SELECT * FROM search(?, 3)",
    "SELECT * FROM search('a' || 'b', 3)",
    "SELECT * FROM search((SELECT 'a'), 3)",
    "SELECT * FROM search('a', 0)",
    "SELECT * FROM search('a', -1)",
    "SELECT * FROM search('a', 1.5)",
    "SELECT * FROM search('a', 100001)",
    "SELECT * FROM search('', 3)",
    "SELECT * FROM search()",
    "SELECT * FROM search('a', k := 3)",
    "SELECT * FROM search('a', 1, 2)",
    "SELECT search('a', 1)",
    "SELECT * FROM " + ", ".join(f"search('{n}', 1)" for n in range(21)),
    "DESCRIBE images",
    "SUMMARIZE images",
    "SHOW TABLES",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "PIVOT images ON format USING count(*)",
    "SELECT * FROM (PIVOT images ON format USING count(*))",
    "COPY images TO 'out.csv'",
    "COPY (SELECT 1) TO 'out.csv'",
    "EXPORT DATABASE 'out'",
    "ATTACH 'out.db'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "INSERT INTO images VALUES (1)",
    "DELETE FROM images",
    "DROP VIEW images",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 9",
    "PRAGMA threads = 9",
    "CALL duckdb_settings()",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY images TO 'out.csv'",
    "",
    ";",
    "-- nothing",
    "SELECT",
    "SELECT '\udcff'",
    "SELECT " + "(" * 2000 + "1" + ")" * 2000,
    "SELECT 1 -- " + "x" * 200_000,
    "SELECT nothing FROM images",
    "SELECT * FROM imags",
    "SELECT lowr(name) FROM images",
]


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:60] or "nothing" for text in HOSTILE])
def test_a_hostile_or_wrong_statement_is_refused_with_its_place_and_what_is_allowed(sql, text, tmp_path, monkeypatch):
    (tmp_path / "secret.txt").write_text("the secret\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FilterSyntaxError) as caught:
        sql(text)
    first, allowed = str(caught.value).split("\n")
    assert "refused at position" in first and len(first) < 400 and allowed.startswith("Allowed: one SELECT")
    assert "the secret" not in first
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT nothing FROM images", "position 8, near 'nothing FROM images'"),
        ("SELECT 'ü', width + path FROM images", "position 19"),
        ("SELECT * FROM imags", "Did you mean 'images'"),
        ("SELECT lowr(name) FROM images", "Did you mean 'lower'"),
        ("SELECT CAST(name AS INT) FROM images", "Could not convert string"),
    ],
)
def test_a_mistake_is_told_with_its_place(sql, text, told):
    with pytest.raises(FilterSyntaxError) as caught:
        sql(text)
    assert told in str(caught.value)


def test_a_statement_says_what_it_needs(sql, needed):
    sql("SELECT count(*) FROM images, search('a dog', 2) UNION ALL SELECT count(*) FROM search('a dog', 2)")
    sql("WITH captions AS (SELECT 1 AS embedding) SELECT embedding FROM captions")
    sql("SELECT 1")
    first, second, third = needed
    assert first.searches == (Search("a dog", 2),) and first.tables == {"images"} and not first.embedding
    assert second.tables == set() and second.embedding
    assert third.tables == set() and not third.searches


@pytest.mark.parametrize(
    "bomb",
    [
        "SELECT count(*) FROM images a, images b, images c, images d, images e, images f, images g, images h, images i,"
        " images j, images k, images l, images m, images n, images o, images p WHERE a.id + p.id = 7",
        "SELECT count(*) FROM (SELECT a.id + b.id + c.id + d.id + e.id AS x FROM images a, images b, images c,"
        " images d, images e, images f, images g, images h, images i, images j, images k, images l) GROUP BY x % 9",
    ],
)
def test_a_bomb_is_stopped_in_time(sql, bomb):
    with pytest.raises(InputError, match=r"longer than 0\.3 s"):
        sql(bomb, seconds=0.3)


def test_an_answer_has_a_size(sql):
    with pytest.raises(InputError, match="larger than 1 MB"):
        sql("SELECT a.path, b.path FROM images a, images b, images c, images d, images e, images f, images g, images h,"
            " images i, images j", max_bytes=2**20)  # fmt: skip


def test_a_sort_that_needs_too_much_memory_is_refused(sql, monkeypatch):
    monkeypatch.setitem(connection._LOCKED, "memory_limit", "20MB")
    crossed = ", ".join(f"images i{n}" for n in range(11))
    with pytest.raises(InputError, match="memory"):
        sql(f"SELECT i0.path || i1.path || i2.path || i3.id AS x FROM {crossed} ORDER BY x, i5.id DESC OFFSET 3000000")
