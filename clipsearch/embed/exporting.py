"""Export the towers of an open_clip model to graphs; needs torch, onnx and onnxscript, once.

The graphs are made to be cheap to run:

- the image tower takes bytes (B, S, S, 3) as ``preprocess`` makes them and normalises them itself;
- a causal text tower takes texts at their real length, and the table of token embeddings, a third of all its weights,
  stays outside, so that a query reads its own rows of it only.

A text tower is exported only where both hold: it is causal, and it reads CLIP's own tokens.
"""

import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer

from clipsearch.embed.card import EncoderCard
from clipsearch.embed.causal import CausalText, causal_text
from clipsearch.embed.clip_tokens import CLEANERS
from clipsearch.embed.export import (
    RECORD,
    TOWER,
    VOCABULARY,
    WORDS,
    checkpoint_pointer,
    export_folder,
    exports_home,
    file_record,
    find_export,
    open_export,
)
from clipsearch.embed.open_clip import OpenClipEncoder, quiet_root_logger
from clipsearch.errors import MissingExtraError

_OPSET = 18
_EXAMPLE_ROWS = 2
_EXAMPLE_TOKENS = 5
_UNFINISHED = ".export-"
_ABANDONED = 24 * 3600  # seconds after which nobody can be writing any more
_INLINE_LIMIT = 1 << 30  # bytes; a graph of more than 2 GB cannot be one file


def export_model(card: EncoderCard, graph: str = "fp32", tell: Callable[[str], None] | None = None) -> list[str]:
    """Export the towers of a model that are not exported yet.

    Args:
        card: which model.
        graph: "fp32" or "int8"; int8 is made from fp32, which is then exported too.
        tell: told in a sentence what is done.

    Returns:
        The folders of all its exports of this kind.

    Raises:
        MissingExtraError: a package is missing.
        WeightsNotFoundError: the weights are not on this machine.
    """
    absent = [package for package in ("onnx", "onnxscript") if find_spec(package) is None]
    if absent:
        raise MissingExtraError(
            f"Exporting needs {' and '.join(absent)}, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[cpu]'"
        )
    say = tell or (lambda sentence: None)
    _export_fp32(card, say)
    towers = [tower for tower in ("image", "text") if find_export(card, tower) is not None]
    if graph == "int8":
        for tower in towers:
            if find_export(card, tower, "int8") is None:
                say(f"Exporting the {tower} tower of {card.name} (int8)")
                _quantise(card, tower)
    found = [find_export(card, tower, graph) for tower in towers]
    return [one.folder for one in found if one is not None]


def _export_fp32(card: EncoderCard, say: Callable[[str], None]) -> None:
    """Export in float32 what is missing; the model is loaded only if something is."""
    image = find_export(card, "image")
    if image is not None and (not image.facts["has_text"] or find_export(card, "text") is not None):
        return
    encoder = OpenClipEncoder(card, device="cpu", precision="fp32")
    _note_checkpoint(card, encoder.fingerprint())
    tower, clean = causal_text(encoder.model), _own_clean(encoder)
    facts = _facts(encoder, has_text=tower is not None and clean is not None)
    if find_export(card, "image") is None:
        say(f"Exporting the image tower of {card.name}")
        _keep(facts, "image", "fp32", lambda folder: _write_image(encoder, folder))
    if tower is not None and clean is not None and find_export(card, "text") is None:
        text = {"pool": tower.pool, "eos": tower.eos, "context_length": encoder.card.context_length, "clean": clean}
        say(f"Exporting the text tower of {card.name}")
        _keep({**facts, "text": text}, "text", "fp32", lambda folder: _write_text(encoder, tower, folder))


def _note_checkpoint(card: EncoderCard, fingerprint: str) -> None:
    """Note which weights the checkpoint holds, so that its exports are found without reading it."""
    pointer = checkpoint_pointer(card)
    assert pointer is not None, "the model was loaded from it"
    os.makedirs(os.path.dirname(pointer), exist_ok=True)
    beside = f"{pointer}.tmp-{os.getpid()}"
    _write_json(beside, {"fingerprint": fingerprint})
    os.replace(beside, pointer)


def _facts(encoder: OpenClipEncoder, has_text: bool) -> dict[str, Any]:  # Any: JSON
    return {
        "fingerprint": encoder.fingerprint(),
        "card": asdict(encoder.card),
        "preprocess": encoder.preprocess.spec()["kwargs"],
        "logit_scale": encoder.logit_scale,
        "logit_bias": encoder.logit_bias,
        "has_text": has_text,
    }


