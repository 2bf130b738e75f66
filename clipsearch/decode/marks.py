"""Does a file say of itself that a machine made its picture?

Three kinds of mark are known. IPTC's ``DigitalSourceType`` with the value ``trainedAlgorithmicMedia``, which stands as
plain text in an XMP packet and in a C2PA manifest alike, in any container. Text chunks that image generators leave in
PNG files. And the line of settings that some of them write into the EXIF comment of a JPEG or WebP.

A photograph that somebody *edited* with such a tool says ``compositeWithTrainedAlgorithmicMedia`` and stays a
photograph, unless it is clipsearch's own work. What is not marked is not seen here; a mark can be
stripped, and it can be forged.
"""

import re
import struct
import zlib
from collections.abc import Iterator

_ENDS = 512 << 10  # bytes looked at from either end: metadata of every container lie there
_LONGEST = 1 << 20  # of an unpacked text
_SOURCE_TYPE = b"digitalsourcetype/trainedAlgorithmicMedia"
_SETTINGS = (b"Steps: ", b"Sampler: ")
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_COMFY = re.compile(rb'"class_type"\s*:')
_INVOKE = {b"invokeai_metadata", b"sd-metadata", b"invokeai_graph", b"Dream"}
OWN = b"clipsearch:generator"


def read_mark(data: bytes) -> str | None:
    """Return what in a file says that its picture was generated; None where nothing does."""
    if data.startswith(_PNG):
        texts = list(_png_texts(data))
        if any(name == OWN for name, _ in texts):
            return "clipsearch generated it"
        for name, text in texts:
            if (found := _text_mark(name, text)) is not None:
                return found
    ends = (data,) if len(data) <= 2 * _ENDS else (data[:_ENDS], data[-_ENDS:])
    for part in ends:
        if _SOURCE_TYPE in part:
            return "its DigitalSourceType is trainedAlgorithmicMedia"
        if not data.startswith(_PNG) and _has_settings(part):
            return "its comment holds a generator's settings"
    return None


def _text_mark(name: bytes, text: bytes) -> str | None:
    if _SOURCE_TYPE in text:
        return "its DigitalSourceType is trainedAlgorithmicMedia"
    settings = name == b"parameters" and all(word in text for word in _SETTINGS)
    if settings or name in _INVOKE or (name in (b"prompt", b"workflow") and _COMFY.search(text)):
        return f"its PNG text {name.decode('latin-1')!r} holds a generator's settings"
    if name == b"Software" and text.strip() == b"NovelAI":
        return "its PNG text 'Software' names NovelAI"
    return None


def _has_settings(part: bytes) -> bool:
    """Tell whether settings stand in the comment of an EXIF block: ASCII, or UTF-16 behind the word UNICODE."""
    if all(word in part for word in _SETTINGS):
        return True
    return b"UNICODE\0" in part and any(
        all(word.decode().encode(code) in part for word in _SETTINGS) for code in ("utf-16-be", "utf-16-le")
    )


def _png_texts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each text chunk; whatever is damaged is passed over."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _TEXT_CHUNKS and at + 8 + length <= len(data):
            name, _, rest = data[at + 8 : at + 8 + length].partition(b"\0")
            text = _unpacked(kind, rest)
            if text is not None:
                yield name, text
        at += 12 + length


def _unpacked(kind: bytes, rest: bytes) -> bytes | None:
    """Return the text of a chunk, at most 1 MiB of it."""
    if kind == b"tEXt":
        return rest[:_LONGEST]
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    elif rest:
        rest = rest[1:]
    if not packed:
        return rest[:_LONGEST]
    try:
        return zlib.decompressobj().decompress(rest, _LONGEST)
    except zlib.error:
        return None
