"""Embed the bank of generic queries and the default labels with ``mini``, so that no user has to wait for it.

    python scripts/embed_bank.py

1,620 and 1,395 rows of 384 float16. Run it again when the weights of ``mini``, the bank or the vocabulary change; a
test says so. The files' names have both hashes.
"""

from pathlib import Path

import numpy as np

import clipsearch
from clipsearch.describe.labels import default_labels, embed_labels, shipped_file
from clipsearch.embed import load_encoder
from clipsearch.flows.calibrate_queries import bank_file
from clipsearch.match import bank

ROOMS = Path(clipsearch.__file__).parent


def save(room: str, name: str, embeddings: np.ndarray) -> None:
    folder = ROOMS / room / "embedded"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.npy"):
        old.unlink()
    np.save(folder / name, embeddings.astype(np.float16))
    print(folder / name)


if __name__ == "__main__":
    encoder = load_encoder("mini")
    labels = default_labels()
    save("match", bank_file(encoder.fingerprint()), encoder.encode_texts(bank.all_queries()))
    save("describe", shipped_file(labels, encoder.fingerprint()), embed_labels(labels, encoder.encode_texts))
