"""clip-retrieval's embeddings folder: ``img_emb/``, ``text_emb/`` and ``metadata/``, partition by partition.

Row *i* of ``img_emb_p.npy``, ``text_emb_p.npy`` and ``metadata_p.parquet`` is the same sample, and a sample's id is
its position in the *lexicographic* order of the files. Three things break that silently, and are refused here before
anything is read: files of a partition with different row counts, partition numbers padded to different widths (``_10``
sorts before ``_9``), and a partition that is missing.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.scan.embeddings import FileStamp, Rows, stamp
from clipsearch.scan.embeddings.metadata import Chosen, choose, chunks, look_into
from clipsearch.scan.embeddings.npy import Array, open_array

KINDS = {"img_emb": b".npy", "text_emb": b".npy", "metadata": b".parquet"}
_GIVE = "Give the embeddings folder that 'clip-retrieval inference' wrote, complete."


@dataclass(frozen=True, slots=True)
class Partition:
    """The files of one partition, of equally many rows."""

    name: str
    files: tuple[FileStamp, ...]
    rows: int
    dim: int
    images: Array
    texts: Array | None
    metadata: bytes
    chosen: Chosen

    def read(self, start: int, size: int) -> Iterator[Rows]:
        """Yield the rows from a position on, at most ``size`` at a time."""
        images = self.images.read(start, size)
        texts = None if self.texts is None else self.texts.read(start, size)
        for block, table in zip(images, self._tables(start, size), strict=True):
            columns = self.chosen.values(table, self.files[0].name, start)
            if texts is None:
                columns.pop("caption", None)
            yield Rows(start, block, None if texts is None else next(texts), columns)
            start += len(block)

    def _tables(self, start: int, size: int) -> Iterator[Any]:
        return chunks(self.metadata, self.chosen.sources, start, size)


def is_layout(names: Sequence[bytes]) -> bool:
    """Tell by the names in a folder whether it is such a folder, or the folder of an index."""
    return b"img_emb" in names or b"text_emb" in names or b"image.index" in names


def open_parts(place: bytes, allow_gaps: bool) -> tuple[list[Partition], tuple[str, ...]]:
    """Open all partitions and check that they fit together; also returns what a person should know.

    Raises:
        SourceNotFoundError: there are no image embeddings.
        InputError: files are missing, named so that their order is lost, or of different row counts.
    """
    found = {kind: _numbered(place, kind) for kind in KINDS}
    if not found["img_emb"]:
        index = os.path.exists(os.path.join(place, b"image.index"))
        what = "is the folder of an index, whose codes are not the embeddings" if index else "has no img_emb/*.npy"
        raise SourceNotFoundError(f"{os.fsdecode(place)!r} {what}.\n{_GIVE}")
    _check_padding(found)
    numbers = _check_partitions(place, found, allow_gaps)
    parts = [_open(place, {kind: names[number] for kind, names in found.items() if names}) for number in numbers]
    if found["text_emb"] and not all("caption" in part.chosen.columns for part in parts):
        raise InputError(
            f"{os.fsdecode(place)} has text_emb/, but the tables in metadata/ have no column 'caption'.\n{_GIVE}"
        )
    others = sorted({name for part in parts for name in _left(part)})
    return parts, (f"Columns that were left out: {', '.join(others)}.",) if others else ()


def open_pair(place: bytes, array: bytes, table: bytes) -> Partition:
    """Open an array and the table of its rows, which lie side by side.

    Raises:
        InputError: they have different row counts.
    """
    return _open(place, {"img_emb": array, "metadata": table})


def _numbered(place: bytes, kind: str) -> dict[str, bytes]:
    """Return the files of a kind by their partition number as it is written, in the order of their names."""
    folder, pattern = kind.encode(), re.compile(rb"%b_(\d+)%b" % (kind.encode(), re.escape(KINDS[kind])))
    try:
        names = sorted(os.listdir(os.path.join(place, folder)))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    matches = [(pattern.fullmatch(name), name) for name in names]
    return {match[1].decode(): os.path.join(folder, name) for match, name in matches if match}


def _check_padding(found: Mapping[str, Mapping[str, bytes]]) -> None:
    by_width: dict[int, bytes] = {}
    for names in found.values():
        for number, name in names.items():
            by_width.setdefault(len(number), name)
    if len(by_width) > 1:
        one, other = [os.fsdecode(name) for _, name in sorted(by_width.items())][:2]
        raise InputError(
            f"Partition numbers are padded to different widths: {one}, {other}.\n"
            "Sorted by name, as the ids are, rows would stand beside the wrong metadata.\n"
            "Rename the files so that all numbers have equally many digits."
        )


def _check_partitions(place: bytes, found: Mapping[str, Mapping[str, bytes]], allow_gaps: bool) -> list[str]:
    """Return the numbers of the partitions, as written; each has a file of every kind that there is."""
    everywhere = sorted({number for names in found.values() for number in names})
    for kind in ("img_emb", "metadata", *(["text_emb"] if found["text_emb"] else [])):
        missing = [number for number in everywhere if number not in found[kind]]
        if missing:
            suffix = KINDS[kind].decode()
            raise InputError(
                f"{os.fsdecode(place)} lacks {kind}/{kind}_{missing[0]}{suffix}"
                f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}, while the partition has other files.\n"
                f"{_GIVE}"
            )
    width = len(everywhere[0])
    there = set(everywhere)
    gaps = [n for n in range(int(everywhere[-1])) if f"{n:0{width}}" not in there]
    if gaps and not allow_gaps:
        raise InputError(
            f"{os.fsdecode(place)} has a partition {everywhere[-1]}, but not {gaps[0]:0{width}}"
            f"{f' and {len(gaps) - 1} more' if len(gaps) > 1 else ''}.\n"
            "Get what is missing, or say --allow-gaps to take what is there."
        )
    return everywhere


def _open(place: bytes, names: Mapping[str, bytes]) -> Partition:
    """Read the headers of a partition's files and compare their row counts."""
    paths = {kind: os.path.join(place, name) for kind, name in names.items()}
    images = open_array(paths["img_emb"])
    texts = open_array(paths["text_emb"]) if "text_emb" in paths else None
    schema, rows = look_into(paths["metadata"])
    counts = {"img_emb": images.rows, "metadata": rows} | ({} if texts is None else {"text_emb": texts.rows})
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{os.fsdecode(names[kind])} has {n:,}" for kind, n in counts.items())
        raise InputError(f"A partition's files must have equally many rows: {told}.\n{_GIVE}")
    if texts is not None and texts.dim != images.dim:
        raise InputError(
            f"{os.fsdecode(names['text_emb'])} has {texts.dim} numbers a row, {os.fsdecode(names['img_emb'])} "
            f"{images.dim}.\nBoth must come from one model."
        )
    stamps = tuple(stamp(paths[kind], name) for kind, name in names.items())
    name = os.fsdecode(names["img_emb"])
    return Partition(name, stamps, rows, images.dim, images, texts, paths["metadata"], choose(schema.names))


def _left(part: Partition) -> set[str]:
    names = set(look_into(part.metadata)[0].names)
    used = {*part.chosen.sources} if part.texts is not None else {*part.chosen.sources} - {"caption", "text"}
    return names - used
