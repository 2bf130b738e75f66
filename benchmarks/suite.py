"""A suite: what a TOML file asks for. Build parameters and query parameters are apart: one build, many points.

    name = "index-100k"
    [dataset]
    kind = "synthetic"
    n = 100_000
    [[entry]]
    label = "hnswlib M16"
    contender = "hnswlib"
    build = { m = 16, ef_construction = 200 }
    search = [{ ef = [32, 64, 128] }]          # a list of values is a point for each

See ``Suite`` and ``Entry`` for the other keys and their defaults.
"""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from benchmarks.contenders import load_contender


@dataclass(frozen=True)
class Entry:
    """One build of one contender, and the points measured on it.

    Attributes:
        label: what it is called in tables and plots.
        contender: a name of ``CONTENDERS``.
        build: parameters of the build.
        search: settings of searches; a value that is a list stands for a point for each.
        kinds: of queries; empty takes the suite's, or "text" alone where every row is compared.
        rounds: 0 takes the suite's.
        cap_cpu_s: CPU seconds after which a build is given up; 0 never. (On a busy machine wall seconds say little.)
    """

    label: str
    contender: str
    build: Mapping[str, Any] = field(default_factory=dict)
    search: tuple[Mapping[str, Any], ...] = ({},)
    kinds: tuple[str, ...] = ()
    rounds: int = 0
    cap_cpu_s: float = 0.0

    @property
    def folder(self) -> str:
        """Name of the folder of its build: the same parameters share one."""
        text = json.dumps(self.build, sort_keys=True)
        return f"{self.contender}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def points(self) -> list[dict[str, Any]]:
        """Return all settings, one dictionary a point."""
        return [
            dict(zip(grid, values, strict=True))
            for grid in self.search
            for values in itertools.product(*(v if isinstance(v, list) else [v] for v in grid.values()))
        ]


@dataclass(frozen=True)
class Suite:
    """A data set, entries, and how to measure.

    Attributes:
        name: also of the results.
        dataset: see ``prepare.py``.
        entries: in the order of the tables.
        k: answers asked for; recall is recall@k.
        kinds: of queries.
        rounds: each opens every build in a fresh process again, in turn.
        queries: asked one by one in a round, for p50 and p99.
        warmup: queries before.
        batch: size of the batches of the throughput.
        cap_s: seconds a point may take in a round.
    """

    name: str
    dataset: Mapping[str, Any]
    entries: tuple[Entry, ...]
    k: int = 10
    kinds: tuple[str, ...] = ("text", "image")
    rounds: int = 3
    queries: int = 300
    warmup: int = 50
    batch: int = 64
    cap_s: float = 10.0

    def kinds_of(self, entry: Entry) -> tuple[str, ...]:
        """Return the kinds of queries that an entry is measured with."""
        exact = load_contender(entry.contender).exact
        return entry.kinds or (self.kinds[:1] if exact else self.kinds)

    def plan(self, batch: int) -> dict[str, Any]:
        """Return how a point is timed, for ``timing.Plan``."""
        if batch == 1:
            return {"batch": 1, "queries": self.queries, "warmup": self.warmup, "cap_s": self.cap_s}
        least = min(1.0, self.cap_s)
        return {"batch": batch, "queries": 10**9, "warmup": 2 * batch, "cap_s": self.cap_s, "least_s": least}


def load_suite(path: str) -> Suite:
    """Read a suite.

    Raises:
        ValueError: a key is not known, a label is used twice, a contender does not exist.
    """
    with open(path, "rb") as file:
        document = tomllib.load(file)
    entries = tuple(_made(Entry, entry, f"an entry of {path}") for entry in document.pop("entry", []))
    suite: Suite = _made(Suite, {**document, "entries": entries}, path)
    labels = [entry.label for entry in entries]
    if len(set(labels)) != len(labels):
        raise ValueError(f"{path} uses a label twice: give each entry its own.")
    for entry in entries:
        load_contender(entry.contender)
    return suite


def as_text(value: Mapping[str, Any]) -> str:
    """Return settings as one short line."""
    return ", ".join(f"{key} {item}" for key, item in value.items()) or "default"


def _made(cls: Any, values: dict[str, Any], where: str) -> Any:
    known = {f.name for f in fields(cls)}
    if unknown := set(values) - known:
        raise ValueError(f"{where} has the unknown key {min(unknown)!r}; known: {', '.join(sorted(known))}.")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
