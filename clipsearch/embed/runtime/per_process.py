"""Something that does not survive a fork, made anew in each process on first use."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Holds what ``make`` gives, once a process."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[int, T] = {}  # by process; a parent's is kept, as destroying it here could hang

    @property
    def is_made(self) -> bool:
        """Whether this process has its own already."""
        return os.getpid() in self._made

    def get(self) -> T:
        """Return this process's own."""
        made = self._made.get(os.getpid())
        if made is not None:
            return made
        with self._lock:
            if os.getpid() not in self._made:
                self._made[os.getpid()] = self._make()
            return self._made[os.getpid()]
