"""Descriptions, answers, and texts of every source in a collection."""

from dataclasses import replace

import numpy as np
import pytest
from planted import PlantedEncoder, add, planted
from support import make_photo

import clipsearch
from clipsearch.describe.statements import read_question
from clipsearch.embed.card import load_card
from clipsearch.errors import InputError, QueryImageError, SourceNotFoundError
from clipsearch.flows import evaluate_words
from clipsearch.flows.ask import Asker, column_name
from clipsearch.flows.calibrate import renew
from clipsearch.flows.describe import Bank, Describer, from_captions
from clipsearch.flows.folding import words_of
from clipsearch.flows.stated import Embedded
from clipsearch.flows.tagger import widened
from clipsearch.store import Store
from clipsearch.types import Verdict


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    collection, encoder = planted(
        tmp_path_factory.mktemp("words") / "photos", PlantedEncoder(0.7), concepts=range(10), copies=20
    )
    renew(collection._store, encoder)
    collection.refresh()
    return collection


def row_of(world, number, copy=99):
    return widened(world.encoder.picture(number, copy)[None])[0]


def test_a_picture_gets_captions_of_its_concept_as_they_are(world):
    row = row_of(world, 4)
    result = world.search(vector=row, target="text", k=3)
    found = Describer(world._current().snapshot, world.encoder).describe("x", row, result, 3, always=False)
    captions = [one for one in found.sentences if one.source == "caption"]
    assert len(captions) == 3 and all("concept04" in one.text for one in captions)
    assert all(one.score is not None for one in captions)
    assert captions == from_captions(result)


def test_where_no_caption_matches_a_sentence_of_tags_comes_first_and_says_so(tmp_path):
    collection, encoder = planted(tmp_path / "photos", PlantedEncoder(0.7), concepts=range(10), copies=20)
    truth = [(r.path.decode(), f"concept{r.path[:2].decode()}") for r in collection._current().snapshot.known_files()]
    collection.tag([f"concept{n:02d}" for n in range(10)], truth=truth)
    row = row_of(collection, 3, 5)
    from dataclasses import replace

    result = replace(collection.search(vector=row, target="text", k=1), verdict=Verdict.NONE)
    found = Describer(collection._current().snapshot, encoder).describe("x", row, result, 1, always=False)
    assert [one.source for one in found.sentences] == ["tags", "caption"]
    assert found.tags == ("concept03",) and "concept03" in found.sentences[0].text
    matched = replace(result, verdict=Verdict.MATCH)
    found = Describer(collection._current().snapshot, encoder).describe("x", row, matched, 1, always=False)
    assert [one.source for one in found.sentences] == ["caption"]


def test_where_a_sentence_of_tags_was_wanted_and_no_tag_is_sure_it_is_told(world, monkeypatch):
    row, describer = row_of(world, 4), Describer(world._current().snapshot, world.encoder)
    monkeypatch.setattr(Describer, "composed", lambda *_: (None, ()))
    result = replace(world.search(vector=row, target="text", k=1), verdict=Verdict.MATCH)
    told = ("No tag is sure enough to make a sentence of.",)
    assert describer.describe("x", row, result, 1, always=True).notes == told
    assert describer.describe("x", row, replace(result, verdict=Verdict.NONE), 1, always=False).notes == told
    assert describer.describe("x", row, result, 1, always=False).notes == ()
    (nothing,) = describer.describe("x", row, result, 0, always=True).notes
    assert nothing.startswith("No caption is near")


def test_a_bank_answers_with_its_own_texts_and_none_where_it_has_nothing(world, tmp_path):
    bank = tmp_path / "bank.txt"
    bank.write_text("\n".join(f"concept{n:02d} number {m} of the bank" for n in range(8) for m in range(30)))
    pictures = widened(np.concatenate([block.embeddings for block in world._current().snapshot.blocks("images")]))
    known = Bank(str(bank), world.encoder, pictures)
    verdicts = [known.describe(row_of(world, n, copy), 1)[0].verdict for n in (8, 9) for copy in range(50, 80)]
    assert verdicts.count(Verdict.MATCH) <= 0.1 * len(verdicts)
    there = [known.describe(row_of(world, n, 50), 1)[0] for n in range(8)]
    assert all(f"concept{n:02d}" in one.text and one.origin == str(bank) for n, one in enumerate(there))
    assert sum(one.verdict == Verdict.MATCH for one in there) >= 4


def test_an_empty_bank_is_refused(world, tmp_path):
    (tmp_path / "bank.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no text"):
        Bank(str(tmp_path / "bank.txt"), world.encoder, np.empty((0, 64), np.float32))