def _own_clean(encoder: OpenClipEncoder) -> str | None:
    """Return how CLIP's own tokenizer cleans texts; None for another tokenizer, or one with tricks of its own."""
    tokenizer = encoder.tokenizer
    if not isinstance(tokenizer, SimpleTokenizer) or tokenizer.reduction_fn is not None:
        return None
    if len(tokenizer.encoder) != 512 + len(tokenizer.bpe_ranks) + 2:  # more special tokens than two
        return None
    word = getattr(tokenizer.clean_fn, "__name__", "").removeprefix("_clean_")
    return word if word in CLEANERS else None


class _Image(torch.nn.Module):
    """Bytes to embeddings: the image tower with its normalisation."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, encoder: OpenClipEncoder) -> None:
        super().__init__()
        self._model = encoder.model
        self.register_buffer("mean", torch.tensor(encoder.preprocess.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(encoder.preprocess.std).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return self._model.encode_image((x / 255 - self.mean) / self.std)


def _write_image(encoder: OpenClipEncoder, folder: str) -> None:
    side = encoder.preprocess.size
    example = torch.zeros(_EXAMPLE_ROWS, side, side, 3, dtype=torch.uint8)
    _to_onnx(_Image(encoder).eval(), {"pixels": example}, {"pixels": {0: "rows"}}, os.path.join(folder, TOWER))


def _write_text(encoder: OpenClipEncoder, tower: CausalText, folder: str) -> None:
    table = tower.table().detach().float()
    np.save(os.path.join(folder, WORDS), table.numpy())
    ranks = encoder.tokenizer.bpe_ranks
    with open(os.path.join(folder, VOCABULARY), "w", encoding="utf-8", newline="") as file:
        file.write("\n".join(" ".join(pair) for pair in sorted(ranks, key=ranks.__getitem__)))
    example = {
        "words": table[: _EXAMPLE_ROWS * _EXAMPLE_TOKENS].reshape(_EXAMPLE_ROWS, _EXAMPLE_TOKENS, -1).clone(),
        "last": torch.tensor([_EXAMPLE_TOKENS - 1, 2]),
    }
    shapes = {"words": {0: "rows", 1: "tokens"}, "last": {0: "rows"}}
    _to_onnx(tower.eval(), example, shapes, os.path.join(folder, TOWER))


def _to_onnx(
    module: torch.nn.Module, example: dict[str, torch.Tensor], dynamic: dict[str, dict[int, str]], path: str
) -> None:
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter's own inner life
        torch.onnx.export(
            module,
            tuple(example.values()),
            path,
            input_names=list(example),
            output_names=["embeddings"],
            dynamic_shapes=tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in dynamic.values()),
            opset_version=_OPSET,
            dynamo=True,
            external_data=size > _INLINE_LIMIT,
            verbose=False,
        )


def _quantise(card: EncoderCard, tower: str) -> None:
    """Make the int8 graph of an exported tower: weights by channel, activations by batch while it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = find_export(card, tower)
    assert source is not None, "export_model has made it"

    def write(folder: str) -> None:
        for name in (WORDS, VOCABULARY):
            if os.path.exists(source.path(name)):
                os.link(source.path(name), os.path.join(folder, name))
        with quiet_root_logger():  # it recommends a step that changes nothing here
            quantize_dynamic(
                source.path(TOWER),
                os.path.join(folder, TOWER),
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=os.path.exists(source.path(TOWER + ".data")),
            )

    _keep(dict(source.facts), tower, "int8", write)


def _keep(facts: dict[str, Any], tower: str, graph: str, write: Callable[[str], None]) -> None:  # Any: JSON
    """Write an export beside its place and put it there in one step; another process may have been faster."""
    place = export_folder(facts["fingerprint"], tower, graph)
    os.makedirs(exports_home(), exist_ok=True)
    _clear_leftovers()
    beside = tempfile.mkdtemp(prefix=_UNFINISHED, dir=exports_home())
    try:
        write(beside)
        files = {name: file_record(os.path.join(beside, name)) for name in sorted(os.listdir(beside))}
        for name in files:
            _sync(os.path.join(beside, name))
        _write_json(os.path.join(beside, RECORD), {"schema": "clipsearch.export/1", "facts": facts, "files": files})
        if open_export(place, facts["fingerprint"]) is None:
            shutil.rmtree(place, ignore_errors=True)
            os.replace(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_json(path: str, value: dict[str, Any]) -> None:  # Any: JSON
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _clear_leftovers() -> None:
    """Remove what exports that were killed have left behind."""
    for entry in os.scandir(exports_home()):
        if entry.name.startswith(_UNFINISHED) and time.time() - entry.stat().st_mtime > _ABANDONED:
            shutil.rmtree(entry.path, ignore_errors=True)
