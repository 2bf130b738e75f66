"""faiss as its users know it: a factory string, and ``IndexRefine`` over float16 rows where that is asked for."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class Faiss(Contender):
    """Parameters: ``key`` for the index factory, ``refine`` (true: float16 rows behind it), ``points`` a list."""

    environment = "faiss"
    packages = ("faiss-cpu", "numpy")

    def load(self) -> None:
        import faiss

        self.faiss = faiss
        faiss.omp_set_num_threads(self.threads)

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        rows = source.rows()
        dim = rows.shape[1]
        index = self.faiss.index_factory(dim, params["key"], self.faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            self._train(index, rows, params)
        refine = self.faiss.IndexScalarQuantizer(
            dim, self.faiss.ScalarQuantizer.QT_fp16, self.faiss.METRIC_INNER_PRODUCT
        )
        for _, block in source.blocks():
            index.add(block)
            if params.get("refine"):
                refine.add(block)
        self.faiss.write_index(index, os.path.join(folder, "index.faiss"))
        if params.get("refine"):
            self.faiss.write_index(refine, os.path.join(folder, "refine.faiss"))
        return {}

    def _train(self, index: Any, rows: Any, params: Mapping[str, Any]) -> None:
        ivf = self.faiss.extract_index_ivf(index)
        points = params.get("points", 64)
        ivf.cp.seed, ivf.cp.max_points_per_centroid = 1234, points
        wanted = min(max(points * ivf.nlist, 65_536), len(rows))
        at = np.sort(np.random.default_rng(0).choice(len(rows), wanted, replace=False))
        index.train(np.asarray(rows[at], np.float32))

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        self.index = self.faiss.read_index(os.path.join(folder, "index.faiss"), self.flags(params))
        self.parameters: Any = None
        self.whole = self.index
        if params.get("refine"):
            self.refine = self.faiss.read_index(os.path.join(folder, "refine.faiss"), self.flags({"mapped": True}))
            self.whole = self.faiss.IndexRefine(self.index, self.refine)

    def flags(self, params: Mapping[str, Any]) -> int:
        """Return how a file is opened: ``mapped`` or read."""
        return self.faiss.IO_FLAG_MMAP_IFC if params.get("mapped") else 0

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        if "nprobe" not in settings:
            return
        inner = self.faiss.SearchParametersIVF(nprobe=settings["nprobe"])
        if isinstance(self.faiss.downcast_index(self.index), self.faiss.IndexPreTransform):
            inner = self.faiss.SearchParametersPreTransform(index_params=inner)
        self.parameters = inner
        if "refine_factor" in settings:
            self.parameters = self.faiss.IndexRefineSearchParameters(
                k_factor=settings["refine_factor"], base_index_params=inner
            )
            self.kept = inner  # faiss holds no reference of its own

    def search(self, xq: np.ndarray, k: int) -> Any:
        return self.whole.search(xq, k, params=self.parameters)[1]

    def rows_bytes(self, folder: str) -> int:
        refine = os.path.join(folder, "refine.faiss")
        return os.path.getsize(refine) if os.path.exists(refine) else 0
