"""The build stage: each entry once, into a folder of its own, with a record of what it took."""

import json
import os
import shutil
from dataclasses import asdict
from typing import Any

from benchmarks.contenders import load_contender
from benchmarks.contenders.base import Source
from benchmarks.prepare import Dataset
from benchmarks.process import Worker, WorkerError, now, python_of
from benchmarks.suite import Entry

RECORD = "build.json"


def build(entry: Entry, dataset: Dataset, root: str, envs: str, threads: int, again: bool = False) -> dict[str, Any]:
    """Build an entry, unless it is built; return its record.

    A failure or a build given up is a result too: it is written down, with ``error``, and not tried again unless asked.
    """
    folder = folder_of(entry, dataset, root)
    record = read_record(folder)
    if record is not None and not again:
        return record
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    contender = load_contender(entry.contender)
    source = Source(
        dataset.path("base.npy"), dataset.tuning, os.path.join(root, dataset.name, f"{entry.contender}-shared")
    )
    record = {"contender": entry.contender, "build": entry.build, "dataset": dataset.name, "started": now()}
    log = os.path.join(root, dataset.name, f"{entry.folder}.log")
    try:
        with Worker(entry.contender, python_of(contender.environment, envs), threads, log, patient=True) as worker:
            record |= worker.ask(
                "build", entry.cap_cpu_s, source=asdict(source), folder=folder, params=dict(entry.build)
            )
    except WorkerError as problem:
        record |= {"error": str(problem), "threads": threads}
    with open(os.path.join(folder, RECORD), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    return record


def folder_of(entry: Entry, dataset: Dataset, root: str) -> str:
    """Return the folder of an entry's build."""
    return os.path.join(os.path.abspath(root), dataset.name, entry.folder)


def read_record(folder: str) -> dict[str, Any] | None:
    """Return the record of a build, or None where there is none."""
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
