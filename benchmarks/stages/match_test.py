"""The verdict's error rates where whole concepts are missing, before and after the collection grows.

    python benchmarks/stages/match_test.py FLICKR8K [--model mini] [--repetitions 24] [--only captions,bare,texts]

FLICKR8K is a folder with dev.tar and dev.csv (1,000 photographs, five captions each). What is measured and how is
``clipsearch/flows/evaluate_match.py``, which ``clipsearch evaluate match`` runs on anybody's collection. Setups:

- ``captions``: searches for pictures, calibrated on the collection's captions;
- ``bare``: the same questions to the same pictures without captions, calibrated on the generic bank;
- ``texts``: searches for captions, calibrated on captions: text against text, where the encoder is strong.

One JSON line a setup, kind of query and setting. Embeddings are made once and kept in ``--cache``; the rest is numpy.
"""

import argparse
import csv
import io
import sys
import tarfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine

from clipsearch.embed import load_encoder
from clipsearch.flows import match_trials
from clipsearch.flows.calibrate_queries import Texts
from clipsearch.flows.evaluate_match import measure
from clipsearch.flows.memory import MemoryRows, MemoryVersion

SETUPS = {"captions": "image", "bare": "image", "texts": "text"}


class Bare(MemoryVersion):
    """A collection whose captions are asked and never indexed."""

    def part(self, images, without):
        return MemoryVersion(self.kinds["images"].part(images), self.kinds["texts"].part(np.zeros(self.texts, bool)))

    @property
    def texts(self):
        return len(self.kinds["texts"].ids)


def read_captions(folder):
    """Return name → five captions."""
    captions = {}
    with open(folder / "dev.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], []).append(row["caption"].strip())
    return {name: captions[name] for name in sorted(captions) if len(captions[name]) == 5}


def embed_pictures(folder, names, encoder):
    from PIL import Image

    with tarfile.open(folder / "dev.tar") as tar:
        raw = {Path(member.name).name: tar.extractfile(member).read() for member in tar if member.isfile()}
    parts = []
    for start in range(0, len(names), 32):
        pictures = [Image.open(io.BytesIO(raw[name])).convert("RGB") for name in names[start : start + 32]]
        parts.append(encoder.encode_images(np.stack([encoder.preprocess(p) for p in pictures])))
    return np.concatenate(parts).astype(np.float16)


def cached(path, make):
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, make())
    return np.load(path)


def collection(folder, encoder, cache):
    """Return Flickr8k dev as a collection in memory."""
    stem = f"{encoder.name}-{encoder.fingerprint()[:8]}"
    captions = read_captions(folder)
    flat = [text for five in captions.values() for text in five]
    images = cached(cache / f"{stem}-pictures.npy", lambda: embed_pictures(folder, list(captions), encoder))
    texts = cached(cache / f"{stem}-captions.npy", lambda: encoder.encode_texts(flat).astype(np.float16))
    ids = np.arange(len(captions))
    pictures = MemoryRows(ids, images, np.full(len(ids), -1))
    return MemoryVersion(pictures, MemoryRows(10_000 + np.arange(len(flat)), texts, np.repeat(ids, 5), tuple(flat)))


class Tower(Texts):
    """Texts that are remembered in a file too."""

    def __init__(self, encoder, path):
        self.path, known = path, {}
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                known = dict(zip(file["texts"].tolist(), file["rows"], strict=True))
        super().__init__(encoder, known)

    def save(self):
        np.savez(self.path, texts=np.array(list(self.used)), rows=np.array(list(self.used.values())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--repetitions", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache"))
    parser.add_argument("--out", default="benchmarks/results/match.jsonl")
    parser.add_argument("--only", default=",".join(SETUPS))
    options = parser.parse_args()
    encoder = load_encoder(options.model)
    whole = collection(options.folder, encoder, options.cache)
    tower = Tower(encoder, options.cache / f"{encoder.name}-{encoder.fingerprint()[:8]}-texts.npz")
    match_trials.SIZES["110 pictures"] = 110 / 1000 / 0.85 / 0.9  # the smallest that can be calibrated, nearly
    for setup in options.only.split(","):
        asked = Bare(*whole.kinds.values()) if setup == "bare" else whole
        start = time.perf_counter()
        rows = measure(
            asked, encoder, target=SETUPS[setup], repetitions=options.repetitions, seed=options.seed, tower=tower
        )
        seconds = round(time.perf_counter() - start, 1)
        tower.save()
        for row in rows:
            record = {"stage": "match_test", "setup": setup, "model": encoder.name, "repetitions": options.repetitions}
            record |= {"fingerprint": encoder.fingerprint()[:12], **rounded(asdict(row)), "setup_seconds": seconds}
            append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})
            print(line(setup, row))


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def line(setup, row):
    shares = (row.false_accept, row.false_reject, row.found, row.told, row.cosine_false_accept, row.cosine_found)
    said = "  ".join(f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" for share in shares)
    sizes, areas = f"{row.calibrated:4} > {row.searched:4}", f"{row.auroc.value:.3f} {row.cosine_auroc.value:.3f}"
    return f"{setup:9}{row.kind:9}{sizes}  {said}  {areas}"


if __name__ == "__main__":
    main()
