"""Texts that lie beside a picture: ``photo.txt`` or ``photo.json``, in a folder or in a tar (WebDataset).

A ``.txt`` holds a caption a line. A ``.json`` holds captions under one of the names that caption files use, and perhaps
``keywords``, which become one text, as those inside pictures do.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence

from clipsearch.scan.captions import Problems, from_object, keywords_of

ENDINGS = (b".txt", b".json")
MAX_BYTES = 1 << 20  # a caption file is small; what is larger is something else


def beside_file(picture: bytes, problems: Problems) -> list[str]:
    """Return the texts that lie beside a picture's file, given by its path."""
    stem = os.path.splitext(picture)[0]
    found: list[str] = []
    for ending in ENDINGS:
        for place in (stem + ending, picture + ending):
            try:
                if os.path.getsize(place) > MAX_BYTES:
                    problems.add(f"{os.fsdecode(place)} (too large for captions)")
                    continue
                with open(place, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                continue
            except OSError as problem:
                problems.add(f"{os.fsdecode(place)} ({problem.strerror})")
                continue
            found += _texts(data, ending, os.fsdecode(place), problems)
    return list(dict.fromkeys(found))


def beside_members(tar: bytes, members: Sequence[bytes], problems: Problems) -> Iterator[tuple[bytes, list[str]]]:
    """Yield the members of a tar that are pictures and have texts beside them, with the texts."""
    by_stem = {_stem(member): member for member in members}
    found: dict[bytes, list[str]] = {}
    try:
        with (
            open(tar, "rb") as file,
            tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape") as archive,
        ):
            while (info := archive.next()) is not None:
                archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
                name = info.name.encode("utf-8", "surrogateescape")
                ending = os.path.splitext(name)[1].lower()
                picture = by_stem.get(_stem(name))
                if ending not in ENDINGS or picture is None or not info.isreg() or info.size > MAX_BYTES:
                    continue
                content = archive.extractfile(info)
                if content is not None:
                    shown = f"{os.fsdecode(tar)}::{info.name}"
                    found.setdefault(picture, []).extend(_texts(content.read(), ending, shown, problems))
    except (OSError, tarfile.TarError, ValueError, EOFError) as problem:
        problems.add(f"{os.fsdecode(tar)} ({problem})")
    yield from ((picture, list(dict.fromkeys(texts))) for picture, texts in found.items())


def _stem(member: bytes) -> bytes:
    """Return WebDataset's key: everything up to the first dot of the base name."""
    folder, base = os.path.split(member)
    return os.path.join(folder, base.split(b".", 1)[0])


def _texts(data: bytes, ending: bytes, shown: str, problems: Problems) -> list[str]:
    if ending == b".json":
        try:
            value = json.loads(data)
            texts = [said.text for said in from_object(value)]
            texts.append(", ".join(keywords_of(value)))
        except (ValueError, RecursionError) as problem:
            problems.add(f"{shown} (broken JSON: {' '.join(str(problem).split())[:80]})")
            return []
    else:
        texts = data.decode("utf-8-sig", "backslashreplace").splitlines()
    return [text.strip() for text in texts if text.strip()]
