"""Cards: one row of facts a checkpoint, and how a model's name is read.

The shipped cards are the rows of ``cards.toml``. Any other open_clip model has a name too, and a card made from it:

| name                            | means                                                             |
|---------------------------------|-------------------------------------------------------------------|
| ``mini``, ``vit-b-32``          | a card of ``cards.toml``, in any case; also by its architecture    |
| ``ViT-B-32/openai``             | an architecture and a pretrained tag that open_clip knows          |
| ``open_clip:ViT-B-32/openai``   | the same, the family said                                          |
| ``ViT-B-32@/models/mine.pt``    | an architecture and a checkpoint file (.pt, .safetensors, ...)     |
| ``local-dir:/models/folder``    | a folder with ``open_clip_config.json``, weights, tokenizer        |
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from clipsearch.embed.preprocess import CLIP_MEAN, CLIP_STD
from clipsearch.errors import UnknownNameError

LOCAL_DIR = "local-dir:"
FAMILY = "open_clip:"
NEAR_CUTOFF = 0.5


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """The facts of one checkpoint.

    Attributes:
        name: what a user calls it.
        family: key of ``ENCODERS``.
        architecture: open_clip's name of the architecture, or None.
        pretrained: open_clip's tag of the weights, or None.
        hub: repository on the Hugging Face hub that holds the weights, or None.
        hub_file: file name there, or None for open_clip's usual names.
        tokenizer: repository on the hub that holds tokenizer files, or None where the package brings its own.
        text_tower: repository that holds the configuration of a text tower of transformers, or None.
        dim: length of an embedding; 0 until the model is loaded, for a model without a row in cards.toml.
        image_size: side of the input, pixels; 0 as for dim.
        context_length: tokens of a text; 0 as for dim.
        mean: of the pixels, per channel, on a scale of 0 to 1.
        std: of the pixels, per channel, on a scale of 0 to 1.
        mode: how a picture is made square (see ``preprocess``).
        interpolation: how it is resized.
        size_mb: size of the weights, 10^6 bytes; 0 where unknown.
        licence: of the weights.
        languages: ISO 639-1 codes, or ("multi",).
        good_for: one line for a person who chooses.
        quality: ImageNet zero-shot top-1 in percent as published; orders "the best on this disk".
        weak_at: kinds of question that it was measured to answer no better than the commonest answer would.
        checkpoint: file or folder on this machine, for a model named by its place.
    """

    name: str
    family: str
    architecture: str | None = None
    pretrained: str | None = None
    hub: str | None = None
    hub_file: str | None = None
    tokenizer: str | None = None
    text_tower: str | None = None
    dim: int = 0
    image_size: int = 0
    context_length: int = 0
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    mode: str = "shortest"
    interpolation: str = "bicubic"
    size_mb: int = 0
    licence: str = "unknown"
    languages: tuple[str, ...] = ("en",)
    good_for: str = ""
    quality: float = 0.0
    weak_at: tuple[str, ...] = ()
    checkpoint: str | None = None


@cache
def _table() -> dict[str, EncoderCard]:
    rows = tomllib.loads(files("clipsearch.embed").joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: card_of(name, row) for name, row in rows.items()}


def card_of(name: str, row: Mapping[str, object]) -> EncoderCard:
    """Return the card that plain values make, as they come from TOML or JSON: lists become tuples."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return EncoderCard(name=name, **values)  # pyright: ignore[reportArgumentType]  a test checks every row's types


def cards() -> dict[str, EncoderCard]:
    """Return the shipped cards by name, in the order of cards.toml."""
    return dict(_table())


def load_card(name: str) -> EncoderCard:
    """Return the card that a model's name stands for.

    Raises:
        UnknownNameError: it is neither a card nor a form that names an open_clip model; near names are offered.
    """
    return parse_name(name, _table().values())


def parse_name(name: str, known: Iterable[EncoderCard]) -> EncoderCard:
    """Read a model's name: a pure function of the name and the known cards; see the table above.

    Paths are made absolute, so that the name kept with a collection can be loaded from anywhere.
    """
    known = list(known)
    for card in known:
        if name == card.name:
            return card
    if name.startswith(LOCAL_DIR) and (folder := name[len(LOCAL_DIR) :]):
        path = _absolute(folder)
        return EncoderCard(name=f"{LOCAL_DIR}{path}", family="open_clip", checkpoint=path, languages=())
    rest = name.removeprefix(FAMILY)
    architecture, at, path = rest.partition("@")
    if at and architecture and path:
        path = _absolute(path)
        return EncoderCard(
            name=f"{architecture}@{path}",
            family="open_clip",
            architecture=architecture,
            checkpoint=path,
            languages=_languages_of(architecture, known),
        )
    architecture, slash, tag = rest.partition("/")
    if slash and architecture and tag and not {"/", "@"} & set(architecture + tag):
        return _by_tag(architecture, tag, known)
    return _by_loose_name(name, rest, known)


def _by_tag(architecture: str, tag: str, known: list[EncoderCard]) -> EncoderCard:
    wanted = (architecture, tag.lower().replace("-", "_"))  # open_clip reads tags so
    for card in known:
        if (card.architecture, card.pretrained) == wanted:
            return card
    return EncoderCard(
        name=f"{architecture}/{tag}",
        family="open_clip",
        architecture=architecture,
        pretrained=tag,
        languages=_languages_of(architecture, known),
    )


def _by_loose_name(name: str, rest: str, known: list[EncoderCard]) -> EncoderCard:
    """Find a card by its name in any case, or by its architecture."""
    for card in known:
        if rest and rest.lower() in (card.name.lower(), (card.architecture or "").lower()):
            return card
    by_key = {key.lower(): card.name for card in known for key in (card.name, card.architecture) if key}
    near = get_close_matches(rest.lower(), by_key, n=1, cutoff=NEAR_CUTOFF)
    hint = f" Did you mean {by_key[near[0]]!r}?" if near else ""
    raise UnknownNameError(
        f"No model is called {name!r}.{hint} Known: {', '.join(card.name for card in known)}.\n"
        "Other open_clip models: ARCH/TAG, ARCH@/path/to/checkpoint, local-dir:/folder."
    )


def _languages_of(architecture: str, known: list[EncoderCard]) -> tuple[str, ...]:
    """Guess the languages of a model without a card of its own: () means that nobody knows."""
    for card in known:
        if card.architecture == architecture:
            return card.languages
    lower = architecture.lower()
    multilingual = any(word in lower for word in ("siglip2", "i18n", "xlm", "nllb", "worldwide", "mt5"))
    return ("multi",) if multilingual else ("en",)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
