"""Which model is taken when nobody names one, and what that costs."""

import subprocess
import sys

import pytest
import tiny_cache

from clipsearch.embed import cards, choose, choose_model, load_card
from clipsearch.embed.locate import expected_path, hub_cache, snapshot, tokenizer_path, weights_path


@pytest.fixture
def installed(monkeypatch):
    """Say which packages this Python has."""

    def only(*names):
        monkeypatch.setattr(choose, "find_spec", lambda name: object() if name in names else None)

    only("torch", "open_clip")
    return only


def put(cache, card, file="open_clip_model.safetensors"):
    (tiny_cache.cached(card.hub, cache) / file).touch()


def test_a_named_model_is_taken_as_it_is(empty_cache):
    assert choose_model("anything/at_all") == ("anything/at_all", None)


def test_without_weights_mini_is_taken_with_a_line_on_how_to_do_better(empty_cache, installed):
    name, note = choose_model(None)
    assert name == "mini"
    assert note is not None and "clipsearch models pull vit-b-32-256" in note
    assert "\n" not in note and "pip" not in note
    assert load_card("vit-b-32-256")


def test_without_the_packages_cached_weights_are_no_use(empty_cache, installed):
    put(empty_cache, load_card("vit-b-32"))
    installed("open_clip")
    name, note = choose_model(None)
    assert name == "mini"
    assert note is not None and "pip install 'clipsearch[cpu]'" in note


def test_the_best_of_the_cached_models_is_taken(empty_cache, installed):
    put(empty_cache, load_card("vit-b-32"))
    assert choose_model(None) == ("vit-b-32", None)
    put(empty_cache, load_card("vit-l-14"), "open_clip_pytorch_model.bin")
    assert choose_model(None) == ("vit-l-14", None)


def test_a_model_without_its_tokenizer_is_not_ready(empty_cache, installed):
    card = load_card("siglip2-so400m-384")
    put(empty_cache, card)
    assert choose_model(None)[0] == "mini"
    (empty_cache / f"models--{card.hub.replace('/', '--')}" / "snapshots" / "0123abcd" / "tokenizer.json").touch()
    assert choose_model(None)[0] == card.name
    assert tokenizer_path(card) == snapshot(card.hub)


def test_a_model_without_its_text_towers_configuration_is_not_ready(empty_cache, installed):
    card = load_card("xlm-roberta-b-32")
    put(empty_cache, card)
    files = tiny_cache.cached(card.tokenizer, empty_cache)
    (files / "tokenizer.json").touch()
    assert choose_model(None)[0] == "mini"
    (files / "config.json").touch()
    assert choose_model(None)[0] == card.name


def test_a_half_fetched_model_is_not_there(empty_cache):
    card = load_card("vit-b-32")
    files = tiny_cache.cached(card.hub, empty_cache)
    (files / "open_clip_model.safetensors").symlink_to("../../blobs/missing")
    assert weights_path(card) is None


def test_the_newest_snapshot_is_taken_where_no_revision_is_named(empty_cache):
    card = load_card("vit-b-32")
    files = tiny_cache.cached(card.hub, empty_cache)
    (files / "open_clip_model.safetensors").touch()
    (files.parent.parent / "refs" / "main").unlink()
    assert weights_path(card) == str(files / "open_clip_model.safetensors")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/b"}, "/a/b"),
        ({"HF_HOME": "/h"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HOME": "/home/me"}, "/home/me/.cache/huggingface/hub"),
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/a"),
    ],
)
def test_the_cache_is_where_huggingface_hub_looks(environment, expected, monkeypatch):
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert hub_cache() == expected
    pytest.importorskip("huggingface_hub")
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert theirs == expected
    assert expected_path(load_card("vit-b-32")).startswith(expected)


def test_choosing_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, time, clipsearch.embed as e; e.choose_model(None); start = time.perf_counter()\n"
        "for _ in range(20): e.choose_model(None)\n"
        "print((time.perf_counter() - start) / 20 * 1000)\n"
        "print([m for m in ('torch', 'open_clip', 'PIL', 'onnxruntime', 'huggingface_hub') if m in sys.modules])"
    )
    milliseconds, heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert heavy == "[]"
    assert float(milliseconds) < 25, "a few milliseconds; the margin is for a busy machine"


def test_every_card_has_a_place():
    for card in cards().values():
        assert expected_path(card)
        weights_path(card)
