"""Queries: what is asked, how parts are added, how rows come back."""

import io
import os
import threading

import numpy as np
import pytest
from PIL import Image

from clipsearch import InputError, Weighted
from clipsearch.embed.card import cards
from clipsearch.errors import QueryImageError
from clipsearch.flows.query_embedding import embed
from clipsearch.flows.query_terms import Query, Term, build_queries


def weights_of(query):
    return [(term.kind, term.value, term.weight) for term in query.terms]


def names(result):
    return [os.path.basename(hit.path) for hit in result]


# what is asked


def test_one_text_is_one_query():
    queries, many = build_queries("red")
    assert not many and [weights_of(q) for q in queries] == [[("text", "red", 1.0)]]


def test_a_list_of_texts_asks_one_query_each_and_shares_the_rest():
    queries, many = build_queries(["red", "blue"], image="a.png", add=["sky"], subtract=[Weighted("sea", 0.5)])
    assert many
    assert [weights_of(q) for q in queries] == [
        [("text", word, 1.0), ("image", "a.png", 1.0), ("text", "sky", 1.0), ("text", "sea", -0.5)]
        for word in ("red", "blue")
    ]


def test_a_str_in_add_is_a_text_and_a_path_a_picture(tmp_path):
    (query,), _ = build_queries("red", add=["sky", tmp_path, np.ones(3)])
    assert [term.kind for term in query.terms] == ["text", "text", "image", "vector"]


def test_a_single_part_to_add_is_not_taken_letter_by_letter():
    (query,), _ = build_queries("red", add="sky", subtract=Weighted("sea", 2))
    assert weights_of(query)[1:] == [("text", "sky", 1.0), ("text", "sea", -2.0)]


def test_weights_go_to_the_parts_in_order():
    (query,), _ = build_queries("red", image="a.png", add=["sky"], subtract=["sea"], weights=[0.1, 0.2, 0.3, 0.4])
    assert [term.weight for term in query.terms] == [0.1, 0.2, 0.3, -0.4]


def test_an_empty_list_asks_nothing():
    assert build_queries([]) == ([], True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Nothing is asked"),
        ({"text": ""}, "empty"),
        ({"text": ["red", "  "]}, "empty"),
        ({"text": 7}, "must be a str"),
        ({"image": 7}, "cannot be a int"),
        ({"text": ["a", "b"], "image": ["a.png"]}, "paired"),
        ({"text": "red", "weights": [1, 2]}, "2 weights"),
        ({"text": "red", "add": [Weighted("sky", float("nan"))]}, "finite"),
        ({"text": "red", "weights": [float("inf")]}, "finite"),
        ({"vector": "red"}, "numbers"),
        ({"vector": np.ones((1, 2, 3))}, "shape"),
    ],
)
def test_a_wrong_request_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_queries(**arguments)


# sums of parts


def test_a_query_is_the_unit_sum_of_unit_parts(collection, unit_rows):
    encoder = collection.encoder
    a, b, c = encoder.encode_texts(["red", "blue", "green"])
    (query,), _ = build_queries("red", add=[Weighted("blue", 0.5)], subtract=["green"])
    xq, _ = embed([query], encoder.dim, lambda: encoder)
    np.testing.assert_allclose(xq[0], unit_rows(a + 0.5 * b - c), atol=1e-6)


def test_a_vector_counts_by_its_direction(collection):
    vector = np.random.default_rng(0).standard_normal(collection.encoder.dim)
    one, other = collection.search(vector=vector), collection.search(vector=1000 * vector)
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_parts_that_cancel_out_are_refused(collection):
    with pytest.raises(InputError, match="cancel out"):
        collection.search("red", subtract=["red"])
    with pytest.raises(InputError, match="cancel out"):
        collection.search("red", weights=[0.0])


def test_adding_a_colour_brings_its_picture_up(collection):
    plain = collection.search("red")
    both = collection.search("red", add=[Weighted("blue", 3.0)])
    assert names(plain)[0] == "red.png"
    assert names(both)[0] == "blue.png"


@pytest.mark.parametrize("bad", [np.ones(3), np.full(64, np.nan), np.zeros(64)])
def test_a_vector_that_does_not_fit_is_refused(collection, bad):
    assert collection.encoder.dim == 64
    with pytest.raises(InputError, match="vector"):
        collection.search(vector=bad)


def test_a_vector_needs_no_encoder():
    def never():
        raise AssertionError("the encoder was loaded")

    xq, notes = embed([Query((Term("vector", np.array([3.0, 4.0])),))], 2, never)
    np.testing.assert_allclose(xq, [[0.6, 0.8]], rtol=1e-6)
    assert notes == [()]


# answers


