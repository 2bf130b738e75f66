"""Recipes: what an index is made of, and which one fits a collection.

A recipe says how rows are sorted into inverted lists (``nlist``), how each is shortened to a code (``pq_m`` numbers of
``nbits``, after a rotation to ``rotated_dim`` dimensions) and how hard a search tries by default (``nprobe`` lists,
``refine_factor`` x k candidates scored again exactly). The rules of thumb, each measured:

- below about 200,000 rows comparing every row costs less than encoding the query: build nothing;
- ``nlist`` near 4 sqrt(n): a list then holds about as many rows as there are lists to choose from;
- 4-bit codes must spend them on two dimensions each (``pq_m`` = rotated_dim / 2), or no re-ranking can save them;
- a k-means needs 39 points a centroid; with fewer it learns noise, and faiss only prints a warning.

Which recipe fits a collection, ``choose.py`` says; what it costs, ``costs.py``.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any

from clipsearch.errors import InputError, UnknownNameError
from clipsearch.registry import suggest

TYPES = ("flat", "ivfflat", "ivfpq")
POINTS_PER_CENTROID = 39  # what a k-means needs at least


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
