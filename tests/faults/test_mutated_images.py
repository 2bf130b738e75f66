"""Mutated pictures of every format go through the decoder: no worker dies, nothing escapes, none takes too long."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from faults.runs import ENVIRONMENT

STAGE = Path(__file__).parents[2] / "benchmarks" / "stages" / "mutated_images.py"


def decoded(work: Path, count: int, seed: int) -> dict:
    line = [sys.executable, str(STAGE), str(work), "--count", str(count), "--seed", str(seed), "--jobs", "2"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["count"], found["crashes"], found["escaped"], found["over_time"]) == (count, 0, 0, 0)
    return found


def test_mutated_pictures_cost_themselves_only_and_a_second_run_has_nothing_to_do(tmp_path):
    found = decoded(tmp_path, 1000, seed=3)
    assert found["outcomes"]["ok"] > 100 and found["outcomes"]["corrupt"] > 100
    assert decoded(tmp_path, 1000, seed=3)["worker_seconds"] == found["worker_seconds"]


@pytest.mark.slow
def test_20000_mutated_pictures_cost_themselves_only(tmp_path):
    decoded(tmp_path, 20_000, seed=4)
