"""SmolVLM with random weights behind ``describe --model`` and ``ask --model``, loaded without a network."""

import json
import shutil
import socket
import sys

import numpy as np
import pytest
from support import LANGUAGE_MODEL, make_photo

pytestmark = LANGUAGE_MODEL


@pytest.fixture(scope="module", params=["idefics3", "smolvlm"])
def smolvlm(request, tmp_path_factory):
    if request.param == "smolvlm":
        pytest.importorskip("num2words")
    from tiny_writer import save_smolvlm

    return save_smolvlm(tmp_path_factory.mktemp("smolvlm") / request.param, request.param)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_more):
        raise AssertionError("a connection was tried")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_smolvlm_of_both_generations_writes_what_it_makes_of_picture_and_prompt(smolvlm, no_network):
    from clipsearch.describe.vlm import Writer

    writer = Writer(str(smolvlm))
    assert type(writer._model).__name__.startswith(("Idefics3", "SmolVLM"))
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 255, (64, 48, 3), dtype=np.uint8) for _ in range(2))
    said = writer.write(one, "what is on the sign?", max_tokens=12)
    assert said and said == writer.write(one, "what is on the sign?", max_tokens=12)
    assert "Assistant" not in said and "<image>" not in said and "sign" not in said
    inputs = [writer._inputs(picture, prompt) for picture, prompt in ((one, "a"), (other, "a"), (one, "b"))]
    assert not inputs[0]["pixel_values"].equal(inputs[1]["pixel_values"])  # the picture is seen, and so is the prompt
    assert not inputs[0]["input_ids"].equal(inputs[2]["input_ids"])
    assert int((inputs[0]["input_ids"] == writer._processor.image_token_id).sum()) % 4 == 0


def test_describe_and_ask_say_that_a_model_wrote_it(cli, smolvlm, collection, tmp_path, no_network):
    picture = make_photo(tmp_path / "x.png", (200, 20, 20))
    done = cli("describe", str(picture), "-i", str(collection.path), "--model", str(smolvlm), "-k", "2")
    assert done.code == 0 and [line.split("\t")[0] for line in done.lines] == ["model", "caption", "caption", "tags"]
    assert not done.err.strip()  # no progress bar, no warning
    done = cli("describe", str(picture), "-i", str(collection.path), "--model", str(smolvlm), "--json", "-k", "2")
    told = json.loads(done.out)["sentences"]
    assert [one["source"] for one in told] == ["model", "caption", "caption", "tags"]
    assert told[0]["origin"] == str(smolvlm) and told[0]["score"] is None
    done = cli("ask", str(picture), "what is written there?", "-i", str(collection.path), "--model", str(smolvlm))
    assert done.code == 0 and len(done.lines) == 1 and "written by a model" in done.err


def refused(cli, collection, tmp_path, model):
    picture = make_photo(tmp_path / "x.png", (200, 20, 20))
    done = cli("describe", str(picture), "-i", str(collection.path), "--model", str(model))
    assert done.code == 2 and not done.out and len(done.err.strip().splitlines()) <= 3 and "Traceback" not in done.err
    return done.err


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "processor_config.json"])
def test_a_model_that_lacks_a_file_is_not_whole(cli, collection, smolvlm, tmp_path, lost):
    shutil.copytree(smolvlm, tmp_path / "model", ignore=shutil.ignore_patterns(lost))
    assert "is not whole" in refused(cli, collection, tmp_path, tmp_path / "model")


def test_weights_that_were_cut_off_are_refused(cli, collection, smolvlm, tmp_path):
    shutil.copytree(smolvlm, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(tmp_path / "model") in refused(cli, collection, tmp_path, tmp_path / "model")


def test_a_model_of_another_kind_is_refused_by_its_kind(cli, collection, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    assert "of the kind 'bert', which does not write" in refused(cli, collection, tmp_path, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": ')
    assert "config.json cannot be read" in refused(cli, collection, tmp_path, tmp_path / "model")
    assert "is not on this machine" in refused(cli, collection, tmp_path, "smolvlm-256m-of-tomorrow")


def test_without_the_extra_the_line_that_installs_it_is_given(cli, collection, smolvlm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "clipsearch.describe.vlm", raising=False)
    assert "pip install 'clipsearch[describe]'" in refused(cli, collection, tmp_path, smolvlm)
