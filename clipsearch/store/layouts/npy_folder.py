"""``embeddings.npy``, ``ids.npy`` and ``metadata.parquet``, row by row the same images."""

import os

import numpy as np
import pyarrow.parquet as pq

from clipsearch.store.layouts import Options, Rows
from clipsearch.store.layouts.npy_file import NpyFile
from clipsearch.store.layouts.tables import schema, table
from clipsearch.store.layouts.target import beside, check_target

NAMES = ("embeddings.npy", "ids.npy", "metadata.parquet")


def write(rows: Rows, place: str, options: Options) -> tuple[str, ...]:
    """Write the folder; returns notes for a person."""
    check_target(place, options.force, NAMES)
    target = schema(None, rows.added)
    with beside(place) as tmp:
        os.mkdir(tmp)
        embeddings, ids, metadata = (os.path.join(tmp, name) for name in NAMES)
        done = 0
        with (
            NpyFile(embeddings, (rows.n, rows.dim), np.float16) as vectors,
            NpyFile(ids, (rows.n,), np.int64) as numbers,
            open(metadata, "xb") as raw,
            pq.ParquetWriter(raw, target, compression="zstd") as writer,
        ):
            for block in rows.blocks(False):
                vectors.write(block.embeddings)
                numbers.write(block.ids)
                writer.write_table(table(block, target))
                done += len(block.ids)
                rows.wrote(done)
    return ()
