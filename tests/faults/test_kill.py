"""Runs that are killed at any moment: nothing acknowledged is lost, nothing is there twice, the next run goes on."""

import random
import time

import pytest
from faults.runs import check, command, leftovers, names, pictures, start

import clipsearch


def killed_runs(tmp_path, n: int, files: int, seed: int) -> None:
    """Kill n runs, each at a random moment of its work; whenever all is indexed, begin with a new collection."""
    photos, chance = pictures(tmp_path / "photos", files), random.Random(seed)
    number = kills = lost_work = 0
    acknowledged: set[str] = set()
    clipsearch.create(tmp_path / "0", model="hashing")
    longest = 2.0
    for _ in range(n):
        collection = tmp_path / str(number)
        process = start(command(collection, photos))
        began = time.monotonic()
        try:
            said, problem = process.communicate(timeout=chance.random() * longest)
        except Exception:  # subprocess.TimeoutExpired: the moment has come
            process.kill()
            said, problem = process.communicate()
            kills += 1
        else:
            assert process.returncode == 0, problem
            longest = 0.8 * longest + 0.2 * (time.monotonic() - began)
        lines = [line for line in said.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged |= {line.strip() for line in lines if not line.startswith("done")}
        check(collection, acknowledged)
        lost_work = max(lost_work, files - len(names(collection)) if process.returncode == 0 else 0)
        if process.returncode == 0:
            assert len(names(collection)) == files and leftovers(collection) == []
            number += 1
            acknowledged = set()
            clipsearch.create(tmp_path / str(number), model="hashing")
    assert kills > n / 4
    collection = tmp_path / str(number)
    assert start(command(collection, photos)).wait(120) == 0
    assert len(names(collection)) == files and leftovers(collection) == [] and lost_work == 0


def test_runs_killed_at_random_moments_lose_nothing_that_was_acknowledged(tmp_path):
    killed_runs(tmp_path, 3, 60, seed=1)


@pytest.mark.slow
def test_500_runs_killed_at_random_moments_lose_nothing_that_was_acknowledged(tmp_path):
    killed_runs(tmp_path, 500, 120, seed=int(time.time()))
