"""Room 4: embeddings and metadata on disk, as Parquet shards under versioned manifests.

    store = Store.create("indexes/photos", {"name": "mini", "fingerprint": "..."}, dim=384)
    with store.writer() as writer:
        root = writer.root_id(b"/home/me/photos")
        writer.commit(images=[ImageRow(id=writer.new_ids(1)[0], root=root, path=b"cat.jpg", ...)])
    snapshot = store.snapshot()
    for block in snapshot.blocks("images"): ...

Writers commit whole versions (``writer.py``), readers keep the version they opened (``reader.py``), and any Parquet
reader can open the shards without this package (``parquet.py``).
"""

from clipsearch.store.added import AddedColumn
from clipsearch.store.columns import NO_HASH, Columns
from clipsearch.store.manifest import FileEntry, Manifest, Root
from clipsearch.store.overlay import overlay
from clipsearch.store.packing import update_packs
from clipsearch.store.reader import Snapshot, verify_files
from clipsearch.store.rows import ImageRow, KnownFile, KnownText, TextRow
from clipsearch.store.schema import FORMAT_VERSION
from clipsearch.store.skips import KnownSkip
from clipsearch.store.store import Store
from clipsearch.store.writer import Writer

__all__ = [
    "FORMAT_VERSION",
    "NO_HASH",
    "AddedColumn",
    "Columns",
    "FileEntry",
    "ImageRow",
    "KnownFile",
    "KnownSkip",
    "KnownText",
    "Manifest",
    "Root",
    "Snapshot",
    "Store",
    "TextRow",
    "Writer",
    "overlay",
    "update_packs",
    "verify_files",
]
