"""What is made once a process, by however many threads, and anew after a fork."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from clipsearch.embed.runtime.per_process import PerProcess


def test_many_threads_make_it_once():
    made = []

    def make():
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    one = PerProcess(make)
    assert not one.is_made
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: one.get(), range(16)))
    assert len(made) == 1
    assert all(each is made[0] for each in found)
    assert one.is_made


def test_another_process_makes_its_own(monkeypatch):
    one = PerProcess(object)
    parents = one.get()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert not one.is_made
    assert one.get() is not parents
