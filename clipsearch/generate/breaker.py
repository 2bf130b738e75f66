"""Stop trying for a while after several failures: the third in five minutes opens the breaker.

A search in a loop would otherwise start a process that dies, again and again. The times of failures are kept in a file,
since each call of the command line is a process of its own; a success forgets them.
"""

import json
import os
import time
from contextlib import suppress

from clipsearch.errors import GenerationError

FAILURES, WINDOW = 3, 300.0  # seconds


class Breaker:
    """Remembers failures; ``path`` is a file that need not exist, or None for this process only."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._times: list[float] = []

    def check(self) -> None:
        """Refuse to try where it failed too often.

        Raises:
            GenerationError: it is to wait.
        """
        times = self._recent()
        if len(times) >= FAILURES:
            wait = max(1.0, times[-FAILURES] + WINDOW - time.time())
            raise GenerationError(
                f"Nothing is drawn for {wait:.0f} s: it failed {len(times)} times in a row.\n"
                "What is wrong, says a direct call: clipsearch generate 'a red ball'"
            )

    def failed(self) -> None:
        """Note a failure."""
        self._write([*self._recent(), time.time()])

    def worked(self) -> None:
        """Forget the failures."""
        if self._recent():
            self._write([])

    def _recent(self) -> list[float]:
        times = self._times
        if self._path is not None:
            with suppress(OSError, ValueError, TypeError), open(self._path, encoding="utf-8") as file:
                times = [float(moment) for moment in json.load(file)]
        now = time.time()
        return [moment for moment in times if now - WINDOW < moment <= now]

    def _write(self, times: list[float]) -> None:
        self._times = times
        if self._path is not None:
            with suppress(OSError):  # it is a help, no more
                os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
                with open(self._path, "w", encoding="utf-8") as file:
                    json.dump(times, file)
