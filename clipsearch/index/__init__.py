"""Room 5: embeddings in, neighbours out.

An index is given ``EmbeddingBlock``s and answers ``Neighbors``; it knows nothing of files, pictures or words.
``INDEX_TYPES`` names the kinds there are; each lives in a module of its own, loaded when it is asked for.
"""

from clipsearch.registry import Registry

INDEX_TYPES = Registry("index type", {"flat": "clipsearch.index.flat:FlatIndex"})

__all__ = ["INDEX_TYPES"]
