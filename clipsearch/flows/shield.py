"""Keep generated pictures out of a collection of photographs.

A picture is recognised by what its file says of itself (``ImageMetadata.generated``), by the digest of its bytes in the
collection's ledger, or by looking like a picture of the ledger, saved again or resized. It is left out and counted as
ignored, never as a failure; a note says how many there were.
"""

from collections import Counter
from dataclasses import dataclass, field

from clipsearch.flows.engines.base import Embedded
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.generate.ledger import Marks


@dataclass
class Shield:
    """Recognises generated pictures; ``found`` counts them by how."""

    marks: Marks = field(default_factory=Marks)
    found: Counter[str] = field(default_factory=Counter)

    @property
    def wants_looks(self) -> bool:
        """Whether it must see thumbnails: there is a picture in the ledger that others may look like."""
        return bool(self.marks.looks)

    def stops(self, image: Embedded) -> bool:
        """Tell whether a picture is generated, and count it if so."""
        how = self._how(image)
        if how is not None:
            self.found[how] += 1
        return how is not None

    def notes(self) -> list[str]:
        """Return one sentence on what was left out; none where nothing was."""
        if not self.found:
            return []
        total = sum(self.found.values())
        ways = ", ".join(f"{n:,} {how}" for how, n in self.found.most_common())
        return [f"{total:,} generated picture{'' if total == 1 else 's'} left out, not counted as photos: {ways}."]

    def _how(self, image: Embedded) -> str | None:
        if self.marks.has_digest(image.content_hash):
            return "in the ledger"
        if image.metadata.generated is not None:
            return "marked in the file"
        if image.look is not None and self.marks.is_near(image.look):
            return "copied from the ledger's"
        return None


def make_shield(collection: str) -> Shield:
    """Return the shield of the collection in a folder."""
    return Shield(GeneratedFolder(collection).ledger.marks())
