"""Where a model's files lie on this machine. Looks only; loads nothing and asks nobody.

The cache is the Hugging Face one, shared with every other program; clipsearch has none of its own. Its layout:
``$HF_HUB_CACHE/models--ORG--NAME/refs/main`` holds a revision, ``snapshots/<revision>/`` the files.
"""

import os
from importlib.util import find_spec

from clipsearch.embed.card import EncoderCard
from clipsearch.errors import WeightsNotFoundError

PACKAGE = os.path.dirname(os.path.abspath(__file__))
# open_clip looks for these, in this order, when a repository is named without a file.
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt")


def hub_cache() -> str:
    """Return the folder of the Hugging Face cache, as huggingface_hub finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return _expand(os.environ[variable])
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    return os.path.join(_expand(home), "hub")


def repository_folder(repository: str) -> str:
    """Return where the cache keeps a hub repository, present or not."""
    return os.path.join(hub_cache(), "models--" + repository.replace("/", "--"))


def snapshot(repository: str) -> str | None:
    """Return the folder of the cached files of a repository's main revision, or of the newest one, or None."""
    folder = repository_folder(repository)
    try:
        with open(os.path.join(folder, "refs", "main"), encoding="ascii") as ref:
            main = os.path.join(folder, "snapshots", ref.read().strip())
        if os.path.isdir(main):
            return main
    except (OSError, UnicodeDecodeError):
        pass
    try:
        with os.scandir(os.path.join(folder, "snapshots")) as entries:
            found = sorted((entry.stat().st_mtime, entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return None
    return found[-1][1] if found else None


def hub_file(repository: str, names: tuple[str, ...]) -> str | None:
    """Return the path of the first of the files that the cache holds, or None."""
    folder = snapshot(repository)
    if folder is None:
        return None
    paths = (os.path.join(folder, name) for name in names)
    return next((path for path in paths if os.path.isfile(path)), None)


def resolved(card: EncoderCard) -> EncoderCard:
    """Return the card with its hub repositories; for a model without a row in cards.toml this imports open_clip.

    Raises:
        UnknownNameError: open_clip has no such architecture or tag.
    """
    known = card.family != "open_clip" or card.hub is not None or card.checkpoint is not None
    if known or find_spec("open_clip") is None or find_spec("torch") is None:
        return card
    from clipsearch.embed.open_clip import resolve

    return resolve(card)


def weights_path(card: EncoderCard) -> str | None:
    """Return where the weights of a model lie now, or None if they are not on this machine."""
    if card.family == "hashing":
        return PACKAGE  # no weights: always here
    if card.checkpoint is not None:
        return card.checkpoint if os.path.exists(card.checkpoint) else None
    card = resolved(card)
    if card.hub is not None:
        return hub_file(card.hub, (card.hub_file,) if card.hub_file else WEIGHT_FILES)
    packaged = expected_path(card)
    files = os.listdir(packaged) if os.path.isdir(packaged) else []
    return packaged if any(not name.endswith(".md") for name in files) else None  # a notice alone is no model


def tokenizer_path(card: EncoderCard) -> str | None:
    """Return the folder of cached tokenizer files; None where they are absent (or the card needs none)."""
    found = hub_file(card.tokenizer, TOKENIZER_FILES) if card.tokenizer else None
    return os.path.dirname(found) if found else None


def is_ready(card: EncoderCard) -> bool:
    """Say whether weights, tokenizer and text tower's configuration are all on this machine."""
    if weights_path(card) is None or (card.tokenizer and tokenizer_path(card) is None):
        return False
    return not card.text_tower or hub_file(card.text_tower, ("config.json",)) is not None


def expected_path(card: EncoderCard) -> str:
    """Return where the weights would lie: a file, or the folder of their repository in the cache."""
    if card.checkpoint is not None:
        return card.checkpoint
    card = resolved(card)
    if card.hub is not None:
        return repository_folder(card.hub)
    return os.path.join(PACKAGE, "weights", card.name)


def missing(card: EncoderCard, what: str) -> WeightsNotFoundError:
    """Return the error for files that are not on this machine: which, how large, where they belong, what to run."""
    if card.checkpoint is not None:
        return WeightsNotFoundError(f"{what} of {card.name!r} are not at {card.checkpoint}.\nName a path that exists.")
    size = f" ({card.size_mb} MB)" if card.size_mb else ""
    return WeightsNotFoundError(
        f"{what} of {card.name!r}{size} are not on this machine; they would lie in {expected_path(card)}.\n"
        f"On a computer with internet run: clipsearch models pull {card.name}\n"
        "A folder fetched elsewhere can be copied there; nothing is downloaded unasked."
    )


def _expand(path: str) -> str:
    return os.path.abspath(os.path.expandvars(os.path.expanduser(path)))
