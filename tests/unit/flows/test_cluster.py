"""Clusters that were planted are found again, named by contrast, and the same at each run."""

import json

import numpy as np
import pytest
from PIL import Image

from clipsearch.cli import run
from clipsearch.describe.tagging import Standard, Weighing
from clipsearch.errors import InputError
from clipsearch.flows.tagger import Tagger
from clipsearch.index import kmeans as room
from clipsearch.index.kmeans import distinct_labels, spherical_kmeans


def blobs(sizes, dim=24, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.standard_normal((dim, dim)))[0][: len(sizes)]
    true = np.repeat(np.arange(len(sizes)), sizes)
    x = centres[true] + 0.05 * rng.standard_normal((len(true), dim))
    mixed = rng.permutation(len(true))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)[mixed], true[mixed], centres


@pytest.mark.parametrize("sample", [20_000, 60])
def test_planted_clusters_are_found_largest_first(monkeypatch, sample):
    monkeypatch.setattr(room, "SAMPLE", sample)
    x, true, _ = blobs([20, 80, 40])
    found = spherical_kmeans(lambda at: x[at], len(x), 3)
    assert np.bincount(found.cluster).tolist() == [80, 40, 20]
    assert len({*zip(true.tolist(), found.cluster.tolist(), strict=True)}) == 3
    np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.scores, (x.astype(np.float32) @ found.centres.T).max(axis=1), atol=1e-5)


