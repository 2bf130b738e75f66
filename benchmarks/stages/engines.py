"""What an engine costs a picture: ``local`` and ``ray`` side by side, with an encoder that costs next to nothing.

    python benchmarks/stages/engines.py [--pictures 2000] [--runs 3] [--workers 2] [--out engines.jsonl]

Makes small pictures, then indexes them into new collections with the encoder ``hashing``, the engines by turns, each
run in a process of its own. Both engines have as many decode processes. Beside all pictures a tenth of them is indexed:
``marginal`` is the difference in time over the difference in pictures, and so the cost of a picture without that of
starting Ray and its workers. ``start`` is the part of it until Ray and the dataset stand.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine, summary

RUN = """
import json, sys, clipsearch
path, source, engine, workers = sys.argv[1:5]
collection = clipsearch.create(path, "hashing")
how = {"engine": "ray", "ray_workers": int(workers), "workers": 1} if engine == "ray" else {"workers": int(workers)}
report = collection.index(source, **how)
total = report.seconds - report.stages.get("calibrate", 0.0)
print(json.dumps({"total": total, "start": report.stages.get("start", 0.0), "images": report.embedded}))
"""


def make_pictures(folder: Path, count: int) -> None:
    """Write JPEGs of 320 x 240 with seeded noise, each another one."""
    random = np.random.default_rng(0)
    for i in range(count):
        small = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((320, 240)).save(folder / f"{i:05}.jpg", quality=85)


def measure(engine: str, folder: Path, source: Path, workers: int) -> dict[str, float]:
    """Index once, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        done = subprocess.run(
            [sys.executable, "-c", RUN, f"{made}/c", str(source), engine, str(workers)],
            check=True,
            capture_output=True,
            text=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", default="benchmarks/results/engines.jsonl")
    options = parser.parse_args()
    import ray

    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        sources = {count: Path(temporary) / str(count) for count in (options.pictures // 10, options.pictures)}
        for count, source in sources.items():
            source.mkdir()
            make_pictures(source, count)
            measure("local", Path(temporary), source, options.workers)  # warm file cache
        for _ in range(options.runs):
            for count, source in sources.items():
                for engine in ("local", "ray"):
                    run = measure(engine, Path(temporary), source, options.workers)
                    assert run["images"] == count
                    found.setdefault((engine, count), []).append(run)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    small, large = sources
    for engine in ("local", "ray"):
        total = summary([run["total"] for run in found[engine, large]])
        few = summary([run["total"] for run in found[engine, small]])
        record = {
            "stage": "engines",
            "engine": engine,
            "pictures": large,
            "decode_processes": options.workers,
            **total,
            "ms_per_image": round(1000 * total["median_s"] / large, 3),
            "few_pictures": small,
            "few_median_s": few["median_s"],
            "marginal_ms_per_image": round(1000 * (total["median_s"] - few["median_s"]) / (large - small), 3),
            "start_s": round(statistics.median(run["start"] for run in found[engine, large]), 2),
        }
        print(
            f"{engine:6} {total['median_s']:7.2f} s ({total['min_s']:.2f} to {total['max_s']:.2f})  "
            f"{record['ms_per_image']:.2f} ms an image in all, {record['marginal_ms_per_image']:.2f} ms marginal; "
            f"{small} images {few['median_s']:.2f} s; start {record['start_s']:.1f} s"
        )
        append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine(), "ray": ray.__version__})


if __name__ == "__main__":
    main()
