"""Who is compared: a name in a suite → the class that speaks for it. One line and one file make a new contender."""

from importlib import import_module

from benchmarks.contenders.base import Contender

CONTENDERS = {
    "autofaiss": "benchmarks.contenders.autofaiss:Autofaiss",
    "clip_retrieval": "benchmarks.contenders.autofaiss:ClipRetrieval",
    "clipsearch": "benchmarks.contenders.clipsearch:Clipsearch",
    "duckdb": "benchmarks.contenders.duckdb:DuckDB",
    "faiss": "benchmarks.contenders.faiss:Faiss",
    "hnswlib": "benchmarks.contenders.hnswlib:Hnswlib",
    "lancedb": "benchmarks.contenders.lancedb:LanceDB",
    "numpy": "benchmarks.contenders.numpy:NumpyScan",
    "rclip": "benchmarks.contenders.rclip:Rclip",
    "scann": "benchmarks.contenders.scann:Scann",
    "sqlite_vec": "benchmarks.contenders.sqlite_vec:SqliteVec",
    "usearch": "benchmarks.contenders.usearch:Usearch",
}


def load_contender(name: str) -> type[Contender]:
    """Return the class of a contender; its library is not imported yet.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in CONTENDERS:
        raise ValueError(f"No contender is called {name!r}. Known: {', '.join(sorted(CONTENDERS))}.")
    module, attribute = CONTENDERS[name].split(":")
    return getattr(import_module(module), attribute)
