"""usearch: a graph over float16 rows, opened as a memory map."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class Usearch(Contender):
    """Parameters: ``dtype``, ``m``, ``ef_construction``. Setting: ``ef``."""

    environment = "usearch"
    packages = ("usearch", "numpy")

    def load(self) -> None:
        from usearch.index import Index

        self.index_type = Index

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        index = self.index_type(
            ndim=source.rows().shape[1],
            metric="ip",
            dtype=params["dtype"],
            connectivity=params["m"],
            expansion_add=params["ef_construction"],
        )
        for start, rows in source.blocks():
            index.add(np.arange(start, start + len(rows)), rows, threads=self.threads)
        index.save(os.path.join(folder, "index.usearch"))
        return {"hardware": str(getattr(index, "hardware_acceleration", ""))}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        self.index = self.index_type.restore(os.path.join(folder, "index.usearch"), view=True)

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        self.index.expansion_search = settings["ef"]

    def search(self, xq: np.ndarray, k: int) -> Any:
        keys = self.index.search(xq, k, threads=self.threads).keys
        return np.asarray(keys).reshape(len(xq), -1)
