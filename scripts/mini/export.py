"""Write the trained model as the files that ship: two ONNX graphs with int8 weights, the word table, the
vocabulary, the card.

Weights become int8 with one scale a channel and a ``DequantizeLinear`` in front of them; activations stay float32.
ONNX Runtime widens the weights once, when the session is made (see ``clipsearch/embed/mini.py``), so the embedding
of a row does not depend on its batch.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from quantise import shrink, to_int8
from torch import Tensor, nn

from mini.data import SIZE
from mini.model import DIM
from mini.towers import WIDTH, LowerImage, load_lite2, load_minilm, load_tokenizer, read_minilm
from mini.training import Mini

MAX_TOKENS = 128
PREPROCESS = {
    "size": SIZE,
    "mode": "squash",
    "interpolation": "bicubic",
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
}


class ImageTower(nn.Module):
    """uint8 pixels (B, S, S, 3) -> unit embedding (B, D)."""

    def __init__(self, model: Mini) -> None:
        super().__init__()
        self.lower, self.model = LowerImage(load_lite2()), model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model.image(self.model.upper(self.model.middle(self.lower(pixels))))


class TextTower(nn.Module):
    """Word embeddings (B, T, 384) and mask (B, T) -> unit embedding (B, D)."""

    def __init__(self, model: Mini) -> None:
        super().__init__()
        self.bert, self.head = model.bert, model.text
        self.bert.positions = nn.Parameter(self.bert.positions.detach()[:MAX_TOKENS].clone())

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        hidden = self.bert.run(self.bert.embed(words), mask, 0, len(self.bert.layers))
        return self.head(hidden, mask)


def export(model: Mini, out: Path) -> None:
    """Write every file of the shipped model into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    model.eval()
    image, text = ImageTower(model).eval(), TextTower(model).eval()
    pixels = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    _graph(image, (pixels,), out / "image.onnx", {"pixels": {0: "n"}, "embedding": {0: "n"}})
    example = (torch.randn(2, 7, WIDTH), torch.ones(2, 7))
    _graph(
        text, example, out / "text.onnx", {"words": {0: "n", 1: "t"}, "mask": {0: "n", 1: "t"}, "embedding": {0: "n"}}
    )
    table, scales = to_int8(load_minilm()[1].numpy(), 0)
    np.save(out / "word_embeddings.npy", table)
    np.save(out / "word_scales.npy", scales)
    (out / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    card = {
        "name": "mini",
        "version": 1,
        "dim": DIM,
        "preprocess": PREPROCESS,
        "logit_scale": round(float(model.scale.exp()), 4),
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


GOLDEN_TEXTS = (
    "a dog runs on the beach",
    "red car",
    "a photo of a cup of coffee",
    "two children play football on a green field",
    "snow",
    "an old woman with glasses reads a newspaper in a cafe",
)


@torch.inference_mode()
def record_golden(model: Mini, path: Path) -> None:
    """Record what the float32 torch model says about four drawn pictures and six texts, for the tests."""
    image, text = ImageTower(model).eval(), TextTower(model).eval()
    words, tokenizer = load_minilm()[1], load_tokenizer(MAX_TOKENS)
    ids = [torch.tensor([tokenizer.encode(t).ids]) for t in GOLDEN_TEXTS]
    embeddings = torch.cat([text(words[i], torch.ones(i.shape)) for i in ids])
    pixels = _drawn_pictures()
    images = image(torch.from_numpy(pixels))
    np.savez_compressed(
        path, pixels=pixels, images=images.numpy(), texts=np.array(GOLDEN_TEXTS), embeddings=embeddings.numpy()
    )


def _drawn_pictures() -> NDArray[np.uint8]:
    """Sky over grass, a red disc on white, stripes, and coloured squares: uint8 (4, S, S, 3)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    sky = np.where((y < 120)[..., None], np.array([90, 150, 230]), np.array([60, 140, 50]))
    disc = np.where(
        ((x - 112) ** 2 + (y - 112) ** 2 < 70**2)[..., None], np.array([210, 30, 30]), np.array([250, 250, 250])
    )
    stripes = np.where(((x + y) // 16 % 2 == 0)[..., None], np.array([20, 20, 20]), np.array([240, 200, 40]))
    squares = np.random.default_rng(0).integers(0, 256, (7, 7, 3)).repeat(32, axis=0).repeat(32, axis=1)
    return np.stack([sky, disc, stripes, squares]).astype(np.uint8)


def vocabulary() -> list[str]:
    """The wordpieces, by id."""
    pieces = json.loads(read_minilm("tokenizer.json"))["model"]["vocab"]
    return sorted(pieces, key=pieces.__getitem__)


def _graph(module: nn.Module, example: tuple[Tensor, ...], path: Path, axes: dict[str, dict[int, str]]) -> None:
    names = list(axes)
    torch.onnx.export(
        module,
        example,
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=names[:-1],
        output_names=names[-1:],
        dynamic_axes=axes,
    )
    model = onnx.load(str(path))
    shrink(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