def test_equal_captions_of_a_bank_are_one_in_their_first_spelling(world, tmp_path):
    bank = tmp_path / "bank.txt"
    bank.write_text("concept04 One  text\nconcept04 one text\nCONCEPT04 ONE\tTEXT\nconcept04 another\n")
    known = Bank(str(bank), world.encoder, np.empty((0, 64), np.float32))
    assert known.texts == ["concept04 One  text", "concept04 another"]
    assert len(known.describe(row_of(world, 4), 3)) == 2


def test_a_question_is_answered_by_the_statement_that_fits_and_by_none_where_none_does(world):
    asker = Asker(world._current().snapshot, world.encoder, "what is it?", ["concept02", "concept05", "concept07"])
    rows = np.stack([row_of(world, n, 60 + copy) for n in range(10) for copy in range(10)])
    found = np.array(asker.answers(rows), dtype=object).reshape(10, 10)
    assert [list(found[n]).count(f"concept{n:02d}") >= 9 for n in (2, 5, 7)] == [True] * 3
    others = [answer for n in (0, 1, 3, 4, 6, 8, 9) for answer in found[n]]
    assert sum(answer is not None for answer in others) <= 0.15 * len(others)
    answer = asker.answer("x", row_of(world, 5))
    assert answer.answer == "concept05" and answer.choices[0].text == "concept05"
    assert abs(sum(choice.share for choice in answer.choices) - 1) < 1e-6


def test_no_place_is_given_to_a_thing_that_is_not_there(world):
    snapshot, places = world._current().snapshot, ["concept02", "concept05", "concept07"]
    pictures = {n: np.stack([row_of(world, n, 60 + copy) for copy in range(20)]) for n in (2, 5)}
    anything = Asker(snapshot, world.encoder, "where is it?", places)
    asker = Asker(snapshot, world.encoder, "where is the concept05?", places)
    assert anything.answers(pictures[2]).count("concept02") >= 15  # the place is there
    assert asker.answers(pictures[2]) == [None] * 20  # and what is asked for is not
    assert asker.answers(pictures[5]) == anything.answers(pictures[5]) != [None] * 20
    missed, found = (asker.answer("x", pictures[n][0]) for n in (2, 5))
    assert (missed.answer, missed.missing) == (None, "concept05") and missed.choices[0].text == "concept02"
    assert found.missing is None


def test_a_model_says_at_which_questions_it_was_found_weak(world):
    weak = PlantedEncoder(0.7)
    weak.card = replace(weak.card, weak_at=("how many",))
    asked = "how many concept02 are there?", ["one", "two"]
    assert Asker(world._current().snapshot, world.encoder, *asked).notes == ()
    (note,) = Asker(world._current().snapshot, weak, *asked).notes
    assert "no better than the commonest answer" in note
    assert Asker(world._current().snapshot, weak, "what is it?", ["one", "two"]).notes == ()
    assert load_card("mini").weak_at == (read_question(*asked).kind,)  # in the words that questions have for it


def test_texts_are_embedded_once_and_many_at_a_time(world):
    encoder = PlantedEncoder(0.7)
    known = Embedded(encoder)
    texts = [f"text {n % 300}" for n in range(600)]
    np.testing.assert_array_equal(known.rows(texts), encoder.encode_texts(texts))
    before = encoder.encoded
    known.rows(texts[:5])
    assert (before, encoder.encoded) == (900, 900)


def test_a_question_about_all_pictures_gives_a_column(tmp_path):
    collection, _ = planted(tmp_path / "photos", PlantedEncoder(0.7), concepts=range(10), copies=10)
    report = collection.ask_all("is there a concept06?")
    assert report.column == "ask_is_there_a_concept06" and report.pictures == 100
    hits = collection.search("concept06", k=100, where=f"{report.column} = 'yes'")
    names = [hit.path.rsplit("/", 1)[-1] for hit in hits]
    assert sum(name.startswith("06-") for name in names) >= 9 and len(names) <= 18
    assert report.answers["yes"] == len(names)
    assert sum(report.answers.values()) + report.unanswered == 100


def test_a_column_is_named_by_the_question():
    assert column_name("Is there a PERSON in it?") == "ask_is_there_a_person_in_it"
    assert column_name("что это?") == "ask"


def test_a_small_collection_cannot_say_what_a_statement_scores(collection, photos):
    with pytest.raises(InputError, match="at least 20 are needed"):
        collection.ask(photos / "red.png", "is there a dog?")


