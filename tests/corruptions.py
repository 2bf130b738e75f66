"""Damage the files of a collection one at a time, and look whether it is found and whether any answer becomes wrong."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
from care import persistent_files, unit_rows

import clipsearch
from clipsearch.errors import ClipsearchError
from clipsearch.flows.verify import verify

KINDS = ("bit flip", "zeroed page", "truncation")
QUERIES = unit_rows(4, 64, 77).astype(np.float32)


def damaged(data: bytes, kind: str, chance: np.random.Generator) -> bytes:
    """Return bytes with a bit flipped, a page zeroed, or an end cut off; never the same bytes."""
    at = int(chance.integers(len(data)))
    if kind == "bit flip":
        return data[:at] + bytes([data[at] ^ 1 << int(chance.integers(8))]) + data[at + 1 :]
    if kind == "zeroed page":
        start = at // 4096 * 4096
        zeroed = data[:start] + bytes(len(data[start : start + 4096])) + data[start + 4096 :]
        return zeroed if zeroed != data else data[:-1]
    return data[:at]


def answers(path):
    """Return ids, paths and scores: by the built index, by comparing everything, behind a filter, and of captions."""
    with clipsearch.open(path) as collection:
        found = [
            *collection.search(vector=QUERIES[:2], k=5),
            *collection.search(vector=QUERIES, k=5, recall=1.0),
            *collection.search(vector=QUERIES[:2], k=5, where="id % 2 = 0"),
            *collection.search(vector=QUERIES[:2], k=5, target="text"),
        ]
        return [[(hit.id, hit.path, hit.text, round(hit.score, 3)) for hit in result] for result in found]


def try_corruptions(path, n: int, seed: int) -> Counter[tuple[str, str, str]]:
    """Damage one file after the other, ``n`` times, and put each right again.

    Returns:
        How often what came of it, by (folder, kind of damage, outcome): "right" answers, "refused" with exit code 4,
        "wrong" answers, "overlooked" by verify, or the name of an exception that should not have come out.
    """
    chance, expected = np.random.default_rng(seed), answers(path)
    files = [name for name in persistent_files(path) if name != "stamps.json"]
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for turn in range(n):
        name, kind = files[turn % len(files)], KINDS[(turn + turn // len(files)) % 3]
        where = Path(path, name)
        data = where.read_bytes()
        where.write_bytes(damaged(data, kind, chance))
        folder = os.path.dirname(name) or name
        try:
            if verify(str(path)).whole:
                outcomes[folder, kind, "overlooked"] += 1
            outcomes[folder, kind, _outcome(path, expected)] += 1
        finally:
            where.write_bytes(data)
    assert verify(str(path)).whole
    return outcomes


def _outcome(path, expected) -> str:
    try:
        return "right" if answers(path) == expected else "wrong"
    except ClipsearchError as problem:
        return "refused" if problem.exit_code == 4 else type(problem).__name__
    except Exception as problem:
        return type(problem).__name__


def totals(outcomes: Counter[tuple[str, str, str]]) -> Counter[str]:
    """Return how often each outcome came."""
    found: Counter[str] = Counter()
    for (_, _, outcome), times in outcomes.items():
        found[outcome] += times
    return found
