"""One of n parts of a source, told by the hash of each path: n machines that know nothing of each other share the work.

The hash is of the path relative to the source, so the parts are the same wherever the pictures are mounted, and a file
stays in its part whatever comes or goes beside it. Every entry is in one part, what is ignored or skipped as well.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from clipsearch.errors import InputError
from clipsearch.scan import Excluder, Holder, Ignored, Scanned, Source
from clipsearch.types import ImageRef, Skip

_FORM = re.compile(r"(\d{1,6})/(\d{1,6})")


def parse_part(text: str) -> tuple[int, int]:
    """Return (i, n) of "i/n", with i from 1 to n.

    Raises:
        InputError: it is something else.
    """
    match = _FORM.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"The shard {text!r} is not I/N with I from 1 to N. Say 1/4, 2/4, 3/4 and 4/4 for four runs.")
    return int(match[1]), int(match[2])


def part_of(source: Source, which: tuple[int, int]) -> "Part":
    """Return part i of n of a source, ``which`` being (i, n)."""
    return (_HoldingPart if isinstance(source, Holder) else Part)(source, *which)


@dataclass
class Part:
    """See the module's docstring; a ``Source``. ``elsewhere`` counts the images of the other parts that a scan met."""

    source: Source
    i: int
    n: int
    elsewhere: int = 0
    _shut: list[bytes] = field(default_factory=list)  # what could not be looked at, counted by another part

    def __post_init__(self) -> None:
        self.kind, self.root = self.source.kind, self.source.root
        self.name = f"{self.source.name}-{self.i}-of-{self.n}"

    def scan(self) -> Iterator[Scanned]:
        """Walk the source, and yield what belongs to this part."""
        self.elsewhere, self._shut = 0, []
        for entry in self.source.scan():
            if self._holds(entry.path, None if isinstance(entry, Ignored) else entry.member):
                yield entry
            elif isinstance(entry, ImageRef):
                self.elsewhere += 1
            elif isinstance(entry, Skip):
                self._shut.append(entry.path)

    def covers(self, path: bytes, member: bytes | None) -> bool:
        """Tell whether a scan of this part would have met the image."""
        if not self._holds(path, member) or not self.source.covers(path, member):
            return False
        return not any(path.startswith(folder + b"/") for folder in self._shut)

    def is_excluded(self, path: bytes) -> bool:
        """Tell whether a picture of this part is left out because somebody asked for that."""
        return self._holds(path, None) and isinstance(self.source, Excluder) and self.source.is_excluded(path)

    def _holds(self, path: bytes, member: bytes | None) -> bool:
        key = path if member is None else path + b"\0" + member
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) % self.n == self.i - 1


class _HoldingPart(Part):
    """A part of a source that alone can read its pictures."""

    def load(self, refs: Iterable[ImageRef]) -> Iterator[bytes]:
        """Yield the bytes of each picture."""
        if not isinstance(self.source, Holder):
            raise TypeError("the source does not hold its pictures")
        return self.source.load(refs)
