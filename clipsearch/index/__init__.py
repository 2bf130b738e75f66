"""Room 5: embeddings in, neighbours out.

An index is given ``EmbeddingBlock``s and answers ``Neighbors``; it knows nothing of files, pictures or words.
``INDEX_TYPES`` names the kinds there are; each lives in a module of its own, loaded when it is asked for:

- ``flat``: every row compared, in numpy; always exact, and quick enough up to about 200,000 rows;
- ``ivfflat``: rows sorted into inverted lists, 8 bits a number kept; quick to build, half a KB a row at 512 numbers;
- ``ivfpq``: inverted lists of product-quantised rows, under 100 bytes a row at 512 numbers.

The latter two need faiss, and score their candidates again from the exact rows (``ivf.py``).
"""

from clipsearch.registry import Registry

INDEX_TYPES = Registry(
    "index type",
    {
        "flat": "clipsearch.index.flat:FlatIndex",
        "ivfflat": "clipsearch.index.ivf:IvfFlatIndex",
        "ivfpq": "clipsearch.index.ivf:IvfPqIndex",
    },
)

__all__ = ["INDEX_TYPES"]
