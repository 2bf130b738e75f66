"""Give pictures that came later their values in the columns that were added before: tags, answers, clusters.

A column keeps what made it (labels as embeddings, templates and threshold in force, a question with its choices,
centres), so the values of new rows are arithmetic on stored embeddings: no picture is opened, no row that has a value
is looked at again, and the value is the one that the run which made the column would have given. What cannot be renewed
is said, and stays as it is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.errors import CorruptShardError, InputError
from clipsearch.flows.ask import ask_giver
from clipsearch.flows.cluster import STATIC, cluster_giver
from clipsearch.flows.evaluate import live_blocks
from clipsearch.flows.given import CHUNK
from clipsearch.flows.progress import Progress
from clipsearch.flows.tag import tag_giver
from clipsearch.flows.tagger import Tagger, widened
from clipsearch.present.text import count
from clipsearch.store import AddedColumn, Snapshot, Store
from clipsearch.store.naming import version_of
from clipsearch.types import Floats, Ints

GROWN = 0.5  # pictures tagged later, as a share of those that the tags were calibrated on, that make it stale
_AGAIN = "Make it again with 'clipsearch tag', 'ask --all' or 'cluster'."


class Giver(Protocol):
    """What gives the values of a column."""

    @property
    def type_(self) -> str:
        """The type of the values, as of ``AddedColumn``."""
        ...

    def give(self, rows: Floats) -> list[Any]:
        """Return the value of each picture (n, D), None where it has none."""
        ...


Maker = Callable[[bytes, Snapshot, Callable[[], Encoder]], Giver | None]
MAKERS: tuple[Maker, ...] = (tag_giver, ask_giver, cluster_giver)  # each answers None to what another one made


@dataclass(frozen=True, slots=True)
class Renewed:
    """What was done: pictures given a value, by column; sentences on what could not be."""

    columns: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def renew_columns(
    store: Store,
    encoder: Callable[[], Encoder],
    *,
    wait: bool = False,
    tell: Callable[[Progress], None] | None = None,
) -> Renewed:
    """Give the pictures that have no value yet in an added column one.

    Args:
        store: the collection.
        encoder: gives its encoder; called only for a column that needs it.
        wait: wait for another writer instead of raising LockedError.
        tell: called now and then with how far it is.

    Raises:
        LockedError: another process is writing to the collection.
        StorageError: the disk is full or cannot be written.
    """
    if not any(True for _ in _behind(store.snapshot())):
        return Renewed()
    with store.writer(wait=wait) as writer:
        snapshot = store.snapshot()
        notes: list[str] = []
        columns = []
        for name in _behind(snapshot):
            try:
                columns += _values(name, snapshot, encoder, tell or (lambda _: None))
            except (InputError, CorruptShardError) as problem:
                why = str(problem).split("\n", 1)[0]
                notes.append(f"New pictures have no value in the column {name}: {why} {_AGAIN}")
        if columns:
            writer.extend_columns(columns)
    return Renewed({column.name: len(column.ids) for column in columns}, tuple(notes))


def missing(name: str, snapshot: Snapshot) -> Iterator[tuple[Ints, Any]]:
    """Yield ids (n,) and embeddings (n, D) float16 of the live pictures without a value in an added column.

    Raises:
        CorruptShardError: the column cannot be read.
    """
    known = snapshot.added_column(name)[0]
    for block in live_blocks(snapshot):
        new = ~np.isin(block.ids, known)
        if new.any():
            yield block.ids[new], block.embeddings[new]


def column_advice(snapshot: Snapshot) -> tuple[str, ...]:
    """Return in one sentence each what there is to do about the added columns."""
    advice = []
    for name in _behind(snapshot):
        try:
            n = sum(len(ids) for ids, _ in missing(name, snapshot))
        except CorruptShardError as problem:
            advice.append(str(problem).replace("\n", " "))
            continue
        if n:
            advice.append(
                f"{count(n, 'picture has', 'pictures have')} no value in the column {name}: 'clipsearch index' gives it"
            )
    for name in snapshot.added_columns():
        stale = _outgrown(name, snapshot)
        if stale:
            advice.append(stale)
    return tuple(advice)


def _behind(snapshot: Snapshot) -> Iterator[str]:
    """Yield the added columns that may lack rows: the manifest alone says of most that they do not."""
    for name in snapshot.added_columns():
        entries = [entry for entry in snapshot.manifest.files_of("added") if entry.of == name]
        newest = max(version_of(entry.name.rsplit("/", 1)[-1]) for entry in entries)
        if not snapshot.manifest.has_rows_of(newest) and not _is_static(name, snapshot):
            yield name


def _is_static(name: str, snapshot: Snapshot) -> bool:
    """Tell whether a column is of some pictures and none other."""
    try:
        return snapshot.made_of(name) == STATIC
    except CorruptShardError:
        return False


def _values(
    name: str, snapshot: Snapshot, encoder: Callable[[], Encoder], tell: Callable[[Progress], None]
) -> list[AddedColumn]:
    """Return the column with the values of the rows that have none; nothing where all have one."""
    rows = list(missing(name, snapshot))
    total = sum(len(ids) for ids, _ in rows)
    if not total:
        return []
    giver = _giver(name, snapshot, encoder)
    values: list[Any] = []
    for _, embeddings in rows:
        for start in range(0, len(embeddings), CHUNK):
            values += giver.give(widened(embeddings[start : start + CHUNK]))
            tell(Progress("columns", len(values), total))
    return [AddedColumn(name, np.concatenate([ids for ids, _ in rows]), values, giver.type_)]


def _giver(name: str, snapshot: Snapshot, encoder: Callable[[], Encoder]) -> Giver:
    made = snapshot.made_of(name)
    for maker in MAKERS:
        giver = None if made is None else maker(made, snapshot, encoder)
        if giver is not None:
            return giver
    raise InputError("nothing is known of how it was made, or another version of clipsearch made it.")


def _outgrown(name: str, snapshot: Snapshot) -> str | None:
    """Say so where most tags were given by a calibration on other pictures."""
    try:
        made = snapshot.made_of(name)
    except CorruptShardError:
        return None  # 'verify' says so
    tagger = None if made is None else Tagger.from_bytes(made)
    if tagger is None or not tagger.pictures:
        return None
    later = sum(entry.rows for entry in snapshot.manifest.files_of("added") if entry.of == name) - tagger.pictures
    if later <= GROWN * tagger.pictures:
        return None
    return (
        f"the column {name} was calibrated on {tagger.pictures:,} pictures, and {later:,} have come since: "
        f"calibrate it again with 'clipsearch tag{tagger.command(name)}'"
    )
