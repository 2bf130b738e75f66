"""The shipped encoder: its contract, its tokens and its vectors against those of the models they come from."""

import json
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipsearch.embed.mini import FILES, TEXT_BATCH, TEXT_TOKENS, WEIGHTS, MiniEncoder, WordPiece, batches

GOLDEN = Path(__file__).parents[2] / "golden"
TEXTS = [
    "dog",
    "a red car",
    "two children play football on a green field",
    "food on a table",
    "",
    "a photo of a very old stone bridge",
]


@pytest.fixture(scope="module")
def mini() -> MiniEncoder:
    return MiniEncoder(threads=2)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(7).integers(0, 256, (5, 14, 14, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def test_embeddings_are_float32_of_unit_norm_and_of_the_said_length(mini: MiniEncoder, pixels: NDArray[np.uint8]):
    for found, rows in ((mini.encode_images(pixels), len(pixels)), (mini.encode_texts(TEXTS), len(TEXTS))):
        assert found.shape == (rows, mini.dim)
        assert found.dtype == np.float32
        assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_an_empty_batch_gives_no_rows(mini: MiniEncoder):
    assert mini.encode_images(np.empty((0, 224, 224, 3), np.uint8)).shape == (0, mini.dim)
    assert mini.encode_texts([]).shape == (0, mini.dim)


def test_a_picture_does_not_depend_on_its_batch(mini: MiniEncoder, pixels: NDArray[np.uint8]):
    alone = np.concatenate([mini.encode_images(pixels[i : i + 1]) for i in range(len(pixels))])
    assert np.abs(mini.encode_images(pixels) - alone).max() < 1e-4


def test_a_text_does_not_depend_on_its_batch(mini: MiniEncoder):
    alone = np.concatenate([mini.encode_texts([text]) for text in TEXTS])
    assert np.abs(mini.encode_texts([*TEXTS, "a long sentence " * 20])[:-1] - alone).max() < 1e-4


def test_texts_go_in_batches_of_like_length_and_bounded_tokens():
    lengths = np.random.default_rng(0).integers(2, 129, 900).tolist() + [3] * 600
    found = list(batches(lengths))
    assert sorted(i for rows in found for i in rows) == list(range(1_500))
    for rows in found:
        assert len(rows) <= TEXT_BATCH and len(rows) * max(lengths[i] for i in rows) <= TEXT_TOKENS
    assert [lengths[i] for rows in found for i in rows] == sorted(lengths)
    assert max(map(len, found)) == TEXT_BATCH and not list(batches([]))


def test_order_is_kept_across_batches(mini: MiniEncoder):
    many = [f"{'very ' * (i % 7)}photo {i}" for i in range(150)]
    found = mini.encode_texts(many)
    assert np.abs(found[[0, 77, 149]] - mini.encode_texts([many[0], many[77], many[149]])).max() < 1e-4


def test_pixels_of_another_shape_or_type_are_refused(mini: MiniEncoder):
    for wrong in (
        np.zeros((1, 200, 224, 3), np.uint8),
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((224, 224, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="pixels are uint8"):
            mini.encode_images(wrong)


def test_tokens_equal_those_of_the_reference_tokenizer(mini: MiniEncoder):
    for case in json.loads((GOLDEN / "mini_tokens.json").read_text(encoding="utf-8")):
        assert mini.tokenizer.encode(case["text"]) == case["ids"], case["text"]


def test_a_long_text_is_cut_and_what_follows_is_not_read(mini: MiniEncoder):
    long = "dog " * 500
    assert len(mini.tokenizer.encode(long)) == 128
    np.testing.assert_array_equal(mini.encode_texts([long]), mini.encode_texts([long + "cat"]))


@pytest.mark.parametrize("text", ["", " \n", "東京タワー", "Привет", "مرحبا", "😀", "\x00", "x" * 5000])
def test_no_text_breaks_it(mini: MiniEncoder, text: str):
    assert np.isfinite(mini.encode_texts([text])).all()


def test_a_small_vocabulary_splits_as_wordpiece_does():
    pieces = WordPiece(["[UNK]", "[CLS]", "[SEP]", "play", "##ing", "!"])
    assert pieces.encode("Playing! played") == [1, 3, 4, 5, 0, 2]


def test_vectors_stay_close_to_those_of_the_torch_model(mini: MiniEncoder):
    golden = np.load(GOLDEN / "mini_vectors.npz")
    images = (mini.encode_images(golden["pixels"]) * golden["images"]).sum(1)
    texts = (mini.encode_texts([str(text) for text in golden["texts"]]) * golden["embeddings"]).sum(1)
    assert images.min() >= 0.99
    assert texts.min() >= 0.99


def test_words_find_what_they_mean(mini: MiniEncoder):
    query, near, far = mini.encode_texts(["a puppy", "a small dog", "an airplane on a runway"])
    assert query @ near > query @ far + 0.2


def test_the_fingerprint_is_stable_and_changes_with_any_file(mini: MiniEncoder, tmp_path: Path):
    for name in FILES:
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    assert MiniEncoder(weights=tmp_path).fingerprint() == mini.fingerprint() == MiniEncoder().fingerprint()
    raw = bytearray((tmp_path / "image.onnx").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "image.onnx").write_bytes(raw)
    assert MiniEncoder(weights=tmp_path).fingerprint() != mini.fingerprint()


def test_all_weights_together_stay_under_40_mb():
    assert sum((WEIGHTS / name).stat().st_size for name in FILES) <= 40e6


def test_a_text_query_loads_neither_torch_nor_the_image_tower():
    program = (
        "import sys; from clipsearch.embed.mini import MiniEncoder; assert 'onnxruntime' not in sys.modules\n"
        "e = MiniEncoder(); e.encode_texts(['dog']); assert not e._image.is_loaded and e._text.is_loaded\n"
        "assert not {'torch', 'open_clip', 'transformers', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_sessions_are_made_anew_after_a_fork():
    program = (
        "import os, numpy as np; from clipsearch.embed.mini import MiniEncoder\n"
        "e = MiniEncoder(threads=2); before = e.encode_texts(['dog']); child = os.fork()\n"
        "if not child: os._exit(0 if np.allclose(e.encode_texts(['dog']), before, atol=1e-5) else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120)


def test_threads_may_share_an_encoder():
    encoder = MiniEncoder(threads=1)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: encoder.encode_texts(TEXTS), range(8)))
    assert max(np.abs(one - found[0]).max() for one in found) < 1e-6
    assert encoder._text.is_loaded


@pytest.mark.slow
def test_recall_on_flickr8k_dev_holds_the_floor(mini: MiniEncoder, test_data: Path):
    images, texts, owners = _flickr8k_dev(mini, test_data / "flickr8k")
    scores = texts @ images.T
    ranks = (scores >= scores[np.arange(len(owners)), owners][:, None]).sum(1) - 1
    assert (ranks < 1).mean() >= 0.19
    assert (ranks < 10).mean() >= 0.60


def _flickr8k_dev(
    mini: MiniEncoder, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    import csv

    from PIL import Image

    with (folder / "dev.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    names = list(dict.fromkeys(row["image"] for row in rows))
    found: dict[str, NDArray[np.uint8]] = {}
    with tarfile.open(folder / "dev.tar") as archive:
        for member in archive:
            if member.isfile():
                found[Path(member.name).name] = mini.preprocess(Image.open(archive.extractfile(member)))
    images = np.concatenate(
        [mini.encode_images(np.stack([found[n] for n in names[i : i + 50]])) for i in range(0, len(names), 50)]
    )
    owners = np.array([names.index(row["image"]) for row in rows])
    return images, mini.encode_texts([row["caption"].strip() for row in rows]), owners
