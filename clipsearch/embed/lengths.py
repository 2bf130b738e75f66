"""Texts at their real length: like lengths together, so that little is padded.

A causal text tower reads its answer at the end mark and never looks behind it, so the padding to 77 tokens can be cut
without changing the answer; a caption of ten words costs a quarter or less.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Ints


def end_marks(tokens: Ints, pool: str, eos: int | None) -> Ints:
    """Return the position (B,) at which a tower reads its answer, of token ids (B, T).

    Args:
        tokens: ids; the end mark is the largest of a row where ``pool`` is "argmax".
        pool: open_clip's word: "argmax", or "eos" for the first ``eos``.
        eos: id of the end mark.
    """
    return np.argmax(tokens if pool == "argmax" else tokens == eos, axis=1)


def by_length(last: Ints, most: int) -> Iterator[NDArray[np.intp]]:
    """Yield rows in groups of up to ``most``, short texts first."""
    order = np.argsort(last, kind="stable")
    for start in range(0, len(order), most):
        yield order[start : start + most]
