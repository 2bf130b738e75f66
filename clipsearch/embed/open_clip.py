"""The real models: any architecture of open_clip, with weights that lie on this machine.

Nothing here touches the network. open_clip would download what it does not find, so its tables are only read: the
checkpoint, the tokenizer and the text tower's configuration are looked up on disk first (``plan``), and open_clip is
then given paths (``build``). What is absent is a ``WeightsNotFoundError`` that says where it belongs.

Traps handled here, each of which costs accuracy in silence:

- dropout: the model is put in evaluation mode;
- QuickGELU: OpenAI's, MetaCLIP's and DFN's weights were trained with it; open_clip only warns on a mismatch. The tag
  decides, unless the architecture's name already ends in ``-quickgelu``;
- the normalisation, resize mode and interpolation of the *tag* (SigLIP: squash, 0.5), also for a local checkpoint of an
  architecture whose tags all agree;
- SigLIP reads the last position: texts are padded to the full context length whatever the batch;
- the logit's scale and bias are kept: SigLIP's cosines are small and mean nothing without them.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from clipsearch.embed.base import covers_text, unit_norm
from clipsearch.embed.card import LOCAL_DIR, EncoderCard
from clipsearch.embed.causal import causal_text
from clipsearch.embed.lengths import by_length, end_marks
from clipsearch.embed.locate import TOKENIZER_FILES, expected_path, hub_file, missing, snapshot, weights_path
from clipsearch.embed.preprocess import Preprocess
from clipsearch.embed.runtime.torch import TorchRuntime
from clipsearch.errors import InputError, UnknownNameError, WeightsNotFoundError
from clipsearch.types import Floats, Pixels

_PREPROCESS = ("mean", "std", "interpolation", "resize_mode")
# Hashed into the fingerprint as token ids: another tokenizer gives other embeddings with the same weights.
_PROBE = ("A photo of 2 dogs, running!", "Zürich – été; 日本")
_TEXTS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that ``build`` needs, found on this machine.

    Attributes:
        card: the card with its hub repository filled in.
        config: open_clip's model configuration (embed_dim, vision_cfg, text_cfg, ...).
        checkpoint: file of the weights.
        preprocess: open_clip's keys mean, std, interpolation, resize_mode, as far as the tag or the folder says.
        quick_gelu: whether to force QuickGELU.
        tokenizer: folder of a Hugging Face tokenizer, or None for open_clip's own.
        text_tower: folder of a Hugging Face text tower's configuration, or None for open_clip's own tower.
    """

    card: EncoderCard
    config: dict[str, Any]  # Any: open_clip's JSON
    checkpoint: str
    preprocess: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False
    tokenizer: str | None = None
    text_tower: str | None = None


