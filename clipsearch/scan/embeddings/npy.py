"""Embeddings in ``.npy`` files: read with plain reads, not mapped, so that memory stays flat however large they are."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.scan.embeddings import FileStamp, Rows, stamp


@dataclass(frozen=True, slots=True)
class Array:
    """The header of a ``.npy`` file that holds (rows, dim) floats."""

    path: bytes
    rows: int
    dim: int
    dtype: np.dtype[Any]
    offset: int
    in_columns: bool  # Fortran order

    def read(self, start: int, size: int) -> Iterator[NDArray[Any]]:
        """Yield the rows (n, dim) from a position on, at most ``size`` at a time, whole or not at all.

        Raises:
            InputError: the file is shorter than its header says.
        """
        if self.in_columns:
            mapped = np.load(self.path.decode(errors="surrogateescape"), mmap_mode="r", allow_pickle=False)
            for at in range(start, self.rows, size):
                yield np.ascontiguousarray(mapped[at : at + size])
            return
        with open(self.path, "rb") as file:
            file.seek(self.offset + start * self.dim * self.dtype.itemsize)
            for at in range(start, self.rows, size):
                n = min(size, self.rows - at)
                numbers = np.fromfile(file, self.dtype, n * self.dim)
                if len(numbers) < n * self.dim:
                    raise InputError(f"{os.fsdecode(self.path)} ended while it was read. Was it changed meanwhile?")
                yield numbers.reshape(n, self.dim)


def open_array(path: bytes) -> Array:
    """Read the header of a ``.npy`` file.

    Raises:
        InputError: it is no 2-D array of floats, or cut off.
    """
    shown = os.fsdecode(path)
    try:
        with open(path, "rb") as file:
            shape, in_columns, dtype = _header(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except (ValueError, EOFError) as problem:
        raise InputError(
            f"{shown} is no .npy file: {' '.join(str(problem).split())}. Give one of numpy.save."
        ) from None
    if len(shape) != 2 or dtype.kind != "f" or dtype.itemsize > 8 or not shape[1]:
        raise InputError(
            f"{shown} holds {dtype} of shape {shape}.\n"
            "Embeddings are a 2-D array of float16, float32 or float64, one row a picture."
        )
    if size < offset + shape[0] * shape[1] * dtype.itemsize:
        raise InputError(f"{shown} is cut off: its header promises {shape[0]:,} rows. Get the file again.")
    return Array(path, shape[0], shape[1], dtype, offset, in_columns)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(file)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    return read(file)


@dataclass(frozen=True, slots=True)
class NpyPart:
    """The rows of one array; each is called by its file and number."""

    name: str
    files: tuple[FileStamp, ...]
    rows: int
    dim: int
    array: Array

    def read(self, start: int, size: int) -> Iterator[Rows]:
        """Yield the rows from a position on, at most ``size`` at a time."""
        for block in self.array.read(start, size):
            yield Rows(start, block, columns={"path": numbered(self.files[0].name, start, len(block))})
            start += len(block)


def numbered(name: bytes, start: int, n: int) -> list[bytes]:
    """Return what rows without a path are called."""
    return [b"%b::%d" % (name, row) for row in range(start, start + n)]


def open_part(path: bytes, name: bytes) -> NpyPart:
    """Open one file as a part."""
    array = open_array(path)
    return NpyPart(os.fsdecode(name), (stamp(path, name),), array.rows, array.dim, array)
