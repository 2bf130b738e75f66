"""Names of devices, and a torch model on several of them at once."""

import numpy as np
import pytest
from support import COLOURS, make_photo

import clipsearch
from clipsearch.embed import devices_of
from clipsearch.errors import InputError
from clipsearch.store import Store


def test_names_of_devices():
    assert devices_of("auto") == ("auto",)
    assert devices_of("cuda:0, cuda:1") == ("cuda:0", "cuda:1")
    for wrong in ("", "cuda:0,", ",cpu"):
        with pytest.raises(InputError, match="empty name"):
            devices_of(wrong)


def test_all_devices_without_any_is_a_clear_error():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        assert devices_of("all") == tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    else:
        with pytest.raises(InputError, match="every CUDA device") as caught:
            devices_of("all")
        assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("one", "several"), [("cpu", "cpu,cpu"), pytest.param("cuda:0", "cuda:0,cuda:1", marks=pytest.mark.gpu)]
)
def test_several_devices_give_the_rows_of_one_to_the_last_bit(one, several, tmp_path, tiny):
    torch = pytest.importorskip("torch")
    if "cuda:1" in several and torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    for i, colour in enumerate(COLOURS.values()):
        for j in range(4):
            make_photo(tmp_path / "gallery" / f"{i}{j}.png", colour, seed=j, size=(48, 32))
    rows = []
    for name, devices in (("one", one), ("several", several)):
        with clipsearch.create(tmp_path / name, tiny.clip_name, device=devices) as made:
            assert made.index(tmp_path / "gallery", batch_size=4, workers=1).embedded == 24
            snapshot = Store.open(made.path).snapshot()
        known = sorted(snapshot.known_files(), key=lambda row: row.id)
        rows.append(([(row.id, row.path) for row in known], snapshot.embeddings("images", [row.id for row in known])))
    assert rows[0][0] == rows[1][0]
    np.testing.assert_array_equal(rows[0][1], rows[1][1])
