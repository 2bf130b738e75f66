"""Engines: several encoders side by side give what one gives, row for row."""

import os
import threading
import time
from pathlib import Path

import pytest
from support import COLOURS, make_photo

import clipsearch
from clipsearch.decode import DecodePool
from clipsearch.embed import load_encoder
from clipsearch.errors import InputError
from clipsearch.flows.engines.base import Embedded, EngineSettings, Work, cut
from clipsearch.flows.engines.local import LocalEngine, open_local
from clipsearch.flows.identity import encoder_record
from clipsearch.flows.ingest import ingest
from clipsearch.scan import open_source
from clipsearch.store import Store
from clipsearch.types import ImageRef, Skip, SkipReason


class Recording:
    """The hashing encoder, which notes its batches and may be slow or fail."""

    def __init__(self, pause=0.0, error=None):
        self._encoder = load_encoder("hashing")
        self.pause, self.error, self.batches, self.threads = pause, error, [], set()

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_images(self, pixels):
        self.threads.add(threading.get_ident())
        self.batches.append(len(pixels))
        if self.error and len(self.batches) > 1:
            raise self.error
        time.sleep(self.pause)
        return self._encoder.encode_images(pixels)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Sixty pictures, some of them copies, and broken files here and there."""
    folder = tmp_path / "gallery"
    colours = list(COLOURS.values())
    for i in range(60):
        make_photo(folder / f"{i:03}.png", colours[i % len(colours)], seed=i if i % 7 else 0, size=(48, 32))
        if i % 9 == 0:
            (folder / f"{i:03}x.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


def indexed(path: Path, source: Path, encoders, **options):
    store = Store.create(str(path), encoder_record(encoders[0]), encoders[0].dim)
    report = ingest(
        store,
        encoders[0],
        source,
        engine=LocalEngine(encoders[0], lambda: encoders[1:]),
        batch_size=4,
        workers=1,
        **options,
    )
    return report, content(store)


def content(store):
    snapshot = store.snapshot()
    known = sorted(snapshot.known_files(), key=lambda row: row.id)
    ids = [row.id for row in known]
    paths = [(row.path, row.content_hash, row.size, row.mtime_ns) for row in known]
    shards = [entry.rows for entry in snapshot.manifest.files if entry.kind == "images"]
    return ids, paths, snapshot.embeddings("images", ids).tobytes(), snapshot.skipped(), shards


def test_several_encoders_give_the_same_rows_in_the_same_order_as_one(gallery, tmp_path):
    one, expected = indexed(tmp_path / "one", gallery, [Recording()], commit_rows=10)
    slow, quick = Recording(pause=0.05), Recording()
    several, found = indexed(tmp_path / "several", gallery, [slow, quick, Recording(pause=0.02)], commit_rows=10)
    assert found == expected and len(found[0]) == 60
    assert (several.embedded, several.reused, several.skips) == (one.embedded, one.reused, one.skips)
    assert one.reused == 3 and len(one.skips) == 7  # 42, 49 and 56 have the bytes of 0, 7 and 14
    assert sum(quick.batches) > sum(slow.batches) > 0, "who is free first gets more"
    assert sum(slow.batches) + sum(quick.batches) < one.embedded
    assert threading.get_ident() not in slow.threads | quick.threads


def test_copies_are_embedded_once_though_the_first_is_still_on_its_way(tmp_path):
    for i in range(40):
        make_photo(tmp_path / "copies" / f"{i}.png", COLOURS["red"], size=(40, 40))
    encoders = [Recording(pause=0.05) for _ in range(3)]
    report, _ = indexed(tmp_path / "made", tmp_path / "copies", encoders)
    assert (report.embedded, report.reused) == (1, 39)
    assert sum(sum(encoder.batches) for encoder in encoders) == 1


def test_the_error_of_one_encoder_ends_the_run_and_what_was_committed_stays(gallery, tmp_path):
    encoders = [Recording(), Recording(error=InputError("Memory ran out on cuda:1"), pause=0.01)]
    with pytest.raises(InputError, match="cuda:1"):
        indexed(tmp_path / "made", gallery, encoders, commit_rows=1)
    held = content(Store.open(str(tmp_path / "made")))
    assert 0 < len(held[0]) < 60
    report = ingest(Store.open(str(tmp_path / "made")), Recording(), gallery, workers=1)
    assert report.unchanged == len(held[0]) and report.images_total == 60


class Scarce(Recording):
    """The hashing encoder behind torch's runtime, on a device with memory for ``limit`` pictures at once."""

    def __init__(self, limit, from_batch=0):
        super().__init__()
        torch = pytest.importorskip("torch")
        from clipsearch.embed.runtime.torch import TorchRuntime

        self.runtime, self.tried = TorchRuntime("cpu", "fp32"), []

        def tower(pixels):
            self.tried.append(len(pixels))
            if len(pixels) > limit and len(self.tried) > from_batch:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return torch.from_numpy(self._encoder.encode_images(pixels.numpy()))

        self.tower = tower

    def encode_images(self, pixels):
        return self.runtime.run(self.tower, pixels)


