"""What a collection's files hold: columns, format version, numbered upgrades.

The columns are named here once, with plain names for their types; ``parquet.py`` turns them into an Arrow schema and
``sidecar.py`` into JSON. A new column is one line in ``COLUMNS``: it must be optional (rows written before have none),
so older collections stay readable and ``FORMAT_VERSION`` stays as it is.

``FORMAT_VERSION`` goes up by one when an older clipsearch would misread what is written now. Then ``UPGRADES`` gets
a function that turns the former version's manifest into the new one's; reading runs them in order.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from clipsearch.errors import CorruptShardError, FormatVersionError

FORMAT_VERSION = 1

Kind = Literal["images", "texts"]
KINDS: tuple[Kind, ...] = ("images", "texts")

COLUMNS: dict[str, dict[str, str]] = {
    "images": {
        "id": "int64",
        "root": "int32",
        "path": "bytes",
        "member": "bytes",
        "size": "int64",
        "mtime_ns": "int64",
        "ctime_ns": "int64",
        "content_hash": "hash",
        "width": "int32",
        "height": "int32",
        "format": "text",
        "taken": "time",
        "camera": "text",
        "lens": "text",
        "latitude": "float64",
        "longitude": "float64",
        "generated": "bool",
        "phash": "int64",
    },
    "texts": {
        "id": "int64",
        "image_id": "int64",
        "text": "text",
        "source": "bytes",
        "origins": "bytes",
    },
}
"""Metadata columns a kind. Parquet adds a display text of the path, ``indexed_at`` and ``embedding``."""

VISIBLE: dict[str, tuple[str, ...]] = {
    "images": (
        *("id", "path", "folder", "name", "size", "width", "height", "format"),
        *("taken", "camera", "lens", "latitude", "longitude", "indexed_at", "generated"),
    ),
    "texts": ("id", "image_id", "text", "source", "indexed_at"),
}
"""Columns that filters and SQL see, see ``metadata.py``: a new column of ``COLUMNS`` goes here as well."""

REQUIRED = {"id", "root", "path", "size", "mtime_ns", "ctime_ns", "content_hash", "text", "source"}

Document = dict[str, Any]  # Any: a manifest as JSON holds it

UPGRADES: dict[int, Callable[[Document], Document]] = {}
"""``{1: upgrade_1_to_2, ...}``: each takes the manifest of its version and returns that of the next one."""


def upgrade(
    document: Document,
    where: str,
    to: int = FORMAT_VERSION,
    upgrades: Mapping[int, Callable[[Document], Document]] = UPGRADES,
) -> Document:
    """Return a manifest as format version ``to`` writes it.

    Raises:
        FormatVersionError: the collection was written by a newer clipsearch.
        CorruptShardError: the format version is no version, or no upgrade is known for it.
    """
    version = document.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise CorruptShardError(f"The manifest {where} names no format version. {RESTORE}")
    if version > to:
        raise FormatVersionError(
            f"The collection has format version {version}; this clipsearch reads versions up to {to} ({where}).\n"
            "Install a newer clipsearch, or index the pictures into a new collection."
        )
    for step in range(version, to):
        if step not in upgrades:
            raise CorruptShardError(f"Format version {version} of {where} cannot be upgraded: step {step} is missing.")
        document = {**upgrades[step](document), "format_version": step + 1}
    return document


RESTORE = "'clipsearch verify' says what is damaged, and 'clipsearch repair' mends what can be had again."


def clean_text(text: str) -> str:
    r"""Return a text that UTF-8 can hold: a lone surrogate (from a file name, from EXIF) becomes ``\udcXX``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
