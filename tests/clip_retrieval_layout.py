"""clip-retrieval's embeddings folder, written by numpy and pandas from the layout's rules and nothing of ours."""

import json
from math import ceil, log10
from pathlib import Path

import numpy as np
import pandas as pd


def unit(n, dim, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_golden(folder: Path, n=25, dim=8, batch=10, texts=True, seed=0):
    """Write n samples in partitions of at most ``batch``, dealt round robin; returns images, texts, paths, captions."""
    images, said = unit(n, dim, seed).astype(np.float16), unit(n, dim, seed + 1).astype(np.float16)
    paths, captions = [f"pictures/{i:04}.jpg" for i in range(n)], [f"picture number {i}" for i in range(n)]
    count = ceil(n / batch)
    width = int(log10(count)) + 1
    for kind in ("img_emb", "metadata", "stats", *(["text_emb"] if texts else [])):
        (folder / kind).mkdir(parents=True)
    for p in range(count):
        name = str(p).zfill(width)
        mine = np.arange(p, n, count)
        np.save(folder / "img_emb" / f"img_emb_{name}.npy", images[mine])
        columns = {"image_path": [paths[i] for i in mine]}
        if texts:
            np.save(folder / "text_emb" / f"text_emb_{name}.npy", said[mine])
            columns["caption"] = [captions[i] for i in mine]
        pd.DataFrame(columns).to_parquet(folder / "metadata" / f"metadata_{name}.parquet")
        stats = dict.fromkeys(
            ("start_time", "end_time", "read_duration", "inference_duration", "write_duration", "total_duration"), 1.0
        )
        (folder / "stats" / f"{name}.json").write_text(json.dumps({**stats, "sample_count": len(mine)}))
    order = np.concatenate([np.arange(p, n, count) for p in range(count)])
    return images[order], said[order], [paths[i] for i in order], [captions[i] for i in order]
