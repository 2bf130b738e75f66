"""Which generator to use on this machine, and what it would take."""

import os
from dataclasses import dataclass

from clipsearch.embed import ENCODERS
from clipsearch.embed.locate import repository_folder, snapshot
from clipsearch.errors import MissingExtraError, WeightsNotFoundError
from clipsearch.generate import GENERATORS
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.generate.card import GeneratorCard, cards, load_card
from clipsearch.generate.hardware import best_card, gpu_gb, library_version, resolve
from clipsearch.generate.process import Setup
from clipsearch.generate.scope import Scope, read_scope
from clipsearch.generate.weights import SHIPPED

ON_GPU, ON_CPU = 4, 2  # pictures drawn, of which the best is kept
TEXT_TOWERS = {"mini": ENCODERS["mini"]}  # families that read the prompt with a tower of ours


@dataclass(frozen=True, slots=True)
class Chosen:
    """A generator that can draw here.

    Attributes:
        card: its facts.
        setup: how its process is started.
        tries: pictures that it draws at once by default.
        seconds: what a request took last time on this device, or None.
        scope: what it says that it can draw; None where it says nothing.
    """

    card: GeneratorCard
    setup: Setup
    tries: int
    seconds: float | None = None
    scope: Scope | None = None


def weights_folder(card: GeneratorCard) -> str | None:
    """Return where the weights of a generator lie on this machine, "" for one without any; None where they do not."""
    if card.family in SHIPPED:
        folder = SHIPPED[card.family]
        return folder if not folder or os.path.isfile(os.path.join(folder, "card.json")) else None
    folder = card.folder or (snapshot(card.hub) if card.hub else None)
    return folder if folder and os.path.isfile(os.path.join(folder, "model_index.json")) else None


def choose_generator(
    collection: str, name: str | None = None, device: str = "auto", dtype: str = "auto"
) -> Chosen | None:
    """Return the generator of a name, or the best one that this machine has; None where it has none.

    Raises:
        UnknownNameError: there is none of that name.
        WeightsNotFoundError: its weights are not on this machine.
        MissingExtraError: its library is not installed.
    """
    if name is None:
        ready = [card for card in cards().values() if card.automatic and _can_draw(card)]
        card = best_card(ready, gpu_gb()) if ready else None
        if card is None:
            return None
    else:
        card = load_card(name)
    folder = weights_folder(card)
    if folder is None:
        raise _missing(card)
    if card.family == "diffusers" and not library_version("diffusers"):
        raise MissingExtraError(
            f"Drawing with {card.name!r} needs diffusers, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[diffusers]'"
        )
    device, dtype = resolve(card, device, dtype)
    setup = Setup(GENERATORS[card.family], folder or None, device, dtype, TEXT_TOWERS.get(card.family))
    tries = ON_CPU if device == "cpu" else ON_GPU
    return Chosen(card, setup, tries, _last_seconds(collection, card, device), read_scope(folder))


def need_generator(collection: str, name: str | None = None, device: str = "auto", dtype: str = "auto") -> Chosen:
    """Return what ``choose_generator`` does; one there must be.

    Raises:
        WeightsNotFoundError: there is none on this machine.
    """
    chosen = choose_generator(collection, name, device, dtype)
    if chosen is None:
        raise WeightsNotFoundError(
            "No generator is on this machine, so nothing can be drawn.\n"
            "To see which there are and how to get one: clipsearch generate --list"
        )
    return chosen


def _can_draw(card: GeneratorCard) -> bool:
    if card.family == "diffusers" and not library_version("diffusers"):
        return False
    return weights_folder(card) is not None


def _missing(card: GeneratorCard) -> WeightsNotFoundError:
    if card.family in SHIPPED:
        return WeightsNotFoundError(f"The weights of {card.name!r} were removed from clipsearch. Install it again.")
    if card.folder is not None:
        return WeightsNotFoundError(
            f"There is no pipeline in {card.folder}: it has no model_index.json.\n"
            "Name a folder that save_pretrained of a text-to-image pipeline wrote."
        )
    size = f" ({card.disk_gb:g} GB)" if card.disk_gb else ""
    return WeightsNotFoundError(
        f"The weights of {card.name!r}{size} are not on this machine; they would lie in "
        f"{repository_folder(str(card.hub))}.\n"
        f"On a computer with internet run: hf download {card.hub}\n"
        f"Their licence: {card.licence}. Nothing is downloaded unasked."
    )


def _last_seconds(collection: str, card: GeneratorCard, device: str) -> float | None:
    rows = GeneratedFolder(collection).ledger.made().values()
    took = [row["seconds"] for row in rows if (row.get("generator"), row.get("device")) == (card.name, device)]
    return float(took[-1]) if took else None
