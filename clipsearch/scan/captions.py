"""Texts in files: CSV, JSON, JSON Lines, Parquet, plain text; beside an image or alone (a caption bank).

A row has an image or none and one text or several. What a column or key may be called:

    image    image, file_name, filename, image_path, path, file, img
    caption  caption, captions, text, texts, txt, sentence, sentences, description, title, raw

A JSON file beside a picture may have ``keywords`` too (``keywords_of``).

A line that is broken costs itself and nothing else: it is noted with its number, and the others are read.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.scan.csv_rows import read_rows

IMAGE = ("image", "file_name", "filename", "image_path", "path", "file", "img")
CAPTION = ("caption", "captions", "text", "texts", "txt", "sentence", "sentences", "description", "title", "raw")
KINDS = ".csv, .tsv, .json, .jsonl, .ndjson, .parquet, .txt"
MAX_KEYWORDS = 64  # of a picture, as of those inside it
_NAMED = 3
_BATCH = 10_000
_BETWEEN = re.compile("[,;]")
Json = Any  # what json.loads returns


@dataclass(frozen=True, slots=True)
class Said:
    """A text, and the image it is about as the file names it; None where it stands alone."""

    image: str | None
    text: str


@dataclass
class Problems:
    """What could not be read of a file: the first few, by their places, and how many."""

    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, what: str) -> None:
        """Note a problem."""
        self.count += 1
        if len(self.named) < _NAMED:
            self.named.append(what)

    def notes(self, path: str) -> tuple[str, ...]:
        """Return them as a sentence; none where all went well."""
        if not self.count:
            return ()
        more = f" and {self.count - len(self.named):,} more" if self.count > len(self.named) else ""
        return (f"{path}: left out {'; '.join(self.named)}{more}. Everything else was read.",)


def read_texts(path: str | os.PathLike[str], problems: Problems | None = None) -> Iterator[Said]:
    """Yield the texts of a file, those without a word left out.

    Args:
        path: a file of one of the ``KINDS``, told by its ending; anything else is read as CSV.
        problems: told of lines that are left out; without one they are left out all the same.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it cannot be read, or nothing in it is called a caption.
    """
    where = os.fspath(path)
    read = _READERS.get(os.path.splitext(where)[1].lower(), _read_csv)
    try:
        for said in read(where, problems or Problems()):
            text = _clean(said.text)
            if text:
                yield Said(said.image or None, text)
    except FileNotFoundError as problem:
        raise SourceNotFoundError(
            f"There is no caption file {where}. Give a CSV with the columns image and caption, or one of {KINDS}."
        ) from problem
    except (OSError, csv.Error) as problem:
        raise InputError(f"{where} cannot be read as a file of captions: {problem}.") from problem


def from_object(value: Json, image: str | None = None) -> list[Said]:
    """Return the texts of a JSON value: a text, a list of them, or an object with captions and perhaps an image."""
    if isinstance(value, str):
        return [Said(image, value)]
    if isinstance(value, list):
        return [said for item in value for said in from_object(item, image)]
    if isinstance(value, Mapping):
        named = next((value[name] for name in IMAGE if isinstance(value.get(name), str)), image)
        found = next((value[name] for name in CAPTION if value.get(name)), None)
        return [] if found is None else from_object(found, named)
    return []


def keywords_of(value: Json) -> list[str]:
    """Return the keywords of a JSON value, each once: of an object, or of the objects in a list.

    They are a list, or a text with commas or semicolons between.
    """
    objects = value if isinstance(value, list) else [value]
    found: list[str] = []
    for one in objects:
        given = one.get("keywords") if isinstance(one, Mapping) else None
        several = _BETWEEN.split(given) if isinstance(given, str) else given if isinstance(given, list) else []
        found += [" ".join(_clean(str(word)).split()) for word in several if isinstance(word, str | int | float)]
    return list(dict.fromkeys(word for word in found if word))[:MAX_KEYWORDS]


def _clean(text: str) -> str:
    """Return a caption as it can be stored: bytes that are no UTF-8 as ``\\xNN``, no blanks around."""  # noqa: D301
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").strip()


def _read_csv(path: str, problems: Problems) -> Iterator[Said]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        columns, rows = read_rows(file, problems.add, "\t" if path.lower().endswith(".tsv") else ",")
        image, caption = _columns(columns, path)
        for line, row in rows:
            if row[caption].strip():
                yield Said(row[image] if image is not None else None, row[caption])
            else:
                problems.add(f"line {line} (no caption in it)")


def _columns(columns: Iterable[str], path: str) -> tuple[str | None, str]:
    """Return the columns of images, or None, and of captions."""
    names = list(columns)
    caption = next((name for name in CAPTION if name in names), None)
    if caption is None or (len(names) > 1 and not any(name in names for name in IMAGE)):
        shown = ", ".join(names)
        raise InputError(
            f"{path} has no columns image and caption, but {shown if len(shown) <= 100 else shown[:100] + ' ...'}.\n"
            "The first line must name them: image,caption"
            if names
            else f"{path} has no columns image and caption, but none.\nThe first line must name them: image,caption"
        )
    return next((name for name in IMAGE if name in names), None), caption


def _read_txt(path: str, problems: Problems) -> Iterator[Said]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for line in file:
            yield Said(None, line)


def _read_jsonl(path: str, problems: Problems) -> Iterator[Said]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                found = from_object(json.loads(line))
            except (ValueError, RecursionError) as problem:
                problems.add(f"line {number} (broken JSON: {_in_line(problem)})")
                continue
            if not found:
                problems.add(f"line {number} (no caption in it)")
            yield from found


def _read_json(path: str, problems: Problems) -> Iterator[Said]:
    with open(path, "rb") as file:
        data = file.read()
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise InputError(
            f"{path} is broken JSON: {_one_line(problem)}.\nMend that place; of a JSON file nothing can be read before."
        ) from problem
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        yield from _coco(value, problems)
    elif isinstance(value, dict) and not any(name in value for name in CAPTION):
        for image, captions in value.items():
            yield from from_object(captions, image)
    else:
        yield from from_object(value)


def _coco(value: Json, problems: Problems) -> Iterator[Said]:
    """Read COCO's form: images with ids and annotations that name them."""
    names = {row.get("id"): row.get("file_name") for row in value.get("images", ()) if isinstance(row, dict)}
    for number, row in enumerate(value["annotations"], start=1):
        found = from_object(row, names.get(row.get("image_id"))) if isinstance(row, dict) else []
        if not found:
            problems.add(f"annotation {number} (no caption in it)")
        yield from found


def _read_parquet(path: str, problems: Problems) -> Iterator[Said]:
    import pyarrow as arrow  # slow to import, and most files do not need it
    import pyarrow.parquet as parquet

    try:
        with open(path, "rb") as raw, parquet.ParquetFile(raw) as file:
            image, caption = _columns(file.schema_arrow.names, path)
            wanted = [name for name in (image, caption) if name is not None]
            for batch in file.iter_batches(_BATCH, columns=wanted):
                for row in batch.to_pylist():
                    named = row[image] if image is not None else None
                    yield from from_object(row[caption], named if isinstance(named, str) else None)
    except arrow.ArrowException as problem:
        raise InputError(f"{path} cannot be read as Parquet: {_one_line(problem)}.") from problem


def _in_line(problem: Exception) -> str:
    """Return what is wrong with the JSON of one line, whose own number json takes for 1."""
    if not isinstance(problem, json.JSONDecodeError):
        return _one_line(problem)
    return f"{problem.msg.removesuffix(' at')}, column {problem.colno}"


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split()).rstrip(".")[:120] or type(problem).__name__


_READERS: dict[str, Callable[[str, Problems], Iterator[Said]]] = {
    ".txt": _read_txt,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
