"""Hits that show the same thing are folded; queries are moved by pictures that were good and bad."""

import os
import shutil

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.flows import folding
from clipsearch.flows.feedback import BETA, GAMMA, moved


@pytest.fixture
def copied(collection, photos, tmp_path, write_pictures):
    """The six pictures, and five copies of the red one."""
    folder = tmp_path / "copies"
    folder.mkdir()
    files = [folder / f"red{n}.png" for n in range(5)]
    for file in files:
        shutil.copy(photos / "red.png", file)
    write_pictures(collection, files)
    collection.refresh()
    return collection


def names(result):
    return [os.path.basename(hit.path) for hit in result]


def test_copies_are_folded_into_the_best_of_them_and_the_order_stays(copied):
    plain, folded = copied.search("red", k=11), copied.search("red", k=11, fold=True)
    assert len(plain) == 11 and len(folded) == 6 and plain.folded == ()
    assert len(folded.folded[0]) == 5 and not any(folded.folded[1:])
    assert folded.ids[0] == plain.ids[0] and set(folded.folded[0]) == set(plain.ids[:6].tolist()) - {plain.ids[0]}
    left = [id_ for id_ in plain.ids.tolist() if id_ in folded.ids]
    assert folded.ids.tolist() == left
    scores = dict(zip(plain.ids.tolist(), plain.scores.tolist(), strict=True))
    np.testing.assert_allclose(folded.scores, [scores[id_] for id_ in folded.ids.tolist()])
    assert [hit.rank for hit in folded] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_there_are_k_hits_that_differ_as_long_as_there_are_so_many(copied, k):
    folded = copied.search("red", k=k, fold=True)
    everything = copied.search("red", k=11, fold=True)
    assert folded.ids.tolist() == everything.ids[:k].tolist()


def test_where_nothing_is_alike_folding_changes_nothing(collection):
    plain, folded = collection.search("blue", k=3), collection.search("blue", k=3, fold=True)
    np.testing.assert_array_equal(plain.ids, folded.ids)
    np.testing.assert_array_equal(plain.scores, folded.scores)
    assert not any(folded.folded) and (plain.verdict, plain.p_value) == (folded.verdict, folded.p_value)


def test_folding_goes_with_filters_and_leaving_out_the_query_itself(copied, photos):
    red = photos / "red.png"
    assert len(copied.search(image=red, leave_out_self=True, fold=True, k=10)) == 5
    assert names(copied.search("red", where="folder = '' AND name LIKE 'red%'", fold=True, k=10)) == ["red.png"]


@pytest.fixture
def captioned(collection, photos):
    """Besides its own captions one that stands at three pictures, in two spellings, and one that is much like it."""
    file = photos / "said.csv"
    said = ["a red thing", "A red  Thing", "a red thing", "a red thing indeed"]
    rows = [f"{name}.png,{text}" for name, text in zip(("red", "green", "blue", "white"), said, strict=True)]
    file.write_text("image,caption\n" + "\n".join(rows) + "\n")
    collection.index_texts(file)
    return collection


def test_captions_of_the_same_words_are_one_hit(captioned):
    n = captioned.count("text")
    plain = captioned.search("a red thing", target="text", k=n)
    folded = captioned.search("a red thing", target="text", k=n, fold=True)
    words = [" ".join(hit.text.casefold().split()) for hit in plain]
    assert words.count("a red thing") == 3 and len(folded) == len(set(words))
    assert [" ".join(hit.text.casefold().split()) for hit in folded] == list(dict.fromkeys(words))
    same = [hit.id for hit, said in zip(plain, words, strict=True) if said == "a red thing"]
    at = folded.ids.tolist().index(same[0])
    assert folded.folded[at] == tuple(same[1:]) and folded[at].text == plain[plain.ids.tolist().index(same[0])].text
    assert folded.verdict == plain.verdict
    assert len(captioned.search("a red thing", target="text", k=2, fold=True)) == 2


def test_a_million_equal_captions_are_not_all_looked_at(captioned, monkeypatch):
    monkeypatch.setattr(folding, "_same_words", lambda _, ids: [list(range(len(ids)))])
    asked = []

    def fetch(n):
        asked.append(n)
        return np.arange(n), np.ones(n, np.float32)

    none = np.empty(0, np.int64), np.empty(0, np.float32)
    left = folding.fold_hits(captioned._current().snapshot, "texts", *none, 10, fetch)
    assert max(asked) < 2 * folding.MOST and len(left.ids) == 1 and len(left.others[0]) == max(asked) - 1


def test_a_description_says_nothing_twice(captioned, photos):
    said = [one.text for one in captioned.describe(photos / "red.png", k=5).sentences if one.source == "caption"]
    assert len({" ".join(text.casefold().split()) for text in said}) == len(said) == 5


def test_the_query_moves_as_rocchio_says(collection):
    snapshot = collection._current().snapshot
    ids = collection.search("red", k=6).ids
    xq = np.eye(1, collection.encoder.dim, dtype=np.float32)
    found = moved(snapshot, xq, ids[:2].tolist(), ids[4:].tolist())

    def mean(part):
        total = snapshot.embeddings("images", part).astype(np.float64).mean(axis=0)
        return total / np.linalg.norm(total)

    expected = xq[0] + BETA * mean(np.sort(ids[:2])) - GAMMA * mean(np.sort(ids[4:]))
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_however_many_pictures_are_named_the_query_weighs_most(collection):
    assert BETA + GAMMA < 1
    snapshot = collection._current().snapshot
    ids = collection.search("red", k=6).ids.tolist()
    for xq in np.random.default_rng(0).standard_normal((20, 1, collection.encoder.dim)).astype(np.float32):
        unit = xq / np.linalg.norm(xq)
        assert float((moved(snapshot, unit, ids[:4], ids[4:]) @ unit.T)[0, 0]) > np.sqrt(1 - (BETA + GAMMA) ** 2) - 1e-6


def test_more_brings_a_picture_up_and_less_takes_it_down(collection):
    plain = collection.search("red", k=6)
    last, second = int(plain.ids[5]), int(plain.ids[1])
    rank = {id_: n for n, id_ in enumerate(plain.ids.tolist())}
    more = collection.search("red", k=6, more=[last])
    assert more.ids.tolist().index(last) < rank[last] and more.ids[0] == plain.ids[0]
    less = collection.search("red", k=6, less=[second])
    assert less.scores[less.ids.tolist().index(second)] < plain.scores[1]
    assert more.verdict == "uncalibrated" and "more and less" in (more.why or "")


def test_pictures_that_are_not_there_or_on_both_sides_are_refused(collection):
    one = int(collection.search("red").ids[0])
    with pytest.raises(InputError, match="Search again"):
        collection.search("red", more=[10**9])
    with pytest.raises(InputError, match="both sides"):
        collection.search("red", more=[one], less=[one])
    with pytest.raises(InputError, match="image"):
        collection.search("red", more=[one], target="text")
