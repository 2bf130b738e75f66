"""One matrix product over all rows, float32 in memory: what a scientist writes first."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class NumpyScan(Contender):
    """Exact."""

    environment = "numpy"
    exact = True

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        np.save(os.path.join(folder, "rows.npy"), source.matrix())
        return {}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        self.rows = np.load(os.path.join(folder, "rows.npy"))

    def search(self, xq: np.ndarray, k: int) -> Any:
        scores = xq @ self.rows.T
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, order, 1)
