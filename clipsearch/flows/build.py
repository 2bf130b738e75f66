"""Build the index of a collection's images, extend it, and measure what it finds.

1. *Choose* a recipe from the number of rows, their dimension and the memory, and say in one line which and why.
2. *Train* on a sample drawn from the shards; k-means and codes.
3. *Add* all live rows, shard by shard, and write the exact rows beside, one after the other: memory holds the sample
   or the lists, never the rows.
4. *Save* under new names, check the digests, and open what was saved.
5. *Measure* recall@10 against exact search on queries as people ask them, text and image apart, at a grid of settings,
   and keep the operating points worth having: ``search --recall`` chooses among them.
6. *Swap*: replace ``index/CURRENT``. Searches under way go on with the files that they have open.

Later runs *extend*: rows added since are put into the same lists, without training. What would make a new training
worth it (twice the rows, recall below the target, many deleted rows) is written down and shown by ``status``.
"""

import io
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.errors import CorruptShardError
from clipsearch.flows.index_files import (
    FOLDER,
    IndexRecord,
    Measured,
    SavedFile,
    Segment,
    fingerprint_of,
    load_base,
    open_index,
    publish_record,
    read_record,
    remove_others,
    stamped,
    uncovered,
    withdraw,
)
from clipsearch.flows.progress import Progress
from clipsearch.flows.prompts import generic_prompts
from clipsearch.flows.view import read_index_pointer
from clipsearch.index import INDEX_TYPES
from clipsearch.index.faiss_library import faiss_is_installed
from clipsearch.index.ivf import IvfIndex
from clipsearch.index.recipe import FLAT_ROWS, Recipe, check_points, choose_recipe, load_recipe, recipe_names, to_toml
from clipsearch.index.rows import sample_rows
from clipsearch.index.tuning import DEFAULT_RECALL, OperatingPoint, Sample, effort_for, make_sample, measure, tune
from clipsearch.store import Snapshot, Store
from clipsearch.store.files import DIR_MODE, WriterLock, replace_file, sha256, storage_errors, stream_file, sync_dir
from clipsearch.types import EmbeddingBlock, Floats, Ints

QUERIES = {"text": 300, "image": 200}  # held back to measure with
WATCHED = 100  # of them, when an index was only extended
TAIL_SHARE, TAIL_ROWS = 0.02, 20_000  # rows beside the index above which they are put into it
MAX_SEGMENTS = 8
GROWN = 2.0  # times the rows it was trained with
DEAD_SHARE = 0.2
BLOCK = 65_536  # rows added at once
Tell = Callable[[Progress], None]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was done to the index.

    Attributes:
        action: "none", "built", "extended", "kept" or "removed".
        line: one sentence on it.
        type: the index type that searches use now.
        rows: rows put into the index by this run.
        seconds: how long it took; ``stages`` how long each part.
        recall: recall@10 (0 to 1) at the default settings, by kind of query, where it was measured.
    """

    action: str
    line: str
    type: str
    rows: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)


@dataclass
class _Run:
    store: Store
    snapshot: Snapshot
    encoder: Callable[[], Encoder]
    tell: Tell
    say: Say
    start: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)
    version: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def folder(self) -> str:
        return os.path.join(self.store.path, FOLDER)

    def stem(self, name: str) -> str:
        """Return a file name never used before."""
        return f"{name}-{self.snapshot.version:06d}-{self.version}"

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.stages[stage] = round(time.monotonic() - start, 3)


def update_index(
    store: Store,
    encoder: Callable[[], Encoder],
    *,
    index_type: str = "auto",
    recipe: str | Recipe | None = None,
    memory_bytes: int | None = None,
    retrain: bool = False,
    progress: Tell | None = None,
    say: Say | None = None,
) -> BuildReport:
    """Bring the index of a collection's images up to date; does as little as it can.

    Args:
        store: the collection.
        encoder: gives the encoder; called where there are no captions to measure with.
        index_type: "auto" (exact search up to 200,000 images), "flat", "ivfflat" or "ivfpq".
        recipe: a recipe, its name or a TOML file's; in place of a choice.
        memory_bytes: what building may take; None takes 70 % of what is free.
        retrain: build anew even if there is an index.
        progress: hears how far it is.
        say: hears the choice in one line, before anything long begins.

    Raises:
        InputError: too few rows, too little memory (with figures), a wrong recipe.
        MissingExtraError: an approximate type was asked for, and faiss is not installed.
        LockedError: another process is building.
    """
    run = _Run(store, store.snapshot(), encoder, progress or (lambda _: None), say or (lambda _: None))
    record, usable = _stored(run.snapshot)
    unasked = index_type == "auto" and recipe is None and not retrain
    retrain = retrain or not usable  # it is derived: what is damaged is made again
    n = run.snapshot.count("images")
    if unasked and usable and record is not None:
        return _refresh(run, record)
    if unasked and n >= FLAT_ROWS and not faiss_is_installed():
        advice = "pip install 'clipsearch[cpu]' brings faiss, which searches in a thousandth of the time."
        return BuildReport("none", f"exact search over {n:,} images. {advice}", "flat")
    chosen, why = _choose(run, record, index_type, recipe, memory_bytes, retrain)
    if chosen.type == "flat":
        removed = withdraw(store.path)
        return BuildReport("removed" if removed else "none", why, "flat", recall={"text": 1.0, "image": 1.0})
    same = record is not None and recipe is None and record.recipe.type == chosen.type
    if same and record is not None and not retrain:
        return _refresh(run, record)
    check_points(chosen, n)
    run.say(why)
    with _locked(run):
        return _build(run, chosen)


def available_memory() -> int:
    """Return the bytes of memory that are free, or 4 GB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 10**9


