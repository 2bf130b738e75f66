"""The measuring stage: rounds over all builds in turn, so that what drifts on the machine meets everybody alike.

In a round a build is opened twice in fresh processes: bound to one core, where queries are asked one by one, and bound
to two, where they come in batches. A figure is the median over the rounds; its spread is (max - min) / median.
"""

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.build import folder_of, read_record
from benchmarks.contenders import load_contender
from benchmarks.prepare import Dataset
from benchmarks.process import Worker, WorkerError, now, python_of, warm
from benchmarks.results import append, machine, read
from benchmarks.suite import Entry, Suite
from benchmarks.timing import percentile_ms

LEAST_FOR_P99 = 100  # queries in a round


@dataclass(frozen=True)
class Asked:
    """Where builds and environments are, where results go, and which contenders to measure (none named: all)."""

    builds: str
    envs: str
    results: str
    only: frozenset[str] = frozenset()
    again: bool = False


@dataclass
class Samples:
    """What the rounds gave for one point."""

    single: list[list[float]] = field(default_factory=list)
    batches: list[list[float]] = field(default_factory=list)
    traced: list[tuple[list[float], list[float]]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Opened:
    """What opening the build gave, a round each."""

    import_ms: list[float] = field(default_factory=list)
    open_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


Points = dict[tuple[str, str, str], Samples]  # (label, settings, kind)


def measure(suite: Suite, dataset: Dataset, asked: Asked) -> None:
    """Measure every point that is not in the results yet, and append a line for each."""
    entries = [entry for entry in suite.entries if _wanted(entry, suite, dataset, asked)]
    points: Points = defaultdict(Samples)
    opened: dict[str, Opened] = defaultdict(Opened)
    try:
        for number in range(suite.rounds):
            for entry in entries:
                if number < (entry.rounds or suite.rounds):
                    start = time.monotonic()
                    _round(suite, entry, dataset, asked, points, opened[entry.label])
                    print(f"round {number + 1}: {entry.label}, {time.monotonic() - start:.0f} s", flush=True)
    finally:  # Ctrl-C keeps what there is; a line says how many rounds it comes from
        _write(suite, dataset, asked, entries, points, opened)


def _write(
    suite: Suite,
    dataset: Dataset,
    asked: Asked,
    entries: list[Entry],
    points: Points,
    opened: Mapping[str, Opened],
) -> None:
    """Append a line for each point that was measured to its end at least once."""
    hardware, when = {name: machine()[name] for name in ("cpu", "cores")}, now()
    for entry in entries:
        build = read_record(folder_of(entry, dataset, asked.builds)) or {}
        for point in entry.points():
            for kind in suite.kinds_of(entry):
                samples = points[entry.label, str(point), kind]
                if samples.single and samples.batches:
                    line = _line(suite, entry, point, kind, samples, opened[entry.label], dataset)
                    append(asked.results, {**line, **_build_facts(build, dataset), "run": when, **hardware})


def key(line: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what makes two lines the same point."""
    return tuple(str(line[name]) for name in ("dataset", "contender", "label", "build", "search", "kind", "k"))


def _wanted(entry: Entry, suite: Suite, dataset: Dataset, asked: Asked) -> bool:
    if asked.only and entry.contender not in asked.only:
        return False
    record = read_record(folder_of(entry, dataset, asked.builds))
    if record is None or "error" in record:
        print(f"{entry.label}: not built" + (f" ({record['error']})" if record else ""), flush=True)
        return False
    done = set() if asked.again else {key(line) for line in read(asked.results)}
    return any(
        key(_identity(suite, entry, point, kind, dataset)) not in done
        for point in entry.points()
        for kind in suite.kinds_of(entry)
    )


def _identity(suite: Suite, entry: Entry, point: Mapping[str, Any], kind: str, dataset: Dataset) -> dict[str, Any]:
    return {
        "suite": suite.name,
        "dataset": dataset.name,
        "contender": entry.contender,
        "label": entry.label,
        "build": dict(entry.build),
        "search": dict(point),
        "kind": kind,
        "k": suite.k,
    }


def _round(suite: Suite, entry: Entry, dataset: Dataset, asked: Asked, points: Points, opened: Opened) -> None:
    """Measure all points of a build once; what fails is said and left out."""
    folder = folder_of(entry, dataset, asked.builds)
    warm(folder)
    try:
        facts, first = None, True
        for batch, threads in ((1, 1), (suite.batch, 2)):
            with _worker(entry, asked, threads, folder) as worker:
                facts = worker.ask("open", folder=folder, params=dict(entry.build))
                if batch == 1:
                    opened.import_ms.append(facts["import_ms"])
                    opened.open_ms.append(facts["open_ms"])
                    opened.facts |= facts
                for point, kind, samples in _points(suite, entry, points):
                    found = _search(worker, suite, dataset, point, kind, batch, samples)
                    if batch == 1 and first:
                        opened.first_ms.append(found["first_ms"])
                        first = False
        if load_contender(entry.contender).__dict__.get("trace"):
            _trace(suite, entry, dataset, asked, points, folder)
    except WorkerError as problem:
        print(f"{entry.label}: {problem}", flush=True)


def _trace(suite: Suite, entry: Entry, dataset: Dataset, asked: Asked, points: Points, folder: str) -> None:
    """Ask the same queries once more while the time inside the library is counted."""
    with _worker(entry, asked, 1, folder) as worker:
        worker.ask("open", folder=folder, params=dict(entry.build), trace=True)
        for point, kind, samples in _points(suite, entry, points):
            found = worker.ask("search", **_command(suite, dataset, point, kind, 1))
            samples.traced.append((found["times"], found["inside"]))


def _worker(entry: Entry, asked: Asked, threads: int, folder: str) -> Worker:
    python = python_of(load_contender(entry.contender).environment, asked.envs)
    return Worker(entry.contender, python, threads, f"{folder}.log")


def _points(suite: Suite, entry: Entry, points: Points) -> Iterator[tuple[dict[str, Any], str, Samples]]:
    for kind in suite.kinds_of(entry):
        for point in entry.points():
            yield point, kind, points[entry.label, str(point), kind]


def _command(suite: Suite, dataset: Dataset, point: dict[str, Any], kind: str, batch: int) -> dict[str, Any]:
    plan = suite.plan(batch)
    return {"queries": dataset.path("queries.npz"), "kind": kind, "k": suite.k, "settings": point, "plan": plan}


def _search(
    worker: Worker, suite: Suite, dataset: Dataset, point: dict[str, Any], kind: str, batch: int, samples: Samples
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        answers = os.path.join(temporary, "answers.npy")
        found = worker.ask("search", **_command(suite, dataset, point, kind, batch), answers=answers)
        name = "single" if batch == 1 else "batch"
        if f"recall_{name}" not in samples.facts:
            ids = np.load(answers)
            samples.facts |= {f"recall_{name}": dataset.recall(kind, ids, suite.k), f"answered_{name}": len(ids)}
    if batch == 1:
        samples.single.append(found["times"])
        samples.facts |= {name: found[name] for name in ("peak_bytes", "rss_bytes", "anonymous_bytes", "grown_bytes")}
        samples.facts["settings"] = found["settings"] or dict(point)
    else:
        samples.batches.append(found["times"])
    return found


def _line(
    suite: Suite,
    entry: Entry,
    point: dict[str, Any],
    kind: str,
    samples: Samples,
    opened: Opened,
    dataset: Dataset,
) -> dict[str, Any]:
    """Return the figures of a point."""
    n = len(dataset.base)
    p50 = [percentile_ms(times, 0.5) for times in samples.single]
    p99 = [percentile_ms(times, 0.99) for times in samples.single if len(times) >= LEAST_FOR_P99]
    qps = [suite.batch * len(times) / sum(times) for times in samples.batches]
    facts = samples.facts
    line = _identity(suite, entry, point, kind, dataset)
    line |= {
        "settings": facts.get("settings", point),
        "recall": round(facts.get("recall_batch", facts.get("recall_single", 0.0)), 5),
        "recall_queries": facts.get("answered_batch", facts.get("answered_single", 0)),
        "recall_single": round(facts.get("recall_single", 0.0), 5),
        "p50_ms": _median(p50),
        "p50_spread": _spread(p50),
        "p99_ms": _median(p99),
        "queries_a_round": min(map(len, samples.single), default=0),
        "qps": _median(qps),
        "qps_spread": _spread(qps),
        "batch": suite.batch,
        "rounds": len(p50),
        "threads": {"single": 1, "batch": 2},
    }
    if samples.traced:
        line |= _own_layers(samples)
    line |= {"import_ms": _median(opened.import_ms), "open_ms": _median(opened.open_ms)}
    line |= {"first_query_ms": _median(opened.first_ms), "versions": opened.facts.get("versions", {})}
    line |= {name: facts.get(name) for name in ("peak_bytes", "rss_bytes", "anonymous_bytes", "grown_bytes")}
    for name in ("hot_bytes", "rows_bytes", "disk_bytes"):
        line[f"{name}_per_vector"] = round(opened.facts[name] / n, 1)
    return line


def _own_layers(samples: Samples) -> dict[str, float]:
    """Return the share of a query (0 to 1) outside the library and the time inside, medians over queries and rounds."""
    shares = [
        statistics.median(1 - within / whole for whole, within in zip(times, inside, strict=True))
        for times, inside in samples.traced
    ]
    within = [percentile_ms(inside, 0.5) for _, inside in samples.traced]
    return {"own_share": round(statistics.median(shares), 4), "inside_p50_ms": round(statistics.median(within), 4)}


def _build_facts(record: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    names = ("seconds", "cpu_seconds", "peak_bytes", "load", "threads", "notes", "started")
    return {f"build_{name}": record.get(name) for name in names} | {"n": len(dataset.base)}


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def _spread(values: list[float]) -> float | None:
    return round((max(values) - min(values)) / statistics.median(values), 3) if len(values) > 1 else None
