"""Decode in child processes, embed in this one: with one encoder, or with several side by side.

Encoders, one a device, run in threads of this process and not in processes of their own; a single one has a thread too,
so that it works on while the run commits. A forward pass is spent in the runtime, which lets go of the interpreter
there and while it waits for a device; every CUDA device has a stream of its own; and pixels need not be copied once
more to get to them. A batch goes to the encoder that is free first, and the answers are put in order again. An encoder
that runs out of memory halves its own batches, see ``embed.runtime``.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from clipsearch.embed import devices_of, load_encoder
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.flows.ahead import run_ahead
from clipsearch.flows.engines.base import Embedded, EngineSettings, Result, Work, cut, timed_iteration
from clipsearch.flows.identity import check_encoder
from clipsearch.generate.provenance import look
from clipsearch.types import Decoded, Floats, Skip

_AHEAD = 3  # batches decoded ahead of each encoder
_WAITING = 2  # batches an encoder has on its way: the one in hand, and one while the run commits


def open_local(encoder: Encoder, settings: EngineSettings) -> "LocalEngine":
    """Return the engine that works on this machine; encoders of further devices are loaded when there is work.

    Raises:
        InputError: a device is named in a way that makes no sense, or options are for a cluster.
    """
    if settings.address is not None or settings.workers:
        raise InputError("An address and a number of workers are for the engine 'ray'. Choose it, or leave them out.")
    others = devices_of(settings.device)[1:]

    def load_others() -> list[Encoder]:
        return [_load(encoder.name, settings, device) for device in others]

    return LocalEngine(encoder, load_others)


def _load(name: str, settings: EngineSettings, device: str) -> Encoder:
    encoder = load_encoder(name, runtime=settings.runtime, device=device, precision=settings.precision)
    check_encoder(encoder, settings.record, settings.collection)
    return encoder


class LocalEngine:
    """Works in this process and its children; see ``base.Engine``."""

    def __init__(self, encoder: Encoder, others: Callable[[], Sequence[Encoder]] = tuple) -> None:
        """Prepare the engine.

        Args:
            encoder: the first encoder, loaded already.
            others: gives the further ones, when there is work.
        """
        self._encoder = encoder
        self._others = others

    def embed(self, work: Work) -> Generator[list[Result]]:
        """Yield one result a file, in order, in batches; see ``base.Engine``."""
        encoders = (self._encoder, *self._others())
        with run_ahead(work.pool.run(work.requests()), _AHEAD * work.batch_size * len(encoders)) as results:
            batches = cut(_pictures(timed_iteration(work.timed, "decode", results)), work.batch_size)
            yield from _side_by_side(encoders, batches, work)


@dataclass(slots=True)
class _Batch:
    """Results of decoding, and which of the pictures are to be embedded: content hash → picture."""

    results: list[Decoded | Skip]
    new: dict[bytes, Decoded]
    looks: bool

    def answers(self, embeddings: Floats) -> list[Result]:
        """Join the results with the embeddings of the new pictures, (N, D)."""
        rows = dict(zip(self.new, embeddings, strict=True))
        return [
            one
            if isinstance(one, Skip)
            else Embedded(
                one.ref,
                one.content_hash,
                one.metadata,
                rows[one.content_hash] if self.new.get(one.content_hash) is one else None,
                look(one.pixels) if self.looks else None,
            )
            for one in self.results
        ]


def _pictures(results: Iterator[object]) -> Iterator[Decoded | Skip]:
    return (result for result in results if isinstance(result, Decoded | Skip))


def _batch(results: list[Decoded | Skip], is_known: Callable[[bytes], bool], looks: bool) -> _Batch:
    """Choose what is to be embedded; copies share the embedding of the first."""
    new: dict[bytes, Decoded] = {}
    for one in results:
        if isinstance(one, Decoded) and not is_known(one.content_hash):
            new.setdefault(one.content_hash, one)
    return _Batch(results, new, looks)


def _encode(encoder: Encoder, batch: _Batch) -> Floats:
    if not batch.new:
        return np.empty((0, encoder.dim), np.float32)
    return encoder.encode_images(np.stack([image.pixels for image in batch.new.values()]))


def _side_by_side(
    encoders: Sequence[Encoder], batches: Iterator[list[Decoded | Skip]], work: Work
) -> Iterator[list[Result]]:
    free: SimpleQueue[Encoder] = SimpleQueue()
    for encoder in encoders:
        free.put(encoder)
    on_way: deque[tuple[_Batch, Future[Floats]]] = deque()

    def encode(batch: _Batch) -> Floats:
        encoder = free.get()  # there is one: as many threads as encoders
        try:
            return _encode(encoder, batch)
        finally:
            free.put(encoder)

    def is_known(content_hash: bytes) -> bool:
        return work.is_known(content_hash) or any(content_hash in batch.new for batch, _ in on_way)

    def first() -> list[Result]:
        batch, embeddings = on_way[0]
        with work.timed("embed"):
            return batch.answers(embeddings.result())

    threads = ThreadPoolExecutor(len(encoders), thread_name_prefix="clipsearch-embed")
    try:
        for results in batches:
            batch = _batch(results, is_known, work.looks)
            on_way.append((batch, threads.submit(encode, batch)))
            if len(on_way) >= _WAITING * len(encoders):
                yield first()
                on_way.popleft()  # not before: until the run has it, its pictures are known from here alone
        while on_way:
            yield first()
            on_way.popleft()
    finally:
        threads.shutdown(cancel_futures=True)
