"""clip-retrieval's embeddings folder, as its ``inference`` writes it.

    img_emb/img_emb_<p>.npy   text_emb/text_emb_<p>.npy   metadata/metadata_<p>.parquet   stats/<p>.json

``<p>`` has ``int(log10(partitions)) + 1`` digits, samples are dealt to the partitions round robin, arrays are float16
in C order, and the tables carry what pandas writes of an index. A picture with several captions comes with the first
of them, one without with an empty caption and a row of zeros, since row *i* of all files must be the same sample.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from math import log10
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipsearch.store.layouts import Block, Options, Rows, first_captions
from clipsearch.store.layouts.npy_file import NpyFile
from clipsearch.store.layouts.target import beside, check_target

FOLDERS = ("img_emb", "text_emb", "metadata", "stats")
INDEX_NAMES = ("image.index", "image.json", "text.index", "text.json")
_MORE = {
    **dict.fromkeys(("width", "height"), pa.int32()),
    **dict.fromkeys(("format", "taken", "camera", "lens"), pa.string()),
    **dict.fromkeys(("latitude", "longitude"), pa.float64()),
    "generated": pa.bool_(),
    "sha256": pa.string(),
}
_GROUP = 65_536
_PANDAS = {
    "string": ("unicode", "object"),
    "int32": ("int32", "int32"),
    "double": ("float64", "float64"),
    "bool": ("bool", "bool"),
    "int64": ("int64", "int64"),
    "list<item: string>": ("list[unicode]", "object"),
    "list<element: string>": ("list[unicode]", "object"),
}


def write(rows: Rows, place: str, options: Options) -> tuple[str, ...]:
    """Write the folder; returns notes for a person."""
    check_target(place, options.force, (*FOLDERS, *INDEX_NAMES))
    count = max(1, -(-rows.n // options.partition_rows))
    without = 0
    with beside(place) as tmp:
        for folder in FOLDERS:
            if folder != "text_emb" or rows.has_captions:
                os.makedirs(os.path.join(tmp, folder))
        with ExitStack() as stack:
            parts = [stack.enter_context(_Partition(tmp, p, count, rows, options.metadata)) for p in range(count)]
            done = 0
            for block in rows.blocks(rows.has_captions):
                without += sum(not captions for captions in block.captions)
                for p, part in enumerate(parts):
                    mine = np.arange((p - done) % count, len(block.ids), count)
                    part.write(block.take(mine) if count > 1 else block)
                done += len(block.ids)
                rows.wrote(done)
        if options.finish is not None:
            options.finish(tmp)
    if rows.has_captions and without:
        return (f"{without:,} images have no caption: their caption is empty and their row of text_emb is zeros.",)
    return ()


def partition_name(p: int, count: int) -> str:
    """Return the number of a partition as clip-retrieval writes it."""
    return str(p).zfill(int(log10(count)) + 1)


class _Partition:
    """The files of one partition, written block by block."""

    def __init__(self, folder: str, p: int, count: int, rows: Rows, metadata: bool) -> None:
        self._started = time.time()
        self._folder, self._name = folder, partition_name(p, count)
        self.n = (rows.n - p + count - 1) // count
        self._schema = _schema(self.n, rows.has_captions, {**_MORE, **rows.added} if metadata else {})
        shape = (self.n, rows.dim)
        self._stack = ExitStack()
        self._images = self._stack.enter_context(NpyFile(self._path("img_emb", "npy"), shape, np.float16))
        self._texts = None
        if rows.has_captions:
            self._texts = self._stack.enter_context(NpyFile(self._path("text_emb", "npy"), shape, np.float16))
        raw = self._stack.enter_context(open(self._path("metadata", "parquet"), "xb"))  # noqa: SIM115
        self._tables = self._stack.enter_context(pq.ParquetWriter(raw, self._schema, compression="snappy"))
        self._waiting: list[pa.Table] = []
        self._seconds = 0.0

    def write(self, block: Block) -> None:
        """Append rows."""
        start = time.monotonic()
        self._images.write(block.embeddings)
        if self._texts is not None and block.texts is not None:
            self._texts.write(block.texts)
        self._waiting.append(_table(block, self._schema))
        if sum(map(len, self._waiting)) >= _GROUP:
            self._flush()
        self._seconds += time.monotonic() - start

    def __enter__(self) -> "_Partition":
        return self

    def __exit__(self, *problem: Any) -> None:
        if problem[0] is None:
            self._flush()
        self._stack.__exit__(*problem)
        if problem[0] is None:
            self._write_stats()

    def _path(self, kind: str, suffix: str) -> str:
        return os.path.join(self._folder, kind, f"{kind}_{self._name}.{suffix}")

    def _flush(self) -> None:
        if self._waiting:
            self._tables.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    def _write_stats(self) -> None:
        end = time.time()
        stats = {
            "start_time": self._started,
            "end_time": end,
            "read_duration": max(end - self._started - self._seconds, 0.0),
            "inference_duration": 0.0,
            "write_duration": self._seconds,
            "total_duration": end - self._started,
            "sample_count": self.n,
        }
        with open(os.path.join(self._folder, "stats", f"{self._name}.json"), "x", encoding="utf-8") as file:
            json.dump(stats, file)


def _schema(n: int, captions: bool, more: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the columns of a partition's table, with what pandas notes of its index."""
    columns = {
        "image_path": pa.string(),
        **({"caption": pa.string()} if captions else {}),
        **more,
    }
    described = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": _PANDAS[str(type_)][0],
            "numpy_type": _PANDAS[str(type_)][1],
            "metadata": None,
        }
        for name, type_ in columns.items()
    ]
    index = {"kind": "range", "name": None, "start": 0, "stop": n, "step": 1}
    label = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    told = {
        "index_columns": [index],
        "column_indexes": [{**label, "metadata": {"encoding": "UTF-8"}}],
        "columns": described,
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }
    return pa.schema(list(columns.items()), {"pandas": json.dumps(told)})


def _table(block: Block, schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        if field.name == "caption":
            arrays.append(pa.array(first_captions(block), pa.string()))
        elif field.name == "taken":
            moments = block.table.column("taken").to_pylist()
            arrays.append(pa.array([None if at is None else at.isoformat() for at in moments], pa.string()))
        else:
            name = "path" if field.name == "image_path" else field.name
            arrays.append(block.table.column(name).combine_chunks())
    return pa.Table.from_arrays(arrays, schema=schema)
