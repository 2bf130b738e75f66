"""Shared fixtures: where outside data lies, a tiny picture folder, a small collection with the hashing encoder."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import COLOURS, make_photo


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of outside data (flickr8k, clothing, badimages); its tests skip by name where there is none."""
    folder = os.environ.get("CLIPSEARCH_TEST_DATA")
    if not folder:
        pytest.skip("CLIPSEARCH_TEST_DATA is not set")
    return Path(folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six pictures, one a colour."""
    folder = tmp_path / "photos"
    for seed, (name, colour) in enumerate(COLOURS.items()):
        make_photo(folder / f"{name}.png", colour, seed)
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real diffusers pipeline with random weights, saved to disk."""
    if importlib.util.find_spec("diffusers") is None:
        pytest.skip("diffusers is not installed: pip install 'clipsearch[diffusers]'")
    import tiny_pipeline

    return tiny_pipeline.save(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep last searches away from those of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
