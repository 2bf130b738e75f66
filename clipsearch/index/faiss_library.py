"""faiss, imported when it is first needed, and its exceptions in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from clipsearch.errors import InputError, MissingExtraError


def faiss_is_installed() -> bool:
    """Tell whether faiss can be imported, without importing it."""
    return find_spec("faiss") is not None


@cache
def load_faiss() -> Any:  # Any: faiss has no types
    """Import faiss.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module("faiss")
    except ImportError as problem:
        raise MissingExtraError(
            "This index type needs faiss, which is not installed: pip install 'clipsearch[cpu]'\n"
            "Exact search (--index-type flat) works without it."
        ) from problem


FEW_NUMBERS = 16 * 2**20


@contextmanager
def faiss_errors(doing: str) -> Iterator[None]:
    """Translate what faiss raises.

    Raises:
        InputError: faiss could not do it; its own words follow.
    """
    try:
        yield
    except RuntimeError as problem:
        said = str(problem).rsplit("Error: ", 1)[-1].splitlines()[0]
        raise InputError(f"faiss could not {doing}: {said}.\nTry another recipe or --index-type flat.") from problem


@contextmanager
def few_threads(work: int) -> Iterator[None]:
    """Run small jobs of faiss on one thread: waking the others at each of thousands of tiny k-means costs far more.

    Args:
        work: numbers in the rows at hand; below ``FEW_NUMBERS`` they are few. The setting is this thread's alone.
    """
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    if work < FEW_NUMBERS:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
