"""Sidecars: a shard once more, in a form that a search can use as it lies on the disk.

Parquet is the truth, for any tool to read; opening it costs an import of pyarrow and a decompression. So each shard
has three files beside it, derived from it, read with numpy and json alone:

- ``.emb.npy``   embeddings (N, D) float16, memory-mapped, in the order of
- ``.ids.npy``   int64 (2N + 1,): N ascending row ids, then N + 1 byte offsets into
- ``.rows``      one JSON object a line with the other columns; None is left out

A missing one is no damage: the same bytes are made again from the shard, in memory.
"""

import io
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import CorruptShardError
from clipsearch.npy import load_npy, map_npy
from clipsearch.store.codec import decode_value, dumps, encode_value
from clipsearch.store.columns import Columns, json_lines
from clipsearch.store.schema import COLUMNS
from clipsearch.types import Halves, Ints

SUFFIXES = (".emb.npy", ".ids.npy", ".rows")
_CHUNK = 1000  # rows parsed at once by a walk over all rows


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return an array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def encode(kind: str, rows: Sequence[Mapping[str, Any]], embeddings: Halves) -> dict[str, bytes]:
    """Return the three sidecars of a shard, by suffix.

    Args:
        kind: "images" or "texts".
        rows: N rows, ids ascending, column name → value.
        embeddings: (N, D) float16.
    """
    return assembled(np.array([row["id"] for row in rows], dtype=np.int64), lines(kind, rows), embeddings)


def lines(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Return each row, column name → value, as a JSON line."""
    types = COLUMNS[kind]
    return [
        dumps({name: encode_value(type_, row[name]) for name, type_ in types.items() if row[name] is not None}) + b"\n"
        for row in rows
    ]


def encode_columns(kind: str, columns: Columns) -> dict[str, bytes]:
    """Return the three sidecars of a shard, by suffix, from rows given as columns."""
    return assembled(columns.ids, json_lines(kind, columns), columns.embeddings)


def assembled(ids: Ints, lines: Sequence[bytes], embeddings: Halves) -> dict[str, bytes]:
    """Return the three sidecars of a shard, by suffix, from ids (N,), N lines and embeddings (N, D) float16."""
    offsets = np.cumsum([0, *map(len, lines)], dtype=np.int64)
    return {
        ".emb.npy": npy_bytes(embeddings),
        ".ids.npy": npy_bytes(np.concatenate([ids, offsets])),
        ".rows": b"".join(lines),
    }


def _map(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@dataclass(frozen=True, slots=True)
class ShardData:
    """An open shard: ids (N,) int64 ascending, offsets (N + 1,), raw JSON lines, embeddings (N, D) float16."""

    kind: str
    stem: str
    ids: Ints
    offsets: Ints
    raw: NDArray[np.uint8]
    embeddings: Halves

    @classmethod
    def map_files(cls, kind: str, stem: str) -> "ShardData":
        """Map the sidecars ``<stem>.emb.npy`` ... into memory.

        Raises:
            OSError: one cannot be opened.
            ValueError: one is no array, or they do not fit each other.
        """
        embeddings, numbers = map_npy(f"{stem}.emb.npy"), map_npy(f"{stem}.ids.npy")
        return cls._of(kind, stem, numbers, np.frombuffer(_map(f"{stem}.rows"), np.uint8), embeddings)

    @classmethod
    def from_rows(cls, kind: str, rows: Sequence[Mapping[str, Any]], embeddings: Halves) -> "ShardData":
        """Make the same in memory, from a shard's own rows."""
        parts = encode(kind, rows, embeddings)
        numbers = load_npy(parts[".ids.npy"])
        return cls._of(kind, "", numbers, np.frombuffer(parts[".rows"], dtype=np.uint8), embeddings)

    @classmethod
    def _of(cls, kind: str, stem: str, numbers: Ints, raw: NDArray[np.uint8], embeddings: Halves) -> "ShardData":
        n = len(numbers) // 2
        ids, offsets = numbers[:n], numbers[n:]
        if len(embeddings) != n or len(offsets) != n + 1 or offsets[-1] != len(raw):
            raise ValueError("the sidecars do not fit each other")
        return cls(kind, stem, ids, offsets, raw, embeddings)

    def row(self, position: int) -> dict[str, Any]:
        """Return all columns of one row but its embedding."""
        line = self.raw[self.offsets[position] : self.offsets[position + 1]].tobytes()
        return self._decoded(self._parsed(line), COLUMNS[self.kind])

    def walk(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield some columns of all rows, parsing a chunk at a time."""
        types = {name: COLUMNS[self.kind][name] for name in columns}
        for start in range(0, len(self.ids), _CHUNK):
            stop = min(start + _CHUNK, len(self.ids))
            lines = self.raw[self.offsets[start] : self.offsets[stop]].tobytes()
            # one call of the parser for the chunk: no newline stands inside a JSON line
            for row in self._parsed(b"[" + lines[:-1].replace(b"\n", b",") + b"]"):
                yield self._decoded(row, types)

    def _parsed(self, text: bytes) -> Any:  # Any: what json.loads returns
        try:
            return json.loads(text)
        except ValueError as problem:
            raise CorruptShardError(
                f"The sidecar {self.stem}.rows is damaged: {problem}.\n"
                f"Delete {self.stem}.*: they are derived, and the shard is read in their place."
            ) from problem

    @staticmethod
    def _decoded(row: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
        return {name: decode_value(type_, row.get(name)) for name, type_ in types.items()}
