"""Lists on the disk: parts that are saved while building, joined into one file without ever lying in memory.

faiss can merge lists too, but in memory, or into a file that it maps and writes through the map: a full disk then ends
the process (SIGBUS), and every page it touched counts as memory. So the joining is done here, by copying. The section
of a faiss file that holds lists one after the other ("ilar") is simple and comes last in the file:

    "ilar"  number of lists  bytes a code  "full" or "sprs"  lengths     then, list after list, codes and int64 ids

A *part* is such a section alone. The file joined from parts is, byte for byte, the one that faiss writes for the same
rows added in the same order; there is a test for that, and faiss reads it (or maps it) as any other. Everything is
written through a function of ours, whose errors come out as they are: faiss's own writer says nothing useful of a disk
that is full.
"""

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import CorruptShardError
from clipsearch.index.costs import BUFFER_BYTES
from clipsearch.index.faiss_library import load_faiss
from clipsearch.index.recipe import Recipe
from clipsearch.types import Ints

Write = Callable[[bytes | memoryview], None]
Tell = Callable[[int, int], None]
PIECE = 1 << 20  # bytes that faiss hands over at once
_HEAD = struct.Struct("<4sQQ4sQ")  # "ilar", lists, bytes a code, "full" or "sprs", numbers that follow


@dataclass(frozen=True, slots=True)
class ListsFile:
    """Lists in a file.

    Attributes:
        path: the file.
        sizes: (nlist,) rows in each list.
        start: byte where the first list begins.
        code_bytes: bytes a code.
    """

    path: str
    sizes: Ints
    start: int
    code_bytes: int

    @property
    def n(self) -> int:
        """Rows in all lists."""
        return int(self.sizes.sum())


def write_index(index: Any, write: Write) -> None:
    """Write a faiss index as the content of a file, a piece at a time; what ``write`` raises comes through."""
    faiss = load_faiss()
    faiss.write_index(index, faiss.PyCallbackIOWriter(write, PIECE))


def write_part(index: Any, write: Write) -> None:
    """Write the lists of a plain index alone."""
    faiss = load_faiss()
    faiss.write_InvertedLists(faiss.extract_index_ivf(index).invlists, faiss.PyCallbackIOWriter(write, PIECE))


def read_plain(path: str) -> Any:
    """Read an index that takes rows; its digest was checked.

    Raises:
        CorruptShardError: faiss cannot read it.
    """
    try:
        return load_faiss().read_index(path)
    except RuntimeError as problem:
        raise CorruptShardError(f"The index file {path} is damaged: faiss cannot read it.") from problem


def emptied(path: str) -> Any:
    """Return the index of a file without its rows, ready for others; the lists are mapped and not read."""
    faiss = load_faiss()
    index = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)
    ivf = faiss.extract_index_ivf(index)
    lists = faiss.ArrayInvertedLists(ivf.nlist, ivf.code_size)
    ivf.replace_invlists(lists, True)
    lists.this.disown()
    index.ntotal = ivf.ntotal = 0
    return index


