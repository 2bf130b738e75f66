"""One file, lists of paths, tars and tables."""

import io
import os
import tarfile

import pytest

from clipsearch.errors import SourceNotFoundError
from clipsearch.scan import Ignored, open_source
from clipsearch.types import ImageRef, Skip


def put(place, *names):
    for name in names:
        path = os.path.join(os.fsencode(place), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content")


def outcome(entry):
    if isinstance(entry, ImageRef):
        return "image"
    return "ignored" if isinstance(entry, Ignored) else str(entry.reason)


def outcomes(source):
    return [(entry.path, outcome(entry)) for entry in source.scan()]


# One file


def test_one_picture_is_a_source(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg")
    source = open_source(tmp_path / "a.jpg")
    assert (source.kind, source.name, source.root) == ("file", "a", os.fsencode(tmp_path))
    assert outcomes(source) == [(b"a.jpg", "image")]
    assert not source.covers(b"b.jpg", None)


def test_one_file_of_any_name_may_be_asked_for(tmp_path):
    put(tmp_path, "picture")
    assert outcomes(open_source(tmp_path / "picture", kind="file")) == [(b"picture", "image")]


# Lists


def listed(data):
    return open_source("-", stdin=io.BytesIO(data))


def test_a_list_is_split_at_lines_or_at_nul_and_met_in_order(tmp_path):
    put(tmp_path, b"x/new\nline.jpg", b"x/\xff.png", "y.jpg", "notes.txt")
    at = os.fsencode(tmp_path)
    source = listed(b"\0".join(at + b"/" + name for name in (b"y.jpg", b"x/\xff.png", b"x/new\nline.jpg", b"y.jpg")))
    assert (source.kind, source.name, source.root) == ("list", "stdin", at)
    assert outcomes(source) == [(b"x/new\nline.jpg", "image"), (b"x/\xff.png", "image"), (b"y.jpg", "image")]
    source = listed(b"%b/y.jpg\r\n%b/notes.txt\r\n%b/gone.png\r\n" % (at, at, at))
    assert outcomes(source) == [(b"gone.png", "vanished"), (b"notes.txt", "ignored"), (b"y.jpg", "image")]


def test_relative_paths_are_meant_from_the_current_folder(tmp_path, monkeypatch):
    put(tmp_path, "in/a.jpg", "b.jpg")
    (tmp_path / "in" / "d").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    source = listed(b"a.jpg\n../b.jpg\n./d/../a.jpg\n")
    assert source.root == os.fsencode(tmp_path)
    assert outcomes(source) == [(b"b.jpg", "image"), (b"in/a.jpg", "image")]


def test_an_empty_list_and_a_missing_stream(tmp_path):
    assert outcomes(listed(b"")) == []
    with pytest.raises(SourceNotFoundError, match="standard input"):
        open_source("-")


def test_odd_entries_of_a_list_are_skips(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dir.jpg").mkdir()
    at = os.fsencode(tmp_path)
    source = listed(b"%b/pipe.jpg\n%b/dir.jpg\nhttps://example.org/a.jpg\n" % (at, at))
    assert dict(outcomes(source)) == {
        b"pipe.jpg": "not_regular_file",
        b"dir.jpg": "not_regular_file",
        b"https://example.org/a.jpg": "vanished",
    }


# Tars


def make_tar(path, names, kind=tarfile.PAX_FORMAT, size=700):
    with tarfile.open(path, "w", format=kind) as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([number]) * size))
    return path


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_a_tar_are_found_where_they_lie(tmp_path, kind):
    names = ["b.jpg", "b.txt", "sub/a.png", "\udcff\udcfe.jpg", "d" * 90 + "/" + "e" * 90 + ".jpg"]
    path = make_tar(tmp_path / "shard-0.tar", names, kind)
    source = open_source(path)
    assert (source.kind, source.name, source.root) == ("tar", "shard-0", os.fsencode(tmp_path))
    entries = list(source.scan())
    refs = [entry for entry in entries if isinstance(entry, ImageRef)]
    assert [ref.member for ref in refs] == [os.fsencode(name) for name in names if not name.endswith("txt")]
    data = path.read_bytes()
    for ref in refs:
        assert ref.path == b"shard-0.tar"
        number = names.index(os.fsdecode(ref.member))
        assert data[ref.offset : ref.offset + ref.size] == bytes([number]) * 700
    assert [entry.path for entry in entries if isinstance(entry, Ignored)] == [b"shard-0.tar::b.txt"]
    assert source.covers(b"shard-0.tar", b"any.jpg")
    assert not source.covers(b"other.tar", b"any.jpg")
    assert not source.covers(b"a.jpg", None)


def damaged(tmp_path, change):
    path = make_tar(tmp_path / "a.tar", [f"{number}.jpg" for number in range(4)])
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))
    entries = list(open_source(path).scan())
    good = [entry.member for entry in entries if isinstance(entry, ImageRef)]
    return good, [(entry.member, str(entry.reason)) for entry in entries if isinstance(entry, Skip)]


