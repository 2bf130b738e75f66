"""A collection on top of a version of another one: its pictures are there without a copy, and that one never changes.

Files of a version are immutable, so links to them do. (Hard links would change the times of the files that they are
links to, by which a collection knows that its files are whole; these are symbolic.) What is written goes into the new
folder alone, and to remove it is to remove that folder.
"""

import os
from dataclasses import replace

from clipsearch.store.files import DIR_MODE, stamp_of, storage_errors
from clipsearch.store.manifest import FileEntry, Root, publish
from clipsearch.store.naming import FOLDERS
from clipsearch.store.reader import Snapshot
from clipsearch.store.store import Store

_KINDS = ("images", "deleted", "sidecar")


def overlay(path: str, snapshot: Snapshot) -> Store:
    """Make a collection that has the pictures of a version of another one, under the same row ids; texts stay behind.

    Args:
        path: an empty folder, or one to make.
        snapshot: the version; its files must stay where they are.

    Raises:
        StorageError: the folder cannot be written.
    """
    old = snapshot.manifest
    kept = [entry for entry in old.files if entry.kind in _KINDS and _is_of_images(entry.of, entry.name)]
    files = [_stamped(snapshot, entry) for entry in kept]
    places = tuple(_placed(snapshot, root) for root in old.roots)
    counts = {**old.counts, "texts": 0}
    # the same number of version: a writer takes files of later ones for what a dead writer left
    manifest = replace(old, roots=places, files=tuple(files), counts=counts, previous=None, previous_sha256=None)
    with storage_errors(path):
        for folder in FOLDERS:
            os.makedirs(os.path.join(path, folder), DIR_MODE, exist_ok=True)
        for entry in files:
            os.symlink(os.path.join(os.path.abspath(snapshot.path), entry.name), os.path.join(path, entry.name))
        publish(path, manifest)
    return Store(os.path.abspath(path))


def _is_of_images(of: str | None, name: str) -> bool:
    return not (of or name).startswith("embeddings/texts-")


def _stamped(snapshot: Snapshot, entry: FileEntry) -> FileEntry:
    """Return a file with the stamp that it has now, if it is whole: so nobody looks at it again through the link."""
    if not snapshot.stamps.is_whole(entry.name, entry.bytes, entry.sha256, entry.stamp):
        return entry
    return replace(entry, stamp=stamp_of(os.path.join(snapshot.path, entry.name)))


def _placed(snapshot: Snapshot, root: Root) -> Root:
    """Return a root by where it is now: as seen from another folder it would be elsewhere."""
    return root if root.is_given else replace(root, absolute=snapshot.root_path(root.id), relative=None)
