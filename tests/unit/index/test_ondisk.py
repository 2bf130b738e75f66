"""Lists on the disk: what is joined from parts is what faiss itself would have written."""

import errno
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from synthetic import Synthetic

from clipsearch.errors import CorruptShardError
from clipsearch.index.recipe import load_recipe

faiss = pytest.importorskip("faiss", reason="faiss is not installed")

from clipsearch.index import ondisk  # noqa: E402
from clipsearch.index.filling import PartFiller, holding  # noqa: E402
from clipsearch.index.gpu import Adder, devices  # noqa: E402
from clipsearch.index.training import packed, train_plain  # noqa: E402

N, DIM = 12_000, 32
RECIPES = {
    "fast-scan": replace(load_recipe("ivfpq-1m"), dim=DIM, nlist=50, rotated_dim=16, pq_m=8),
    "fast-scan unrotated": replace(load_recipe("ivfpq-1m"), dim=DIM, nlist=50, rotation="none", rotated_dim=0, pq_m=16),
    "8-bit": replace(load_recipe("ivfpq-mmap-1m"), dim=DIM, nlist=50, rotation="pca", pq_m=8),
    "sq8": replace(load_recipe("ivfflat-1m"), dim=DIM, nlist=50),
}


@cache
def rows():
    return Synthetic(N, DIM, clusters=100, topics=10).base()


@cache
def trained_bytes(kind):
    return written(lambda write: ondisk.write_index(train_plain(RECIPES[kind], rows()[:10_000]), write))


def written(writing):
    pieces = []
    writing(lambda data: pieces.append(bytes(data)))
    return b"".join(pieces)


@pytest.fixture(params=list(RECIPES))
def kind(request):
    return request.param


@pytest.fixture
def trained(kind, tmp_path):
    file = tmp_path / "trained.faiss"
    file.write_bytes(trained_bytes(kind))
    return str(file)


def parts_of(kind, trained, tmp_path, *ends):
    """Put rows into parts that end at some rows, and return their files."""
    files, start = [], 0
    for number, end in enumerate(ends):
        filler = PartFiller(RECIPES[kind], trained)
        filler.add(start, rows()[start:end])
        file = tmp_path / f"part-{number}"
        file.write_bytes(written(filler.write))
        files.append(ondisk.open_part(str(file)))
        start = end
    return files


def by_faiss(trained, end=N):
    index = ondisk.read_plain(trained)
    index.add_with_ids(rows()[:end], np.arange(end))
    return index


def join(trained, files):
    return written(lambda write: ondisk.join(ondisk.read_plain(trained), files, write))


@pytest.mark.parametrize("ends", [(N,), (5000, N), (1, 2, 7000, 7000, 9000, N)])
def test_parts_joined_are_byte_for_byte_what_faiss_writes(kind, trained, tmp_path, ends):
    assert join(trained, parts_of(kind, trained, tmp_path, *ends)) == faiss.serialize_index(by_faiss(trained)).tobytes()


def test_a_buffer_smaller_than_a_list_changes_nothing(kind, trained, tmp_path, monkeypatch):
    files = parts_of(kind, trained, tmp_path, 5000, N)
    whole = join(trained, files)
    monkeypatch.setattr(ondisk, "BUFFER_BYTES", 1000)
    assert join(trained, files) == whole


def test_few_rows_in_many_lists_are_written_as_faiss_writes_them(kind, trained, tmp_path):
    joined = join(trained, parts_of(kind, trained, tmp_path, 3, 6))
    assert joined == faiss.serialize_index(by_faiss(trained, 6)).tobytes()
    assert b"sprs" in joined


def test_fast_scan_packed_at_the_end_is_fast_scan_filled_row_by_row(trained, kind, tmp_path):
    recipe = RECIPES[kind]
    joined = tmp_path / "joined"
    joined.write_bytes(join(trained, parts_of(kind, trained, tmp_path, 4000, N)))
    finished = written(lambda write: ondisk.finish(recipe, str(joined), write))
    direct = packed(recipe, ondisk.read_plain(trained))
    direct.add_with_ids(rows(), np.arange(N))
    assert finished == faiss.serialize_index(direct).tobytes()


