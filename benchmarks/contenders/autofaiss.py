"""autofaiss: it chooses a factory key for the memory, builds, and turns the search up until the latency is spent.

With ``cap_cpu_s`` it is stopped after so many CPU seconds; then the key that it would have taken is built by faiss
directly, on a smaller training sample; the figures are those of this build, and the record says so
(``notes.finished``). clip-retrieval serves such an index
memory-mapped, without re-ranking, and asks for the vectors too (``search_and_reconstruct``): it needs them to drop
near duplicates.
"""

import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Source, cpu_seconds_of
from benchmarks.contenders.faiss import Faiss

INFOS = "infos.json"


class Autofaiss(Faiss):
    """Parameters: ``memory`` for the index, ``mapped``, ``query_ms``, ``cap_cpu_s`` (0: build its key directly)."""

    environment = "autofaiss"
    packages = ("autofaiss", "faiss-cpu", "numpy")

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        cap = params.get("cap_cpu_s", 1800)
        if cap and self._by_itself(source, folder, params, cap):
            with open(os.path.join(folder, INFOS), encoding="utf-8") as file:
                peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
                return {"finished": True, "infos": json.load(file), "peak_bytes": peak}
        from autofaiss.external.optimize import get_optimal_index_keys_v2

        n, dim = source.rows().shape
        mapped = bool(params.get("mapped"))
        keys = get_optimal_index_keys_v2(n, dim, params["memory"], should_be_memory_mappable=mapped)
        before, start = time.process_time(), time.perf_counter()
        self._directly(source, folder, keys[0], params)
        took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - before}
        return {
            **took,
            "finished": False,
            "stopped_after_cpu_s": cap,
            "key": keys[0],
            "points": params.get("points", 40),
        }

    def _by_itself(self, source: Source, folder: str, params: Mapping[str, Any], cap: float) -> bool:
        process = multiprocessing.get_context("fork").Process(
            target=_autofaiss, args=(source.path, folder, dict(params), self.threads)
        )
        process.start()
        process.join(1)
        while process.is_alive() and cpu_seconds_of(process.pid or 0) < cap:
            process.join(1)
        if process.is_alive():
            process.kill()
            process.join()
        done = process.exitcode == 0 and os.path.exists(os.path.join(folder, INFOS))
        if not done:
            for name in os.listdir(folder):
                where = os.path.join(folder, name)
                shutil.rmtree(where) if os.path.isdir(where) else os.unlink(where)
        return done

    def _directly(self, source: Source, folder: str, key: str, params: Mapping[str, Any]) -> None:
        """Build a factory key as autofaiss would, but on ``points`` rows a list."""
        rows = source.rows()
        index = self.faiss.index_factory(rows.shape[1], key, self.faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            self._train(index, rows, {"points": params.get("points", 40)})
        for _, block in source.blocks():
            index.add(block)
        self.faiss.write_index(index, os.path.join(folder, "index.faiss"))
        with open(os.path.join(folder, INFOS), "w", encoding="utf-8") as file:
            json.dump({"index_key": key}, file)

    def flags(self, params: Mapping[str, Any]) -> int:
        return self.faiss.IO_FLAG_MMAP | self.faiss.IO_FLAG_READ_ONLY if params.get("mapped") else 0

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        super().open(folder, params)
        with open(os.path.join(folder, INFOS), encoding="utf-8") as file:
            self.infos = json.load(file)
        self.settings: dict[str, Any] = {}

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        """Set nprobe, and efSearch to twice as much, as autofaiss does; without any, what it chose itself."""
        text = self.infos.get("index_param", "")
        if settings:
            text = f"nprobe={settings['nprobe']}"
            if "_HNSW" in self.infos.get("index_key", ""):
                text += f",efSearch={2 * settings['nprobe']}"
            if "PQ" in self.infos.get("index_key", ""):
                text += ",ht=2048"
        if text:
            self.faiss.ParameterSpace().set_index_parameters(self.index, text)
        self.settings = {"parameters": text}

    def chosen(self) -> dict[str, Any]:
        """Return the faiss parameters in force."""
        return self.settings

    def search(self, xq: np.ndarray, k: int) -> Any:
        return self.index.search(xq, k)[1]


class ClipRetrieval(Autofaiss):
    """clip-retrieval's way; its default memory is 4 GB."""

    def search(self, xq: np.ndarray, k: int) -> Any:
        return self.index.search_and_reconstruct(xq, k)[1]


def _autofaiss(path: str, folder: str, params: dict[str, Any], threads: int) -> None:
    from autofaiss import build_index

    with tempfile.TemporaryDirectory() as temporary:
        os.symlink(path, os.path.join(temporary, "rows.npy"))
        build_index(
            temporary,
            index_path=os.path.join(folder, "index.faiss"),
            index_infos_path=os.path.join(folder, INFOS),
            max_index_memory_usage=params["memory"],
            current_memory_available=params.get("available", "12GB"),
            max_index_query_time_ms=params.get("query_ms", 10.0),
            should_be_memory_mappable=bool(params.get("mapped")),
            metric_type="ip",
            nb_cores=threads,
            verbose=30,
        )
