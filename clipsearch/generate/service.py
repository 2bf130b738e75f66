"""Who draws: one process a generator, one job a device, and a short queue before it.

Two jobs on one GPU would both run out of memory, so a device has a lock, which all processes of a user share. Those who
wait do so within their own deadline; where too many wait, the next is refused at once. The process is started at the
first job and stays until ``close``; one that was killed is replaced at the next job.
"""

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from clipsearch.errors import ClipsearchError, GenerationError
from clipsearch.generate.base import Options, check_request
from clipsearch.generate.breaker import Breaker
from clipsearch.generate.process import Drawn, GeneratorProcess, Setup, WorkerEnded, is_failure
from clipsearch.types import Pixels

WAITING = 4  # jobs that may wait for their turn


class GeneratorService:
    """Draws with one generator; a context manager, and safe to share between threads."""

    def __init__(self, setup: Setup, breaker: Breaker | None = None) -> None:
        """Prepare; nothing is started yet.

        Args:
            setup: which generator, and where it runs.
            breaker: remembers failures; None makes one for this object.
        """
        self.setup = setup
        self.breaker = breaker or Breaker()
        self._process: GeneratorProcess | None = None
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(WAITING + 1)
        self._closed = False

    def __enter__(self) -> "GeneratorService":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def draw(
        self,
        prompt: str,
        n: int,
        seed: int,
        options: Options,
        source: Pixels | None = None,
        *,
        seconds: float = 300.0,
    ) -> Drawn:
        """Draw ``n`` pictures within ``seconds``, waiting and loading included.

        Raises:
            InputError: the request makes no sense.
            GenerationError: nothing was drawn, and why.
        """
        check_request(prompt, n, seed, options)
        end = monotonic() + seconds
        if not self._places.acquire(blocking=False):
            raise GenerationError(f"Nothing is drawn: {WAITING} requests wait already. Try again later.")
        try:
            with self._device(end, seconds):
                return self._ask(prompt, n, seed, options, source, max(0.001, end - monotonic()))
        finally:
            self._places.release()

    def close(self) -> None:
        """Kill the process, also one that is drawing; its job fails."""
        self._closed = True
        if self._process is not None:
            self._process.end()

    @contextmanager
    def _device(self, end: float, seconds: float) -> Iterator[None]:
        """Hold the device: this object's, and that of all processes of the user."""
        if not self._turn.acquire(timeout=max(0.0, end - monotonic())):
            raise _too_busy(self.setup.device, seconds)
        try:
            with _device_lock(self.setup.device, end, seconds):
                yield
        finally:
            self._turn.release()

    def _ask(self, prompt: str, n: int, seed: int, options: Options, source: Pixels | None, seconds: float) -> Drawn:
        try:
            if self._closed:
                raise GenerationError("The generator was closed. Make another one.")
            if self._process is None or not self._process.is_alive():
                self._drop()
                self._process = GeneratorProcess(self.setup)
            drawn = self._process.ask(prompt, n, seed, options, source, seconds)
        except ClipsearchError as problem:
            if isinstance(problem, WorkerEnded):
                self._drop()
            if is_failure(problem):
                self.breaker.failed()
            raise
        except BaseException:  # an interrupt: what it draws belongs to nobody
            self._drop()
            raise
        self.breaker.worked()
        return drawn

    def _drop(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


def _too_busy(device: str, seconds: float) -> GenerationError:
    return GenerationError(
        f"Nothing is drawn: {device} was busy with another picture for {seconds:g} s.\nTry again when it is done."
    )


@contextmanager
def _device_lock(device: str, end: float, seconds: float) -> Iterator[None]:
    """Hold the lock of a device among this user's processes; without a safe place for it there is none."""
    folder = _lock_folder()
    if folder is None:
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(os.path.join(folder, f"{device.replace(':', '-').replace('/', '-')}.lock"), thread_local=False)
    try:
        lock.acquire(timeout=max(0.0, end - monotonic()))
    except Timeout:
        raise _too_busy(device, seconds) from None
    try:
        yield
    finally:
        lock.release()


def _lock_folder() -> str | None:
    """Return a folder of this user alone; None where somebody else made it."""
    folder = os.path.join(tempfile.gettempdir(), f"clipsearch-{os.getuid()}")
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        status = os.lstat(folder)
    except OSError:
        return None
    return folder if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() else None
