"""Fill: when anything is drawn, what becomes of it, and that an answer never depends on it."""

import hashlib
import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.errors import GenerationError, InputError, RejectedError, WeightsNotFoundError
from clipsearch.flows.fill import MODES, decide
from clipsearch.flows.generators import choose_generator
from clipsearch.generate import GENERATORS, card
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.types import GeneratedImage, Hit, Verdict

FAULTY = "faulty_generator:FaultyGenerator"


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def faulty(monkeypatch):
    """The generator "gradient" goes wrong where the prompt asks it to."""
    monkeypatch.setitem(GENERATORS._table, "gradient", FAULTY)


def draw(collection, prompt="a red rocket", **options) -> GeneratedImage:
    return collection.generate(prompt, model="gradient", seconds=60, **options)


def listing(folder) -> dict[str, bytes]:
    return {
        os.path.join(place, name): Path(place, name).read_bytes()
        for place, _, names in os.walk(folder)
        for name in names
        if "generated" not in place.split(os.sep)
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("verdict", Verdict)
def test_nothing_is_drawn_but_on_none_or_where_always_is_said(mode, verdict):
    expected = {"off": "nothing", "always": "draw"}.get(mode)
    if expected is None:
        expected = "nothing" if verdict != Verdict.NONE else "draw" if mode == "auto" else "offer"
    assert decide(mode, verdict) == expected
    assert decide(mode, verdict, target="text") == decide(mode, verdict, has_words=False) == "nothing"


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="offer"):
        decide("ask", Verdict.NONE)


def test_a_generated_picture_has_nothing_that_a_hit_has():
    names = {field.name for field in fields(GeneratedImage)}
    assert not names & ({field.name for field in fields(Hit)} - {"path"}) and not issubclass(GeneratedImage, Hit)


def test_a_picture_is_drawn_marked_kept_and_noted(collection):
    image = draw(collection, seed=5)
    data = Path(image.path).read_bytes()
    assert image.path.endswith(".generated.png") and os.path.dirname(image.path).endswith("/photos/generated")
    assert data == image.png and hashlib.sha256(data).hexdigest() == image.sha256
    assert b"trainedAlgorithmicMedia" in data and b"rocket" not in data
    (row,) = GeneratedFolder(collection.path).ledger.rows()
    for name, value in {
        "prompt": "a red rocket", "seed": image.seed, "first_seed": 5, "tried": 2, "generator": "gradient",
        "licence": "MIT", "sha256": image.sha256, "parent": None, "rejected": False,
    }.items():  # fmt: skip
        assert row[name] == value, name
    assert len(row["scores"]) == 2 and row["options"] == {"width": 64, "height": 64} and row["encoder"]


def test_the_same_wish_is_not_drawn_again_and_another_one_is(collection):
    first, again, other = draw(collection), draw(collection), draw(collection, seed=9)
    assert not first.cached and again.cached and again.png == first.png and again.path == first.path
    assert not other.cached and other.path != first.path


def test_a_damaged_picture_is_drawn_again(collection):
    first = draw(collection)
    with open(first.path, "wb") as file:
        file.write(b"damaged")
    again = draw(collection)
    assert not again.cached and again.png == first.png == Path(first.path).read_bytes()


def test_what_could_not_be_drawn_is_rejected_with_that_word_and_not_kept(collection):
    for _ in range(2):  # the second time without drawing
        with pytest.raises(RejectedError, match=r"Rejected.*could not draw 'a zebra'") as caught:
            draw(collection, "a zebra")
        assert str(caught.value).count("\n") < 3
    assert [name for name in os.listdir(GeneratedFolder(collection.path).path) if name.endswith(".png")] == []
    assert len(list(GeneratedFolder(collection.path).ledger.rows())) == 1


