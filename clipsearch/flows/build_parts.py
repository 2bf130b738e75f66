"""From shards to lists, in steps that are each saved: train, fill parts, join them, copy the exact rows.

Whatever happened before, ``lists_and_rows`` does what is missing. A part is a million rows put into empty copies of
the trained index; which processes filled which parts changes nothing in what comes out, byte for byte.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace

import numpy as np

from clipsearch.flows import part_worker
from clipsearch.flows.build_run import Run
from clipsearch.flows.build_state import BuildState, Part, read_state, write_state
from clipsearch.flows.drift import GROWN
from clipsearch.flows.index_files import fingerprint_of
from clipsearch.flows.pages import release
from clipsearch.flows.part_worker import PartTask
from clipsearch.flows.progress import Progress
from clipsearch.flows.row_files import write_rows
from clipsearch.flows.streaming import live, live_ids
from clipsearch.index import ondisk
from clipsearch.index.costs import part_rows
from clipsearch.index.recipe import Recipe
from clipsearch.index.rows import sample_rows
from clipsearch.index.training import train_plain
from clipsearch.types import EmbeddingBlock, Ints

SEED = 0


@dataclass(frozen=True, slots=True)
class _Planned:
    """Rows that a part is to hold: from the ``start``-th live row on, ``n`` of them, ids with this digest."""

    number: int
    start: int
    n: int
    ids: str


def begun(run: Run, recipe: Recipe, *, exactly: bool) -> BuildState | None:
    """Return the build that was begun and can be gone on with, or None.

    Args:
        run: now.
        recipe: what is to be built.
        exactly: a person gave the recipe. Otherwise it was chosen by the memory free at that moment, and the one that
            was chosen then is as good.
    """
    state, n = read_state(run.folder), run.rows
    if state is None or state.fingerprint != fingerprint_of(run.snapshot) or state.recipe.dim != recipe.dim:
        return None
    if state.recipe != recipe if exactly else state.recipe.type != recipe.type:
        return None
    fresh = state.sampled_rows / GROWN <= n <= state.sampled_rows * GROWN
    return state if fresh and state.version <= run.snapshot.version else None


def trained(run: Run, recipe: Recipe, seed: int = SEED) -> BuildState:
    """Train an index on a sample of the live rows, save it, and return what a build begins with."""
    n = run.rows
    with run.timed("train"):
        sample = sample_rows(((b.ids, b.embeddings) for b in _counted(run, n)), n, recipe.points, seed)
        release(run.snapshot.path)
        index = train_plain(recipe, np.ascontiguousarray(sample, np.float32), run.step("train"))
        del sample
        saved = run.stream(f"{run.stem('trained')}.faiss", lambda write: ondisk.write_index(index, write))
    state = BuildState(
        recipe=recipe,
        fingerprint=fingerprint_of(run.snapshot),
        version=run.snapshot.version,
        sampled_rows=n,
        seed=seed,
        part_rows=part_rows(recipe),
        trained=saved,
        stages=run.stages,
    )
    write_state(run.folder, state)
    return state


def lists_and_rows(run: Run, state: BuildState) -> BuildState:
    """Do what is missing until lists and exact rows of all live rows are in place."""
    planned = _plan(run, state.part_rows)
    covers = _digest([part.ids.encode() for part in planned])
    if state.covers != covers:
        state = replace(state, covers=covers, lists=None, segment=None)
    if state.lists is None:
        with run.timed("add"):
            state = _fill(run, state, planned)
        with run.timed("save"):
            state = _join(run, state)
    if state.segment is None:
        with run.timed("rows"):
            run.renew()
            total = sum(part.n for part in planned)
            state = _noted(run, replace(state, segment=write_rows(run, live(run.snapshot, run.kind), total)))
    return state


def _counted(run: Run, n: int) -> Iterator[EmbeddingBlock]:
    done = 0
    for block in live(run.snapshot, run.kind):
        run.tell(Progress("sample", done, n))
        yield block
        done += len(block.ids)


def _plan(run: Run, rows: int) -> list[_Planned]:
    """Cut the live rows into parts; of the rows only the ids are read."""
    parts: list[_Planned] = []
    held: list[Ints] = []
    for ids in live_ids(run.snapshot, run.kind):
        while len(ids):
            room = rows - sum(map(len, held))
            held.append(ids[:room])
            ids = ids[room:]
            if sum(map(len, held)) == rows:
                parts, held = [*parts, _planned(len(parts), rows, held)], []
    return [*parts, _planned(len(parts), rows, held)] if held else parts


def _planned(number: int, rows: int, held: list[Ints]) -> _Planned:
    digest = _digest([np.ascontiguousarray(ids).data.cast("B") for ids in held])
    return _Planned(number, number * rows, sum(map(len, held)), digest)


def _digest(pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _fill(run: Run, state: BuildState, planned: list[_Planned]) -> BuildState:
    """Fill the parts that are not there yet; each is noted down once it is in place."""
    wanted = {part.number: part.ids for part in planned}
    kept = tuple(part for part in state.parts if wanted.get(part.number) == part.ids)
    state = replace(state, parts=kept)
    total, finished = sum(part.n for part in planned), sum(part.n for part in kept)
    have = {part.number for part in kept}
    by_number = {part.number: part for part in planned}
    tasks = [_task(run, state, part) for part in planned if part.number not in have]

    def told(done: int) -> None:
        run.tell(Progress("add", finished + done, total))

    with closing(part_worker.run_parts(tasks, run.jobs, told)) as filled:
        for number, file in filled:
            plan = by_number[number]
            parts = sorted((*state.parts, Part(number, plan.n, plan.ids, file)), key=lambda part: part.number)
            state = _noted(run, replace(state, parts=tuple(parts)))
            if run.jobs > 1 and len(tasks) > 1:  # who works elsewhere is heard of at the end
                finished += plan.n
                told(0)
    return state


def _task(run: Run, state: BuildState, part: _Planned) -> PartTask:
    return PartTask(
        path=run.snapshot.path,
        manifest=run.snapshot.manifest,
        kind=run.kind,
        recipe=state.recipe,
        trained=os.path.join(run.folder, state.trained.name),
        name=f"{run.stem('part')}-{part.number:05d}.lists",
        number=part.number,
        start=part.start,
        n=part.n,
    )


def _join(run: Run, state: BuildState) -> BuildState:
    """Join the parts into one file, and pack it where the recipe wants that; the parts are no longer needed then."""
    files = [ondisk.open_part(os.path.join(run.folder, part.file.name)) for part in state.parts]
    empty = ondisk.read_plain(os.path.join(run.folder, state.trained.name))
    name = f"{run.stem(state.recipe.type)}.faiss"
    plain = f"{run.stem('joined')}.faiss" if state.recipe.fast_scan else name
    uneven: list[float] = []
    lists = run.stream(plain, lambda write: uneven.append(ondisk.join(empty, files, write, run.step("save"))))
    if state.recipe.fast_scan:
        joined = os.path.join(run.folder, plain)
        lists = run.stream(name, lambda write: ondisk.finish(state.recipe, joined, write))
        os.unlink(joined)
    gone = [part.file.name for part in state.parts]
    state = _noted(run, replace(state, parts=(), lists=lists, imbalance=round(uneven[0], 3)))
    for part in gone:
        with suppress(OSError):
            os.unlink(os.path.join(run.folder, part))
    return state


def _noted(run: Run, state: BuildState) -> BuildState:
    state = replace(state, stages=dict(run.stages))
    write_state(run.folder, state)
    return state
