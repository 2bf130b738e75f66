"""Files that the field keeps its benchmarks in: ann-benchmarks' HDF5, big-ann-benchmarks' ``.fbin`` and its kin.

Rows come back as they are, memory-mapped where they can be; the caller scales them to unit norm, for clipsearch
compares by cosine. So sets made for another distance (Euclidean) are refused, unless their rows have unit norm anyway.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {".fbin": np.float32, ".u8bin": np.uint8, ".i8bin": np.int8}


def read_bin(path: str) -> NDArray[Any]:
    """Return rows (N, D) of a big-ann file, memory-mapped: N and D as uint32, then the numbers.

    Raises:
        ValueError: the ending is not known, or the file has another size than it says.
    """
    dtype = TYPES.get(os.path.splitext(path)[1])
    if dtype is None:
        raise ValueError(f"{path} ends in none of {', '.join(TYPES)}.")
    n, dim = (int(x) for x in np.fromfile(path, np.uint32, 2))
    if os.path.getsize(path) != 8 + n * dim * np.dtype(dtype).itemsize:
        raise ValueError(f"{path} says {n} x {dim}, and its size says otherwise: it is not whole.")
    return np.memmap(path, dtype, "r", offset=8, shape=(n, dim))


def read_truth(path: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return ids (Q, k) and distances (Q, k) of a big-ann ground truth: Q and k as uint32, ids uint32, then float32.

    Raises:
        ValueError: the file has another size than it says.
    """
    n, k = (int(x) for x in np.fromfile(path, np.uint32, 2))
    if os.path.getsize(path) != 8 + n * k * 8:
        raise ValueError(f"{path} says {n} x {k}, and its size says otherwise: it is not whole.")
    ids = np.fromfile(path, np.uint32, n * k, offset=8).reshape(n, k).astype(np.int64)
    return ids, np.fromfile(path, np.float32, n * k, offset=8 + 4 * n * k).reshape(n, k)


def read_hdf5(path: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (train (N, D), test (Q, D)) of an ann-benchmarks file.

    Raises:
        ValueError: its distance is not an angle, and its rows have no unit norm.
    """
    import h5py

    with h5py.File(path, "r") as file:
        base, queries = file["train"][:], file["test"][:]
        distance = str(file.attrs.get("distance", "angular"))
    if distance != "angular":
        norms = np.linalg.norm(np.asarray(base[:1000], np.float64), axis=1)
        if np.abs(norms - 1).max() > 1e-3:
            raise ValueError(f"{path} is made for the distance {distance!r}; this suite compares by cosine.")
    return base, queries
