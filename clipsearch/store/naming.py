"""The folders of a collection and how the files in them are named: kind, version, and a token for each attempt."""

import os
import re

from clipsearch.store.files import is_temporary
from clipsearch.store.manifest import MANIFESTS

FOLDERS = (MANIFESTS, "embeddings", "sidecars", "deleted", "skipped", "imports")
ADDED = "columns/added"  # made when the first column is added; columns/ is that of the packs otherwise
_VERSIONED = re.compile(r"(?:v|(?:images|texts|deleted|skipped|imports|added)-)(\d{6,})(?:-[0-9a-f]+)?\.[a-z.]+")


def version_of(name: str) -> int:
    """Return the version in a file's name; 0 where there is none."""
    match = _VERSIONED.fullmatch(name)
    return 0 if match is None else int(match[1])


def remove_leftovers(path: str, version: int) -> None:
    """Remove what dead writers left behind; the caller holds the lock.

    Args:
        path: the collection.
        version: the version in force; 0 where there is none yet.
    """
    for folder in ("", *FOLDERS, ADDED):
        where = os.path.join(path, folder)
        for name in os.listdir(where) if os.path.isdir(where) else ():
            if is_temporary(name) or (folder and version_of(name) > version):
                os.unlink(os.path.join(where, name))
