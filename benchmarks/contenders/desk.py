"""What the worker does for each command; runs in the contender's environment (numpy and the standard library)."""

import importlib.metadata
import os
import platform
import resource
import time
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.contenders import load_contender
from benchmarks.contenders.base import Source, folder_bytes


class Desk:
    """One contender and the commands it is given."""

    def __init__(self, name: str, threads: int) -> None:
        """Make the contender."""
        self.contender = load_contender(name)(threads)

    def serve(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command."""
        verb = command.pop("do")
        return {"build": self.build, "open": self.open, "search": self.search}[verb](**command)

    def build(self, source: dict[str, Any], folder: str, params: dict[str, Any]) -> dict[str, Any]:
        """Build into an empty folder; wall and CPU seconds, peak memory, and how busy the machine was."""
        os.makedirs(source["shared"], exist_ok=True)
        loads = [os.getloadavg()[0]]
        self.contender.load()
        before, start = _cpu_seconds(), time.perf_counter()
        notes = self.contender.build(Source(**source), folder, params) or {}
        seconds, cpu = time.perf_counter() - start, _cpu_seconds() - before
        loads.append(os.getloadavg()[0])
        return {
            "seconds": round(notes.pop("seconds", seconds), 2),
            "cpu_seconds": round(notes.pop("cpu_seconds", cpu), 2),
            "peak_bytes": notes.pop("peak_bytes", memory()["VmHWM"]),
            "disk_bytes": folder_bytes(folder),
            "load": [round(load, 2) for load in loads],
            "threads": self.contender.threads,
            "notes": notes,
            "versions": self._versions(),
        }

    def open(self, folder: str, params: dict[str, Any], trace: bool = False) -> dict[str, Any]:
        """Open what was built, in this fresh process."""
        start = time.perf_counter()
        self.contender.load()
        loaded = time.perf_counter()
        if trace:
            self.contender.trace()  # type: ignore[attr-defined]
        self.before = memory()
        opening = time.perf_counter()
        self.contender.open(folder, params)
        opened = time.perf_counter()
        return {
            "import_ms": round((loaded - start) * 1e3, 3),
            "open_ms": round((opened - opening) * 1e3, 3),
            "disk_bytes": folder_bytes(folder),
            "hot_bytes": self.contender.hot_bytes(folder),
            "rows_bytes": self.contender.rows_bytes(folder),
            "versions": self._versions(),
        }

    def search(
        self,
        queries: str,
        kind: str,
        k: int,
        settings: dict[str, Any],
        plan: dict[str, Any],
        answers: str | None = None,
    ) -> dict[str, Any]:
        """Time searches for the queries of a kind, and keep the ids found."""
        xq = np.load(queries)[kind]
        self.contender.tune(settings, kind)
        clock = getattr(self.contender, "inside_seconds", None)
        found = timing.run(lambda rows: self.contender.search(rows, k), xq, timing.Plan(**plan), clock)
        if answers is not None:
            np.save(answers, found.ids[:, :k])
        now = memory()
        return {
            "times": [round(seconds, 8) for seconds in found.seconds],
            "inside": [round(seconds, 8) for seconds in found.inside],
            "answered": len(found.ids),
            "first_ms": round(found.first * 1e3, 4),
            "peak_bytes": now["VmHWM"],
            "rss_bytes": now["VmRSS"],
            "anonymous_bytes": now["RssAnon"],
            "grown_bytes": now["VmRSS"] - self.before["VmRSS"],
            "settings": getattr(self.contender, "chosen", lambda: {})(),
        }

    def _versions(self) -> dict[str, str]:
        versions = {"python": platform.python_version()}
        for package in self.contender.packages:
            versions[package] = importlib.metadata.version(package)
        return versions


def memory() -> dict[str, int]:
    """Return VmRSS, VmHWM (its peak) and RssAnon of this process in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return {key: int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM", "RssAnon")}


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
