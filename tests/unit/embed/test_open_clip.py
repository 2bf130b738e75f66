"""The open_clip family against open_clip itself, on tiny models with random weights; no network, no downloads."""

import json
import shutil

import numpy as np
import pytest
from embed_inputs import TEXTS

import clipsearch.embed
from clipsearch.embed import expected_path, load_card, weights_path
from clipsearch.errors import InputError, UnknownNameError, WeightsNotFoundError

open_clip = pytest.importorskip("open_clip")
import tiny_cache  # noqa: E402
import tiny_open_clip  # noqa: E402
import torch  # noqa: E402
from open_clip import pretrained as tables  # noqa: E402

TOLERANCE = 1e-6


def load_encoder(name, **options):
    """Load for torch, in float32 unless another precision is asked for: open_clip's own numbers."""
    return clipsearch.embed.load_encoder(name, **{"runtime": "torch", "precision": "fp32", **options})


def reference(name, checkpoint, pictures, texts, **options):
    """Embed with open_clip's own code, from creating the model to normalising."""
    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=checkpoint, **options)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    with torch.inference_mode():
        images = model.encode_image(torch.stack([transform(picture) for picture in pictures]), normalize=True)
        words = model.encode_text(tokenizer(texts), normalize=True)
    return images.numpy(), words.numpy()


def ours(name, pictures, texts, **options):
    encoder = load_encoder(name, **options)
    return encoder.encode_images(pixels(encoder, pictures)), encoder.encode_texts(texts)


def pixels(encoder, pictures):
    return np.stack([encoder.preprocess(picture) for picture in pictures])


def assert_equal(found, expected, record_property):
    for tower, a, b in zip(("image", "text"), found, expected, strict=True):
        difference = float(np.abs(a - b).max())
        record_property(f"max_abs_difference_{tower}", difference)
        assert difference < TOLERANCE


def test_a_clip_checkpoint_gives_open_clips_own_embeddings(tiny, pictures, record_property, no_network):
    expected = reference("tiny-clip", tiny.clip, pictures, TEXTS)
    found = ours(tiny.clip_name, pictures, TEXTS)
    assert_equal(found, expected, record_property)
    assert np.ptp(found[0] @ found[0].T) > 0.1, "the random model must tell its inputs apart"
    assert np.ptp(found[1] @ found[1].T) > 0.1


def test_a_siglip_folder_gives_open_clips_own_embeddings(tiny, pictures, record_property, no_network):
    pictures = [picture for picture in pictures if min(picture.size) > 1]
    assert_equal(
        ours(tiny.siglip_name, pictures, TEXTS),
        reference(tiny.siglip_name, None, pictures, TEXTS),
        record_property,
    )


def test_a_siglip_model_keeps_its_preprocessing_scale_and_bias(tiny):
    encoder = load_encoder(tiny.siglip_name)
    assert (encoder.preprocess.mode, encoder.preprocess.mean, encoder.preprocess.std) == (
        "squash",
        (0.5,) * 3,
        (0.5,) * 3,
    )
    assert encoder.logit_bias == pytest.approx(-10)
    assert encoder.logit_scale == pytest.approx(1 / 0.07)
    assert (encoder.card.dim, encoder.card.image_size, encoder.card.context_length) == (64, 160, 16)


def test_texts_are_padded_to_the_full_context_whatever_the_batch(tiny):
    encoder = load_encoder(tiny.siglip_name)
    assert encoder.tokenizer(["a dog"]).shape == (1, 16)
    assert encoder.tokenizer(["a dog", "a red cat runs " * 20]).shape == (2, 16)
    alone, together = encoder.encode_texts(["a dog"]), encoder.encode_texts(["a dog", "a red cat runs " * 20])
    np.testing.assert_allclose(alone[0], together[0], atol=1e-6)


def test_the_model_is_in_evaluation_mode_and_takes_no_gradients(tiny):
    model = load_encoder(tiny.clip_name).model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_safetensors_and_pt_give_the_same_fingerprint_and_other_weights_another(tiny, tmp_path):
    same = tiny_open_clip.save(tiny_open_clip.random_model("tiny-clip"), tmp_path / "same.safetensors")
    other = tiny_open_clip.save(tiny_open_clip.random_model("tiny-clip", seed=1), tmp_path / "other.pt")
    fingerprint = load_encoder(tiny.clip_name).fingerprint()
    assert load_encoder(f"tiny-clip@{same}").fingerprint() == fingerprint
    assert load_encoder(f"tiny-clip@{other}").fingerprint() != fingerprint
    assert load_encoder(tiny.clip_name, precision="bf16").fingerprint() == fingerprint
    assert len(fingerprint) == 64


