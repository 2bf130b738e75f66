"""What every source promises, over the registry."""

import io
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipsearch.scan import SOURCES, Ignored, open_source
from clipsearch.types import ImageRef, Skip

PICTURES = [b"a.jpg", b"b/c.tif", b"b/\xff\n.png", b"z.webp"]


@pytest.fixture(params=SOURCES)
def opened(request, tmp_path):
    """A way to open each kind of source over the same four files; a file source has one of them."""
    folder = tmp_path / "photos"
    for name in PICTURES:
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name * 10)
    if request.param == "folder":
        return request.param, lambda: open_source(folder)
    if request.param == "file":
        return request.param, lambda: open_source(folder / "a.jpg")
    if request.param == "list":
        names = b"\0".join(os.path.join(os.fsencode(folder), name) for name in PICTURES)
        return request.param, lambda: open_source("-", stdin=io.BytesIO(names))
    if request.param == "tar":
        with tarfile.open(tmp_path / "photos.tar", "w") as tar:
            for name in PICTURES:
                tar.add(os.path.join(os.fsdecode(folder), os.fsdecode(name)), os.fsdecode(name))
        return request.param, lambda: open_source(tmp_path / "photos.tar")
    if request.param == "table":
        rows = b"\n".join(b'"' + name + b'"' for name in reversed(PICTURES))
        (folder / "photos.csv").write_bytes(b"path\n" + rows + b"\n")
        return request.param, lambda: open_source(folder / "photos.csv")
    if request.param == "rows":
        cells = [{"bytes": name * 10 + b"\0", "path": None} for name in PICTURES]
        pq.write_table(pa.table({"image": cells}), tmp_path / "photos.parquet", row_group_size=3)
        return request.param, lambda: open_source(tmp_path / "photos.parquet")
    raise AssertionError(f"the contract does not know how to make a source of kind {request.param}")


def test_a_source_says_what_it_is(opened):
    kind, make = opened
    source = make()
    assert source.kind == kind
    assert os.path.isabs(source.root)
    assert source.name and "/" not in source.name


def test_every_scan_meets_the_same_in_the_same_order(opened):
    _, make = opened
    source = make()
    assert list(source.scan()) == list(source.scan()) == list(make().scan())


def test_every_picture_is_met_once_with_its_bytes(opened):
    kind, make = opened
    refs = [entry for entry in make().scan() if isinstance(entry, ImageRef)]
    if kind == "rows":
        assert [ref.member for ref in refs] == [b"0", b"1", b"2", b"3"]
        for order in (refs, refs[::-1], [refs[3], refs[0], refs[0]]):
            assert list(make().load(order)) == [PICTURES[ref.offset] * 10 + b"\0" for ref in order]
        return
    expected = PICTURES[:1] if kind == "file" else PICTURES
    assert [ref.path if ref.member is None else ref.member for ref in refs] == expected
    assert len({ref.key for ref in refs}) == len(refs)
    for ref, name in zip(refs, expected, strict=True):
        with open(os.path.join(ref.root, ref.path), "rb") as file:
            file.seek(ref.offset)
            assert file.read(ref.size) == name * 10
        assert (ref.member is not None) == (kind == "tar")


def test_entries_are_of_three_kinds_with_relative_byte_paths(opened):
    _, make = opened
    source = make()
    for entry in source.scan():
        assert isinstance(entry, ImageRef | Skip | Ignored)
        assert isinstance(entry.path, bytes) and not entry.path.startswith(b"/")
        if isinstance(entry, ImageRef):
            assert entry.root == source.root


def test_a_source_that_covers_a_picture_meets_it(opened):
    kind, make = opened
    source = make()
    covered = [source.covers(ref.path, ref.member) for ref in source.scan() if isinstance(ref, ImageRef)]
    assert covered == [kind in ("folder", "tar", "rows")] * len(covered)


def test_a_scan_is_lazy_and_may_be_left(opened):
    _, make = opened
    entries = make().scan()
    next(entries)
    entries.close()
