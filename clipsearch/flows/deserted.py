"""Folders that stand empty where many pictures were: unmounted, more likely than emptied.

A drive that is not mounted leaves an empty folder behind, or a link that leads nowhere. A person who is done with
pictures deletes the folder with them, or moves them to where a scan meets them again. So the rows of a folder that is
still there, with nothing left in it, are kept, and the run says so; those of a folder that is gone go.
"""

import os
from collections.abc import Mapping

from clipsearch.scan.folder import PRUNED
from clipsearch.store import KnownFile
from clipsearch.types import display_path

LEAST = 20  # pictures that a folder held; one that held fewer was emptied, and is quickly indexed again
_NAMED = 3


def take_deserted(gone: dict[int, KnownFile], places: Mapping[int, bytes], root: bytes) -> dict[int, bytes]:
    """Take the rows of folders that stand empty out of those that are gone.

    Args:
        gone: rows that a scan did not meet, by id; changed.
        places: the absolute path of each.
        root: absolute path of the source; folders below it are looked at.

    Returns:
        Of each row taken out, by id, the folder that stands empty.
    """
    found: dict[bytes, list[int]] = {}
    known: dict[bytes, bytes | None] = {}
    for id_, row in gone.items():
        if row.member is None:
            folder = _standing(os.path.dirname(places[id_]), root.rstrip(b"/"), known)
            if folder is not None:
                found.setdefault(folder, []).append(id_)
    kept: dict[int, bytes] = {}
    for folder, ids in found.items():
        if len(ids) >= LEAST and _is_empty(folder):
            kept |= dict.fromkeys(ids, folder)
    for id_ in kept:
        del gone[id_]
    return kept


def notes_on(kept: Mapping[int, bytes], root: bytes) -> list[str]:
    """Return one sentence on the folders whose rows were kept; none where there is none."""
    if not kept:
        return []
    start = len(root.rstrip(b"/")) + 1
    folders = sorted(set(kept.values()))
    named = ", ".join(display_path(folder[start:]) for folder in folders[:_NAMED])
    more = f" and {len(folders) - _NAMED:,} more" if len(folders) > _NAMED else ""
    asked = "stands empty; is it mounted?" if len(folders) == 1 else "stand empty; are they mounted?"
    return [f"{named}{more} {asked} What is known from there was kept ({len(kept):,}); --prune-empty takes it out."]


def _standing(folder: bytes, root: bytes, known: dict[bytes, bytes | None]) -> bytes | None:
    """Return the folder, or else the nearest one above it below the root, that is still there; None where none is."""
    if folder in known:
        return known[folder]
    if len(folder) <= len(root):
        found = None
    elif os.path.lexists(folder):
        found = folder
    else:
        found = _standing(os.path.dirname(folder), root, known)
    known[folder] = found
    return found


def _is_empty(folder: bytes) -> bool:
    """Tell whether a folder holds nothing but what a scan passes over, or a link leads nowhere."""
    try:
        with os.scandir(folder) as entries:
            return all(entry.name.startswith(b".") or entry.name in PRUNED for entry in entries)
    except FileNotFoundError:
        return os.path.islink(folder)
    except OSError:  # a file by now, or it cannot be listed, which the scan has told
        return False