def test_the_fingerprint_knows_preprocessing_and_activation(tiny, tmp_path):
    before = load_encoder(tiny.siglip_name).fingerprint()
    folder = shutil.copytree(tiny.siglip, tmp_path / "copy")
    assert load_encoder(f"local-dir:{folder}").fingerprint() == before
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"]["resize_mode"] = "shortest"
    path.write_text(json.dumps(config))
    assert load_encoder(f"local-dir:{folder}").fingerprint() != before


def test_bfloat16_weights_stay_close_to_float32(tiny, pictures):
    exact, rough = ours(tiny.clip_name, pictures, TEXTS), ours(tiny.clip_name, pictures, TEXTS, precision="bf16")
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == np.float32
        assert (a * b).sum(axis=1).min() > 0.995


@pytest.fixture
def tags(monkeypatch):
    """Two tags of the tiny architecture, one of them trained with QuickGELU and with a normalisation of its own."""
    table = {
        "plain": tables._pcfg(hf_hub="nobody/tiny-plain/"),
        "quick": tables._pcfg(hf_hub="nobody/tiny-quick/weights.pt", quick_gelu=True, mean=(0.1, 0.2, 0.3)),
        "by_url": tables._pcfg(url="https://example.invalid/w.pt"),
    }
    monkeypatch.setitem(tables._PRETRAINED, "tiny-clip", table)


def test_a_tag_is_loaded_from_the_hub_cache_without_the_network(tiny, tags, empty_cache, no_network, pictures):
    shutil.copy(tiny.clip, tiny_cache.cached("nobody/tiny-plain", empty_cache) / "open_clip_pytorch_model.bin")
    expected = reference("tiny-clip", tiny.clip, pictures, TEXTS)
    found = ours("tiny-clip/plain", pictures, TEXTS)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE)


def test_the_tag_decides_on_quickgelu_and_normalisation(tiny, tags, empty_cache, no_network, pictures):
    shutil.copy(tiny.clip, tiny_cache.cached("nobody/tiny-quick", empty_cache) / "weights.pt")
    options = {"force_quick_gelu": True, "image_mean": (0.1, 0.2, 0.3)}
    expected = reference("tiny-clip", tiny.clip, pictures, TEXTS, **options)
    encoder = load_encoder("open_clip:tiny-clip/quick")
    assert encoder.preprocess.mean == (0.1, 0.2, 0.3)
    np.testing.assert_allclose(encoder.encode_images(pixels(encoder, pictures)), expected[0], atol=TOLERANCE)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected[1], atol=TOLERANCE)
    plain = load_encoder(tiny.clip_name)
    assert np.abs(plain.encode_texts(TEXTS) - expected[1]).max() > 1e-4, "the activation must make a difference"
    assert plain.fingerprint() != encoder.fingerprint()


@pytest.mark.parametrize(("architecture", "quick"), [("ViT-B-32", True), ("ViT-B-32-quickgelu", True)])
def test_openai_weights_get_quickgelu_by_either_name(architecture, quick, empty_cache):
    from clipsearch.embed.open_clip import plan

    files = tiny_cache.cached("timm/vit_base_patch32_clip_224.openai", empty_cache)
    (files / "open_clip_model.safetensors").touch()
    assert plan(load_card(f"{architecture}/openai")).quick_gelu is quick


def test_a_local_siglip_checkpoint_gets_the_preprocessing_of_its_architecture(tmp_path):
    from clipsearch.embed.open_clip import plan

    (tmp_path / "w.pt").touch()
    (tmp_path / "tokenizer.json").touch()
    found = plan(load_card(f"ViT-B-16-SigLIP2@{tmp_path}/w.pt"))
    assert found.preprocess["resize_mode"] == "squash"
    assert found.preprocess["mean"] == (0.5, 0.5, 0.5)
    assert found.tokenizer == str(tmp_path)


@pytest.mark.parametrize("name", ["vit-b-32", "siglip2-b-16", "xlm-roberta-b-32", "ViT-B-32/openai", "tiny-clip/plain"])
def test_absent_weights_are_one_clear_error_and_no_download(name, tiny, tags, empty_cache, no_network):
    card = load_card(name)
    with pytest.raises(WeightsNotFoundError) as caught:
        load_encoder(name)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    assert f"clipsearch models pull {card.name}" in message
    assert expected_path(card) in message
    assert not card.size_mb or f"{card.size_mb} MB" in message
    assert weights_path(card) is None


