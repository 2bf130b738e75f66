"""What this machine can draw with, found out without loading torch."""

import os
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from clipsearch.generate.card import GeneratorCard


@cache
def gpu_gb() -> float:
    """Return the memory of the largest NVIDIA GPU, 10^9 bytes; 0 without one, or where torch was built for the CPU."""
    if not os.path.exists("/dev/nvidiactl") or "+cpu" in library_version("torch"):
        return 0.0
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return max((float(line) for line in done.stdout.split()), default=0.0) * (1 << 20) / 1e9
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0.0


def library_version(name: str) -> str:
    """Return the version of an installed package, or "" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def best_card(ready: Iterable[GeneratorCard], memory_gb: float) -> GeneratorCard | None:
    """Return the first card that fits the machine; ``ready`` are those with weights here, the best first."""
    return next((card for card in ready if card.automatic and card.gpu_gb <= memory_gb), None)


def resolve(card: GeneratorCard, device: str, dtype: str) -> tuple[str, str]:
    """Return device and dtype in full: "auto" is the GPU where there is one, and the card's numbers on it."""
    if device == "auto":
        device = "cuda" if card.family == "diffusers" and gpu_gb() else "cpu"
    if dtype == "auto":
        dtype = "fp32" if device == "cpu" else card.dtype
    return device, dtype
