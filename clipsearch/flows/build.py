"""Build an index of a collection's images or texts, extend it, and measure what it finds.

1. *Choose* a recipe from the number of rows, their dimension and the memory, and say in one line which and why, and
   what it will take of memory, disk and time.
2. *Train* on a sample drawn from the shards; k-means and codes.
3. *Add* all live rows, a part of a million at a time, in one process or several, and *join* the parts on the disk.
4. *Copy* the exact rows beside, one after the other: memory holds the sample or a part's lists, never the rows.
5. *Measure* recall@10 against exact search on queries as people ask them, text and image apart, at a grid of settings,
   and keep the operating points worth having: ``search --recall`` chooses among them.
6. *Swap*: replace ``CURRENT``. Searches under way go on with the files that they have open.

Each step is saved when it is done (``build_state.py``); a build that was stopped or killed goes on from there. Later
runs *extend* (``extend.py``): rows added since are put into the same lists, without training. What would make a new
training worth it is written down and shown by ``status`` (``drift.py``).
"""

import os
import shutil
from collections.abc import Callable

from clipsearch.embed.base import Encoder
from clipsearch.errors import ClipsearchError, CorruptShardError, InputError
from clipsearch.flows.build_parts import begun, lists_and_rows, trained
from clipsearch.flows.build_run import Run, Say, Tell, available_memory, locked, measured_flops, now
from clipsearch.flows.build_state import BuildState, forget
from clipsearch.flows.drift import advice
from clipsearch.flows.extend import refresh
from clipsearch.flows.index_files import (
    IndexRecord,
    fingerprint_of,
    load_base,
    read_record,
    withdraw,
)
from clipsearch.flows.index_folders import read_index_pointer
from clipsearch.flows.measuring import tuned
from clipsearch.flows.outcome import BuildReport, publish, report_on
from clipsearch.index.choose import FLAT_ROWS, Choice, choice_of, choose_recipe
from clipsearch.index.costs import size
from clipsearch.index.faiss_library import faiss_is_installed
from clipsearch.index.recipe import Recipe, check_points, load_recipe, recipe_names
from clipsearch.store import Store

__all__ = ["BuildReport", "advice", "update_index"]


def update_index(
    store: Store,
    encoder: Callable[[], Encoder],
    *,
    kind: str = "images",
    index_type: str = "auto",
    recipe: str | Recipe | None = None,
    memory_bytes: int | None = None,
    jobs: int = 1,
    retrain: bool = False,
    wait: bool = False,
    progress: Tell | None = None,
    say: Say | None = None,
) -> BuildReport:
    """Bring an index of a collection up to date; does as little as it can.

    Args:
        store: the collection.
        encoder: gives the encoder; called where there are no captions to measure with.
        kind: of rows, "images" or "texts".
        index_type: "auto" (exact search up to 200,000 rows), "flat", "ivfflat" or "ivfpq".
        recipe: a recipe, its name or a TOML file's; in place of a choice.
        memory_bytes: what building may take; None takes 70 % of what is free.
        jobs: processes that add rows.
        retrain: build anew even if there is an index.
        wait: wait for another process that is building instead of raising LockedError.
        progress: hears how far it is.
        say: hears the choice in one line, before anything long begins.

    Raises:
        InputError: too few rows, too little memory or disk (with figures), a wrong recipe.
        MissingExtraError: an approximate type was asked for, and faiss is not installed.
        LockedError: another process is building.
        StorageError: the disk is full.
    """
    quiet, exactly = (lambda _: None), recipe
    run = Run(store, store.snapshot(), encoder, progress or quiet, say or quiet, max(jobs, 1), kind, wait)
    before = read_index_pointer(store.path, kind)
    record, usable = _stored(run)
    unasked = index_type == "auto" and recipe is None and not retrain
    retrain = retrain or not usable  # it is derived: what is damaged is made again
    if unasked and usable and record is not None:
        return refresh(run, record)
    if unasked and run.rows >= FLAT_ROWS and not faiss_is_installed():
        advice = "pip install 'clipsearch[cpu]' brings faiss, which searches in a thousandth of the time."
        return BuildReport("none", f"exact search over {run.rows:,} {kind}. {advice}", "flat")
    memory = int(0.7 * available_memory()) if memory_bytes is None else memory_bytes
    if recipe is None and retrain and index_type == "auto":
        index_type, recipe = _former(run, record)
    choice = _choose(run, index_type, recipe, memory)
    if choice.recipe.type == "flat":
        removed = _withdrawn(run, asked=not unasked)
        return BuildReport("removed" if removed else "none", choice.why, "flat", recall={"text": 1.0, "image": 1.0})
    same = record is not None and exactly is None and record.recipe.type == choice.recipe.type
    if same and record is not None and not retrain:
        return refresh(run, record)
    run.say(choice.why)
    with locked(run):
        if not retrain and exactly is None and read_index_pointer(store.path, kind) != before:
            found = read_record(store.path, kind)  # of whom was waited for
            if found is not None and found.recipe.type == choice.recipe.type:
                return BuildReport("kept", f"another process has just built it: {found.recipe.type}", found.recipe.type)
        return _build(run, choice, memory, exactly=exactly is not None)


