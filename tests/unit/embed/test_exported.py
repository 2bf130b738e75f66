"""Exported towers: against torch, without torch, and when something is wrong with their files."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from embed_inputs import TEXTS

import clipsearch.embed as embed
from clipsearch.embed import export_model, load_card, load_encoder, pick_runtime
from clipsearch.embed.export import TOWER, WORDS, export_folder, exports_home, find_export
from clipsearch.embed.lengths import by_length, end_marks
from clipsearch.embed.pick_runtime import Chosen, choose_runtime
from clipsearch.errors import InputError, MissingExtraError, WeightsNotFoundError


@pytest.fixture
def reference(exported_clip):
    return load_encoder(exported_clip.name, runtime="torch", precision="fp32")


@pytest.fixture
def own_exports(exported_clip, tmp_path, monkeypatch):
    """A copy of the exports that a test may damage."""
    shutil.copytree(exports_home(), tmp_path / "clipsearch-exports")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return exported_clip


def pixels(encoder, pictures):
    return np.stack([encoder.preprocess(picture) for picture in pictures])


def agreement(a, b):
    """The smallest cosine of any row."""
    return float((a.astype(np.float64) * b).sum(axis=1).min())


@pytest.mark.parametrize(
    ("runtime", "precision", "least"),
    [
        ("onnx", "fp32", 1 - 1e-6),
        ("onnx", "int8", 0.995),
        ("openvino", "fp32", 1 - 1e-6),
        ("openvino", "bf16", 0.995),
        ("torch", "bf16", 0.995),
    ],
)
def test_a_runtime_agrees_with_torch_in_float32(
    runtime, precision, least, exported_clip, reference, pictures, record_property
):
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed: pip install 'clipsearch[openvino]'")
    encoder = load_encoder(exported_clip.name, runtime=runtime, precision=precision)
    images = agreement(
        encoder.encode_images(pixels(encoder, pictures)), reference.encode_images(pixels(reference, pictures))
    )
    texts = agreement(encoder.encode_texts(TEXTS), reference.encode_texts(TEXTS))
    record_property("least_cosine", {"image": images, "text": texts})
    assert min(images, texts) >= least


def test_the_exported_model_is_the_same_model(exported_clip, reference):
    encoder = load_encoder(exported_clip.name, runtime="onnx")
    assert encoder.fingerprint() == reference.fingerprint()
    assert encoder.card == reference.card
    assert encoder.preprocess == reference.preprocess
    assert (encoder.name, encoder.dim) == (reference.name, reference.dim)
    assert encoder.logit_scale == pytest.approx(reference.logit_scale)
    assert encoder.logit_bias == reference.logit_bias


def test_texts_and_pictures_are_embedded_without_torch(exported_clip):
    code = (
        "import sys, numpy as np; from clipsearch.embed import load_encoder\n"
        f"encoder = load_encoder({exported_clip.name!r}, runtime='onnx')\n"
        "assert 'onnxruntime' not in sys.modules, 'a tower is loaded when it is needed'\n"
        "encoder.encode_texts(['a dog in the snow']); encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8))\n"
        "print([m for m in ('torch', 'open_clip', 'onnx', 'ftfy', 'regex', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_auto_asks_onnx_runtime_for_texts_where_the_model_is_exported(exported_clip, monkeypatch):
    encoder = load_encoder(exported_clip.name)
    assert encoder.how.endswith("texts by onnx")
    monkeypatch.setattr(embed, "find_export", lambda *_: None)
    assert load_encoder(exported_clip.name).how.startswith("torch in ")


def test_a_tower_that_is_left_to_torch_is_loaded_when_it_is_needed(exported_clip, reference, pictures):
    from clipsearch.embed.exported import ExportedEncoder

    facts = dict(find_export(load_card(exported_clip.name), "image").facts)
    encoder = ExportedEncoder(
        load_card(exported_clip.name), facts, runtime=Chosen("torch", "onnx"), precision="fp32", device="cpu"
    )
    found = encoder.encode_images(pixels(encoder, pictures))
    np.testing.assert_allclose(found, reference.encode_images(pixels(reference, pictures)), atol=1e-6)


def test_auto_exports_nothing(exported_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    load_encoder(exported_clip.name)
    assert not os.path.exists(exports_home())


def test_a_named_runtime_exports_what_is_missing(own_exports):
    card = load_card(own_exports.name)
    shutil.rmtree(find_export(card, "text").folder)
    load_encoder(own_exports.name, runtime="onnx")
    assert find_export(card, "text") is not None
    assert not [name for name in os.listdir(exports_home()) if name.startswith(".export")]


def test_what_a_killed_export_left_is_removed_a_day_later(own_exports):
    old, new = (os.path.join(exports_home(), f".export-{name}") for name in ("old", "new"))
    for folder in (old, new):
        os.mkdir(folder)
    os.utime(old, (0, 0))
    shutil.rmtree(find_export(load_card(own_exports.name), "text", "int8").folder)
    export_model(own_exports.name, "int8")
    assert not os.path.exists(old)
    assert os.path.exists(new)


def test_an_export_is_made_once(exported_clip, monkeypatch):
    monkeypatch.setattr("clipsearch.embed.exporting.OpenClipEncoder", None)  # nothing is loaded
    told = []
    folders = export_model(exported_clip.name, tell=told.append)
    assert told == []
    assert [os.path.basename(folder).split("-")[1:3] for folder in folders] == [["image", "fp32"], ["text", "fp32"]]


@pytest.mark.parametrize("harm", ["cut", "other bytes", "gone", "no record", "half a record"])
def test_a_damaged_export_counts_as_absent(harm, own_exports):
    card = load_card(own_exports.name)
    export = find_export(card, "text")
    path, record = export.path(WORDS), export.path("record.json")
    if harm == "cut":
        os.truncate(path, 1000)
    elif harm == "other bytes":
        with open(path, "r+b") as file:
            file.seek(5000)
            file.write(b"\xff" * 16)
    elif harm == "no record":
        os.unlink(record)
    elif harm == "half a record":
        os.truncate(record, 100)
    else:
        os.unlink(path)
    assert find_export(card, "text") is None
    assert find_export(card, "image") is not None


def test_a_copied_export_with_other_times_is_still_good(own_exports):
    export = find_export(load_card(own_exports.name), "image")
    os.utime(export.path(TOWER), ns=(0, 0))
    assert find_export(load_card(own_exports.name), "image") == export


def test_an_export_that_goes_while_it_is_in_use_is_one_clear_error(own_exports):
    encoder = load_encoder(own_exports.name, runtime="onnx")
    shutil.rmtree(find_export(load_card(own_exports.name), "image").folder)
    with pytest.raises(WeightsNotFoundError, match="models export"):
        encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8))


def test_other_weights_in_the_same_file_are_not_taken_for_the_exported_ones(own_exports, tmp_path):
    checkpoint = shutil.copy(own_exports.checkpoint, tmp_path / "clip.pt")
    card = load_card(f"exported-clip@{checkpoint}")
    assert find_export(card, "text") is None, "nobody has looked into this file yet"
    export_folder_before = set(os.listdir(exports_home()))
    export_model(card.name)
    assert find_export(card, "text") is not None
    assert set(os.listdir(exports_home())) == export_folder_before, "the same weights are exported once"
    with open(checkpoint, "ab") as file:
        file.write(b"more")
    assert find_export(card, "text") is None


def test_the_name_of_an_export_says_weights_tower_precision_and_version(exported_clip, reference):
    folder = os.path.basename(export_folder(reference.fingerprint(), "text", "int8"))
    assert folder == f"{reference.fingerprint()[:32]}-text-int8-v1"
    record = json.loads((exported_clip.cache.parent / "clipsearch-exports" / folder / "record.json").read_text())
    assert record["schema"] == "clipsearch.export/1"
    assert {"tower.onnx", "vocabulary.txt", "words.npy"} <= record["files"].keys()


def test_a_text_at_its_real_length_is_the_text_at_full_length(reference):
    import torch

    texts = [*TEXTS, "a", "<end_of_text> behind the mark", "word " * 500]
    with torch.inference_mode():
        full = reference.model.encode_text(reference.tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(reference.encode_texts(texts), full, atol=1e-6)


def test_a_tower_that_sees_the_whole_text_is_never_cut(tiny):
    from clipsearch.embed.causal import causal_text

    encoder = load_encoder(tiny.siglip_name, runtime="torch")
    assert causal_text(encoder.model) is None


@pytest.mark.slow
def test_a_model_without_clips_own_tokens_leaves_its_texts_to_torch(tiny, tmp_path, monkeypatch, pictures):
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    encoder = load_encoder(tiny.siglip_name, runtime="onnx", precision="fp32")
    assert encoder.how == "pictures by onnx, texts by torch"
    plain = load_encoder(tiny.siglip_name, runtime="torch", precision="fp32")
    np.testing.assert_allclose(
        encoder.encode_images(pixels(encoder, pictures)), plain.encode_images(pixels(plain, pictures)), atol=1e-5
    )
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), plain.encode_texts(TEXTS), atol=1e-6)


def test_end_marks_are_found_and_like_lengths_go_together():
    tokens = np.array([[7, 9, 0, 0], [7, 1, 2, 9], [7, 9, 9, 0]])
    assert end_marks(tokens, "argmax", None).tolist() == [1, 3, 1]
    assert end_marks(tokens, "eos", 9).tolist() == [1, 3, 1]
    assert [rows.tolist() for rows in by_length(np.array([5, 1, 3, 1]), 2)] == [[1, 3], [2, 0]]


@pytest.mark.parametrize(
    ("packages", "bfloat16", "options", "expected"),
    [
        ("torch openvino", True, {}, ("openvino", "onnx")),
        ("torch", True, {}, ("torch", "onnx")),
        ("torch", False, {}, ("onnx", "onnx")),
        ("", True, {}, ("onnx", "onnx")),
        ("torch", True, {"precision": "fp32"}, ("onnx", "onnx")),
        ("torch", True, {"precision": "int8"}, ("onnx", "onnx")),
        ("torch openvino", True, {"precision": "bf16"}, ("openvino", "openvino")),
        ("torch openvino", True, {"device": "cuda"}, ("torch", "torch")),
        ("torch openvino", True, {"runtime": "onnx"}, ("onnx", "onnx")),
        ("torch openvino", True, {"text_is_exported": False}, ("openvino", "torch")),
    ],
)
def test_auto_takes_the_fastest_that_is_installed(packages, bfloat16, options, expected, monkeypatch):
    installed = {*packages.split(), *(["open_clip"] if "torch" in packages else [])}
    monkeypatch.setattr(pick_runtime, "find_spec", lambda name: object() if name in installed else None)
    monkeypatch.setattr(pick_runtime, "has_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(pick_runtime, "_DEVICES", ())
    asked = {"runtime": "auto", "device": "auto", "precision": "auto", "text_is_exported": True, **options}
    found = choose_runtime(asked.pop("runtime"), asked.pop("device"), asked.pop("precision"), **asked)
    assert (found.image, found.text) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"runtime": "onnx", "precision": "bf16"},
        {"runtime": "onnx", "device": "cuda"},
        {"runtime": "openvino", "precision": "fp16"},
        {"runtime": "openvino", "device": "cuda"},
    ],
)
def test_what_a_runtime_cannot_do_is_a_clear_error(options, exported_clip):
    encoder = load_encoder(exported_clip.name, **options)
    with pytest.raises(InputError, match="runtime"):
        encoder.encode_texts(["a"])


def test_a_missing_package_says_what_to_install(exported_clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"clipsearch\[openvino\]"):
        load_encoder(exported_clip.name, runtime="openvino").encode_texts(["a"])
    monkeypatch.setattr("clipsearch.embed.exporting.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"onnx and onnxscript.*\n.*clipsearch\[cpu\]"):
        export_model(exported_clip.name)


def test_a_model_that_needs_no_torch_has_nothing_to_export():
    with pytest.raises(InputError, match="no towers"):
        export_model("mini")
