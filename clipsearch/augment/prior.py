"""Diffusion prior: what pictures could look like, drawn in the space of embeddings (unCLIP, arXiv:2204.06125).

A small network learns to take noise off the embedding of a picture, knowing its caption. With a noise level t between
0 and 1, a = cos(pi t / 2) and b = sin(pi t / 2) it is shown

    z_t = a z + b noise          z: the picture's embedding, centred, mean square 1

and learns to tell z. To use it, pure noise is brought to an embedding in ``LEVELS`` steps: the network tells z, and the
step goes to the next lower level with the noise that this z leaves over (DDIM, arXiv:2010.02502). The mean of a few
such draws, always from the same noise, is where a picture for the query would be expected.

The network is two hidden layers, and everything is numpy, so that every installation can fit it and use it. The
number of steps is bounded: a fit takes seconds, whatever the number of pairs, and ``augment fit`` makes six.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.augment.base import Arrays, Pairs, unit
from clipsearch.types import Floats

HIDDEN = 384  # units of a layer at most; twice the embedding's length where that is less
BATCH = 256  # pairs of a step
EPOCHS, MOST_STEPS, LEAST_STEPS = 10, 250, 60
RATE, DECAY = 1e-3, 0.05  # of AdamW; the rate falls to zero
DRAWS, LEVELS = 4, 5  # draws that are averaged, steps of each
WAVES = 16  # waves that tell the network the level
SEED = 20260101
QUERIES = 256  # queries of one product
_BETAS, _TINY = (0.9, 0.99), 1e-8
_WEIGHTS = ("w1", "b1", "w2", "b2", "w3", "b3")

Numbers = NDArray[Any]  # float32 in use, float64 where a test compares gradients
Parameters = dict[str, Numbers]


class DiffusionPrior:
    """Adds the mean of a few embeddings that diffusion draws for a query."""

    weights: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5)

    def __init__(self, network: Parameters, text_mean: Floats, image_mean: Floats, scales: Floats) -> None:
        dim = len(image_mean)
        if network["w1"].shape[0] != 2 * dim + 2 * WAVES or network["w3"].shape[1] != dim or scales.shape != (2,):
            raise ValueError("a prior must fit its embeddings")
        self._network, self._text_mean, self._image_mean = network, text_mean, image_mean
        self._scales = scales  # of centred captions and pictures, to a mean square of 1

    @classmethod
    def fit(cls, pairs: Pairs) -> Self:
        """Train the network; always the same for the same pairs."""
        text_mean, image_mean = pairs.texts.mean(axis=0), pairs.images.mean(axis=0)
        texts, images = pairs.texts - text_mean, pairs.images - image_mean
        scales = np.array([1.0 / max(float(np.sqrt((x * x).mean())), 1e-6) for x in (texts, images)], np.float32)
        random = np.random.default_rng(SEED)
        network = _new_network(random, pairs.texts.shape[1])
        steps = int(np.clip(EPOCHS * len(pairs) / BATCH, LEAST_STEPS, MOST_STEPS))
        first, second = ({name: np.zeros_like(x) for name, x in network.items()} for _ in range(2))
        for step, chosen in enumerate(_batches(random, len(pairs), steps), start=1):
            z = images[chosen] * scales[1]
            levels = random.random(len(chosen), np.float32)
            noisy = _mix(z, random.standard_normal(z.shape, np.float32), levels)
            x = _inputs(noisy, texts[chosen] * scales[0], levels)
            _, slopes = loss_and_slopes(network, x, z)
            _adam(network, slopes, first, second, step, RATE * 0.5 * (1.0 + np.cos(np.pi * step / steps)))
        return cls(network, text_mean, image_mean, scales)

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        """Return the rung that gave ``arrays``."""
        network = {name: arrays[name].astype(np.float32) for name in _WEIGHTS}
        return cls(network, arrays["text_mean"], arrays["image_mean"], arrays["scales"])

    def arrays(self) -> Arrays:
        """Return the network, the means (D,) and the scales (2,)."""
        means = {"text_mean": self._text_mean, "image_mean": self._image_mean, "scales": self._scales}
        return {**self._network, **means}

    def prior(self, xq: Floats, drawn: Floats | None = None) -> Floats:
        """Return the expected pictures (Q, D) of queries (Q, D)."""
        noise = np.random.default_rng(SEED + 1).standard_normal((DRAWS, xq.shape[1]), np.float32)
        found = np.empty((len(xq), len(self._image_mean)), np.float32)
        for start in range(0, len(xq), QUERIES):
            part = slice(start, start + QUERIES)
            condition = (xq[part] - self._text_mean) * self._scales[0]
            draws = [self._drawn(condition, np.broadcast_to(one, condition.shape)) for one in noise]
            found[part] = unit(np.mean(draws, axis=0) / self._scales[1] + self._image_mean)
        return found

    def row_term(self, rows: Floats) -> None:
        """Return None: rows have no term of their own."""

    def _drawn(self, condition: Floats, noisy: Floats) -> Floats:
        """Bring noise (Q, D) to scaled embeddings (Q, D)."""
        ladder = np.linspace(1.0, 0.0, LEVELS + 1, dtype=np.float32)
        z = noisy
        for level, lower in pairwise(ladder):
            levels = np.full(len(noisy), level, np.float32)
            z, _ = _forward(self._network, _inputs(noisy, condition, levels))
            a, b = _shares(level)
            noisy = _mix(z, (noisy - a * z) / b, np.full(len(noisy), lower, np.float32))
        return z


def _shares(level: Any) -> tuple[Any, Any]:
    """Return how much of the embedding and of the noise there is at a level (or at each of an array of levels)."""
    return np.cos(0.5 * np.pi * level), np.sin(0.5 * np.pi * level)


def _mix(z: Floats, noise: Floats, levels: Floats) -> Floats:
    a, b = _shares(levels[:, None])
    return a * z + b * noise


def _inputs(noisy: Floats, condition: Floats, levels: Floats) -> Floats:
    """Return what the network sees (B, 2 D + 2 WAVES)."""
    angles = levels[:, None] * (np.pi * np.arange(1, WAVES + 1, dtype=np.float32))
    return np.concatenate([noisy, condition, np.cos(angles), np.sin(angles)], axis=1)


def _batches(random: np.random.Generator, n: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Yield positions of ``steps`` batches; every pair comes once before any comes twice."""
    left = np.empty(0, np.int64)
    for _ in range(steps):
        if len(left) < min(BATCH, n):
            left = random.permutation(n)
        yield left[:BATCH]
        left = left[BATCH:]


