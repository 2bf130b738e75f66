"""Manifest versions: which files make up the collection now.

A manifest is one immutable JSON file a version, ``manifests/v000012.json``. The small file ``CURRENT`` names the one
in force and holds its SHA-256, and the beginning of that of its own line, which older collections lack:

    v000012.json sha256:9f86d081884c7d65... 2c26b46b68ffc68f

A commit becomes real the moment ``CURRENT`` is replaced. Everything that carries a higher version number than
``CURRENT`` is work of a writer that died, and the next writer removes it.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from clipsearch.errors import CollectionNotFoundError, CorruptShardError
from clipsearch.store.codec import bytes_from_json, bytes_to_json
from clipsearch.store.files import CURRENT, link_file, pointer_to, read_bytes, replace_file, sha256, sync_dir
from clipsearch.store.schema import RESTORE, upgrade

MANIFESTS = "manifests"
_CURRENT = re.compile(rb"(v(\d{6,})\.json sha256:([0-9a-f]{64}))(?: ([0-9a-f]{16}))?\n")


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that was indexed, or what stands for one where paths are as somebody gave them (``is_given``).

    Attributes:
        id: what image rows name it by.
        absolute: where it was when it was last indexed; empty for given paths.
        relative: the same place as seen from the collection's folder; both can move together.
    """

    id: int
    absolute: bytes
    relative: bytes | None

    @property
    def is_given(self) -> bool:
        """Tell whether it is no folder: its rows came with ready embeddings, and their paths need not exist."""
        return not self.absolute


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the collection.

    Attributes:
        name: relative to the collection's folder.
        rows: rows in it.
        bytes: its size.
        sha256: digest of its content, in hex.
        kind: "images", "texts", "deleted", "skipped", "imports", "sidecar", "added" or "made".
        of: the file that a sidecar was derived from; the column that a file adds ("added"), or tells of ("made").
        stamp: the file system's, when it was written (see ``stamps.py``); empty in collections made before there were
            stamps.
    """

    name: str
    rows: int
    bytes: int
    sha256: str
    kind: str
    of: str | None = None
    stamp: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of a collection.

    Attributes:
        version: from 1, one more a commit.
        format_version: see ``schema.py``.
        encoder: what the caller said of the encoder: name, fingerprint, card, preprocessing, pixel policy.
        dim: numbers in an embedding.
        next_id: the smallest row id never given out.
        roots: folders that were indexed.
        files: all files of this version.
        counts: live "images", live "texts", "deleted" rows.
        created: when the collection was made, ISO 8601 in UTC.
        committed: when this version was made.
        previous: the version before, or None.
        previous_sha256: digest of its file, so that the whole chain can be checked; None where it is not known.
        rows_version: the version that last added or deleted rows; what was derived from it or later still holds. None
            where that is not known.
        compacted: the version that last moved rows to other files; from then on only two versions are kept.
    """

    version: int
    format_version: int
    encoder: Mapping[str, Any]  # Any: JSON values; the store does not look inside
    dim: int
    next_id: int
    roots: tuple[Root, ...]
    files: tuple[FileEntry, ...]
    counts: Mapping[str, int]
    created: str
    committed: str
    previous: int | None
    previous_sha256: str | None = None
    rows_version: int | None = None
    compacted: int | None = None

    def has_rows_of(self, version: int) -> bool:
        """Tell whether it is known to hold the same live rows as an earlier version."""
        return version == self.version or (
            self.rows_version is not None and self.rows_version <= version < self.version
        )

    def files_of(self, kind: str) -> list[FileEntry]:
        """Return the files of one kind, oldest first."""
        return [entry for entry in self.files if entry.kind == kind]


def file_name(version: int) -> str:
    """Return the name of a version's file."""
    return f"v{version:06d}.json"


def to_bytes(manifest: Manifest) -> bytes:
    """Return a manifest as JSON: one line a file, so a person can read it.

    Raises:
        ValueError: the encoder's description is not JSON.
    """
    document = {field.name: getattr(manifest, field.name) for field in fields(manifest)}
    document["roots"] = [_root_to_json(root) for root in manifest.roots]
    document["encoder"], document["counts"] = dict(manifest.encoder), dict(manifest.counts)
    del document["files"]
    try:
        head = json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False)
    except TypeError as problem:
        raise ValueError(f"The encoder's description is not JSON: {problem}") from problem
    lines = ",\n".join("  " + json.dumps(_entry_to_json(entry)) for entry in manifest.files)
    return f'{head[:-2]},\n "files": [\n{lines}\n ]\n}}\n'.encode()