def open_part(path: str, start: int = 0) -> ListsFile:
    """Read the lengths of the lists of a part, or of the section of a file that begins at a byte.

    Raises:
        CorruptShardError: it is no such section, or too short.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            kind, nlist, code_bytes, how, count = _HEAD.unpack(file.read(_HEAD.size))
            numbers = np.frombuffer(file.read(8 * count), "<u8").astype(np.int64)
            at = file.tell()
        if kind != b"ilar" or how not in (b"full", b"sprs"):
            raise ValueError(f"it begins with {kind!r}, {how!r}")
        sizes = numbers if how == b"full" else np.zeros(nlist, np.int64)
        if how == b"sprs":
            sizes[numbers[::2]] = numbers[1::2]
        found = ListsFile(path, sizes, at, code_bytes)
        if len(sizes) != nlist or os.path.getsize(path) != at + found.n * (code_bytes + 8):
            raise ValueError("its lengths do not add up")
    except (ValueError, IndexError, struct.error) as problem:
        raise CorruptShardError(f"The lists in {path} are damaged: {problem}.") from problem
    return found


def open_lists(path: str) -> ListsFile:
    """Find the lists in a whole index file, whose lists come last."""
    faiss = load_faiss()
    index = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)  # held: what is taken out of it lives as long as it does
    ivf = faiss.extract_index_ivf(index)
    sizes = np.array([ivf.invlists.list_size(i) for i in range(ivf.nlist)], np.int64)
    code_bytes = ivf.code_size
    return ListsFile(path, sizes, os.path.getsize(path) - int(sizes.sum()) * (code_bytes + 8), code_bytes)


def join(index: Any, files: Sequence[ListsFile], write: Write, tell: Tell | None = None) -> float:
    """Write the index file of all rows of some files, in their order; memory holds a buffer of 64 MB.

    Args:
        index: an empty faiss index of the kind, for what comes before the lists; its ``ntotal`` is set.
        files: the parts.
        write: takes the file's bytes one after the other.
        tell: hears the lists done and all lists.

    Returns:
        The imbalance of the lists: 1 where all are equally long.
    """
    sizes = np.sum([file.sizes for file in files], axis=0)
    write(_before_lists(index, int(sizes.sum())))
    write(_lists_head(sizes, files[0].code_bytes))
    for first, last in _ranges(sizes, files[0].code_bytes):
        write(_joined(files, sizes, first, last))
        if tell is not None:
            tell(last, len(sizes))
    return imbalance(sizes)


def finish(recipe: Recipe, path: str, write: Write) -> None:
    """Write a joined file again in fast-scan order: the one step for which the lists must fit into memory."""
    from clipsearch.index.training import packed

    faiss = load_faiss()
    write_index(packed(recipe, faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)), write)


def imbalance(sizes: Ints) -> float:
    """Return how uneven lists of some sizes (nlist,) are: 1 where all are equally long."""
    total = float(sizes.sum())
    return float((sizes.astype(np.float64) ** 2).sum() * len(sizes) / total**2) if total else 1.0


def _before_lists(index: Any, n: int) -> bytes:
    """Return the bytes of an index file that come before its lists."""
    faiss = load_faiss()
    ivf = faiss.extract_index_ivf(index)
    index.ntotal = ivf.ntotal = n
    whole, lists = _bytes_of(lambda write: write_index(index, write)), _bytes_of(lambda write: write_part(index, write))
    index.ntotal = ivf.ntotal = 0
    if not whole.endswith(lists):
        raise AssertionError("this version of faiss writes something after the lists")
    return whole[: -len(lists)]


def _bytes_of(writing: Callable[[Write], None]) -> bytes:
    pieces: list[bytes] = []
    writing(lambda data: pieces.append(bytes(data)))
    return b"".join(pieces)


def _lists_head(sizes: Ints, code_bytes: int) -> bytes:
    there = np.flatnonzero(sizes)
    if len(there) > len(sizes) // 2:
        how, numbers = b"full", sizes
    else:
        how, numbers = b"sprs", np.stack([there, sizes[there]], axis=1).ravel()
    return _HEAD.pack(b"ilar", len(sizes), code_bytes, how, len(numbers)) + numbers.astype("<u8").tobytes()


def _ranges(sizes: Ints, code_bytes: int) -> list[tuple[int, int]]:
    """Cut the lists into ranges whose content fits the buffer; a list larger than that is a range of its own."""
    ranges, first, held = [], 0, 0
    for number, size in enumerate((sizes * (code_bytes + 8)).tolist()):
        if held and held + size > BUFFER_BYTES:
            ranges.append((first, number))
            first, held = number, 0
        held += size
    return [*ranges, (first, len(sizes))]


def _joined(files: Sequence[ListsFile], sizes: Ints, first: int, last: int) -> memoryview:
    """Return the lists ``first`` to ``last``: of each its codes out of all files, then its ids out of all files."""
    width = files[0].code_bytes
    starts = np.concatenate([[0], np.cumsum(sizes[first:last])])  # row of this range at which each list begins
    out = np.empty(int(starts[-1]) * (width + 8), np.uint8)
    codes_at = starts[:-1] * (width + 8)
    ids_at = codes_at + sizes[first:last] * width
    for file in files:
        with open(file.path, "rb") as source:
            source.seek(file.start + int(file.sizes[:first].sum()) * (width + 8))
            _copy(source, file.sizes[first:last], width, out, codes_at, ids_at)
        codes_at = codes_at + file.sizes[first:last] * width
        ids_at = ids_at + file.sizes[first:last] * 8
    return out.data


def _copy(source: BinaryIO, sizes: Ints, width: int, out: NDArray[np.uint8], codes_at: Ints, ids_at: Ints) -> None:
    """Put the lists of one file, read one after the other, where they belong."""
    for size, codes, ids in zip(sizes.tolist(), codes_at.tolist(), ids_at.tolist(), strict=True):
        if size:
            _read_into(source, out[codes : codes + size * width])
            _read_into(source, out[ids : ids + size * 8])


def _read_into(source: BinaryIO, place: NDArray[np.uint8]) -> None:
    if source.readinto(place.data) != len(place):  # pyright: ignore[reportAttributeAccessIssue]
        raise CorruptShardError("A part of the index ends too early.")