def advice(snapshot: Snapshot, record: IndexRecord | None) -> str | None:
    """Return what to do about the index, in one sentence, or None where all is well."""
    n = snapshot.count("images")
    if record is None:
        return None if n < FLAT_ROWS else "exact search is slow at this size: run 'clipsearch index --index-type auto'"
    again = "run 'clipsearch index --retrain'"
    if n > GROWN * record.trained_rows:
        return f"{n:,} images are more than twice the {record.trained_rows:,} it was trained with: {again}"
    for kind, found in record.measured.items():
        if found.recall < DEFAULT_RECALL and found.recall < found.trained - 0.005:
            return f"recall of {kind} queries fell from {found.trained:.3f} to {found.recall:.3f}: {again}"
    if record.rows - n > DEAD_SHARE * record.rows:
        return f"{record.rows - n:,} of its {record.rows:,} rows are deleted: {again}"
    return None


def _stored(snapshot: Snapshot) -> tuple[IndexRecord | None, bool]:
    """Return the record of the index, as far as it can be read, and whether all of it is whole."""
    record = None
    try:
        record = read_record(snapshot.path)
        if record is not None and faiss_is_installed():
            load_base(snapshot, record)
    except CorruptShardError:
        return record, False
    return record, True


def _choose(
    run: _Run,
    record: IndexRecord | None,
    index_type: str,
    recipe: str | Recipe | None,
    memory_bytes: int | None,
    retrain: bool,
) -> tuple[Recipe, str]:
    n, dim = run.snapshot.count("images"), run.snapshot.manifest.dim
    memory = int(0.7 * available_memory()) if memory_bytes is None else memory_bytes
    if recipe is None and retrain and index_type == "auto" and record is not None:
        index_type = record.recipe.type  # what a person chose once stays chosen
        own = record.recipe.name.removesuffix(", fitted")
        recipe = None if own in recipe_names() else record.recipe
    if recipe is not None:
        loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        return loaded.fitted(dim), f"{loaded.type} for {n:,} images, as the recipe {loaded.name!r} says"
    choice = choose_recipe(n, dim, memory, index_type)
    return choice.recipe, choice.why