def test_what_a_generator_says_it_cannot_draw_is_rejected_before_anything_is_drawn(collection):
    with pytest.raises(RejectedError, match=r"Rejected: 'mini' cannot draw 'a zebra': it does not know") as caught:
        collection.generate("a zebra", model="mini")
    assert str(caught.value).count("\n") == 2 and "generate --list" in str(caught.value)
    (service,) = collection._drawers.values()
    assert service._process is None and not os.path.exists(GeneratedFolder(collection.path).path)
    with pytest.raises(RejectedError) as caught:
        collection.generate("zebra " * 900 + "x" * 900, model="mini")
    assert len(str(caught.value)) < 800, "a long prompt is not repeated"
    none = replace(collection.search("red", k=3), verdict=Verdict.NONE)
    filled = collection.fill(none, "a zebra", "auto", model="mini")
    assert filled.generated == () and "cannot draw 'a zebra'" in filled.notes[-1]
    assert not collection.fill(none, "a red zebra", "auto", model="gradient").notes, "that one says nothing: it tries"


def test_what_it_says_it_can_draw_is_told_in_its_own_words_and_only_ranked(collection):
    """The hashing encoder finds nothing of an apple in a picture of one; it is kept all the same."""
    image = collection.generate("a nice red apple", model="mini", seconds=120)
    (row,) = GeneratedFolder(collection.path).ledger.rows()
    assert (row["prompt"], row["read_as"], row["rejected"]) == ("a nice red apple", "an apple", False)
    plain = collection.generate("an apple", model="mini", seconds=120, seed=image.seed, best_of=1)
    with Image.open(image.path) as told, Image.open(plain.path) as same:
        np.testing.assert_array_equal(np.asarray(told), np.asarray(same))
    assert "read_as" not in list(GeneratedFolder(collection.path).ledger.rows())[-1]


def test_the_best_of_several_is_the_one_with_the_best_score(collection):
    image = draw(collection, best_of=4, seed=3)
    (row,) = GeneratedFolder(collection.path).ledger.rows()
    assert image.tried == 4 and image.seed == 3 + int(np.argmax(row["scores"])) and image.fit == max(row["scores"])


def test_drawing_changes_nothing_of_the_collection_and_searches_find_nothing_of_it(collection):
    before, version = listing(collection.path), collection.version
    hits = [(hit.id, hit.path, hit.score) for hit in collection.search("red", k=50)]
    image = draw(collection, "a red square")
    collection.refresh()
    assert listing(collection.path) == before and collection.version == version
    with clipsearch.open(collection.path) as again:
        assert [(hit.id, hit.path, hit.score) for hit in again.search("red", k=50)] == hits
        assert image.path not in {hit.path for hit in again.search("red", k=50)}


def test_an_answer_is_filled_beside_its_hits(collection):
    result = collection.search("a red rocket", k=3)
    assert collection.fill(result, "a red rocket", "auto", model="gradient") is result, "it is not none"
    none = replace(result, verdict=Verdict.NONE)
    filled = collection.fill(none, "a red rocket", "auto", model="gradient")
    assert filled.generated[0].generator == "gradient" and filled.generated[0].path
    assert list(filled) == list(none) and len(filled) == len(none) and filled.verdict == "none"
    np.testing.assert_array_equal(filled.scores, none.scores)
    assert collection.fill(none, "a red rocket", "offer", model="gradient") is none
    assert collection.fill(none, "a red rocket", "off", model="gradient") is none


@pytest.mark.parametrize("fault", ["raise", "kill", "exit", "black", "wrong-size", "never", "hang"])
def test_a_search_is_unharmed_by_every_fault(collection, faulty, fault):
    result = replace(collection.search("red", k=3), verdict=Verdict.NONE)
    filled = collection.fill(result, f"{fault} red", "auto", model="gradient", seconds=1 if fault == "hang" else 60)
    assert list(filled) == list(result) and filled.generated == () and len(filled.notes) == len(result.notes) + 1
    assert [hit.path for hit in collection.search("red", k=3)] == [hit.path for hit in result]


