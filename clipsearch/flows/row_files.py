"""The files of exact rows beside an index: everything that writes them."""

import io
import os
from collections.abc import Iterator

import numpy as np

from clipsearch.flows.build_run import Run
from clipsearch.flows.saved_files import Segment, stamped
from clipsearch.flows.streaming import joined, pieces
from clipsearch.index.ivf import IvfIndex
from clipsearch.npy import load_npy
from clipsearch.store.files import stream_file
from clipsearch.types import EmbeddingBlock


def write_rows(run: Run, blocks: Iterator[EmbeddingBlock], total: int, stage: str = "rows") -> Segment:
    """Write the exact rows, one after the other, and their ids."""
    name, ids = run.stem("rerank"), []
    with stream_file(os.path.join(run.folder, f"{name}.f16")) as file:
        done = 0
        for block in joined(blocks):
            file.write(np.ascontiguousarray(block.embeddings).data.cast("B"))
            ids.append(np.array(block.ids))
            done += len(block.ids)
            run.step(stage)(done, total)
    rows = stamped(run.folder, f"{name}.f16", file.bytes, file.sha256)
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate([np.empty(0, np.int64), *ids]), allow_pickle=False)
    return Segment(done, run.write(f"{name}.ids.npy", buffer.getvalue()), rows)


def merge_rows(run: Run, index: IvfIndex, last: Segment) -> Segment:
    """Write all exact rows into one file again: many small ones make a look-up slow."""
    ids = load_npy(os.path.join(run.folder, last.ids.name))
    shape = (last.n, index.dim)
    rows = np.memmap(os.path.join(run.folder, last.rows.name), np.float16, mode="r", shape=shape)
    index.attach(ids, np.asarray(rows))
    run.renew()
    blocks = (EmbeddingBlock(ids, rows) for ids, rows in index.rows.segments)
    none = np.empty(0, np.int64)
    return write_rows(run, (piece for block in blocks for piece in pieces(block, none)), len(index.rows))
