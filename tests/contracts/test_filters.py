"""What every filter owes: the rows of the plain-Python predicate, no effect, and the exact best of what it leaves.

Expressions are made together with their meaning: each is a pair of SQL text and a function of a row that answers True,
False or None (NULL), by the rules of SQL's three-valued logic.
"""

import os
import re
from datetime import datetime, timedelta

import numpy as np
import pytest
from filter_rows import COLUMNS, ROWS, arrow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clipsearch
from clipsearch.errors import ClipsearchError, FilterSyntaxError
from clipsearch.filter.mask import allowed_ids
from clipsearch.store import ImageRow, Store, TextRow

# Random rows and random expressions.

words = st.text("aAbZ%_'\\é😀 \n", max_size=4)
numbers = st.integers(-3, 3)
quarters = st.integers(-8, 8).map(lambda n: n / 4)
moments = st.integers(0, 8).map(lambda n: datetime(2024, 1, 1) + timedelta(hours=9 * n))
rows = st.lists(
    st.fixed_dictionaries(
        {
            "width": st.none() | numbers,
            "height": st.none() | numbers,
            "camera": st.none() | words,
            "lens": st.none() | words,
            "latitude": st.none() | quarters,
            "taken": st.none() | moments,
        }
    ),
    max_size=12,
)


def quoted(word):
    return "'" + word.replace("'", "''") + "'"


def timed(moment):
    return f"'{moment.isoformat(' ')}'"


KINDS = {
    "width": (numbers, str),
    "height": (numbers, str),
    "camera": (words, quoted),
    "lens": (words, quoted),
    "latitude": (quarters, str),
    "taken": (moments, timed),
}
OPERATORS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def strict(function):
    """Make a function answer None where an argument is None."""
    return lambda *arguments: None if None in arguments else function(*arguments)


def negated(value):
    return None if value is None else not value


def both(a, b):
    return False if a is False or b is False else None if a is None or b is None else True


def either(a, b):
    return negated(both(negated(a), negated(b)))


def among(value, choices):
    """Tell whether a value is in a list that may hold NULL."""
    answer = False
    for choice in choices:
        answer = either(answer, strict(lambda a, b: a == b)(value, choice))
    return answer


def like(value, pattern):
    parts = [".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern]
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


@st.composite
def atoms(draw):
    column = draw(st.sampled_from(sorted(KINDS)))
    values, spelt = KINDS[column]
    a, b = draw(values), draw(values)
    kind = draw(st.sampled_from(["compare", "null", "in", "between", "distinct", "coalesce", "columns", "text"]))
    if kind == "compare":
        sign = draw(st.sampled_from(sorted(OPERATORS)))
        return f"{column} {sign} {spelt(a)}", lambda row: strict(OPERATORS[sign])(row[column], a)
    if kind == "null":
        return f"{column} IS NULL", lambda row: row[column] is None
    if kind == "in":
        with_null = draw(st.booleans())
        choices, listed = [a, b, *[None] * with_null], [spelt(a), spelt(b), *["NULL"] * with_null]
        return f"{column} IN ({', '.join(listed)})", lambda row: among(row[column], choices)
    if kind == "between":
        text = f"{column} BETWEEN {spelt(a)} AND {spelt(b)}"
        return text, lambda row: strict(lambda value: a <= value <= b)(row[column])
    if kind == "distinct":
        return f"{column} IS DISTINCT FROM {spelt(a)}", lambda row: row[column] != a
    if kind == "coalesce":
        return (
            f"coalesce({column}, {spelt(a)}) = {spelt(b)}",
            lambda row: (a if row[column] is None else row[column]) == b,
        )
    if kind == "columns":
        return "width > height", lambda row: strict(lambda w, h: w > h)(row["width"], row["height"])
    return draw(texts())


@st.composite
def texts(draw):
    column, word = draw(st.sampled_from(["camera", "lens"])), draw(words)
    text, meaning = draw(
        st.sampled_from(
            [
                (f"{column} LIKE {quoted(word)}", lambda value: like(value, word)),
                (f"{column} NOT LIKE {quoted(word)}", lambda value: not like(value, word)),
                (f"starts_with({column}, {quoted(word)})", lambda value: value.startswith(word)),
                (f"contains({column}, {quoted(word)})", lambda value: word in value),
                (f"length({column}) > 2", lambda value: len(value) > 2),
                (f"{column} || 'x' = {quoted(word + 'x')}", lambda value: value == word),
            ]
        )
    )
    return text, lambda row: strict(meaning)(row[column])


def joined(parts):
    def two(a, word, b):
        meaning = both if word == "AND" else either
        return f"({a[0]} {word} {b[0]})", lambda row: meaning(a[1](row), b[1](row))

    no = parts.map(lambda part: (f"NOT ({part[0]})", lambda row: negated(part[1](row))))
    sure = parts.map(lambda part: (f"(({part[0]}) IS NOT TRUE)", lambda row: part[1](row) is not True))
    return st.builds(two, parts, st.sampled_from(["AND", "OR"]), parts) | no | sure


expressions = st.recursive(atoms(), joined, max_leaves=8)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows, st.lists(expressions, min_size=1, max_size=3))
def test_the_ids_equal_the_plain_python_predicate(given_rows, given_expressions):
    numbered = [{"id": 7 * n + 1, **row} for n, row in enumerate(given_rows)]
    table = arrow(numbered)
    for text, meaning in given_expressions:
        expected = [row["id"] for row in numbered if meaning(row) is True]
        assert allowed_ids(text, COLUMNS, lambda: table).ids.tolist() == expected, text


