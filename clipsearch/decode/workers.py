"""Supervised worker processes: one bad file costs that file and nothing else.

The ready-made pools do not survive their workers: one that is killed breaks ``ProcessPoolExecutor`` for good and lets
``multiprocessing.Pool`` wait for ever. Here each worker has a socket of its own, so the supervisor knows which file a
dead one had in hand. That file becomes a Skip, those that waited behind it go to another worker, and the pool goes on.

Workers are plain child processes, not ``multiprocessing`` ones, which would run a script without a main guard again.
They start when there is work for them and stay until ``close``.

The answers come in the order of the requests. Requests are pulled only as far ahead as ``lookahead``.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from selectors import EVENT_READ, DefaultSelector
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from clipsearch.decode.limits import DecodeLimits
from clipsearch.decode.process import Setup, Worker, WorkerDied, WorkerStartError
from clipsearch.frames import Header
from clipsearch.types import Decoded, ImageMetadata, ImageRef, Skip, SkipReason

_MOST_WORKERS = 32
_QUEUE = 3  # requests a worker holds: the one in hand, and enough that it never waits for the supervisor
_STARTS = 3  # attempts to start a worker before something is plainly wrong


class PreprocessSpec(Protocol):
    """The encoder's preprocessing, as far as the supervisor needs it: how to make it again in a worker."""

    def spec(self) -> dict[str, Any]:  # Any: JSON
        """Return {"factory": "module:attribute", "kwargs": {...}}."""
        ...


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One file to decode, or only to hash; ``data`` stands in for a file's bytes where they are at hand."""

    ref: ImageRef
    hash_only: bool = False
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Hashed:
    """The SHA-256 (32 bytes) of a file that was not decoded."""

    ref: ImageRef
    content_hash: bytes


Result = Decoded | Hashed | Skip


@dataclass(slots=True, eq=False)
class _Slot:
    """A request on its way, and its result once there is one."""

    request: DecodeRequest
    result: Result | None = None


