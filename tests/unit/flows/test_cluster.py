"""Clusters that were planted are found again, named by contrast, and the same at each run."""

import json

import numpy as np
import pytest

from clipsearch.cli import run
from clipsearch.errors import InputError
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
