"""What the frozen layers say about the training data, computed once and kept on disk as float16.

Pictures stop after block 10 of EfficientNet-lite2, texts after layer 4 of MiniLM; what comes after is trained on
these caches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from mini.data import SIZE, pixel_batches
from mini.towers import WIDTH, LowerImage, load_lite2, load_minilm, load_tokenizer, middle_blocks, upper_blocks

TEXT_SPLIT = 4


def lower_session(work: Path, threads: int = 2) -> ort.InferenceSession:
    """The first blocks of the image tower in ONNX Runtime: several times faster here than torch."""
    path = work / "lower.onnx"
    if not path.exists():
        example = (torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8),)
        axes = {"pixels": {0: "n"}, "y": {0: "n"}}
        torch.onnx.export(
            LowerImage(load_lite2()),
            example,
            str(path),
            dynamo=False,
            input_names=["pixels"],
            output_names=["y"],
            dynamic_axes=axes,
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options)


def image_cache(work: Path, name: str, raws: list[bytes], view: int) -> NDArray[np.float16]:
    """Activations float16 (N, 88, 14, 14) of one view of some pictures, from disk when they were made before."""
    path = work / f"image-{name}-{view}.npy"
    if not path.exists():
        session = lower_session(work)
        parts = [session.run(None, {"pixels": p})[0].astype(np.float16) for p in pixel_batches(raws, view)]
        np.save(path, np.concatenate(parts))
    return np.load(path, mmap_mode="r")


@torch.inference_mode()
def top_cache(work: Path, name: str, raws: list[bytes], view: int) -> NDArray[np.float16]:
    """Activations float16 (N, 352, 7, 7) after the last block: what the heads are trained on at first."""
    path = work / f"top-{name}-{view}.npy"
    if not path.exists():
        net = load_lite2()
        rest = torch.nn.Sequential(middle_blocks(net), upper_blocks(net))
        below = image_cache(work, name, raws, view)
        parts = [rest(torch.from_numpy(below[i : i + 64].astype(np.float32))).numpy() for i in range(0, len(below), 64)]
        np.save(path, np.concatenate(parts).astype(np.float16))
    return np.load(path, mmap_mode="r")


@dataclass(frozen=True)
class TextCache:
    """Hidden states of texts, end to end: text ``i`` is ``states[starts[i]:starts[i + 1]]``, float16 (T, 384)."""

    states: NDArray[np.float16]
    starts: NDArray[np.int64]

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Padded hidden states float32 (B, T, 384) and mask (B, T)."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        hidden = np.zeros((len(rows), lengths.max(), WIDTH), np.float32)
        for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            hidden[i, :length] = self.states[self.starts[row] : self.starts[row] + length]
        mask = np.arange(lengths.max())[None] < lengths[:, None]
        return torch.from_numpy(hidden), torch.from_numpy(mask.astype(np.float32))


@torch.inference_mode()
def text_cache(work: Path, name: str, texts: list[str]) -> TextCache:
    """Hidden states after the frozen text layers, from disk when they were made before."""
    path = work / f"text-{name}.npz"
    if not path.exists():
        bert, words = load_minilm()
        ids = [e.ids for e in load_tokenizer().encode_batch(texts)]
        states: list[NDArray[np.float16]] = [np.empty((0, WIDTH), np.float16)] * len(ids)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), 128):
            for i, hidden in _hidden(bert, words, ids, order[start : start + 128]):
                states[i] = hidden
        starts = np.cumsum([0] + [len(s) for s in states])
        np.savez(path, states=np.concatenate(states), starts=starts)
    loaded = np.load(path)
    return TextCache(loaded["states"], loaded["starts"])


def _hidden(bert, words, ids, chosen):  # type: ignore[no-untyped-def]
    """Run the frozen layers on texts of like length."""
    longest = max(len(ids[i]) for i in chosen)
    padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in chosen])
    mask = torch.tensor([[1.0] * len(ids[i]) + [0.0] * (longest - len(ids[i])) for i in chosen])
    hidden = bert.run(bert.embed(words[padded]), mask, 0, TEXT_SPLIT).numpy().astype(np.float16)
    return [(i, hidden[row, : len(ids[i])]) for row, i in enumerate(chosen)]
