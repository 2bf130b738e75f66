"""Groups of pictures that are alike: a table, JSON objects, and a line that sums them up.

A corridor's groups come as they are; this room asks only for their attributes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipsearch.present.json_lines import path_fields
from clipsearch.present.paths import nearest
from clipsearch.present.table import Column, shortened
from clipsearch.present.text import count, duration, file_size

COLUMNS = (
    Column("group", right=True),
    Column("class", style="36"),
    Column("keep"),
    Column("pixels", right=True),
    Column("size", right=True),
    Column("score", right=True),
    Column("path", fit=shortened),
)


Group = Any  # DuplicateGroup, which a corridor makes: kind, and files with the one to keep first


def duplicate_rows(groups: Sequence[Group], folder: str, exact: bool = False) -> list[list[str]]:
    """Return a row a file; paths are relative to ``folder`` where shorter, sizes in bytes where ``exact``."""
    return [
        [
            str(number),
            str(group.kind),
            "keep" if file.keep else "",
            f"{file.width}x{file.height}" if file.width else "",
            str(file.size) if exact else file_size(file.size),
            f"{file.score:.3f}",
            nearest(file.path, folder),
        ]
        for number, group in enumerate(groups, start=1)
        for file in group.files
    ]


def duplicate_objects(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """Yield a group as ``clipsearch.duplicates/1``."""
    for group in groups:
        yield {
            "schema": "clipsearch.duplicates/1",
            "class": str(group.kind),
            "files": [
                {
                    "id": file.id,
                    **path_fields(file.path),
                    "width": file.width,
                    "height": file.height,
                    "size": file.size,
                    "score": file.score,
                    "keep": file.keep,
                }
                for file in group.files
            ],
        }


def duplicate_summary(images: int, superfluous: Mapping[str, int], read: int, seconds: float) -> str:
    """Return what was found in one line."""
    found = ", ".join(f"{n:,} {kind}" for kind, n in superfluous.items())
    looked = f", {count(read, 'file')} opened" if read else ""
    whole = f"{count(images, 'image')}: besides the ones to keep {found}"
    return f"{whole} ({duration(seconds)}{looked}). Nothing was deleted."
