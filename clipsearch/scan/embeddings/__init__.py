"""Ready embeddings on the disk: what other tools computed, to be taken over without opening a picture.

| source | its rows |
|---|---|
| ``x.npy``, a folder of such files | a 2-D array each, float16, float32 or float64; a row is called ``x.npy::17`` |
| a folder with ``embeddings.npy`` and ``metadata.parquet`` | the array, and row by row what is known of it |
| ``x.parquet``, a folder of such files | a column of lists; other columns as below |
| clip-retrieval's embeddings folder | ``img_emb/``, ``text_emb/``, ``metadata/``, partition by partition |

A source is a list of *parts*, in the order of their names, each read block by block from any row on: a run that was
killed goes on in the middle of a part. Everything that can be known without reading the rows (counts, dimensions,
names) is checked when the source is opened, so nothing is taken over from a source that does not fit together.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from clipsearch.errors import InputError, SourceNotFoundError

__all__ = ["EmbeddingSource", "FileStamp", "Part", "Rows", "open_embeddings"]

PARQUET = (b".parquet", b".pq")


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file of a part: name below the source's folder, and what tells that it changed."""

    name: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of a part.

    Attributes:
        start: position of the first in the part.
        images: (n, D) float16, float32 or float64, of any norm; a row of NaN where there is no embedding.
        texts: (n, D) likewise, of the captions; None where the source has none.
        columns: n values each of the collection's columns that the source knows: "path" (bytes), "width", ...;
            "caption" (str or None) beside ``texts``.
    """

    start: int
    images: NDArray[Any]  # Any: one of three float types
    texts: NDArray[Any] | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class Part(Protocol):
    """Rows that are kept together: a file, or the files of one partition.

    Attributes:
        name: what a person calls it, the name of its file of image embeddings.
        files: all its files.
        rows: how many.
        dim: numbers in an embedding.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def files(self) -> tuple[FileStamp, ...]: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102

    def read(self, start: int, size: int) -> Iterator[Rows]:
        """Yield the rows from a position on, at most ``size`` at a time."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingSource:
    """A source that fits together.

    Attributes:
        place: absolute path of the file or folder.
        name: what a collection of it is called by default.
        parts: in the order of their names.
        dim: numbers in an embedding, the same in all parts.
        notes: what a person should know of it.
    """

    place: bytes
    name: str
    parts: tuple[Part, ...]
    dim: int
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in all parts."""
        return sum(part.rows for part in self.parts)


def open_embeddings(
    where: str | os.PathLike[str], *, column: str | None = None, allow_gaps: bool = False
) -> EmbeddingSource:
    """Open a file or folder of ready embeddings and check that it fits together.

    Args:
        where: see the table above.
        column: the column of embeddings in Parquet files; None takes "embedding".
        allow_gaps: take a clip-retrieval folder with partitions missing between others.

    Raises:
        SourceNotFoundError: there is nothing of that name, or no embeddings in it.
        InputError: files do not fit each other, with their names.
    """
    place = os.path.abspath(os.fsencode(where))
    shown = os.fsdecode(place)
    try:
        parts, notes = _parts(place, column, allow_gaps)
    except OSError as problem:
        raise SourceNotFoundError(
            f"The embeddings at {shown!r} cannot be read: {problem.strerror or problem}.\n"
            "Give a .npy or .parquet file, a folder of such files, or clip-retrieval's embeddings folder."
        ) from problem
    dims = {part.dim: part.name for part in parts}
    if len(dims) > 1:
        (a, one), (b, other) = list(dims.items())[:2]
        raise InputError(
            f"The embeddings in {shown} are not of one dimension: {one} has {a}, {other} has {b}.\n"
            "One collection holds the embeddings of one model. Import them into two."
        )
    stem = os.path.basename(place) if os.path.isdir(place) else os.path.splitext(os.path.basename(place))[0]
    return EmbeddingSource(place, os.fsdecode(stem), tuple(parts), next(iter(dims)), notes)


def _parts(place: bytes, column: str | None, allow_gaps: bool) -> tuple[Sequence[Part], tuple[str, ...]]:
    """Tell the kind of a source by what is there, and open its parts."""
    from clipsearch.scan.embeddings import clip_retrieval, npy, table

    if not os.path.isdir(place):
        os.stat(place)
        if place.lower().endswith(b".npy"):
            return [npy.open_part(place, os.path.basename(place))], ()
        if place.lower().endswith(PARQUET):
            return [table.open_part(place, os.path.basename(place), column)], ()
        raise SourceNotFoundError(
            f"{os.fsdecode(place)!r} is neither a .npy nor a .parquet file.\n"
            "Give one of these, a folder of them, or clip-retrieval's embeddings folder."
        )
    names = sorted(name for name in os.listdir(place) if not name.startswith(b"."))
    if clip_retrieval.is_layout(names):
        return clip_retrieval.open_parts(place, allow_gaps)
    if {b"embeddings.npy", b"metadata.parquet"} <= set(names):
        return [clip_retrieval.open_pair(place, b"embeddings.npy", b"metadata.parquet")], ()
    arrays = [name for name in names if name.lower().endswith(b".npy")]
    tables = [name for name in names if name.lower().endswith(PARQUET)]
    if arrays and tables:
        raise InputError(
            f"{os.fsdecode(place)} holds both .npy and .parquet files, and nothing says how they belong together.\n"
            "Give one of the files, or name them embeddings.npy and metadata.parquet."
        )
    if not arrays and not tables:
        raise SourceNotFoundError(
            f"There are no embeddings in {os.fsdecode(place)!r}: no .npy, no .parquet, no img_emb folder.\n"
            "To embed pictures, leave out --embeddings."
        )
    if arrays:
        return [npy.open_part(os.path.join(place, name), name) for name in arrays], ()
    return [table.open_part(os.path.join(place, name), name, column) for name in tables], ()


def stamp(path: bytes, name: bytes) -> FileStamp:
    """Return the stamp of a file that is called ``name`` in its source."""
    status = os.stat(path)
    return FileStamp(name, status.st_size, status.st_mtime_ns)
