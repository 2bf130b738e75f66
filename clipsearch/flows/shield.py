"""Keep generated pictures from passing for photographs.

A picture is recognised by what its file says of itself (``ImageMetadata.generated``), by the digest of its bytes in the
collection's ledger, or by looking like a picture of the ledger, saved again or resized. Then

    ignore   it is left out and counted as ignored, never as a failure
    mark     it is indexed, with true in the column ``generated``, and every view says so

and a note says how many there were. One that is left out is remembered like a broken file (``left_out.py``): as long as
it does not change it is neither opened nor decoded again.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from clipsearch.errors import InputError
from clipsearch.flows.engines.base import Embedded
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.generate.ledger import Marks

MODES = ("ignore", "mark")


@dataclass
class Shield:
    """Recognises generated pictures; ``mode`` says what becomes of them, ``found`` counts them by how."""

    marks: Marks = field(default_factory=Marks)
    mode: str = "ignore"
    found: Counter[str] = field(default_factory=Counter)

    @property
    def wants_looks(self) -> bool:
        """Whether it must see thumbnails: there is a picture in the ledger that others may look like."""
        return bool(self.marks.looks)

    def recognise(self, image: Embedded) -> str | None:
        """Return by what a picture is known to be generated, and count it; None where it is not."""
        how = self._how(image)
        if how is not None:
            self.found[how] += 1
        return how

    def remember(self, ways: Iterable[str]) -> None:
        """Count pictures that an earlier run recognised in these ways."""
        self.found.update(ways)

    def notes(self) -> list[str]:
        """Return one sentence on what was recognised; none where nothing was."""
        if not self.found:
            return []
        total = sum(self.found.values())
        ways = ", ".join(f"{n:,} {how}" for how, n in self.found.most_common())
        done = "left out, not counted as photos" if self.mode == "ignore" else "indexed and marked as generated"
        return [f"{total:,} generated picture{'' if total == 1 else 's'} {done}: {ways}."]

    def _how(self, image: Embedded) -> str | None:
        if self.marks.has_digest(image.content_hash):
            return "in the ledger"
        if image.metadata.generated is not None:
            return "marked in the file"
        if image.look is not None and self.marks.is_near(image.look):
            return "copied from the ledger's"
        return None


def make_shield(collection: str, mode: str = "ignore") -> Shield:
    """Return the shield of the collection in a folder."""
    return Shield(GeneratedFolder(collection).ledger.marks(), mode)


def check_mode(mode: str) -> None:
    """Refuse a mode that there is not.

    Raises:
        InputError: it is none of ``MODES``.
    """
    if mode not in MODES:
        raise InputError(f"Generated pictures cannot be taken by the mode {mode!r}. Known: {', '.join(MODES)}.")
