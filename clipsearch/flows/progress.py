"""How far a run is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    ``stage`` is "scan", "hash", "embed", "captions", "calibrate", "augment", "imagine", "variants", "import", "export",
    "look", "plant", "verify" or "compact"; while an index is built "sample", "train", "add", "save", "rows", "compare"
    or "measure". ``total`` is None while it is unknown.
    """

    stage: str
    done: int
    total: int | None
    skipped: int = 0
