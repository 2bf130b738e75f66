"""A small vision-language model that writes: any ``image-text-to-text`` checkpoint of transformers, from a folder.

Nothing is downloaded and no remote code is run. The picture is given as pixels that were decoded elsewhere. Writing is
greedy, so the same picture gets the same words.
"""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from clipsearch.errors import ClipsearchError, InputError, MissingExtraError, WeightsNotFoundError
from clipsearch.types import Pixels

try:
    import torch

    transformers: Any = import_module("transformers")  # Any: an extra, which a type checker need not find
except ImportError as _problem:  # raised where a flow or a test loads this module, never on import of the room
    raise MissingExtraError(
        f"Writing with a vision-language model needs a package that this Python lacks: {_problem}.\n"
        "Install with: pip install 'clipsearch[describe]'"
    ) from _problem

DESCRIBE = "Describe this picture in one sentence."
MAX_TOKENS = 64
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")  # one of them is enough


class Writer:
    """Writes about pictures with the checkpoint in a folder."""

    def __init__(self, folder: str, device: str = "cpu") -> None:
        """Load the model.

        Raises:
            WeightsNotFoundError: there is no such checkpoint in the folder, or a file of it is missing.
            InputError: the checkpoint is of a model that does not write about pictures.
            MissingExtraError: the model needs a package that is not installed.
        """
        self.folder = folder
        self._device = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        _check_kind(folder)
        with _translated(folder), _without_bars():
            self._processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
            model = transformers.AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
            self._model = model.to(self._device).eval()

    def write(self, pixels: Pixels, prompt: str = DESCRIBE, max_tokens: int = MAX_TOKENS) -> str:
        """Return what the model says to a prompt about a picture (H, W, 3) uint8 RGB.

        Raises:
            InputError: the model cannot take the picture or the prompt.
        """
        with _translated(self.folder), torch.inference_mode():
            inputs = self._inputs(pixels, prompt)
            made = self._model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
            new = made[:, inputs["input_ids"].shape[1] :]
            return " ".join(self._processor.batch_decode(new, skip_special_tokens=True)[0].split())

    def _inputs(self, pixels: Pixels, prompt: str) -> Any:  # Any: a BatchFeature
        """Return what the model reads: tokens of the prompt and of the picture, and its pixels."""
        from PIL import Image

        pictures = [Image.fromarray(pixels)]
        return self._processor(text=self._text(prompt), images=pictures, return_tensors="pt").to(self._device)

    def _text(self, prompt: str) -> str:
        """Return the prompt with a place for the picture, as the model was trained to read it."""
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            chat = [{"role": "user", "content": content}]
            return self._processor.apply_chat_template(chat, add_generation_prompt=True)
        return f"{getattr(self._processor, 'image_token', '<image>')}\n{prompt}"


def _check_kind(folder: str) -> None:
    """Raise an error where a folder holds no model that writes about pictures."""
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            kind = json.load(file)["model_type"]
    except FileNotFoundError as problem:
        raise WeightsNotFoundError(
            f"{folder} holds no model: there is no config.json.\n"
            "Give the folder of an image-text-to-text checkpoint of transformers, or the name of one in the cache."
        ) from problem
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise WeightsNotFoundError(
            f"The model in {folder} is not whole: config.json cannot be read ({_line(problem)}).\nFetch it again."
        ) from problem
    known = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if kind not in known:
        raise InputError(
            f"The model in {folder} is of the kind {kind!r}, which does not write about pictures.\n"
            f"Give an image-text-to-text checkpoint (transformers {transformers.__version__} knows {len(known)} kinds)."
        )
    if not any(os.path.isfile(os.path.join(folder, name)) for name in _TOKENIZERS):
        raise WeightsNotFoundError(
            f"The model in {folder} is not whole: there is no tokenizer ({', '.join(_TOKENIZERS)}).\nFetch it again."
        )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of transformers off the terminal."""
    logging = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _translated(folder: str) -> Iterator[None]:
    """Say in our words what torch and transformers raise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecations inside: nothing that a user can change
            yield
    except ClipsearchError:
        raise
    except ImportError as problem:
        raise MissingExtraError(
            f"The model in {folder} needs a package: {_line(problem)}.\n"
            "Install with: pip install 'clipsearch[describe]'"
        ) from problem
    except OSError as problem:
        raise WeightsNotFoundError(
            f"The model in {folder} is not whole: {_line(problem)}.\nFetch it again."
        ) from problem
    except Exception as problem:  # torch, transformers and jinja raise classes of their own
        raise InputError(f"The model in {folder} failed: {_line(problem)}.\nTry another model.") from problem


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split()).rstrip(".")[:200] or type(problem).__name__
