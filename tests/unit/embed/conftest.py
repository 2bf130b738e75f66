"""Tiny open_clip models, made once a session."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from embed_inputs import SIZES
from PIL import Image


@dataclass(frozen=True)
class Tiny:
    """Where the tiny models lie: a CLIP's checkpoint, a SigLIP's folder."""

    clip: str
    clip_name: str
    siglip: str
    siglip_name: str
    folder: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Two architectures known to open_clip, with random weights saved on disk."""
    pytest.importorskip("open_clip")
    import tiny_open_clip

    folder = tmp_path_factory.mktemp("tiny")
    tiny_open_clip.register(folder, "tiny-clip", tiny_open_clip.CLIP)
    tiny_open_clip.register(folder, "tiny-towers", tiny_open_clip.SIGLIP)
    clip = tiny_open_clip.save(tiny_open_clip.random_model("tiny-clip"), folder / "clip.pt")
    siglip = tiny_open_clip.save_folder(
        tiny_open_clip.random_model("tiny-towers"),
        folder / "siglip",
        tiny_open_clip.SIGLIP,
        tiny_open_clip.SIGLIP_PREPROCESS,
    )
    return Tiny(str(clip), f"tiny-clip@{clip}", str(siglip), f"local-dir:{siglip}", folder)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Noise of odd shapes: portrait, landscape, strips, smaller and larger than any input."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty Hugging Face cache of this test's own."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub").mkdir()
    yield tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection and every look-up of a host name an error that names itself."""
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
