"""The tokenizer: a picture of 64 x 64 becomes 8 x 8 places of 16 digits of 16 levels each (finite scalar quantisation).

FSQ (https://arxiv.org/abs/2309.15505) has no codebook that could collapse. The encoder is linear and starts as the
principal components of 8 x 8 patches; the decoder is the linear inverse and a small convolutional net beside it, which
learns what patches alone cannot say. Both are trained together, with some digits moved by one level on the way, so that
the decoder forgives a transformer that is nearly right.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

PATCH, DIGITS, LEVELS = 8, 16, 16
GRID = 64 // PATCH
_MIDDLE = (LEVELS - 1) / 2
_MOVED = 0.05  # share of digits moved by one level in training


def to_values(levels: Tensor) -> Tensor:
    """Return levels 0..15 as numbers from -1 to 1."""
    return (levels - _MIDDLE) / _MIDDLE


class Tokenizer(nn.Module):
    """Encodes float pictures (B, 3, 64, 64) from -1 to 1, and decodes digits (B, 16, 8, 8) from -1 to 1."""

    def __init__(self, width: int = 80) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, DIGITS, PATCH, PATCH)
        self.around = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 96, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(96, DIGITS, 3, padding=1),
        )
        self.linear = nn.ConvTranspose2d(DIGITS, 3, PATCH, PATCH)
        self.wide = nn.Conv2d(DIGITS, 4 * width, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.last = nn.Conv2d(width, 48, 3, padding=1)
        for layer in (self.around[-1], self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def digits(self, pictures: Tensor) -> Tensor:
        """Return digits (B, 16, 8, 8), not rounded and not limited."""
        return self.encoder(pictures) + self.around(pictures)

    def encode(self, pictures: Tensor) -> Tensor:
        """Return levels: int64 (B, 16, 8, 8)."""
        return ((self.digits(pictures).clamp(-1, 1) + 1) * _MIDDLE).round().long()

    def decode(self, digits: Tensor) -> Tensor:
        """Return pictures (B, 3, 64, 64) of digits from -1 to 1."""
        x = F.pixel_shuffle(self.wide(digits), 2)
        for layer in self.middle:
            x = x + layer(F.silu(x))
        return self.linear(digits) + F.pixel_shuffle(self.last(F.silu(x)), 4)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return pictures rebuilt from their digits, with gradients through the rounding."""
        exact = self.digits(pictures).float()
        clipped = exact.clamp(-1, 1) + 0.01 * (exact - exact.clamp(-1, 1))  # out of range: a small pull back
        levels = ((clipped.clamp(-1, 1) + 1) * _MIDDLE).round()
        if self.training:
            moved = (torch.rand_like(levels) < _MOVED) * (2 * torch.randint_like(levels, 2) - 1)
            levels = (levels + moved).clamp(0, LEVELS - 1)
        return self.decode(clipped + (to_values(levels) - clipped).detach())


def start_from_components(model: Tokenizer, pictures: NDArray[np.uint8]) -> None:
    """Set encoder and linear decoder to the principal components of patches; flat patches count for less."""
    x = pictures.astype(np.float32) / 127.5 - 1
    n = len(x)
    x = x.reshape(n, GRID, PATCH, GRID, PATCH, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3 * PATCH * PATCH)
    spread = x.reshape(len(x), 3, -1).std(axis=2).max(axis=1)
    x = np.concatenate([x[spread > 0.01], x[spread <= 0.01][::5]])
    mean = x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((x - mean).T))
    base = vectors[:, np.argsort(-values)[:DIGITS]]  # (192, 16)
    reach = np.quantile(np.abs((x - mean) @ base), 0.998, axis=0)
    with torch.no_grad():
        weight = torch.tensor((base / reach).T.copy(), dtype=torch.float32)
        model.encoder.weight.copy_(weight.reshape(DIGITS, 3, PATCH, PATCH))
        model.encoder.bias.copy_(-weight @ torch.tensor(mean, dtype=torch.float32))
        inverse = torch.tensor((base * reach).T.copy(), dtype=torch.float32)
        model.linear.weight.copy_(inverse.reshape(DIGITS, 3, PATCH, PATCH))
        model.linear.bias.zero_()
        offset = torch.tensor(mean, dtype=torch.float32).reshape(3, -1).mean(dim=1)
        model.linear.bias.copy_(offset)


def fit(pictures: NDArray[np.uint8], steps: int, batch: int, seed: int, bf16: bool, say=print) -> Tokenizer:
    """Train on pictures uint8 (N, 64, 64, 3)."""
    torch.manual_seed(seed)
    model = Tokenizer()
    start_from_components(model, pictures)
    rng = np.random.default_rng(seed)
    data = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.0, betas=(0.9, 0.95))
    for step in range(steps):
        rate = 1.5e-3 * min(1.0, (step + 1) / 50, (steps - step) / (0.6 * steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        target = data[rng.integers(len(data), size=batch)].float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            rebuilt = model(target).float()
        loss = F.mse_loss(rebuilt, target) + 0.1 * F.l1_loss(rebuilt, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0 or step == steps - 1:
            with torch.no_grad():
                error = F.mse_loss(rebuilt.clamp(-1, 1), target).item()
            say(f"tokenizer {step}: {10 * np.log10(4 / error):.2f} dB")
        if (step + 1) % 400 == 0 or step == steps - 1:
            say(f"tokenizer {step}: {quality(model, data[:: max(1, len(data) // 256)]):.2f} dB without moved digits")
    return model.eval()


@torch.no_grad()
def quality(model: Tokenizer, pictures: Tensor) -> float:
    """Return the peak signal-to-noise ratio of rebuilt pictures, in dB."""
    model.eval()
    target = pictures.float() / 127.5 - 1
    error = F.mse_loss(model(target).clamp(-1, 1), target).item()
    model.train()
    return 10 * float(np.log10(4 / error))