@pytest.mark.parametrize("limit", [1, 3])
def test_out_of_memory_on_a_device_halves_the_batch_and_the_rows_are_the_same(gallery, tmp_path, limit):
    _, expected = indexed(tmp_path / "plenty", gallery, [Recording()], commit_rows=10)
    scarce = Scarce(limit)
    report, found = indexed(tmp_path / "scarce", gallery, [scarce], commit_rows=10)
    assert found == expected and len(found[0]) == 60
    assert scarce.tried[:2] == [4, 2] and sum(n > limit for n in scarce.tried) <= 2
    assert {str(skip.reason) for skip in report.skips} <= {"unidentified", "corrupt", "truncated"}


def test_out_of_memory_for_a_single_picture_ends_the_run_in_three_lines_and_loses_nothing(gallery, tmp_path):
    scarce = Scarce(0, from_batch=6)
    with pytest.raises(InputError, match="Memory ran out on cpu with a single picture") as caught:
        indexed(tmp_path / "made", gallery, [scarce], commit_rows=1)
    assert len(str(caught.value).splitlines()) == 3
    assert scarce.tried == [4, 4, 4, 4, 4, 4, 4, 2, 1]
    held = content(Store.open(str(tmp_path / "made")))
    assert len(held[0]) >= 6 * 4
    report = ingest(Store.open(str(tmp_path / "made")), Recording(), gallery, workers=1)
    assert report.unchanged == len(held[0]) and report.images_total == 60


def test_the_engine_alone_answers_every_file_in_order(gallery):
    source = open_source(str(gallery))
    refs = [entry for entry in source.scan() if isinstance(entry, ImageRef)]
    encoder = Recording()

    def nothing(_):
        return threading.Lock()  # any context manager

    with DecodePool(encoder.preprocess, workers=1) as pool:
        work = Work(refs, pool, 8, lambda _: False, nothing)
        batches = list(LocalEngine(encoder, lambda: [Recording()]).embed(work))
    results = [result for batch in batches for result in batch]
    assert [getattr(r, "path", None) or r.ref.path for r in results] == [ref.path for ref in refs]
    assert all(sum(isinstance(r, Embedded) for r in batch) == 8 for batch in batches[:-1])


def test_batches_are_cut_after_so_many_pictures_whatever_is_skipped_between():
    skip = Skip(b"x", SkipReason.EMPTY)
    assert list(cut([1, skip, 2, skip, skip, 3], 2)) == [[1, skip, 2], [skip, skip, 3]]
    assert list(cut([1, 2, skip], 2)) == [[1, 2], [skip]]
    assert list(cut([], 2)) == []


def test_a_collection_on_two_devices_indexes_with_both_and_searches_with_the_first(photos, tmp_path):
    with clipsearch.create(tmp_path / "two", "hashing", device="cpu,cpu") as two:
        two.index(photos, workers=1, batch_size=2)
        assert os.path.basename(two.search("red", k=1).hits[0].path) == "red.png"
        two_rows = content(Store.open(two.path))
    with clipsearch.create(tmp_path / "one", "hashing", device="cpu") as one:
        one.index(photos, workers=1, batch_size=2)
        assert content(Store.open(one.path)) == two_rows


def test_options_of_a_cluster_are_refused_by_the_local_engine():
    encoder = load_encoder("hashing")
    for options in ({"address": "auto"}, {"workers": 3}):
        with pytest.raises(InputError, match="engine 'ray'"):
            open_local(encoder, EngineSettings(encoder_record(encoder), "x", **options))
