"""A run that fails before anything was stored leaves nothing that it made, and all that was there before."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import make_photo

import clipsearch
from clipsearch.errors import LockedError
from clipsearch.store import Store


def everything(folder):
    return sorted(os.path.join(at, name) for at, folders, names in os.walk(folder) for name in [*folders, *names])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, without a home of collections, with files of captions that hold no text or are broken."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    rows = [json.dumps({"image": f"{n}.jpg", "caption": f"number {n}"}) for n in range(1, 501)]
    (tmp_path / "broken.json").write_text("[" + ",\n".join([*rows[:316], rows[316][:-3], *rows[317:]]) + "]")
    (tmp_path / "broken.csv").write_text('image,caption\n1.jpg,"a dog\n2.jpg,"a cat\n')  # no line is whole
    (tmp_path / "none").mkdir()
    np.save(tmp_path / "flat.npy", np.zeros(12, np.float32))
    return tmp_path


@pytest.mark.parametrize("captions", ["empty.txt", "broken.json", "broken.csv"])
@pytest.mark.parametrize("index", ["new", "./new", "deep/er/new"])
def test_texts_that_cannot_be_used_leave_no_collection(cli, place, captions, index):
    before = everything(place)
    done = cli("index", "--captions", captions, "-i", index, "--model", "hashing")
    assert done.code == 2 and len(done.err.splitlines()) <= 4 and "Traceback" not in done.err
    assert everything(place) == before


def test_what_was_there_before_stays(cli, place):
    (place / "bank").mkdir()  # a folder that somebody made for it
    before = everything(place)
    assert cli("index", "--captions", "empty.txt", "-i", "./bank", "--model", "hashing").code == 2
    assert everything(place) == before
    clipsearch.create(place / "bank", "hashing").close()  # a collection without content that another run made
    before = everything(place)
    assert cli("index", "--captions", "empty.txt", "-i", "./bank").code == 2
    assert everything(place) == before
    (place / "good.txt").write_text("a dog\n")
    assert cli("index", "--captions", "good.txt", "-i", "./bank").code == 0
    assert cli("index", "--captions", "broken.json", "-i", "./bank").code == 2
    with clipsearch.open(place / "bank") as collection:
        assert collection.status().texts == 1


def test_pictures_that_were_stored_stay_where_the_captions_fail(cli, place):
    make_photo(place / "photos" / "a.png", (1, 2, 3))
    rows = pa.table({"caption": [f"number {n}" for n in range(20_000)]})
    pq.write_table(rows, place / "late.parquet", row_group_size=10_000, compression="none", use_dictionary=False)
    part = pq.read_metadata(place / "late.parquet").row_group(1).column(0).data_page_offset
    with open(place / "late.parquet", "r+b") as file:  # its beginning can be read
        file.seek(part)
        file.write(b"\xff" * 64)
    arguments = ("index", "photos", "--captions", "late.parquet", "-i", "./new", "--model", "hashing")
    assert cli(*arguments).code == 2
    with clipsearch.open(place / "new") as collection:
        assert collection.status().images == 1


def test_embeddings_that_do_not_fit_leave_no_collection(cli, place):
    before = everything(place)
    assert cli("index", "--embeddings", "flat.npy", "-i", "new").code == 2
    assert everything(place) == before


def test_only_a_collection_without_any_content_is_unmade(tmp_path):
    store = Store.create(tmp_path / "one", {"name": "hashing"}, 8)
    with store.writer(), pytest.raises(LockedError):
        Store.unmake(tmp_path / "one")
    (tmp_path / "one" / "notes.txt").write_text("somebody's")
    assert not Store.unmake(tmp_path / "one") and store.snapshot().version == 1
    (tmp_path / "one" / "notes.txt").unlink()
    assert Store.unmake(tmp_path / "one") and os.listdir(tmp_path / "one") == []
    Store.create(tmp_path / "one", {"name": "hashing"}, 8)  # the place can be used again