def test_answers_captions_and_tags_are_measured(world, tmp_path):
    rows = [r.path.decode() for r in world._current().snapshot.known_files() if r.path[:2] in (b"02", b"05")]
    lines = [f"{path},what is it?,concept02|concept05,concept{path[:2]}" for path in rows]
    (tmp_path / "q.csv").write_text("image,question,choices,answer\n" + "\n".join([*lines, "absent.png,q?,a|b,a"]))
    found = world.evaluate_answers(tmp_path / "q.csv")
    assert found.questions == 40 and found.missing == 1 and found.right.value > 0.9
    assert found.first.value > 0.9 and found.chance == found.commonest == 0.5 and found.withheld_absent is None
    without = [f"{path},what is it?,concept07|concept05,none of these" for path in rows if path.startswith("02")]
    (tmp_path / "q.csv").write_text("image,question,choices,answer\n" + "\n".join([*lines, *without]))
    found = world.evaluate_answers(tmp_path / "q.csv")
    assert found.questions == 60 and found.first.n == found.withheld_there.n == 40 and found.withheld_absent.n == 20
    assert found.withheld_absent.value >= 0.8 and found.right.n == 60
    assert found.notes == ()
    bad = [
        f"{rows[0]},what is it?,a|A,a",
        f"{rows[0]},what is it?,,a",
        f'{rows[0]},"what is it?,a|b,a',
        f"{rows[0]},q?",
    ]
    (tmp_path / "q.csv").write_text("image,question,choices,answer\n" + "\n".join([*lines, *bad, *without]))
    again = world.evaluate_answers(tmp_path / "q.csv")
    assert again.right == found.right and again.questions == 60
    (note,) = again.notes
    assert "line 42 (The choice 'A' stands there twice" in note and "line 43 ('what is it?' is an open quest" in note
    assert "line 44 (a quote in it is not closed)" in note and "and 1 more" in note
    (tmp_path / "q.csv").write_text(f"image,question,choices,answer\n{bad[0]}\n")
    with pytest.raises(InputError, match=r"line 2 \(The choice 'A' stands there twice"):
        world.evaluate_answers(tmp_path / "q.csv")
    (tmp_path / "l.csv").write_text("image,label\n" + "\n".join(f"{p},concept{p[:2]}" for p in rows) + '\na.png,"b\n')
    labels = world.evaluate_labels(tmp_path / "l.csv")
    assert labels.pictures == 40 and "line 42 (a quote in it is not closed)" in labels.notes[0]
    (tmp_path / "r.csv").write_text("image,caption\n" + "\n".join(f"{p},concept{p[:2]} in the open" for p in rows))
    (tmp_path / "bank.txt").write_text("concept02 in the open\nconcept05 in the open\nconcept09 elsewhere\n")
    scores = world.evaluate_descriptions(tmp_path / "r.csv", tmp_path / "bank.txt")
    assert scores.pictures == 40 and scores.scores.rouge_l > 0.9
    own = world.evaluate_descriptions(tmp_path / "r.csv")
    assert own.pictures == 40 and own.candidates == 200 and own.notes == ()
    with pytest.raises(InputError, match="no column 'tags'"):
        world.evaluate_tags([("a", "b")])


def test_each_picture_is_measured_with_the_captions_of_the_others_but_never_with_its_own(tmp_path):
    collection, encoder = planted(tmp_path / "photos", PlantedEncoder(0.7), concepts=range(4), copies=5, captions=False)
    paths = {row.id: row.path.decode() for row in collection._current().snapshot.known_files()}
    five = {id_: [f"concept{path[:2]} said {n} of {path[:6]}" for n in range(5)] for id_, path in paths.items()}
    for id_ in list(paths)[:2]:
        five[id_].append("concept00  the same WORDS" if id_ else "concept00 The same words")
    lines = [f"{paths[id_]},{text}" for id_, texts in five.items() for text in texts]
    (tmp_path / "five.csv").write_text("image,caption\n" + "\n".join(lines))
    collection.index_texts(tmp_path / "five.csv")
    snapshot = collection._current().snapshot
    texts = list(snapshot.captions())
    assert len(texts) == 102 and {text.image_id for text in texts} == set(paths)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_words, "_CELLS", 300)  # two or three pictures at a time
        patch.setattr(evaluate_words, "caption_scores", lambda said, _: seen.extend(said))
        found = collection.evaluate_descriptions(tmp_path / "five.csv")
    assert (found.pictures, found.candidates, found.missing, found.notes) == (20, 102, 0, ())
    scores = widened(snapshot.embeddings("images", list(paths))) @ encoder.encode_texts([t.text for t in texts]).T
    for at, id_ in enumerate(paths):
        mine = {words_of(text) for text in five[id_]}
        order = [n for n in np.argsort(-scores[at]) if texts[n].image_id != id_ and words_of(texts[n].text) not in mine]
        assert seen[at] == texts[order[0]].text


