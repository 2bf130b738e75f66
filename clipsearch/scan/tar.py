"""A tar of images, as WebDataset makes them: members are found by their headers and never extracted.

The position of each member's bytes goes into its ``ImageRef``; the decoder reads them there with one ``pread``.
``tarfile`` ends quietly at a damaged header and believes a header whose data is cut off, so both are checked here.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, ClassVar

from clipsearch.errors import SourceNotFoundError
from clipsearch.scan import Ignored, Scanned, ScanOptions
from clipsearch.scan.names import absolute, is_image_name
from clipsearch.types import ImageRef, Skip, SkipReason, skip_reason

_BLOCK = 512


@dataclass
class TarSource:
    """The images in one uncompressed tar, in the order of the archive."""

    root: bytes
    name: str
    path: bytes
    kind: ClassVar[str] = "tar"

    @classmethod
    def open(cls, where: bytes, options: ScanOptions) -> "TarSource":
        """Return the source; raises SourceNotFoundError where there is no such file or it is no tar."""
        place = absolute(where)
        if not os.path.isfile(place):
            raise SourceNotFoundError(f"There is no tar {os.fsdecode(where)!r}. Give a tar that exists.")
        root, path = os.path.split(place)
        return cls(root, os.fsdecode(os.path.splitext(path)[0]), path)

    def covers(self, path: bytes, member: bytes | None) -> bool:
        """All members of this tar are met."""
        return member is not None and path == self.path

    def scan(self) -> Iterator[Scanned]:
        """Walk the headers."""
        try:
            # Opened here, not by tarfile: its size and times must be those of the same file.
            with open(os.path.join(self.root, self.path), "rb") as file:
                status = os.fstat(file.fileno())
                yield from self._members(file, status)
        except OSError as error:
            yield Skip(self.path, skip_reason(error), error.strerror or str(error))

    def _members(self, file: IO[bytes], status: os.stat_result) -> Iterator[Scanned]:
        try:
            archive = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
            while (info := archive.next()) is not None:
                # tarfile keeps every header otherwise: a gigabyte for a million members
                archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
                yield from self._entry(info, status)
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            yield Skip(self.path, _reason(str(error)), f"tar: {error}")
            return
        yield from self._check_end(file, archive.offset)

    def _entry(self, info: tarfile.TarInfo, status: os.stat_result) -> Iterator[Scanned]:
        member = info.name.encode("utf-8", "surrogateescape")
        shown = self.path + b"::" + member
        if os.path.basename(member).startswith(b"."):
            return
        if not info.isreg() or not is_image_name(member):
            yield Ignored(shown, "not an image by its name" if info.isreg() else "a folder or link in a tar")
        elif info.issparse():
            yield Skip(self.path, SkipReason.UNSUPPORTED_FORMAT, "a sparse member of a tar", member)
        elif info.offset_data + info.size > status.st_size:
            missing = info.offset_data + info.size - status.st_size
            yield Skip(self.path, SkipReason.TRUNCATED, f"the tar ends {missing} bytes too early", member)
        else:
            yield ImageRef(
                self.root, self.path, member, info.size, status.st_mtime_ns, status.st_ctime_ns, info.offset_data
            )

    def _check_end(self, file: IO[bytes], offset: int) -> Iterator[Skip]:
        """Tell the end of the archive, two blocks of zeros, from a header that tarfile could not read."""
        file.seek(offset)
        block = file.read(_BLOCK)
        if block.strip(b"\0"):
            yield Skip(self.path, SkipReason.CORRUPT, f"tar: no member header at byte {offset}; the rest was not read")
        elif len(block) < _BLOCK:
            yield Skip(self.path, SkipReason.TRUNCATED, "tar: it ends without its end mark; members may be missing")


def _reason(message: str) -> SkipReason:
    """Return what tarfile's message stands for."""
    if "empty" in message:
        return SkipReason.EMPTY
    return SkipReason.TRUNCATED if "unexpected end" in message or "truncated" in message else SkipReason.CORRUPT
