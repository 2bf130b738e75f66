"""Recall in both directions, for images with several captions each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RANKS = (1, 5, 10)


def recalls(
    images: NDArray[np.float32], texts: NDArray[np.float32], owners: NDArray[np.int64]
) -> dict[str, list[float]]:
    """R@1, R@5 and R@10 in percent; ``owners[j]`` is the image that text ``j`` describes. Ties count against us."""
    scores = texts @ images.T
    own = scores[np.arange(len(texts)), owners]
    text_ranks = (scores >= own[:, None]).sum(1) - 1
    image_ranks = [
        (np.delete(scores[:, i], mine := np.flatnonzero(owners == i)) >= scores[mine, i].max()).sum()
        for i in range(len(images))
    ]
    return {
        "text_to_image": [round(100 * float((text_ranks < k).mean()), 1) for k in RANKS],
        "image_to_text": [round(100 * float((np.array(image_ranks) < k).mean()), 1) for k in RANKS],
    }
