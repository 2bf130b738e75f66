"""Hand pages of mapped files back: they are the kernel's to take at any time, but until then they look like memory.

A build walks over shards of any size through memory maps. Every page it touched counts as resident until the kernel
wants it, and who looks at the process (or sets it a limit) sees ten gigabytes at work where there are two. So every now
and then the maps of a collection's files are told to let go; the bytes stay in the page cache, and are there again on
the next look. Only maps that nothing can be written through are touched. Where there is no ``/proc`` nothing happens.
"""

import ctypes
import os
from functools import cache
from typing import Any

from clipsearch.index.costs import FILE_BYTES

_DONTNEED = 4


def trim(folder: str, limit: int = FILE_BYTES) -> None:
    """Let go of the mapped pages of the files under a folder, if more than ``limit`` bytes of files are held."""
    if _resident_file_bytes() > limit:
        release(folder)


def release(folder: str) -> None:
    """Let go of all mapped pages of the files under a folder."""
    place = os.path.realpath(folder) + os.sep
    madvise = _madvise()
    if madvise is None:
        return
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            span, rights, _, _, _, *name = line.rstrip("\n").split(maxsplit=5)
            if rights == "r--s" and name and name[0].startswith(place):
                start, end = (int(part, 16) for part in span.split("-"))
                madvise(start, end - start, _DONTNEED)


def _resident_file_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@cache
def _madvise() -> Any:  # Any: a C function
    if not os.path.exists("/proc/self/maps"):
        return None
    function = ctypes.CDLL(None, use_errno=True).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
