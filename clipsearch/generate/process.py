"""A generator's process as the supervisor sees it: start it, ask it, kill it when its time is up."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import IO

import numpy as np

from clipsearch import errors, frames
from clipsearch.errors import ClipsearchError, GenerationError
from clipsearch.generate import base
from clipsearch.generate.base import Options
from clipsearch.types import Pixels

# The supervisor's own search path, minus the surprises: -I keeps a json.py in the current folder out.
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from clipsearch.generate.worker import main; main(int(sys.argv[1]))"
)
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
_PIECE = 1 << 18
_RAISED = {
    name: getattr(module, name)
    for module, names in (
        (base, ("OutOfMemory", "UnusablePicture", "Refused")),
        (errors, ("InputError", "MissingExtraError", "WeightsNotFoundError", "GenerationError")),
    )
    for name in names
}


class WorkerEnded(GenerationError):
    """The process was killed, crashed, or answered nonsense."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a process is told once.

    Attributes:
        factory: "module:attribute" of the family.
        folder: where the weights are, or None for a family without.
        device: where to draw: "cpu", "cuda", "cuda:1".
        dtype: numbers to draw in: "fp32", "bf16", "fp16".
        encoder: "module:attribute" of the encoder whose text tower the family reads the prompt with; None for none.
    """

    factory: str
    folder: str | None = None
    device: str = "cpu"
    dtype: str = "fp32"
    encoder: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Pictures (n, H, W, 3) uint8, and what was done to get them where the first attempt failed."""

    pixels: Pixels
    done: tuple[str, ...] = ()


class GeneratorProcess:
    """One process with one generator; it loads its weights at the first request and keeps them."""

    def __init__(self, setup: Setup) -> None:
        self._buffer = frames.FrameBuffer()
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 (closed in end)
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = _start(theirs.fileno(), self._noise)
        with suppress(OSError):
            frames.send(self._connection, asdict(setup))

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    def ask(self, prompt: str, n: int, seed: int, options: Options, source: Pixels | None, seconds: float) -> Drawn:
        """Draw; the process is of no use any more where this raises WorkerEnded.

        Raises:
            GenerationError: it could not draw; WorkerEnded: it was killed or died.
            InputError, MissingExtraError, WeightsNotFoundError: as the family says.
        """
        end = monotonic() + seconds
        header = {"prompt": prompt, "n": n, "seed": seed, "options": asdict(options)}
        if source is not None:
            header["source"] = source.shape
        try:
            self._connection.settimeout(seconds)
            frames.send(self._connection, header, b"" if source is None else source.tobytes())
        except TimeoutError:
            raise self._overdue(seconds) from None
        except OSError:
            raise self._died() from None
        answer, body = self._receive(end, seconds)
        if "error" in answer:
            raise _RAISED.get(str(answer["error"]), GenerationError)(str(answer.get("why")))
        try:
            pixels = np.frombuffer(body, np.uint8).reshape(answer["shape"])
            if pixels.ndim != 4 or len(pixels) != n or pixels.shape[3] != 3:
                raise ValueError(f"pictures of the shape {pixels.shape}")
            return Drawn(pixels, tuple(map(str, answer["done"])))
        except (KeyError, TypeError, ValueError) as problem:
            raise WorkerEnded(f"The generator answered nonsense: {problem}") from None

    def end(self) -> None:
        """Kill the process and wait for it."""
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._connection.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._noise.close()

    def _receive(self, end: float, seconds: float) -> tuple[frames.Header, bytes]:
        while True:
            left = end - monotonic()
            if left <= 0:
                raise self._overdue(seconds)
            self._connection.settimeout(left)
            try:
                piece = self._connection.recv(_PIECE)
            except TimeoutError:
                raise self._overdue(seconds) from None
            except OSError:
                piece = b""
            if not piece:
                raise self._died()
            try:
                for frame in self._buffer.feed(piece):
                    return frame
            except frames.FrameError as problem:
                raise WorkerEnded(f"The generator answered nonsense: {problem}") from None

    def _overdue(self, seconds: float) -> WorkerEnded:
        return WorkerEnded(
            f"Nothing was drawn within {round(seconds, 1):g} s, so the generator was stopped.\n"
            "Give it more time, fewer steps or a smaller size."
        )

    def _died(self) -> WorkerEnded:
        status = None
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(timeout=2)
        if status == -signal.SIGKILL:
            return WorkerEnded(
                "The generator was killed, most likely because memory ran out.\nTry a smaller size or a smaller model."
            )
        how = "ended" if status is None else f"exited with status {status}"
        if status is not None and status < 0:
            how = f"died of signal {-status}"
        return WorkerEnded(f"The generator {how}{self._last_words()}.\nTry again, or another model.")

    def _last_words(self) -> str:
        size = os.fstat(self._noise.fileno()).st_size
        tail = os.pread(self._noise.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace")
        lines = [line for line in tail.replace("\0", "").splitlines() if line.strip()]
        return f": {lines[-1].strip()[:200]}" if lines else ""


def _start(descriptor: int, noise: IO[bytes]) -> "subprocess.Popen[bytes]":
    path = json.dumps([os.path.abspath(place) for place in sys.path])
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, str(descriptor), path],
            stdin=subprocess.PIPE,  # the lifeline, see worker.py
            stdout=subprocess.DEVNULL,
            stderr=noise,
            pass_fds=(descriptor,),
            process_group=0,  # Ctrl-C in the terminal is for the supervisor
            cwd="/",
            env={**os.environ, **_ENVIRONMENT},
        )
    except OSError as problem:
        raise WorkerEnded(f"The generator's process cannot start: {problem}.\nTry again later.") from problem


def is_failure(problem: ClipsearchError) -> bool:
    """Tell whether an error is the generator's fault, not the request's, so that trying on makes little sense."""
    return isinstance(problem, GenerationError) and not isinstance(problem, base.Refused)
