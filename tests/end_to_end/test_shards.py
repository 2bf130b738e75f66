"""Parts of a folder in collections of their own."""

from pathlib import Path

import pytest
from support import make_photo

import clipsearch


@pytest.fixture
def parts(photos, tmp_path):
    for number in range(14):
        make_photo(photos / "more" / f"{number}.png", (15 * number, 80, 200), number)
    captions = tmp_path / "captions.csv"
    rows = [str(path.relative_to(photos)) for path in photos.rglob("*.png")]
    captions.write_text("image,caption\n" + "".join(f"{row},of {row}\n" for row in rows))
    made = [clipsearch.create(tmp_path / f"{i}", model="hashing") for i in (1, 2, 3)]
    reports = [
        collection.index(photos, workers=1, shard=f"{i}/3", captions=captions) for i, collection in enumerate(made, 1)
    ]
    return photos, made, reports


def found(collection):
    return [hit.path for hit in collection.search("x", k=100)]


def test_the_parts_together_are_the_whole(parts):
    photos, made, reports = parts
    assert sum(report.embedded for report in reports) == 20 and all(report.embedded for report in reports)
    assert sorted(path for collection in made for path in found(collection)) == sorted(map(str, photos.rglob("*.png")))
    assert [report.texts for report in reports] == [report.embedded for report in reports]
    assert not any(report.notes for report in reports)


def test_each_part_is_kept_current_by_itself(parts):
    photos, made, _ = parts
    first, others = found(made[0]), [found(made[1]), found(made[2])]
    for path in first:
        Path(path).unlink()
    reports = [collection.index(photos, workers=1, shard=f"{i}/3") for i, collection in enumerate(made, 1)]
    # A part that is empty now is not taken for a folder that is not mounted: the other parts' pictures are there.
    assert [report.deleted for report in reports] == [len(first), 0, 0]
    assert found(made[0]) == [] and [found(made[1]), found(made[2])] == others


def test_the_parts_exported_and_imported_are_one_collection(parts, tmp_path):
    _, made, _ = parts
    (tmp_path / "joined").mkdir()
    for number, collection in enumerate(made):
        collection.export("parquet", tmp_path / "joined" / f"{number}.parquet")
    whole = clipsearch.create(tmp_path / "whole", model="hashing", dim=made[0].encoder.dim)
    assert whole.index_embeddings(tmp_path / "joined", model="hashing").images_total == 20
    assert sorted(found(whole)) == sorted(path for collection in made for path in found(collection))
