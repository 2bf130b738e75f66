"""Put rows added since into the lists of an index that is there, without training it again."""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from clipsearch.flows.build_run import Run, locked, now
from clipsearch.flows.drift import advice
from clipsearch.flows.index_files import IndexRecord, load_base, open_index, read_record, uncovered
from clipsearch.flows.measuring import watched
from clipsearch.flows.outcome import BuildReport, publish, report_on
from clipsearch.flows.progress import Progress
from clipsearch.flows.row_files import merge_rows, write_rows
from clipsearch.flows.saved_files import SavedFile
from clipsearch.flows.streaming import joined, pieces
from clipsearch.index import ondisk
from clipsearch.index.costs import ADD_ROWS
from clipsearch.index.filling import holding
from clipsearch.index.ivf import IvfIndex
from clipsearch.types import EmbeddingBlock

TAIL_SHARE, TAIL_ROWS = 0.02, 20_000  # rows beside the index above which they are put into it
MAX_SEGMENTS = 8
MERGED_BYTES = 4 * 2**30  # up to this size all exact rows are copied into one file: faiss re-ranks in one alone


def refresh(run: Run, record: IndexRecord) -> BuildReport:
    """Put rows added since into the lists, if there are enough of them to be worth it."""
    kept, _ = _kept(run, record)
    if kept is not None:
        return kept
    with locked(run):
        current = read_record(run.store.path, run.kind)  # it may be another one by now
        if current is None:
            return BuildReport("none", "another process has removed the index", "flat")
        kept, later = _kept(run, current)
        return kept or _extend(run, current, later)


def _kept(run: Run, record: IndexRecord) -> tuple[BuildReport | None, int]:
    """Return the report where the index stays as it is, and how many rows lie beside it."""
    layered, notes = open_index(run.snapshot, run.kind)
    if layered is None:
        return BuildReport("kept", notes[0] if notes else "no index", "flat"), 0
    later, n = layered.tail.ntotal, run.rows
    if later > min(TAIL_SHARE * n, TAIL_ROWS):
        return None, later
    todo = advice(run.snapshot, record, run.kind)
    line = f"{record.recipe.type} over {record.rows:,} {run.kind}" + (f", {later:,} beside it" if later else "")
    return BuildReport("kept", f"{line}; {todo}" if todo else line, record.recipe.type), later


def _extend(run: Run, record: IndexRecord, later: int) -> BuildReport:
    snapshot = run.snapshot
    base = load_base(snapshot, record)
    with run.timed("add"):
        lists, imbalance = _more_lists(run, record, base, later)
    with run.timed("rows"):
        segments = (*record.segments, write_rows(run, _new(run, base, record), later))
        if len(segments) > MAX_SEGMENTS or 2 * base.dim * (len(base.rows) + later) <= MERGED_BYTES:
            segments = (merge_rows(run, base, segments[-1]),)
        del base
    extended = replace(
        record,
        version=snapshot.version,
        shards=tuple(entry.name for entry in snapshot.manifest.files_of(run.kind)),
        rows=record.rows + later,
        max_id=snapshot.manifest.next_id - 1,
        built=now(),
        imbalance=round(imbalance, 3),
        lists=lists,
        segments=segments,
    )
    with run.timed("measure"):
        extended = watched(run, extended)
    publish(run, extended)
    report = report_on(run, extended, "extended", later)
    todo = advice(snapshot, extended, run.kind)
    return replace(report, line=f"{report.line}; {todo}") if todo else report


def _new(run: Run, base: IvfIndex, record: IndexRecord) -> Iterator[EmbeddingBlock]:
    """Yield the live rows that an index does not cover, ids ascending."""
    dead = run.snapshot.deleted_ids()
    for block in sorted(uncovered(base, record, run.snapshot), key=lambda block: int(block.ids[0])):
        yield from pieces(block, dead)


def _more_lists(run: Run, record: IndexRecord, base: IvfIndex, later: int) -> tuple[SavedFile, float]:
    """Write the lists with the new rows in them, and return the file and how uneven they are.

    Mapped lists never come into memory: the new rows get lists of their own, and the two are joined. Those in
    fast-scan order are in memory at every search anyway.
    """
    old = os.path.join(run.folder, record.lists.name)
    plain = ondisk.emptied(old) if record.recipe.is_mapped else ondisk.read_plain(old)
    index, first, done = holding(record.recipe, plain), len(base.rows), 0
    for block in joined(_new(run, base, record)):
        for start in range(0, len(block.ids), ADD_ROWS):
            index.add_codes(first + done + start, block.embeddings[start : start + ADD_ROWS])
        done += len(block.ids)
        run.tell(Progress("add", done, later))
    name = f"{run.stem(record.recipe.type)}.faiss"
    if not record.recipe.is_mapped:
        return run.stream(name, lambda write: ondisk.write_index(plain, write)), index.imbalance()
    part = run.stream(f"{run.stem('part')}.lists", lambda write: ondisk.write_part(plain, write))
    files = [ondisk.open_lists(old), ondisk.open_part(os.path.join(run.folder, part.name))]
    empty = ondisk.emptied(old)
    saved = run.stream(name, lambda write: ondisk.join(empty, files, write, run.step("save")))
    return saved, ondisk.imbalance(np.sum([file.sizes for file in files], axis=0))
