"""Which recipe fits a collection: a pure function of rows, dimension and memory, so that it can be asked beforehand.

Of the recipes for a type the first is taken that can be trained with the rows there are and built within the memory.
Where memory is short the training sample shrinks first, down to 39 points a list; then lists stay on the disk
(8-bit codes, memory-mapped) instead of in memory; then there are fewer of them; then the answer is no, with figures.
"""

import math
from dataclasses import dataclass, field, replace

from clipsearch.errors import InputError, UnknownNameError
from clipsearch.index.costs import FLOPS, Costs, costs_of, duration, peak_bytes, size
from clipsearch.index.recipe import POINTS_PER_CENTROID, TYPES, Recipe, check_points, least_points, load_recipe
from clipsearch.registry import suggest

FLAT_ROWS = 200_000  # below this an exact scan costs less than encoding the query
SCAN_MS = 46 / 1e6 / 512  # exact scan on two cores, milliseconds a number
MAX_NLIST = 65_536


@dataclass(frozen=True, slots=True)
class Choice:
    """A recipe, one line on why it is this one, and what building it costs at most."""

    recipe: Recipe
    why: str
    costs: Costs = field(default_factory=lambda: Costs(0, 0, 0.0))


def lists_for(n: int) -> int:
    """Return how many inverted lists suit ``n`` rows: near 4 sqrt(n), a power of two, never too many to train."""
    wanted = 2 ** round(math.log2(max(4 * math.sqrt(n), 1)))
    while wanted > 1 and POINTS_PER_CENTROID * wanted > n:
        wanted //= 2
    return min(wanted, MAX_NLIST)


def choose_recipe(
    n: int,
    dim: int,
    memory_bytes: int,
    index_type: str = "auto",
    *,
    jobs: int = 1,
    flops: float = FLOPS,
    noun: str = "images",
) -> Choice:
    """Choose a recipe for ``n`` rows (n, dim) that can be built within ``memory_bytes``.

    Args:
        n: rows.
        dim: numbers in each.
        memory_bytes: what building may take, all processes together.
        index_type: "auto", "flat", "ivfflat" or "ivfpq".
        jobs: processes that add rows.
        flops: floating point operations a second of this machine, for the time it will take.
        noun: what the rows are, for the line.

    Raises:
        InputError: the memory is too small, or the rows too few for the type; with figures.
        UnknownNameError: there is no such type.
    """
    if index_type not in ("auto", *TYPES):
        raise UnknownNameError(suggest("index type", index_type, ("auto", *TYPES)))
    if index_type == "flat" or (index_type == "auto" and n < FLAT_ROWS):
        why = "as asked" if index_type == "flat" else f"below {FLAT_ROWS:,} it costs less than encoding a query"
        return Choice(Recipe("flat", dim=dim, name="flat"), f"exact search over {n:,} {noun} ({why})")
    wanted = "ivfpq" if index_type == "auto" else index_type
    options = [_sized(load_recipe(name), n, dim, memory_bytes, jobs) for name in _candidates(wanted)]
    options = [recipe for recipe in options if least_points(recipe) <= n] or options[:1]
    check_points(options[0], n)
    for recipe in options:
        if peak_bytes(recipe, n, jobs) <= memory_bytes:
            return choice_of(recipe, n, memory_bytes, jobs=jobs, flops=flops, noun=noun)
    least = min(options, key=lambda recipe: peak_bytes(recipe, n, jobs))
    raise too_little(least, n, memory_bytes, jobs)


def choice_of(
    recipe: Recipe, n: int, memory_bytes: int, *, jobs: int = 1, flops: float = FLOPS, noun: str = "images"
) -> Choice:
    """Return a recipe as a choice, with what it costs in its line.

    Raises:
        InputError: the memory is too small, with figures.
    """
    if recipe.type == "flat":
        return Choice(recipe, f"exact search over {n:,} {noun} (as the recipe {recipe.name!r} says)")
    costs = costs_of(recipe, n, jobs, flops)
    if costs.memory > memory_bytes:
        raise too_little(recipe, n, memory_bytes, jobs)
    lists = "memory-mapped lists" if recipe.is_mapped else "lists in memory"
    why = (
        f"{recipe.type} for {n:,} {noun}: {recipe.nlist:,} {lists}, {recipe.code_bytes + 8} bytes a row; building "
        f"takes up to {size(costs.memory)} of memory ({size(memory_bytes)} allowed), {size(costs.disk)} of disk, "
        f"about {duration(costs.seconds)}"
    )
    return Choice(recipe, why, costs)


def too_little(recipe: Recipe, n: int, memory_bytes: int, jobs: int = 1) -> InputError:
    """Return the refusal of a memory budget, with figures."""
    need = peak_bytes(recipe, n, jobs)
    fewer = f", --jobs 1 ({size(peak_bytes(recipe, n))})" if jobs > 1 else ""
    return InputError(
        f"{recipe.type} over {n:,} rows of {recipe.dim} numbers takes about {size(need)} to build; the memory "
        f"budget is {size(memory_bytes)}.\nGive --memory {math.ceil(need / 1e8) / 10:g}GB or more{fewer}, or "
        f"--index-type flat: exact, no build, about {n * recipe.dim * SCAN_MS:,.0f} ms a query."
    )


def _candidates(index_type: str) -> tuple[str, ...]:
    return ("ivfpq-1m", "ivfpq-mmap-1m") if index_type == "ivfpq" else ("ivfflat-1m",)


def _sized(recipe: Recipe, n: int, dim: int, memory_bytes: int, jobs: int) -> Recipe:
    """Fit a ready recipe to the collection: its dimension, lists for its rows, a training sample within memory."""
    fitted = replace(recipe.fitted(dim), nlist=lists_for(n), name=recipe.name)
    if n != 1_000_000 or dim != recipe.dim:
        fitted = replace(fitted, recall_text=None, recall_image=None, measured_on="", name=f"{recipe.name}, fitted")
    for points in (fitted.train_points, 48, POINTS_PER_CENTROID):
        fitted = replace(fitted, train_points=points)
        if peak_bytes(fitted, n, jobs) <= memory_bytes:
            break
    while peak_bytes(fitted, n, jobs) > memory_bytes and fitted.nlist > max(lists_for(n) // 4, 1):
        fitted = replace(fitted, nlist=fitted.nlist // 2)
    return fitted
