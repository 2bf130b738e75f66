"""Cards against open_clip's own tables, and how names are read."""

import json
import os
from dataclasses import asdict, fields

import pytest

from clipsearch.embed import ENCODERS, cards, load_card
from clipsearch.embed.card import EncoderCard, parse_name
from clipsearch.errors import UnknownNameError

OPEN_CLIP = [name for name, card in cards().items() if card.family == "open_clip"]


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_a_card_says_what_open_clip_says(name):
    open_clip = pytest.importorskip("open_clip")
    from open_clip.pretrained import get_pretrained_cfg

    card = load_card(name)
    config = open_clip.get_model_config(card.architecture)
    tag = get_pretrained_cfg(card.architecture, card.pretrained)
    text = config["text_cfg"]
    assert tag, "open_clip does not know the tag"
    assert card.dim == config["embed_dim"]
    assert card.image_size == config["vision_cfg"]["image_size"]
    assert card.context_length == text.get("context_length", 77)
    assert (card.mean, card.std) == (tuple(tag["mean"]), tuple(tag["std"]))
    assert (card.mode, card.interpolation) == (tag["resize_mode"], tag["interpolation"])
    assert f"{card.hub}/{card.hub_file or ''}" == tag["hf_hub"]
    assert card.tokenizer == text.get("hf_tokenizer_name")
    assert card.text_tower == text.get("hf_model_name")


@pytest.mark.parametrize("name", [name for name in OPEN_CLIP if not load_card(name).text_tower])
def test_the_size_is_that_of_float32_weights(name):
    open_clip = pytest.importorskip("open_clip")
    import torch

    card = load_card(name)
    with torch.device("meta"):
        model = open_clip.create_model(card.architecture, device="meta")
    size_mb = 4 * sum(tensor.numel() for tensor in model.state_dict().values()) / 1e6
    assert card.size_mb == pytest.approx(size_mb, rel=0.02)


def test_every_row_has_the_types_of_the_dataclass():
    kinds = {"tuple": tuple, "str": str, "int": int, "float": float}
    for name, card in cards().items():
        assert card.name == name
        assert card.family in ENCODERS
        assert card.good_for and card.licence
        for entry in fields(EncoderCard):
            value = getattr(card, entry.name)
            expected = str(entry.type)
            assert (value is None and "None" in expected) or isinstance(
                value, next(kind for word, kind in kinds.items() if word in expected)
            ), f"{name}.{entry.name} is {value!r}"


def test_a_card_can_be_kept_as_json():
    for card in cards().values():
        assert json.loads(json.dumps(asdict(card)))["name"] == card.name


KNOWN = [
    EncoderCard("mini", "mini"),
    EncoderCard("vit-b-32", "open_clip", "ViT-B-32", "some_tag", hub="org/name"),
    EncoderCard("siglip2-b-16", "open_clip", "ViT-B-16-SigLIP2", "webli", languages=("multi",)),
]


@pytest.mark.parametrize("name", ["vit-b-32", "ViT-B-32", "VIT-B-32", "open_clip:vit-b-32", "ViT-B-32/some_tag"])
def test_a_card_is_found_by_name_architecture_and_tag(name):
    assert parse_name(name, KNOWN) is KNOWN[1]


def test_tags_are_read_as_open_clip_reads_them():
    assert parse_name("open_clip:ViT-B-32/Some-Tag", KNOWN) is KNOWN[1]


def test_any_architecture_and_tag_makes_a_card():
    card = parse_name("open_clip:ViT-H-14/laion2b", KNOWN)
    assert (card.name, card.family, card.architecture, card.pretrained) == (
        "ViT-H-14/laion2b",
        "open_clip",
        "ViT-H-14",
        "laion2b",
    )


def test_a_checkpoint_is_named_by_architecture_and_absolute_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    card = parse_name("ViT-B-32@sub/my@home/w.pt", KNOWN)
    assert card.architecture == "ViT-B-32"
    assert card.checkpoint == os.path.join(os.getcwd(), "sub", "my@home", "w.pt")
    assert parse_name(card.name, KNOWN) == card, "the name must load the same model from anywhere"


def test_a_folder_is_named_by_its_absolute_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    card = parse_name("local-dir:models/a", KNOWN)
    assert card.checkpoint == os.path.join(os.getcwd(), "models", "a")
    assert (card.architecture, card.languages) == (None, ())
    assert parse_name(card.name, KNOWN) == card


@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("ViT-B-16-SigLIP2/other", ("multi",)),
        ("ViT-L-16-SigLIP2-256/webli", ("multi",)),
        ("ViT-L-14/openai", ("en",)),
        ("ViT-B-32@/x.pt", ("en",)),
    ],
)
def test_languages_of_a_model_without_a_card_follow_its_architecture(name, languages):
    assert parse_name(name, KNOWN).languages == languages


@pytest.mark.parametrize(("name", "near"), [("vit-b-23", "vit-b-32"), ("minni", "mini"), ("siglip2", "siglip2-b-16")])
def test_a_near_name_is_suggested(name, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'") as caught:
        parse_name(name, KNOWN)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "name", ["", "/", "@", "ViT-B-32/", "/tag", "@/path", "local-dir:", "a/b/c", "open_clip:", "zzz"]
)
def test_what_names_nothing_is_refused(name):
    with pytest.raises(UnknownNameError):
        parse_name(name, KNOWN)