class OpenClipEncoder:
    """A model of open_clip behind the encoder contract; see ``base.Encoder``."""

    def __init__(
        self,
        card: EncoderCard,
        *,
        runtime: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        self._runtime = TorchRuntime(device=device, precision=precision, threads=threads)
        ready = plan(card)
        model, self.tokenizer = build(ready)
        self.name = card.name
        self.dim = int(ready.config["embed_dim"])
        self.preprocess = preprocess_of(model)
        self.card = _complete(ready.card, self.dim, self.preprocess, int(self.tokenizer.context_length or 0))
        self.logit_scale: float | None = _scalar(model.logit_scale, exponential=True)
        self.logit_bias: float | None = _scalar(model.logit_bias)
        self._fingerprint: str | None = None
        if self._runtime.casts_weights:
            self._fingerprint = self._digest(model)  # of the weights as they are on disk
        self.model: Any = self._runtime.prepare(model)  # Any: CLIP, CustomTextCLIP or CoCa share no typed base
        self._mean = self._runtime.tensor(self.preprocess.mean).view(1, 3, 1, 1)
        self._std = self._runtime.tensor(self.preprocess.std).view(1, 3, 1, 1)
        self._dtype = next(self.model.parameters()).dtype
        self._causal = causal_text(self.model)

    @property
    def how(self) -> str:
        """What runs the towers."""
        return f"torch in {self._runtime.precision} on {self._runtime.device}"

    def encode_images(self, pixels: Pixels) -> Floats:
        """Embed pictures: uint8 (B, S, S, 3) → float32 (B, D), unit norm."""
        if len(pixels) == 0:
            return np.empty((0, self.dim), np.float32)
        return unit_norm(self._runtime.run(self._image_tower, pixels))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Embed B texts → float32 (B, D), unit norm. A text longer than the model's context is cut."""
        if len(texts) == 0:
            return np.empty((0, self.dim), np.float32)
        starts = range(0, len(texts), _TEXTS_AT_ONCE)
        return np.concatenate([self._encode(texts[start : start + _TEXTS_AT_ONCE]) for start in starts])

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of weights, preprocessing and tokenisation; computed once."""
        if self._fingerprint is None:
            self._fingerprint = self._digest(self.model)
        return self._fingerprint

    def covers_text(self, text: str) -> bool:
        """Say whether the model was trained on the language of the text, as far as one can tell."""
        return covers_text(self.card, text)

    def _encode(self, texts: Sequence[str]) -> Floats:
        # A lone surrogate, as in a file name with bytes that are not UTF-8, cannot be tokenised.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        tokens = self.tokenizer(clean).numpy()
        tower = self._causal
        if tower is None:
            return unit_norm(self._runtime.run(self.model.encode_text, tokens))
        last = end_marks(tokens, tower.pool, tower.eos)
        found = np.empty((len(tokens), self.dim), np.float32)
        for rows in by_length(last, self._runtime.batch_size):
            found[rows] = self._runtime.run(tower.encode, tokens[rows, : last[rows].max() + 1], last[rows])
        return unit_norm(found)

    def _image_tower(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise on the device and run the image tower: uint8 (B, S, S, 3) → (B, D)."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32)
        if x.device.type == "cpu":
            x = x.contiguous()  # torchvision's layout; another one picks other kernels and gives other last bits
        x = x.div_(255).sub_(self._mean).div_(self._std)
        return self.model.encode_image(x.to(self._dtype))

    def _digest(self, model: torch.nn.Module) -> str:
        """Hash the tensors in the order of their names, so that the container (.pt, .safetensors) does not matter."""
        digest = hashlib.sha256(b"clipsearch open_clip 1\n")
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        gelu = sorted({type(module).__name__ for module in model.modules() if "GELU" in type(module).__name__})
        policy = {"preprocess": self.preprocess.spec(), "activations": gelu, "normalise": "l2"}
        digest.update(json.dumps(policy, sort_keys=True).encode())
        digest.update(self.tokenizer(list(_PROBE)).numpy().astype(np.int64).tobytes())
        return digest.hexdigest()


def plan(card: EncoderCard) -> Plan:
    """Find on this machine what a card needs. Reads open_clip's tables and the disk, nothing else.

    Raises:
        UnknownNameError: open_clip has no such architecture or tag.
        WeightsNotFoundError: weights, tokenizer or text tower's configuration are not here.
    """
    card = resolve(card)
    if card.architecture is None:
        return _plan_folder(card)
    config = open_clip.get_model_config(card.architecture)
    assert config is not None, "resolve() has checked the architecture"
    checkpoint = weights_path(card)
    if checkpoint is None or not os.path.isfile(checkpoint):
        raise missing(card, "The weights")
    tag = get_pretrained_cfg(card.architecture, card.pretrained) if card.pretrained else {}
    shared = tag or _shared_preprocess(card.architecture)
    beside = os.path.dirname(checkpoint)
    return Plan(
        card=card,
        config=config,
        checkpoint=checkpoint,
        preprocess={key: shared[key] for key in _PREPROCESS if key in shared},
        quick_gelu=bool(tag.get("quick_gelu")),
        tokenizer=_tokenizer_folder(card, config, beside),
        text_tower=_text_tower_folder(card, config, beside),
    )


def resolve(card: EncoderCard) -> EncoderCard:
    """Return the card with the hub repositories that open_clip's tables name.

    Raises:
        UnknownNameError: open_clip has no such architecture or tag; near names are offered.
    """
    architecture = card.architecture
    if architecture is None:
        return card
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise _unknown("architecture", architecture, open_clip.list_models())
    text = config["text_cfg"]
    card = replace(
        card,
        tokenizer=card.tokenizer or text.get("hf_tokenizer_name") or None,
        text_tower=card.text_tower or text.get("hf_model_name") or None,
    )
    if card.pretrained is None or card.hub is not None:
        return card
    tag = get_pretrained_cfg(architecture, card.pretrained)
    if not tag:
        raise _unknown(f"tag of {architecture}", card.pretrained, open_clip.list_pretrained_tags_by_model(architecture))
    repository, _, file = tag.get("hf_hub", "").rpartition("/")
    return replace(card, hub=repository or None, hub_file=file or None)


def build(ready: Plan) -> tuple[Any, Any]:  # Any: open_clip's models and tokenizers share no typed base
    """Return (model, tokenizer) of a plan: float32, on the CPU.

    Raises:
        WeightsNotFoundError: the files are there and do not fit or cannot be read.
    """
    if ready.card.architecture is None:
        name, file = f"{LOCAL_DIR}{ready.card.checkpoint}", None
    else:
        name, file = ready.card.architecture, ready.checkpoint
    local_tower = {"hf_model_name": ready.text_tower, "hf_model_pretrained": False}
    overrides = {"text_cfg": ready.config["text_cfg"] | local_tower} if ready.text_tower else {}
    try:
        with quiet_root_logger():
            model = open_clip.create_model(
                name,
                pretrained=file,
                require_pretrained=True,
                force_quick_gelu=ready.quick_gelu,
                force_preprocess_cfg=ready.preprocess,
                **overrides,
            )
            tokenizer = _tokenizer(ready)
    except Exception as error:  # open_clip, torch, safetensors and transformers each raise their own
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise WeightsNotFoundError(
            f"The model {ready.card.name!r} cannot be loaded from {ready.checkpoint}: {reason[0][:200]}\n"
            "The file is damaged or belongs to another architecture; name the right one or fetch it again."
        ) from error
    return model, tokenizer


def preprocess_of(model: Any) -> Preprocess:  # Any: as for build
    """Return the preprocessing that a model of open_clip says it wants.

    Raises:
        InputError: the input is not square.
    """
    wanted = model.visual.preprocess_cfg
    size = wanted["size"]
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise InputError(f"This model wants pictures of {size} pixels; clipsearch supports square inputs only.")
    return Preprocess(
        size=int(sides.pop()),
        mode=wanted["resize_mode"],
        interpolation="bilinear" if wanted["interpolation"] == "bilinear" else "bicubic",  # open_clip: "random" too
        mean=_channels(wanted["mean"]),
        std=_channels(wanted["std"]),
        fill=int(wanted["fill_color"]),
    )


def _plan_folder(card: EncoderCard) -> Plan:
    """Plan for ``local-dir:``; open_clip reads the folder's preprocessing itself."""
    folder = card.checkpoint or ""
    path = os.path.join(folder, "open_clip_config.json")
    if not os.path.isfile(path):
        raise WeightsNotFoundError(
            f"The folder {folder} holds no open_clip_config.json.\n"
            "local-dir: wants that file, the weights, and the tokenizer's files if the model does not use CLIP's own."
        )
    if not any(name.endswith((".safetensors", ".bin", ".pth")) for name in os.listdir(folder)):
        raise WeightsNotFoundError(f"The folder {folder} holds no weights (.safetensors, .bin, .pth).")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)["model_cfg"]
        if not {"embed_dim", "text_cfg", "vision_cfg"} <= config.keys():
            raise KeyError("embed_dim, text_cfg or vision_cfg is missing")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsNotFoundError(f"{path} is not a configuration of open_clip: {error!r}.") from error
    tokenizer = _tokenizer_folder(card, config, folder)
    return Plan(card, config, folder, tokenizer=tokenizer, text_tower=_text_tower_folder(card, config, folder))


