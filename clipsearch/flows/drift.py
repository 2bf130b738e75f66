"""When an index that was trained on other rows should be trained anew, and why."""

from clipsearch.flows.index_files import IndexRecord
from clipsearch.index.choose import FLAT_ROWS
from clipsearch.index.tuning import DEFAULT_RECALL
from clipsearch.store import Snapshot

GROWN = 2.0  # times the rows it was trained with
DEAD_SHARE = 0.2
UNEVEN = 1.5  # times as uneven as when the lists were learned: a search then reads half as much again


def advice(snapshot: Snapshot, record: IndexRecord | None) -> str | None:
    """Return what to do about the index, in one sentence, or None where all is well."""
    n = snapshot.count("images")
    if record is None:
        return None if n < FLAT_ROWS else "exact search is slow at this size: run 'clipsearch index --index-type auto'"
    again = "run 'clipsearch index --retrain'"
    for kind, found in record.measured.items():
        if found.recall < DEFAULT_RECALL and found.recall < found.trained - 0.005:
            return f"recall of {kind} queries fell from {found.trained:.3f} to {found.recall:.3f}: {again}"
    if n > GROWN * record.trained_rows:
        return f"{n:,} images are more than twice the {record.trained_rows:,} it was trained with: {again}"
    if record.imbalance > UNEVEN * record.imbalance_trained:
        return (
            f"its lists have become uneven ({record.imbalance:.1f}, {record.imbalance_trained:.1f} when trained), "
            f"which makes searches slow: {again}"
        )
    if record.rows - n > DEAD_SHARE * record.rows:
        return f"{record.rows - n:,} of its {record.rows:,} rows are deleted: {again}"
    return None
