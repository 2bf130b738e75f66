"""Cards: one row of facts for each good choice of weights, and how a generator's name is read.

| name                     | means                                                                          |
|--------------------------|--------------------------------------------------------------------------------|
| ``sd-turbo``             | a card of ``cards.toml``, in any case; also by its repository                  |
| ``local-dir:/my/folder`` | a folder that ``save_pretrained`` of a text-to-image pipeline wrote            |
"""

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from clipsearch.errors import UnknownNameError
from clipsearch.registry import suggest

LOCAL_DIR = "local-dir:"


@dataclass(frozen=True, slots=True)
class GeneratorCard:
    """The facts of one set of weights.

    Attributes:
        name: what a user calls it.
        family: key of ``GENERATORS``.
        hub: repository on the Hugging Face hub, or None.
        folder: folder on this machine, for a pipeline named by its place.
        parameters: how many, in words.
        width: pixels that it draws best.
        height: pixels that it draws best.
        steps: denoising steps that it was made for.
        guidance_scale: guidance that it was made for.
        dtype: numbers on a GPU: "bf16" or "fp16".
        gpu_gb: memory of a GPU that it needs, 10^9 bytes; 0 where a CPU will do.
        disk_gb: size of the weights, 10^9 bytes; 0 where unknown.
        licence: of the weights.
        good_for: one line for a person who chooses.
        automatic: whether it may be taken without being named.
        caveat: what is said with every picture, where it can do less than one would think.
    """

    name: str
    family: str = "diffusers"
    hub: str | None = None
    folder: str | None = None
    parameters: str = ""
    width: int = 512
    height: int = 512
    steps: int | None = None
    guidance_scale: float | None = None
    dtype: str = "bf16"
    gpu_gb: float = 0.0
    disk_gb: float = 0.0
    licence: str = "unknown: see the model's own page"
    good_for: str = ""
    automatic: bool = True
    caveat: str = ""


@cache
def _table() -> dict[str, GeneratorCard]:
    rows = tomllib.loads(files("clipsearch.generate").joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: GeneratorCard(name=name, **row) for name, row in rows.items()}


def cards() -> dict[str, GeneratorCard]:
    """Return the shipped cards by name, the best choice first."""
    return dict(_table())


def load_card(name: str) -> GeneratorCard:
    """Return the card that a generator's name stands for.

    Raises:
        UnknownNameError: there is no such card; near names are offered.
    """
    if name.startswith(LOCAL_DIR) and len(name) > len(LOCAL_DIR):
        folder = os.path.abspath(os.path.expanduser(name[len(LOCAL_DIR) :]))
        return GeneratorCard(name=f"{LOCAL_DIR}{folder}", folder=folder, automatic=False)
    for card in _table().values():
        if name.lower() in (card.name, (card.hub or "").lower()):
            return card
    raise UnknownNameError(f"{suggest('generator', name, _table())}\nA pipeline of your own: local-dir:/folder")
