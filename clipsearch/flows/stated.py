"""Statements made ready to be compared with any number of pictures, as ``describe/answers.py`` tests them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.describe.answers import Compared, by_choice
from clipsearch.describe.tagging import Standard
from clipsearch.embed.base import Encoder
from clipsearch.types import Floats, Ints

_BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Stated:
    """Statements and fillers, embedded, and what they score on the collection where they do not hold."""

    statements: Floats
    owners: Ints
    fillers: Floats
    absent: Standard
    choice_absent: Standard
    filler_absent: Standard

    @classmethod
    def of(
        cls, statements: Sequence[Sequence[str]], fillers: Sequence[str], known: "Embedded", some: Floats
    ) -> "Stated":
        """Embed statements (by choice) and fillers, and score them on some pictures (n, D) of the collection."""
        flat = [text for texts in statements for text in texts]
        owners = np.repeat(np.arange(len(statements)), [len(texts) for texts in statements])
        both = known.rows([*flat, *fillers])
        told = some @ both[: len(flat)].T
        absent = Standard.of_absent(told)
        return cls(
            statements=both[: len(flat)],
            owners=owners,
            fillers=both[len(flat) :],
            absent=absent,
            choice_absent=Standard.of_absent(by_choice(absent.z(told), owners)),
            filler_absent=Standard.of_absent(some @ both[len(flat) :].T),
        )

    def compared(self, rows: Floats) -> tuple[Compared, Compared]:
        """Return cosines with pictures (n, D), and the same in standard deviations above pictures without."""
        told, others = rows @ self.statements.T, rows @ self.fillers.T
        above = self.choice_absent.z(by_choice(self.absent.z(told), self.owners))
        return Compared(by_choice(told, self.owners), others), Compared(above, self.filler_absent.z(others))


class Embedded:
    """Texts, each embedded once: what is taken for granted often has the fillers of the choices."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._rows: dict[str, Floats] = {}

    def rows(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings (n, D) of texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        for start in range(0, len(new), _BATCH):
            some = new[start : start + _BATCH]
            self._rows.update(zip(some, self._encoder.encode_texts(some), strict=True))
        return np.stack([self._rows[text] for text in texts])
