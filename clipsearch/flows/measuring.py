"""Measure what an index finds: recall@10 against exact search on queries as people ask them, text and image apart.

Queries of the same kind as the rows are rows themselves, left out of their answers; those of the other kind are rows
of the other kind.
The exact answers come from one pass over the live rows, for both kinds at once, with memory for a block of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

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
CAPTIONS = 50  # so many rows of the other kind make queries; of texts with fewer there are generic prompts
LOST = 0.01  # recall below the target at which better settings are looked for
SEED = 7


@dataclass(frozen=True, slots=True)
class _Queries:
    """Queries (Q, D) of one kind, the ids (Q,) of the rows that they are themselves or -1, and what they are."""

    rows: Floats
    own: Ints
    what: str


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
    index, measured, unknown = _open(run, record), {}, False
    for kind, (sample, what) in _samples(run, WATCHED / max(QUERIES.values())).items():
        unknown |= kind not in record.points
        effort = effort_for(record.points.get(kind, ()), None)
        if effort is None:
            continue
        recall = measure(index, sample, effort, _trimmed(run)).recall
        measured[kind] = replace(record.measured[kind], recall=recall, queries=what, at=now())
    record = replace(record, measured={**record.measured, **measured})
    if unknown or any(m.recall < min(DEFAULT_RECALL, m.trained) - LOST for m in measured.values()):
        before = {kind: m.trained for kind, m in record.measured.items()}
        record = tuned(run, record)
        found = {k: replace(m, trained=max(before.get(k, 0.0), m.trained)) for k, m in record.measured.items()}
        record = replace(record, measured=found)
    return record


def _samples(run: Run, share: float = 1.0) -> dict[str, tuple[Sample, str]]:
    """Return held-back queries with their exact answers, and what they are."""
    found = {kind: _queries(run, kind, int(n * share)) for kind, n in QUERIES.items()}
    queries = {kind: (one.rows, one.own) for kind, one in found.items() if one is not None}
    samples = exact_samples(_all_rows(run), queries, run.snapshot.manifest.dim)
    return {kind: (samples[kind], one.what) for kind, one in found.items() if one is not None}


def _all_rows(run: Run) -> Iterator[EmbeddingBlock]:
    done, n = 0, run.rows
    for block in joined(live(run.snapshot, run.kind)):
        yield block
        done += len(block.ids)
        run.tell(Progress("compare", done, n))


def _queries(run: Run, kind: str, n: int) -> _Queries | None:
    """Return up to ``n`` queries of a kind, "text" or "image"; None where there are none."""
    if run.kind == f"{kind}s":
        rows, ids = _spread(run, n)
        return _Queries(rows, ids, f"{len(rows)} {run.kind} of the collection, themselves left out")
    found = _images(run, n) if kind == "image" else _texts(run, n)
    if found is None:
        return None
    return _Queries(found[0], np.full(len(found[0]), -1, np.int64), f"{len(found[0])} {found[1]}")


def _texts(run: Run, n: int) -> tuple[Floats, str] | None:
    """Return embeddings (Q, D) of the collection's captions, or of generic prompts where it has few.

    None where there are neither: imported embeddings may be of a model that nobody knows, or that is not here.
    """
    if run.snapshot.count("texts") >= CAPTIONS:
        return _sample(run, "texts", n), "captions"
    if run.snapshot.manifest.encoder.get("fingerprint") is None:
        return None
    return np.asarray(run.encoder().encode_texts(generic_prompts(n)), np.float32), "generic prompts"


def _images(run: Run, n: int) -> tuple[Floats, str] | None:
    """Return embeddings (Q, D) of the collection's images; None where it has hardly any, as a caption bank has."""
    return (_sample(run, "images", n), "images") if run.snapshot.count("images") >= CAPTIONS else None


def _sample(run: Run, kind: str, n: int) -> Floats:
    have = run.snapshot.count(kind)
    return sample_rows(((b.ids, b.embeddings) for b in live(run.snapshot, kind)), have, n, seed=SEED)


def _spread(run: Run, n: int) -> tuple[Floats, Ints]:
    """Return embeddings (Q, D) of live rows, spread evenly, and their ids (Q,)."""
    have = run.rows
    at = np.sort(np.random.default_rng(SEED).choice(have, min(n, have), replace=False))
    ids, rows, start = [np.empty(0, np.int64)], [np.empty((0, run.snapshot.manifest.dim), np.float32)], 0
    for block in live(run.snapshot, run.kind):
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
