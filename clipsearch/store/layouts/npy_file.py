"""An ``.npy`` file written row by row: the bytes are those of ``numpy.save``."""

from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray


class NpyFile:
    """A ``.npy`` file whose shape is known before its rows are."""

    def __init__(self, path: str, shape: tuple[int, ...], dtype: Any) -> None:
        """Write the header.

        Args:
            path: file to make.
            shape: of the whole array.
            dtype: as numpy takes it.
        """
        self._dtype = np.dtype(dtype)
        self._left = int(np.prod(shape))
        self._file = open(path, "xb")  # noqa: SIM115  closed by close
        descr = npy_format.dtype_to_descr(self._dtype)
        npy_format.write_array_header_1_0(self._file, {"descr": descr, "fortran_order": False, "shape": shape})

    def write(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        self._left -= rows.size
        if rows.size:  # of no rows there is no view
            self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data.cast("B"))

    def close(self) -> None:
        """Close the file; raises ValueError where its header promised another number of rows."""
        self._file.close()
        if self._left:
            raise ValueError(f"{self._left} numbers are missing of what the header promised")

    def __enter__(self) -> "NpyFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()
