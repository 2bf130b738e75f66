"""What every engine promises, and the values that pass between it and ``ingest``."""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from clipsearch.decode import DecodePool, DecodeRequest
from clipsearch.errors import ClipsearchError
from clipsearch.scan import Holder
from clipsearch.types import Floats, ImageMetadata, ImageRef, Skip

T = TypeVar("T")
Timer = Callable[[str], AbstractContextManager[None]]


class EngineError(ClipsearchError):
    """The engine itself failed, and no picture's fault; what was committed is kept."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the work is to be done.

    Attributes:
        record: what the manifest keeps of the encoder; an engine that loads another copy checks it against this.
        collection: path of the collection, for messages.
        runtime: as for ``load_encoder``.
        device: as for ``load_encoder``; also several with commas between, or "all".
        precision: as for ``load_encoder``.
        jobs: decode processes (of each worker); 0 means as many as fit.
        address: the cluster's address, or None for one of this machine alone.
        workers: copies of the encoder over the cluster; 0 means as many as fit.
    """

    record: Mapping[str, Any]  # Any: JSON
    collection: str
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    jobs: int = 0
    address: str | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture and its embedding (D,) float32.

    ``embedding`` is None where the same bytes came earlier in the run: their embedding is this one's too. ``look`` is
    a thumbnail to know generated pictures by, where the run asked for it.
    """

    ref: ImageRef
    content_hash: bytes
    metadata: ImageMetadata
    embedding: Floats | None
    look: bytes | None = None


Result = Embedded | Skip


@dataclass(frozen=True, slots=True)
class Work:
    """What a run gives its engine.

    Attributes:
        refs: the files to embed.
        pool: decodes on this machine; an engine may leave it idle.
        batch_size: pictures a forward pass.
        is_known: whether the bytes of this hash have an embedding by now; they need no other.
        timed: adds the time spent inside to a stage of the report.
        looks: whether results shall have a thumbnail.
        holder: the source, where it alone can read its pictures.
    """

    refs: Sequence[ImageRef]
    pool: DecodePool
    batch_size: int
    is_known: Callable[[bytes], bool]
    timed: Timer
    looks: bool = False
    holder: Holder | None = None

    def requests(self) -> Iterator[DecodeRequest]:
        """Yield what decode workers are asked for: a file to open, or the bytes that the source holds of it."""
        if self.holder is None:
            yield from map(DecodeRequest, self.refs)
            return
        for ref, data in zip(self.refs, self.holder.load(self.refs), strict=True):
            yield DecodeRequest(ref, data=data)


class Engine(Protocol):
    """Decodes and embeds."""

    def embed(self, work: Work) -> Generator[list[Result]]:
        """Yield one result a file, in the order of the files, in batches of ``batch_size`` pictures.

        What a batch holds has been taken over by the run when the next one is asked for. Skips do not count as
        pictures, so that all engines cut their batches, and with them the shards, at the same places.
        """
        ...


def cut(results: Iterable[T | Skip], batch_size: int) -> Iterator[list[T | Skip]]:
    """Cut results into batches of so many pictures and the skips among them."""
    batch: list[T | Skip] = []
    pictures = 0
    for result in results:
        batch.append(result)
        pictures += not isinstance(result, Skip)
        if pictures >= batch_size:
            yield batch
            batch, pictures = [], 0
    if batch:
        yield batch


def timed_iteration(timed: Timer, stage: str, items: Iterable[T]) -> Iterator[T]:
    """Iterate, and add the time spent waiting for each item to a stage."""
    iterator = iter(items)
    while True:
        with timed(stage):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def gist(text: str) -> str:
    """Return the line of a long message that says most: the last that names an error, else the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named[-1] if named else "".join(lines[:1]))[:200]
