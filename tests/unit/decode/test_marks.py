"""What files say of themselves: generated, edited, or nothing."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clipsearch.decode import DecodeLimits, decode_image
from clipsearch.decode.marks import read_mark
from clipsearch.embed.preprocess import Preprocess

SETTINGS = "a castle\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/">http://cv.iptc.org/newscodes/digitalsourcetype/{}</x:xmpmeta>'
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def saved(kind: str = "PNG", **how) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, kind, **how)
    return file.getvalue()


def png_text(name: str, text: str, packed: bool = False, international: bool = False) -> bytes:
    marks = PngInfo()
    (marks.add_itxt if international else marks.add_text)(name, text, zip=packed)
    return saved(pnginfo=marks)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_the_source_type_is_found_in_every_container(kind):
    data = saved(kind, xmp=XMP.format("trainedAlgorithmicMedia").encode())
    assert "DigitalSourceType" in read_mark(data)
    assert read_mark(saved(kind)) is None


@pytest.mark.parametrize("packed", [False, True])
def test_the_source_type_is_found_in_plain_and_packed_png_text(packed):
    packet = XMP.format("trainedAlgorithmicMedia")
    assert "DigitalSourceType" in read_mark(png_text("XML:com.adobe.xmp", packet, packed, international=True))


@pytest.mark.parametrize("word", ["compositeWithTrainedAlgorithmicMedia", "digitalCapture", "minorHumanEdits"])
def test_an_edited_or_plain_photograph_stays_one(word):
    assert read_mark(saved("JPEG", xmp=XMP.format(word).encode())) is None


def test_settings_of_other_generators_are_known():
    workflow = json.dumps({"3": {"class_type": "KSampler"}})
    for name, text in (
        ("parameters", SETTINGS),
        ("prompt", workflow),
        ("invokeai_metadata", "{}"),
        ("Software", "NovelAI"),
    ):
        for packed in (False, True):
            assert name in read_mark(png_text(name, text, packed))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + SETTINGS.encode("utf-16-be")
    for kind in ("JPEG", "WEBP"):
        assert "settings" in read_mark(saved(kind, exif=exif.tobytes()))


def test_other_text_is_no_mark():
    for name, text in (("Software", "GIMP"), ("parameters", "f/2.8"), ("prompt", "say cheese"), ("Comment", SETTINGS)):
        assert read_mark(png_text(name, text)) is None


def test_damaged_chunks_are_passed_over():
    data = png_text("parameters", SETTINGS, packed=True)
    at = data.index(b"zTXt")
    for broken in (
        data[: at + 10],
        data[: at + 20] + b"\xff" * 8 + data[at + 28 :],
        b"\x89PNG\r\n\x1a\n",
        b"",
        data[:30],
    ):
        assert read_mark(broken) is None


def test_a_text_that_unpacks_without_end_is_read_in_part():
    bomb = png_text("parameters", "0" * (64 << 20), packed=True)
    assert len(bomb) < 1 << 20 and read_mark(bomb) is None


def test_decoding_reports_the_mark():
    metadata, _ = decode_image(png_text("parameters", SETTINGS), Preprocess(size=8), DecodeLimits())
    assert "parameters" in metadata.generated
    assert decode_image(saved(), Preprocess(size=8), DecodeLimits())[0].generated is None
