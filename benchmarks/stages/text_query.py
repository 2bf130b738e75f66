"""A text query by an exported open_clip ViT-B-32: as a whole process, and the text tower alone.

    python benchmarks/stages/embed_speed.py FOLDER --prepare    # once: model with random weights, exports, pictures
    python benchmarks/stages/text_query.py FOLDER [--runs 9] [--seconds 60] [--out FILE]

Whole processes in turn, in warm file cache: ``clipsearch search WORDS``, a bare ``import open_clip``, and
``clipsearch search --runtime torch``, which is what a search costs without an export. Then one caption at a time
through the tower: padded to 77 tokens as open_clip does, at its real length in torch, and so in ONNX Runtime.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from results import append, machine, summary

WORDS = "two dogs playing in the snow behind a red house"  # 12 tokens, as many as a caption of Flickr8k has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further round after this")
    parser.add_argument("--out", default="benchmarks/results/text_query.jsonl")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    os.environ["HF_HUB_CACHE"] = str(folder / "hub")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    place = collection(folder)
    search = [sys.executable, "-m", "clipsearch", "search", "-i", str(place), "--text", WORDS, "--all", "-q"]
    commands = {
        "import open_clip": [sys.executable, "-c", "import open_clip"],
        "clipsearch search": search,
        "clipsearch search --runtime torch": [*search, "--runtime", "torch"],
    }
    keep("whole process", in_turn({name: process(one) for name, one in commands.items()}, options), options.out)
    keep("text tower", in_turn(towers(folder), options, calls=10), options.out)


def collection(folder: Path) -> Path:
    """Make the collection that is searched, of a few of the pictures."""
    import clipsearch

    place = folder / "indexed"
    if not place.exists():
        few = folder / "few"
        few.mkdir(exist_ok=True)
        for file in sorted((folder / "2mp").glob("*.jpg"))[:20]:
            (few / file.name).hardlink_to(file)
        with clipsearch.create(place, f"ViT-B-32@{folder / 'vit-b-32.pt'}", runtime="torch") as made:
            made.index(few)
    return place


def process(command: list[str]) -> Callable[[], Any]:
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def towers(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return ways to embed one text; they are compared first."""
    import torch

    from clipsearch.embed import load_encoder

    name = f"ViT-B-32@{folder / 'vit-b-32.pt'}"
    exact = load_encoder(name, runtime="torch", precision="fp32", device="cpu")
    exported = load_encoder(name, runtime="onnx")
    int8 = load_encoder(name, runtime="onnx", precision="int8")

    def padded() -> Any:
        with torch.inference_mode():
            return exact.model.encode_text(exact.tokenizer([WORDS]), normalize=True).numpy()

    found = {
        "torch, 77 tokens": padded,
        "torch, real length": lambda: exact.encode_texts([WORDS]),
        "onnx fp32, real length": lambda: exported.encode_texts([WORDS]),
        "onnx int8, real length": lambda: int8.encode_texts([WORDS]),
    }
    for way, run in found.items():
        print(
            f"{way:26} largest difference {np.abs(run() - padded()).max():.1e}, cosine {(run() * padded()).sum():.6f}"
        )
    return found


def in_turn(ways: dict[str, Callable[[], Any]], options: Any, calls: int = 1) -> dict[str, list[float]]:
    """Time each way in turn, after one call that does not count."""
    start = time.monotonic()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    for _ in range(options.runs):
        if time.monotonic() - start > options.seconds:
            break
        for name, run in ways.items():
            for _ in range(calls):
                began = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - began)
    return times


def keep(what: str, times: dict[str, list[float]], out: str) -> None:
    """Print and keep the figures, with their ratio to the first."""
    base = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        figures = summary(seconds)
        record = {"stage": "text_query", "what": what, "way": name, **figures}
        record["ratio_to_first"] = round(figures["median_s"] / base, 3)
        print(
            f"{name:34} {figures['median_s'] * 1e3:8.1f} ms (spread {figures['spread']})  x {record['ratio_to_first']}"
        )
        append(out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})


if __name__ == "__main__":
    main()