@pytest.mark.parametrize("name", ["siglip2-b-16", "xlm-roberta-b-32"])
def test_absent_tokenizer_files_are_the_same_clear_error(name, empty_cache, no_network):
    card = load_card(name)
    (tiny_cache.cached(card.hub, empty_cache) / "open_clip_model.safetensors").touch()
    with pytest.raises(WeightsNotFoundError, match="tokenizer files") as caught:
        load_encoder(name)
    assert f"clipsearch models pull {name}" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_text_tower_of_transformers_is_built_from_files_on_disk(tmp_path, no_network, pictures):
    pytest.importorskip("transformers")
    config = {
        "embed_dim": 32,
        "vision_cfg": tiny_open_clip.CLIP["vision_cfg"],
        "text_cfg": {
            "hf_model_name": "nobody/tiny-roberta",
            "hf_tokenizer_name": "nobody/tiny-roberta",
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp",
        },
    }
    from transformers import XLMRobertaConfig

    folder = tiny_open_clip.save_tokenizer(tmp_path / "model")
    XLMRobertaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, pad_token_id=0
    ).save_pretrained(folder)
    at_hand = {**config, "text_cfg": {**config["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}}
    tiny_open_clip.register(tmp_path, "tiny-multilingual", at_hand)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-multilingual", pretrained_text=False).eval()
    tiny_open_clip.save(model, folder / "model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    encoder = load_encoder(f"local-dir:{folder}")
    tokens = encoder.tokenizer(TEXTS)
    with torch.inference_mode():
        expected = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "near"),
    [("ViT-B-33/openai", "ViT-B-32"), ("ViT-B-32/opnai", "openai"), ("VIT-B-32x@/tmp/none.pt", "ViT-B-32")],
)
def test_an_unknown_architecture_or_tag_offers_near_names(name, near):
    with pytest.raises(UnknownNameError, match=near):
        load_encoder(name)


def test_files_that_do_not_fit_are_one_clear_error(tiny, tmp_path, no_network):
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"not a checkpoint")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    for name in (f"tiny-clip@{garbage}", f"tiny-clip@{truncated}", f"ViT-B-32@{tiny.clip}"):
        with pytest.raises(WeightsNotFoundError) as caught:
            load_encoder(name)
        assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("config", [None, "{", "[]", "{}", '{"model_cfg": {}}'])
def test_a_folder_without_a_proper_configuration_is_one_clear_error(config, tmp_path):
    (tmp_path / "model.safetensors").touch()
    if config is not None:
        (tmp_path / "open_clip_config.json").write_text(config)
    with pytest.raises(WeightsNotFoundError, match="open_clip"):
        load_encoder(f"local-dir:{tmp_path}")


def test_a_folder_or_file_that_is_not_there_is_one_clear_error(tmp_path, tiny):
    for name in (f"local-dir:{tmp_path}/none", f"tiny-clip@{tmp_path}/none.pt", f"tiny-clip@{tmp_path}"):
        with pytest.raises(WeightsNotFoundError, match=str(tmp_path)):
            load_encoder(name)
    assert weights_path(load_card(f"tiny-clip@{tmp_path}/none.pt")) is None


def test_a_folder_without_weights_is_not_started_at_random(tiny, tmp_path):
    shutil.copy(f"{tiny.siglip}/open_clip_config.json", tmp_path)
    with pytest.raises(WeightsNotFoundError, match="no weights"):
        load_encoder(f"local-dir:{tmp_path}")


def test_an_architecture_with_siglip_in_its_name_and_no_tokenizer_is_refused(tmp_path, no_network):
    tiny_open_clip.register(tmp_path, "my-siglip", tiny_open_clip.CLIP)
    (tmp_path / "w.pt").touch()
    with pytest.raises(WeightsNotFoundError, match="tokenizer"):
        load_encoder(f"my-siglip@{tmp_path}/w.pt")


def test_weights_that_open_clip_has_by_url_only_are_no_crash(tiny, tags, empty_cache, no_network):
    with pytest.raises(WeightsNotFoundError):
        load_encoder("tiny-clip/by_url")


def test_a_model_with_oblong_input_is_refused():
    from types import SimpleNamespace

    from clipsearch.embed.open_clip import preprocess_of

    model = SimpleNamespace(visual=SimpleNamespace(preprocess_cfg={"size": (224, 336)}))
    with pytest.raises(InputError, match="square"):
        preprocess_of(model)


def test_loading_leaves_the_root_logger_as_it_was(tiny):
    import logging

    before = list(logging.getLogger().handlers)
    load_encoder(tiny.clip_name)
    assert logging.getLogger().handlers == before


def test_odd_texts_raise_nothing(tiny):
    encoder = load_encoder(tiny.clip_name)
    assert np.isfinite(encoder.encode_texts(["", " ", "\udcff", "\x00", "😀" * 100, "word " * 500])).all()
