"""A witness: a second small dual encoder, with its own towers and seed, that had no part in training the generator.

A convolutional net reads pictures, a bag of words reads captions; both are trained on the corpus with InfoNCE, on
pictures that are moved, scaled, blurred and noisy, so that it looks at things and not at pixels. It is shown all pairs
of thing and colour, also those held out from the generator, as a witness should know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mini_draw.corpus import Scene

_DROPPED = {"a", "an", "on", "of", "with", "photo", "background"}


def words_of(caption: str) -> list[str]:
    """Return the words that matter."""
    return [word for word in caption.split() if word not in _DROPPED]


class Witness(nn.Module):
    """Pictures uint8 (B, 64, 64, 3) and captions → unit vectors (B, 64)."""

    def __init__(self, vocabulary: Sequence[str], dim: int = 64) -> None:
        super().__init__()
        self.ids = {word: i for i, word in enumerate(vocabulary)}
        self.words = nn.EmbeddingBag(len(vocabulary), dim, mode="sum")
        widths = (3, 24, 48, 96, 128)
        self.layers = nn.Sequential(
            *(layer for a, b in pairwise(widths) for layer in (nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()))
        )
        self.out = nn.Linear(128 * 16, dim)
        self.scale = nn.Parameter(torch.tensor(2.5))

    def see(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.out(self.layers(pixels).flatten(1)), dim=1)

    def read(self, captions: Sequence[str]) -> Tensor:
        rows = [[self.ids[word] for word in words_of(caption)] for caption in captions]
        offsets = torch.tensor(np.cumsum([0, *map(len, rows)])[:-1])
        return F.normalize(self.words(torch.tensor([i for row in rows for i in row]), offsets), dim=1)

    @torch.no_grad()
    def encode_images(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures."""
        pixels = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
        return torch.cat([self.eval().see(part) for part in pixels.split(128)]).numpy()

    @torch.no_grad()
    def encode_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Embed captions."""
        return self.eval().read(captions).numpy()


def train(pictures: NDArray[np.uint8], scenes: Sequence[Scene], steps: int, seed: int, say=print) -> Witness:
    """Train on pictures (2N, 64, 64, 3) of N scenes, as they are and mirrored."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    captions = [f"{scene.name} {scene.colour}" for scene in scenes]
    model = Witness(sorted({word for caption in captions for word in words_of(caption)}))
    data = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20, (steps - step) / (0.5 * steps))
        chosen = rng.choice(len(scenes), 96, replace=False)
        pixels = data[chosen + len(scenes) * rng.integers(2, size=96)].float() / 127.5 - 1
        logits = model.train().see(_disturbed(pixels, rng)) @ model.read([captions[i] for i in chosen]).T
        logits = logits * model.scale.exp()
        target = torch.arange(96)
        loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0 or step + 1 == steps:
            right = (logits.argmax(1) == target).float().mean().item()
            say(f"witness {step}: loss {loss.item():.3f}, {right:.2f} of 96 find their caption")
    return model.eval()


def _disturbed(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    n = len(pixels)
    scale = torch.from_numpy(rng.uniform(0.9, 1.15, n)).float()
    turn = torch.from_numpy(rng.uniform(-0.12, 0.12, n)).float()
    shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (n, 2))).float()
    cos, sin = scale * turn.cos(), scale * turn.sin()
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(matrix, [n, 3, 64, 64], align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(moved, 3, 1, 1, count_include_pad=False)
    mix = torch.from_numpy(rng.uniform(0, 1, (n, 1, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(moved.shape).astype(np.float32))
    return moved + mix * (blurred - moved) + 0.1 * mix * noise
