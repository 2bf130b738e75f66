"""What a filter may say, and what it finds."""

import pytest
from filter_rows import COLUMNS, ROWS, arrow

from clipsearch.errors import FilterSyntaxError, InputError
from clipsearch.filter import connection, mask
from clipsearch.filter.mask import MaskCache, allowed_ids

TABLE = arrow(ROWS)


def ids(text, table=TABLE):
    return allowed_ids(text, COLUMNS, lambda: table).ids.tolist()


ORDINARY = [
    ("taken >= '2024-01-01' AND camera LIKE 'Canon%' AND width > 2000", []),
    ("taken >= '2023-01-01' AND camera LIKE 'Canon%' AND width > 2000", [3]),
    ("taken >= DATE '2024-01-01'", [5, 13]),
    ("taken BETWEEN '2023-06-01' AND '2024-06-01'", [3, 5]),
    ("year(taken) = 2024", [5, 13]),
    ("extract(month FROM taken) = 12", [13]),
    ("date_trunc('month', taken) = '2023-07-01'", [3]),
    ("CAST(taken AS DATE) = '2024-12-31'", [13]),
    ("taken::date = DATE '2024-01-01'", [5]),
    ("taken + INTERVAL 1 DAY > TIMESTAMP '2025-01-01'", [13]),
    ("taken < current_date - INTERVAL 30 DAY", [3, 5, 13]),
    ("camera IS NULL", [8]),
    ("camera = 'Canon EOS R5'", [3]),
    ("camera != 'Canon EOS R5'", [5, 13]),
    ("camera IS DISTINCT FROM 'Canon EOS R5'", [5, 8, 13]),
    ("coalesce(camera, 'none') = 'none'", [8]),
    ("lower(name) LIKE '%.jpg'", [3, 5]),
    ("name ILIKE '%.jpg'", [3, 5]),
    ("name NOT ILIKE '%.jpg'", [8, 13]),
    ("name LIKE '%100!%%' ESCAPE '!'", [8]),
    ("name SIMILAR TO '[a-b].*'", [3, 5]),
    ("regexp_matches(camera, '(?i)iphone \\d+')", [13]),
    ("contains(path, 'ç') OR starts_with(path, '2023')", [3, 8]),
    ("folder = '2024' AND NOT format = 'png'", [5]),
    ("format IN ('png', 'heif')", [8, 13]),
    ("id NOT IN (3, 5)", [8, 13]),
    ("height > width", [5, 13]),
    ("width * height >= 12000000", [3, 13]),
    ("width / height > 1.3", [3]),
    ("abs(latitude) < 40 AND longitude > 0", [5]),
    ("greatest(width, height) <= 2400", [5, 8]),
    ("length(name) > 6", [8]),
    ("latitude IS NOT NULL", [3, 5]),
    ("(latitude > 0) IS NOT TRUE", [5, 8, 13]),
    ('"width" > 2000 -- large ones', [3, 8, 13]),
    ("true", [3, 5, 8, 13]),
    ("NULL", []),
    ("WIDTH > 3500;", [3]),
]


@pytest.mark.parametrize(("text", "expected"), ORDINARY, ids=[text for text, _ in ORDINARY])
def test_an_ordinary_filter_finds_its_rows(text, expected):
    assert ids(text) == expected


MISTAKES = [
    ("camra = 'x'", 1, "Did you mean 'camera'"),
    ("width > 1 AND hight > 2", 15, "Did you mean 'height'"),
    ("camera = Canon", 10, "single quotes"),
    ("folder = 'ü' AND wdth = 1", 18, "Did you mean 'width'"),
    ("width", 1, "not a condition"),
    ("width AND height > 1", 1, "not a condition"),
    ("height > 1 OR width + 1", 15, "not a condition"),
    ("'2024'", 1, "not a condition"),
    ("width >", None, "syntax error"),
    ("width > 'wide'", 9, "Could not convert"),
    ("taken > 'yesterday'", 9, "timestamp"),
    ("lowr(name) = 'a'", 1, "Did you mean 'lower'"),
    ("lower(name, 1, 2) = 'a'", 1, "No function matches"),
    ("regexp_matches(name, '(')", 1, "missing )"),
    ("", 1, "empty"),
    ("  \n", 1, "empty"),
    ("width > 1 OR " * 3000 + "true", 1, "at most"),
    ("(" * 1000 + "true" + ")" * 1000, 1, "nested too deeply"),
    ("name = '\udcff'", 9, "UTF-8"),
    ("width = 9223372036854775807 * size", 1, "Overflow"),
]


