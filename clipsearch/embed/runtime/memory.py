"""Too little memory for a batch: halve it and go on, down to a single row.

torch has an error of its own for a GPU. On a CPU, and in ONNX Runtime and OpenVINO, it is some error or other and only
its words tell. The smaller batch is kept: whatever else uses the memory will go on using it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.types import Floats

_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "failed to allocate",
    "bad allocation",
    "bad_alloc",
    "alloc_failed",  # cuBLAS and cuDNN
)

Rows = NDArray[Any]  # Any: uint8 pixels, int64 tokens or float32
Part = Callable[[list[Rows]], Floats]


class Batched(Protocol):
    """Whose batches they are; ``batch_size`` is the most rows that go through a tower at once, and shrinks."""

    device: str
    batch_size: int


def in_parts(batched: Batched, run: Part, inputs: Sequence[Rows], free: Callable[[], None] = lambda: None) -> Floats:
    """Run over the rows of inputs, part by part, as memory allows.

    Args:
        batched: what holds the size of a batch.
        run: gives one row for each row of its inputs.
        inputs: arrays (N, ...) with N of at least 1.
        free: called where memory ran out, before the next attempt.

    Returns:
        N rows, as if there had been memory for all at once.

    Raises:
        InputError: there is too little even for a single row.
    """
    parts: list[Floats] = []
    start, n = 0, len(inputs[0])
    while start < n:
        part = _attempt(run, [rows[start : start + batched.batch_size] for rows in inputs])
        if part is None:
            batched.batch_size = _half(min(batched.batch_size, n - start), batched.device)
            free()
            continue
        parts.append(part)
        start += len(part)
    return np.concatenate(parts)


def is_memory(problem: Exception) -> bool:
    """Tell whether an error of a runtime says that memory ran out."""
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return True
    text = str(problem).lower()
    return any(words in text for words in _WORDS)


def _attempt(run: Part, inputs: list[Rows]) -> Floats | None:
    """Run one part; None when memory runs out. The error ends here: while it lives it holds the tensors."""
    try:
        return run(inputs)
    except Exception as problem:
        if is_memory(problem):
            return None
        raise


def _half(tried: int, device: str) -> int:
    if tried == 1:
        elsewhere = "choose a smaller model" if device == "cpu" else "choose a smaller model, or run on device 'cpu'"
        raise InputError(
            f"Memory ran out on {device} with a single picture or text.\n"
            f"Close other programs that use it, or {elsewhere}.\n"
            "What was committed is kept; the next 'clipsearch index' goes on from there."
        )
    return tried // 2
