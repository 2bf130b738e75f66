"""Texts follow their sources: what a source no longer says goes, and only that; unchanged pictures stay closed."""

import builtins
import json
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from support import make_photo

import clipsearch
from clipsearch.errors import InputError
from clipsearch.flows.picture_texts import NOTE
from clipsearch.flows.text_origins import Told, as_stored, changes, origins_of
from clipsearch.store import KnownText


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        make_photo(folder / name, (80 * seed, 90, 40), seed)
    with clipsearch.create(tmp_path / "collection", model="hashing") as collection:
        yield collection, folder


def texts(collection):
    """The live texts with the names of their pictures."""
    snapshot = collection._current().snapshot
    names = {row.id: os.fsdecode(row.member or row.path) for row in snapshot.known_files()}
    return sorted((names.get(one.image_id, ""), one.text) for one in snapshot.captions())


def xmp(*keywords):
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def write_keywords(photo, *keywords):
    data = photo.read_bytes().split(b"<x:xmpmeta")[0]
    photo.write_bytes(data + xmp(*keywords))


# A source at a time


@pytest.mark.parametrize("ending", ["txt", "json"])
def test_a_sidecar_that_is_edited_or_deleted_takes_its_texts_along(made, ending):
    collection, folder = made
    form = {"txt": "\n".join, "json": lambda lines: json.dumps({"captions": lines})}[ending]
    (folder / f"a.{ending}").write_text(form(["a dog", "an old dog"]))
    (folder / "b.txt").write_text("a cat")
    assert collection.index(folder, captions="sidecars").texts == 3
    (folder / f"a.{ending}").write_text(form(["a dog", "a young dog"]))
    report = collection.index(folder, captions="sidecars")
    assert report.texts == 1 and any("taken out: 1" in note for note in report.notes)
    assert texts(collection) == [("a.jpg", "a dog"), ("a.jpg", "a young dog"), ("b.jpg", "a cat")]
    (folder / f"a.{ending}").unlink()
    assert collection.index(folder, captions="sidecars").texts == 0
    assert texts(collection) == [("b.jpg", "a cat")]
    assert collection.search("a dog", target="text", k=3)[0].text == "a cat"  # searches no longer find it


def test_a_sidecar_in_a_tar_too(made, tmp_path):
    collection, folder = made
    tar = tmp_path / "set.tar"

    def pack(caption):
        (folder / "a.txt").write_text(caption)
        with tarfile.open(tar, "w") as archive:
            for name in ("a.jpg", "a.txt", "b.jpg"):
                archive.add(folder / name, name)

    pack("a dog")
    collection.index(tar, captions="sidecars")
    assert texts(collection) == [("a.jpg", "a dog")]
    pack("a cat")
    collection.index(tar, captions="sidecars")
    assert texts(collection) == [("a.jpg", "a cat")]


def test_a_keyword_taken_out_of_a_picture_goes_and_one_put_in_comes(made):
    collection, folder = made
    write_keywords(folder / "a.jpg", "dog", "beach")
    write_keywords(folder / "b.jpg", "cat")
    collection.index(folder, captions="embedded")
    assert texts(collection) == [("a.jpg", "dog, beach"), ("b.jpg", "cat")]
    write_keywords(folder / "a.jpg", "dog")
    collection.index(folder, captions="embedded")
    assert texts(collection) == [("a.jpg", "dog"), ("b.jpg", "cat")]
    write_keywords(folder / "a.jpg")
    collection.index(folder, captions="embedded")
    assert texts(collection) == [("b.jpg", "cat")]


def rows_of(kind, rows, place):
    """Write (picture or None, text) as a caption file."""
    if kind == "csv":
        place.write_text("image,caption\n" + "".join(f"{image or ''},{text}\n" for image, text in rows))
    elif kind == "jsonl":
        place.write_text("".join(json.dumps({"image": image, "text": text}) + "\n" for image, text in rows))
    elif kind == "json":
        place.write_text(json.dumps([{"image": image, "text": text} for image, text in rows]))
    elif kind == "txt":
        place.write_text("".join(f"{text}\n" for _, text in rows))
    else:
        columns = {"image": [image for image, _ in rows], "text": [text for _, text in rows]}
        parquet.write_table(pa.table(columns), place)
    return place


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet", "txt"])
def test_a_caption_file_that_is_edited_is_followed(made, tmp_path, kind):
    collection, folder = made
    picture = None if kind == "txt" else "a.jpg"
    rows = [(picture, "a dog"), (picture, "an old dog"), (None, "a thought")]
    file = rows_of(kind, rows, tmp_path / f"texts.{kind}")
    collection.index(folder, captions=file)
    assert texts(collection) == sorted((image or "", text) for image, text in rows)
    rows = [(picture, "a dog"), (None, "another thought")]
    rows_of(kind, rows, file)
    collection.index(folder, captions=file)
    assert texts(collection) == sorted((image or "", text) for image, text in rows)


