"""The engine ray as far as it needs no Ray: rows there and back, a worker's answers, how a cluster is divided."""

import os
from contextlib import nullcontext
from datetime import datetime

import numpy as np
import pytest
from support import COLOURS, make_photo

import clipsearch
from clipsearch.decode import DecodePool
from clipsearch.embed import load_encoder
from clipsearch.errors import InputError, ManifestMismatchError, MissingExtraError
from clipsearch.flows.engines import ENGINES, over_ray
from clipsearch.flows.engines.base import Embedded, EngineError, EngineSettings, Work, gist
from clipsearch.flows.engines.local import LocalEngine
from clipsearch.flows.engines.over_ray import _block_rows, _seen_by_all, open_ray
from clipsearch.flows.engines.ray_rows import ANSWER, EMBEDDING, ORDINAL, answers_of, columns_of, in_order, refs_of
from clipsearch.flows.engines.ray_share import Share, share
from clipsearch.flows.engines.ray_worker import Embedder, WorkerSetup
from clipsearch.flows.identity import encoder_record
from clipsearch.scan import open_source
from clipsearch.types import ImageMetadata, ImageRef, Skip, SkipReason

ODD = [
    ImageRef(b"/r", b"a\xff\0\n.jpg", None, 0, -1, 2**62, 0),
    ImageRef(b"/r", b"b.tar", b"", 5, 1_700_000_000_123_456_789, 7, 2**40),
    ImageRef(b"", b"b.tar", "ü".encode(), 5, 6, 7, 8),
]


def as_arrays(columns):
    """Columns as Ray Data hands them over: arrays, bytes as objects."""
    return {name: np.array(values, dtype=object if isinstance(values[0], bytes) or name == "member" else None)
            for name, values in columns.items()}  # fmt: skip


def block(ordinals, results):
    return as_arrays({**answers_of(ordinals, results, 4), ANSWER: answers_of(ordinals, results, 4)[ANSWER]})


def embedded(ref, value=1.0, **facts):
    metadata = ImageMetadata(3, 4, "jpeg", **facts)
    return Embedded(ref, bytes(range(32)), metadata, None if value is None else np.full(4, value, np.float32))


def test_files_come_through_columns_as_they_were():
    columns = columns_of(ODD, 17)
    assert columns[ORDINAL] == [17, 18, 19]
    assert refs_of(as_arrays(columns)) == ODD


def test_answers_in_any_order_become_results_in_the_order_of_the_files():
    refs = [ImageRef(b"/r", b"%d" % i, None, 1, 2, 3) for i in range(6)]
    results = [
        embedded(refs[0], 0.5, taken=datetime(2024, 5, 6, 7, 8, 9, 10), camera="X\ud800", latitude=1.5),
        Skip(refs[1].path, SkipReason.TRUNCATED, "why \udcff"),
        *(embedded(ref, float(i)) for i, ref in enumerate(refs[2:5])),
        embedded(refs[5], None),
    ]
    blocks = [
        block([4, 5], results[4:]),
        block([0], results[:1]),
        block([2, 3], results[2:4]),
        block([1], results[1:2]),
    ]
    found = list(in_order(iter(blocks), refs))
    for one, expected in zip(found, results, strict=True):
        if isinstance(expected, Skip):
            assert one == expected
        else:
            assert (one.ref, one.content_hash, one.metadata) == (expected.ref, expected.content_hash, expected.metadata)
            np.testing.assert_array_equal(one.embedding, expected.embedding)
    assert found[5].embedding is None


def test_an_answer_that_is_missing_or_makes_no_sense_ends_the_run():
    refs = ODD[:2]
    with pytest.raises(EngineError, match="1 of 2 files"):
        list(in_order(iter([block([0], [embedded(refs[0])])]), refs))
    for nonsense in ("{}", "[1]", "no json", '{"reason": "bored", "detail": ""}', '{"hash": "zz", "metadata": {}}'):
        broken = {**block([0], [embedded(refs[0])]), ANSWER: np.array([nonsense])}
        with pytest.raises(EngineError, match="nonsense"):
            list(in_order(iter([broken]), refs[:1]))


def test_a_file_that_only_the_workers_do_not_see_ends_the_run(tmp_path):
    (tmp_path / "here.jpg").write_bytes(b"x")
    here, gone = (ImageRef(os.fsencode(tmp_path), name, None, 1, 2, 3) for name in (b"here.jpg", b"gone.jpg"))
    skips = [Skip(gone.path, SkipReason.VANISHED)]
    assert list(_seen_by_all(iter(skips), [gone])) == skips
    with pytest.raises(InputError, match="same path") as caught:
        list(_seen_by_all(iter([Skip(here.path, SkipReason.VANISHED)]), [here]))
    assert "here.jpg" in str(caught.value) and len(str(caught.value).splitlines()) <= 3


