"""Room 3: pixels or texts → embeddings of unit norm, in one space.

A *family* says what a model is (``open_clip``, ``mini``, ``hashing``); a *runtime* says how its towers are executed
(torch on CPU or CUDA, ONNX Runtime, OpenVINO). A *card* is one checkpoint of a family. Importing this room loads none
of the families: torch alone takes two seconds, open_clip four and a half.

    encoder = load_encoder("mini")
    images = encoder.encode_images(pixels)          # uint8 (B, S, S, 3) → float32 (B, D)
    texts = encoder.encode_texts(["a red bicycle"]) # float32 (1, D)
    scores = images @ texts.T                       # cosine
"""

from collections.abc import Callable
from importlib.util import find_spec

from clipsearch.embed.base import Encoder, covers_text, unit_norm
from clipsearch.embed.card import EncoderCard, cards, load_card
from clipsearch.embed.choose import choose_model
from clipsearch.embed.devices import devices_of
from clipsearch.embed.export import find_export
from clipsearch.embed.locate import expected_path, missing, weights_path
from clipsearch.embed.pick_runtime import choose_runtime
from clipsearch.embed.pull import pull
from clipsearch.errors import InputError, MissingExtraError
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
    "export_model",
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
RUNTIMES = Registry(
    "runtime",
    {
        "torch": "clipsearch.embed.runtime.torch:TorchRuntime",
        "onnx": "clipsearch.embed.runtime.onnx:OnnxRuntime",
        "openvino": "clipsearch.embed.runtime.openvino:OpenVinoRuntime",
    },
)

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
        runtime: name from ``RUNTIMES``, which exports an open_clip model that is not exported yet; or "auto" for
            the fastest that is here, see ``pick_runtime``.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", ...
        precision: "auto" (bfloat16 or float16 autocast on CUDA; on a CPU bfloat16 where the processor has it and the
            runtime can, else float32), "fp32", "bf16", "fp16", "int8" (the runtime "onnx" alone).
        threads: CPU threads of the runtime; None leaves its own choice.

    Raises:
        UnknownNameError: no model or runtime of that name.
        MissingExtraError: the family needs a package that is not installed.
        WeightsNotFoundError: the weights or the tokenizer are not on this machine.
    """
    card = load_card(name)
    if runtime != "auto":
        RUNTIMES[runtime]  # an unknown name fails here, before a slow import
    if card.family == "open_clip" and (exported := _exported(card, runtime, device, precision, threads)) is not None:
        return exported
    _require(card)
    family = ENCODERS.load(card.family)
    return family(card, runtime=runtime, device=device, precision=precision, threads=threads)


def _require(card: EncoderCard) -> None:
    """Refuse a model that cannot be loaded, without the seconds that importing its family costs."""
    absent = [package for package in _NEEDS.get(card.family, ()) if find_spec(package) is None]
    if absent:
        raise MissingExtraError(
            f"The model {card.name!r} needs {' and '.join(absent)}, which this Python does not have.\n"
            f"Install with: pip install '{_INSTALL[card.family]}'"
        )
    if card.hub is not None and weights_path(card) is None:
        raise missing(card, "The weights")


def export_model(name: str, graph: str = "fp32", tell: Callable[[str], None] | None = None) -> list[str]:
    """Export the towers of an open_clip model to graphs that ONNX Runtime and OpenVINO run; once for its weights.

    Args:
        name: as for ``load_encoder``.
        graph: "fp32" or "int8".
        tell: told in a sentence what is done.

    Returns:
        The folders of the exports.

    Raises:
        InputError: the model has no towers to export.
        MissingExtraError: exporting needs a package that is not installed.
        WeightsNotFoundError: the weights or the tokenizer are not on this machine.
    """
    card = load_card(name)
    if card.family != "open_clip":
        raise InputError(f"The model {card.name!r} has no towers to export: it needs no torch as it is.")
    _require(card)
    from clipsearch.embed.exporting import export_model

    return export_model(card, graph, tell)


def _exported(card: EncoderCard, runtime: str, device: str, precision: str, threads: int | None) -> Encoder | None:
    """Return the encoder by its exports, or None where torch is asked for, or "auto" finds no exports."""
    if runtime == "torch" or (card.hub is not None and weights_path(card) is None):
        return None
    graph = "int8" if precision == "int8" else "fp32"
    image, text = (find_export(card, tower, graph) for tower in ("image", "text"))
    if runtime != "auto" and (image is None or (text is None and image.facts["has_text"])):
        export_model(card.name, graph)
        image, text = (find_export(card, tower, graph) for tower in ("image", "text"))
    if image is None:
        return None
    chosen = choose_runtime(runtime, device, precision, text_is_exported=text is not None)
    if (chosen.image, chosen.text) == ("torch", "torch"):
        return None
    from clipsearch.embed.exported import ExportedEncoder

    return ExportedEncoder(card, dict(image.facts), runtime=chosen, device=device, precision=precision, threads=threads)
