"""One image: what decodes, what does not and why, and whether the pixels are right."""

import io
import random
from datetime import datetime

import numpy as np
import pytest
from pictures import correlation, encoded, png_header, scan_bomb, scene
from PIL import Image
from stand_ins import Plain

from clipsearch.decode.image import decode_image, upright_rgb
from clipsearch.decode.limits import DecodeFailure, DecodeLimits
from clipsearch.decode.sniff import count_scans

UPRIGHT = np.asarray(scene().resize((32, 32)))


LIMITS = DecodeLimits()


def decode(data, limits=LIMITS, **options):
    return decode_image(data, Plain(), limits, **options)


def reason(data, limits=LIMITS):
    with pytest.raises(DecodeFailure) as caught:
        decode(data, limits)
    assert caught.value.detail
    return str(caught.value.reason)


GOOD = {
    "jpeg": ("JPEG", {"quality": 95}),
    "progressive jpeg": ("JPEG", {"progressive": True, "quality": 95}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "avif": ("AVIF", {"quality": 95}),
    "heif": ("HEIF", {"quality": 95}),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_allowed_format_decodes_to_the_same_picture(name):
    kind, options = GOOD[name]
    metadata, pixels = decode(encoded(scene(), kind, **options))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (metadata.width, metadata.height, metadata.format) == (96, 64, kind.lower())
    assert correlation(pixels, UPRIGHT) > 0.98


def test_a_gif_decodes_to_the_same_picture():
    assert correlation(decode(encoded(scene(), "GIF"))[1], UPRIGHT) > 0.95


def turned(orientation):
    """Store the scene so that the orientation tag turns it upright again."""
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return scene() if orientation == 1 else scene().transpose(methods[orientation])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_come_out_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # As bytes: of an Exif object pillow-heif takes the tags, but not the rotation that HEIF stores apart.
    metadata, pixels = decode(encoded(turned(orientation), kind, exif=exif.tobytes()))
    assert (metadata.width, metadata.height) == (96, 64)
    assert correlation(pixels, UPRIGHT) > 0.99


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_a_senseless_orientation_is_left_alone(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert correlation(decode(encoded(scene(), "JPEG", exif=exif))[1], UPRIGHT) > 0.99


def test_the_size_told_is_that_of_the_file_and_not_of_the_small_decode():
    exif = Image.Exif()
    exif[0x0112] = 6
    metadata, _ = decode(encoded(scene(3000, 2000), "JPEG", exif=exif))
    assert (metadata.width, metadata.height) == (2000, 3000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_picture_decoded_small_looks_as_decoded_in_full(kind):
    data = encoded(scene(3600, 2400), kind)
    small, full = decode(data)[1], decode(data, scaled=False)[1]
    assert np.abs(small.astype(int) - full).max() <= 6
    assert correlation(small, full) > 0.999


def test_transparent_pixels_are_white_whatever_lies_under_them():
    rgba = scene().convert("RGBA")
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, :48] = 0
    rgba.putalpha(Image.fromarray(alpha))
    for kind in ("PNG", "WEBP", "TIFF", "AVIF"):
        pixels = decode(encoded(rgba, kind))[1]
        assert pixels[:, :14].min() > 245, kind
        assert correlation(pixels[:, 18:], UPRIGHT[:, 18:]) > 0.98, kind


@pytest.mark.parametrize("scaled", [True, False])
def test_a_large_transparent_picture_is_shrunk_on_white(scaled):
    rgba = Image.new("RGBA", (4000, 3000), (255, 0, 0, 0))
    assert decode(encoded(rgba, "PNG"), scaled=scaled)[1].min() == 255


def test_palette_transparency_is_white():
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    for kind in ("PNG", "GIF"):
        assert decode(encoded(image, kind, transparency=1))[1].min() == 255, kind


def test_grey_with_transparent_colour_is_white():
    assert decode(encoded(Image.new("L", (40, 40), 9), "PNG", transparency=9))[1].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_grey_is_scaled_and_not_clipped(kind, bits):
    grey = np.asarray(scene().convert("L"))
    deep = (grey.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    pixels = decode(encoded(Image.fromarray(deep), kind))[1]
    plain = decode(encoded(scene().convert("L"), "PNG"))[1]
    assert np.abs(pixels.astype(int) - plain).max() < 6 + 255 * (1 - deep.max() / ((1 << bits) - 1))
    assert correlation(pixels, plain) > 0.999


@pytest.mark.parametrize("white", [1.0, 255.0, 65_535.0, 1e9])
def test_float_pictures_are_not_black(white):
    values = np.asarray(scene().convert("L"), np.float32) / 255 * white
    values[0, 0] = np.nan
    pixels = decode(encoded(Image.fromarray(values), "TIFF"))[1]
    assert correlation(pixels, decode(encoded(scene().convert("L"), "PNG"))[1]) > 0.99
    assert pixels.std() > 20


def test_cmyk_has_its_colours():
    pixels = decode(encoded(scene().convert("CMYK"), "JPEG", quality=95))[1]
    assert np.abs(pixels.astype(int) - UPRIGHT).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA"])
def test_every_mode_of_png_decodes(mode):
    assert decode(encoded(scene().convert(mode), "PNG"))[1].std() > 20


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes_decode(size):
    assert decode(encoded(Image.new("RGB", size, (9, 99, 199)), "PNG"))[1].shape == (32, 32, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((0, 0, 255), (0, 255, 0), (255, 0, 0))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert decode(data)[1].reshape(-1, 3).mean(0) == pytest.approx([0, 0, 255], abs=6)


@pytest.mark.parametrize("name", GOOD)
def test_half_a_file_is_truncated_or_corrupt(name):
    kind, options = GOOD[name]
    data = encoded(scene(), kind, **options)
    expected = {"truncated", "corrupt"} | ({"unidentified"} if kind in ("AVIF", "HEIF") else set())
    assert reason(data[: len(data) // 2]) in expected


def test_a_jpeg_and_a_png_cut_short_are_truncated():
    for kind in ("JPEG", "PNG"):
        data = encoded(scene(300, 200), kind)
        assert reason(data[: len(data) // 2]) == "truncated"


def test_a_png_with_a_flipped_bit_is_corrupt():
    data = bytearray(encoded(scene(), "PNG"))
    data[len(data) // 2] ^= 4
    assert reason(bytes(data)) == "corrupt"


def test_no_bytes_are_empty():
    assert reason(b"") == "empty"


@pytest.mark.parametrize(
    "data", [b"\xff", b"hello, I am a letter\n" * 50, b"PK\3\4" + b"\0" * 99, b"\xff\xd8\xff", b"<svg/>"]
)
def test_what_is_no_picture_is_unidentified(data):
    assert reason(data) == "unidentified"


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "EPS", "PDF", "ICNS", "JPEG2000"])
def test_pictures_of_other_formats_are_told_from_what_is_no_picture(kind):
    assert reason(encoded(scene().resize((64, 64)), kind)) == "unsupported_format"


def test_no_other_decoder_is_even_loaded():
    decode(encoded(scene(), "PNG"))
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "unsupported_format"


@pytest.mark.parametrize("side", [9_500, 60_000])
def test_a_png_bomb_is_refused_before_it_is_decoded(side):
    assert reason(png_header(side, side)) == "too_many_pixels"


def test_bombs_of_other_formats_are_refused():
    gif = bytearray(encoded(scene(), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    bmp = bytearray(encoded(scene(), "BMP"))
    bmp[18:26] = (60_000).to_bytes(4, "little") * 2
    webp = bytearray(encoded(Image.new("RGBA", (40, 40), (9, 9, 9, 99)), "WEBP"))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (16_000).to_bytes(3, "little") * 2
    for data in (gif, bmp, webp):
        assert reason(bytes(data)) == "too_many_pixels"
    few = DecodeLimits(max_pixels=1000)
    for kind, options in GOOD.values():
        assert reason(encoded(scene(), kind, **options), few) == "too_many_pixels"
    assert reason(encoded(scene(), "WEBP"), few) == "too_many_pixels"


def test_a_jpeg_of_very_many_scans_is_refused_at_once():
    assert reason(scan_bomb()) == "decode_timeout"


def test_scan_marks_outside_the_picture_do_not_count():
    data = encoded(scene(), "JPEG") + b"\xff\xda" * 5000  # as in a video behind the picture
    assert count_scans(data, 256) == 1
    assert decode(data)[1].std() > 20


@pytest.mark.parametrize("name", GOOD)
def test_damaged_bytes_never_raise_anything_else(name):
    kind, options = GOOD[name]
    data, rng = encoded(scene(), kind, **options), random.Random(name)
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            assert decode(bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])]))[1].shape == (
                32,
                32,
                3,
            )
        except DecodeFailure as failure:
            assert failure.detail


def test_metadata_comes_with_the_pixels():
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    exif.get_ifd(0x8769)[0x9003] = "2024:02:29 12:34:56"
    exif.get_ifd(0x8769)[0xA434] = "EF 50mm"
    exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 0.0), 3: "E", 4: (151.0, 15.0, 36.0)})
    for kind in ("JPEG", "PNG", "WEBP", "HEIF", "AVIF"):
        metadata, _ = decode(encoded(scene(), kind, exif=exif))
        assert metadata.taken == datetime(2024, 2, 29, 12, 34, 56), kind
        assert (metadata.camera, metadata.lens) == ("Canon EOS 5D", "EF 50mm"), kind
        assert metadata.latitude == pytest.approx(-33.5), kind
        assert metadata.longitude == pytest.approx(151.26), kind


def test_senseless_metadata_costs_nothing():
    broken = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xee" * 500
    metadata, pixels = decode(encoded(scene(), "JPEG", exif=broken))
    assert correlation(pixels, UPRIGHT) > 0.99
    assert (metadata.taken, metadata.camera, metadata.latitude) == (None, None, None)


def test_a_picture_that_is_open_already_is_turned_and_brought_to_rgb():
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded(turned(6).convert("L"), "PNG", exif=exif)), formats=["PNG"]) as image:
        upright = upright_rgb(image)
    assert (upright.mode, upright.size) == ("RGB", (96, 64))
