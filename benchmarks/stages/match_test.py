"""The verdict's error rates where whole concepts are missing, before and after the collection grows.

    python benchmarks/stages/match_test.py FLICKR8K [--model mini] [--repeats 24] [--out match_test.jsonl]

FLICKR8K is a folder with dev.tar and dev.csv (1,000 photographs, five captions each). The pictures are grouped into 40
concepts by k-means on their captions' embeddings; in each repetition 6 concepts are taken out whole. Four captions of
a picture may be in the collection, the fifth is asked: those of pictures that are there are answerable, those of
pictures taken out are absent. Conditions:

- ``whole``: all pictures that are left; ``small``: a quarter of them; ``tiny``: 110 of them; ``most``: ten elevenths;
- ``grown 10 %`` and ``grown 300 %``: from ``most`` and from ``small`` to ``whole``, with the old calibration, which
  clipsearch refuses (the trap); renewed, as ``index`` does, it is that of ``whole``.

Scores: ``verdict`` as shipped, ``cosine``: the best plain cosine with the same leave-concept-out null. ``captions``
says whether the collection holds any. ``target`` "texts": captions are searched instead of pictures. One JSON line a
condition and kind of query; intervals are 95 % of the mean over repetitions (bootstrap).
"""

import argparse
import csv
import io
import sys
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine

from clipsearch.embed import load_encoder
from clipsearch.flows import calibrate as flow
from clipsearch.flows.calibration_files import Target
from clipsearch.flows.verdicts import evidence_for
from clipsearch.index.flat import FlatIndex
from clipsearch.match import bank
from clipsearch.match import calibration as matching
from clipsearch.match import concepts as grouping
from clipsearch.match.verdict import LEVELS, KindNull, judge
from clipsearch.types import EmbeddingBlock

CONCEPTS, REMOVED = 40, 6


class Encoder:
    """An encoder that remembers texts, in a file too: the same captions are asked in every repetition."""

    def __init__(self, inner, path):
        self.inner, self.path = inner, path
        self.name, self.dim = inner.name, inner.dim
        self.known = {}
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                self.known = dict(zip(file["texts"].tolist(), file["rows"], strict=True))

    def encode_texts(self, texts):
        missing = [text for text in dict.fromkeys(texts) if text not in self.known]
        for start in range(0, len(missing), 256):
            part = missing[start : start + 256]
            self.known.update(zip(part, self.inner.encode_texts(part), strict=True))
        return np.array([self.known[text] for text in texts], np.float32)

    def save(self):
        np.savez(self.path, texts=np.array(list(self.known)), rows=np.array(list(self.known.values())))

    def fingerprint(self):
        return self.inner.fingerprint()

    def covers_text(self, text):
        return True


class Memory:
    """A collection's version in memory: what ``make_calibration`` asks of a snapshot."""

    def __init__(self, images, texts, dim):
        self.version = 1
        self.manifest = SimpleNamespace(dim=dim, encoder={})
        self.kinds = {"images": images, "texts": texts}

    def count(self, kind):
        return len(self.kinds[kind].ids)

    def deleted_ids(self):
        return np.empty(0, np.int64)

    def blocks(self, kind):
        rows = self.kinds[kind]
        if len(rows.ids):
            yield EmbeddingBlock(rows.ids, rows.embeddings)

    def embeddings(self, kind, ids):
        rows = self.kinds[kind]
        return rows.embeddings[np.searchsorted(rows.ids, ids)]

    def rows(self, kind, ids):
        rows = self.kinds[kind]
        at = np.searchsorted(rows.ids, ids)
        return [{"id": int(rows.ids[i]), "image_id": int(rows.owners[i]), "text": rows.texts[i]} for i in at]

    def captions(self):
        rows = self.kinds["texts"]
        for id_, owner, text in zip(rows.ids, rows.owners, rows.texts, strict=True):
            yield SimpleNamespace(id=int(id_), image_id=int(owner), text=text)


@dataclass
class Rows:
    ids: np.ndarray
    embeddings: np.ndarray
    owners: np.ndarray | None = None
    texts: list | None = None


