"""Find the model that writes, fetch one where somebody asks for it, and hand it pictures."""

import os
from collections.abc import Callable
from typing import Any

from clipsearch.embed.locate import snapshot
from clipsearch.embed.preprocess import Preprocess
from clipsearch.errors import WeightsNotFoundError
from clipsearch.types import Pixels

SIDE = 512  # pixels that a picture is given with; the long side, the rest is filled
MODELS = {
    "smolvlm-256m": "HuggingFaceTB/SmolVLM-256M-Instruct",
    "smolvlm-500m": "HuggingFaceTB/SmolVLM-500M-Instruct",
    "smolvlm2-2.2b": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
}


def open_writer(model: str, device: str = "auto") -> Any:  # Any: describe.vlm.Writer, which needs torch to be imported
    """Load a model that writes, from this machine only.

    Args:
        model: one of ``MODELS``, ORG/NAME as the hub has it, or a folder.
        device: "auto", "cpu", "cuda".

    Raises:
        WeightsNotFoundError: it is not on this machine.
        MissingExtraError: transformers or torch is not installed.
    """
    folder = _folder(model)
    from clipsearch.describe.vlm import Writer

    return Writer(folder, device)


def _folder(model: str) -> str:
    if os.path.isdir(model):
        return model
    found = snapshot(MODELS.get(model, model)) if "/" in MODELS.get(model, model) else None
    if found is None:
        raise WeightsNotFoundError(
            f"The model {model!r} is not on this machine, and nothing is downloaded unasked.\n"
            f"Add --pull to fetch it (known: {', '.join(MODELS)}), or give the folder of a checkpoint."
        )
    return found


def pull_writer(model: str, tell: Callable[[str], None]) -> None:
    """Fetch a model that writes into the shared cache.

    Raises:
        WeightsNotFoundError: the hub could not be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    from clipsearch.embed.pull import pull_repository

    if not os.path.isdir(model):
        pull_repository(MODELS.get(model, model), ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"], tell)


def read_picture(source: Any) -> Pixels:  # Any: path, bytes or stream, as decode takes them
    """Return a picture (S, S, 3) uint8 RGB, upright and whole, for a model that writes.

    Raises:
        QueryImageError: it cannot be read.
    """
    from clipsearch.decode import decode_queries

    return decode_queries([source], Preprocess(SIDE, "longest"))[0]
