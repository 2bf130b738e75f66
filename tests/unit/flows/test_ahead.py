import threading
import time

import pytest

from clipsearch.flows.ahead import run_ahead


def test_items_come_in_order():
    with run_ahead(iter(range(100)), 8) as items:
        assert list(items) == list(range(100))


def test_the_producer_stays_within_its_bound():
    made = []

    def produce():
        for i in range(100):
            made.append(i)
            yield i

    with run_ahead(produce(), 4) as items:
        next(items)
        time.sleep(0.3)
        assert len(made) <= 1 + 4 + 1


def test_an_exception_reaches_the_consumer_at_its_place():
    def produce():
        yield 1
        raise ValueError("third")

    with run_ahead(produce(), 4) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="third"):
            next(items)


def test_leaving_early_closes_the_producer_and_ends_the_thread():
    closed = threading.Event()

    def produce():
        try:
            yield from range(10**9)
        finally:
            closed.set()

    with run_ahead(produce(), 4) as items:
        next(items)
    assert closed.wait(2)
    assert not any(thread.name == "clipsearch-ahead" for thread in threading.enumerate())
