"""Duplicates: are planted ones found, in what time and memory; and what limits tell copies from other pictures.

    python benchmarks/stages/duplicates.py [--part planted|hashes|limits] [--rows 100000] [--threshold 0.94]
                                           [--pictures a.tar b.tar] [--out benchmarks/results/duplicates.jsonl]

- *planted*: ``datasets.Synthetic`` rows (D = 512, float16) with 5 % of them replaced by copies of others, at cosines
  spread evenly from the threshold to 0.999. The noise of a copy is isotropic, or *own*: the difference of two other
  rows, which lies along the directions that the data differ in, where borders between parts run; real copies are
  somewhere between. All pairs and groups that are answered are compared with what was planted.
- *hashes*: random perceptual hashes, half of whose bits are set, 5 % of them copies with up to six bits turned.
- *limits*: photographs (tars) through ``mini``: cosine and pixels of each with re-encodings of itself, and of the
  nearest other pictures.
"""

import argparse
import io
import json
import resource
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from datasets import Synthetic
from results import append, machine

DIM, SHARE = 512, 0.05


def plant(rows: Any, threshold: float, own: bool, rng: Any) -> tuple[Any, Any]:
    """Replace rows of the second half by copies of rows of the first; return positions of originals and copies."""
    n = len(rows)
    m = int(n * SHARE)
    source = rng.choice(n // 2, m, replace=False)
    copies = n // 2 + rng.choice(n - n // 2, m, replace=False)
    for start in range(0, m, 8192):
        part = slice(start, start + 8192)
        x = rows[source[part]].astype(np.float32)
        noise = rng.standard_normal(x.shape, np.float32)
        if own:
            noise = rows[rng.choice(n // 2, len(x))].astype(np.float32) - rows[rng.choice(n // 2, len(x))]
        noise -= (noise * x).sum(axis=1, keepdims=True) * x
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        cosine = rng.uniform(threshold + 0.001, 0.999, (len(x), 1)).astype(np.float32)
        rows[copies[part]] = cosine * x + np.sqrt(1 - cosine**2) * noise
    return source, copies


def planted(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Find what was planted."""
    from clipsearch.index.linkage import centre_groups
    from clipsearch.index.pairs import near_pairs

    for own in (False, True):
        rng, rows = np.random.default_rng(5), np.empty((options.rows, DIM), np.float16)
        for ids, block in Synthetic(options.rows, DIM).blocks():
            rows[ids] = block
        source, copies = plant(rows, options.threshold, own, rng)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, busy = time.perf_counter(), time.process_time()
        pairs = near_pairs(rows.__getitem__, len(rows), options.threshold, exact=False if options.parts else None)
        groups = centre_groups(pairs, len(rows))
        took, busy = time.perf_counter() - start, time.process_time() - busy
        together = {tuple(group.tolist()) for group in groups}
        true = set(zip(np.minimum(source, copies).tolist(), np.maximum(source, copies).tolist(), strict=True))
        yield {
            "part": "planted",
            "noise": "own" if own else "isotropic",
            "n": len(rows),
            "threshold": options.threshold,
            "planted": len(true),
            "found": len(true & together),
            "other_groups": len(together - true),
            "seconds": round(took, 1),
            "cpu_seconds": round(busy, 1),
            "rows_mb": rows.nbytes // 2**20,
            "more_memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
        }
        del rows


def hashes(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Find near hashes that were planted."""
    from clipsearch.index.hashes import RADIUS, equal_groups, near_hashes

    rng, n = np.random.default_rng(5), options.rows
    m = int(n * SHARE)
    known = np.packbits(rng.random((n, 64)).argsort(axis=1) < 32, axis=1).view(np.uint64).ravel()
    source = rng.choice(n // 2, m, replace=False)
    copies = n // 2 + rng.choice(n - n // 2, m, replace=False)
    known[copies] = known[source]
    for _ in range(RADIUS):
        known[copies] ^= np.uint64(1) << rng.integers(0, 64, m).astype(np.uint64)
    before, busy = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    distinct, _, _ = equal_groups(known)
    first, second = near_hashes(distinct)
    busy = time.process_time() - busy
    one, two = np.searchsorted(distinct, known[source]), np.searchsorted(distinct, known[copies])
    found = np.isin(np.minimum(one, two) * n + np.maximum(one, two), first * n + second) | (one == two)
    yield {
        "part": "hashes",
        "n": n,
        "planted": m,
        "found": int(found.sum()),
        "pairs": len(first),
        "cpu_seconds": round(busy, 1),
        "more_memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
    }


def photographs(tars: list[str], each: int) -> list[Any]:
    """Return the first pictures of each tar, as PIL images."""
    from PIL import Image

    found = []
    for path in tars:
        with tarfile.open(path) as tar:
            files = (member for member in tar if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")))
            for member, _ in zip(files, range(each), strict=False):
                data = tar.extractfile(member)
                assert data is not None
                found.append(Image.open(io.BytesIO(data.read())).convert("RGB"))
    return found


def limits(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare photographs with copies of themselves, and with each other."""
    from PIL import Image

    from clipsearch.decode.phash import perceptual_hash
    from clipsearch.embed import load_encoder
    from clipsearch.evaluation.planting import COPIES
    from clipsearch.flows.alike import Limits, looks_same
    from clipsearch.flows.duplicates import _SMALL as small
    from clipsearch.index.hashes import distances

    encoder, rules = load_encoder("mini"), Limits()
    images = photographs(options.pictures, options.each)
    if len(images) < 2:
        raise SystemExit("Two photographs are needed, or more: give tars of them by --pictures.")

    def embedded(pictures: list[Any]) -> Any:
        pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
        parts = [encoder.encode_images(pixels[start : start + 32]) for start in range(0, len(pixels), 32)]
        return np.concatenate(parts).astype(np.float16).astype(np.float32)

    def looked(pictures: list[Any]) -> Any:
        return np.stack([small(picture) for picture in pictures]).reshape(len(pictures), -1).astype(np.float32)

    def hashed(pictures: list[Any]) -> Any:
        return np.array([perceptual_hash(encoder.preprocess(picture)) for picture in pictures], np.int64).view(
            np.uint64
        )

    rows, pixels, known = embedded(images), looked(images), hashed(images)
    first, second = np.triu_indices(len(images), 1)
    scores = (rows @ rows.T)[first, second]
    near = scores >= 0.85  # in a small sample there may be none
    first, second, found = first[near], second[near], scores[near]
    same = looks_same(pixels[first], pixels[second], rules)
    differences = abs(pixels[first] - pixels[second]).mean(axis=1)
    yield {
        "part": "limits",
        "copies": "none: other pictures",
        "pictures": len(images),
        "pairs": len(scores),
        "pairs_from_0.94": int((found >= 0.94).sum()),
        "pairs_from_0.97": int((found >= 0.97).sum()),
        "pairs_from_0.85": len(found),
        "look_the_same": int(same.sum()),
        "largest_cosine": round(float(scores.max()), 3),
        "least_difference": round(float(differences.min()), 2) if len(differences) else None,  # of pairs from 0.85
    }
    for name, copy in COPIES.items():
        copies = [Image.open(io.BytesIO(copy.made(image))).convert("RGB") for image in images]
        cosine, seen = (rows * embedded(copies)).sum(axis=1), looked(copies)
        yield {
            "part": "limits",
            "copies": name,
            "pictures": len(images),
            "cosine_quantiles_0_1_5_50": np.quantile(cosine, [0, 0.01, 0.05, 0.5]).round(3).tolist(),
            "share_from_0.85": round(float((cosine >= 0.85).mean()), 4),
            "share_from_0.94": round(float((cosine >= 0.94).mean()), 4),
            "share_from_0.97": round(float((cosine >= 0.97).mean()), 4),
            "share_within_hash_bits": round(float((distances(known, hashed(copies)) <= rules.bits).mean()), 4),
            "share_that_looks_the_same": round(float(looks_same(pixels, seen, rules).mean()), 4),
            "largest_difference": round(float(abs(pixels - seen).mean(axis=1).max()), 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["planted", "hashes", "limits"], default="planted")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threshold", type=float, default=0.94)
    parser.add_argument("--parts", action="store_true", help="do not compare every pair, however few rows there are")
    parser.add_argument("--pictures", nargs="*", default=[])
    parser.add_argument("--each", type=int, default=150)
    parser.add_argument("--out", default="benchmarks/results/duplicates.jsonl")
    options = parser.parse_args()
    for record in {"planted": planted, "hashes": hashes, "limits": limits}[options.part](options):
        print(json.dumps(record), flush=True)
        append(options.out, {"stage": "duplicates", "dim": DIM, **record, **machine()})


if __name__ == "__main__":
    main()