def _tokenizer_folder(card: EncoderCard, config: dict[str, Any], beside: str) -> str | None:
    """Find the tokenizer's files: beside the weights, else in the cache; None for open_clip's own tokenizer."""
    name = config["text_cfg"].get("hf_tokenizer_name")
    if not name:
        if card.architecture and "siglip" in card.architecture.lower():
            # open_clip would fetch a vocabulary from the web for such a name.
            raise WeightsNotFoundError(f"{card.architecture!r} names no tokenizer: its configuration needs one.")
        return None
    return _find_folder(name, TOKENIZER_FILES, beside) or _absent_part(card, f"The tokenizer files ({name})", name)


def _text_tower_folder(card: EncoderCard, config: dict[str, Any], beside: str) -> str | None:
    """Find the configuration of a text tower from transformers; None where the tower is open_clip's own."""
    name = config["text_cfg"].get("hf_model_name")
    if not name:
        return None
    return _find_folder(name, ("config.json",), beside) or _absent_part(card, f"The text tower's files ({name})", name)


def _find_folder(repository: str, names: tuple[str, ...], beside: str) -> str | None:
    if any(os.path.isfile(os.path.join(beside, name)) for name in names):
        return beside
    if os.path.isdir(repository):
        return repository
    return snapshot(repository) if hub_file(repository, names) else None