# The network: two hidden layers, x -> s(x w1 + b1) -> s(. w2 + b2) -> . w3 + b3, with s(u) = u / (1 + exp(-u)).


def _new_network(random: np.random.Generator, dim: int) -> Parameters:
    hidden = min(HIDDEN, 2 * dim)
    sizes = (2 * dim + 2 * WAVES, hidden, hidden, dim)
    network: Parameters = {}
    for layer, (n, m) in enumerate(pairwise(sizes), start=1):
        # the last layer begins at nothing, so that the first guess is the mean picture
        network[f"w{layer}"] = random.standard_normal((n, m), np.float32) * (np.sqrt(2.0 / n) if layer < 3 else 0.0)
        network[f"b{layer}"] = np.zeros(m, np.float32)
    return {name: array.astype(np.float32) for name, array in network.items()}


def _forward(network: Parameters, x: Numbers) -> tuple[Numbers, tuple[Numbers, ...]]:
    """Return what comes out (B, D), and of each hidden layer what went in, its sums and their sigmoids."""
    u1 = x @ network["w1"] + network["b1"]
    s1 = _sigmoid(u1)
    u2 = (u1 * s1) @ network["w2"] + network["b2"]
    s2 = _sigmoid(u2)
    return (u2 * s2) @ network["w3"] + network["b3"], (u1, s1, u2, s2)


def _sigmoid(u: Numbers) -> Numbers:
    return 0.5 * (1.0 + np.tanh(0.5 * u))


def loss_and_slopes(network: Parameters, x: Numbers, z: Numbers) -> tuple[float, Parameters]:
    """Return the mean squared error of what the network makes of ``x``, and its slope at each weight.

    Args:
        network: the weights.
        x: (B, n) inputs.
        z: (B, D) what should come out.
    """
    out, (u1, s1, u2, s2) = _forward(network, x)
    error = out - z
    slopes: Parameters = {}
    back = (2.0 / error.size) * error
    slopes["w3"], slopes["b3"] = (u2 * s2).T @ back, back.sum(axis=0)
    back = (back @ network["w3"].T) * (s2 * (1.0 + u2 * (1.0 - s2)))
    slopes["w2"], slopes["b2"] = (u1 * s1).T @ back, back.sum(axis=0)
    back = (back @ network["w2"].T) * (s1 * (1.0 + u1 * (1.0 - s1)))
    slopes["w1"], slopes["b1"] = x.T @ back, back.sum(axis=0)
    return float((error * error).mean()), slopes


def _adam(
    network: Parameters, slopes: Parameters, first: Parameters, second: Parameters, step: int, rate: float
) -> None:
    """Take one step of AdamW (arXiv:1711.05101), in place."""
    keep1, keep2 = _BETAS
    correct1, correct2 = 1.0 - keep1**step, 1.0 - keep2**step
    for name, slope in slopes.items():
        first[name] += (1.0 - keep1) * (slope - first[name])
        second[name] += (1.0 - keep2) * (slope * slope - second[name])
        network[name] -= np.float32(rate / correct1) * first[name] / (np.sqrt(second[name] / correct2) + _TINY)
        if name.startswith("w"):
            network[name] *= np.float32(1.0 - rate * DECAY)
