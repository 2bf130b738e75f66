"""Where the built indexes of a collection lie: one of its images and one of its texts, each in a folder of its own."""

import os

from clipsearch.store.files import derived_pointer

INDEX_FOLDERS = {"images": "index", "texts": "text-index"}  # kind of rows → folder in the collection


def read_index_pointer(path: str, kind: str = "images") -> bytes | None:
    """Return the content of the file ``CURRENT`` that names a collection's built index; None where there is none."""
    return derived_pointer(os.path.join(path, INDEX_FOLDERS[kind]))