def _absent_part(card: EncoderCard, what: str, repository: str) -> str:
    if card.checkpoint is None:
        raise missing(replace(card, hub=repository, size_mb=0), what)
    raise WeightsNotFoundError(
        f"{what} of {card.name!r} are not on this machine.\n"
        f"Put them beside the weights, or into {expected_path(EncoderCard('', '', hub=repository))}."
    )


def _tokenizer(ready: Plan) -> Any:  # Any: as for build
    """Make the tokenizer as ``open_clip.get_tokenizer`` does, from files on this machine only."""
    text = ready.config["text_cfg"]
    context = text.get("context_length", 77)
    options = text.get("tokenizer_kwargs", {})
    if ready.tokenizer is None:
        return SimpleTokenizer(context_length=context, **options)
    mode = text.get("tokenizer_mode")
    return HFTokenizer(ready.tokenizer, context_length=context, tokenizer_mode=mode, **options)


def _shared_preprocess(architecture: str) -> dict[str, Any]:
    """Return the preprocessing that all tags of an architecture agree on, else {} (open_clip's defaults)."""
    tags = [get_pretrained_cfg(architecture, tag) for tag in open_clip.list_pretrained_tags_by_model(architecture)]
    seen = [{key: tag[key] for key in _PREPROCESS if key in tag} for tag in tags]
    return seen[0] if seen and all(one == seen[0] for one in seen) else {}


def _complete(card: EncoderCard, dim: int, preprocess: Preprocess, context_length: int) -> EncoderCard:
    """Return the card with what the loaded model says."""
    return replace(
        card,
        dim=dim,
        image_size=preprocess.size,
        context_length=context_length,
        mean=preprocess.mean,
        std=preprocess.std,
        mode=preprocess.mode,
        interpolation=preprocess.interpolation,
    )


def _unknown(kind: str, name: str, known: list[str]) -> UnknownNameError:
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f" Near: {', '.join(near)}." if near else ""
    return UnknownNameError(f"open_clip has no {kind} called {name!r}.{hint}")


def _channels(value: Any) -> tuple[float, ...]:  # Any: one number or three
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 3


def _scalar(parameter: torch.Tensor | None, exponential: bool = False) -> float | None:
    if parameter is None:
        return None
    value = parameter.detach().float().reshape(())
    return float(value.exp() if exponential else value)


@contextmanager
def quiet_root_logger() -> Iterator[None]:
    """Keep a library's calls of ``logging.info`` from installing a handler on the root logger of a user's program."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        yield
    finally:
        root.removeHandler(silent)
