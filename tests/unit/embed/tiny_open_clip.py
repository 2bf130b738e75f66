"""Tiny open_clip models with random weights, made on the spot: a CLIP and a SigLIP, a few MB each.

The vocabulary of the tiny CLIP is the full one, since its tokenizer is open_clip's own. The tiny SigLIP has a
word-level tokenizer of its own, saved as Hugging Face tokenizer files.
"""

import json
from pathlib import Path

import open_clip
import torch

CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 64,
        "hf_tokenizer_name": "nobody/tiny-tokenizer",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 64,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}
SIGLIP_PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
WORDS = ["a", "the", "of", "dog", "cat", "red", "blue", "green", "man", "woman", "runs", "in", "snow", "on", "beach"]
WORDS += ["two", "children", "play", "with", "ball"]


def register(folder: Path, name: str, config: dict) -> None:
    """Make an architecture known to open_clip."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)


def random_model(name: str, seed: int = 0) -> torch.nn.Module:
    """Build a model whose weights are larger than the usual initial ones, so that inputs make a difference."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(name)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def save(model: torch.nn.Module, path: Path) -> Path:
    """Save the weights as .pt or .safetensors."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path


def save_tokenizer(folder: Path) -> Path:
    """Save a word-level tokenizer in the files that transformers reads: pad 0, end 1, unknown 2."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    )
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(str(folder))
    return folder


def save_folder(model: torch.nn.Module, folder: Path, config: dict, preprocess: dict) -> Path:
    """Save what ``local-dir:`` reads: configuration, weights, tokenizer."""
    save_tokenizer(folder)
    save(model, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return folder
