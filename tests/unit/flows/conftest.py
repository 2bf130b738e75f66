"""What several tests of corridors begin with."""

import shutil

import pytest
from care import whole_collection


@pytest.fixture(scope="session")
def _whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "c"
    whole_collection(path).close()
    return path


@pytest.fixture
def path(_whole, tmp_path):
    """A copy of a collection that holds every kind of file."""
    shutil.copytree(_whole, tmp_path / "c")
    return tmp_path / "c"
