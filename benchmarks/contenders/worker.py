"""The process of one contender: reads commands, one JSON line each, on stdin; answers on stdout, one JSON line each.

    python -m benchmarks.contenders.worker NAME THREADS

It binds itself to THREADS cores before numpy or any library is imported, so that a library which counts cores or
starts a pool of its own cannot take more. What libraries print goes to stderr.
"""

import json
import os
import sys
from typing import Any

CHANNEL = os.fdopen(os.dup(1), "w", buffering=1)


def bind(threads: int) -> list[int]:
    """Bind the process to the last ``threads`` cores that it may use, and return them."""
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cores)
    return cores


def main() -> None:
    """Serve commands until stdin ends."""
    os.dup2(2, 1)
    name, threads = sys.argv[1], int(sys.argv[2])
    bind(threads)
    from benchmarks.contenders.desk import Desk

    desk = Desk(name, threads)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"ok": True, **desk.serve(json.loads(line))}
        except Exception as problem:  # the harness decides what a failure means; the record keeps it
            import traceback

            traceback.print_exc()
            answer = {"ok": False, "error": f"{type(problem).__name__}: {problem}"[:500]}
        CHANNEL.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
