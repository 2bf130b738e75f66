"""An embedding that is not finite is never stored, and costs its own picture only."""

import numpy as np
import pytest

import clipsearch
from clipsearch.store import Store


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_picture_without_a_finite_embedding_is_a_skip_and_its_neighbours_are_stored(
    photos, tmp_path, monkeypatch, odd
):
    collection = clipsearch.create(tmp_path / "collection", model="hashing")
    encoder = collection.encoder
    real = encoder.encode_images

    def faulty(pixels):
        embeddings = np.array(real(pixels))
        embeddings[1::3, 5] = odd
        return embeddings

    with monkeypatch.context() as patch:
        patch.setattr(type(encoder), "encode_images", lambda _, pixels: faulty(pixels))
        report = collection.index(photos, workers=1)
    assert (report.embedded, len(report.skips), report.scanned) == (4, 2, 6)
    assert {str(skip.reason) for skip in report.skips} == {"non_finite"} and all(skip.detail for skip in report.skips)
    for block in Store.open(collection.path).snapshot().blocks("images"):
        norms = np.linalg.norm(block.embeddings.astype(np.float32), axis=1)
        assert norms == pytest.approx(1, abs=1e-3)
    # It was the model and not the file: the next run tries again.
    assert collection.index(photos, workers=1).embedded == 2
