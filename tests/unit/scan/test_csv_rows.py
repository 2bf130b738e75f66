"""CSV files with broken lines: each is named and costs itself only, and what is allowed is read."""

import csv
import io
import time

import pytest
from support import make_photo

import clipsearch
from clipsearch.scan.captions import Problems, Said, read_texts
from clipsearch.scan.csv_rows import MAX_LINES, read_rows

N = 700


def lines_of(n=N):
    return ["image,caption", *(f"{i}.jpg,number {i}" for i in range(2, n + 2))]  # a line's number is its picture's


def read(path, lines):
    path.write_text("\n".join(lines) + "\n")
    problems = Problems()
    return list(read_texts(path, problems)), problems


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('x.jpg,"a stray quote opens here', "a quote in it is not closed"),
        ('"x.jpg,a stray quote opens here', "a quote in it is not closed"),
        ('x.jpg,"a dog" that says "no"', "text behind a closing quote"),
        ("x.jpg,a dog, a cat and a man", "3 fields, where the first line has 2"),
        ("x.jpg", "1 field, where the first line has 2"),
        ("x.jpg,", "no caption in it"),
        ('x.jpg,"  "', "no caption in it"),
        (f"x.jpg,{'x' * 200_000}", "a field of more than 131,072 characters"),
    ],
)
@pytest.mark.parametrize("behind", [[], ['y.jpg,"b"'], ['y.jpg,"b, c"'], ['y.jpg,b "c" d'], ['y.jpg,"two\nlines"']])
@pytest.mark.parametrize("many", [N, 4_000])
def test_a_broken_line_is_named_and_costs_itself_only(tmp_path, broken, reason, behind, many):
    lines = lines_of(many)
    lines[316] = broken
    found, problems = read(tmp_path / "a.csv", [*lines[:327], *behind, *lines[327:]])
    others = [Said("y.jpg", text) for text in ("b", "b, c", 'b "c" d', "two\nlines") if text in "".join(behind)]
    assert problems.named == [f"line 317 ({reason})"] and problems.count == 1
    numbers = [Said(f"{i}.jpg", f"number {i}") for i in range(2, many + 2) if i != 317]
    assert [said for said in found if said.image != "y.jpg"] == numbers
    assert [said for said in found if said.image == "y.jpg"] == [
        said for said in others if said.text in found_texts(behind)
    ]


def found_texts(lines):
    return {row[1] for row in csv.reader(io.StringIO("\n".join(lines)))}


def test_captions_over_several_lines_are_read_and_lines_are_counted_behind_them(tmp_path):
    lines = [
        "image,caption",
        'a.jpg,"a dog,\nand ""a"" cat\n\nat home"',
        "",
        '"b.jpg","a man"',
        "c.jpg",
        ",",
        "d.jpg,x,",
    ]
    found, problems = read(tmp_path / "a.csv", lines)
    assert found == [Said("a.jpg", 'a dog,\nand "a" cat\n\nat home'), Said("b.jpg", "a man"), Said("d.jpg", "x")]
    assert problems.named == ["line 8 (1 field, where the first line has 2)"]


def test_what_is_written_by_csv_is_read_as_csv_reads_it():
    texts = ['a "b"', "a,b", "a\nb", 'a"\n"b', '"', "a\r\nb", "'", '",\n"']
    rows = [{"image": first, "caption": second} for first in texts for second in texts]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["image", "caption"])
    writer.writeheader()
    writer.writerows(rows)
    file.seek(0)
    told = []
    columns, found = read_rows(file, told.append)
    assert columns == ["image", "caption"] and [row for _, row in found] == rows and told == []


def test_many_quotes_that_nobody_closes_take_no_more_time_than_their_lines(tmp_path):
    lines = [line.replace(",", ',"') if n % MAX_LINES == 5 else line for n, line in enumerate(lines_of(100_000))]
    start = time.process_time()
    found, problems = read(tmp_path / "a.csv", lines)
    assert problems.count == 100 and len(found) == 99_900 and time.process_time() - start < 20


def test_a_line_that_breaks_takes_no_text_out_of_a_collection(tmp_path):
    make_photo(tmp_path / "photos" / "2.jpg", (1, 2, 3))
    captions, lines = tmp_path / "a.csv", lines_of()
    captions.write_text("\n".join(lines))
    with clipsearch.create(tmp_path / "collection", model="hashing") as collection:
        collection.index(tmp_path / "photos", captions=captions)
        lines[316] = 'x.jpg,"a stray quote opens here'
        lines[326] = '327.jpg,"number 327"'
        captions.write_text("\n".join(lines))
        report = collection.index(tmp_path / "photos", captions=captions)
        said = " ".join(report.notes)
        assert "line 317 (a quote in it is not closed)" in said and "taken out" not in said
        assert collection.status().texts == N
        texts = [row.text for row in collection._store.snapshot().captions()]
        assert sorted(texts) == sorted(f"number {i}" for i in range(2, N + 2))
