"""Rungs: small additions to a text query, learnt from the collection's own pairs of caption and picture.

A query alone ranks the pictures by its plain score. A rung adds a weighted term to that score and never replaces it.
Whether it helps depends on encoder and collection, so each is measured before it is used (``flows/augment.py``). The
order of the table is the order in which they are tried, each on top of those that helped before it. Those in ``DRAWN``
need a picture drawn for each query, which takes seconds: they are measured and used only where somebody asks for them.
"""

from clipsearch.registry import Registry

__all__ = ["DRAWN", "RUNGS"]

RUNGS = Registry(
    "rung",
    {
        "hubs": "clipsearch.augment.hubs:Hubs",
        "knn": "clipsearch.augment.knn:NearestCaptions",
        "ridge": "clipsearch.augment.ridge:Ridge",
        "prior": "clipsearch.augment.prior:DiffusionPrior",
        "imagined": "clipsearch.augment.imagined:Imagined",
    },
)
DRAWN = ("imagined",)
