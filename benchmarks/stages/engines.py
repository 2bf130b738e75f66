"""What an engine costs a picture: ``local`` and ``ray`` side by side, with an encoder that costs next to nothing.

    python benchmarks/stages/engines.py [--pictures 2000] [--runs 3] [--workers 2] [--out engines.jsonl]

Makes small pictures, then indexes them into new collections with the encoder ``hashing``, the engines by turns, each
run in a process of its own. Both engines have as many decode processes. ``start`` is the time until Ray and the dataset
stand; its workers start after that. ``steady`` is the time a picture from the first row that came back to the last.
"""

import argparse
import json
import os
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
import json, sys, time, clipsearch
path, source, engine, workers = sys.argv[1:5]
collection = clipsearch.create(path, "hashing")
how = {"engine": "ray", "ray_workers": int(workers), "workers": 1} if engine == "ray" else {"workers": int(workers)}
seen = []
start = time.perf_counter()
report = collection.index(
    source, progress=lambda p: seen.append((time.perf_counter(), p.done)) if p.stage == "embed" else None, **how
)
print(json.dumps({
    "total": seen[-1][0] - start,
    "start": report.stages.get("start", 0.0),
    "steady": (seen[-1][0] - seen[0][0]) / (seen[-1][1] - seen[0][1]),
    "images": report.embedded,
}))
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

    found: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "pictures"
        source.mkdir()
        make_pictures(source, options.pictures)
        measure("local", Path(temporary), source, options.workers)  # warm file cache
        for _ in range(options.runs):
            for engine, runs in found.items():
                runs.append(measure(engine, Path(temporary), source, options.workers))
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    for engine, runs in found.items():
        assert all(run["images"] == options.pictures for run in runs)
        total = summary([run["total"] for run in runs])
        steady = summary([1000 * run["steady"] for run in runs])
        record = {
            "stage": "engines",
            "engine": engine,
            "pictures": options.pictures,
            "decode_processes": options.workers,
            **total,
            "ms_per_image": round(1000 * total["median_s"] / options.pictures, 3),
            "start_s": summary([run["start"] for run in runs])["median_s"] if engine == "ray" else 0.0,
            "steady_ms_per_image": steady["median_s"],
            "steady_ms_min_max": [steady["min_s"], steady["max_s"]],
        }
        print(
            f"{engine:6} {total['median_s']:7.2f} s ({total['min_s']:.2f} to {total['max_s']:.2f})  "
            f"{record['ms_per_image']:.2f} ms an image in all, {steady['median_s']:.2f} ms once it runs; "
            f"start {record['start_s']:.1f} s"
        )
        append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine(), "ray": ray.__version__})


if __name__ == "__main__":
    main()
