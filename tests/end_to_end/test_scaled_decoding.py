"""Large pictures are decoded small: what that costs an embedding of ``mini``, over photographs of 2 and 12 megapixels.

Cosine between the embedding of the scaled and of the whole decode; at least 0.99 at the first percentile. Photographs
that packages or the outside data bring are smaller, so they are enlarged and get grain, the finest detail there can be.
"""

import importlib.util
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.decode import DecodeLimits, decode_image
from clipsearch.embed import load_encoder

SHIPPED = {
    "skimage": ("data", "astronaut brick camera cell chelsea coffee coins grass gravel hubble_deep_field ihc moon "
                "motorcycle_left retina rocket"),
    "sklearn": ("datasets/images", "china flower"),
    "matplotlib": ("mpl-data/sample_data", "grace_hopper"),
}  # fmt: skip
GRAIN = 8  # grey levels; a camera's at a high sensitivity
LEAST = 0.99


def shipped() -> list[Image.Image]:
    """Return the photographs that come with packages, where one of those is installed."""
    found = []
    for package, (folder, names) in SHIPPED.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for name in names.split():
            for file in Path(spec.origin).parent.joinpath(folder).glob(f"{name}.*"):
                found.append(Image.open(file, formats=["JPEG", "PNG"]).convert("RGB"))
    return found


def flickr(test_data: Path, n: int) -> Iterator[Image.Image]:
    """Yield n photographs; they were squashed to squares, and get the width of a photograph again."""
    with tarfile.open(test_data / "flickr8k" / "dev.tar") as tar:
        members = [member for member in tar if member.name.endswith(".jpg")]
        for member in members[:: max(1, len(members) // n)][:n]:
            file = tar.extractfile(member)
            assert file is not None
            yield Image.open(file, formats=["JPEG"]).convert("RGB").resize((299, 224), Image.Resampling.BICUBIC)


def enlarged(photo: Image.Image, megapixels: float, grain: float, seed: int) -> Image.Image:
    """Return a photograph of that many megapixels."""
    times = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
    large = photo.resize((round(photo.width * times), round(photo.height * times)), Image.Resampling.LANCZOS)
    if not grain:
        return large
    noise = np.random.default_rng(seed).standard_normal((large.height, large.width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(np.asarray(large) + grain * noise, 0, 255).astype(np.uint8))


def cosine(encoder, photo: Image.Image, kind: str, **options) -> float:
    """Return the cosine of a picture decoded small to the same decoded whole."""
    buffer = io.BytesIO()
    photo.save(buffer, kind, **options)
    limits = DecodeLimits()
    both = [decode_image(buffer.getvalue(), encoder.preprocess, limits, scaled)[1] for scaled in (True, False)]
    small, whole = encoder.encode_images(np.stack(both))
    return float(small @ whole)


def told(what: str, cosines: list[float]) -> float:
    first = float(np.percentile(cosines, 1))
    print(f"{what}: {len(cosines)} pictures, first percentile {first:.5f}, least {min(cosines):.5f}")
    return first


@pytest.fixture(scope="module")
def mini():
    return load_encoder("mini")


@pytest.fixture(scope="module")
def photographs():
    found = shipped()
    if not found:
        pytest.skip("neither scikit-image nor scikit-learn nor matplotlib is installed, which bring photographs")
    return found


def test_scaled_decoding_hardly_moves_an_embedding(mini, photographs):
    for megapixels, some in ((2, photographs[::6]), (12, photographs[1::18])):
        large = [enlarged(photo, megapixels, GRAIN, seed) for seed, photo in enumerate(some)]
        cosines = [cosine(mini, photo, "JPEG", quality=90) for photo in large]
        assert told(f"{megapixels} megapixels", cosines) >= LEAST
        assert min(cosines) < 1 - 1e-6, "they were not decoded small"


@pytest.mark.slow
@pytest.mark.parametrize("grain", [0, GRAIN])
@pytest.mark.parametrize("megapixels", [2, 12])
def test_scaled_decoding_hardly_moves_the_embedding_of_any_photograph(mini, photographs, megapixels, grain):
    for options in ({"quality": 90}, {"quality": 95, "subsampling": 0}, {"quality": 75, "progressive": True}):
        cosines = [
            cosine(mini, enlarged(photo, megapixels, grain, seed), "JPEG", **options)
            for seed, photo in enumerate(photographs)
        ]
        assert told(f"{megapixels} megapixels, grain {grain}, {options}", cosines) >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_shrinking_first_hardly_moves_the_embedding_of_a_large_picture(mini, photographs, kind):
    cosines = [
        cosine(mini, enlarged(photo, 12, GRAIN, seed), kind, **({"compress_level": 1} if kind == "PNG" else {}))
        for seed, photo in enumerate(photographs[::2])
    ]
    assert told(f"12 megapixels, {kind}", cosines) >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize(("megapixels", "n"), [(2, 200), (12, 100)])
def test_scaled_decoding_hardly_moves_the_embeddings_of_flickr8k(mini, test_data, megapixels, n):
    cosines = [
        cosine(mini, enlarged(photo, megapixels, GRAIN, seed), "JPEG", quality=90)
        for seed, photo in enumerate(flickr(test_data, n))
    ]
    assert len(cosines) == n
    assert told(f"flickr8k at {megapixels} megapixels", cosines) >= LEAST
