"""Measure what an index finds: recall@10 against exact search on queries as people ask them, text and image apart.

The exact answers come from one pass over the live rows, for both kinds at once, with memory for a block of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from clipsearch.flows.build_run import Run, now
from clipsearch.flows.index_files import IndexRecord, Measured, load_base
from clipsearch.flows.pages import trim
from clipsearch.flows.progress import Progress
from clipsearch.flows.prompts import generic_prompts
from clipsearch.flows.streaming import joined, live
from clipsearch.index.exact import exact_samples
from clipsearch.index.flat import as_float32
from clipsearch.index.ivf import IvfIndex
from clipsearch.index.rows import sample_rows
from clipsearch.index.tuning import DEFAULT_RECALL, OperatingPoint, Sample, effort_for, measure, tune
from clipsearch.types import EmbeddingBlock, Floats, Ints

QUERIES = {"text": 300, "image": 200}  # held back to measure with
WATCHED = 100  # of them, when an index was only extended
CAPTIONS = 50  # so many make queries; with fewer there are generic prompts
LOST = 0.01  # recall below the target at which better settings are looked for
SEED = 7


def tuned(run: Run, record: IndexRecord) -> IndexRecord:
    """Measure a grid of settings on the saved index, and keep the operating points worth having."""
    index, samples = _open(run, record), _samples(run)
    after = _trimmed(run)
    points = {
        kind: tuple(tune(index, record.recipe.nlist, sample, _step(run, number, len(samples)), after))
        for number, (kind, (sample, _)) in enumerate(samples.items())
    }
    measured = {
        kind: Measured(recall, recall, what, now())
        for kind, (_, what) in samples.items()
        if (recall := _default_recall(points[kind])) is not None
    }
    return replace(record, points=points, measured=measured)


def watched(run: Run, record: IndexRecord) -> IndexRecord:
    """Look at the recall of the default settings again; below the target, look for better settings."""
    index, measured = _open(run, record), {}
    for kind, (sample, what) in _samples(run, WATCHED / max(QUERIES.values())).items():
        effort = effort_for(record.points.get(kind, ()), None)
        if effort is None:
            continue
        recall = measure(index, sample, effort, _trimmed(run)).recall
        measured[kind] = replace(record.measured[kind], recall=recall, queries=what, at=now())
    record = replace(record, measured={**record.measured, **measured})
    if any(m.recall < min(DEFAULT_RECALL, m.trained) - LOST for m in measured.values()):
        before = {kind: m.trained for kind, m in record.measured.items()}
        record = tuned(run, record)
        found = {k: replace(m, trained=max(before.get(k, 0.0), m.trained)) for k, m in record.measured.items()}
        record = replace(record, measured=found)
    return record


def _samples(run: Run, share: float = 1.0) -> dict[str, tuple[Sample, str]]:
    """Return held-back queries with their exact answers, and what they are."""
    images, own = _image_queries(run, int(QUERIES["image"] * share))
    queries = {"image": (images, own)}
    what = {"image": f"{len(images)} images of the collection, themselves left out"}
    if (texts := _text_queries(run, int(QUERIES["text"] * share))) is not None:
        queries["text"] = (texts[0], np.full(len(texts[0]), -1, np.int64))
        what["text"] = f"{len(texts[0])} {texts[1]}"
    samples = exact_samples(_all_rows(run), queries, run.snapshot.manifest.dim)
    return {kind: (samples[kind], what[kind]) for kind in ("text", "image") if kind in what}


def _all_rows(run: Run) -> Iterator[EmbeddingBlock]:
    done, n = 0, run.snapshot.count("images")
    for block in joined(live(run.snapshot)):
        yield block
        done += len(block.ids)
        run.tell(Progress("compare", done, n))


def _text_queries(run: Run, n: int) -> tuple[Floats, str] | None:
    """Return embeddings (Q, D) of the collection's captions, or of generic prompts where it has few.

    None where there are neither: imported embeddings may be of a model that nobody knows, or that is not here.
    """
    have = run.snapshot.count("texts")
    if have >= CAPTIONS:
        rows = sample_rows(((b.ids, b.embeddings) for b in live(run.snapshot, "texts")), have, n, seed=SEED)
        return rows, "captions"
    if run.snapshot.manifest.encoder.get("fingerprint") is None:
        return None
    return np.asarray(run.encoder().encode_texts(generic_prompts(n)), np.float32), "generic prompts"


def _image_queries(run: Run, n: int) -> tuple[Floats, Ints]:
    """Return embeddings (Q, D) of live images, spread evenly, and their ids (Q,)."""
    have = run.snapshot.count("images")
    at = np.sort(np.random.default_rng(SEED).choice(have, min(n, have), replace=False))
    ids, rows, start = [np.empty(0, np.int64)], [np.empty((0, run.snapshot.manifest.dim), np.float32)], 0
    for block in live(run.snapshot):
        here = at[slice(*np.searchsorted(at, (start, start + len(block.ids))))] - start
        ids.append(np.asarray(block.ids)[here])
        rows.append(as_float32(block.embeddings[here]))
        start += len(block.ids)
    return np.concatenate(rows), np.concatenate(ids)


def _open(run: Run, record: IndexRecord) -> IvfIndex:
    index = load_base(run.snapshot, record)
    index.remove(run.snapshot.deleted_ids())
    return index


def _step(run: Run, number: int, kinds: int) -> Callable[[int, int], None]:
    """Return what hears of the ``number``-th kind of query, and counts all kinds as one stage."""
    return lambda done, total: run.tell(Progress("measure", number * total + done, kinds * total))


def _trimmed(run: Run) -> Callable[[], None]:
    return lambda: trim(run.snapshot.path)


def _default_recall(points: Sequence[OperatingPoint]) -> float | None:
    effort = effort_for(points, None)
    return next((p.recall for p in points if p.effort == effort), None)
