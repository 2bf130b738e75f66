"""sqlite-vec: a virtual table of float32 vectors, compared one by one; through apsw, whose SQLite loads extensions."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class SqliteVec(Contender):
    """Exact; unit vectors, so the nearest by L2 are the best by inner product."""

    environment = "sqlite_vec"
    packages = ("sqlite-vec", "apsw", "numpy")
    exact = True

    def load(self) -> None:
        import apsw
        import sqlite_vec

        self.apsw, self.sqlite_vec = apsw, sqlite_vec

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        dim = source.rows().shape[1]
        database = self._connect(folder)
        database.execute(f"CREATE VIRTUAL TABLE vectors USING vec0(embedding float[{dim}])")
        for start, rows in source.blocks():
            with database:
                database.executemany(
                    "INSERT INTO vectors(rowid, embedding) VALUES (?, ?)",
                    ((start + i, row.tobytes()) for i, row in enumerate(rows)),
                )
        database.close()
        return {}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        self.database = self._connect(folder)

    def search(self, xq: np.ndarray, k: int) -> Any:
        query = "SELECT rowid FROM vectors WHERE embedding MATCH ? AND k = ? ORDER BY distance"
        return [[row[0] for row in self.database.execute(query, (one.tobytes(), k))] for one in xq]

    def _connect(self, folder: str) -> Any:
        database = self.apsw.Connection(os.path.join(folder, "vectors.sqlite"))
        database.enable_load_extension(True)
        database.load_extension(self.sqlite_vec.loadable_path())
        return database
