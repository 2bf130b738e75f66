"""Bring embeddings of others to unit norm, as float16: what a collection stores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Halves, SkipReason

AS_IT_IS = 2.0**-11  # float16 rounds each number by so much at most, so the norm of a unit row too
_CHUNK = 2048  # rows at a time: their float64 copies stay in the processor's cache


def unit_rows(rows: NDArray[Any]) -> tuple[Halves, dict[int, SkipReason]]:
    """Return rows (n, D) as float16 of unit norm, and why some of them cannot be.

    Norms are taken in float64. A float16 row whose norm is 1 but for rounding stays as it is, bit by bit, so what was
    exported comes back the same.

    Args:
        rows: (n, D) float16, float32 or float64.

    Returns:
        (n, D) float16, with zeros for the rows that are refused; and position → reason.
    """
    found = np.empty(rows.shape, np.float16)
    refused: dict[int, SkipReason] = {}
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        found[start : start + _CHUNK], bad = _unit(part)
        refused |= {start + position: reason for position, reason in bad.items()}
    return found, refused


def _unit(rows: NDArray[Any]) -> tuple[Halves, dict[int, SkipReason]]:
    x = rows.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", x, x))
    odd = np.flatnonzero(~(np.isfinite(norms) & (norms > 1e-100)))
    refused: dict[int, SkipReason] = {}
    for position in odd.tolist():  # NaN, infinity, zero, or so large or small that the squares left float64
        largest = np.abs(x[position]).max()
        if not np.isfinite(largest):
            refused[position] = SkipReason.NON_FINITE
        elif largest == 0:
            refused[position] = SkipReason.ZERO_EMBEDDING
        x[position] = 0.0 if position in refused else x[position] / largest
        norms[position] = np.sqrt(x[position] @ x[position]) or 1.0
    if rows.dtype == np.float16:
        kept = np.abs(norms - 1.0) <= AS_IT_IS
        kept[odd] = False
        if kept.all():
            return rows.astype(np.float16), refused
        halves = (x / norms[:, None]).astype(np.float16)
        halves[kept] = rows[kept]
        return halves, refused
    return (x / norms[:, None]).astype(np.float16), refused