class DecodePool:
    """Decodes files in worker processes; a context manager."""

    def __init__(
        self,
        preprocess: PreprocessSpec,
        *,
        workers: int = 0,
        limits: DecodeLimits = DecodeLimits(),  # noqa: B008 (frozen)
        scaled: bool = True,
        lookahead: int = 64,
    ) -> None:
        """Prepare the pool; nothing is started yet.

        Args:
            preprocess: the encoder's preprocessing; ``spec()`` says how a worker makes it again.
            workers: processes; 0 means one for each core this process may use, 32 at most.
            limits: what one file may cost.
            scaled: let large pictures decode or shrink to about twice the encoder's size first.
            lookahead: requests that may be pulled before their turn.
        """
        self._setup = Setup(preprocess.spec(), limits, scaled)
        self._most = max(1, workers or min(_cores(), _MOST_WORKERS))
        self._lookahead = max(lookahead, 1)
        self._workers: list[Worker[_Slot]] = []
        self._selector = DefaultSelector()
        self._failed_starts = 0
        self._running = False
        self._closed = False

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def close(self) -> None:
        """End all workers; a run that is not finished cannot go on."""
        if not self._closed:
            self._closed = True
            self._end_workers()
            self._selector.close()

    def run(self, requests: Iterable[DecodeRequest]) -> Iterator[Result]:
        """Yield one result a request, in the same order; a file that cannot be decoded is a Skip.

        Raises:
            RuntimeError: the pool is closed, or another run is under way.
            ClipsearchError: worker processes cannot be started at all.
        """
        if self._closed or self._running:
            raise RuntimeError("the decode pool is closed" if self._closed else "the decode pool is running already")
        return self._run(iter(requests))

    def _run(self, requests: Iterator[DecodeRequest]) -> Iterator[Result]:
        if self._running:
            raise RuntimeError("the decode pool is running already")
        self._running = True
        finished = False
        waiting: deque[_Slot] = deque()  # pulled, not yet with a worker
        slots: deque[_Slot] = deque()  # pulled, not yet yielded
        try:
            more = True
            while True:
                more = more and self._pull(requests, slots, waiting)
                if not slots:
                    break
                if (result := slots[0].result) is not None:
                    slots.popleft()
                    yield result
                elif self._closed:
                    raise RuntimeError("the decode pool was closed during a run")
                else:
                    self._wait(waiting)
            finished = True
        finally:
            self._running = False
            if not finished:
                self._end_workers()  # what they have in hand belongs to nobody

    def _pull(self, requests: Iterator[DecodeRequest], slots: deque[_Slot], waiting: deque[_Slot]) -> bool:
        """Take requests until enough are on their way; returns whether there may be more."""
        while len(slots) < self._lookahead:
            request = next(requests, None)
            if request is None:
                return False
            slot = _Slot(request)
            slots.append(slot)
            waiting.append(slot)
            self._hand_out(waiting)
        return True

    def _hand_out(self, waiting: deque[_Slot]) -> None:
        """Give requests that wait to workers with room, starting workers as long as all are busy."""
        while waiting and not self._closed:
            worker = min(self._workers, key=lambda candidate: len(candidate.held), default=None)
            if worker is None or (worker.held and len(self._workers) < self._most):
                worker = self._start_worker()
            if len(worker.held) >= _QUEUE:
                return
            if not worker.held and not worker.is_alive():  # it died idle: no file's fault
                self._drop(worker)
                continue
            slot = waiting.popleft()
            worker.submit(slot, *_message(slot.request))

    def _wait(self, waiting: deque[_Slot]) -> None:
        """Wait until a worker answers, dies or is overdue."""
        left = [seconds for worker in self._workers if (seconds := worker.seconds_left()) is not None]
        events = self._selector.select(max(0.0, min(left, default=0.0)))
        heard = [key.data for key, _ in events]
        for worker in heard:
            self._listen(worker, waiting)
        for worker in [worker for worker in self._workers if worker not in heard]:
            if (seconds := worker.seconds_left()) is not None and seconds <= 0:
                died = WorkerDied(SkipReason.DECODE_TIMEOUT, f"no answer within {self._setup.limits.seconds:g} s")
                self._bury(worker, died, waiting)
        self._hand_out(waiting)

    def _listen(self, worker: Worker[_Slot], waiting: deque[_Slot]) -> None:
        try:
            for slot, header, body in worker.answers():
                slot.result = _result(slot.request, header, body)
                self._failed_starts = 0
        except WorkerDied as died:
            self._bury(worker, died, waiting)

    def _bury(self, worker: Worker[_Slot], died: WorkerDied, waiting: deque[_Slot]) -> None:
        """Note the file that a dead worker had in hand; what waited behind it goes to the front again."""
        self._drop(worker)
        if not worker.ready:  # no file's fault
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise WorkerStartError(f"The processes that decode pictures cannot start: {died.detail}")
        elif worker.held:
            slot = worker.held.popleft()
            slot.result = Skip(slot.request.ref.path, died.reason, died.detail, slot.request.ref.member)
        waiting.extendleft(reversed(worker.held))

    def _start_worker(self) -> Worker[_Slot]:
        worker: Worker[_Slot] = Worker(self._setup)
        self._workers.append(worker)
        self._selector.register(worker.connection, EVENT_READ, worker)
        return worker

    def _drop(self, worker: Worker[_Slot]) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.connection)
        worker.end()

    def _end_workers(self) -> None:
        for worker in list(self._workers):
            self._drop(worker)


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _message(request: DecodeRequest) -> tuple[Header, bytes]:
    """Return the frame of a request; a file is named by its absolute path."""
    if request.data is not None:
        return {"kind": "bytes"}, request.data
    ref = request.ref
    header = {
        "kind": "hash" if request.hash_only else "file",
        "member": ref.member is not None,
        "size": ref.size,
        "mtime_ns": ref.mtime_ns,
        "ctime_ns": ref.ctime_ns,
        "offset": ref.offset,
    }
    return header, os.path.join(ref.root, ref.path)


def _result(request: DecodeRequest, header: Header, body: bytes) -> Result:
    """Build the result from a worker's answer, trusting no more of it than its form.

    An answer that makes no sense is the skip of a decoder gone wrong.
    """
    ref = request.ref
    try:
        if "reason" in header:
            return Skip(ref.path, SkipReason(header["reason"]), str(header["detail"]), ref.member)
        content_hash = bytes.fromhex(header["hash"])
        if request.hash_only:
            return Hashed(ref, content_hash)
        values = dict(header["metadata"])
        values["taken"] = datetime.fromisoformat(values["taken"]) if values["taken"] else None
        pixels = np.frombuffer(body, np.uint8).reshape(header["shape"])
        return Decoded(ref, content_hash, ImageMetadata(**values), pixels)
    except (KeyError, TypeError, ValueError) as error:
        return Skip(ref.path, SkipReason.DECODE_CRASH, f"the decoder answered nonsense: {error}", ref.member)
