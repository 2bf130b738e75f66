"""A fair sample of a collection's live pictures, the same however the rows lie on the disk."""

import numpy as np
from numpy.typing import NDArray

from clipsearch.flows.evaluate import live_blocks
from clipsearch.match.scores import content_keys, sample
from clipsearch.store import Snapshot
from clipsearch.types import Ints


def ids_and_keys(snapshot: Snapshot) -> tuple[Ints, NDArray[np.uint64]]:
    """Return ids and content keys (n,) of the live pictures; of the embeddings a block at a time is read."""
    ids, keys = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for block in live_blocks(snapshot):
        ids.append(block.ids)
        keys.append(content_keys(block.embeddings))
    return np.concatenate(ids), np.concatenate(keys)


def sampled_ids(snapshot: Snapshot, n: int) -> Ints:
    """Return the ids (at most n,) of pictures chosen by their content."""
    ids, keys = ids_and_keys(snapshot)
    return ids[sample(keys, n)]
