"""The masked diffusion transformer: digits of a picture, some unknown, and a text embedding → odds of every digit.

A token is a square of 2 x 2 places, so a picture has 16 tokens of 64 digits. Each digit is masked by itself, not the
token as a whole, so the odds of a token's digits need not be independent: the sampler fixes some, and the rest follow.
The text enters twice: as a first sketch, one vector a token, and by AdaLN-single in every block.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mini_draw.tokenizer import DIGITS, GRID, LEVELS, to_values

TOKENS, WIDE = (GRID // 2) ** 2, 4 * DIGITS  # 16 tokens of 64 digits


def to_tokens(levels: Tensor) -> Tensor:
    """Return (B, 16, 8, 8) as (B, 16 tokens, 64 digits)."""
    return F.pixel_unshuffle(levels, 2).flatten(2).transpose(1, 2)


def to_grid(tokens: Tensor) -> Tensor:
    """Return (B, 16 tokens, 64 digits) as (B, 16, 8, 8)."""
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (GRID // 2, GRID // 2)), 2)


class Block(nn.Module):
    """Attention and a feed-forward net, both scaled and shifted by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.own = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        a, b, c, d, e, f = (condition + self.own).unsqueeze(2).unbind(1)
        width = self.width
        h = F.layer_norm(x, (width,)) * (1 + a) + b
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, width // self.heads)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5).softmax(-1)
        x = x + (1 + c) * self.out((weights @ v).transpose(1, 2).flatten(2))
        h = F.layer_norm(x, (width,)) * (1 + d) + e
        return x + (1 + f) * self.down(F.gelu(self.up(h), approximate="tanh"))


class Transformer(nn.Module):
    """Predicts every digit; ``text`` is the text tower's embedding, ``present`` 1, or 0 for no text at all."""

    def __init__(self, dim: int, width: int = 192, depth: int = 4, heads: int = 4, hidden: int = 512) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("whiten", torch.eye(dim))
        self.width, self.whitened = width, False
        self.nothing = nn.Parameter(torch.zeros(dim))
        self.read = nn.Linear(dim, hidden)
        self.sketch = nn.Linear(hidden, TOKENS * width)
        self.modulate = nn.Linear(hidden, 6 * width)
        self.take = nn.Linear(2 * WIDE, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.tell = nn.Linear(width, WIDE * LEVELS)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        nn.init.zeros_(self.tell.weight)
        for block in self.blocks:
            nn.init.normal_(block.out.weight, std=0.02)
            nn.init.normal_(block.down.weight, std=0.02)

    def forward(self, levels: Tensor, masked: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """Return logits (B, 16, 64, 16).

        Args:
            levels: (B, 16, 64) float, 0..15; whatever where masked.
            masked: (B, 16, 64) float, 1 where unknown.
            text: (B, D) unit norm.
            present: (B, 1), 1 or 0.
        """
        e = text if self.whitened else (text - self.mean) @ self.whiten
        h = F.silu(self.read(present * e + (1 - present) * self.nothing))
        known = torch.cat([to_values(levels) * (1 - masked), masked], dim=2)
        x = self.sketch(h).unflatten(1, (TOKENS, self.width)) + self.take(known)
        condition = self.modulate(h).unflatten(1, (6, self.width))
        for block in self.blocks:
            x = block(x, condition)
        return self.tell(F.layer_norm(x, (self.width,))).unflatten(2, (WIDE, LEVELS))

    def whiten_by(self, embeddings: Tensor) -> None:
        """Set mean and whitening of text embeddings (N, D): directions that say little are not blown up."""
        centred = (embeddings - embeddings.mean(0)).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        scale = (values + 0.1 * values.mean()).rsqrt()
        self.mean.copy_(embeddings.mean(0))
        self.whiten.copy_((vectors * scale) @ vectors.T)


class Batches:
    """Draws training batches, seeded: scenes, one of their captions each, and masks."""

    def __init__(self, tokens: Tensor, captions: Tensor, owner: np.ndarray, seed: int) -> None:
        """Prepare.

        Args:
            tokens: (N, 16, 64) levels of all scenes.
            captions: (C, D) text embeddings.
            owner: (C,) which scene a caption belongs to.
            seed: of everything drawn.
        """
        self.tokens, self.captions, self.owner, self.seed = tokens, captions, owner, seed

    def draw(self, step: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return levels, masks, texts, presence of a step, the same for the same step."""
        rng = np.random.default_rng([self.seed, step])
        rows = rng.integers(len(self.owner), size=size)
        levels = self.tokens[torch.from_numpy(self.owner[rows])].float()
        share = np.cos(rng.random((size, 1, 1)) * np.pi / 2)
        share[rng.random(size) < 0.2] = 1.0  # the first step of a sampler decides most
        masked = torch.from_numpy((rng.random(levels.shape) < share).astype(np.float32))
        present = torch.from_numpy((rng.random((size, 1)) >= 0.1).astype(np.float32))
        text = self.captions[torch.from_numpy(rows)]
        text = F.normalize(text + torch.from_numpy(rng.standard_normal(text.shape).astype(np.float32)) * 0.01, dim=1)
        return levels, masked, text, present


def loss_of(model: Transformer, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of masked digits, and the share of these that is right."""
    levels, masked, text, present = batch
    logits = model(levels, masked, text, present).float()
    target = levels.long()
    each = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view_as(masked)
    total = masked.sum() + 1e-6
    right = ((logits.argmax(-1) == target) * masked * present[..., None]).sum() / (masked * present[..., None]).sum()
    return (each * masked).sum() / total, right.detach()
