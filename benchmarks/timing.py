"""How a search is timed: warm-up, then calls one after the other, each with its own clock, until enough or too long.

Runs in the contender's process, right around its call. A *plan* of batch 1 gives the latency of a query asked alone; a
larger batch gives queries per second. Slow contenders are cut off by ``cap_s``: they answer fewer queries, and the
record says how many.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """How to time.

    Attributes:
        batch: queries a call.
        queries: queries to answer; more than there are means around again.
        warmup: queries asked before, from the end of the list, not counted.
        cap_s: seconds after which no further call is made; at least one is.
        least_s: seconds to go on for, where all queries were answered sooner.
    """

    batch: int = 1
    queries: int = 300
    warmup: int = 50
    cap_s: float = 10.0
    least_s: float = 0.0


@dataclass
class Timed:
    """What was measured.

    Attributes:
        seconds: of each call.
        inside: of each call, spent in the library behind it; empty where nobody counts.
        first: seconds of the very first call of the warm-up, one query.
        ids: answers (Q, k) to the queries in their order, each once.
    """

    seconds: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    first: float = 0.0
    ids: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))


def run(
    search: Callable[[Floats], Any], xq: Floats, plan: Plan, clock: Callable[[], float] | None = None
) -> Timed:  # Any: whatever numpy makes an array of ids of
    """Time ``search`` on queries (Q, D).

    Args:
        search: answers queries (B, D) with ids (B, k).
        xq: the queries.
        plan: how.
        clock: seconds spent so far in the library behind ``search``, if somebody counts.
    """
    done = Timed()
    start = time.perf_counter()
    search(xq[-1:])
    done.first = time.perf_counter() - start
    for rows in _batches(xq[::-1], plan.batch, plan.warmup - 1):
        if time.perf_counter() - start + done.first * plan.batch > plan.cap_s / 4:
            break
        search(np.ascontiguousarray(rows))
    batches = _batches(xq, plan.batch, min(plan.queries, len(xq)))
    found, start = [], time.perf_counter()
    while True:
        for rows in batches:
            inside = clock() if clock else 0.0
            began = time.perf_counter()
            ids = search(rows)
            done.seconds.append(time.perf_counter() - began)
            if clock:
                done.inside.append(clock() - inside)
            if len(found) < len(batches):
                found.append(np.asarray(ids, np.int64))
            if time.perf_counter() - start > plan.cap_s:
                break
        if time.perf_counter() - start >= min(plan.least_s, plan.cap_s):
            break
    done.ids = np.concatenate(found)
    return done


def _batches(xq: Floats, size: int, n: int) -> list[Floats]:
    """Cut the first ``n`` queries into batches; one that would not be full is left out, unless it is the only one."""
    whole = max(n // size, 1 if n > 0 else 0)
    return [xq[i * size : (i + 1) * size] for i in range(whole)]


def percentile_ms(seconds: list[float], share: float) -> float:
    """Return the time that ``share`` (0 to 1) of the calls stay below, in milliseconds."""
    return round(float(np.quantile(np.array(seconds), share)) * 1e3, 4)
