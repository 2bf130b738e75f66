"""Which collection is meant."""

import pytest

from clipsearch.cli.place import collections_in, find, to_make
from clipsearch.errors import CollectionNotFoundError, InputError


def make(*paths):
    for path in paths:
        path.mkdir(parents=True)
        (path / "CURRENT").write_text("1")


def test_the_only_collection_is_meant(home):
    make(home / "photos")
    (home / "README.md").write_text("")
    (home / "a-folder").mkdir()
    assert find(None, "indexes") == "indexes/photos"


def test_several_are_listed_and_none_is_guessed(home):
    make(home / "photos", home / "birds")
    with pytest.raises(InputError, match="birds, photos") as error:
        find(None, "indexes")
    assert error.value.exit_code == 2


@pytest.mark.parametrize("place", ["indexes", "nowhere", "a-file"])
def test_where_there_is_none_the_message_says_what_to_run(home, place):
    (home.parent / "a-file").write_text("")
    with pytest.raises(CollectionNotFoundError, match="clipsearch index FOLDER") as error:
        find(None, place)
    assert error.value.exit_code == 10


def test_a_name_is_looked_for_in_the_home_first(home):
    make(home / "photos", home.parent / "photos", home.parent / "here")
    assert find("photos", "indexes") == "indexes/photos"
    assert find("here", "indexes") == "here"
    assert find("./photos", "indexes") == "./photos"
    assert to_make(".", "indexes") == "."


def test_a_mistyped_name_offers_the_nearest(home):
    make(home / "photos", home / "birds")
    with pytest.raises(CollectionNotFoundError, match="Did you mean 'photos'"):
        find("fotos", "indexes")
    with pytest.raises(CollectionNotFoundError, match="birds, photos"):
        find("zzz", "indexes")


def test_an_empty_name_is_refused(home):
    with pytest.raises(InputError, match="empty"):
        find("", "indexes")


def test_a_folder_of_pictures_of_that_name_is_no_collection(home):
    (home.parent / "photos").mkdir()
    assert to_make("photos", "indexes") == "indexes/photos"


def test_a_damaged_collection_is_still_one(home):
    (home / "photos" / "manifests").mkdir(parents=True)
    assert collections_in("indexes") == ["photos"]


def test_option_environment_and_default_name_the_home_in_this_order(cli, fake, home, monkeypatch):
    make(home.parent / "other" / "b-photos", home.parent / "third" / "c-photos")
    assert "indexes/photos" in cli("search", "x", "-v").err
    monkeypatch.setenv("CLIPSEARCH_INDEXES", "other")
    assert "several" not in cli("search", "x").err
    assert cli("search", "x", "-i", "c-photos").code == 10
    assert cli("search", "x", "-i", "c-photos", "--indexes-dir", "third").code == 1
