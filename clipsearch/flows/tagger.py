"""What gives tags: labels, how their scores are weighed, and the threshold; kept beside the column of tags."""

import io
import json
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.describe.tagging import Background, Standard, Weighing, features, only_best
from clipsearch.embed.base import Encoder
from clipsearch.flows.calibrate_queries import Texts
from clipsearch.flows.calibration_files import load_texts
from clipsearch.match import bank
from clipsearch.npy import load_npz
from clipsearch.store import Snapshot
from clipsearch.types import Floats

FORMAT = 1
COLUMN = "tags"
LEVEL = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Tagger:
    """Gives tags.

    Attributes:
        names: the labels.
        embeddings: (L, D) of unit norm.
        standard: the labels' scores over the collection.
        weighing: how evidence is made.
        threshold: the evidence from which on a tag is given.
        single: at most one tag a picture.
        level: the share of tags that is to be right, 0 to 1.
        source: what it was calibrated with: "truth", "captions" or "chance".
        fingerprint: of the encoder's weights.
        version: of the collection that it was calibrated on; ``pictures``: how many it had, 0 where that is not known.
        file: where the labels were read from, "" for the vocabulary inside or labels given otherwise.
    """

    names: tuple[str, ...]
    embeddings: Floats
    standard: Standard
    weighing: Weighing
    threshold: float
    single: bool
    level: float
    source: str
    fingerprint: str
    version: int
    pictures: int = 0
    file: str = ""

    def features(self, rows: Floats, background: Floats) -> Floats:
        """Return the features (n, L, 3) of pictures (n, D), given the embeddings (B, D) of generic words."""
        return features(rows @ self.embeddings.T, self.standard, Background.of(rows @ background.T))

    def evidence(self, rows: Floats, background: Floats) -> Floats:
        """Return the evidence (n, L) for pictures (n, D); a tag is given where it reaches ``threshold``."""
        found = self.weighing.evidence(self.features(rows, background))
        return only_best(found) if self.single else found

    def tags(self, rows: Floats, background: Floats) -> list[list[str]]:
        """Return the tags of pictures (n, D), the surest first."""
        given = []
        for row in self.evidence(rows, background):
            reached = np.flatnonzero(row >= self.threshold)
            given.append([self.names[n] for n in reached[np.argsort(-row[reached], kind="stable")]])
        return given

    def command(self, column: str) -> str:
        """Return the options of ``clipsearch tag`` that ask for such tags."""
        options = f" --labels {shlex.quote(self.file)}" if self.file else ""
        options += f" --level {self.level:g}" if self.level != LEVEL else ""
        options += " --single" if self.single else ""
        return options + (f" --column {column}" if column != COLUMN else "")

    def to_bytes(self) -> bytes:
        """Return it as a file."""
        facts = {
            "format": FORMAT,
            "names": self.names,
            "single": self.single,
            "level": self.level,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "version": self.version,
            "pictures": self.pictures,
            "file": self.file,
            "weighed": self.weighing.weights is not None,
            "threshold": None if np.isinf(self.threshold) else self.threshold,
        }
        file = io.BytesIO()
        np.savez(
            file,
            facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
            embeddings=self.embeddings.astype(np.float16),
            center=self.standard.center,
            scale=self.standard.scale,
            weights=np.zeros(0) if self.weighing.weights is None else self.weighing.weights,
            biases=self.weighing.biases,
        )
        return file.getvalue()

    @staticmethod
    def is_file(data: bytes) -> bool:
        """Tell whether these are the bytes of a tagger, of this or another format."""
        try:
            return "format" in json.loads(load_npz(data)["facts"].tobytes())
        except (ValueError, KeyError, TypeError, OSError, EOFError):
            return False

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tagger | None":
        """Read such a file; None where it is of another kind or format."""
        try:
            file = load_npz(data)
            facts = json.loads(file["facts"].tobytes())
            if facts["format"] != FORMAT:
                return None
            return cls(
                names=tuple(facts["names"]),
                embeddings=file["embeddings"].astype(np.float32),
                standard=Standard(file["center"], file["scale"]),
                weighing=Weighing(file["weights"] if facts["weighed"] else None, file["biases"]),
                threshold=float("inf") if facts["threshold"] is None else facts["threshold"],
                single=facts["single"],
                level=facts["level"],
                source=facts["source"],
                fingerprint=facts["fingerprint"],
                version=facts["version"],
                pictures=facts.get("pictures", 0),
                file=facts.get("file", ""),
            )
        except (ValueError, KeyError, TypeError, OSError):
            return None


def load_tagger(snapshot: Snapshot, column: str = COLUMN) -> Tagger | None:
    """Return what gave the tags of a column, or None where there is no such column or other weights made it."""
    data = snapshot.made_of(column)
    tagger = None if data is None else Tagger.from_bytes(data)
    fits = tagger is not None and tagger.fingerprint == snapshot.manifest.encoder.get("fingerprint")
    return tagger if fits else None


def generic_words(path: str, encoder: Encoder) -> Floats:
    """Return the embeddings (B, D) of the bank's keywords, taken from the calibration where they are known."""
    tower = Texts(encoder, load_texts(path, encoder.fingerprint()).known)
    return tower.embed(bank.bank_queries("keyword"))


def widened(rows: NDArray[Any]) -> Floats:
    """Return stored rows (n, D) as float32 of unit norm."""
    wide = rows.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1e-12))
