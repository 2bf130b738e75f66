"""``repair``: every damaged file is made again or named, the same answers come after it, nothing is deleted."""

from pathlib import Path

import numpy as np
import pytest
from care import persistent_files, unit_rows
from support import COLOURS, make_photo

import clipsearch
from clipsearch.cli import run
from clipsearch.flows.repair import repair
from clipsearch.flows.verify import verify
from clipsearch.store import Store


def encoder_of(path):
    return lambda: clipsearch.open(path).encoder


def rows_of(path):
    """Return everything that a version says of live rows, but for when they were indexed."""
    snapshot = Store.open(path).snapshot()
    found = {}
    for kind in ("images", "texts"):
        ids = snapshot.live(np.sort(np.concatenate([block.ids for block in snapshot.blocks(kind)])))
        found[kind] = (ids.tolist(), snapshot.rows(kind, ids), snapshot.embeddings(kind, ids).tobytes())
    return found, dict(snapshot.manifest.counts)


def best(path):
    with clipsearch.open(path) as collection:
        found = collection.search(vector=unit_rows(1, 64, 77)[0].astype(np.float32), k=5, recall=1.0)
        return [(hit.id, round(hit.score, 3)) for hit in found]


def test_any_one_damaged_file_that_another_holds_too_is_made_again_with_the_same_rows(path):
    expected, answer = rows_of(path), best(path)
    originals = ("skipped/", "imports/", "generated/")
    for name in [name for name in persistent_files(path) if not name.startswith(originals)]:
        where = Path(path, name)
        if not where.exists():
            continue  # replaced by a repair before
        data = where.read_bytes()
        where.write_bytes(data[:-2] + bytes([data[-2] ^ 16]) + data[-1:])
        report = repair(str(path), encoder_of(path))
        assert report.left.whole, (name, report)
        assert report.lost == 0
        assert rows_of(path) == expected, name
    assert best(path) == answer


def test_a_manifest_that_still_reads_well_is_not_taken_where_its_digest_differs(path):
    expected = rows_of(path)
    with Store.open(path).writer() as writer:
        writer.commit(skipped=[])  # the version before holds the same rows
    newest = max((path / "manifests").iterdir())
    newest.write_bytes(newest.read_bytes().replace(b'"images": 238', b'"images": 239'))
    report = repair(str(path), encoder_of(path))
    assert report.left.whole and rows_of(path) == expected
    assert f"manifests/{newest.name}" in report.moved


def test_a_second_repair_changes_nothing(path):
    next(Path(path, "embeddings").glob("images*")).write_bytes(b"")
    assert repair(str(path), encoder_of(path)).left.whole
    before = {name: Path(path, name).read_bytes() for name in persistent_files(path)}
    again = repair(str(path), encoder_of(path))
    assert (again.made, again.moved, again.lost) == ((), (), 0)
    assert {name: Path(path, name).read_bytes() for name in persistent_files(path)} == before


@pytest.mark.parametrize("name", ["skipped", "imports", "generated"])
def test_an_original_that_nothing_else_holds_is_moved_aside_and_named(path, name):
    for file in Path(path, name).glob("*.json*" if name != "generated" else "a.*"):
        file.write_bytes(file.read_bytes()[:-3])
    report = repair(str(path), encoder_of(path))
    assert report.left.whole and report.moved
    assert len(list((path / "damaged").iterdir())) == len(report.moved)


def test_nothing_of_a_whole_copied_collection_is_changed(path):
    before = {name: Path(path, name).read_bytes() for name in persistent_files(path)}
    report = repair(str(path), encoder_of(path))
    assert (report.made, report.moved) == ((), ())
    assert {name: Path(path, name).read_bytes() for name in persistent_files(path)} == before


def test_pictures_whose_rows_are_lost_are_embedded_again_from_their_files(tmp_path):
    photos = tmp_path / "photos"
    for seed, (name, colour) in enumerate(COLOURS.items()):
        make_photo(photos / f"{name}.png", colour, seed)
    place = tmp_path / "c"
    with clipsearch.create(place, model="hashing") as collection:
        collection.index(photos, workers=1)
        expected = [(Path(hit.path).name, round(hit.score, 4)) for hit in collection.search(image=photos / "red.png")]
    (photos / "white.png").unlink()
    for file in [*place.glob("embeddings/*"), *place.glob("sidecars/*.emb.npy")]:
        file.write_bytes(b"damaged")
    assert run(["verify", "-i", str(place)]) == 4
    assert run(["repair", "-i", str(place)]) == 0
    with clipsearch.open(place) as collection:
        found = [(Path(hit.path).name, round(hit.score, 4)) for hit in collection.search(image=photos / "red.png")]
    assert found == [hit for hit in expected if hit[0] != "white.png"]
    assert verify(str(place)).whole
    assert len(list((place / "damaged").iterdir())) >= 2