def step(data):
    return data.index(b"1.jpg") - data.index(b"0.jpg")


def test_of_a_tar_cut_inside_a_member_the_whole_members_are_met(tmp_path):
    good, bad = damaged(tmp_path, lambda data: data[: 2 * step(data) + 800])
    assert good == [b"0.jpg", b"1.jpg"]
    assert bad == [(b"2.jpg", "truncated"), (None, "truncated")]


def test_of_a_tar_cut_between_members_the_end_is_missed(tmp_path):
    good, bad = damaged(tmp_path, lambda data: data[: 2 * step(data)])
    assert (good, bad) == ([b"0.jpg", b"1.jpg"], [(None, "truncated")])


def test_of_a_tar_with_a_broken_header_the_members_before_it_are_met(tmp_path):
    def change(data):
        data[2 * step(data) + 148 : 2 * step(data) + 156] = b"garbage!"
        return data

    assert damaged(tmp_path, change) == ([b"0.jpg", b"1.jpg"], [(None, "corrupt")])


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"no tar at all" * 99, "corrupt")])
def test_what_is_no_tar_is_one_skip(tmp_path, content, reason):
    (tmp_path / "a.tar").write_bytes(content)
    assert outcomes(open_source(tmp_path / "a.tar")) == [(b"a.tar", reason)]


def test_a_whole_tar_has_no_skips(tmp_path):
    assert damaged(tmp_path, bytes)[1] == []
    make_tar(tmp_path / "none.tar", [])
    assert outcomes(open_source(tmp_path / "none.tar")) == []


def test_links_and_hidden_members_of_a_tar_are_no_pictures(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("l.jpg", tarfile.SYMTYPE), ("d.jpg", tarfile.DIRTYPE), ("._m.jpg", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
    assert [outcome(entry) for entry in open_source(tmp_path / "a.tar").scan()] == ["ignored", "ignored"]


# Tables


def test_a_csv_names_paths_from_its_own_folder(tmp_path):
    put(tmp_path, "in/a.jpg", b"in/\xff,'\n.png", "out/c.jpg", "in/read.txt")
    table = tmp_path / "in" / "photos.csv"
    table.write_bytes(
        b'\xef\xbb\xbfid,Image\r\n1,a.jpg\r\n2,"\xff,\'\n.png"\r\n3,../out/c.jpg\r\n4,gone.jpg\r\n5,a.jpg\r\n6\r\n'
    )
    source = open_source(table)
    assert (source.kind, source.name, source.root) == ("table", "photos", os.fsencode(tmp_path))
    assert outcomes(source) == [
        (b"in/a.jpg", "image"),
        (b"in/gone.jpg", "vanished"),
        (b"in/\xff,'\n.png", "image"),
        (b"out/c.jpg", "image"),
    ]
    assert not source.covers(b"in/a.jpg", None)


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "dictionary"])
def test_a_parquet_file_names_paths(tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    put(tmp_path, "a.jpg", "b.jpg")
    values = ["b.jpg", None, "a.jpg"]
    if kind == "dictionary":
        column = pa.array(values).dictionary_encode()
    else:
        column = pa.array([v if v is None or kind != "binary" else v.encode() for v in values], getattr(pa, kind)())
    parquet.write_table(pa.table({"n": [1, 2, 3], "where": column}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", column="where")
    assert outcomes(source) == [(b"a.jpg", "image"), (b"b.jpg", "image")]


def test_a_missing_column_lists_those_there_are(tmp_path):
    (tmp_path / "t.csv").write_text("id,where\n1,a.jpg\n")
    with pytest.raises(SourceNotFoundError, match="id, where"):
        open_source(tmp_path / "t.csv")
    with pytest.raises(SourceNotFoundError, match="'path'"):
        open_source(tmp_path / "t.csv", column="path")
    assert outcomes(open_source(tmp_path / "t.csv", column="where")) == [(b"a.jpg", "vanished")]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_that_cannot_be_read_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1\0\0nonsense\0" + b'"' + b"x" * 200_000)
    with pytest.raises(SourceNotFoundError) as caught:
        open_source(tmp_path / name)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_path_with_a_nul_in_a_table_is_a_skip(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"path\na\0b.jpg\n")
    assert outcomes(open_source(tmp_path / "t.csv")) == [(b"a\0b.jpg", "vanished")]


@pytest.mark.parametrize("broken", ['"b.jpg', '"b.jpg"x', '"b.jpg\n"c.jpg"'])
def test_a_broken_line_of_a_table_refuses_it_whole_so_that_no_picture_is_taken_for_gone(tmp_path, broken):
    (tmp_path / "t.csv").write_text(f'path,width\na.jpg,1\n{broken},2\nd.jpg,3\n"e.jpg",4\n')
    with pytest.raises(SourceNotFoundError, match="line 3 is broken"):
        open_source(tmp_path / "t.csv")
