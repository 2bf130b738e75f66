"""Run an iterator ahead of its consumer, in a thread, by a bounded number of items."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


@contextmanager
def run_ahead(items: Iterator[T], depth: int) -> Iterator[Iterator[T]]:
    """Give an iterator that a thread keeps up to ``depth`` items ahead.

    The thread is the only one that touches ``items``: it also closes it, whether the consumer finished, stopped
    early or raised. An exception of ``items`` is raised again in the consumer, at its place in the order.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)  # Any: items, the end mark, or an exception
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def pump() -> None:
        end: Any = _END
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as problem:
            end = problem
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            put(end)

    def consume() -> Iterator[T]:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=pump, name="clipsearch-ahead", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()
