"""Runs that are killed at any moment: nothing acknowledged is lost, nothing is there twice, the next run goes on."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.runs import ENVIRONMENT

KILLING = str(Path(__file__).with_name("killing.py"))


def killed_runs(tmp_path, n: int, files: int, seed: int) -> dict[str, int]:
    line = [sys.executable, KILLING, str(tmp_path), str(n), str(files), str(seed)]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    print(done.stdout)
    return json.loads(done.stdout)


def test_runs_killed_at_random_moments_lose_nothing_that_was_acknowledged(tmp_path):
    seen = killed_runs(tmp_path, 6, 60, seed=3)
    assert seen["kills"] >= 1 and seen["whole"] >= 1


@pytest.mark.slow
def test_500_runs_killed_at_random_moments_lose_nothing_that_was_acknowledged(tmp_path):
    seen = killed_runs(tmp_path, 500, 120, seed=int(time.time()))
    assert seen["kills"] > 250
