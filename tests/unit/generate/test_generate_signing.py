"""C2PA signatures: valid but for trust, broken by a change, over a file that has its marks already."""

import io
import json
import subprocess
import sys
from shutil import which

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import InputError, MissingExtraError
from clipsearch.generate.provenance import Origin, encode_png
from clipsearch.generate.signing import PictureSigner, read_signer

ORIGIN = Origin("clipsearch 0.1", "gradient", "", "MIT", "a red rocket", 3)
PNG = encode_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8), ORIGIN)
USES = """basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=critical,emailProtection
authorityKeyIdentifier=keyid
subjectKeyIdentifier=hash
"""
KEYS = {
    "es256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ps256": ["rsa:2048"],
    "ed25519": ["ed25519"],
}


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=120)


def make_chain(folder, key):
    """A certificate authority, and a certificate that it signs."""
    (folder / "uses.cnf").write_text(USES)
    new = ["-newkey", *KEYS[key], "-nodes"]
    openssl(folder, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "9", "-subj", "/O=T/CN=Root",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    openssl(folder, "req", *new, "-keyout", "own.key", "-out", "own.csr", "-subj", "/O=T/CN=Signer")
    openssl(folder, "x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "own.pem", "-days", "9", "-extfile", "uses.cnf")  # fmt: skip
    (folder / "chain.pem").write_bytes((folder / "own.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    return str(folder / "chain.pem"), str(folder / "own.key")


def validated(data):
    c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed")
    found = json.loads(c2pa.Reader("image/png", io.BytesIO(data)).json())
    codes = {status["code"] for status in found.get("validation_status", [])}
    return found["validation_state"], codes, found["manifests"][found["active_manifest"]]


@pytest.fixture(params=list(KEYS))
def signer(request, tmp_path):
    pytest.importorskip("c2pa", reason="c2pa-python is not installed")
    if which("openssl") is None:
        pytest.skip("openssl is not on this machine")
    return read_signer(*make_chain(tmp_path, request.param))


def test_a_signed_picture_is_valid_but_for_trust_and_keeps_pixels_and_marks(signer):
    signed = signer.sign(PNG, ORIGIN)
    state, codes, manifest = validated(signed)
    assert state == "Valid" and codes == {"signingCredential.untrusted"}
    (actions,) = [a["data"]["actions"] for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")]
    assert actions[0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert "thumbnail" not in manifest and len(signed) < len(PNG) + 16_000
    with Image.open(io.BytesIO(PNG)) as before, Image.open(io.BytesIO(signed)) as after:
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
        assert dict(before.text) == dict(after.text) and "trainedAlgorithmicMedia" in after.text["XML:com.adobe.xmp"]


def test_a_change_after_signing_shows(signer):
    changed = bytearray(signer.sign(PNG, ORIGIN))
    changed[-60] ^= 1
    state, codes, _ = validated(bytes(changed))
    assert state == "Invalid" and "assertion.dataHash.mismatch" in codes


def test_a_picture_made_of_another_says_so(signer):
    from dataclasses import replace

    _, _, manifest = validated(signer.sign(PNG, replace(ORIGIN, parent="ab" * 32)))
    assert "compositeWithTrainedAlgorithmicMedia" in json.dumps(manifest)


def test_the_key_of_another_certificate_is_refused(signer, tmp_path):
    (tmp_path / "other").mkdir()
    _, other = make_chain(tmp_path / "other", "es256")
    with pytest.raises(InputError, match="cannot be signed"):
        PictureSigner(signer.certificate, open_bytes(other)[:40]).check()


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def test_without_the_extra_three_lines_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(MissingExtraError, match=r"clipsearch\[c2pa\]") as caught:
        PictureSigner(b"", b"").check()
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no\.pem"):
        read_signer(str(tmp_path / "no.pem"), str(tmp_path / "no.key"))


def test_generate_signs_notes_it_in_the_ledger_and_the_picture_stays_out(signer, tmp_path, monkeypatch):
    from support import make_photo

    import clipsearch

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    make_photo(tmp_path / "mine" / "a.png", (220, 20, 20), 1)
    with clipsearch.create(tmp_path / "c", model="hashing") as made:
        made.index(tmp_path / "mine")
        files = (tmp_path / "chain.pem", tmp_path / "own.key")
        image = made.generate("a red rocket", model="gradient", sign_with=files)
        assert validated(image.png)[0] == "Valid" and open_bytes(image.path) == image.png
        assert made.generate("a red rocket", model="gradient", sign_with=files).cached
        assert not made.generate("a red rocket", model="gradient").cached
        rows = [json.loads(line) for line in open_bytes(f"{made.path}/generated/ledger.jsonl").splitlines()]
        assert [row["signed_by"] for row in rows] == [signer.digest, None]
        (tmp_path / "mine" / "copy.png").write_bytes(image.png)
        assert made.index(tmp_path / "mine").ignored == 1
