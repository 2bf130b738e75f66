"""More like this, less like that: move a query towards pictures that were good and away from those that were not.

Rocchio's rule, bounded. The query, the mean of the good ones and the mean of the bad ones are each brought to unit norm
and added with the weights 1, ``BETA`` and -``GAMMA``. Since BETA + GAMMA < 1, what was asked for always weighs most,
however many pictures are named.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.store import Snapshot
from clipsearch.types import Floats

BETA, GAMMA = 0.75, 0.15


def moved(snapshot: Snapshot, xq: Floats, more: Sequence[int], less: Sequence[int]) -> Floats:
    """Return queries (Q, D) of unit norm, each moved towards and away from pictures.

    Args:
        snapshot: where the pictures are.
        xq: (Q, D) float32 of unit norm.
        more: row ids of pictures to be more like.
        less: row ids of pictures to be less like.

    Raises:
        InputError: a picture is not in the collection, or stands on both sides.
    """
    both = set(more) & set(less)
    if both:
        raise InputError(f"The picture with the id {min(both)} stands on both sides. Give it as more or as less.")
    moved = xq.astype(np.float64)
    for weight, ids in ((BETA, more), (-GAMMA, less)):
        if len(ids):
            moved = moved + weight * _mean(snapshot, ids)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def _mean(snapshot: Snapshot, ids: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean (D,) of pictures, of unit norm."""
    wanted = np.unique(np.array(ids, np.int64))
    there = snapshot.contains("images", wanted) & ~np.isin(wanted, snapshot.deleted_ids())
    if not there.all():
        raise InputError(
            f"The picture with the id {wanted[~there][0]} is not in the collection, or no longer.\nSearch again first."
        )
    mean = snapshot.embeddings("images", wanted).astype(np.float64).mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)