# Hostile expressions.

HOSTILE = [
    # files, network, other tables
    "path = (SELECT content FROM read_text('secret.txt'))",
    "EXISTS (SELECT * FROM read_csv('secret.txt'))",
    "id IN (SELECT id FROM 'secret.parquet')",
    "id IN (FROM read_parquet('secret.parquet'))",
    "path IN (SELECT file FROM glob('*'))",
    "path = read_text('secret.txt')",
    "path = read_blob('secret.txt')",
    "width = (SELECT count(*) FROM sniff_csv('secret.txt'))",
    "id IN (SELECT id FROM images)",
    "id = ANY (SELECT 1)",
    "id = ALL (SELECT 1)",
    "id = (TABLE images)",
    "id IN (VALUES (1), (2))",
    "(SELECT true)",
    "EXISTS (FROM duckdb_settings())",
    "path = (SELECT value FROM duckdb_settings() LIMIT 1)",
    "id IN (SELECT 1 FROM query('SELECT 1'))",
    "id IN (SELECT 1 FROM query_table('images'))",
    "EXISTS (SELECT * FROM range(1000000000))",
    "EXISTS (SELECT * FROM images a, images b, images c, images d)",
    "EXISTS (WITH RECURSIVE r AS (SELECT 1 x UNION ALL SELECT x + 1 FROM r) SELECT * FROM r)",
    "id IN (SELECT 1 FROM pragma_database_list())",
    "path = (SELECT database_name FROM duckdb_databases())",
    "EXISTS (SELECT * FROM information_schema.tables)",
    # more than one statement, or another one
    "true; COPY images TO 'out.csv'",
    "true; ATTACH 'out.db'",
    "true; INSTALL httpfs",
    "true; SET threads = 9",
    "true; PRAGMA database_list",
    "true; SELECT 1",
    "true; DROP VIEW images; --",
    "true) OR (true",
    "true); DROP TABLE images; --",
    "1 = 1) UNION (SELECT 1",
    "true UNION SELECT 1",
    "true UNION ALL FROM images",
    "true INTERSECT SELECT 1",
    "true ORDER BY (SELECT content FROM read_text('secret.txt'))",
    "true LIMIT (SELECT 1)",
    "true GROUP BY (SELECT 1)",
    "true GROUP BY id HAVING count(*) > 0",
    "true QUALIFY row_number() OVER () = 1",
    "true USING SAMPLE 1",
    "true /* no end",
    "COPY images TO 'out.csv'",
    "-- nothing but a comment",
    "/* nothing */",
    # functions and nodes that are not for filters
    "getenv('HOME') = 'x'",
    "current_setting('memory_limit') = 'x'",
    "set_config('threads', '9', false) = 'x'",
    "getvariable('x') = 1",
    "nextval('s') = 1",
    "version() = 'x'",
    "current_database() = 'x'",
    "txid_current() > 0",
    "error('x')",
    "sleep_ms(10000) > 0",
    "random() > 0.5",
    "length(repeat('x', 2000000000)) > 1",
    "length(lpad('x', 2000000000, 'y')) > 1",
    "length(repeat(repeat('x', 100000), 100000)) > 1",
    "len(range(1000000000)) > 1",
    "len([x FOR x IN range(1000000)]) > 1",
    "len(list_transform([1, 2], x -> x + 1)) = 2",
    "len(list_filter([1, 2], lambda x: x > 1)) = 1",
    "list_reduce([1, 2], (a, b) -> a + b) = 3",
    "unnest([true])",
    "count(*) > 0",
    "sum(width) > 0",
    "sum(width) OVER () > 0",
    "bool_and(true)",
    "? = 1",
    "$1 = 1",
    "$name = 1",
    "COLUMNS(*) > 1",
    "* = 1",
    "images.* = 1",
    "images = 1",
    "#1 = 1",
    "images.id = 1",
    "main.images.id = 1",
    "system.main.lower(path) = 'x'",
    "rowid = 1",
    "embedding IS NOT NULL",
    "content_hash IS NOT NULL",
    "path COLLATE NOCASE = 'x'",
    "CASE WHEN true THEN true END",
    "TRY(true)",
    "path[1] = 'x'",
    "{'a': 1}.a = 1",
    "MAP {1: 2}[1] = 2",
    "(1, 2) = (1, 2)",
    "CAST(path AS JSON) IS NULL",
    "width::int[] IS NULL",
    "CAST(path AS BLOB) IS NULL",
    "x'ff' = path",
    "json_serialize_sql('SELECT 1') IS NULL",
    "regexp_replace(path, '.', 'xxxxxxxxxx', 'g') = 'x'",
    "regexp_matches(path, '((((a{1,500}){1,500}){1,500}){1,500})')",
    "regexp_matches(path, '" + "(" * 500 + "')",
    "upper(path, 'x') = 'x'",
    "path LIKE ANY (['x'])",
    "DEFAULT",
    "grouping(id) = 1",
    "length(path || " * 400 + "'x'" + ")" * 400 + " > 1",
    "NOT " * 5000 + "true",
    "1 = 1 OR " * 5000 + "true",
]


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    """A current folder with a secret in it, which must come out as it was."""
    (tmp_path / "secret.txt").write_text("the secret\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]
    assert (tmp_path / "secret.txt").read_text() == "the secret\n"


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:60] for text in HOSTILE])
def test_a_hostile_filter_is_refused_with_its_place_and_what_is_allowed(text, guarded):
    with pytest.raises(FilterSyntaxError) as caught:
        allowed_ids(text, COLUMNS, lambda: arrow(ROWS))
    first, columns, allowed = str(caught.value).split("\n")
    assert re.search(r"refused at position \d+", first) and len(first) < 400
    assert columns.startswith("Columns: id, path") and allowed.startswith("Allowed: comparisons")
    assert "the secret" not in str(caught.value)