def _stored(run: Run) -> tuple[IndexRecord | None, bool]:
    """Return the record of the index, as far as it can be read, and whether all of it is whole."""
    record = None
    try:
        record = read_record(run.store.path, run.kind)
        if record is not None and faiss_is_installed():
            load_base(run.snapshot, record)
    except CorruptShardError:
        return record, False
    return record, True


def _former(run: Run, record: IndexRecord | None) -> tuple[str, Recipe | None]:
    """Return the type and recipe of the index that is there, for what a person chose once stays chosen."""
    former = _left_beside(run) if record is None else record.recipe
    if former is None:
        return "auto", None
    return former.type, None if former.name.removesuffix(", fitted") in recipe_names() else former


def _left_beside(run: Run) -> Recipe | None:
    """Return the recipe that lies beside an index whose record cannot be read."""
    if read_index_pointer(run.store.path, run.kind) is None:
        return None
    names = sorted(name for name in os.listdir(run.folder) if name.endswith(".recipe.toml"))
    try:
        return load_recipe(os.path.join(run.folder, names[-1])) if names else None
    except ClipsearchError:
        return None


def _withdrawn(run: Run, *, asked: bool) -> bool:
    """Remove the index; while another process is building, this one must not take away what that is writing."""
    if read_index_pointer(run.store.path, run.kind) is None and not (asked and os.path.isdir(run.folder)):
        return False
    with locked(run):
        return withdraw(run.store.path, run.kind)


def _choose(run: Run, index_type: str, recipe: str | Recipe | None, memory: int) -> Choice:
    n, dim = run.rows, run.snapshot.manifest.dim
    if recipe is None:
        return choose_recipe(n, dim, memory, index_type, jobs=run.jobs, flops=measured_flops(), noun=run.kind)
    loaded = (recipe if isinstance(recipe, Recipe) else load_recipe(recipe)).fitted(dim)
    check_points(loaded, n)
    return choice_of(loaded, n, memory, jobs=run.jobs, flops=measured_flops(), noun=run.kind)


def _build(run: Run, choice: Choice, memory: int, *, exactly: bool) -> BuildReport:
    state = begun(run, choice.recipe, exactly=exactly)
    resumed = state is not None
    if state is None:
        forget(run.folder)
        _check_disk(run, choice)
        state = trained(run, choice.recipe)
    else:
        run.stages = dict(state.stages)
        choice_of(state.recipe, run.rows, memory, jobs=run.jobs)  # the memory may be less now
        run.say(f"{state.recipe.type}: {_how_far(run, state)}")
    state = lists_and_rows(run, state)
    with run.timed("measure"):
        record = tuned(run, _record(run, state))
    publish(run, record)
    return report_on(run, record, "built", record.rows, resumed=resumed)


def _how_far(run: Run, state: BuildState) -> str:
    added = sum(part.n for part in state.parts)
    done = "all" if state.lists is not None else f"{added:,} of {run.rows:,}"
    return f"going on with the build that was stopped; trained, and {done} {run.kind} added"


def _check_disk(run: Run, choice: Choice) -> None:
    free = shutil.disk_usage(run.folder).free
    if free < choice.costs.disk:
        raise InputError(
            f"Building takes about {size(choice.costs.disk)} of disk; {size(free)} are free at {run.folder}.\n"
            "Make room, or move the collection to a larger disk."
        )


def _record(run: Run, state: BuildState) -> IndexRecord:
    snapshot, time = run.snapshot, now()
    assert state.lists is not None and state.segment is not None
    return IndexRecord(
        recipe=state.recipe,
        version=snapshot.version,
        fingerprint=fingerprint_of(snapshot),
        dim=snapshot.manifest.dim,
        shards=tuple(entry.name for entry in snapshot.manifest.files_of(run.kind)),
        rows=state.segment.n,
        max_id=snapshot.manifest.next_id - 1,
        trained_rows=state.sampled_rows,
        trained=time,
        built=time,
        imbalance=state.imbalance,
        imbalance_trained=state.imbalance,
        lists=state.lists,
        segments=(state.segment,),
        kind=run.kind,
    )
