"""The model that writes, with random weights: what goes in and what comes out, and how it fails."""

import numpy as np
import pytest
from support import LANGUAGE_MODEL, make_photo

from clipsearch.errors import WeightsNotFoundError

pytestmark = LANGUAGE_MODEL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny_writer import save

    return save(tmp_path_factory.mktemp("writer") / "model")


def test_the_same_picture_gets_the_same_words_and_no_prompt_in_them(folder):
    from clipsearch.describe.vlm import Writer

    writer = Writer(str(folder))
    pixels = np.full((64, 64, 3), 90, np.uint8)
    first = writer.write(pixels, "a dog", max_tokens=5)
    assert isinstance(first, str) and first == writer.write(pixels, "a dog", max_tokens=5)
    assert len(first.split()) <= 5 and "<image>" not in first


def test_a_folder_without_a_model_or_with_half_of_one_is_refused(folder, tmp_path):
    from clipsearch.describe.vlm import Writer

    with pytest.raises(WeightsNotFoundError, match="holds no model"):
        Writer(str(tmp_path))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(WeightsNotFoundError, match="not whole"):
        Writer(str(tmp_path))


def test_a_description_says_that_a_model_wrote_it(folder, collection, tmp_path):
    picture = make_photo(tmp_path / "x.png", (200, 20, 20))
    found = collection.describe(picture, model=str(folder))
    assert found.sentences[0].source == "model" and found.sentences[0].score is None
    answer = collection.ask(picture, "what is written on the sign?", model=str(folder))
    assert answer.source == "model" and answer.p_value is None and not answer.choices