def test_a_bank_without_pictures_is_followed_too(tmp_path):
    bank = tmp_path / "bank.txt"
    bank.write_text("a dog\na cat\n")
    with clipsearch.create(tmp_path / "collection", model="hashing") as collection:
        collection.index_texts(bank)
        bank.write_text("a cat\nan owl\n")
        assert collection.index_texts(bank).rows == 1
        assert texts(collection) == [("", "a cat"), ("", "an owl")]


# Several sources


def test_a_bank_that_held_the_only_texts_may_be_emptied_and_filled_again(tmp_path):
    bank = tmp_path / "bank.txt"
    with clipsearch.create(tmp_path / "collection", model="hashing") as collection:
        with bank.open("w"), pytest.raises(InputError, match="no text in any"):
            collection.index_texts(bank)  # nothing said, and nothing known: a mistake
        bank.write_text("a dog\na cat\n")
        collection.index_texts(bank)
        bank.write_text("")
        counts = collection.index_texts(bank)
        assert counts.rows == 0
        assert "taken out: 2" in " ".join(counts.notes)
        assert texts(collection) == []
        bank.write_text("a cat\n")
        assert collection.index_texts(bank).rows == 1
        assert texts(collection) == [("", "a cat")]


def test_what_another_source_says_stays(made, tmp_path):
    collection, folder = made
    (folder / "a.txt").write_text("a dog\nfrom the sidecar\n")
    file = rows_of("csv", [("a.jpg", "a dog"), ("a.jpg", "from the file")], tmp_path / "texts.csv")
    other = rows_of("csv", [("a.jpg", "from another file")], tmp_path / "other.csv")
    write_keywords(folder / "a.jpg", "inside")
    collection.index(folder, captions=["sidecars", "embedded", file, other])
    everything = {"a dog", "from the sidecar", "from the file", "from another file", "inside"}
    assert texts(collection) == sorted(("a.jpg", text) for text in everything)  # said twice, stored once
    (folder / "a.txt").unlink()
    collection.index(folder, captions="sidecars")
    assert {text for _, text in texts(collection)} == everything - {"from the sidecar"}
    rows_of("csv", [("b.jpg", "something else")], file)
    collection.index(folder, captions=["sidecars", file])
    assert {text for _, text in texts(collection)} == {"inside", "from another file", "something else"}


def test_a_run_that_is_not_given_a_source_leaves_its_texts_alone(made, tmp_path):
    collection, folder = made
    (folder / "a.txt").write_text("a dog")
    file = rows_of("csv", [("a.jpg", "by hand")], tmp_path / "texts.csv")
    collection.index(folder, captions=["sidecars", file])
    (folder / "a.txt").unlink()
    file.unlink()
    collection.index(folder)
    assert {text for _, text in texts(collection)} == {"a dog", "by hand"}


def test_what_cannot_be_read_this_time_stays(made, tmp_path):
    collection, folder = made
    (folder / "a.json").write_text('{"caption": "a dog"}')
    (folder / "b.txt").write_text("a cat")
    file = rows_of("jsonl", [("a.jpg", "one"), ("b.jpg", "two")], tmp_path / "texts.jsonl")
    collection.index(folder, captions=["sidecars", file])
    (folder / "a.json").write_text('{"caption": ')
    (folder / "b.txt").unlink()
    file.write_text(file.read_text().splitlines()[0] + "\n{broken\n")
    report = collection.index(folder, captions=["sidecars", file])
    assert any("line 2 (broken JSON" in note for note in report.notes)
    assert texts(collection) == [("a.jpg", "a dog"), ("a.jpg", "one"), ("b.jpg", "two")]  # only the cat was looked for
    whole = tmp_path / "texts.json"
    rows_of("json", [("a.jpg", "three")], whole)
    collection.index(folder, captions=whole)
    whole.write_text("[")
    with pytest.raises(InputError, match="broken JSON"):
        collection.index(folder, captions=whole)
    assert ("a.jpg", "three") in texts(collection)


def test_texts_of_another_folder_are_not_looked_for_here(made, tmp_path):
    collection, folder = made
    other = tmp_path / "other"
    make_photo(other / "a.jpg", (1, 2, 3), 7)
    for place in (folder, other):
        (place / "a.txt").write_text("the same words")
        collection.index(place, captions="sidecars")
    assert texts(collection) == [("a.jpg", "the same words")] * 2
    (folder / "a.txt").unlink()
    (other / "a.txt").unlink()
    collection.index(folder, captions="sidecars")
    assert texts(collection) == [("a.jpg", "the same words")]


def test_texts_follow_a_picture_that_is_renamed(made):
    collection, folder = made
    (folder / "a.txt").write_text("a dog")
    write_keywords(folder / "a.jpg", "inside")
    collection.index(folder, captions=["sidecars", "embedded"])
    for name in ("a.jpg", "a.txt"):
        (folder / name).rename(folder / f"z{name}")
    assert collection.index(folder, captions=["sidecars", "embedded"]).texts_embedded == 0
    assert texts(collection) == [("za.jpg", "a dog"), ("za.jpg", "inside")]
    (folder / "za.txt").unlink()
    collection.index(folder, captions=["sidecars", "embedded"])
    assert texts(collection) == [("za.jpg", "inside")]


