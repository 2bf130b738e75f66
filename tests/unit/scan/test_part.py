"""Parts of a source: disjoint, together the whole, and stable."""

import io
import os

import pytest

from clipsearch.errors import InputError
from clipsearch.scan import Excluder, Holder, open_source
from clipsearch.scan.part import parse_part, part_of
from clipsearch.types import ImageRef


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "photos"
    for number in range(60):
        place = folder / f"{number % 7}" / f"{number}.{'txt' if number % 5 == 0 else 'jpg'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"content")
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    return folder


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_entry_is_in_one_part(tree, n):
    whole = list(open_source(tree).scan())
    parts = [list(part_of(open_source(tree), (i, n)).scan()) for i in range(1, n + 1)]
    assert sorted(str(entry) for part in parts for entry in part) == sorted(map(str, whole))
    assert n == 1 or max(map(len, parts)) < len(whole)


def test_a_file_stays_in_its_part_whatever_comes_beside_it_and_wherever_the_folder_is(tree, tmp_path):
    before = [entry.path for entry in part_of(open_source(tree), (2, 3)).scan()]
    (tree / "new.jpg").write_bytes(b"new")
    moved = tree.rename(tmp_path / "elsewhere")
    after = [entry.path for entry in part_of(open_source(moved), (2, 3)).scan()]
    assert set(before) <= set(after) <= {*before, b"new.jpg"}


def test_a_part_covers_and_excludes_its_own_files_only(tree):
    parts = [part_of(open_source(tree, excludes=["3"]), (i, 4)) for i in (1, 2, 3, 4)]
    for part in parts:
        met = {entry.path for entry in part.scan() if isinstance(entry, ImageRef)}
        assert all(part.covers(path, None) for path in met)
        assert part.elsewhere + len(met) == sum(isinstance(e, ImageRef) for e in part.source.scan())
    assert sum(part.covers(b"2/2.jpg", None) for part in parts) == 1
    assert sum(part.is_excluded(b"3/3.jpg") for part in parts) == 1
    assert all(isinstance(part, Excluder) and not isinstance(part, Holder) for part in parts)


def test_a_list_is_divided_too(tree):
    names = b"\n".join(os.fsencode(path) for path in tree.rglob("*.jpg"))
    parts = [part_of(open_source("-", stdin=io.BytesIO(names)), (i, 2)) for i in (1, 2)]
    assert sum(len(list(part.scan())) for part in parts) == len(names.splitlines())


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", " 1/4", "1.0/4"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(InputError, match="I/N"):
        parse_part(text)