def test_few_captions_to_choose_from_and_none_at_all_are_told(tmp_path):
    collection, _ = planted(tmp_path / "photos", PlantedEncoder(0.7), concepts=[0], copies=2, captions=False)
    paths = [row.path.decode() for row in collection._current().snapshot.known_files()]
    references = tmp_path / "r.csv"
    references.write_text(f"image,caption\n{paths[0]},concept00 once\n{paths[1]},concept00 twice\n")
    with pytest.raises(InputError, match="holds no captions"):
        collection.evaluate_descriptions(references)
    (tmp_path / "one.csv").write_text(f"image,caption\n{paths[0]},concept00 once\n")
    collection.index_texts(tmp_path / "one.csv")
    with pytest.raises(InputError, match="cannot be given its own captions"):
        collection.evaluate_descriptions(tmp_path / "one.csv")
    found = collection.evaluate_descriptions(references)
    assert found.pictures == 1 and "1 picture is left out" in found.notes[0] and "fewer than 10" in found.notes[1]


# Texts of other sources


def test_texts_come_from_files_beside_and_inside_pictures_once(tmp_path):
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b.png", "c.jpg")):
        make_photo(folder / name, (20 * seed, 90, 90), seed)
    (folder / "a.txt").write_text("a red square\nsomething red\n")
    (folder / "b.json").write_text('{"caption": "a green square"}')
    data = (folder / "c.jpg").read_bytes()
    field = b"\x1c\x02\x78\x00\x0da blue square"
    payload = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x12" + field
    (folder / "c.jpg").write_bytes(data[:2] + b"\xff\xed" + (len(payload) + 2).to_bytes(2, "big") + payload + data[2:])
    bank = tmp_path / "bank.jsonl"
    bank.write_text('"a thought"\n{"image": "a.png", "text": "by hand"}\n{"image": "gone.png", "text": "lost?"}\n{\n')
    with clipsearch.create(tmp_path / "c", model="hashing") as made:
        report = made.index(folder, captions=["sidecars", "embedded", bank])
        assert report.texts == 7 and not report.skips
        assert any("line 4 (broken JSON" in note for note in report.notes)
        assert any("gone.png" in note and "kept without a picture" in note for note in report.notes)
        hit = made.search("a blue square", target="text", k=1)[0]
        assert (hit.text, hit.path.rsplit("/", 1)[-1]) == ("a blue square", "c.jpg")
        alone = made.search("a thought", target="text", k=1)[0]
        assert (alone.text, alone.path) == ("a thought", "")
        assert made.index(folder, captions=["sidecars", "embedded", bank]).texts == 0


def test_a_caption_bank_needs_no_pictures(tmp_path):
    (tmp_path / "bank.txt").write_text("a dog\na cat\n\na dog\n")
    with clipsearch.create(tmp_path / "c", model="hashing") as made:
        assert made.index_texts(tmp_path / "bank.txt").rows == 2
        assert made.status().texts == 2 and made.status().images == 0
        assert made.search("a cat", target="text", k=1)[0].text == "a cat"
        assert made.index_texts(tmp_path / "bank.txt").rows == 0
        with pytest.raises(SourceNotFoundError):
            made.index_texts(tmp_path / "absent.txt")


def test_a_picture_that_is_none_is_refused_by_name(collection, tmp_path):
    (tmp_path / "x.jpg").write_text("no picture")
    with pytest.raises(QueryImageError, match=r"x\.jpg"):
        collection.describe(tmp_path / "x.jpg")


def test_new_pictures_leave_an_open_collection_as_it_was(tmp_path):
    collection, encoder = planted(tmp_path / "photos", PlantedEncoder(0.7), concepts=range(4), copies=10)
    first = collection._asker("is there a concept01?", None)
    assert collection._asker("is there a concept01?", None) is first
    add(collection, encoder, range(4), 1, start=10)
    assert collection._asker("is there a concept01?", None) is not first
    assert Store.open(collection.path).snapshot().count("images") == 44


def test_a_bank_is_calibrated_on_pictures_that_are_there(tmp_path):
    collection, encoder = planted(tmp_path / "photos", PlantedEncoder(0.7), concepts=range(3), copies=4)
    with collection._store.writer() as writer:
        writer.commit(deleted=[0, 5])
    assert len(Describer(collection._store.snapshot(), encoder)._pictures) == 10
    empty, encoder = planted(tmp_path / "empty")
    assert Describer(empty._store.snapshot(), encoder)._pictures.shape == (0, encoder.dim)
