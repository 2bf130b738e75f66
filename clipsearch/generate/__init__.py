"""Room 8: words that a collection has no picture for → a picture that a model draws.

What comes out of here is never an answer of the collection: it is marked in the file (``provenance.py``), noted in a
ledger (``ledger.py``) and kept in a folder of its own (``cache.py``). Drawing is slow and may take all memory, so it
happens in a process that can be killed (``worker.py``, ``process.py``), one job a device (``service.py``). The corridor
``flows/fill.py`` decides when anything is drawn at all.

A family is a class with the contract of ``base.Generator``; ``cards.toml`` has a row for each good choice of weights.
"""

from clipsearch.generate.base import Generator, Options
from clipsearch.generate.card import GeneratorCard, cards, load_card
from clipsearch.registry import Registry

__all__ = ["GENERATORS", "Generator", "GeneratorCard", "Options", "cards", "load_card"]

GENERATORS = Registry(
    "generator family",
    {
        "diffusers": "clipsearch.generate.diffusers:DiffusersGenerator",
        "gradient": "clipsearch.generate.gradient:GradientGenerator",
        "mini": "clipsearch.generate.mini:MiniGenerator",
    },
)
