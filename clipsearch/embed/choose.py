"""Which model to use when nobody named one: the best that is ready on this machine, else ``mini``.

Looks at files and at which packages are installed; imports none of them, since this runs at the start of a command.
"""

from importlib.util import find_spec

from clipsearch.embed.card import cards
from clipsearch.embed.locate import is_ready

NEXT_STEP = "vit-b-32-256"  # what the note recommends
EXTRAS = ("torch", "open_clip")


def choose_model(named: str | None) -> tuple[str, str | None]:
    """Return (model name, one-line note or None).

    Args:
        named: what the user asked for; taken as it is.

    Returns:
        The named model; else the card of the highest quality whose files are cached and whose packages are installed;
        else "mini", with a line on how to get a better one.
    """
    if named is not None:
        return named, None
    installed = all(find_spec(package) is not None for package in EXTRAS)
    ready = [card for card in cards().values() if card.family == "open_clip" and is_ready(card)] if installed else []
    if ready:
        return max(ready, key=lambda card: card.quality).name, None
    install = "" if installed else "pip install 'clipsearch[cpu]', then "
    return (
        "mini",
        f"Using the small built-in model 'mini'. For better answers: {install}clipsearch models pull {NEXT_STEP}",
    )
