"""The two halves of the mini encoder that are trained: a head over the picture's feature grid, a head over the
text's hidden states.

The image head sees three things: the mean feature; a *ConSE* vector (the text embeddings of the 1,000 ImageNet
class names averaged by their probability, Norouzi et al. 2013, https://arxiv.org/abs/1312.5650), which puts the
picture into the sentence space before anything is trained; and the places it attends to. Each head is a linear map
plus a small MLP, and starts from the pretrained sentence space, so that what is learned from a few thousand
captions is a correction.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mini.towers import CHANNELS, WIDTH

DIM = 384


class ImageHead(nn.Module):
    """Last activations (B, 352, 7, 7) -> unit embedding (B, 384)."""

    def __init__(
        self, net: Any, classes: Tensor, pools: int = 8, value: int = 64, inner: int = 640, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = net._conv_head, net._bn1, net._fc
        for layer in (self.bn, self.fc):
            layer.requires_grad_(False)
        self.register_buffer("classes", classes)
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("deviation", torch.ones(CHANNELS))
        self.score = nn.Conv2d(CHANNELS, pools, 1)
        self.value = nn.Parameter(torch.randn(pools, CHANNELS, value) * CHANNELS**-0.5)
        width = CHANNELS + WIDTH + pools * value
        self.skip = nn.Linear(width, DIM)
        self.up, self.down, self.norm = nn.Linear(width, inner), nn.Linear(inner, DIM), nn.LayerNorm(inner)
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.skip.weight, std=0.2 * width**-0.5)
        nn.init.normal_(self.down.weight, std=0.5 * inner**-0.5)

    def grid(self, x: Tensor) -> Tensor:
        """Feature grid (B, 1280, 7, 7), in 0..6."""
        return F.relu6(self.bn(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(self.grid(x))[0]

    def embed(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Feature grid -> unit embedding (B, 384) and the classifier's log-probabilities (B, 1000)."""
        mean = grid.mean((2, 3))
        logits = self.fc(mean)
        conse = F.normalize(logits.softmax(-1) @ self.classes, dim=-1)
        attention = self.score(grid * 0.5).flatten(2).softmax(-1)
        pooled = attention @ grid.flatten(2).transpose(1, 2)
        pooled = ((pooled - self.mean) / self.deviation).transpose(0, 1) @ self.value
        parts = ((mean - self.mean) / self.deviation, conse * WIDTH**0.5, pooled.transpose(0, 1).flatten(1))
        features = self.dropout(torch.cat(parts, -1))
        hidden = self.dropout(self.norm(F.gelu(self.up(features))))
        return F.normalize(self.skip(features) + self.down(hidden) + self.gain * conse, dim=-1), logits.log_softmax(-1)


class TextHead(nn.Module):
    """Hidden states (B, T, 384) and mask (B, T) -> unit embedding (B, 384)."""

    def __init__(self, pools: int = 6, inner: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        self.pools = pools
        self.score, self.value = nn.Linear(WIDTH, pools), nn.Linear(WIDTH, WIDTH)
        self.skip = nn.Linear(2 * WIDTH, DIM)
        self.up, self.down, self.norm = nn.Linear(2 * WIDTH, inner), nn.Linear(inner, DIM), nn.LayerNorm(inner)
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.skip.weight, std=0.2 * (2 * WIDTH) ** -0.5)
        nn.init.normal_(self.down.weight, std=0.5 * inner**-0.5)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        b, t, d = hidden.shape
        sentence = F.normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
        attention = (self.score(hidden) - (1.0 - mask[..., None]) * 1e4).softmax(1).transpose(1, 2)
        values = self.value(hidden).view(b, t, self.pools, d // self.pools).transpose(1, 2)
        pooled = (attention[:, :, None] @ values).flatten(1)
        features = self.dropout(torch.cat([sentence * WIDTH**0.5, pooled], -1))
        change = self.dropout(self.norm(F.gelu(self.up(features))))
        return F.normalize(self.skip(features) + self.down(change) + self.gain * sentence, dim=-1)


def minilm_embedding(hidden: Tensor, mask: Tensor) -> Tensor:
    """MiniLM's own sentence embedding: mean over the tokens, unit norm."""
    return F.normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