def test_a_text_finds_its_colour(collection):
    result = collection.search("red", k=3)
    assert len(result) == len(result.ids) == len(result.scores) == 3
    assert names(result)[0] == "red.png"
    assert [hit.rank for hit in result] == [1, 2, 3]
    assert result[0].metadata["camera"] == "Box Camera" and result[0].metadata["width"] == 96
    assert result.verdict == "uncalibrated" and result.p_value is None


def test_every_way_to_give_a_picture_finds_it(collection, photos):
    path = photos / "blue.png"
    ways = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path)]
    for way in ways:
        result = collection.search(image=way, k=1)
        assert names(result) == ["blue.png"]
        assert result.scores[0] == pytest.approx(1.0, abs=2e-3)


def test_a_list_answers_as_single_queries_would(collection, photos):
    words = ["red", "blue", "red", "green"]
    together = collection.search(words, k=4)
    assert isinstance(together, list)
    for word, result in zip(words, together, strict=True):
        np.testing.assert_array_equal(result.ids, collection.search(word, k=4).ids)
    pictures = collection.search(image=[photos / "red.png", photos / "green.png"], k=1)
    assert [names(result) for result in pictures] == [["red.png"], ["green.png"]]
    vectors = collection.search(vector=np.eye(64)[:3], k=2)
    assert [len(result) for result in vectors] == [2, 2, 2]


def test_fewer_rows_than_asked_for_give_fewer_hits(collection):
    result = collection.search("red", k=100)
    assert len(result) == 6 and (result.ids >= 0).all() and np.isfinite(result.scores).all()


def test_captions_are_found_with_their_pictures(collection, photos):
    result = collection.search("a blue square", k=7, target="text")
    assert result.target == "text" and len(result) == 7
    assert (result[0].text, result[0].path) == ("a blue square", str(photos / "blue.png"))
    assert {hit.text: hit.path for hit in result}["a red thought"] == ""


def test_a_target_that_does_not_exist_is_refused(collection):
    with pytest.raises(InputError, match="Did you mean 'image'"):
        collection.search("red", target="images")


def test_the_picture_itself_and_its_copies_can_be_left_out(collection, photos, write_pictures, tmp_path):
    copies = [tmp_path / "copies" / f"copy{number}.png" for number in range(9)]
    for copy in copies:
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((photos / "red.png").read_bytes())
    write_pictures(collection, copies)
    collection.refresh()
    assert len(set(collection.search(image=photos / "red.png", k=10).scores[:10].round(6))) == 1
    for way in (photos / "red.png", str(copies[0]), copies[0].read_bytes(), io.BytesIO(copies[0].read_bytes())):
        result = collection.search(image=way, k=4, leave_out_self=True)
        assert len(result) == 4 and not any("red" in name or "copy" in name for name in names(result))
    assert len(collection.search(image=photos / "red.png", k=99, leave_out_self=True)) == 5


def test_leaving_out_self_needs_a_file(collection, photos):
    with pytest.raises(InputError, match="PIL"):
        collection.search(image=Image.open(photos / "red.png"), leave_out_self=True)


def test_a_query_picture_that_is_no_picture_is_refused(collection, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    for bad in (tmp_path / "notes.txt", tmp_path / "missing.png", b"no picture"):
        with pytest.raises(QueryImageError):
            collection.search(image=bad)


def test_a_text_in_a_language_the_model_does_not_cover_gets_one_note(collection, monkeypatch):
    monkeypatch.setattr(type(collection.encoder), "covers_text", lambda self, text: text.isascii())
    result = collection.search("собака", add=["собака"])
    multilingual = [name for name, card in cards().items() if "multi" in card.languages]
    assert len(result.notes) == 1 and "собака" in result.notes[0]
    assert any(repr(name) in result.notes[0] for name in multilingual)
    assert collection.search("red").notes == ()


def test_hits_are_read_once_and_from_the_version_that_was_searched(collection, photos, write_pictures):
    before = collection.search("red", k=10)
    write_pictures(collection, [photos / "red.png"])
    assert collection.refresh()
    assert len(before) == 6 and len(list(before)) == 6 and before[0] is before[0]
    assert len(collection.search("red", k=10)) == 7


def test_many_threads_may_look_at_one_result(collection):
    result = collection.search("red", k=6)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append([hit.path for hit in result])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and all(paths == seen[0] for paths in seen)


def test_names_that_are_not_utf8_come_back_as_the_same_bytes(collection, photos, write_pictures):
    odd = photos / os.fsdecode(b"odd-\xff.png")
    odd.write_bytes((photos / "red.png").read_bytes())
    ids = write_pictures(collection, [odd])
    collection.refresh()
    paths = {hit.id: hit.path for hit in collection.search("red", k=10)}
    assert os.fsencode(paths[ids[odd]]) == os.fsencode(odd)