# Filtered search: exact at every selectivity.

DIM, IMAGES = 64, 2000


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """2,000 pictures in four shards, some deleted, with captions for the first ten; embeddings at random."""
    random = np.random.default_rng(5)
    embeddings = random.standard_normal((IMAGES, DIM)).astype(np.float32)
    embeddings[1::50] = embeddings[0]  # ties
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("filters") / "photos"
    with clipsearch.create(path, model="hashing") as made:
        with Store.open(made.path).writer() as writer:
            root = writer.root_id(b"/nowhere")
            images = [_image(writer.new_ids(1)[0], root, n, embeddings[n]) for n in range(IMAGES)]
            texts = [
                TextRow(writer.new_ids(1)[0], images[n % 10].id, f"text {n}", b"", embeddings[n]) for n in range(30)
            ]
            for start in range(0, IMAGES, 500):
                writer.commit(images=images[start : start + 500])
            writer.commit(texts=texts, deleted=[images[n].id for n in range(7, IMAGES, 31)])
        made.refresh()
        yield made


def _image(id_, root, n, embedding):
    return ImageRow(
        id=id_, root=root, path=os.fsencode(f"{n // 100}/{n}.jpg"), member=None, size=n, mtime_ns=0, ctime_ns=0,
        content_hash=bytes(32), width=n, height=IMAGES - n, format="jpeg", camera="Canon" if n % 3 else None, lens=None,
        taken=datetime(2020, 1, 1) + timedelta(hours=n), latitude=None, longitude=None, embedding=embedding,
    )  # fmt: skip


