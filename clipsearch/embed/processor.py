"""What this processor can do, read from the system without loading torch."""

import os
from functools import cache

# Instructions that multiply bfloat16: AVX-512 and AMX on x86, the ones of Armv8.6 on Arm.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def flags() -> frozenset[str]:
    """Return the names of the processor's instruction sets as Linux lists them; empty where nobody says."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return frozenset(value.split())
    except OSError:
        pass
    return frozenset()


def has_bfloat16() -> bool:
    """Say whether the processor multiplies bfloat16 itself; in software it is slower than float32."""
    return not _BFLOAT16.isdisjoint(flags())


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
