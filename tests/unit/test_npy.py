"""Arrays in .npy files: what numpy writes is read as numpy reads it, in any number of threads, and nothing else is."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from clipsearch.npy import _parsed, load_npy, load_npz, map_npy

ARRAYS = [
    np.arange(12, dtype=np.float16).reshape(3, 4),
    np.arange(5),
    np.zeros(0, np.int64),
    np.zeros((0, 64), np.float16),
    np.array(7.5),
    np.asfortranarray(np.arange(12).reshape(3, 4)),
    np.arange(24, dtype=">i4").reshape(2, 3, 4, 1),
    np.array(["a", "caf\u00e9"]),
    np.array([b"ab", b"c"]),
    np.array([True, False]),
    np.arange(3, dtype=np.complex64),
]


def saved(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_what_numpy_writes_is_read_as_numpy_reads_it(tmp_path, array):
    data = saved(array)
    (tmp_path / "a.npy").write_bytes(data)
    for found in (load_npy(data), load_npy(tmp_path / "a.npy"), map_npy(str(tmp_path / "a.npy"))):
        np.testing.assert_array_equal(found, array)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert load_npy(data).flags.writeable and load_npy(tmp_path / "a.npy").flags.writeable
    assert not map_npy(tmp_path / "a.npy").flags.writeable


def test_other_versions_of_the_format_are_read():
    for version in ((1, 0), (2, 0), (3, 0)):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, ARRAYS[0], version)
        np.testing.assert_array_equal(load_npy(buffer.getvalue()), ARRAYS[0])


def test_several_arrays_in_one_file_are_read():
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, a=ARRAYS[0], b=ARRAYS[7])
        found = load_npz(buffer.getvalue())
        assert set(found) == {"a", "b"}
        np.testing.assert_array_equal(found["b"], ARRAYS[7])


def damaged() -> list[bytes]:
    good = saved(ARRAYS[0])
    return [
        b"",
        b"no array",
        good[:-1],
        good[:60],
        good.replace(b"NUMPY\x01", b"NUMPY\x09"),
        good.replace(b"'<f2'", b"'|O8'"),
        good.replace(b"(3, 4)", b"(3, x)"),
        good.replace(b"(3, 4)", b"(9, 9)"),
        good.replace(b"False", b"f()  "),
        saved(np.zeros(2, [("a", "<i4"), ("b", "<f4")])),
    ]


@pytest.mark.parametrize("data", damaged())
def test_what_is_no_array_of_numbers_or_texts_is_refused(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    for read in (lambda: load_npy(data), lambda: load_npy(tmp_path / "a.npy"), lambda: map_npy(tmp_path / "a.npy")):
        with pytest.raises(ValueError):
            read()
    with pytest.raises(ValueError):
        load_npz(data)


def test_eight_threads_read_headers_at_once(tmp_path):
    """With ast.literal_eval, as in numpy.load, this ends in a SystemError on some releases of CPython 3.11 and 3.12."""
    for n in range(64):
        np.save(tmp_path / f"{n}.npy", np.full((n + 1, 3), n, np.float16))

    def read(seed: int) -> int:
        for turn in range(400):
            n = (turn * 7 + seed) % 64
            _parsed.cache_clear()
            array = (load_npy, map_npy)[turn % 2](tmp_path / f"{n}.npy")
            assert array.shape == (n + 1, 3) and array[-1, -1] == n
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == list(range(8))


def test_eight_threads_open_a_collection_and_search_it(tmp_path):
    """Every thread opens every shard for itself: what is read is headers, mostly."""
    import clipsearch
    from clipsearch.store import Store

    with clipsearch.create(tmp_path / "c", model="hashing") as collection:
        pictures = tmp_path / "photos"
        from support import make_photo

        for n in range(12):
            make_photo(pictures / f"{n}.png", (20 * n, 99, 5), n, (16, 16))
        collection.index(pictures, workers=1, commit_rows=1, batch_size=1)

    def look(_: int) -> int:
        _parsed.cache_clear()
        snapshot = Store.open(str(tmp_path / "c")).snapshot()
        return sum(len(block.ids) for block in snapshot.blocks("images")) + len(snapshot.deleted_ids())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(look, range(80))) == {12}


def test_no_other_module_parses_headers_but_that_which_reads_files_of_strangers():
    package = Path(__file__).parents[2] / "clipsearch"
    users = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if any(word in file.read_text(encoding="utf-8") for word in ("np.load(", "read_array_header", "literal_eval("))
    }
    assert users <= {"scan/embeddings/npy.py"}
