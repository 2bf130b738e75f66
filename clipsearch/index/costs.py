"""What building an index costs, said before it begins: memory, disk and time as figures, each an upper bound.

Building has four stages, and memory holds the largest of them, never their sum:

- *train*: the sample as float32, once more after the rotation, and what learning the codes takes;
- *add*: the lists of one part (a million rows at most) for each process, twice, for they grow by doubling;
- *merge*: a buffer. Lists in fast-scan order are the exception: they are packed in memory, and searched there too;
- *measure*: what a search takes.

Memory-mapped files do not count: the kernel takes their pages back whenever somebody needs them. ``flows/pages.py``
hands them back on the way, up to ``FILE_BYTES``.
"""

import math
from dataclasses import dataclass

from clipsearch.index.recipe import Recipe

BASE_BYTES = 230 * 2**20  # interpreter, numpy, pyarrow, faiss and their threads
FILE_BYTES = 128 * 2**20  # pages of mapped files that may stay in memory between two looks
MEASURE_BYTES = 512 * 2**20  # and while queries are measured: some read 800 rows, and the kernel maps 64 KB for each
BUFFER_BYTES = 64 * 2**20  # of the merge
ADD_ROWS = 16_384  # rows that faiss gets at once
BLOCK_ROWS = 65_536  # rows that are read at once
PART_ROWS = 1_000_000  # rows in a part at most
PART_BYTES = 128 * 2**20  # lists in a part at most
ITERATIONS = 10  # of the k-means
ROTATION_POINTS = 65_536
FLOPS = 1.5e11  # multiplications and additions a second where nobody measured them: two cores


@dataclass(frozen=True, slots=True)
class Costs:
    """What a build takes at most: bytes of memory, bytes of disk in ``index/`` while it runs, seconds."""

    memory: int
    disk: int
    seconds: float


def costs_of(recipe: Recipe, n: int, jobs: int = 1, flops: float = FLOPS) -> Costs:
    """Return what building over ``n`` rows costs with ``jobs`` processes on a machine of ``flops`` a second."""
    return Costs(peak_bytes(recipe, n, jobs), disk_bytes(recipe, n), build_seconds(recipe, n, flops))


def part_rows(recipe: Recipe) -> int:
    """Return how many rows are put into lists between two saves."""
    return max(min(PART_ROWS, PART_BYTES // (recipe.code_bytes + 8)), 1)


def peak_bytes(recipe: Recipe, n: int, jobs: int = 1) -> int:
    """Return how much memory building takes at its peak, at most; of all processes together."""
    if recipe.type == "flat":
        return 0
    kept = BASE_BYTES + FILE_BYTES + BLOCK_ROWS * 2 * recipe.dim + _quantizer_bytes(recipe)
    stages = (_train_bytes, _merge_bytes, _rows_bytes, _measure_bytes)
    return kept + max(_add_bytes(recipe, n, jobs), *(stage(recipe, n) for stage in stages))


def disk_bytes(recipe: Recipe, n: int) -> int:
    """Return the bytes in ``index/`` while building: the rows and their ids, the lists, and the parts beside them."""
    if recipe.type == "flat":
        return 0
    lists = n * (recipe.code_bytes + 8) + 2 * _quantizer_bytes(recipe)
    return n * (2 * recipe.dim + 8) + lists * (3 if recipe.fast_scan else 2)


def build_seconds(recipe: Recipe, n: int, flops: float = FLOPS) -> float:
    """Return about how long a build takes: k-means and assignment are all but a fifth of it."""
    if recipe.type == "flat":
        return 0.0
    points, width = min(recipe.points, n), recipe.inner_dim
    compare = 2.0 * recipe.nlist * width  # floating point operations to assign a row
    rotate = 2.0 * recipe.dim * width if recipe.rotation != "none" else 0.0
    encode = 2.0 * width * 2**recipe.nbits * 8 if recipe.type == "ivfpq" else 40.0 * width
    train = points * (ITERATIONS * compare + rotate) + _codes_flops(recipe)
    handle = n * recipe.dim * 24.0e-9  # read, convert, write and check a number, once more to measure: seconds
    return (train + n * (compare + rotate + encode)) / flops + handle + 8.0


def duration(seconds: float) -> str:
    """Return a time for a person."""
    if seconds < 90:
        return f"{math.ceil(seconds / 10) * 10} seconds"
    if seconds < 2 * 3600:
        return f"{math.ceil(seconds / 60)} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"


def size(n: float) -> str:
    """Return a number of bytes for a person."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{max(n / 1e6, 0.1):.0f} MB"


def _quantizer_bytes(recipe: Recipe) -> int:
    return 4 * recipe.nlist * recipe.inner_dim + 4 * recipe.dim * recipe.inner_dim


def _train_bytes(recipe: Recipe, n: int) -> int:
    sample = min(recipe.points, n) * 4 * (recipe.dim + (recipe.inner_dim if recipe.rotation != "none" else 0))
    some = min(ROTATION_POINTS, recipe.points, n) * 4 * recipe.dim
    learn = {"none": 0, "pca": 1, "opq": 3}[recipe.rotation] + (
        3 if recipe.nbits == 8 and recipe.type == "ivfpq" else 0
    )
    return int(sample + learn * some + 3 * _quantizer_bytes(recipe)) + 64 * 2**20


def _block_bytes(recipe: Recipe) -> int:
    """Return the memory that one block takes while it is read, rotated and encoded."""
    return BLOCK_ROWS * 2 * recipe.dim * 2 + ADD_ROWS * 4 * (2 * recipe.dim + 3 * recipe.inner_dim)


def _add_bytes(recipe: Recipe, n: int, jobs: int) -> int:
    part = 2 * min(part_rows(recipe), n) * (recipe.code_bytes + 8) + _block_bytes(recipe)
    return jobs * part + (jobs - 1) * (BASE_BYTES + FILE_BYTES + _quantizer_bytes(recipe))


def _merge_bytes(recipe: Recipe, n: int) -> int:
    lists = n * (recipe.code_bytes + 8)
    return 2 * BUFFER_BYTES + (int(1.5 * lists) if recipe.fast_scan else 0)


def _rows_bytes(recipe: Recipe, n: int) -> int:
    return 24 * n + BLOCK_ROWS * 4 * recipe.dim  # all ids are gathered before they are written


def _measure_bytes(recipe: Recipe, n: int) -> int:
    """Return what searching takes: lists in memory, a block to compare with, and pages of rows between two looks."""
    lists = int(1.1 * n * (recipe.code_bytes + 8)) if recipe.fast_scan else 0
    return lists + 2 * BLOCK_ROWS * recipe.dim + min(MEASURE_BYTES, 2 * n * recipe.dim) + 64 * 2**20


def _codes_flops(recipe: Recipe) -> float:
    """Return the work of learning the codes and the rotation."""
    if recipe.type != "ivfpq":
        return 0.0
    each = min(ROTATION_POINTS, recipe.points) * 2.0 * recipe.inner_dim * 2**recipe.nbits * 10 * 4
    return each * (3.5 if recipe.rotation == "opq" else 1.0)
