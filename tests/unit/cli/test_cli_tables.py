"""--where, columns and sql at the command line, on a real collection of six pictures."""

import csv
import io
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest


@pytest.fixture
def at(collection):
    return ("-i", collection.path)


def names(done):
    return [os.path.basename(line.split("\t")[2]) for line in done.lines]


# search --where


def test_where_leaves_the_pictures_for_which_it_is_true(cli, at):
    everything = names(cli("search", "red", *at))
    done = cli("search", "red", *at, "--where", "name IN ('blue.png', 'green.png') AND camera LIKE 'Box%'")
    assert done.code == 0 and names(done) == [name for name in everything if name in ("blue.png", "green.png")]


def test_where_goes_with_captions_pictures_and_json(cli, at, photos):
    done = cli("search", str(photos / "red.png"), *at, "--target", "text", "--where", "name = 'blue.png'", "--json")
    hits = [json.loads(line) for line in done.lines]
    assert done.code == 0 and [hit.get("text") for hit in hits[:-1]] == ["a blue square"] and hits[-1]["hits"] == 1
    own = cli("search", str(photos / "red.png"), *at, "--where", "name LIKE 'r%'", "--leave-out-self")
    assert own.code == 1 and own.out == b""


def test_where_that_leaves_nothing_is_nothing_found(cli, at):
    done = cli("search", "red", *at, "--where", "taken >= '2024-01-01' AND camera LIKE 'Canon%' AND width > 2000")
    assert done.code == 1 and done.out == b""
    assert "The filter leaves 0 of 6 images." in done.err and "nothing found" in done.err


def test_a_wrong_where_is_told_in_three_lines(cli, at):
    done = cli("search", "red", *at, "--where", "widht > 3")
    assert done.code == 2 and done.out == b"" and len(done.err.strip().split("\n")) == 3
    assert "position 1" in done.err and "Did you mean 'width'" in done.err and "Columns: id, path" in done.err


