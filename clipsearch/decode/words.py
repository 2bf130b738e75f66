"""Captions and keywords inside a picture's file: XMP (dc:description, dc:title, dc:subject) and IPTC (IIM).

No decoder is needed for it, and none is trusted with it: XMP is text between two marks, IPTC a list of numbered fields
in a JPEG's APP13 segment. What makes no sense is left out.
"""

import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from clipsearch.decode.metadata import clean_text

_PACKET = re.compile(rb"<x:xmpmeta.*?</x:xmpmeta>", re.DOTALL)
_DC = "{http://purl.org/dc/elements/1.1/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_CAPTION_FIELDS = {(2, 120), (2, 5)}  # IIM: caption/abstract, object name
_KEYWORDS = (2, 25)
_UTF8 = b"\x1b%G"
MAX_PACKET = 1 << 20
MAX_TEXTS = 64


def read_words(data: bytes) -> tuple[list[str], list[str]]:
    """Return the captions and the keywords that a picture's file holds, each once."""
    captions, keywords = _xmp(data)
    more, others = _iptc(data)
    return _each_once([*captions, *more]), _each_once([*keywords, *others])


def _each_once(texts: list[str]) -> list[str]:
    cleaned = (clean_text(text) for text in texts)
    return list(dict.fromkeys(text for text in cleaned if text))[:MAX_TEXTS]


def _xmp(data: bytes) -> tuple[list[str], list[str]]:
    captions: list[str] = []
    keywords: list[str] = []
    for match in _PACKET.finditer(data):
        packet = match[0]
        if len(packet) > MAX_PACKET or b"<!" in packet:  # no declarations: entities could grow without end
            continue
        try:
            root = ElementTree.fromstring(packet)
        except (ElementTree.ParseError, ValueError):
            continue
        for name, into in (("description", captions), ("title", captions), ("subject", keywords)):
            for element in root.iter(f"{_DC}{name}"):
                items = [item.text or "" for item in element.iter(f"{_RDF}li")]
                into += items or [element.text or ""]
        for description in root.iter(f"{_RDF}Description"):  # XMP may say a plain value as an attribute
            captions += [description.get(f"{_DC}{name}", "") for name in ("description", "title")]
    return captions, keywords


def _iptc(data: bytes) -> tuple[list[str], list[str]]:
    captions: list[str] = []
    keywords: list[str] = []
    for block in _resources(data):
        is_utf8 = False
        for field, value in _fields(block):
            if field == (1, 90):
                is_utf8 = value == _UTF8
            text = value.decode("utf-8", "replace") if is_utf8 else _guessed(value)
            if field in _CAPTION_FIELDS:
                captions.append(text)
            elif field == _KEYWORDS:
                keywords.append(text)
    return captions, keywords


def _guessed(value: bytes) -> str:
    """Return a text whose encoding is not told: UTF-8 where it is that, else Latin-1, which programs wrote before."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _resources(data: bytes) -> Iterator[bytes]:
    """Yield the IPTC blocks in the Photoshop resources of a JPEG."""
    if not data.startswith(b"\xff\xd8"):
        return
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xDA, 0xD9):
        length = struct.unpack_from(">H", data, at + 2)[0]
        segment = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xED and segment.startswith(b"Photoshop 3.0\0"):
            yield from _blocks(segment[14:])
        at += 2 + max(length, 2)


def _blocks(resources: bytes) -> Iterator[bytes]:
    at = 0
    while at + 12 <= len(resources) and resources[at : at + 4] == b"8BIM":
        kind = struct.unpack_from(">H", resources, at + 4)[0]
        name = resources[at + 6] + 1
        start = at + 6 + name + name % 2
        if start + 4 > len(resources):
            return
        size = struct.unpack_from(">I", resources, start)[0]
        if kind == 0x0404:
            yield resources[start + 4 : start + 4 + size]
        at = start + 4 + size + size % 2


def _fields(block: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    at = 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        size = struct.unpack_from(">H", block, at + 3)[0]
        if size & 0x8000 or at + 5 + size > len(block):  # an extended field, of more than 32 KB; or one cut off
            return
        yield (block[at + 1], block[at + 2]), block[at + 5 : at + 5 + size]
        at += 5 + size
