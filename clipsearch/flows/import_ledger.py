"""Which rows of which files of ready embeddings are in a collection: kept in its manifest, beside the rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clipsearch.scan.embeddings import FileStamp, Part
from clipsearch.store.codec import bytes_from_json, bytes_to_json
from clipsearch.types import Skip, SkipReason

Span = tuple[int, int]  # ids from the first up to, not with, the second


@dataclass(slots=True)
class Entry:
    """One part of a source.

    Attributes:
        files: as they were when its rows were taken over.
        taken: rows read so far, refused ones too.
        images: ids that its images have; ``texts``: that its captions have.
        refused: (file, row, reason, detail) of the rows left out.
    """

    files: tuple[FileStamp, ...]
    taken: int = 0
    images: list[Span] = field(default_factory=list)
    texts: list[Span] = field(default_factory=list)
    refused: list[tuple[bytes, int, SkipReason, str]] = field(default_factory=list)

    @property
    def key(self) -> bytes:
        """What tells it from the other parts of its source: the name of its first file."""
        return self.files[0].name

    def refuse(self, file: bytes, row: int, reason: SkipReason, detail: str) -> None:
        """Note a row that is left out."""
        self.refused.append((file, row, reason, detail))


@dataclass(slots=True)
class Ledger:
    """What is known of one source, beside what the collection has of others."""

    place: bytes
    entries: dict[bytes, Entry] = field(default_factory=dict)
    others: list[Any] = field(default_factory=list)  # Any: JSON of other sources, handed on as it is

    @classmethod
    def read(cls, stored: Sequence[Any], place: bytes) -> "Ledger":
        """Find a source in what ``Snapshot.imports`` gives."""
        ledger = cls(place)
        for document in stored:
            if bytes_from_json(document["source"]) != place:
                ledger.others.append(document)
                continue
            for part in document["parts"]:
                entry = _entry_from(part)
                ledger.entries[entry.key] = entry
        return ledger

    @property
    def taken(self) -> int:
        """Rows of the source that are in, or were refused."""
        return sum(entry.taken for entry in self.entries.values())

    @property
    def refused(self) -> int:
        """Rows of the source that were refused."""
        return sum(len(entry.refused) for entry in self.entries.values())

    def entry(self, part: Part) -> Entry:
        """Return what is known of a part."""
        return self.entries.setdefault(part.files[0].name, Entry(part.files))

    def keep_only(self, parts: Sequence[Part]) -> tuple[list[Span], int]:
        """Forget parts that changed or are gone; return the ids of their rows, and how many of these are images."""
        current = {part.files[0].name: part.files for part in parts}
        gone = [entry for entry in self.entries.values() if current.get(entry.key) != entry.files]
        for entry in gone:
            del self.entries[entry.key]
        spans = [span for entry in gone for span in (*entry.images, *entry.texts)]
        return spans, sum(stop - first for entry in gone for first, stop in entry.images)

    def skips(self) -> list[Skip]:
        """Return the refused rows as files left out."""
        return [
            Skip(file, reason, detail, b"%d" % row)
            for entry in self.entries.values()
            for file, row, reason, detail in entry.refused
        ]

    def to_json(self) -> list[Any]:
        """Return what ``Writer.commit_columns`` is to keep."""
        parts = [_entry_to(entry) for entry in self.entries.values()]
        return [*self.others, {"source": bytes_to_json(self.place), "parts": parts}]


def _entry_to(entry: Entry) -> dict[str, Any]:
    return {
        "files": [[bytes_to_json(file.name), file.size, file.mtime_ns] for file in entry.files],
        "taken": entry.taken,
        "images": _joined(entry.images),
        "texts": _joined(entry.texts),
        "refused": [[bytes_to_json(file), row, str(reason), detail] for file, row, reason, detail in entry.refused],
    }


def _entry_from(document: Any) -> Entry:  # Any: JSON
    return Entry(
        tuple(FileStamp(bytes_from_json(name), size, mtime) for name, size, mtime in document["files"]),
        document["taken"],
        [(first, stop) for first, stop in document["images"]],
        [(first, stop) for first, stop in document["texts"]],
        [(bytes_from_json(file), row, SkipReason(reason), detail) for file, row, reason, detail in document["refused"]],
    )


def _joined(spans: Sequence[Span]) -> list[list[int]]:
    """Return spans with neighbours made one."""
    joined: list[list[int]] = []
    for first, stop in spans:
        if joined and joined[-1][1] == first:
            joined[-1][1] = stop
        elif first < stop:
            joined.append([first, stop])
    return joined
