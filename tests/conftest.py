"""Shared fixtures: where outside data lies, a tiny picture folder, a small collection with the hashing encoder."""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import COLOURS, make_photo

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before faiss and torch: threads that wait leave busy cores alone


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


@dataclass(frozen=True)
class ExportedClip:
    """A tiny CLIP with random weights: its name, its checkpoint, and the model cache beside which its exports lie."""

    name: str
    checkpoint: Path
    cache: Path


@pytest.fixture(scope="session")
def _exported_clip(tmp_path_factory: pytest.TempPathFactory) -> ExportedClip:
    for package in ("open_clip", "onnx", "onnxscript"):
        pytest.importorskip(package)
    from clipsearch.embed import export_model

    spec = importlib.util.spec_from_file_location(
        "tiny_models_of_the_exports", Path(__file__).parent / "unit" / "embed" / "tiny_open_clip.py"
    )
    assert spec is not None and spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    folder = tmp_path_factory.mktemp("exported")
    tiny.register(folder, "exported-clip", tiny.CLIP)
    checkpoint = tiny.save(tiny.random_model("exported-clip"), folder / "clip.pt")
    made = ExportedClip(f"exported-clip@{checkpoint}", checkpoint, folder / "hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(made.cache))
        export_model(made.name, "int8")
    return made


@pytest.fixture
def exported_clip(_exported_clip: ExportedClip, monkeypatch: pytest.MonkeyPatch) -> ExportedClip:
    """A tiny CLIP that is exported in fp32 and int8; the environment says where."""
    monkeypatch.setenv("HF_HUB_CACHE", str(_exported_clip.cache))
    return _exported_clip
