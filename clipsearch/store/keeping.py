"""Which versions are kept once rows have moved to other files, and what is removed.

A collection that only grows never removes a file: each version names the files of the one before, and some more. After
a compaction the version in force and the one before it are kept, with all that they name; what is named by neither
goes. A process that has an older version open goes on with what it has mapped into memory.
"""

import os
from collections.abc import Iterator

from clipsearch.errors import CorruptShardError
from clipsearch.store.files import read_bytes, sha256
from clipsearch.store.manifest import MANIFESTS, Manifest, file_name, from_bytes
from clipsearch.store.naming import ADDED, FOLDERS, version_of


def remove_unkept(path: str, manifest: Manifest) -> int:
    """Remove the manifests and files that are no longer kept, and return the bytes that are free now.

    The caller holds the lock. Where the version before is there and cannot be read, nothing is removed.
    """
    try:
        before = _before(path, manifest)
    except (OSError, CorruptShardError):
        return 0
    kept = {f"{MANIFESTS}/{file_name(one.version)}" for one in (manifest, before) if one is not None}
    kept |= {entry.name for one in (manifest, before) if one is not None for entry in one.files}
    freed = 0
    for name in _versioned(path, manifest.version):
        if name not in kept:
            where = os.path.join(path, name)
            freed += os.stat(where).st_size
            os.unlink(where)
    return freed


def held_bytes(path: str, manifest: Manifest) -> int:
    """Return the bytes of files that are only kept for the version before."""
    try:
        before = _before(path, manifest)
    except (OSError, CorruptShardError):
        return 0
    now = {entry.name for entry in manifest.files}
    return 0 if before is None else sum(entry.bytes for entry in before.files if entry.name not in now)


def _before(path: str, manifest: Manifest) -> Manifest | None:
    """Return the version before; None where there is none.

    Raises:
        OSError: it cannot be read.
        CorruptShardError: it is not what was written.
    """
    if manifest.previous is None:
        return None
    where = os.path.join(path, MANIFESTS, file_name(manifest.previous))
    if not os.path.lexists(where):
        return None
    data = read_bytes(where)
    if manifest.previous_sha256 not in (None, sha256(data)):
        raise CorruptShardError(f"The manifest {where} is not what was written: its digest differs.")
    return from_bytes(data, where)


def _versioned(path: str, version: int) -> Iterator[str]:
    """Yield the names of all files of versions up to one, manifests first: none of them may name what is gone."""
    for folder in (*FOLDERS, ADDED):
        where = os.path.join(path, folder)
        for name in sorted(os.listdir(where)) if os.path.isdir(where) else ():
            if 0 < version_of(name) <= version:
                yield f"{folder}/{name}"
