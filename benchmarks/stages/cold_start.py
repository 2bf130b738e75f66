"""Whole-process time of ``clipsearch search`` and ``--help``, beside a bare ``import numpy`` in the same run.

    python benchmarks/stages/cold_start.py PHOTOS [--runs 15] [--out benchmarks/results/cold_start.jsonl]

PHOTOS is a folder of 1,000 pictures (of any kind; the figure hardly depends on them). The collection is made first,
with ``mini``; then the commands run in turn, A B C A B C ..., in warm file cache, so that drift meets all alike.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine, summary


def clock(command: list[str]) -> float:
    """Return the wall seconds of a whole process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", default="benchmarks/results/cold_start.jsonl")
    options = parser.parse_args()
    clipsearch = str(Path(sys.executable).parent / "clipsearch")
    with tempfile.TemporaryDirectory() as temporary:
        index = str(Path(temporary) / "photos")
        subprocess.run([clipsearch, "index", options.photos, "-i", index, "--model", "mini", "-q"], check=True)
        commands = {
            "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
            "clipsearch --help": [clipsearch, "--help"],
            "clipsearch search TEXT": [clipsearch, "search", "-i", index, "--text", "two dogs playing in snow"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for command in commands.values():
            clock(command)
        for _ in range(options.runs):
            for name, command in commands.items():
                times[name].append(clock(command))
    base = summary(times["python -c 'import numpy'"])["median_s"]
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    for name, seconds in times.items():
        figures = summary(seconds)
        record = {
            "stage": "cold_start",
            "command": name,
            **figures,
            "ratio_to_numpy": round(figures["median_s"] / base, 2),
        }
        spread = f"({figures['min_s']:.3f} to {figures['max_s']:.3f})"
        print(f"{name:26} {figures['median_s']:.3f} s {spread}  {record['ratio_to_numpy']} x numpy")
        append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})


if __name__ == "__main__":
    main()
