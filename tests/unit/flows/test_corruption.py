"""Damage of every kind to every kind of file: ``verify`` finds each, and no search answers wrongly because of one."""

from pathlib import Path

import numpy as np
import pytest
from care import persistent_files, unit_rows, whole_collection

import clipsearch
from clipsearch.errors import ClipsearchError
from clipsearch.flows.verify import verify

QUERIES = unit_rows(4, 64, 77).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("corruption") / "c"
    whole_collection(path).close()
    return path


def damaged(data: bytes, chance: np.random.Generator) -> bytes:
    """Return bytes with a bit flipped, a page zeroed, or an end cut off; never the same bytes."""
    at = int(chance.integers(len(data)))
    kind = chance.integers(3)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << int(chance.integers(8))]) + data[at + 1 :]
    if kind == 1:
        start = at // 4096 * 4096
        zeroed = data[:start] + bytes(len(data[start : start + 4096])) + data[start + 4096 :]
        return zeroed if zeroed != data else data[:-1]
    return data[:at]


def answers(path):
    """Return ids and scores, found by comparing everything and by the built index, and rows that pass a filter."""
    with clipsearch.open(path) as collection:
        exact = collection.search(vector=QUERIES, k=5, recall=1.0)
        some = collection.search(vector=QUERIES, k=5, where="id % 2 = 0")
        return [[(hit.id, hit.path, round(hit.score, 3)) for hit in result] for result in (*exact, *some)]


def try_corruptions(path, n, seed):
    chance, expected = np.random.default_rng(seed), answers(path)
    files = persistent_files(path)
    outcomes = {"right": 0, "refused": 0}
    for turn in range(n):
        where = Path(path, files[turn % len(files)])
        data = where.read_bytes()
        where.write_bytes(damaged(data, chance))
        try:
            assert not verify(str(path)).whole, (where, turn)
            try:
                assert answers(path) == expected, (where, turn)
                outcomes["right"] += 1
            except ClipsearchError as problem:
                assert problem.exit_code == 4, (where, problem)
                outcomes["refused"] += 1
        finally:
            where.write_bytes(data)
    assert verify(str(path)).whole
    return outcomes


def test_a_corruption_of_each_file_is_found_and_never_answers_wrongly(path):
    outcomes = try_corruptions(path, 60, seed=1)
    assert outcomes["right"] > 30 and outcomes["refused"] > 2


@pytest.mark.slow
def test_1400_corruptions_are_found_and_never_answer_wrongly(path):
    outcomes = try_corruptions(path, 1400, seed=2)
    assert sum(outcomes.values()) == 1400
