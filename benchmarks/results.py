"""One JSON line per figure, with what is needed to read it: versions, hardware, repeats, spread."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "onnxruntime", "pyarrow", "pillow", "torch", "open_clip_torch", "faiss-cpu", "openvino")


def machine() -> dict[str, Any]:
    """Describe the machine and the versions a figure was taken with."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    return {"cpu": processor, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), **versions}


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, min and max in seconds, and the spread (max - min) / median."""
    middle = statistics.median(seconds)
    return {
        "median_s": round(middle, 4),
        "min_s": round(min(seconds), 4),
        "max_s": round(max(seconds), 4),
        "spread": round((max(seconds) - min(seconds)) / middle, 3),
        "runs": len(seconds),
    }


def append(path: str | os.PathLike[str], record: dict[str, Any]) -> None:
    """Append one record as a JSON line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of a file, in their order; none where there is no file."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