@contextmanager
def _locked(run: _Run) -> Iterator[None]:
    """Be the only builder; indexing and searching go on meanwhile."""
    with storage_errors(run.store.path):
        os.makedirs(run.folder, DIR_MODE, exist_ok=True)
        lock = WriterLock(run.folder)
        lock.acquire(wait=False)
    try:
        with storage_errors(run.store.path):
            if read_index_pointer(run.store.path) is None:
                remove_others(run.store.path, set())
            yield
    finally:
        lock.release()


# Building.


def _build(run: _Run, recipe: Recipe) -> BuildReport:
    snapshot = run.snapshot
    n = snapshot.count("images")
    index: IvfIndex = INDEX_TYPES.load(recipe.type)(snapshot.manifest.dim, recipe)
    with run.timed("train"):
        run.tell(Progress("sample", 0, None))
        sample = sample_rows(((b.ids, b.embeddings) for b in _live(snapshot)), n, recipe.points)
        index.train(sample, lambda done, total: run.tell(Progress("train", done, total)))
        del sample
    with run.timed("add"):
        segment = _write_rows(run, _live(snapshot), index, n)
    imbalance = round(index.imbalance(), 3)
    with run.timed("save"):
        lists = _write_lists(run, index)
        del index
    now = _now()
    record = IndexRecord(
        recipe=recipe,
        version=snapshot.version,
        fingerprint=fingerprint_of(snapshot),
        dim=snapshot.manifest.dim,
        shards=tuple(entry.name for entry in snapshot.manifest.files_of("images")),
        rows=segment.n,
        max_id=snapshot.manifest.next_id - 1,
        trained_rows=segment.n,
        trained=now,
        built=now,
        imbalance=imbalance,
        imbalance_trained=imbalance,
        lists=lists,
        segments=(segment,),
    )
    with run.timed("measure"):
        record = _tuned(run, record)
    _publish(run, record)
    return _report(run, record, "built", segment.n)


def _live(snapshot: Snapshot) -> Iterator[EmbeddingBlock]:
    """Yield the live rows, ids ascending from block to block, at most 65,536 at a time."""
    dead = snapshot.deleted_ids()
    for block in sorted(snapshot.blocks("images"), key=lambda b: int(b.ids[0]) if len(b.ids) else -1):
        yield from _pieces(block, dead)


def _pieces(block: EmbeddingBlock, dead: Ints) -> Iterator[EmbeddingBlock]:
    for start in range(0, len(block.ids), BLOCK):
        ids, rows = block.ids[start : start + BLOCK], block.embeddings[start : start + BLOCK]
        gone = np.isin(ids, dead) if len(dead) else np.zeros(len(ids), np.bool_)
        if not gone.any():
            yield EmbeddingBlock(ids, rows)
        elif not gone.all():
            yield EmbeddingBlock(ids[~gone], rows[~gone])


def _write_rows(run: _Run, blocks: Iterator[EmbeddingBlock], index: IvfIndex | None, total: int) -> Segment:
    """Write the exact rows, and put them into the lists; small shards are joined, for faiss likes large blocks."""
    name, ids = run.stem("rerank"), []
    first = 0 if index is None else len(index.rows)
    with stream_file(os.path.join(run.folder, f"{name}.f16")) as file:
        done = 0
        for block in _joined(blocks):
            if index is not None:
                index.add_codes(first + done, block.embeddings)
            file.write(np.ascontiguousarray(block.embeddings).data.cast("B"))
            ids.append(np.asarray(block.ids))
            done += len(block.ids)
            run.tell(Progress("add", done, total))
    rows = stamped(run.folder, f"{name}.f16", file.bytes, file.sha256)
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate([np.empty(0, np.int64), *ids]), allow_pickle=False)
    return Segment(done, _write(run, f"{name}.ids.npy", buffer.getvalue()), rows)


def _joined(blocks: Iterator[EmbeddingBlock]) -> Iterator[EmbeddingBlock]:
    waiting: list[EmbeddingBlock] = []
    for block in blocks:
        if waiting and sum(len(b.ids) for b in waiting) + len(block.ids) > BLOCK:
            yield _one(waiting)
            waiting = []
        waiting.append(block)
    if waiting:
        yield _one(waiting)


