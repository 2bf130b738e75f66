"""ScaNN: a tree of leaves, 4-bit anisotropic codes, exact re-ordering from float32 rows in memory."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class Scann(Contender):
    """Parameters: ``leaves``, ``reorder`` at most. Settings: ``leaves`` searched, ``reorder`` candidates."""

    environment = "scann"
    packages = ("scann", "numpy")

    def load(self) -> None:
        from scann.scann_ops.py import scann_ops_pybind

        self.scann = scann_ops_pybind

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        rows = source.matrix()
        builder = (
            self.scann.builder(rows, 10, "dot_product")
            .tree(
                num_leaves=params["leaves"],
                num_leaves_to_search=64,
                training_sample_size=min(params.get("sample", 250_000), len(rows)),
            )
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(100)
            .set_n_training_threads(self.threads)
        )
        searcher = builder.build()
        os.makedirs(os.path.join(folder, "scann"))
        searcher.serialize(os.path.join(folder, "scann"))
        return {}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        self.searcher = self.scann.load_searcher(os.path.join(folder, "scann"))
        if self.threads > 1:
            self.searcher.set_num_threads(self.threads)

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        self.leaves, self.reorder = settings["leaves"], settings["reorder"]

    def search(self, xq: np.ndarray, k: int) -> Any:
        how = {
            "final_num_neighbors": k,
            "pre_reorder_num_neighbors": self.reorder,
            "leaves_to_search": self.leaves,
        }
        if len(xq) == 1:
            return self.searcher.search(xq[0], **how)[0][None]
        if self.threads > 1:
            return self.searcher.search_batched_parallel(xq, **how)[0]
        return self.searcher.search_batched(xq, **how)[0]
