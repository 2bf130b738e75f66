"""Recipes: what is read, what is refused, and which one is chosen."""

from dataclasses import replace

import pytest

from clipsearch.errors import InputError, UnknownNameError
from clipsearch.index.choose import FLAT_ROWS, choose_recipe, lists_for
from clipsearch.index.costs import peak_bytes
from clipsearch.index.recipe import (
    POINTS_PER_CENTROID,
    Recipe,
    check_points,
    least_points,
    load_recipe,
    parse_recipe,
    recipe_names,
    to_toml,
)

GB = 10**9


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_is_sound_and_says_what_it_was_measured_at(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert (recipe.recall_text is None) == (recipe.measured_on == "")
    for dim in (64, 384, 512, 768, 1024):
        fitted = recipe.fitted(dim)
        assert fitted.dim == dim
        if recipe.type == "ivfpq":
            assert fitted.inner_dim % fitted.pq_m == 0
            assert fitted.inner_dim / fitted.pq_m == recipe.inner_dim / recipe.pq_m


def test_a_recipe_survives_being_written_and_read():
    recipe = replace(load_recipe("ivfpq-1m"), measured_on='a "quoted" \\ path')
    assert parse_recipe(to_toml(recipe), "again") == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type = 'ivfpq'\nnlits = 4", "Did you mean 'nlist'"),
        ("type = 'ivf-pq'\nnlist = 4", "Did you mean 'ivfpq'"),
        ("type = 'ivfflat'\nnlist = 4\nstorage = 'sq'", "Did you mean 'sq8'"),
        ("type = 'ivfflat'\nnlist = 4\nrotation = 'pac'", "Did you mean 'pca'"),
    ],
)
def test_a_typo_is_answered_with_the_near_name(text, said):
    with pytest.raises(UnknownNameError, match=said):
        parse_recipe(text, "mine.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nlist = 4", "does not say its type"),
        ("type = ", "no TOML"),
        ("type = 'ivfpq'\nnlist = '4'", "nlist = '4', which should be int"),
        ("type = 'ivfpq'\nnlist = true", "nlist = True"),
        ("type = 'ivfpq'\nnlist = -4", "cannot be negative"),
        ("type = 'ivfflat'", "at least 1"),
        ("type = 'ivfpq'\nnlist = 4\npq_m = 7", "must divide"),
        ("type = 'ivfpq'\nnlist = 4\npq_m = 8\nnbits = 6", "nbits is 4 or 8"),
        ("type = 'ivfpq'\nnlist = 4\npq_m = 8\nfast_scan = true", "4 with fast_scan"),
        ("type = 'ivfpq'\nnlist = 4\npq_m = 8\nrotated_dim = 64", "needs a rotation"),
    ],
)
def test_a_recipe_that_does_not_go_together_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        parse_recipe(text, "mine.toml")


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match="no recipe file"):
        load_recipe(str(tmp_path / "none.toml"))


def test_training_wants_39_points_a_centroid_and_9984_for_8_bit_codes():
    eight = load_recipe("ivfpq-mmap-1m")
    assert least_points(replace(eight, nlist=10)) == 39 * 256 == 9984
    assert least_points(eight) == 39 * 4096
    check_points(replace(eight, nlist=10), 9984)
    with pytest.raises(InputError, match="there are 9,983"):
        check_points(replace(eight, nlist=10), 9983)
    with pytest.raises(InputError, match="nlist at most 769"):
        check_points(load_recipe("ivfflat-1m"), 30_000)


def test_auto_is_flat_below_two_hundred_thousand_and_ivfpq_from_there():
    assert choose_recipe(FLAT_ROWS - 1, 512, 8 * GB).recipe.type == "flat"
    choice = choose_recipe(FLAT_ROWS, 512, 8 * GB)
    assert choice.recipe.type == "ivfpq" and "2,048 lists in memory" in choice.why
    assert "\n" not in choice.why


@pytest.mark.parametrize("n", [200_000, 1_000_000, 3_000_000, 10_000_000, 50_000_000])
@pytest.mark.parametrize("dim", [384, 512, 768])
@pytest.mark.parametrize("memory", [2 * GB, 4 * GB, 16 * GB])
def test_a_choice_can_be_trained_and_fits_the_memory_or_is_refused_with_figures(n, dim, memory):
    try:
        recipe = choose_recipe(n, dim, memory).recipe
    except InputError as refusal:
        assert "GB to build; the memory budget is" in str(refusal) and "--memory" in str(refusal)
        assert n >= 10_000_000
        return
    check_points(recipe, n)
    assert peak_bytes(recipe, n) <= memory
    assert recipe.points <= n


def test_ten_million_rows_of_512_numbers_are_built_within_4_gb():
    recipe = choose_recipe(10_000_000, 512, 4 * GB).recipe
    assert recipe.bytes_of(10_000_000) < 90 * 10_000_000


def test_lists_grow_as_four_times_the_root_and_can_always_be_trained():
    assert lists_for(1_000_000) == 4096
    assert lists_for(100) <= 2
    for n in (1, 39, 1000, 12_345, 10**6, 10**9):
        assert lists_for(n) == 1 or lists_for(n) * POINTS_PER_CENTROID <= n


def test_the_recall_of_another_size_is_not_claimed():
    assert choose_recipe(1_000_000, 512, 8 * GB).recipe.recall_text == 0.997
    assert choose_recipe(2_000_000, 512, 8 * GB).recipe.recall_text is None


def test_an_unknown_type_is_answered_with_the_near_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'ivfflat'"):
        choose_recipe(10, 64, GB, "ivf-flat")


def test_a_flat_recipe_needs_nothing():
    flat = Recipe("flat")
    check_points(flat, 0)
    assert peak_bytes(flat, 10**9) == 0
