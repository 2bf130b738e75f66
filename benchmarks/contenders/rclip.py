"""rclip's way: vectors as float32 blobs in SQLite; a process reads them all, multiplies, and sorts every score.

Follows rclip's ``_get_features`` and ``compute_similarities_to_text``. rclip pays for the reading at each command, in
its interactive mode once. So ``open`` is what a command costs before its first answer, ``search`` what each one more
costs.
"""

import os
import sqlite3
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class Rclip(Contender):
    """Exact."""

    environment = "numpy"
    exact = True

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        with sqlite3.connect(os.path.join(folder, "db.sqlite3")) as database:
            database.execute("PRAGMA page_size = 16384")
            database.execute(
                "CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN, filepath TEXT NOT NULL UNIQUE, "
                "modified_at DATETIME NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL)"
            )
            for start, rows in source.blocks():
                database.executemany(
                    "INSERT INTO images(filepath, modified_at, size, vector) VALUES (?, 0, 1, ?)",
                    ((f"/photos/{start + i:09d}.jpg", row.tobytes()) for i, row in enumerate(rows)),
                )
        return {}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        paths, vectors = [], []
        with sqlite3.connect(os.path.join(folder, "db.sqlite3")) as database:
            query = "SELECT filepath, vector FROM images WHERE filepath LIKE ? AND deleted IS NULL ORDER BY id"
            for path, vector in database.execute(query, ("/photos/%",)):
                paths.append(path)
                vectors.append(np.frombuffer(vector, np.float32))
        self.paths, self.features = paths, np.stack(vectors)

    def search(self, xq: np.ndarray, k: int) -> Any:
        return [self._one(query, k) for query in xq]

    def _one(self, query: np.ndarray, k: int) -> list[int]:
        similarities = query @ self.features.T
        ranked = sorted(zip(similarities, range(len(self.features)), strict=True), key=lambda x: x[0], reverse=True)
        return [position for _, position in ranked[:k]]