def test_more_rows_joined_to_a_whole_file_are_the_file_of_all(kind, trained, tmp_path):
    old, more = tmp_path / "old.faiss", tmp_path / "more"
    old.write_bytes(faiss.serialize_index(by_faiss(trained, 8000)).tobytes())
    plain = ondisk.emptied(str(old))
    holding(RECIPES[kind], plain).add_codes(8000, rows()[8000:])
    more.write_bytes(written(lambda write: ondisk.write_part(plain, write)))
    files = [ondisk.open_lists(str(old)), ondisk.open_part(str(more))]
    joined = written(lambda write: ondisk.join(ondisk.emptied(str(old)), files, write))
    assert joined == faiss.serialize_index(by_faiss(trained)).tobytes()


def test_a_joined_file_is_mapped_and_searched_as_one_in_memory(kind, trained, tmp_path):
    joined = tmp_path / "joined"
    joined.write_bytes(join(trained, parts_of(kind, trained, tmp_path, 4000, N)))
    mapped = faiss.read_index(str(joined), faiss.IO_FLAG_MMAP_IFC)
    xq = rows()[:20]
    for found, wanted in zip(mapped.search(xq, 10), by_faiss(trained).search(xq, 10), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_writing_raises_comes_through(kind, trained):
    def full(data):
        raise OSError(errno.ENOSPC, "No space left on device")

    for writing in (ondisk.write_index, ondisk.write_part):
        with pytest.raises(OSError, match="No space left"):
            writing(by_faiss(trained), full)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"xxxx" + data[4:], lambda data: data[:10]])
def test_a_damaged_part_is_refused(kind, trained, tmp_path, damage):
    parts_of(kind, trained, tmp_path, 3000)
    file = tmp_path / "part-0"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CorruptShardError, match="damaged"):
        ondisk.open_part(str(file))


def test_imbalance_is_that_of_faiss(kind, trained, tmp_path):
    (part,) = parts_of(kind, trained, tmp_path, N)
    index = by_faiss(trained)
    lists = faiss.extract_index_ivf(index).invlists
    assert ondisk.imbalance(part.sizes) == pytest.approx(lists.imbalance_factor())
    assert part.n == N


def test_packing_many_times_neither_crashes_nor_leaks(trained, kind):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for _ in range(20):
        packed(RECIPES[kind], ondisk.read_plain(trained))
    before = resident()
    for _ in range(300):
        packed(RECIPES[kind], ondisk.read_plain(trained))
    assert resident() - before < 10 * 2**20


def test_lists_found_apart_give_the_same_index(kind, trained):
    """The way of the GPU, with the processor in its place."""
    plain = ondisk.read_plain(trained)
    coarse = faiss.downcast_index(faiss.extract_index_ivf(plain).quantizer)
    adder = Adder(plain, coarse)
    for start in range(0, N, 5000):
        stop = min(start + 5000, N)
        adder.add(np.arange(start, stop), rows()[start:stop])
    assert faiss.serialize_index(plain).tobytes() == faiss.serialize_index(by_faiss(trained)).tobytes()


@pytest.mark.gpu
def test_a_gpu_trains_and_fills_as_the_processor_does(kind, monkeypatch, tmp_path):
    from clipsearch.index import gpu

    assert devices()
    on_gpu = train_plain(RECIPES[kind], rows()[:10_000])
    Adder(on_gpu).add(np.arange(N), rows())
    monkeypatch.setattr(gpu, "devices", lambda: 0)
    on_cpu = train_plain(RECIPES[kind], rows()[:10_000])
    on_cpu.add_with_ids(rows(), np.arange(N))
    xq = Synthetic(N, DIM, clusters=100, topics=10).text_queries(200)
    exact = np.argsort(-(xq @ rows().T), axis=1)[:, :10]
    recalls = []
    for index in (on_gpu, on_cpu):
        params = faiss.SearchParametersIVF(nprobe=20)
        if RECIPES[kind].rotation != "none":
            params = faiss.SearchParametersPreTransform(index_params=params)
        found = index.search(xq, 100, params=params)[1]
        recalls.append(np.mean([len(np.intersect1d(f, e)) / 10 for f, e in zip(found, exact, strict=True)]))
    assert abs(recalls[0] - recalls[1]) < 0.02
