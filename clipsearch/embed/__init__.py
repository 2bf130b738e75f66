"""Room 3: pixels or texts → embeddings of unit norm, in one space.

A *family* says what a model is (``open_clip``, ``mini``, ``hashing``); a *runtime* says how its towers are executed
(torch on CPU or CUDA). A *card* is one checkpoint of a family. Importing this room loads none of the families:
torch alone takes two seconds, open_clip four and a half.

    encoder = load_encoder("mini")
    images = encoder.encode_images(pixels)          # uint8 (B, S, S, 3) → float32 (B, D)
    texts = encoder.encode_texts(["a red bicycle"]) # float32 (1, D)
    scores = images @ texts.T                       # cosine
"""

from importlib.util import find_spec

from clipsearch.embed.base import Encoder, covers_text, unit_norm
from clipsearch.embed.card import EncoderCard, cards, load_card
from clipsearch.embed.choose import choose_model
from clipsearch.embed.devices import devices_of
from clipsearch.embed.locate import expected_path, missing, weights_path
from clipsearch.embed.pull import pull
from clipsearch.errors import MissingExtraError
from clipsearch.registry import Registry

__all__ = [
    "ENCODERS",
    "RUNTIMES",
    "Encoder",
    "EncoderCard",
    "cards",
    "choose_model",
    "covers_text",
    "devices_of",
    "expected_path",
    "load_card",
    "load_encoder",
    "pull",
    "unit_norm",
    "weights_path",
]

ENCODERS = Registry(
    "encoder family",
    {
        "mini": "clipsearch.embed.mini:MiniEncoder",
        "open_clip": "clipsearch.embed.open_clip:OpenClipEncoder",
        "hashing": "clipsearch.embed.hashing:HashingEncoder",
    },
)
RUNTIMES = Registry("runtime", {"torch": "clipsearch.embed.runtime.torch:TorchRuntime"})

_NEEDS = {"open_clip": ("torch", "open_clip"), "mini": ("onnxruntime",)}
_INSTALL = {"open_clip": "clipsearch[cpu]", "mini": "onnxruntime"}


def load_encoder(
    name: str,
    *,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Encoder:
    """Load a model from this machine; nothing is ever downloaded here.

    Args:
        name: a card's name, ``ARCH/TAG``, ``open_clip:ARCH/TAG``, ``ARCH@/path/to/checkpoint.pt`` or
            ``local-dir:/folder``.
        runtime: name from ``RUNTIMES``, or "auto" for the family's own choice.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", ...
        precision: "auto" (bfloat16 or float16 autocast on CUDA, float32 on a CPU), "fp32", "bf16", "fp16".
        threads: CPU threads of the runtime; None leaves its own choice.

    Raises:
        UnknownNameError: no model or runtime of that name.
        MissingExtraError: the family needs a package that is not installed.
        WeightsNotFoundError: the weights or the tokenizer are not on this machine.
    """
    card = load_card(name)
    if runtime != "auto":
        RUNTIMES[runtime]  # an unknown name fails here, before a slow import
    absent = [package for package in _NEEDS.get(card.family, ()) if find_spec(package) is None]
    if absent:
        raise MissingExtraError(
            f"The model {card.name!r} needs {' and '.join(absent)}, which this Python does not have.\n"
            f"Install with: pip install '{_INSTALL[card.family]}'"
        )
    if card.hub is not None and weights_path(card) is None:
        raise missing(card, "The weights")  # known without the seconds that importing the family costs
    family = ENCODERS.load(card.family)
    return family(card, runtime=runtime, device=device, precision=precision, threads=threads)
