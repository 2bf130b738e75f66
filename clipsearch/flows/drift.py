"""When an index that was trained on other rows should be trained anew, and why."""

from collections.abc import Iterator

from clipsearch.flows.index_files import IndexRecord
from clipsearch.index.choose import FLAT_ROWS
from clipsearch.index.tuning import DEFAULT_RECALL
from clipsearch.store import Snapshot

GROWN = 2.0  # times the rows it was trained with
DEAD_SHARE = 0.2
UNEVEN = 1.5  # times as uneven as when the lists were learned: a search then reads half as much again


def advice(snapshot: Snapshot, record: IndexRecord | None, kind: str = "images") -> str | None:
    """Return what to do about an index and every reason why, in one sentence, or None where all is well."""
    n = snapshot.count(kind)
    if record is None:
        return None if n < FLAT_ROWS else "exact search is slow at this size: run 'clipsearch index --index-type auto'"
    reasons = list(_reasons(n, record))
    return f"{'; '.join(reasons)}: run 'clipsearch index --retrain'" if reasons else None


def _reasons(n: int, record: IndexRecord) -> Iterator[str]:
    for kind, found in record.measured.items():
        if found.recall < DEFAULT_RECALL and found.recall < found.trained - 0.005:
            yield f"recall of {kind} queries fell from {found.trained:.3f} to {found.recall:.3f}"
    if n > GROWN * record.trained_rows:
        yield f"{n:,} {record.kind} are more than twice the {record.trained_rows:,} it was trained with"
    if record.imbalance > UNEVEN * record.imbalance_trained:
        yield (
            f"its lists have become uneven ({record.imbalance:.1f}, {record.imbalance_trained:.1f} when trained), "
            "which makes searches slow"
        )
    if record.rows - n > DEAD_SHARE * record.rows:
        yield f"{record.rows - n:,} of its {record.rows:,} rows are deleted"