def read(folder, encoder, cache):
    """Return names' image embeddings (N, D) float16 and the captions, five a picture."""
    captions = {}
    with open(folder / "dev.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], []).append(row["caption"].strip())
    names = [name for name in sorted(captions) if len(captions[name]) == 5]
    if cache.exists():
        return np.load(cache), [captions[name] for name in names]
    from PIL import Image

    with tarfile.open(folder / "dev.tar") as tar:
        raw = {Path(member.name).name: tar.extractfile(member).read() for member in tar if member.isfile()}
    parts = []
    for start in range(0, len(names), 32):
        pictures = [Image.open(io.BytesIO(raw[name])).convert("RGB") for name in names[start : start + 32]]
        parts.append(encoder.inner.encode_images(np.stack([encoder.inner.preprocess(p) for p in pictures])))
    embeddings = np.concatenate(parts).astype(np.float16)
    np.save(cache, embeddings)
    return embeddings, [captions[name] for name in names]


def collection(images, captions, encoder, members, with_captions):
    """Return a version that holds some pictures, with the first four captions of each or none."""
    ids = np.array(sorted(members), np.int64)
    texts = [captions[i][c] for i in ids for c in range(4)] if with_captions else []
    text_ids = np.array([10_000 + 5 * i + c for i in ids for c in range(4)] if with_captions else [], np.int64)
    owners = np.repeat(ids, 4) if with_captions else np.empty(0, np.int64)
    rows = encoder.encode_texts(texts).astype(np.float16) if texts else np.empty((0, encoder.dim), np.float16)
    return Memory(Rows(ids, images[ids]), Rows(text_ids, rows, owners, texts), encoder.dim)


def index_of(snapshot, target):
    index = FlatIndex(snapshot.manifest.dim)
    for block in snapshot.blocks(target):
        index.add(block)
    return index.warmed()


def calibrated(snapshot, encoder, target):
    """Return the calibration of one target, and beside it the references of the best plain cosine.

    The cosine's come from the same queries, concepts and nearest rows. What is not measured here is left out.
    """
    plain, names = {}, iter(bank.KINDS)

    def with_plain(make):
        def made(embeddings, blocks):
            found = []
            nearest = matching.find_nearest
            with patched(matching, find_nearest=lambda *a: found.append(nearest(*a)) or found[-1]):
                reference = make(embeddings, blocks)
            whole = found[0].evidence(0.0, 1)
            if len(found) == 2:
                chosen = np.arange(len(whole)) % 3 != 0
                null, whole = np.sort(found[1].evidence(0.0, 1)[chosen]), np.sort(whole[chosen])
            else:
                whole = np.sort(whole)
                null = whole[-len(reference.null) :]
            plain[next(names)] = KindNull(null, whole, reference.source, reference.concepts, 1, 0.0)
            return reference

        return made

    kinds = flow._calibrate_kinds
    with (
        patched(flow, _calibrate_kinds=lambda s, r, t, c, x: kinds(s, r, t, c, x) if t == target else {}),
        patched(
            matching,
            from_captions=with_plain(matching.from_captions),
            from_bank=with_plain(matching.from_bank),
            from_images=lambda *_: None,
        ),
    ):
        made, _ = flow.make_calibration(snapshot, encoder)
    return made.targets[target], plain


@contextmanager
def patched(module, **values):
    before = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(before)


def scores_of(texts, encoder, index, target, kind):
    """Return evidence (Q,) as the verdict sees it, and the best plain cosine (Q,)."""
    found = index.search(encoder.encode_texts(texts), 100)
    rows = zip(found.ids, found.scores, strict=True)
    ours = [evidence_for(target, kind, ids[ids >= 0], scores[ids >= 0]) for ids, scores in rows]
    return np.array(ours, np.float32), found.scores[:, 0]


def rates(null: KindNull, absent, present):
    wrong = [judge(float(e), null)[0] for e in absent]
    right = [judge(float(e), null)[0] for e in present]
    order = np.sort(absent)
    below = np.searchsorted(order, present, "left") + np.searchsorted(order, present, "right")
    return {
        "far": float(np.mean([v == "match" for v in wrong])),
        "accepts": float(np.mean([v == "match" for v in right])),
        "none_absent": float(np.mean([v == "none" for v in wrong])),
        "none_answerable": float(np.mean([v == "none" for v in right])),
        "auroc": float(below.mean() / 2 / len(order)),
    }


def asked(captions, members, kind, rng, n=400):
    made = [text for i in members if (text := bank.as_kind(captions[i][4], kind)) is not None]
    made = list(dict.fromkeys(made))
    return [made[i] for i in rng.permutation(len(made))[:n]]


def repetition(seed, images, captions, labels, encoder, with_captions, target):
    rng = np.random.default_rng(seed)
    removed = rng.permutation(CONCEPTS)[:REMOVED]
    out = np.flatnonzero(np.isin(labels, removed))
    left = rng.permutation(np.flatnonzero(~np.isin(labels, removed)))
    sizes = {"whole": len(left), "small": len(left) // 4, "most": len(left) * 10 // 11, "tiny": 110}
    made = {}
    for name, size in sizes.items():
        snapshot = collection(images, captions, encoder, left[:size].tolist(), with_captions)
        reference, plain = calibrated(snapshot, encoder, target)
        made[name] = (snapshot, reference, plain, index_of(snapshot, target), left[:size])
    for kind in bank.KINDS:
        absent = asked(captions, out, kind, rng)
        for condition, old, now in (
            ("whole", "whole", "whole"),
            ("small", "small", "small"),
            ("tiny", "tiny", "tiny"),
            ("grown 10 %, old calibration", "most", "whole"),
            ("grown 300 %, old calibration", "small", "whole"),
        ):
            present = asked(captions, made[now][4], kind, rng)
            yield from compare(condition, kind, made[old], made[now], absent, present, encoder)
            if condition == "whole" and kind != "sentence":
                yield from compare(
                    "calibrated on sentences", kind, made[old], made[now], absent, present, encoder, "sentence"
                )


def compare(condition, kind, old, now, absent, present, encoder, as_kind=None):
    """Yield the rates of both scores. Hubs are those of the rows searched: only the reference samples are old."""
    as_kind = as_kind or kind
    reference = old[1].kinds[as_kind]
    target = Target(now[1].ids, now[1].hubs, {as_kind: reference})
    ours_absent, plain_absent = scores_of(absent, encoder, now[3], target, as_kind)
    ours_present, plain_present = scores_of(present, encoder, now[3], target, as_kind)
    yield condition, kind, "verdict", rates(reference, ours_absent, ours_present)
    yield condition, kind, "cosine", rates(old[2][as_kind], plain_absent, plain_present)


def interval(values, rng):
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    return [round(float(v), 4) for v in (np.mean(values), *np.percentile(means, [2.5, 97.5]))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--out", default="benchmarks/results/match_test.jsonl")
    parser.add_argument("--only", default="", help="captions, bare or texts")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    inner = load_encoder(options.model)
    stem = f"{options.model}-{inner.fingerprint()[:8]}"
    encoder = Encoder(inner, options.cache / f"{stem}-texts.npz")
    images, captions = read(options.folder, encoder, options.cache / f"{stem}-dev.npy")
    means = encoder.encode_texts([text for five in captions for text in five]).reshape(len(captions), 5, -1).mean(1)
    means = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    labels = grouping._nearest_centre(means, grouping.find_concepts(means, CONCEPTS).centres)
    rng = np.random.default_rng(0)
    setups = {"captions": (True, "images"), "bare": (False, "images"), "texts": (True, "texts")}
    for setup, (with_captions, target) in setups.items():
        if options.only and setup not in options.only.split(","):
            continue
        found, start = {}, time.perf_counter()
        for seed in range(options.repeats):
            for condition, kind, score, figures in repetition(
                seed, images, captions, labels, encoder, with_captions, target
            ):
                found.setdefault((condition, kind, score), []).append(figures)
        encoder.save()
        seconds = time.perf_counter() - start
        for (condition, kind, score), runs in found.items():
            figures = {name: interval(np.array([run[name] for run in runs]), rng) for name in runs[0]}
            worst = max(run["far"] for run in runs)
            record = {"stage": "match_test", "model": stem, "captions": with_captions, "target": target}
            record |= {"condition": condition, "kind": kind, "score": score, **figures, "worst_far": round(worst, 4)}
            record |= {"repeats": len(runs), "levels": LEVELS.as_dict(), "seconds": round(seconds, 1)}
            append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})
            print(
                f"{setup:9}{condition:30}{kind:9}{score:8} FAR {figures['far'][0]:.3f} "
                f"[{figures['far'][1]:.3f}, {figures['far'][2]:.3f}] accepts {figures['accepts'][0]:.3f} "
                f"AUROC {figures['auroc'][0]:.3f} none|absent {figures['none_absent'][0]:.3f} "
                f"none|answerable {figures['none_answerable'][0]:.3f} worst {worst:.3f}"
            )


if __name__ == "__main__":
    main()