def _one(blocks: Sequence[EmbeddingBlock]) -> EmbeddingBlock:
    if len(blocks) == 1:
        return blocks[0]
    return EmbeddingBlock(np.concatenate([b.ids for b in blocks]), np.concatenate([b.embeddings for b in blocks]))


def _write_lists(run: _Run, index: IvfIndex) -> SavedFile:
    # faiss.write_index tells nobody when the disk is full: its bytes, our writer
    return _write(run, f"{run.stem(index.recipe.type)}.faiss", memoryview(index.to_bytes().data))


def _write(run: _Run, name: str, data: bytes | memoryview) -> SavedFile:
    replace_file(os.path.join(run.folder, name), data)  # pyright: ignore[reportArgumentType]
    return stamped(run.folder, name, len(data), sha256(data))  # pyright: ignore[reportArgumentType]


def _publish(run: _Run, record: IndexRecord) -> None:
    stem = run.stem(record.recipe.type)
    replace_file(os.path.join(run.folder, f"{stem}.recipe.toml"), to_toml(record.recipe).encode())
    sync_dir(run.folder)
    publish_record(run.store.path, stem, record)


def _report(run: _Run, record: IndexRecord, action: str, rows: int) -> BuildReport:
    recall = {kind: found.recall for kind, found in record.measured.items()}
    shown = ", ".join(f"{value:.3f} for {kind} queries" for kind, value in recall.items())
    seconds = time.monotonic() - run.start
    verb = {"built": f"{record.recipe.type} built over", "extended": f"{record.recipe.type} extended to"}[action]
    line = f"{verb} {record.rows:,} images in {seconds:.0f} s"
    return BuildReport(
        action,
        f"{line}; recall@10 {shown}" if shown else line,
        record.recipe.type,
        rows,
        round(seconds, 3),
        run.stages,
        recall,
    )


# Extending.


def _refresh(run: _Run, record: IndexRecord) -> BuildReport:
    """Put rows added since into the lists, if there are enough of them to be worth it."""
    layered, notes = open_index(run.snapshot)
    if layered is None:
        return BuildReport("kept", notes[0] if notes else "no index", "flat")
    later, n = layered.tail.ntotal, run.snapshot.count("images")
    todo = advice(run.snapshot, record)
    if later <= min(TAIL_SHARE * n, TAIL_ROWS):
        line = f"{record.recipe.type} over {record.rows:,} images" + (f", {later:,} beside it" if later else "")
        return BuildReport("kept", f"{line}; {todo}" if todo else line, record.recipe.type)
    with _locked(run):
        return _extend(run, record, later)


def _extend(run: _Run, record: IndexRecord, later: int) -> BuildReport:
    snapshot, dead = run.snapshot, run.snapshot.deleted_ids()
    index = load_base(snapshot, record, mapped=False)
    with run.timed("add"):
        new = sorted(uncovered(index, record, snapshot), key=lambda b: int(b.ids[0]))
        segment = _write_rows(run, (piece for block in new for piece in _pieces(block, dead)), index, later)
    segments = (*record.segments, segment)
    imbalance = round(index.imbalance(), 3)
    with run.timed("save"):
        lists = _write_lists(run, index)
        if len(segments) > MAX_SEGMENTS:
            segments = (_merge(run, index, segment),)
        del index
    extended = replace(
        record,
        version=snapshot.version,
        shards=tuple(entry.name for entry in snapshot.manifest.files_of("images")),
        rows=record.rows + segment.n,
        max_id=snapshot.manifest.next_id - 1,
        built=_now(),
        imbalance=imbalance,
        lists=lists,
        segments=segments,
    )
    with run.timed("measure"):
        extended = _watched(run, extended)
    _publish(run, extended)
    report = _report(run, extended, "extended", segment.n)
    todo = advice(snapshot, extended)
    return replace(report, line=f"{report.line}; {todo}") if todo else report


