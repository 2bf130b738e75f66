"""Every mutating system call of an index run may be the last, or fail: the next run completes it, nothing is left."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults.runs import ENVIRONMENT

INJECTING = str(Path(__file__).with_name("injecting.py"))


@pytest.fixture
def injected(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")

    def run(files: int, step: int) -> dict[str, int]:
        line = [sys.executable, INJECTING, str(tmp_path), str(files), str(step)]
        done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        print(done.stdout)
        return json.loads(done.stdout)

    return run


def test_a_kill_a_full_disk_and_a_broken_disk_at_some_calls_of_a_run_are_recovered_from(injected):
    seen = injected(12, 37)
    assert seen["violations"] == 0 and seen["points"] >= 3


@pytest.mark.slow
def test_a_kill_a_full_disk_and_a_broken_disk_at_every_call_of_a_run_of_100_files_are_recovered_from(injected):
    seen = injected(100, 1)
    assert seen["points"] == 3 * seen["calls"]
    assert seen["kill: stopped"] >= 0.97 * seen["calls"]
