"""Recipes: what an index is made of, and which one fits a collection.

A recipe says how rows are sorted into inverted lists (``nlist``), how each is shortened to a code (``pq_m`` numbers of
``nbits``, after a rotation to ``rotated_dim`` dimensions) and how hard a search tries by default (``nprobe`` lists,
``refine_factor`` x k candidates scored again exactly). The rules of thumb, each measured:

- below about 200,000 rows comparing every row costs less than encoding the query: build nothing;
- ``nlist`` near 4 sqrt(n): a list then holds about as many rows as there are lists to choose from;
- 4-bit codes must spend them on two dimensions each (``pq_m`` = rotated_dim / 2), or no re-ranking can save them;
- a k-means needs 39 points a centroid; with fewer it learns noise, and faiss only prints a warning.

``choose_recipe`` is a pure function of rows, dimension and memory, so that what it would do can be asked beforehand.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any

from clipsearch.errors import InputError, UnknownNameError
from clipsearch.registry import suggest

TYPES = ("flat", "ivfflat", "ivfpq")
FLAT_ROWS = 200_000  # below this an exact scan costs less than encoding the query
POINTS_PER_CENTROID = 39  # what a k-means needs at least
SCAN_MS = 46 / 1e6 / 512  # exact scan on two cores, milliseconds a number
BASE_BYTES = 200 * 2**20  # interpreter, numpy, faiss, and the buffers of one block
MAX_NLIST = 65_536


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an index is made of; see the module's docstring.

    Attributes:
        type: "flat", "ivfflat" or "ivfpq".
        dim: length of the embeddings it was written for; ``fitted`` makes it fit others.
        nlist: inverted lists. More make a search quicker and training longer.
        rotation: "none", "pca" (to the directions that matter, then evened out: seconds) or "opq" (learned: minutes,
            and hardly better).
        rotated_dim: numbers left after the rotation; 0 keeps all.
        pq_m: numbers in a code (ivfpq). More are more exact and take more memory.
        nbits: bits of each, 4 or 8.
        fast_scan: keep 4-bit codes in the order that vector instructions want; such lists cannot be memory-mapped.
        storage: what ivfflat keeps of a row: "sq8" (a byte a number) or "float16".
        train_points: rows a list to train on.
        nprobe: lists that a search looks into by default.
        refine_factor: candidates scored again exactly by default, as a multiple of k.
        recall_text: recall@10 of text queries that was measured at these defaults, 0 to 1, or None.
        recall_image: the same of image queries.
        measured_on: on what, and with what.
        name: what it is called.
    """

    type: str
    dim: int = 512
    nlist: int = 0
    rotation: str = "none"
    rotated_dim: int = 0
    pq_m: int = 0
    nbits: int = 8
    fast_scan: bool = False
    storage: str = "sq8"
    train_points: int = 64
    nprobe: int = 64
    refine_factor: int = 10
    recall_text: float | None = None
    recall_image: float | None = None
    measured_on: str = ""
    name: str = ""

    @property
    def inner_dim(self) -> int:
        """Length of a row as the lists see it."""
        return self.rotated_dim or self.dim

    @property
    def code_bytes(self) -> int:
        """Bytes of a row's code."""
        if self.type == "flat":
            return 2 * self.dim
        if self.type == "ivfflat":
            return self.inner_dim * (1 if self.storage == "sq8" else 2)
        return (self.pq_m * self.nbits + 7) // 8

    @property
    def is_mapped(self) -> bool:
        """Whether a search reads its lists from the disk through a memory map."""
        return self.type != "flat" and not self.fast_scan

    def fitted(self, dim: int) -> "Recipe":
        """Return the recipe for embeddings of another length: the same dimensions a number of the code.

        Raises:
            InputError: it cannot be made to fit.
        """
        if dim == self.dim:
            return self
        scale = dim / self.dim
        if self.type != "ivfpq":
            return replace(self, dim=dim, rotated_dim=round(self.rotated_dim * scale))
        each = max(self.inner_dim // self.pq_m, 1)  # dimensions a number of the code
        pq_m = max(int(self.inner_dim * scale) // each, 1)
        inner = pq_m * each
        if self.rotation == "none" and inner != dim:
            raise InputError(
                f"The recipe {self.name or self.type!r} cuts rows into pieces of {each} numbers, "
                f"and {dim} is no multiple of {each}. Give it rotation = 'pca'."
            )
        return replace(self, dim=dim, pq_m=pq_m, rotated_dim=0 if inner == dim else inner)

    def bytes_of(self, n: int) -> int:
        """Return about how large an index of ``n`` rows is, in bytes, without the rows themselves."""
        if self.type == "flat":
            return 0
        return int(n * (self.code_bytes + 8) * 1.04) + 4 * self.nlist * self.inner_dim + 4 * self.dim * self.inner_dim

    @property
    def points(self) -> int:
        """Rows to train on."""
        return max(self.train_points * self.nlist, least_points(self))

    def peak_bytes(self, n: int) -> int:
        """Return about how much memory building takes at its peak: training, or adding and saving."""
        if self.type == "flat":
            return 0
        training = min(self.points, n) * 4 * (self.dim + (self.inner_dim if self.rotation != "none" else 0))
        return BASE_BYTES + max(training, 2 * self.bytes_of(n))


@dataclass(frozen=True, slots=True)
class Choice:
    """A recipe, and one line on why it is this one."""

    recipe: Recipe
    why: str


def least_points(recipe: Recipe) -> int:
    """Return the fewest rows that a recipe can be trained with."""
    if recipe.type == "flat":
        return 0
    points = max(POINTS_PER_CENTROID * recipe.nlist, recipe.dim if recipe.rotation != "none" else 0)
    return max(points, POINTS_PER_CENTROID * 2**recipe.nbits) if recipe.type == "ivfpq" else points


def check_points(recipe: Recipe, n: int) -> None:
    """Refuse to train with too few rows.

    Raises:
        InputError: ``n`` rows are too few.
    """
    need = least_points(recipe)
    if n >= need:
        return
    fewer = replace(recipe, nlist=1)
    at_most = n // POINTS_PER_CENTROID if n >= least_points(fewer) else 0
    way_out = f"nlist at most {at_most:,} in the recipe" if at_most else "more rows"
    raise InputError(
        f"An index of type {recipe.type} with nlist {recipe.nlist:,} is trained with {need:,} rows or more; "
        f"there are {n:,}.\nGive {way_out}, or --index-type flat, which is exact and needs no training."
    )


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("clipsearch.index") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str) -> Recipe:
    """Read a recipe: one that comes with the package by its name, or a TOML file by its path.

    Raises:
        InputError: there is no such file, or it is no recipe; near names are offered.
    """
    if name in recipe_names():
        text = (resources.files("clipsearch.index") / "recipes" / f"{name}.toml").read_text("utf-8")
        return parse_recipe(text, name)
    try:
        with open(name, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError as problem:
        if "/" in name or name.endswith(".toml"):
            raise InputError(
                f"There is no recipe file {name}. Known by name: {', '.join(recipe_names())}."
            ) from problem
        raise UnknownNameError(suggest("recipe", name, recipe_names())) from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"The recipe {name} cannot be read: {problem}.") from problem
    return parse_recipe(text, name)


def parse_recipe(text: str, name: str) -> Recipe:
    """Read a recipe from TOML.

    Raises:
        InputError: it is no TOML, a word or a value is wrong; UnknownNameError offers the near one.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise InputError(f"The recipe {name} is no TOML: {problem}.") from problem
    known = {field.name: field.type for field in fields(Recipe)}
    for key, value in document.items():
        if key not in known:
            raise UnknownNameError(suggest(f"setting of a recipe ({name})", key, known))
        _check_value(name, key, value, known[key])
    if "type" not in document:
        raise InputError(f"The recipe {name} does not say its type. Add: type = 'ivfpq'")
    return check_recipe(Recipe(**{"name": name, **document}))


def _check_value(name: str, key: str, value: Any, wanted: Any) -> None:
    text = str(wanted)
    kinds: tuple[type, ...] = (bool,) if wanted is bool else (int,) if wanted is int else (str,)
    if "float" in text:
        kinds = (int, float)
    if not isinstance(value, kinds) or (isinstance(value, bool) and wanted is not bool):
        raise InputError(f"The recipe {name} has {key} = {value!r}, which should be {kinds[-1].__name__}.")
    if isinstance(value, int | float) and value < 0:
        raise InputError(f"The recipe {name} has {key} = {value!r}; it cannot be negative.")


def check_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe whose numbers go together.

    Raises:
        InputError: they do not.
    """
    for kind, value, allowed in (
        ("index type", recipe.type, TYPES),
        ("rotation", recipe.rotation, ("none", "pca", "opq")),
        ("storage", recipe.storage, ("sq8", "float16")),
    ):
        if value not in allowed:
            raise UnknownNameError(suggest(f"{kind} of a recipe", value, allowed))
    if recipe.type == "flat":
        return recipe
    problem = _problem(recipe)
    if problem:
        raise InputError(f"The recipe {recipe.name or recipe.type!r} does not go together: {problem}.")
    return recipe


def _problem(recipe: Recipe) -> str | None:
    if recipe.nlist < 1 or recipe.nprobe < 1 or recipe.refine_factor < 1:
        return "nlist, nprobe and refine_factor are at least 1"
    if recipe.inner_dim > recipe.dim or (recipe.rotation == "none" and recipe.inner_dim != recipe.dim):
        return f"rotated_dim {recipe.rotated_dim} needs a rotation and is at most dim ({recipe.dim})"
    if recipe.type != "ivfpq":
        return None
    if recipe.nbits not in (4, 8) or (recipe.fast_scan and recipe.nbits != 4):
        return "nbits is 4 or 8, and 4 with fast_scan"
    if recipe.pq_m < 1 or recipe.inner_dim % recipe.pq_m:
        return f"pq_m ({recipe.pq_m}) must divide the {recipe.inner_dim} numbers of a row"
    return None


def to_toml(recipe: Recipe) -> str:
    """Return a recipe as TOML; what has no value is left out."""
    lines = []
    for field in fields(Recipe):
        value = getattr(recipe, field.name)
        if value is None or value == "":
            continue
        lines.append(f"{field.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def from_mapping(document: Mapping[str, Any]) -> Recipe:
    """Read back what ``dataclasses.asdict`` gave."""
    return check_recipe(Recipe(**document))


def lists_for(n: int) -> int:
    """Return how many inverted lists suit ``n`` rows: near 4 sqrt(n), a power of two, never too many to train."""
    wanted = 2 ** round(math.log2(max(4 * math.sqrt(n), 1)))
    while wanted > 1 and POINTS_PER_CENTROID * wanted > n:
        wanted //= 2
    return min(wanted, MAX_NLIST)


def choose_recipe(n: int, dim: int, memory_bytes: int, index_type: str = "auto") -> Choice:
    """Choose a recipe for ``n`` rows (n, dim) that can be built within ``memory_bytes``.

    Raises:
        InputError: the memory is too small, or the rows too few for the type; with figures.
        UnknownNameError: there is no such type.
    """
    if index_type not in ("auto", *TYPES):
        raise UnknownNameError(suggest("index type", index_type, ("auto", *TYPES)))
    if index_type == "flat" or (index_type == "auto" and n < FLAT_ROWS):
        why = "as asked" if index_type == "flat" else f"below {FLAT_ROWS:,} it costs less than encoding a query"
        return Choice(Recipe("flat", dim=dim, name="flat"), f"exact search over {n:,} images ({why})")
    wanted = "ivfpq" if index_type == "auto" else index_type
    options = [_sized(load_recipe(name), n, dim, memory_bytes) for name in _candidates(wanted)]
    options = [recipe for recipe in options if least_points(recipe) <= n] or options[:1]
    check_points(options[0], n)
    for recipe in options:
        if recipe.peak_bytes(n) <= memory_bytes and (recipe.is_mapped or recipe.bytes_of(n) <= memory_bytes // 2):
            return Choice(recipe, _why(recipe, n, memory_bytes))
    least = min(options, key=lambda recipe: recipe.peak_bytes(n))
    raise InputError(
        f"{wanted} over {n:,} rows of {dim} numbers takes about {size(least.peak_bytes(n))} to build; the memory "
        f"budget is {size(memory_bytes)}.\nGive --memory {math.ceil(least.peak_bytes(n) / 1e8) / 10:g}GB or more, or "
        f"--index-type flat: exact, no build, about {n * dim * SCAN_MS:,.0f} ms a query."
    )


def _candidates(index_type: str) -> tuple[str, ...]:
    return ("ivfpq-1m", "ivfpq-mmap-1m") if index_type == "ivfpq" else ("ivfflat-1m",)


def _sized(recipe: Recipe, n: int, dim: int, memory_bytes: int) -> Recipe:
    """Fit a ready recipe to the collection: its dimension, lists for its rows, a training sample within memory."""
    fitted = replace(recipe.fitted(dim), nlist=lists_for(n), name=recipe.name)
    if n != 1_000_000 or dim != recipe.dim:
        fitted = replace(fitted, recall_text=None, recall_image=None, measured_on="", name=f"{recipe.name}, fitted")
    for points in (fitted.train_points, 48, POINTS_PER_CENTROID):
        fitted = replace(fitted, train_points=points)
        if fitted.peak_bytes(n) <= memory_bytes:
            break
    while fitted.peak_bytes(n) > memory_bytes and fitted.nlist > max(lists_for(n) // 4, 1):
        fitted = replace(fitted, nlist=fitted.nlist // 2)
    return fitted


def _why(recipe: Recipe, n: int, memory_bytes: int) -> str:
    lists = "memory-mapped lists" if recipe.is_mapped else "lists in memory"
    return (
        f"{recipe.type} for {n:,} images: {recipe.nlist:,} {lists}, {recipe.code_bytes + 8} bytes a row; "
        f"building takes up to {size(recipe.peak_bytes(n))} of the {size(memory_bytes)} allowed"
    )


def size(n: float) -> str:
    """Return a number of bytes for a person."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{max(n / 1e6, 0.1):.0f} MB"
