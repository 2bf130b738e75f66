"""One Parquet file of the live rows: all that is known of each, and ``embedding`` as FixedSizeList<float16>."""

from typing import Any

import pyarrow.parquet as pq

from clipsearch.store.layouts import Options, Rows
from clipsearch.store.layouts.tables import schema, table
from clipsearch.store.layouts.target import beside, check_target


def write(rows: Rows, place: str, options: Options) -> tuple[str, ...]:
    """Write the file; returns notes for a person."""
    check_target(place, options.force, ())
    told = {f"clipsearch.{name}": value for name, value in (("model", rows.model), ("collection", rows.name))}
    target = schema(rows.dim, rows.added).with_metadata(told)
    codec: Any = {name: "zstd" for name in target.names if name != "embedding"}
    done = 0
    with beside(place) as tmp, open(tmp, "xb") as raw, pq.ParquetWriter(raw, target, compression=codec) as writer:
        for block in rows.blocks(False):
            writer.write_table(table(block, target))
            done += len(block.ids)
            rows.wrote(done)
    return ()
