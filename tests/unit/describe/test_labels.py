"""Labels and their prompts; the vocabulary that ships; finding labels in captions."""

from pathlib import Path

import numpy as np
import pytest

from clipsearch.describe.labels import (
    GROUPS,
    article,
    default_labels,
    embed_labels,
    make_labels,
    read_labels,
    shipped_embeddings,
    shipped_file,
)
from clipsearch.describe.mentions import mentioned, stem
from clipsearch.embed import load_encoder
from clipsearch.errors import InputError, SourceNotFoundError


def write(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "labels.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_the_vocabulary_has_about_a_thousand_different_labels_in_four_groups():
    labels = default_labels()
    assert 1000 <= len(labels.labels) <= 1500
    assert len(set(labels.names)) == len(labels.names)
    assert {label.group for label in labels.labels} == set(GROUPS)
    assert all("{" not in prompt for prompts in labels.prompts() for prompt in prompts)


def test_the_embeddings_of_the_vocabulary_that_ship_are_those_of_mini():
    mini, labels = load_encoder("mini"), default_labels()
    shipped = shipped_embeddings(labels, mini.fingerprint())
    assert shipped is not None, f"run scripts/embed_bank.py: {shipped_file(labels, mini.fingerprint())} is missing"
    some = type(labels)(labels.labels[::200], labels.templates)
    np.testing.assert_allclose(embed_labels(some, mini.encode_texts), shipped[::200], atol=2e-3)


def test_a_file_has_a_label_a_line_with_comments_and_other_words(tmp_path):
    labels = read_labels(write(tmp_path, "# clothes\n\ndress\nlongsleeve = long-sleeved top, long shirt\n"))
    assert labels.names == ["dress", "longsleeve"]
    assert labels.labels[1].prompts(["a photo of {a}{}"]) == [
        "a photo of a long-sleeved top",
        "a photo of a long shirt",
    ]


def test_a_label_that_stands_twice_counts_once_and_it_says_so(tmp_path):
    labels = read_labels(write(tmp_path, "dog\ncat\ndog\n"))
    assert labels.names == ["dog", "cat"] and labels.notes[0].endswith("counted once: 'dog'.")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n"])
def test_a_file_without_labels_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="holds no label"):
        read_labels(write(tmp_path, text))


def test_what_is_no_label_is_named_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"line 2: '---' is no label"):
        read_labels(write(tmp_path, "dog\n---\n"))
    with pytest.raises(InputError, match="line 3: that is no text in UTF-8"):
        read_labels(write(tmp_path, b"dog\ncat\n\xff\xfe\n"))
    with pytest.raises(InputError, match=r"line 1: .* is no label"):
        read_labels(write(tmp_path, "x" * 201))
    with pytest.raises(SourceNotFoundError, match="no file of labels"):
        read_labels(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="no label"):
        make_labels([])


def test_a_label_is_the_mean_of_its_prompts():
    def encode(texts: list[str]) -> np.ndarray:
        return np.array([[len(text), 1.0] for text in texts])

    labels = make_labels(["dog", "owl"]).with_templates(["{}", "a photo of {}"])
    expected = np.array([[3 + 14, 2.0], [3 + 14, 2.0]])
    np.testing.assert_allclose(
        embed_labels(labels, encode), expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6
    )


def test_a_template_without_a_place_for_the_label_is_refused():
    with pytest.raises(InputError, match=r"no \{\} where the label goes"):
        make_labels(["dog"]).with_templates(["a photo"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dog", "a "),
        ("owl", "an "),
        ("shoes", ""),
        ("glass", "a "),
        ("water", ""),
        ("umbrella", "an "),
        ("uniform", "a "),
        ("old men", ""),
        ("group of people", "a "),
    ],
)
def test_the_article_is_what_one_would_say(words, expected):
    assert article(words) == expected


@pytest.mark.parametrize(
    ("word", "expected"), [("Dogs", "dog"), ("bodies", "body"), ("grass", "grass"), ("beaches", "beach")]
)
def test_the_plural_is_forgiven(word, expected):
    assert stem(word) == expected


def test_a_mention_is_of_whole_words_in_order():
    labels = [("dog",), ("hot dog",), ("t-shirt", "tee shirt")]
    found = mentioned(labels, [["Two dogs run ."], ["a hot dog, and a tee shirt"], ["a dogged man", "he shouts"]])
    assert found.tolist() == [[True, False, False], [True, True, True], [False, False, False]]


def test_labels_that_differ_in_capitals_alone_are_one(tmp_path):
    (tmp_path / "labels.txt").write_text("Dog\ndog\nCat\nDOG\n")
    labels = read_labels(tmp_path / "labels.txt")
    assert labels.names == ["Dog", "Cat"] and labels.notes[0].endswith("counted once: 'dog', 'DOG'.")
    assert make_labels(["Dog", "cat", "dog", "Cat", "bird"]).names == ["Dog", "cat", "bird"]
