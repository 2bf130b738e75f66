"""Measure the exported model, through the very class that users run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.mini import MiniEncoder
from mini.data import open_rgb, read_captions, read_images
from mini.metrics import recalls


def embed_files(encoder: MiniEncoder, raws: list[bytes], batch: int = 64) -> NDArray[np.float32]:
    """Unit embeddings (N, D) of encoded pictures."""
    groups = [raws[i : i + batch] for i in range(0, len(raws), batch)]
    return np.concatenate(
        [encoder.encode_images(np.stack([encoder.preprocess(open_rgb(r)) for r in g])) for g in groups]
    )


def dev_recalls(weights: Path, folder: Path, split: str = "dev") -> dict[str, list[float]]:
    """Recall of the model in ``weights`` on a split of Flickr8k in ``folder``, in both directions."""
    encoder = MiniEncoder(weights=weights)
    captions = read_captions(folder / f"{split}.csv")
    files = read_images(folder / f"{split}.tar")
    images = embed_files(encoder, [files[name] for name in captions])
    texts = encoder.encode_texts([text for group in captions.values() for text in group])
    owners = np.repeat(np.arange(len(captions)), [len(group) for group in captions.values()])
    return recalls(images, texts, owners)
