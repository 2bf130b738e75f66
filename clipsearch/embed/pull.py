"""Fetch a model from the Hugging Face hub: the only place in the package that uses the network."""

from collections.abc import Callable
from importlib.util import find_spec

from clipsearch.embed.card import EncoderCard
from clipsearch.embed.locate import WEIGHT_FILES, resolved
from clipsearch.errors import InputError, MissingExtraError, WeightsNotFoundError

TOKENIZER_PATTERNS = ["tokenizer*", "special_tokens_map.json", "*.model", "vocab.*", "merges.txt", "config.json"]


def pull(card: EncoderCard, progress: Callable[[str], None] | None = None) -> str:
    """Fetch weights and tokenizer into the shared cache.

    Args:
        card: which model.
        progress: told in a sentence what is fetched next.

    Returns:
        Path of the weights in the cache.

    Raises:
        InputError: the model has nothing to fetch.
        MissingExtraError: huggingface_hub is not installed.
        WeightsNotFoundError: the hub could not be reached or does not have the files.
    """
    if card.family != "open_clip" or card.checkpoint is not None:
        raise InputError(f"The model {card.name!r} has nothing to fetch: its files are on this machine or nowhere.")
    if find_spec("huggingface_hub") is None:
        raise MissingExtraError(
            "Fetching models needs huggingface_hub, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[cpu]'"
        )
    card = resolved(card)
    if card.hub is None:
        raise InputError(f"The weights of {card.name!r} are not on the hub.\nFetch them by hand; then use ARCH@/path.")
    tell = progress or (lambda sentence: None)
    try:
        return _fetch(card, tell)
    except Exception as error:  # huggingface_hub passes on errors of its HTTP client as well as its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsNotFoundError(
            f"The model {card.name!r} could not be fetched from the hub ({card.hub}): {reason}\n"
            "Check the connection and HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN; what was fetched so far is kept."
        ) from error


def pull_repository(repository: str, patterns: list[str], progress: Callable[[str], None]) -> str:
    """Fetch the files of a hub repository that match patterns into the shared cache, and return their folder.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        WeightsNotFoundError: the hub could not be reached or does not have it.
    """
    if find_spec("huggingface_hub") is None:
        raise MissingExtraError(
            "Fetching models needs huggingface_hub, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[describe]'"
        )
    from huggingface_hub import snapshot_download

    progress(f"Fetching {repository}")
    try:
        return snapshot_download(repository, allow_patterns=patterns)
    except Exception as error:  # huggingface_hub passes on errors of its HTTP client as well as its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsNotFoundError(
            f"{repository} could not be fetched from the hub: {reason}\n"
            "Check the name and the connection; what was fetched so far is kept."
        ) from error


def _fetch(card: EncoderCard, tell: Callable[[str], None]) -> str:
    from huggingface_hub import hf_hub_download, list_repo_files, snapshot_download

    assert card.hub is not None, "pull() has checked it"
    for repository in sorted({name for name in (card.tokenizer, card.text_tower) if name}):
        tell(f"Fetching tokenizer files from {repository}")
        snapshot_download(repository, allow_patterns=TOKENIZER_PATTERNS)
    file = card.hub_file or _weights_name(list_repo_files(card.hub), card)
    tell(f"Fetching {file} from {card.hub}" + (f" ({card.size_mb} MB)" if card.size_mb else ""))
    return hf_hub_download(card.hub, file)


def _weights_name(files: list[str], card: EncoderCard) -> str:
    found = next((name for name in WEIGHT_FILES if name in files), None)
    if found is None:
        raise FileNotFoundError(f"{card.hub} holds none of {', '.join(WEIGHT_FILES)}")
    return found