def _merge(run: _Run, index: IvfIndex, last: Segment) -> Segment:
    """Write all exact rows into one file again: many small ones make a look-up slow."""
    ids = np.load(os.path.join(run.folder, last.ids.name), allow_pickle=False)
    shape = (last.n, index.dim)
    rows = np.memmap(os.path.join(run.folder, last.rows.name), np.float16, mode="r", shape=shape)
    index.attach(ids, np.asarray(rows))
    run.version = secrets.token_hex(4)
    blocks = (EmbeddingBlock(ids, rows) for ids, rows in index.rows.segments)
    none = np.empty(0, np.int64)
    return _write_rows(run, (piece for block in blocks for piece in _pieces(block, none)), None, len(index.rows))


# Measuring.


def _samples(run: _Run, index: IvfIndex, share: float = 1.0) -> dict[str, tuple[Sample, str]]:
    """Return held-back queries with their exact answers, and what they are."""
    texts = _text_queries(run, int(QUERIES["text"] * share))
    n = min(int(QUERIES["image"] * share), index.ntotal)
    alive = np.setdiff1d(index.rows.ids, run.snapshot.deleted_ids(), assume_unique=True)
    own = np.sort(np.random.default_rng(7).choice(alive, min(n, len(alive)), replace=False))
    images = index.rows.gather(index.rows.positions(own)).astype(np.float32)
    by_text = {} if texts is None else {"text": (make_sample(index, texts[0]), f"{len(texts[0])} {texts[1]}")}
    return {
        **by_text,
        "image": (make_sample(index, images, own), f"{len(images)} images of the collection, themselves left out"),
    }


def _text_queries(run: _Run, n: int) -> tuple[Floats, str] | None:
    """Return embeddings (Q, D) of the collection's captions, or of generic prompts where it has few.

    None where there are neither: imported embeddings may be of a model that nobody knows, or that is not here.
    """
    snapshot = run.snapshot
    have = snapshot.count("texts")
    if have >= 50:
        dead = snapshot.deleted_ids()
        live = ((p.ids, p.embeddings) for block in snapshot.blocks("texts") for p in _pieces(block, dead))
        return sample_rows(live, have, n, seed=7), "captions"
    if snapshot.manifest.encoder.get("fingerprint") is None:
        return None
    return np.asarray(run.encoder().encode_texts(generic_prompts(n)), np.float32), "generic prompts"


def _open_measured(run: _Run, record: IndexRecord) -> IvfIndex:
    index = load_base(run.snapshot, record)
    index.remove(run.snapshot.deleted_ids())
    return index


def _tuned(run: _Run, record: IndexRecord) -> IndexRecord:
    """Measure the grid of settings on the saved index."""
    index = _open_measured(run, record)
    samples = _samples(run, index)
    tell = lambda done, total: run.tell(Progress("measure", done, total))  # noqa: E731
    points = {kind: tuple(tune(index, record.recipe.nlist, sample, tell)) for kind, (sample, _) in samples.items()}
    measured = {
        kind: Measured(recall, recall, what, _now())
        for kind, (_, what) in samples.items()
        if (recall := _default_recall(points[kind])) is not None
    }
    return replace(record, points=points, measured=measured)


def _default_recall(points: Sequence[OperatingPoint]) -> float | None:
    effort = effort_for(points, None)
    return next((p.recall for p in points if p.effort == effort), None)


def _watched(run: _Run, record: IndexRecord) -> IndexRecord:
    """Look at the recall of the default settings again; below the target, look for better settings."""
    index = _open_measured(run, record)
    measured = {}
    for kind, (sample, what) in _samples(run, index, WATCHED / max(QUERIES.values())).items():
        effort = effort_for(record.points.get(kind, ()), None)
        if effort is None:
            continue
        recall = measure(index, sample, effort).recall
        measured[kind] = replace(record.measured[kind], recall=recall, queries=what, at=_now())
    record = replace(record, measured={**record.measured, **measured})
    if any(m.recall < min(DEFAULT_RECALL, m.trained) - 0.01 for m in measured.values()):
        trained = {kind: m.trained for kind, m in record.measured.items()}
        record = _tuned(run, record)
        found = {k: replace(m, trained=max(trained.get(k, 0.0), m.trained)) for k, m in record.measured.items()}
        record = replace(record, measured=found)
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
