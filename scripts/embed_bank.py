"""Embed the bank of generic queries with ``mini``, so that a first calibration need not: 1,620 x 384 float16.

    python scripts/embed_bank.py

Run it again when the weights of ``mini`` or the bank change; a test says so. The file's name has both hashes.
"""

from pathlib import Path

import numpy as np

import clipsearch
from clipsearch.embed import load_encoder
from clipsearch.flows.calibrate_queries import bank_file
from clipsearch.match import bank

FOLDER = Path(clipsearch.__file__).parent / "match" / "embedded"

if __name__ == "__main__":
    encoder = load_encoder("mini")
    embeddings = encoder.encode_texts(bank.all_queries()).astype(np.float16)
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.npy"):
        old.unlink()
    np.save(FOLDER / bank_file(encoder.fingerprint()), embeddings)
    print(FOLDER / bank_file(encoder.fingerprint()))
