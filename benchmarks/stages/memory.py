"""Memory of an index run: growth of the main process a file, and the peak of a decode worker on a very large picture.

    python benchmarks/stages/memory.py FOLDER [--files 100000] [--from 10000] [--out benchmarks/results/memory.jsonl]

Makes so many tiny pictures below FOLDER and indexes them with the encoder ``hashing``, in a process of its own that
notes its resident memory after ``--from`` files and at the end; then decodes one picture of 89 megapixels (the most
that the limit lets through) as a PNG with and without transparency and as a JPEG, each in a fresh worker.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine

SIDE = 9459  # squared: 89.47 megapixels

RUN = """
import json, resource, sys
import clipsearch
folder, first = sys.argv[1], int(sys.argv[2])
noted = {}
def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
def watch(progress):
    if progress.stage == "embed" and progress.done >= first and "first" not in noted:
        noted["first"], noted["kib_first"] = progress.done, resident()
    if progress.stage == "embed":
        noted["last"], noted["kib_last"] = progress.done, resident()
with clipsearch.create(folder + "/collection", model="hashing") as collection:
    report = collection.index(folder + "/photos", progress=watch)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({**noted, "kib_peak": peak, "embedded": report.embedded, "reused": report.reused,
                  "seconds": round(report.seconds, 1)}))
"""

DECODE = """
import json, os, resource, sys
from clipsearch.decode import DecodeLimits, DecodePool, DecodeRequest
from clipsearch.embed import load_encoder
from clipsearch.types import ImageRef
path = os.fsencode(sys.argv[1])
status = os.stat(path)
times = status.st_mtime_ns, status.st_ctime_ns
ref = ImageRef(os.path.dirname(path), os.path.basename(path), None, status.st_size, *times)
limits = DecodeLimits(seconds=600)  # memory is measured here, on a machine that may be busy
with DecodePool(load_encoder("hashing").preprocess, workers=1, limits=limits) as pool:
    (result,) = pool.run([DecodeRequest(ref)])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"outcome": type(result).__name__, "detail": getattr(result, "detail", ""), "kib_peak": peak}))
"""


def tiny_pictures(folder: Path, n: int) -> None:
    """Write n pictures of 8 x 8 pixels, no two alike, a thousand a folder; those that are there are kept."""
    from PIL import Image

    for number in range(n):
        file = folder / f"{number // 1000:04}" / f"{number:07}.bmp"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (8, 8), (number & 255, number >> 8 & 255, number >> 16 & 255))
            picture.putpixel((number % 8, number // 8 % 8), (255, 255, 255))
            picture.save(file)


def large_pictures(folder: Path) -> dict[str, Path]:
    """Write pictures of 89 megapixels."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    made = {"png": folder / "large.png", "png with alpha": folder / "alpha.png", "jpeg": folder / "large.jpg"}
    for name, path in made.items():
        if not path.exists():
            mode, colour = ("RGBA", (9, 99, 199, 99)) if "alpha" in name else ("RGB", (9, 99, 199))
            Image.new(mode, (SIDE, SIDE), colour).save(path)
    return made


def measured(script: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--from", dest="first", type=int, default=10_000)
    parser.add_argument("--out", default="benchmarks/results/memory.jsonl")
    options = parser.parse_args()
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    head = {"stage": "memory", "date": time.strftime("%Y-%m-%d"), **machine()}
    for name, path in large_pictures(options.folder / "large").items():
        seen = measured(DECODE, str(path))
        print(f"89 megapixels, {name}: {seen['outcome']}, worker peak {seen['kib_peak'] / 1024:.0f} MiB")
        append(options.out, {"part": "decode worker", "picture": name, "megapixels": SIDE * SIDE / 1e6, **seen, **head})
    if options.files:
        tiny_pictures(options.folder / "photos", options.files)
        seen = measured(RUN, str(options.folder), str(options.first))
        growth = (seen["kib_last"] - seen["kib_first"]) * 1024 / max(1, seen["last"] - seen["first"])
        print(f"main process: {growth:.0f} bytes a file from {seen['first']:,} to {seen['last']:,}; {seen}")
        append(options.out, {"part": "main process", "bytes_a_file": round(growth), **seen, **head})


if __name__ == "__main__":
    main()
