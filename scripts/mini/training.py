"""The training itself: heads first on frozen towers, then heads and the towers' last layers together.

Three things are asked of the two halves:

* a picture and its caption find each other in a batch (InfoNCE, both directions, with targets softened by how alike
  the captions are);
* a picture and a *short* query made from its captions do so too;
* the ImageNet classifier's opinion survives: pictures whose features were pushed towards a random class must find
  that class's name among others as surely as the classifier does. No picture of that class is needed, and this is
  what keeps the model useful outside of the captions' world of people, dogs and sport.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mini.features import TEXT_SPLIT, TextCache
from mini.metrics import recalls
from mini.model import ImageHead, TextHead, minilm_embedding
from mini.towers import Bert

CAPTIONS, SHORTS, PROMPTS = 5, 4, 3


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults made the shipped weights."""

    seed: int = 0
    batch: int = 256
    head_epochs: int = 6
    head_rate: float = 1.2e-3
    tune_epochs: int = 6
    tune_rate: float = 4e-4
    image_rate: float = 1.5e-4
    text_rate: float = 5e-5
    weight_decay: float = 0.05
    soft: float = 0.2
    short: float = 0.5
    general: float = 0.3
    ema: float = 0.97
    classes_per_step: int = 192


@dataclass(frozen=True)
class Corpus:
    """Caches of one split; texts lie end to end, a fixed number for each picture or class."""

    views: list[NDArray[np.float16]]
    tops: list[NDArray[np.float16]]
    captions: TextCache
    shorts: TextCache | None = None
    prompts: TextCache | None = None


