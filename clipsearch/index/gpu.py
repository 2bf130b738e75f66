"""A GPU for the part of building that takes the time: comparing rows with centroids.

Nine tenths of a build is one thing, finding the nearest of ``nlist`` centroids, in the k-means and again for every row.
With ``faiss-gpu`` installed and a device there, that runs on it, through cuVS where the installed build knows it. The
codes are made on the processor as ever, from the lists that the device found: so the files are the same, and so is
every row's code but for those whose two nearest centroids are equally near within float32's rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from clipsearch.index.faiss_library import faiss_errors, load_faiss
from clipsearch.types import Floats, Ints


def devices() -> int:
    """Return how many GPUs faiss can use: none where it was built without."""
    faiss = load_faiss()
    return faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0


def flat_on_gpu(quantizer: Any) -> Any:
    """Return a copy of exact search on the first GPU, and keep what it lives on alive."""
    faiss = load_faiss()
    resources = faiss.StandardGpuResources()
    config = faiss.GpuIndexFlatConfig()
    config.device = 0
    if hasattr(config, "use_cuvs"):
        config.use_cuvs = "CUVS" in faiss.get_compile_options()
    copy = faiss.GpuIndexFlatIP(resources, quantizer.d, config)
    if quantizer.ntotal:
        copy.add(faiss.rev_swig_ptr(quantizer.get_xb(), quantizer.ntotal * quantizer.d).reshape(-1, quantizer.d))
    copy.referenced_objects = [resources]
    return copy


@contextmanager
def on_device(quantizer: Any) -> Iterator[Any]:
    """Give exact search for a k-means: on a GPU where there is one, else the one that was given."""
    yield flat_on_gpu(quantizer) if devices() else quantizer


class Adder:
    """Puts rows into the lists of a plain index; the lists are found on a GPU where there is one."""

    def __init__(self, index: Any, coarse: Any = None) -> None:
        """Take a faiss index of ``train_plain``, and what finds the lists; None finds that out."""
        self._index = index
        self._ivf = load_faiss().extract_index_ivf(index)
        self._coarse = coarse
        if coarse is None and devices():
            self._coarse = flat_on_gpu(load_faiss().downcast_index(self._ivf.quantizer))

    @property
    def is_apart(self) -> bool:
        """Whether lists are found by something other than the index itself."""
        return self._coarse is not None

    def add(self, ids: Ints, rows: Floats) -> None:
        """Add rows (n, D) float32 under labels (n,)."""
        faiss = load_faiss()
        with faiss_errors("add rows"):
            turned = self._turned(np.ascontiguousarray(rows))
            lists = np.ascontiguousarray(self._coarse.search(turned, 1)[1].ravel())
            ids = np.ascontiguousarray(ids, np.int64)
            self._ivf.add_core(len(ids), faiss.swig_ptr(turned), faiss.swig_ptr(ids), faiss.swig_ptr(lists))
        self._index.ntotal = self._ivf.ntotal

    def _turned(self, rows: Floats) -> Floats:
        chain = getattr(self._index, "chain", None)
        return rows if chain is None else chain.at(0).apply(rows)
