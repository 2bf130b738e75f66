"""Talk to a contender's process: one JSON line there, one back, with a deadline."""

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from benchmarks.contenders.base import cpu_seconds_of

ROOT = str(Path(__file__).resolve().parent.parent)
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")


class WorkerError(Exception):
    """A contender failed or took too long; its own words."""


class Worker:
    """A contender's process, bound to ``threads`` cores."""

    def __init__(self, contender: str, python: str, threads: int, log: str, patient: bool = False) -> None:
        """Start it; what it prints goes to the file ``log``.

        ``patient`` threads sleep while they wait for each other: on a busy machine a build that spins gets nowhere.
        """
        self._log: IO[bytes] = open(log, "ab")  # noqa: SIM115 (closed in __exit__)
        environment = {**os.environ, **dict.fromkeys(POOLS, str(threads)), "PYTHONPATH": ROOT}
        if patient:
            environment["OMP_WAIT_POLICY"] = "PASSIVE"
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.contenders.worker", contender, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd=ROOT,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def ask(self, verb: str, cap_cpu_s: float = 0.0, **values: Any) -> dict[str, Any]:
        """Send a command and return its answer.

        Args:
            verb: "build", "open" or "search".
            cap_cpu_s: CPU seconds after which the process is killed; 0 waits for ever.
            values: of the command.

        Raises:
            WorkerError: it failed, died or took too much.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": verb, **values}).encode() + b"\n")
        self._process.stdin.flush()
        if cap_cpu_s and not self._answers_within(cap_cpu_s):
            self._process.kill()
            raise WorkerError(f"given up after {cap_cpu_s:g} CPU s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the process ended with code {self._process.wait()}; see {self._log.name}")
        answer = json.loads(line)
        if not answer.pop("ok"):
            raise WorkerError(answer["error"])
        return answer

    def _answers_within(self, cpu_seconds: float) -> bool:
        start = cpu_seconds_of(self._process.pid)
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            while not selector.select(0.2):
                if cpu_seconds_of(self._process.pid) - start > cpu_seconds:
                    return False
        return True


def python_of(environment: str | None, envs: str) -> str:
    """Return the interpreter of an environment; None is this process's own, and all are where ``envs`` is "current".

    Raises:
        WorkerError: it is not set up.
    """
    if environment is None or envs == "current":
        return sys.executable
    python = os.path.join(envs, environment, "bin", "python")
    if not os.path.exists(python):
        raise WorkerError(f"no environment {environment!r} in {envs}; make it: python -m benchmarks.run --setup")
    return python


def warm(folder: str) -> None:
    """Read all files of a build, so that every contender is opened from a warm page cache.

    Anew, from the disk: pages that came into the cache one by one, as random access to a mapped file brings them, stay
    small. Searches that map files are then 1.5 to 1.9 times as slow as on the large pages that reading in order makes.
    """
    for where, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(where, name), "rb") as file:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while file.read(1 << 24):
                    pass


def now() -> str:
    """Return the local time, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S")