@pytest.fixture
def refs(tmp_path):
    for i in range(20):
        make_photo(
            tmp_path / "p" / f"{i:02}.png", list(COLOURS.values())[i % 6], seed=i if i != 9 else 3, size=(40, 30)
        )
    (tmp_path / "p" / "05x.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return [entry for entry in open_source(str(tmp_path / "p")).scan() if isinstance(entry, ImageRef)]


def setup_of(**changes):
    encoder = load_encoder("hashing")
    settings = EngineSettings({**encoder_record(encoder), **changes}, "/collection", device="cpu")
    return WorkerSetup(settings, batch_size=8, jobs=1, threads=1)


def test_a_worker_answers_as_the_local_engine_does(refs):
    worker = Embedder(setup_of())
    answers = [worker(as_arrays(columns_of(refs[i : i + 7], i))) for i in range(0, len(refs), 7)]
    found = list(in_order(iter([as_arrays(answer) for answer in answers]), refs))
    encoder = load_encoder("hashing")
    with DecodePool(encoder.preprocess, workers=1) as pool:
        work = Work(refs, pool, 8, lambda _: False, lambda _: nullcontext())
        expected = [result for batch in LocalEngine(encoder).embed(work) for result in batch]
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other)
        if isinstance(other, Skip):
            assert one == other
        else:
            assert (one.ref, one.content_hash, one.metadata) == (other.ref, other.content_hash, other.metadata)
            if other.embedding is not None:
                np.testing.assert_array_equal(one.embedding, other.embedding)


def test_an_error_in_a_worker_is_raised_where_the_run_is(refs):
    answer = Embedder(setup_of(fingerprint="0" * 64))(as_arrays(columns_of(refs, 0)))
    assert answer[EMBEDDING].shape == (len(refs), 64)
    with pytest.raises(ManifestMismatchError, match="/collection was made with"):
        list(in_order(iter([as_arrays(answer)]), refs))


@pytest.mark.parametrize(
    ("nodes", "workers", "jobs", "gpu", "expected"),
    [
        ([(16, 0)], 0, 0, False, Share(4, 4, 0, 4)),
        ([(2, 0)], 0, 0, False, Share(1, 2, 0, 2)),
        ([(4, 0)], 4, 0, False, Share(4, 1, 0, 1)),
        ([(8, 0), (6, 0)], 0, 0, False, Share(3, 4, 0, 4)),
        ([(8, 0), (6, 0)], 4, 0, False, Share(4, 3, 0, 3)),
        ([(8, 0), (6, 0)], 0, 2, False, Share(7, 2, 0, 2)),
        ([(32, 4), (8, 0)], 0, 0, True, Share(4, 0, 1, 8)),
        ([(32, 4), (4, 2)], 0, 0, True, Share(6, 0, 1, 2)),
        ([(32, 4)], 2, 3, True, Share(2, 0, 1, 3)),
    ],
)
def test_a_cluster_is_divided(nodes, workers, jobs, gpu, expected):
    assert share(nodes, workers, jobs, gpu) == expected


@pytest.mark.parametrize(("nodes", "workers", "jobs", "gpu"), [([(4, 0)], 5, 0, False), ([(2, 0)], 0, 3, False),
                                                               ([(8, 1)], 2, 0, True), ([], 0, 0, False)])  # fmt: skip
def test_more_than_fits_is_a_clear_error(nodes, workers, jobs, gpu):
    with pytest.raises(InputError, match="room for") as caught:
        share(nodes, workers, jobs, gpu)
    assert len(str(caught.value).splitlines()) <= 3


def test_blocks_are_some_batches_and_smaller_where_there_is_little():
    assert _block_rows(1_000_000, 32, 8) == 256
    assert _block_rows(400, 32, 4) == 25
    assert _block_rows(1, 32, 4) == 1


def test_the_gist_of_a_long_message():
    assert gist("ray::X()\n  File 'x'\nValueError: bad\nmore") == "ValueError: bad"
    assert gist("\n  lost\n") == "lost" and gist("") == ""


def settings(**options):
    encoder = load_encoder("hashing")
    return encoder, EngineSettings(encoder_record(encoder), "/c", **options)


def test_without_ray_the_extra_is_named_before_anything_is_made(monkeypatch, photos, tmp_path):
    monkeypatch.setattr(over_ray, "find_spec", lambda _: None)
    with (
        clipsearch.create(tmp_path / "c", "hashing") as made,
        pytest.raises(MissingExtraError, match=r"clipsearch\[ray"),
    ):
        made.index(photos, engine="ray")


def test_devices_are_for_ray_to_give(monkeypatch):
    monkeypatch.setattr(over_ray, "find_spec", lambda _: object())
    for device in ("cuda:1", "cuda:0,cuda:1", "all"):
        with pytest.raises(InputError, match="device of its own"):
            open_ray(*settings(device=device))
    with pytest.raises(InputError, match="number of workers"):
        open_ray(*settings(workers=-1))


def test_an_unknown_engine_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="Did you mean 'ray'"):
        ENGINES["rai"]
