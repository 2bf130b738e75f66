"""A folder tree: every image below it, sorted by path bytes, depth first.

Nothing is opened and, apart from pictures, folders and links, nothing is even looked at: a name decides. Hidden files,
thumbnails and the bins of other systems are pruned without being counted.

Symbolic links are followed. A link to a folder that holds it is a loop, and a Skip; a folder that was entered through
one link is not entered through another, so a tree of links that point at each other ends. A picture seen both directly
and through a link is met twice, under two names.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

from clipsearch.errors import SourceNotFoundError
from clipsearch.scan import Ignored, Scanned, ScanOptions
from clipsearch.scan.names import absolute, from_status, is_image_name
from clipsearch.types import Skip, SkipReason, skip_reason

PRUNED = frozenset({b"@eaDir", b"node_modules", b"System Volume Information", b"$RECYCLE.BIN"})

_Identity = tuple[int, int]  # device and inode: the same folder whatever its path


@dataclass(slots=True)
class _Folder:
    """A folder on the way down: its path relative to the root, who it is, and what is left of it to walk."""

    path: bytes
    identity: _Identity
    entries: Iterator[tuple[bytes, os.DirEntry[bytes]]]


@dataclass
class FolderSource:
    """All images below a folder."""

    kind: ClassVar[str] = "folder"
    root: bytes
    excludes: tuple[bytes, ...] = ()
    exclude_dirs: tuple[bytes, ...] = ()
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = os.fsdecode(os.path.basename(self.root)) or "root"

    @classmethod
    def open(cls, where: bytes, options: ScanOptions) -> "FolderSource":
        """Return the source; raises SourceNotFoundError where there is no folder."""
        root = absolute(where)
        if not os.path.isdir(root):
            raise SourceNotFoundError(f"There is no folder {os.fsdecode(where)!r}. Give a folder that exists.")
        patterns = tuple(os.fsencode(pattern).rstrip(b"/") for pattern in options.excludes)
        return cls(root, patterns, tuple(absolute(place) for place in options.exclude_dirs))

    def covers(self, path: bytes, member: bytes | None) -> bool:
        """Tell whether a walk would meet this file: an image by its name, in no pruned folder."""
        return member is None and is_image_name(path) and not self.prunes(path)

    def prunes(self, path: bytes) -> bool:
        """Tell whether a walk passes over a path, or over a folder above it."""
        parts = path.split(b"/")
        if any(self._is_pruned(part, b"/".join(parts[: depth + 1])) for depth, part in enumerate(parts)):
            return True
        place = os.path.join(self.root, path) + b"/"
        return any(place.startswith(folder.rstrip(b"/") + b"/") for folder in self.exclude_dirs)

    def is_excluded(self, path: bytes) -> bool:
        """Tell whether a pattern of ``excludes`` names the file or a folder above it."""
        parts = path.split(b"/")
        return any(self._matches(part, b"/".join(parts[: depth + 1])) for depth, part in enumerate(parts))

    def scan(self) -> Iterator[Scanned]:
        """Walk the tree."""
        excluded = {identity for place in self.exclude_dirs if (identity := _identity(place)) is not None}
        linked: set[_Identity] = set()  # folders that were entered through a link
        stack: list[_Folder] = []
        yield from self._enter(stack, b"", _identity(self.root), excluded)
        while stack:
            folder = stack[-1]
            found = next(folder.entries, None)
            if found is None:
                stack.pop()
                continue
            name, entry = found
            path = os.path.join(folder.path, name)
            target = _folder_behind(entry)
            if target is None:
                yield from _file(self.root, path, entry)
            elif isinstance(target, OSError):
                yield from _broken(path, target)
            elif not entry.is_symlink():
                yield from self._enter(stack, path, target, excluded)
            elif any(target == above.identity for above in stack):
                yield Skip(path, SkipReason.SYMLINK_LOOP, "a link to a folder that holds it")
            elif target in linked:
                yield Ignored(path, "a second link to the same folder")
            else:
                linked.add(target)
                yield from self._enter(stack, path, target, excluded)

    def _enter(
        self, stack: list[_Folder], path: bytes, identity: _Identity | None, excluded: set[_Identity]
    ) -> Iterator[Skip]:
        """Put a folder on the stack, or yield why it cannot be listed."""
        if identity is None or identity in excluded:
            return
        try:
            with os.scandir(os.path.join(self.root, path)) as listing:
                entries = sorted(self._kept(path, listing), key=_sort_key)
        except OSError as error:
            if path or not isinstance(error, FileNotFoundError):
                yield Skip(path or b".", skip_reason(error), f"folder: {error.strerror}")
            return
        stack.append(_Folder(path, identity, iter(entries)))

    def _kept(self, path: bytes, listing: Iterator[os.DirEntry[bytes]]) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
        for entry in listing:
            if not self._is_pruned(entry.name, os.path.join(path, entry.name)):
                yield entry.name, entry

    def _is_pruned(self, name: bytes, path: bytes) -> bool:
        if name.startswith(b".") or name in PRUNED:
            return True
        return self._matches(name, path)

    def _matches(self, name: bytes, path: bytes) -> bool:
        return any(fnmatchcase(name, pattern) or fnmatchcase(path, pattern) for pattern in self.excludes)


def _sort_key(found: tuple[bytes, os.DirEntry[bytes]]) -> bytes:
    """Sort a folder as its files' paths sort: with the slash behind its name."""
    name, entry = found
    return name + b"/" if _is_folder(entry) else name


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(place: bytes) -> _Identity | None:
    try:
        status = os.stat(place)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _folder_behind(entry: os.DirEntry[bytes]) -> _Identity | OSError | None:
    """Return who the folder is that an entry is or links to; None for anything else.

    What cannot be looked at, as behind a drive that went away, may be one: that is an error, unless it has the name of
    a picture.
    """
    try:
        if not entry.is_dir():
            return None
        status = entry.stat()
    except OSError as error:
        may_be_one = not is_image_name(entry.name) and skip_reason(error) in (
            SkipReason.UNREADABLE,
            SkipReason.IO_ERROR,
        )
        return error if may_be_one or _is_folder(entry) else None
    return status.st_dev, status.st_ino


def _broken(path: bytes, error: OSError) -> Iterator[Skip]:
    yield Skip(path, skip_reason(error), error.strerror or str(error))


def _file(root: bytes, path: bytes, entry: os.DirEntry[bytes]) -> Iterator[Scanned]:
    """Yield what an entry is that is not a folder. It is never opened: opening a named pipe would wait for ever."""
    if not is_image_name(path):
        yield Ignored(path, "not an image by its name")
        return
    try:
        status = entry.stat()
    except OSError as error:
        yield from _broken(path, error)
        return
    if stat.S_ISDIR(status.st_mode):  # became a folder since it was listed
        yield Ignored(path, "a folder")
    else:
        yield from_status(root, path, status)
