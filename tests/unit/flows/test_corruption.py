"""Damage of every kind to every kind of file: ``verify`` finds each, and no search answers wrongly because of one."""

import shutil

import pytest
from care import whole_collection
from corruptions import totals, try_corruptions

from clipsearch.flows.compact import compact
from clipsearch.store import Store


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("corruption") / "c"
    whole_collection(path).close()
    return path


def test_a_corruption_of_each_file_is_found_and_never_answers_wrongly(path):
    outcomes = totals(try_corruptions(path, 60, seed=1))
    assert set(outcomes) == {"right", "refused"}
    assert outcomes["right"] > 30 and outcomes["refused"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("compacted", [False, True])
def test_700_corruptions_of_a_copy_are_found_and_never_answer_wrongly(path, tmp_path, compacted):
    shutil.copytree(path, tmp_path / "c")
    if compacted:
        compact(Store.open(tmp_path / "c"))
    outcomes = totals(try_corruptions(tmp_path / "c", 700, seed=2))
    assert set(outcomes) == {"right", "refused"} and sum(outcomes.values()) == 700
