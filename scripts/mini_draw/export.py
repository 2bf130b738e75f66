"""Write the trained generator as the files that ship: three ONNX graphs with int8 weights, and the facts."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import torch
from quantise import shrink
from torch import Tensor, nn

from mini_draw.tokenizer import Tokenizer, to_values
from mini_draw.transformer import TOKENS, WIDE, Transformer, to_grid, to_tokens

FACTS = {"name": "mini", "version": 1, "side": 64, "steps": 12, "guidance_scale": 2.0, "sampler": "confidence"}


class Decoder(nn.Module):
    """Levels float (B, 16, 64), 0..15 → uint8 pictures (B, 64, 64, 3)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, levels: Tensor) -> Tensor:
        pictures = self.tokenizer.decode(to_values(to_grid(levels)))
        return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


class Encoder(nn.Module):
    """uint8 pictures (B, 64, 64, 3) → levels float (B, 16, 64)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, pixels: Tensor) -> Tensor:
        return to_tokens(self.tokenizer.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)).float()


@torch.no_grad()
def export(model: Transformer, tokenizer: Tokenizer, fingerprint: str, out: Path) -> None:
    """Write every file of the shipped generator into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    # The whitening is one linear map before another: one is enough.
    weight, bias = model.read.weight @ model.whiten.T, model.read.bias - model.read.weight @ (model.mean @ model.whiten)
    model.nothing.copy_(torch.linalg.solve(model.whiten.T.double(), model.nothing.double()).float() + model.mean)
    model.read.weight.copy_(weight)
    model.read.bias.copy_(bias)
    model.mean.zero_()
    model.whiten.copy_(torch.eye(len(model.mean)))
    model.whitened = True
    levels = torch.zeros(2, TOKENS, WIDE)
    inputs = {
        "levels": levels,
        "masked": levels + 1,
        "text": torch.zeros(2, len(model.mean)),
        "present": torch.ones(2, 1),
    }
    _graph(model, inputs, "logits", out / "transformer.onnx")
    _graph(Decoder(tokenizer), {"levels": levels}, "pixels", out / "decoder.onnx")
    _graph(Encoder(tokenizer), {"pixels": torch.zeros(2, 64, 64, 3, dtype=torch.uint8)}, "levels", out / "encoder.onnx")
    facts = {**FACTS, "text_tower": fingerprint}
    (out / "card.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _graph(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes={name: {0: "n"} for name in (*inputs, output)},
    )
    model = onnx.load(str(path))
    shrink(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
