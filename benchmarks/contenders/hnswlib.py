"""hnswlib: a graph over float32 rows in memory."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class Hnswlib(Contender):
    """Parameters: ``m``, ``ef_construction``. Setting: ``ef``."""

    environment = "hnswlib"
    packages = ("hnswlib", "numpy")

    def load(self) -> None:
        import hnswlib

        self.hnswlib = hnswlib

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        n, dim = source.rows().shape
        index = self.hnswlib.Index("ip", dim)
        index.init_index(n, M=params["m"], ef_construction=params["ef_construction"], random_seed=100)
        for start, rows in source.blocks():
            index.add_items(rows, np.arange(start, start + len(rows)), num_threads=self.threads)
        index.save_index(os.path.join(folder, "index.bin"))
        np.save(os.path.join(folder, "dim.npy"), dim)
        return {}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        self.index = self.hnswlib.Index("ip", int(np.load(os.path.join(folder, "dim.npy"))))
        self.index.load_index(os.path.join(folder, "index.bin"))
        self.index.set_num_threads(self.threads)

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        self.index.set_ef(settings["ef"])

    def search(self, xq: np.ndarray, k: int) -> Any:
        return self.index.knn_query(xq, k, num_threads=self.threads)[0]
