"""Ctrl-C at any moment: exit code 130, soon, with everything that was acknowledged, and the next run goes on."""

import random
import signal
import time

import pytest
from faults.runs import check, command, leftovers, names, pictures, start

import clipsearch


def interrupted(tmp_path, n: int, seconds: float) -> None:
    photos, chance, slowest = pictures(tmp_path / "photos", 150), random.Random(n), 0.0
    for number in range(n):
        collection = tmp_path / f"{number}"
        clipsearch.create(collection, model="hashing")
        process = start(command(collection, photos, 8))
        assert process.stdout is not None
        told = [process.stdout.readline()]  # it is at work
        time.sleep(chance.random() * 0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        said, problem = process.communicate(timeout=60)
        slowest = max(slowest, time.monotonic() - began)
        assert process.returncode in (130, 0), problem
        told += said.splitlines(keepends=True)
        check(collection, {line.strip() for line in told if line.strip() and not line.startswith("done")})
        assert leftovers(collection) == []
        again = start(command(collection, photos))
        again.communicate(timeout=120)
        assert again.returncode == 0 and len(names(collection)) == 150
    assert slowest < seconds
    print(f"{n} interrupts, the slowest ended after {slowest:.2f} s")


def test_an_interrupt_ends_soon_and_keeps_what_was_acknowledged(tmp_path):
    interrupted(tmp_path, 1, seconds=30)  # tests may share a busy machine


@pytest.mark.slow
def test_30_interrupts_each_end_within_3_seconds(tmp_path):
    interrupted(tmp_path, 30, seconds=3)
