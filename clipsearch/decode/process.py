"""One worker process as the supervisor sees it: start it, give it work, hear of its end."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

from clipsearch import frames
from clipsearch.decode.limits import DecodeLimits
from clipsearch.errors import ClipsearchError
from clipsearch.types import SkipReason

# The supervisor's own search path, minus the surprises: -I keeps a json.py in the current folder out.
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from clipsearch.decode.worker import main; main(int(sys.argv[1]))"
)
# One core a worker. Threads would also take address space, which is limited.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}
_START_SECONDS = 60.0  # a cold disk
_GRACE_SECONDS = 2.0  # a worker kills itself in time; the supervisor only where it cannot, as when it is stopped
_PIECE = 1 << 18

T = TypeVar("T")


class WorkerStartError(ClipsearchError):
    """Worker processes cannot be started: not one picture's fault."""


class WorkerDied(Exception):
    """A worker ended with work in hand; says why, as a Skip does."""

    def __init__(self, reason: SkipReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker is told once."""

    preprocess: dict[str, Any]  # Any: JSON, see Preprocess.spec
    limits: DecodeLimits
    scaled: bool


class Worker(Generic[T]):
    """A worker process and the jobs it holds, first the one in hand."""

    def __init__(self, setup: Setup) -> None:
        self.held: deque[T] = deque()
        self.ready = False
        self._seconds = setup.limits.seconds + _GRACE_SECONDS
        self._deadline = monotonic() + _START_SECONDS
        self._buffer = frames.FrameBuffer()
        self._noise = _noise_file()
        self.connection, theirs = socket.socketpair()
        with theirs:
            self._process = _start(theirs.fileno(), self._noise)
        self.connection.settimeout(_START_SECONDS)
        self._send({"preprocess": setup.preprocess, "limits": asdict(setup.limits), "scaled": setup.scaled})

    def submit(self, job: T, header: frames.Header, body: bytes) -> None:
        """Send a request and hold its job; a dead worker is noticed when it is read."""
        if not self.held and self.ready:
            self._deadline = monotonic() + self._seconds
        self.held.append(job)
        self._send(header, body)

    def answers(self) -> Iterator[tuple[T, frames.Header, bytes]]:
        """Yield what has arrived, with the job that it answers.

        Raises:
            WorkerDied: the worker has ended.
            WorkerStartError: it never came so far as to decode.
        """
        try:
            piece = self.connection.recv(_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            raise self._died()
        self._deadline = monotonic() + self._seconds
        try:
            for header, body in self._buffer.feed(piece):
                if self.ready:
                    yield self.held.popleft(), header, body
                elif header.get("ready"):
                    self.ready = True
                else:
                    raise WorkerStartError(f"The processes that decode pictures cannot start: {header.get('why')}")
        except (frames.FrameError, IndexError) as error:
            raise WorkerDied(SkipReason.DECODE_CRASH, f"the decoder answered nonsense: {error}") from error

    def seconds_left(self) -> float | None:
        """Return the time until the worker is overdue; None while it has nothing to do."""
        return self._deadline - monotonic() if self.held else None

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill the process and wait for it."""
        with suppress(OSError):
            self._process.kill()
        self._reap()
        self.connection.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._noise is not None:
            os.close(self._noise)
            self._noise = None

    def _send(self, header: frames.Header, body: bytes = b"") -> None:
        with suppress(OSError):  # it died: reading tells how
            frames.send(self.connection, header, body)

    def _reap(self) -> int | None:
        # A process in an uninterruptible read of a dead network drive does not die of SIGKILL.
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=2)
        return None

    def _died(self) -> WorkerDied:
        status = self._reap()
        if status == -signal.SIGALRM:
            return WorkerDied(SkipReason.DECODE_TIMEOUT, f"not decoded within {self._seconds - _GRACE_SECONDS:g} s")
        how = "ended" if status is None else f"exited with status {status}"
        if status is not None and status < 0:
            how = f"was killed by {_signal_name(-status)}"
        return WorkerDied(SkipReason.DECODE_CRASH, f"the decoder {how}{self._last_words()}")

    def _last_words(self) -> str:
        if self._noise is None:
            return ""
        size = os.fstat(self._noise).st_size
        tail = os.pread(self._noise, 2000, max(0, size - 2000)).decode("utf-8", "replace")
        lines = [line for line in tail.replace("\0", "").splitlines() if line.strip()]
        return f": {lines[-1].strip()[:200]}" if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _noise_file() -> int | None:
    """Return a file for what C libraries print, in memory where the system has that; None without one."""
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("clipsearch-decode")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
    except OSError:
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)  # so that it can be emptied while it is written
    return descriptor


def _start(descriptor: int, noise: int | None) -> "subprocess.Popen[bytes]":
    path = json.dumps([os.path.abspath(place) for place in sys.path])
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, str(descriptor), path],
            stdin=subprocess.PIPE,  # the lifeline, see worker.py
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if noise is None else noise,
            pass_fds=(descriptor,),
            process_group=0,  # Ctrl-C in the terminal is for the supervisor
            cwd="/",
            env={**os.environ, **_ENVIRONMENT},
        )
    except OSError as error:
        raise WorkerStartError(f"The processes that decode pictures cannot start: {error}") from error
