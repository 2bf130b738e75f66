"""A Lance dataset: the same table as the Parquet export; needs ``pylance``."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from clipsearch.errors import MissingExtraError
from clipsearch.store.layouts import Options, Rows
from clipsearch.store.layouts.tables import schema, table
from clipsearch.store.layouts.target import beside, check_target

NAMES = ("data", "_versions", "_transactions", "_indices", "_deletions", "_latest.manifest")


def write(rows: Rows, place: str, options: Options) -> tuple[str, ...]:
    """Write the dataset; returns notes for a person."""
    lance = _library()
    check_target(place, options.force, NAMES)
    target = schema(rows.dim, rows.added)

    def batches() -> Iterator[pa.RecordBatch]:
        done = 0
        for block in rows.blocks(False):
            yield from table(block, target).to_batches()
            done += len(block.ids)
            rows.wrote(done)

    with beside(place) as tmp:
        lance.write_dataset(pa.RecordBatchReader.from_batches(target, batches()), tmp, mode="create")
    return ()


def _library() -> Any:  # Any: a module that has no stubs and may not be there
    try:
        import lance  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError(
            "Writing a Lance dataset needs the package pylance, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[lance]'"
        ) from None
    return lance