# Inside pictures


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that are opened."""
    names, plain = [], builtins.open

    def noting(file, *args, **more):
        names.append(os.path.basename(os.fsdecode(file)) if not isinstance(file, int) else "")
        return plain(file, *args, **more)

    monkeypatch.setattr(builtins, "open", noting)
    return names


def pictures(names):
    return {name for name in names if name.endswith((".jpg", ".tar"))}


def test_a_second_run_opens_no_picture_and_a_changed_one_alone_is_opened(made, opened):
    collection, folder = made
    write_keywords(folder / "a.jpg", "dog")
    collection.index(folder, captions="embedded")
    assert pictures(opened) == {"a.jpg", "b.jpg", "c.jpg"}
    opened.clear()
    collection.index(folder, captions="embedded")
    collection.index_texts("embedded")
    assert not pictures(opened) and texts(collection) == [("a.jpg", "dog")]
    write_keywords(folder / "b.jpg", "cat")
    opened.clear()
    collection.index(folder, captions="embedded")
    assert pictures(opened) == {"b.jpg"} and texts(collection) == [("a.jpg", "dog"), ("b.jpg", "cat")]


def test_a_tar_is_not_opened_again_either(made, tmp_path, opened):
    collection, folder = made
    write_keywords(folder / "a.jpg", "dog")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(folder / "a.jpg", "a.jpg")
    collection.index(tmp_path / "set.tar", captions="embedded")
    assert texts(collection) == [("a.jpg", "dog")]
    opened.clear()
    collection.index_texts("embedded")
    assert not pictures(opened) and texts(collection) == [("a.jpg", "dog")]


def test_a_picture_that_changed_since_it_was_indexed_is_read_by_a_run_for_texts(made):
    collection, folder = made
    collection.index(folder, captions="embedded")
    write_keywords(folder / "a.jpg", "dog")
    collection.index_texts("embedded")
    assert texts(collection) == [("a.jpg", "dog")]


@pytest.mark.parametrize("damage", ["gone", "broken", "of another version"])
def test_a_note_that_is_lost_costs_another_look_and_nothing_else(made, opened, damage):
    collection, folder = made
    write_keywords(folder / "a.jpg", "dog")
    collection.index(folder, captions="embedded")
    note = collection._store.path + "/" + NOTE
    if damage == "gone":
        os.unlink(note)
    else:
        with open(note, "w") as file:
            file.write("{" if damage == "broken" else '{"reader": 1, "version": 99999, "ids": [[0, 99]]}')
    opened.clear()
    collection.index(folder, captions="embedded")
    assert pictures(opened) == {"a.jpg", "b.jpg", "c.jpg"} and texts(collection) == [("a.jpg", "dog")]


# The plan


def text(id_, said, *origins, image=None, source=b""):
    return KnownText(id_, image, source, said, as_stored(origins))


def told(origin, *found, sure=True, by_picture=False):
    return Told(origin, found, lambda _: sure, by_picture)


def test_a_text_goes_with_its_last_origin_and_not_before():
    known = [text(1, "x", b"/a"), text(2, "y", b"/a", b"/b"), text(3, "z", b"/b")]
    plan = changes(known, [told(b"/a")])
    assert plan.gone == [1] and plan.kept == {2: (None, frozenset({b"/b"}))} and not plan.new
    assert changes(known, [told(b"/a", sure=False)]).gone == []
    assert changes(known, [told(b"/a"), told(b"/b")]).gone == [1, 2, 3]


def test_a_text_that_moves_from_one_origin_to_another_in_one_run_is_not_embedded_again():
    plan = changes([text(1, "x", b"/a")], [told(b"/a"), told(b"/b", (b"", "x", None))])
    assert not plan.gone and not plan.new and plan.kept == {1: (None, frozenset({b"/b"}))}


def test_a_text_of_unknown_origin_stays_until_a_source_says_it():
    known = [text(1, "x"), text(2, "y")]
    plan = changes(known, [told(b"/a", (b"", "x", None))])
    assert plan.kept == {1: (None, frozenset({b"/a"}))} and not plan.gone


def test_two_sources_that_say_the_same_make_one_text():
    plan = changes([], [told(b"/a", (b"", "x", None)), told(b"/b", (b"", "x", None))])
    assert plan.new == {(b"", "x", None): frozenset({b"/a", b"/b"})}


def test_the_same_words_of_another_picture_are_another_text():
    known = [text(1, "x", b"sidecars", image=7, source=b"a.jpg")]
    plan = changes(known, [told(b"/file", (b"a.jpg", "x", 8))])
    assert plan.new and not plan.kept and not plan.gone


def test_origins_survive_being_stored():
    assert origins_of(as_stored([b"/a b", b"\xff"])) == {b"/a b", b"\xff"}
    assert as_stored([]) is None and origins_of(None) == frozenset()
