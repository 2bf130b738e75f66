"""Fetching, with a hub made of stubs: what is asked of it, and how its failures read."""

import pytest

from clipsearch.embed import EncoderCard, load_card, pull
from clipsearch.errors import InputError, WeightsNotFoundError

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the hub, in order."""
    asked = []
    files = ["README.md", "open_clip_pytorch_model.bin", "open_clip_model.safetensors"]

    def download(repository, file):
        asked.append(("file", repository, file))
        return f"/cache/{repository}/{file}"

    monkeypatch.setattr(hub, "list_repo_files", lambda repository: files)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: asked.append(("tokenizer", name)))
    return asked


def test_a_clip_model_is_one_file_and_safetensors_comes_first(asked):
    card = load_card("vit-b-32")
    sentences = []
    assert pull(card, sentences.append) == f"/cache/{card.hub}/open_clip_model.safetensors"
    assert asked == [("file", card.hub, "open_clip_model.safetensors")]
    assert any("605 MB" in sentence for sentence in sentences)


def test_tokenizer_files_come_along(asked):
    pull(load_card("siglip2-b-16"))
    assert [entry[:2] for entry in asked] == [("tokenizer", "timm/ViT-B-16-SigLIP2"), ("file", "timm/ViT-B-16-SigLIP2")]
    asked.clear()
    pull(load_card("xlm-roberta-b-32"))
    assert ("tokenizer", "xlm-roberta-base") in asked


def test_a_tag_without_a_card_is_looked_up_in_open_clips_table(asked):
    pytest.importorskip("open_clip")
    pull(load_card("ViT-B-32/openai"))
    assert asked == [("file", "timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors")]


def test_a_hub_that_cannot_be_reached_is_one_clear_error(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host\nand a page of detail")

    monkeypatch.setattr(hub, "list_repo_files", fail)
    with pytest.raises(WeightsNotFoundError, match="no route to host") as caught:
        pull(load_card("vit-b-32"))
    assert len(str(caught.value).splitlines()) <= 3


def test_a_repository_without_weights_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(hub, "list_repo_files", lambda repository: ["README.md"])
    with pytest.raises(WeightsNotFoundError, match="holds none of"):
        pull(load_card("vit-b-32"))


@pytest.mark.parametrize(
    "card", [load_card("mini"), load_card("hashing"), load_card("local-dir:/x"), load_card("A@/x.pt")]
)
def test_what_is_not_on_the_hub_is_not_fetched(card: EncoderCard, asked):
    with pytest.raises(InputError, match="nothing to fetch"):
        pull(card)
    assert asked == []