def test_a_search_without_where_loads_neither_arrow_nor_duckdb(collection):
    code = (
        "import sys; from clipsearch.cli import run; "
        f"assert run(['search', 'red', '-q', '-i', {collection.path!r}]) == 0; "
        "assert not {'pyarrow', 'duckdb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# columns


def test_columns_lists_types_shares_and_examples(cli, at):
    done = cli("columns", *at, "--no-color", terminal=True)
    assert done.code == 0 and max(map(len, done.lines)) <= 80
    lines = {line.split()[0]: line.split() for line in done.lines}
    assert lines["width"][1:] == ["integer", "100%", "96"]
    assert lines["taken"][1:] == ["time", "0%"] and lines["latitude"][1] == "number"
    assert cli("columns", *at).lines[0] == "column\ttype\tfilled\texample"


def test_columns_as_json(cli, at):
    found = {column["name"]: column for column in map(json.loads, cli("columns", *at, "--json").lines)}
    assert list(found)[:4] == ["id", "path", "folder", "name"]
    assert found["camera"] == {
        "schema": "clipsearch.column/1", "name": "camera", "type": "text", "filled": 1.0, "example": "Box Camera",
    }  # fmt: skip
    assert found["taken"]["filled"] == 0.0 and found["taken"]["example"] is None
    assert found["indexed_at"]["example"].startswith("20")


def test_columns_of_an_empty_collection(cli, tmp_path):
    import clipsearch

    clipsearch.create(tmp_path / "new", model="hashing").close()
    done = cli("columns", "-i", str(tmp_path / "new"))
    assert done.code == 0 and all("\t0%\t" in line for line in done.lines[1:])


# sql


def test_sql_prints_a_table_that_fits(cli, at):
    done = cli(
        "sql", "SELECT name, width, size, camera, format FROM images ORDER BY name", *at, "--no-color", terminal=True
    )
    assert done.code == 0 and len(done.lines) == 7 and max(map(len, done.lines)) <= 80
    assert done.lines[1].split()[:2] == ["black.png", "96"]


def test_sql_of_many_columns_prints_rows_one_below_the_other(cli, at):
    done = cli("sql", "SELECT * FROM images ORDER BY name LIMIT 2", *at, terminal=True)
    assert done.code == 0 and max(map(len, done.lines)) <= 80
    assert done.lines[0] == "row 1" and [line.split() for line in done.lines if line.startswith("name")] == [
        ["name", "black.png"],
        ["name", "blue.png"],
    ]


def test_sql_to_a_pipe_is_tab_separated_and_whole(cli, at):
    done = cli("sql", "SELECT name, latitude, 1.5 AS x FROM images ORDER BY name LIMIT 1", *at)
    assert done.lines == ["name\tlatitude\tx", "black.png\t\t1.5"]


def test_sql_as_csv_and_json(cli, at):
    statement = """SELECT name, 'a "quote", é' AS said, NULL AS nothing, sum(width) AS w, TIMESTAMP '2024-01-02' AS t,
                   [1, 2] AS list FROM images GROUP BY name ORDER BY name LIMIT 2"""
    rows = list(csv.DictReader(io.StringIO(cli("sql", statement, *at, "--csv").out.decode())))
    assert rows[0] == {"name": "black.png", "said": 'a "quote", é', "nothing": "", "w": "96",
                       "t": "2024-01-02T00:00:00", "list": "[1, 2]"}  # fmt: skip
    first = json.loads(cli("sql", statement, *at, "--json").lines[0])
    assert first == {"name": "black.png", "said": 'a "quote", é', "nothing": None, "w": 96,
                     "t": "2024-01-02T00:00:00", "list": [1, 2]}  # fmt: skip


def test_sql_with_two_columns_of_a_name_loses_none(cli, at):
    done = cli("sql", "SELECT id AS a, width AS a FROM images LIMIT 1", *at, "--json")
    assert list(json.loads(done.lines[0])) == ["a", "a_2"]


def test_sql_joins_a_search(cli, at, collection):
    done = cli(
        "sql", "SELECT rank, name, score FROM search('red', 3) JOIN images USING (id) ORDER BY rank", *at, "--json"
    )
    rows = [json.loads(line) for line in done.lines]
    hits = collection.search("red", k=3)
    assert [row["name"] for row in rows] == [os.path.basename(hit.path) for hit in hits]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["score"] for row in rows] == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_sql_reads_captions_and_embeddings_by_name(cli, at):
    done = cli("sql", "SELECT text FROM captions c JOIN images i ON i.id = c.image_id WHERE i.name = 'red.png'", *at)
    assert done.lines == ["text", "a red square"]
    done = cli("sql", "SELECT round(max(array_inner_product(embedding, embedding)), 2) FROM images", *at, "--csv")
    assert float(done.lines[1]) == 1.0
    assert "embedding" not in cli("sql", "SELECT * FROM images LIMIT 1", *at, "--csv").lines[0]


def test_sql_as_parquet_keeps_what_is_there(cli, at, tmp_path):
    out = tmp_path / "out.parquet"
    statement = "SELECT name, width FROM images ORDER BY name"
    done = cli("sql", statement, *at, "--parquet", str(out))
    assert done.code == 0 and done.out == b"" and "6 rows" in done.err
    assert pq.read_table(out).column("name").to_pylist()[0] == "black.png"
    again = cli("sql", statement, *at, "--parquet", str(out))
    assert again.code == 2 and "--force" in again.err
    assert cli("sql", statement, *at, "--parquet", str(out), "--force").code == 0
    assert cli("sql", statement, *at, "--parquet", str(tmp_path / "no" / "x")).code == 2
    assert cli("sql", statement, *at, "--parquet", "x", "--csv").code == 2


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM read_text('/etc/hostname')", "COPY images TO 'x.csv'", "SELECT 1; SELECT 2", "nonsense"],
)
def test_sql_refuses_what_is_not_one_select(cli, at, statement):
    done = cli("sql", statement, *at)
    assert (
        done.code == 2 and done.out == b"" and "refused at position" in done.err and "Allowed: one SELECT" in done.err
    )


def test_sql_stops_in_time(cli, at):
    bomb = "SELECT count(*) FROM " + ", ".join(f"images i{n}" for n in range(16)) + " WHERE i0.id + i15.id = 3"
    done = cli("sql", bomb, *at, "--timeout", "0.3")
    assert done.code == 2 and "longer than 0.3 s" in done.err


def test_sql_without_rows_prints_the_heading(cli, at):
    assert cli("sql", "SELECT id FROM images WHERE false", *at).lines == ["id"]
    assert cli("sql", "SELECT id FROM images WHERE false", *at, "--csv").lines == ["id"]
    assert cli("sql", "SELECT id FROM images WHERE false", *at, "--json").lines == []