@pytest.mark.parametrize(("text", "position", "why"), MISTAKES, ids=[text[:30] or "nothing" for text, _, _ in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_what_is_allowed(text, position, why):
    with pytest.raises(FilterSyntaxError) as caught:
        ids(text)
    first, columns, allowed = str(caught.value).split("\n")
    assert why in first and columns.startswith("Columns: id, path, folder") and "LIKE" in allowed
    assert position is None or f"position {position}" in first
    assert "position" in first and len(first) < 300


def test_rows_are_asked_for_only_when_the_filter_passed():
    def never():
        raise AssertionError("the rows were read")

    with pytest.raises(FilterSyntaxError):
        allowed_ids("camra = 1", COLUMNS, never)


def test_a_table_without_rows_passes_nothing():
    assert ids("width > 0", arrow([])) == []


def test_ids_come_sorted_and_cannot_be_written_to():
    found = allowed_ids("true", COLUMNS, lambda: arrow(ROWS[::-1])).ids
    assert found.tolist() == [3, 5, 8, 13] and found.dtype == "int64" and not found.flags.writeable


def test_what_takes_too_long_is_stopped():
    rows = arrow([{"id": n, "path": "x" * 2000} for n in range(30_000)])
    slow = " OR ".join(f"regexp_matches(path || '{n}', '(.*)(.*)(.*)(.*)y{n}$')" for n in range(40))
    with pytest.raises(InputError, match=r"longer than 0\.2 s"):
        allowed_ids(slow, COLUMNS, lambda: rows, seconds=0.2)


def test_a_connection_reads_no_file_and_keeps_its_settings(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with connection.locked_down() as locked:
        connection.seal(locked, {"images": TABLE})
        for statement in (
            f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
            f"SELECT * FROM '{tmp_path}/secret.csv'",
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            f"ATTACH '{tmp_path}/other.db'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            "PRAGMA threads = 8",
            "SELECT * FROM TABLE_OF_THIS_TEST",
        ):
            with pytest.raises(connection.duckdb.Error):
                locked.execute(statement).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.csv"]


# The memory of answers.


def test_two_spellings_of_a_filter_are_one():
    asked = []

    def known(key):
        asked.append(key)

    for text in (
        "width>2000 AND camera='x'",
        "width  >  2000\nAND camera = 'x' -- same",
        "WIDTH > 2000 and CAMERA = 'x'",
    ):
        allowed_ids(text, COLUMNS, lambda: TABLE, known=known)
    assert asked[0] == asked[1]


def test_a_known_answer_is_not_computed_again(monkeypatch):
    memory = MaskCache()
    memory.put("width > 2000", allowed_ids("width > 2000", COLUMNS, lambda: TABLE))
    monkeypatch.setattr(mask, "_run", lambda *_: pytest.fail("it ran again"))
    assert memory.get("width > 2000").ids.tolist() == [3, 8, 13]
    again = allowed_ids("width  > 2000", COLUMNS, lambda: pytest.fail("rows were read"), known=memory.get)
    assert again is memory.get("width > 2000")


def test_the_memory_forgets_the_oldest_and_what_depends_on_the_day():
    memory = MaskCache(limit=2)
    for text in ("width > 1", "width > 2", "taken > current_date", "taken < today()"):
        memory.put(text, allowed_ids(text, COLUMNS, lambda: TABLE))
    assert memory.get("taken > current_date") is None and memory.get("taken < today()") is None
    assert memory.get("width > 1") is not None  # used: now the other one is the oldest
    memory.put("width > 3", allowed_ids("width > 3", COLUMNS, lambda: TABLE))
    assert memory.get("width > 2") is None and memory.get("width > 1") and memory.get("width > 3")


def test_the_memory_has_a_size():
    memory = MaskCache(budget_bytes=40)
    memory.put("width > 1", allowed_ids("width > 1", COLUMNS, lambda: TABLE))  # 4 ids, 32 bytes
    memory.put("width > 3500", allowed_ids("width > 3500", COLUMNS, lambda: TABLE))
    memory.put("width > 2000", allowed_ids("width > 2000", COLUMNS, lambda: TABLE))
    assert memory.get("width > 1") is None and memory.get("width > 2000")
