"""Train and export the mini generator: ``python scripts/train_mini_generator.py --font TTF --work DIR --out DIR``,
with the package installed.

Needs: torch, onnx, onnxruntime, Pillow, and Noto Color Emoji (``NotoColorEmoji.ttf`` of Debian's package
``fonts-noto-color-emoji``). No GPU. One thread by default.

Stages: 1 render the corpus · 2 embed its captions with mini's text tower · 3 train the tokenizer · 4 train the
transformer, with a checkpoint to go on from · 5 export to ONNX. What a stage makes is kept in WORK; ``--stages`` runs
some of them only. All randomness comes from ``--seed``.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from mini_draw import corpus, tokenizer
from mini_draw.transformer import Batches, Transformer, loss_of, to_tokens

STAGES = ("render", "embed", "tokenizer", "transformer", "export")


def render(arguments: argparse.Namespace) -> None:
    """Stage 1."""
    np.save(arguments.work / "pictures.npy", corpus.render_all(arguments.font))


def embed(arguments: argparse.Namespace) -> None:
    """Stage 2: embeddings (C, D) of all captions, and which scene each belongs to."""
    from clipsearch.embed.mini import MiniEncoder

    encoder = MiniEncoder(threads=arguments.threads)
    pairs = [(i, text) for i, scene in enumerate(corpus.scenes()) for text in scene.captions()]
    embeddings = encoder.encode_texts([text for _, text in pairs])
    np.savez(
        arguments.work / "captions.npz",
        embeddings=embeddings,
        owner=np.array([i for i, _ in pairs]),
        texts=np.array([text for _, text in pairs]),
        fingerprint=encoder.fingerprint(),
    )


def seen_rows() -> np.ndarray:
    """Return which pictures are for training, the mirrored ones included."""
    scenes = corpus.scenes()
    return np.array([i for i, scene in enumerate(scenes * 2) if not scene.held_out])


def train_tokenizer(arguments: argparse.Namespace) -> None:
    """Stage 3; held-out pairs are not shown."""
    pictures = np.load(arguments.work / "pictures.npy")
    model = tokenizer.fit(pictures[seen_rows()], arguments.tokenizer_steps, 24, arguments.seed, arguments.bf16, _say)
    torch.save(model.state_dict(), arguments.work / "tokenizer.pt")


def load_tokenizer(work: Path) -> tokenizer.Tokenizer:
    """Return the trained tokenizer."""
    model = tokenizer.Tokenizer()
    model.load_state_dict(torch.load(work / "tokenizer.pt"))
    return model.eval()


def tokens_of(work: Path) -> torch.Tensor:
    """Return the levels (N, 16, 64) of all scenes; the mirrored pictures are for the tokenizer."""
    pictures = np.load(work / "pictures.npy")[: len(corpus.scenes())]
    pictures = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
    model = load_tokenizer(work)
    with torch.no_grad():
        return torch.cat([to_tokens(model.encode(part.float() / 127.5 - 1)) for part in pictures.split(128)])


def train_transformer(arguments: argparse.Namespace) -> None:
    """Stage 4; goes on from the checkpoint in WORK."""
    torch.manual_seed(arguments.seed)
    captions = np.load(arguments.work / "captions.npz")
    wanted = np.isin(captions["owner"], seen_rows())
    texts = torch.from_numpy(captions["embeddings"][wanted])
    batches = Batches(tokens_of(arguments.work), texts, captions["owner"][wanted], arguments.seed)
    model = Transformer(texts.shape[1])
    model.whiten_by(texts)
    optimiser = torch.optim.AdamW(model.parameters(), lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.0)
    mean = copy.deepcopy(model)
    place, start = arguments.work / "transformer.pt", 0
    if place.exists():
        saved = torch.load(place)
        model.load_state_dict(saved["model"])
        mean.load_state_dict(saved["mean"])
        optimiser.load_state_dict(saved["optimiser"])
        start = saved["step"]
    for step in range(start, arguments.steps):
        for group in optimiser.param_groups:
            group["lr"] = arguments.rate * min(1.0, (step + 1) / 30, (arguments.steps - step) / (0.4 * arguments.steps))
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            loss, right = loss_of(model, batches.draw(step, arguments.batch))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        keep = min(0.995, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - keep)
        if step % 20 == 0:
            _say(f"transformer {step}: loss {loss.item():.3f}, right {right.item():.3f}")
        if (step + 1) % 100 == 0 or step + 1 == arguments.steps:
            saved = {
                "model": model.state_dict(),
                "mean": mean.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step + 1,
            }
            torch.save(saved, place.with_suffix(".new"))
            place.with_suffix(".new").replace(place)


def export(arguments: argparse.Namespace) -> None:
    """Stage 5."""
    from mini_draw.export import export as write

    captions = np.load(arguments.work / "captions.npz")
    model = Transformer(captions["embeddings"].shape[1])
    saved = torch.load(arguments.work / "transformer.pt")
    model.load_state_dict(saved["mean"])
    write(model.eval(), load_tokenizer(arguments.work), str(captions["fingerprint"]), arguments.out)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {time.process_time():7.1f} s  {line}", flush=True)


def main() -> None:
    """Run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", type=Path, default=Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("clipsearch/generate/shipped/mini"))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokenizer-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products: faster where the CPU has them.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    stages = (render, embed, train_tokenizer, train_transformer, export)
    for name, stage in zip(STAGES, stages, strict=True):
        if name in arguments.stages:
            _say(name)
            stage(arguments)


if __name__ == "__main__":
    main()
