"""Suites: what a TOML file asks for."""

from pathlib import Path

import pytest

from benchmarks.contenders import CONTENDERS, load_contender
from benchmarks.environments import REQUIREMENTS
from benchmarks.suite import Entry, load_suite

SUITES = sorted((Path(__file__).parents[3] / "benchmarks" / "suites").glob("*.toml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_that_comes_with_the_project_can_be_read(path):
    suite = load_suite(str(path))
    assert suite.name == path.stem
    assert all(entry.points() for entry in suite.entries)


def test_every_contender_can_be_looked_at_without_its_library_and_has_its_requirements():
    for name in CONTENDERS:
        environment = load_contender(name).environment
        assert environment is None or (REQUIREMENTS / f"{environment}.txt").exists(), name


def test_a_list_of_values_is_a_point_for_each():
    entry = Entry("x", "numpy", search=({}, {"a": [1, 2], "b": 3, "c": [4, 5]}))
    assert entry.points()[0] == {}
    assert [tuple(p.values()) for p in entry.points()[1:]] == [(1, 3, 4), (1, 3, 5), (2, 3, 4), (2, 3, 5)]


def test_the_folder_of_a_build_depends_on_its_parameters_alone():
    one, same = Entry("x", "numpy", {"a": 1, "b": 2}), Entry("y", "numpy", {"b": 2, "a": 1}, search=({"c": 1},))
    assert one.folder == same.folder
    assert one.folder != Entry("x", "numpy", {"a": 2, "b": 2}).folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('color = "red"', "unknown key 'color'"),
        ('[[entry]]\nlabel = "a"\ncontender = "numpy"\n[[entry]]\nlabel = "a"\ncontender = "numpy"', "label twice"),
        ('[[entry]]\nlabel = "a"\ncontender = "nympy"', "No contender is called 'nympy'"),
    ],
)
def test_a_suite_with_a_mistake_is_refused(tmp_path, text, message):
    path = tmp_path / "s.toml"
    path.write_text(f'name = "s"\n{text}\n[dataset]\nkind = "synthetic"\n')
    with pytest.raises(ValueError, match=message):
        load_suite(str(path))