class Mini(nn.Module):
    """Both halves, and what of the towers is trained."""

    def __init__(self, middle: nn.Module, upper: nn.Module, image: ImageHead, bert: Bert, text: TextHead) -> None:
        super().__init__()
        self.middle, self.upper, self.image, self.bert, self.text = (
            middle.requires_grad_(False),
            upper,
            image,
            bert,
            text,
        )
        bert.requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(2.7))
        self.class_scale = nn.Parameter(torch.tensor(2.7))

    def train(self, mode: bool = True) -> Mini:
        """Dropout in the heads only: the towers' batch statistics stay as pretrained."""
        super().train(mode)
        for part in (self.middle, self.upper, self.image.bn, self.bert):
            part.train(False)
        return self

    def texts(self, cache: TextCache, rows: NDArray[np.int64], chunk: int = 64) -> tuple[Tensor, Tensor]:
        """Unit embeddings of cached texts, and MiniLM's own; texts of like length go together, to save padding."""
        order = np.argsort(cache.starts[rows + 1] - cache.starts[rows], kind="stable")
        pairs = [self._texts(*cache.batch(rows[order[i : i + chunk]])) for i in range(0, len(rows), chunk)]
        back = torch.from_numpy(np.argsort(order))
        return torch.cat([p[0] for p in pairs])[back], torch.cat([p[1] for p in pairs])[back]

    def _texts(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.bert.run(hidden, mask, TEXT_SPLIT, len(self.bert.layers))
        return self.text(hidden, mask), minilm_embedding(hidden, mask).detach()


@torch.no_grad()
def set_statistics(model: Mini, tops: NDArray[np.float16], sample: int = 1500) -> None:
    """Take the mean and deviation of the mean feature, by which the image head standardises."""
    means = [model.image.grid(_float(tops[i : i + 100])).mean((2, 3)) for i in range(0, min(sample, len(tops)), 100)]
    features = torch.cat(means)
    model.image.mean.copy_(features.mean(0))
    model.image.deviation.copy_(features.std(0) + 0.02)


def _float(array: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).contiguous(memory_format=torch.channels_last)


def contrast(images: Tensor, texts: Tensor, scale: Tensor, alike: Tensor | None, soft: float) -> Tensor:
    """InfoNCE in both directions; ``alike`` (B, B) softens the targets."""
    logits = images @ texts.T * scale.exp()
    target = torch.eye(len(images))
    if alike is not None:
        target = (1 - soft) * target + soft * (alike / 0.07).softmax(-1)
    return -0.5 * ((target * logits.log_softmax(-1)).sum(-1) + (target * logits.T.log_softmax(-1)).sum(-1)).mean()


@torch.no_grad()
def push_to_classes(grid: Tensor, image: ImageHead, classes: Tensor) -> Tensor:
    """Move some places of each feature grid towards a random class, until the classifier is about won over."""
    logits = image.fc(grid.mean((2, 3)))
    goals = classes[torch.randint(len(classes), (len(grid),))]
    direction = image.fc.weight[goals] - logits.softmax(-1) @ image.fc.weight
    gap = logits.max(-1).values - logits[torch.arange(len(grid)), goals]
    share = torch.rand(len(grid)) * 0.7 + 0.3
    step = (gap + 3.0) * (torch.rand(len(grid)) * 1.2 + 0.6) / direction.square().sum(-1) / share
    where = (torch.rand(len(grid), 1, *grid.shape[2:]) < share[:, None, None, None]).float()
    return (grid + (direction * step[:, None])[:, :, None, None] * where).clamp(0, 6)


def keep_general(model: Mini, grid: Tensor, prompts: TextCache, count: int, rng: np.random.Generator) -> Tensor:
    """Cross-entropy between the classifier's opinion on pushed pictures and their similarity to class names."""
    classes = rng.choice(1000, count, replace=False)
    texts = model.texts(prompts, classes * PROMPTS + rng.integers(PROMPTS, size=count))[0]
    pushed = push_to_classes(grid.detach(), model.image, torch.from_numpy(classes))
    images, opinion = model.image.embed(pushed)
    target = opinion[:, classes].softmax(-1)
    logits = images @ texts.T * model.class_scale.exp()
    return -0.5 * (target * logits.log_softmax(-1)).sum(-1).mean() - 0.5 * _each_class_finds(logits, target)


def _each_class_finds(logits: Tensor, target: Tensor) -> Tensor:
    """The same the other way round: a class name finds the pictures that are of it."""
    weight = target / target.sum(0, keepdim=True).clamp_min(0.5)
    return (weight * logits.log_softmax(0)).sum(0).mean()


Grid = Callable[[NDArray[np.int64], np.random.Generator], Tensor]


def step_loss(
    model: Mini, corpus: Corpus, rows: NDArray[np.int64], grid: Tensor, settings: Settings, rng: np.random.Generator
) -> Tensor:
    """The three losses on one batch."""
    images, _ = model.image.embed(grid)
    texts, known = model.texts(corpus.captions, rows * CAPTIONS + rng.integers(CAPTIONS, size=len(rows)))
    loss = contrast(images, texts, model.scale, known @ known.T, settings.soft)
    assert corpus.shorts is not None and corpus.prompts is not None
    texts, known = model.texts(corpus.shorts, rows * SHORTS + rng.integers(SHORTS, size=len(rows)))
    loss = loss + settings.short * contrast(images, texts, model.scale, known @ known.T, 2 * settings.soft)
    return loss + settings.general * keep_general(
        model, grid[: len(rows) // 2], corpus.prompts, settings.classes_per_step, rng
    )


def fit(
    model: Mini,
    corpus: Corpus,
    grid: Grid,
    groups: list[dict[str, object]],
    epochs: int,
    settings: Settings,
    watch: Callable[[Mini], str],
) -> Mini:
    """Train the given parameter groups on a one-cycle schedule; return the moving average of the weights."""
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    steps = len(corpus.views[0]) // settings.batch
    rates = [float(g["lr"]) for g in groups]  # type: ignore[arg-type]
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=epochs * steps, pct_start=0.2)
    average = copy.deepcopy(model)
    for epoch in range(epochs):
        model.train()
        started, total = time.time(), 0.0
        order = rng.permutation(len(corpus.views[0]))
        for k in range(steps):
            rows = np.sort(order[k * settings.batch : (k + 1) * settings.batch])
            loss = step_loss(model, corpus, rows, grid(rows, rng), settings, rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)  # type: ignore[attr-defined]
            optimiser.step()
            cycle.step()
            _follow(average, model, min(settings.ema, (1 + epoch * steps + k) / (10 + epoch * steps + k)))
            total += loss.item()
            print(f"  step {k} loss {loss.item():.3f} {time.time() - started:.0f} s", end="\r", flush=True)
        print(f"epoch {epoch}: loss {total / steps:.3f}, {time.time() - started:.0f} s, {watch(average)}", flush=True)
    return average.eval()


@torch.no_grad()
def _follow(average: Mini, model: Mini, decay: float) -> None:
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def head_groups(model: Mini, settings: Settings) -> list[dict[str, object]]:
    """Only the heads (the image head's convolution stays)."""
    frozen = {id(p) for p in model.image.conv.parameters()}
    heads = [
        p for p in (*model.image.parameters(), *model.text.parameters()) if p.requires_grad and id(p) not in frozen
    ]
    return [
        {"params": heads, "lr": settings.head_rate},
        {"params": [model.scale, model.class_scale], "lr": 3e-3, "weight_decay": 0.0},
    ]


def tune_groups(model: Mini, settings: Settings) -> list[dict[str, object]]:
    """The heads, and the last blocks and layers of the towers at lower rates."""
    image = [*model.upper.parameters(), *model.image.conv.parameters()]
    text = [p for layer in model.bert.layers[TEXT_SPLIT:] for p in layer.parameters()]
    for parameter in (*image, *text):
        parameter.requires_grad_(True)
    for module in model.upper.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    groups = head_groups(model, settings)
    groups[0]["lr"] = settings.tune_rate
    image = [p for p in image if p.requires_grad]
    return [*groups, {"params": image, "lr": settings.image_rate}, {"params": text, "lr": settings.text_rate}]


def top_grid(model: Mini, corpus: Corpus) -> Grid:
    """Feature grids from the cached last activations: nothing of the tower is computed."""

    def grid(rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        with torch.no_grad():
            return model.image.grid(_float(corpus.tops[rng.integers(len(corpus.tops))][rows]))

    return grid


def tuned_grid(model: Mini, corpus: Corpus) -> Grid:
    """Feature grids through the blocks that are being tuned; every picture in a view of its own."""

    def grid(rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        views = rng.integers(len(corpus.views), size=len(rows))
        stacked = np.stack([corpus.views[v][r] for v, r in zip(views, rows, strict=True)])
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                x = model.middle(_float(stacked))
            x = model.upper(x)
            return model.image.grid(x).float()

    return grid


@torch.inference_mode()
def embed_pictures(model: Mini, corpus: Corpus, from_tops: bool, batch: int = 100) -> NDArray[np.float32]:
    """Unit embeddings of every picture of a split, in its first view."""
    source = corpus.tops[0] if from_tops else corpus.views[0]
    batches = [_float(source[i : i + batch]) for i in range(0, len(source), batch)]
    return np.concatenate([model.image(x if from_tops else model.upper(model.middle(x))).numpy() for x in batches])


def dev_watch(corpus: Corpus, from_tops: bool, captions: int = 1) -> Callable[[Mini], str]:
    """Report recall on the development split with the first few captions of each picture."""
    owners = np.repeat(np.arange(len(corpus.views[0])), captions)
    rows = owners * CAPTIONS + np.tile(np.arange(captions), len(corpus.views[0]))

    def watch(model: Mini) -> str:
        model.eval()
        return str(recalls(embed_pictures(model, corpus, from_tops), _captions(model, corpus, rows), owners))

    return watch


@torch.inference_mode()
def _captions(model: Mini, corpus: Corpus, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return model.texts(corpus.captions, rows)[0].numpy()
