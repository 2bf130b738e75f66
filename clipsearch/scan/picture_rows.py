"""Pictures inside a Parquet file: a column of their bytes, as Hugging Face's data sets have it.

A picture is a member of the file, as one in a tar is: ``17`` for the bytes in row 17, ``17/cat.jpg`` where the row
names it. A scan looks at names only; bytes are read when they are to be decoded. Its size is left open (0), since
knowing it would mean reading everything: that the file is the same tells that its rows are.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.scan import Scanned, ScanOptions
from clipsearch.scan.names import absolute
from clipsearch.types import ImageRef, Skip, skip_reason

USUAL = ("bytes", "image", "image_bytes", "img", "img_bytes", "picture", "jpg", "png", "webp")
_BATCH = 64  # pictures in memory at a time
_NAME_BATCH = 65_536
_AHEAD = 1024  # rows that are rather passed over than sought


def picture_column(place: bytes, wanted: str | None) -> str | None:
    """Return the column of pictures of a Parquet file, or None where it has none, or ``wanted`` is none.

    A column of bytes may be one of paths: a path has no NUL byte, and a picture has. A file that cannot be opened has
    no such column.
    """
    import pyarrow as arrow  # slow to import, and most sources do not need it
    import pyarrow.parquet as parquet

    try:
        with open(place, "rb") as raw, parquet.ParquetFile(raw) as file:
            schema = file.schema_arrow
            names = [wanted] if wanted is not None else [name for usual in USUAL for name in _called(schema, usual)]
            for name in names:
                if name in schema.names and _is_bytes(schema.field(name).type) and _holds_pictures(file, name):
                    return name
    except (OSError, arrow.ArrowException):
        pass  # the table of paths says what is wrong
    return None


@dataclass
class RowSource:
    """The pictures in one Parquet file, in the order of its rows."""

    root: bytes
    name: str
    path: bytes
    column: str
    kind: ClassVar[str] = "rows"

    @classmethod
    def open(cls, where: bytes, options: ScanOptions) -> "RowSource":
        """Return the source; raises SourceNotFoundError where there is no such column."""
        place = absolute(where)
        column = picture_column(place, options.column)
        if column is None:
            raise SourceNotFoundError(
                f"{os.fsdecode(where)!r} has no column of pictures (bytes, or structs with bytes).\n"
                "Say which one it is: --column NAME."
            )
        root, path = os.path.split(place)
        return cls(root, os.fsdecode(os.path.splitext(path)[0]), path, column)

    def covers(self, path: bytes, member: bytes | None) -> bool:
        """All rows of this file are met."""
        return member is not None and path == self.path

    def scan(self) -> Iterator[Scanned]:
        """Walk the rows without their bytes."""
        import pyarrow.parquet as parquet

        try:
            with open(os.path.join(self.root, self.path), "rb") as raw, parquet.ParquetFile(raw) as file:
                status = os.fstat(raw.fileno())
                for row, name in enumerate(_names(file, self.column)):
                    member = b"%d/%b" % (row, name) if name else b"%d" % row
                    yield ImageRef(self.root, self.path, member, 0, status.st_mtime_ns, status.st_ctime_ns, row)
        except OSError as error:
            yield Skip(self.path, skip_reason(error), error.strerror or str(error))

    def load(self, refs: Iterable[ImageRef]) -> Iterator[bytes]:
        """Yield the bytes of rows; going back costs a second look at a row group.

        Raises:
            InputError: the file changed since it was scanned, or is damaged.
        """
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        place = os.path.join(self.root, self.path)
        try:
            with open(place, "rb") as raw, parquet.ParquetFile(raw) as file:
                status, rows = os.fstat(raw.fileno()), _Rows(file, self.column)
                for ref in refs:
                    if (ref.mtime_ns, ref.ctime_ns) != (status.st_mtime_ns, status.st_ctime_ns):
                        raise InputError(f"{os.fsdecode(place)} changed while it was read. Run the command again.")
                    yield rows.at(ref.offset)
        except (OSError, arrow.ArrowException) as error:
            raise InputError(
                f"{os.fsdecode(place)} cannot be read: {str(error).splitlines()[0]}\nWhat was finished before is kept."
            ) from error


class _Rows:
    """The cells of a column by row number, a batch in memory at a time."""

    def __init__(self, file: Any, column: str) -> None:  # Any: a ParquetFile
        self._file, self._column = file, column
        self._starts = [0]
        for group in range(file.num_row_groups):
            self._starts.append(self._starts[-1] + file.metadata.row_group(group).num_rows)
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = ()
        self._first = 0  # row that the batch begins with

    def at(self, row: int) -> bytes:
        """Return the bytes in a row, none where it has none."""
        if not len(self._batch) or not self._first <= row < self._first + _AHEAD:
            self._seek(row)
        while row >= self._first + len(self._batch):
            self._first += len(self._batch)
            self._batch = next(self._batches)
        cell = self._batch.column(0)[row - self._first].as_py()
        return (cell.get("bytes") if isinstance(cell, dict) else cell) or b""

    def _seek(self, row: int) -> None:
        """Begin at the row group that holds a row."""
        group = next(at for at in range(len(self._starts) - 1) if row < self._starts[at + 1])
        groups = list(range(group, self._file.num_row_groups))
        self._batches = self._file.iter_batches(batch_size=_BATCH, row_groups=groups, columns=[self._column])
        self._first, self._batch = self._starts[group], next(self._batches)


def _called(schema: Any, usual: str) -> list[str]:
    return [name for name in schema.names if name.strip().lower() == usual]


def _is_bytes(type_: Any) -> bool:  # Any: an Arrow type
    import pyarrow.types as types

    if types.is_struct(type_):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in type_)
    return types.is_binary(type_) or types.is_large_binary(type_)


def _holds_pictures(file: Any, column: str) -> bool:  # Any: a ParquetFile
    import pyarrow.types as types

    if types.is_struct(file.schema_arrow.field(column).type):
        return True
    for batch in file.iter_batches(batch_size=8, columns=[column]):
        for cell in batch.column(0).to_pylist():
            if cell:
                return b"\0" in cell
    return False


def _names(file: Any, column: str) -> Iterator[bytes]:  # Any: a ParquetFile
    """Yield what each row calls its picture, "" where it does not."""
    import pyarrow.types as types

    type_ = file.schema_arrow.field(column).type
    named = types.is_struct(type_) and any(field.name == "path" and types.is_string(field.type) for field in type_)
    if not named:
        for _ in range(file.metadata.num_rows):
            yield b""
        return
    for batch in file.iter_batches(batch_size=_NAME_BATCH, columns=[f"{column}.path"]):
        for cell in batch.column(0).to_pylist():
            path = (cell or {}).get("path") or ""
            yield os.path.basename(path.encode("utf-8", "surrogateescape")).replace(b"\0", b"")