def test_no_weights_are_an_error_of_drawing_and_a_note_of_filling(collection, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    for name in (None, "sd-turbo", f"local-dir:{tmp_path}"):
        if name is not None or choose_generator(collection.path) is None:
            with pytest.raises(WeightsNotFoundError) as caught:
                collection.generate("a dog", model=name)
            assert str(caught.value).count("\n") < 3
    none = replace(collection.search("red", k=3), verdict=Verdict.NONE)
    filled = collection.fill(none, "a dog", "auto", model="sd-turbo")
    assert "hf download stabilityai/sd-turbo" in filled.notes[-1] and list(filled) == list(none)


def test_a_full_disk_gives_the_picture_and_a_note(collection, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clipsearch.generate.cache.write_whole", full)
    image = draw(collection)
    assert image.path is None and image.png.startswith(b"\x89PNG") and "No space left" in image.notes[-1]
    monkeypatch.undo()


def test_a_disk_that_is_nearly_full_is_left_alone(collection, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(GenerationError, match="kept free"):
        draw(collection)
    assert not os.path.exists(GeneratedFolder(collection.path).path)


def test_a_corrupt_ledger_costs_its_rows_and_no_more(collection):
    folder = GeneratedFolder(collection.path)
    draw(collection)
    with open(folder.ledger.path, "wb") as file:
        file.write(os.urandom(5000))
    assert not draw(collection).cached and draw(collection).cached


def test_after_three_failures_filling_waits_and_a_direct_call_does_not(collection, faulty):
    none = replace(collection.search("red", k=3), verdict=Verdict.NONE)
    for seed in range(3):
        collection.fill(none, "raise red", "auto", model="gradient", seed=seed)
    assert "failed 3 times" in collection.fill(none, "a red ball", "auto", model="gradient").notes[-1]
    assert draw(collection, "a red ball").path
    assert collection.fill(none, "a red ball", "auto", model="gradient").generated


def test_a_picture_made_of_another_names_its_parent(collection, photos):
    image = draw(collection, like=photos / "red.png", strength=0.5)
    digest = hashlib.sha256((photos / "red.png").read_bytes()).hexdigest()
    assert image.parent == digest and b"compositeWithTrainedAlgorithmicMedia" in image.png
    assert digest.encode() in image.png
    with Image.open(image.path) as picture:
        assert picture.size == (64, 64)
    with pytest.raises(InputError, match="strength"):
        draw(collection, strength=0.5)
    with pytest.raises(InputError, match="cannot be read"):
        draw(collection, like=photos / "none.png")


def test_the_prompt_is_written_into_the_file_only_on_request(collection):
    assert b"rocket" in draw(collection, with_prompt=True).png and b"rocket" not in draw(collection).png


def test_the_best_generator_is_the_first_that_fits_the_machine(tmp_path):
    from clipsearch.generate.hardware import best_card

    known = card.cards()
    ready = list(known.values())
    assert [best_card(ready, gb).name for gb in (24, 13, 10, 7, 4, 0)] == [
        "flux2-klein-4b", "flux2-klein-4b", "sana-sprint-0.6b", "sdxl-turbo", "sd-turbo", "sd-turbo",
    ]  # fmt: skip
    assert best_card([known["gradient"]], 24) is None and best_card([known["flux2-klein-4b"]], 0) is None


def test_names_of_generators_are_found_in_any_case_and_by_repository():
    assert card.load_card("SD-Turbo") == card.load_card("stabilityai/sd-turbo")
    with pytest.raises(clipsearch.UnknownNameError, match="sd-turbo"):
        card.load_card("sd-turbot")


def test_the_ledger_is_plain_json_lines(collection):
    draw(collection)
    with open(GeneratedFolder(collection.path).ledger.path, encoding="utf-8") as file:
        assert [json.loads(line)["schema"] for line in file] == ["clipsearch.ledger/1"]


def test_closing_the_collection_ends_its_generators(collection):
    draw(collection)
    (service,) = collection._drawers.values()
    process = service._process._process
    collection.close()
    assert process.poll() is not None