def from_bytes(data: bytes, where: str) -> Manifest:
    """Read a manifest, of this format version or an older one.

    Raises:
        CorruptShardError: it is no manifest.
        FormatVersionError: a newer clipsearch wrote it.
    """
    try:
        document = upgrade(json.loads(data), where)
        document["roots"] = tuple(_root_from_json(root) for root in document["roots"])
        document["files"] = tuple(_entry_from_json(entry) for entry in document["files"])
        return Manifest(**document)
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise CorruptShardError(f"The manifest {where} cannot be understood: {problem!r}.\n{RESTORE}") from problem


def read_pointer(path: str) -> bytes | None:
    """Return the content of CURRENT, or None where there is none."""
    try:
        return read_bytes(os.path.join(path, CURRENT))
    except (FileNotFoundError, NotADirectoryError):
        return None


def pointed_at(content: bytes | None) -> tuple[int, str] | None:
    """Return the version and the digest that the content of CURRENT names; None where it names none."""
    match = _CURRENT.fullmatch(content or b"")
    if match is None or (match[4] is not None and match[4].decode() != _short(match[1])):
        return None
    return int(match[2]), match[3].decode()


def pointer(version: int, data: bytes) -> bytes:
    """Return what CURRENT says of a manifest, given its bytes."""
    line = pointer_to(file_name(version), data).rstrip(b"\n")
    return line + b" " + _short(line).encode() + b"\n"


def _short(line: bytes) -> str:
    return sha256(line)[:16]


def read_current(path: str) -> tuple[bytes, Manifest]:
    """Return the content of CURRENT and the manifest that it names.

    Raises:
        CollectionNotFoundError: there is no collection.
        CorruptShardError: CURRENT or the manifest is damaged.
    """
    content = read_pointer(path)
    if content is None:
        if has_versions(path):
            raise CorruptShardError(f"The collection {path} has lost its file {CURRENT}.\n{RESTORE}")
        raise CollectionNotFoundError(
            f"There is no collection at {path}.\n"
            "Make one with 'clipsearch index FOLDER', or name the folder that holds it."
        )
    named = pointed_at(content)
    if named is None:
        raise CorruptShardError(f"{os.path.join(path, CURRENT)} does not name a manifest.\n{RESTORE}")
    return content, _read_checked(path, *named)


def _read_checked(path: str, version: int, digest: str) -> Manifest:
    where = os.path.join(path, MANIFESTS, file_name(version))
    try:
        data = read_bytes(where)
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise CorruptShardError(f"The manifest {where}, which {CURRENT} names, is missing.\n{RESTORE}") from problem
    if sha256(data) != digest:
        raise CorruptShardError(f"The manifest {where} is not what was written: its digest differs.\n{RESTORE}")
    manifest = from_bytes(data, where)
    if manifest.version != version:
        raise CorruptShardError(f"The manifest {where} says it is version {manifest.version}.\n{RESTORE}")
    return manifest


def has_versions(path: str) -> bool:
    """Tell whether a folder holds more than the beginnings of a collection: a second version, or any shard."""
    for folder, harmless in ((MANIFESTS, {file_name(1)}), ("embeddings", set())):
        try:
            names = os.listdir(os.path.join(path, folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        if any(not name.startswith(".") and name not in harmless for name in names):
            return True
    return False


def publish(path: str, manifest: Manifest) -> None:
    """Make a version the one in force. All files it names are on the disk, their folders synced.

    Raises:
        FileExistsError: the version exists already.
    """
    data = to_bytes(manifest)
    folder = os.path.join(path, MANIFESTS)
    link_file(os.path.join(folder, file_name(manifest.version)), data)
    sync_dir(folder)
    replace_file(os.path.join(path, CURRENT), pointer(manifest.version, data))
    sync_dir(path)


def _root_to_json(root: Root) -> dict[str, Any]:
    relative = None if root.relative is None else bytes_to_json(root.relative)
    return {"id": root.id, "absolute": bytes_to_json(root.absolute), "relative": relative}


def _root_from_json(root: dict[str, Any]) -> Root:
    relative = None if root["relative"] is None else bytes_from_json(root["relative"])
    return Root(root["id"], bytes_from_json(root["absolute"]), relative)


def _entry_to_json(entry: FileEntry) -> dict[str, Any]:
    values = {field.name: getattr(entry, field.name) for field in fields(entry)}
    return {name: value for name, value in values.items() if value not in (None, ())}


def _entry_from_json(document: dict[str, Any]) -> FileEntry:
    return FileEntry(**{**document, "stamp": tuple(document.get("stamp", ()))})
