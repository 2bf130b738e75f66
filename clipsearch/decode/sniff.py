"""What the first bytes of a file say, without any decoder: the format, and sizes that a decoder would allocate.

Pillow picks a decoder by content, among some forty; one of them starts another program, several are rarely tested.
So the content is looked at here first, and Pillow is then offered the one decoder that fits, from a short list.
"""

import re
import struct

# Names as Pillow has them. What is not here is never opened.
ALLOWED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1 mif2 jpeg".split())

# Formats that a person may expect to work: known well enough to say so instead of "not an image".
_UNSUPPORTED = (
    (0, b"8BPS\0\1", "Photoshop"),
    (0, b"8BPS\0\2", "Photoshop"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF-", "PDF"),
    (0, b"DDS ", "DDS"),
    (0, b"BLP1", "BLP"),
    (0, b"BLP2", "BLP"),
    (0, b"\x01\xda", "SGI"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"\0\0\2\0", "cursor"),
    (0, b"icns", "icon"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"),
    (0, b"IIRO", "camera raw"),
    (0, b"IIU\0", "camera raw"),
    (4, b"ftypcrx ", "camera raw"),
    (4, b"\x11\xaf", "FLI animation"),
    (4, b"\x12\xaf", "FLI animation"),
    (0, b"SIMPLE  =", "FITS"),
)


def allowed_format(data: bytes) -> str | None:
    """Return Pillow's name of the allowed format that the first bytes show, or None."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return _ftyp_format(data) if data[4:8] == b"ftyp" else None


def _ftyp_format(data: bytes) -> str | None:
    """Tell AVIF from HEIC: the same container, told apart by its brands, the major one first."""
    end = min(max(int.from_bytes(data[:4], "big"), 16), 512)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    if brands[0] in (b"avif", b"avis"):
        return "AVIF"
    if brands[0] in (b"mif1", b"msf1", b"miaf") and {b"avif", b"avis"} & set(brands):
        return "AVIF"
    return "HEIF" if _HEIF_BRANDS & set(brands) else None


def unsupported_format(data: bytes) -> str | None:
    """Return the name of a picture format that is known and not allowed, or None."""
    for offset, signature, name in _UNSUPPORTED:
        if data.startswith(signature, offset):
            return name
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "Netpbm"
    if data[:1] == b"\n" and data[1:2] in (b"\0", b"\2", b"\3", b"\5") and len(data) >= 128:
        return "PCX"
    return "Targa" if _is_targa(data) else None


def _is_targa(data: bytes) -> bool:
    """Guess Targa, which has no signature at its beginning: a header whose every field makes sense."""
    if data[-18:-1] == b"TRUEVISION-XFILE.":
        return True
    if len(data) < 18:
        return False
    colour_map, kind, first, length, entry_bits = struct.unpack_from("<BBHHB", data, 1)
    width, height, depth = struct.unpack_from("<HHB", data, 12)
    if colour_map not in (0, 1) or not width or not height or depth not in (1, 8, 16, 24, 32):
        return False
    if kind in (1, 9):
        return not colour_map or (first <= length and entry_bits in (0, 15, 16, 24, 32))
    return kind in (2, 3, 10, 11)


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the canvas (width, height) of a WebP: its decoder allocates it before Pillow knows the size."""
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not a stuffed zero, a restart or a fill byte


def count_scans(data: bytes, enough: int) -> int:
    """Count the scans of a JPEG up to its end mark; exact only where there may be more than ``enough``.

    The bytes of a scan's marker also occur inside metadata and in a video that a phone hangs behind the picture,
    so a large number of them is only a reason to walk the markers.
    """
    rough = data.count(b"\xff\xda")
    return rough if rough <= enough else _walk_scans(data)


def _walk_scans(data: bytes) -> int:
    scans, position = 0, 2
    while (found := _NEXT_MARKER.search(data, position)) is not None:
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:
            break
        if marker == 0xDA:
            scans += 1
        if marker != 0x01:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return scans


def is_cut_tiff(data: bytes) -> bool:
    """Tell whether a TIFF's directory, which writers like to put last, lies beyond the end of the file."""
    order = "little" if data[:2] == b"II" else "big"
    return data[2:4] in (b"*\0", b"\0*") and int.from_bytes(data[4:8], order) > len(data)
