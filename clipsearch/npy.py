"""Arrays in the .npy files that clipsearch wrote, read without a parser of Python.

numpy reads the header of such a file, a Python literal, by ``ast.literal_eval``. In some releases of CPython 3.11 and
3.12 two threads that do so at once may fail: "AST constructor recursion depth mismatch". Searches may run in any number
of threads, and open files there, so the one form that numpy writes is read here, by a regular expression. It is quicker
too. Nothing can be unpickled.
"""

import io
import math
import mmap
import os
import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"
_LENGTHS = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # bytes of the header's length, by version
_FORM = re.compile(
    rb"\{'descr': '([<>|=]?[biufcSU]\d{1,6})', 'fortran_order': (True|False), 'shape': \(((?:\d+, ?)*\d*)\), \}\s*\n"
)
_LONGEST = 1 << 16


class Header(NamedTuple):
    """What an .npy file says of its array; ``start`` is the place of the first number, in bytes."""

    start: int
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def load_npy(source: str | os.PathLike[str] | bytes) -> NDArray[Any]:
    """Return the array of a file, named or given as its bytes.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no array, or not as long as it says.
    """
    if isinstance(source, bytes):
        return _array(source).copy(order="K")
    with open(source, "rb") as file:
        header = _read_header(file.read(_LONGEST))
        n = math.prod(header.shape)
        _check(header, os.fstat(file.fileno()).st_size)
        file.seek(header.start)
        return np.fromfile(file, header.dtype, n).reshape(header.shape, order="F" if header.fortran else "C")


def map_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Map the array of a file into memory, read-only.

    The array is a plain one, without np.memmap's bookkeeping at each slice; it keeps the map alive.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no array, or not as long as it says.
    """
    with open(path, "rb") as file:
        return _array(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def load_npz(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file's bytes, by name.

    Raises:
        ValueError: it is none.
    """
    import zipfile  # most searches have no use for it
    import zlib

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name.removesuffix(".npy"): load_npy(archive.read(name)) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as problem:
        raise ValueError(f"it is no file of arrays: {problem}") from problem


def _array(content: bytes | mmap.mmap) -> NDArray[Any]:
    header = _read_header(content[:_LONGEST])
    _check(header, len(content))
    numbers = np.frombuffer(content, header.dtype, math.prod(header.shape), header.start)
    return numbers.reshape(header.shape, order="F" if header.fortran else "C")


def _check(header: Header, size: int) -> None:
    if header.start + math.prod(header.shape) * header.dtype.itemsize > size:
        raise ValueError("it ends before its array does")


def _read_header(start: bytes) -> Header:
    """Read the header at the start of a file."""
    width = _LENGTHS.get(start[6:8], 0)
    if not start.startswith(_MAGIC) or not width:
        raise ValueError("it is no .npy file of a known version")
    end = 8 + width + int.from_bytes(start[8 : 8 + width], "little")
    return _parsed(start[8 + width : end], end)


@cache
def _parsed(text: bytes, end: int) -> Header:
    """Parse a header's text; shards of one size say the same."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("its header is none that clipsearch writes")
    shape = tuple(int(length) for length in match[3].replace(b" ", b"").split(b",") if length)
    return Header(end, shape, match[2] == b"True", np.dtype(match[1].decode()))