def test_the_same_seed_gives_the_same_clusters():
    x, _, _ = blobs([30, 30, 30, 30])
    one, two = (spherical_kmeans(lambda at: x[at], len(x), 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.cluster, two.cluster)
    np.testing.assert_array_equal(one.centres, two.centres)


def test_equal_rows_are_one_cluster_however_many_are_asked_for():
    x = np.tile(blobs([1])[0], (10, 1))
    assert spherical_kmeans(lambda at: x[at], 10, 4).cluster.tolist() == [0] * 10


def test_a_label_that_fits_everything_names_nothing():
    _, _, centres = blobs([1, 1])
    everything = centres.sum(axis=0) / np.sqrt(2)
    own = [0.65 * centre + 0.2 * other for centre, other in ((centres[0], centres[1]), (centres[1], centres[0]))]
    labels = np.stack([everything, *own]).astype(np.float32)
    names, contrasts = distinct_labels(centres.astype(np.float32), labels)
    assert names.tolist() == [1, 2] and (contrasts > 0.2).all()


def test_a_centre_alone_has_the_nearest_label_and_no_contrast():
    _, _, centres = blobs([1, 1])
    labels = np.stack([centres[1], 0.8 * centres[0] + 0.6 * centres[1]]).astype(np.float32)
    names, contrasts = distinct_labels(centres[:1].astype(np.float32), labels)
    assert (names.tolist(), contrasts.tolist()) == ([1], [0.0])


def test_no_label_comes_twice_and_those_who_get_none_have_none():
    _, _, centres = blobs([1, 1, 1])
    names, _ = distinct_labels(centres.astype(np.float32), centres[:2].astype(np.float32))
    assert names.tolist() == [0, 1, -1]


def test_pictures_of_a_collection_are_parted_and_named(collection):
    report = collection.clusters(k=6, labels=["red", "green", "blue", "yellow", "white", "black"])
    assert report.images == 6 and [cluster.size for cluster in report.clusters] == [1] * 6
    assert all(cluster.paths[0].endswith(f"{cluster.name}.png") for cluster in report.clusters)


def test_clusters_need_as_many_pictures(collection):
    with pytest.raises(InputError, match="6 pictures"):
        collection.clusters(k=7)
    assert sum(cluster.size for cluster in collection.clusters(where="name LIKE 'r%' OR name LIKE 'b%'").clusters) == 3


def test_without_labels_no_model_is_needed(collection, monkeypatch):
    monkeypatch.setattr(type(collection), "encoder", property(lambda _: pytest.fail("the encoder was asked for")))
    assert {cluster.name for cluster in collection.clusters(k=2, labels=[]).clusters} == {""}


def test_the_command_prints_clusters(collection, tmp_path, capsysbinary):
    words = tmp_path / "words.txt"
    words.write_text("red\nblue\ngreen\n")
    options = ["cluster", "-i", collection.path, "--k", "2", "--labels", str(words)]
    assert run([*options, "--json"]) == 0
    rows = list(map(json.loads, capsysbinary.readouterr()[0].splitlines()))
    assert sum(row["size"] for row in rows) == 6 == sum(len(row["ids"]) for row in rows)
    assert run(options) == 0
    assert capsysbinary.readouterr()[0].startswith(b"cluster\timages\tname")
    assert run(["cluster", "-i", collection.path, "--labels", str(tmp_path / "none.txt")]) == 2


# columns and pages


def clusters_by_id(collection, column="cluster"):
    batches = collection.sql(f"SELECT id, {column} AS number, {column}_name AS name FROM images").batches
    return {row["id"]: (row["number"], row["name"]) for batch in batches for row in batch.to_pylist()}


def test_clusters_become_columns_that_filters_can_use(collection):
    report = collection.clusters(k=3, labels=["red", "green", "blue"])
    assert report.columns == ("cluster", "cluster_name")
    told = clusters_by_id(collection)
    for number, cluster in enumerate(report.clusters, start=1):
        assert {told[id_] for id_ in cluster.ids.tolist()} == {(number, cluster.name)}
        for where in (f"cluster = {number}", f"cluster_name = '{cluster.name}'"):
            assert set(collection.search("x", k=6, where=where).ids.tolist()) == set(cluster.ids.tolist())
    assert {column.name: column.type for column in collection.columns()}["cluster"] == "integer"


def test_without_a_column_nothing_is_written(collection):
    version = collection.version
    report = collection.clusters(k=2, labels=[], column=None)
    assert report.columns == () and collection.version == version
    for name in ("width", "Cluster", "text"):
        with pytest.raises(InputError):
            collection.clusters(k=2, labels=[], column=name)


def test_clusters_without_names_have_numbers_all_the_same(collection):
    collection.clusters(k=2, labels=[], column="part")
    assert {name for _, name in clusters_by_id(collection, "part").values()} == {None}
    assert {number for number, _ in clusters_by_id(collection, "part").values()} == {1, 2}


def test_a_picture_that_comes_later_joins_the_nearest_cluster(collection, photos):
    collection.clusters(k=6, labels=["red", "green", "blue", "yellow", "white", "black"])
    before = clusters_by_id(collection)
    Image.new("RGB", (32, 32), (250, 5, 5)).save(photos / "also red.png")
    assert collection.index(photos).columns == {"cluster": 1, "cluster_name": 1}
    after = clusters_by_id(collection)
    (new,) = set(after) - set(before)
    assert after[new][1] == "red" and after[new] in before.values()
    assert {id_: after[id_] for id_ in before} == before


def test_clusters_of_some_pictures_stay_theirs(collection, photos):
    collection.clusters(k=2, labels=[], where="name LIKE 'r%' OR name LIKE 'b%'", column="letters")
    assert [number for number, _ in clusters_by_id(collection, "letters").values()].count(None) == 3
    Image.new("RGB", (32, 32), (250, 5, 5)).save(photos / "rather red.png")
    report = collection.index(photos)
    assert not report.columns and not report.notes and collection.status().columns_advice == ()


def test_names_come_from_the_tags_of_the_pictures_where_there_are_enough(collection):
    assert collection.clusters(k=2).words == "vocabulary"
    labels = ["red", "green", "blue", "yellow", "white", "black", "purple"]
    tagger = Tagger(
        names=tuple(labels),
        embeddings=collection.encoder.encode_texts(labels),
        standard=Standard(np.zeros(7, np.float32), np.ones(7, np.float32)),
        weighing=Weighing.by_chance(7),
        threshold=0.0,
        single=True,
        level=0.8,
        source="chance",
        fingerprint=collection.encoder.fingerprint(),
        version=1,
    )
    with collection._store.writer() as writer:
        rows = list(collection._store.snapshot().known_files())
        ids = np.array([row.id for row in rows])
        tags = [[row.path.decode().removesuffix(".png")] for row in rows]
        writer.commit_added("tags", ids, tags, made=tagger.to_bytes())
    collection.refresh()
    report = collection.clusters(k=6)
    assert report.words == "tags" and {cluster.name for cluster in report.clusters} == set(labels[:6])
    with collection._store.writer() as writer:
        writer.commit_added("tags", ids, [["red"]] * 6, made=tagger.to_bytes())
    collection.refresh()
    assert collection.clusters(k=6).words == "vocabulary"  # one tag cannot name six clusters


def test_the_command_writes_a_page_with_the_nearest_pictures_of_each_cluster(collection, tmp_path, capsysbinary):
    page, words = tmp_path / "clusters.png", tmp_path / "words.txt"
    words.write_text("red\nblue\ngreen\n")
    options = ["cluster", "-i", collection.path, "--k", "2", "--labels", str(words), "--contact-sheet", str(page)]
    assert run(options) == 0
    err = capsysbinary.readouterr().err.decode()
    assert "columns cluster and cluster_name" in err and f"contact sheet: {page}" in err
    with Image.open(page) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    strong = {tuple(value > 150 for value in colour) for colour in colours if max(colour) - min(colour) > 100}
    assert {(True, False, False), (False, True, False), (False, False, True)} <= strong  # the pictures are on it
    assert run(options) == 0  # a page of our own may be written over
    page.write_bytes(b"somebody's")
    assert run(options) == 2 and page.read_bytes() == b"somebody's"
    assert run([*options[:-1], str(tmp_path / "clusters.jpg")]) == 2
    assert run([*options, "--force", "--no-column"]) == 0
    assert b"columns" not in capsysbinary.readouterr().err.splitlines()[-2]


def test_names_come_from_a_file_of_labels_as_tags_do(collection, tmp_path):
    words = tmp_path / "labels.txt"
    words.write_text("# colours\nwarm = red, red things\nblue\n\nBlue\n")
    report = collection.clusters(k=2, labels=words, column=None)
    assert report.words == "labels" and {cluster.name for cluster in report.clusters} <= {"warm", "blue", ""}
    assert any(cluster.name for cluster in report.clusters)