FILTERS = {
    "width = 1234": lambda row: row["width"] == 1234,
    "width IN (4, 1500, 1999)": lambda row: row["width"] in (4, 1500, 1999),
    "folder = '3'": lambda row: row["path"].startswith(b"3/"),
    "width < 200 OR height < 200": lambda row: row["width"] < 200 or row["height"] < 200,
    "camera IS NULL": lambda row: row["camera"] is None,
    "taken >= '2020-01-31' AND camera LIKE 'Can%'": lambda row: row["width"] >= 720 and row["camera"] is not None,
    "true": lambda row: True,
}


@pytest.mark.parametrize("k", [1, 10, 3000])
@pytest.mark.parametrize("text", FILTERS)
def test_a_filtered_search_gives_the_exact_best_of_what_passes(collection, text, k):
    snapshot = Store.open(collection.path).snapshot()
    gone = set(snapshot.deleted_ids().tolist())
    live = [id_ for block in snapshot.blocks() for id_ in block.ids.tolist() if id_ not in gone]
    passing = np.array([row["id"] for row in snapshot.rows("images", live) if FILTERS[text](row)])
    query = np.random.default_rng(1).standard_normal(DIM)
    scores = snapshot.embeddings("images", passing).astype(np.float64) @ (query / np.linalg.norm(query))
    expected = passing[np.lexsort((passing, -scores.astype(np.float32)))][:k]
    result = collection.search(vector=query, k=k, where=text)
    assert len(result) == min(k, len(passing))  # never fewer while there are more
    np.testing.assert_array_equal(result.ids, expected)
    assert collection.search(vector=query, k=k, where=text).ids.tolist() == expected.tolist()  # warm, remembered


def test_captions_are_filtered_by_their_pictures(collection):
    found = collection.search(vector=np.ones(DIM), k=100, target="text", where="width IN (2, 3, 7, 55)")
    assert len(found) == 6 and {hit.metadata["width"] for hit in found} == {2, 3}  # 7 is deleted, 55 has no captions


@pytest.mark.parametrize(("target", "told"), [("image", "0 of 1,935 images"), ("text", "0 of 30 captions")])
def test_a_filter_that_nothing_passes_is_an_empty_answer(collection, target, told):
    result = collection.search("red", where="width > 1000000", target=target)
    assert len(result) == 0 and result.notes == (f"The filter leaves {told}.",)


def test_every_query_of_a_batch_is_filtered(collection):
    results = collection.search(["red", "blue", "green"], k=5, where="width < 100")
    assert [len(result) for result in results] == [5, 5, 5]
    assert all(hit.metadata["width"] < 100 for result in results for hit in result)


def test_a_wrong_filter_is_an_input_error_before_the_model_is_loaded(collection, monkeypatch):
    with clipsearch.open(collection.path) as opened:
        monkeypatch.setattr("clipsearch.collection.load_encoder", lambda *_, **__: pytest.fail("loaded"))
        with pytest.raises(ClipsearchError, match="Did you mean 'width'"):
            opened.search("red", where="widht > 3")


def test_a_new_version_has_its_own_answers(collection, tmp_path):
    with clipsearch.create(tmp_path / "small", model="hashing") as small:
        for n in (1, 2):
            with Store.open(small.path).writer() as writer:
                image = _image(writer.new_ids(1)[0], writer.root_id(b"/nowhere"), n, np.full(DIM, 0.125))
                writer.commit(images=[image])
            small.refresh()
            assert len(small.search(vector=np.ones(DIM), where="width > 0")) == n
        with Store.open(small.path).writer() as writer:
            writer.commit(deleted=[image.id])
        small.refresh()
        assert len(small.search(vector=np.ones(DIM), where="width > 0")) == 1
