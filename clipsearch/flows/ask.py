"""Answer a question with choices for one picture, or for all pictures of a collection."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clipsearch.describe.answers import NO, TAKEN, Ranked, answer_of, rank, smallest_alone, yes_or_no
from clipsearch.describe.statements import YES_NO, Asked, read_question
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.flows.given import check_replaces, commit_given, not_busy
from clipsearch.flows.progress import Progress
from clipsearch.flows.sampling import sampled_ids
from clipsearch.flows.stated import Embedded, Stated
from clipsearch.flows.tag import picture_chunks
from clipsearch.flows.tagger import widened
from clipsearch.present.text import count
from clipsearch.store import AddedColumn, Snapshot, Store
from clipsearch.types import Floats, Ints

Bools = NDArray[np.bool_]

MIN_PICTURES = 20  # to say what a statement scores on pictures in general
SAMPLE = 2_000
_MADE_BY = "clipsearch ask 1"


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice: its score in standard deviations above arbitrary words, and its share among the choices, 0 to 1."""

    text: str
    score: float
    share: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question about one picture.

    Attributes:
        picture: how it is called.
        question: as asked.
        answer: a choice; None for none of these (of a question for yes or no: it cannot be told), or a model's words.
        choices: ranked, the best first; empty where a model wrote.
        p_value: chance that arbitrary words would fit as well; None where a model wrote.
        kind: the form of the question, such as "how many".
        source: "choices" or "model".
        statements: what was compared with the picture, by choice.
        notes: sentences a person should read.
        missing: what the question takes for granted, where the picture does not seem to show it, so that none is given.
    """

    picture: str
    question: str
    answer: str | None
    choices: tuple[Choice, ...]
    p_value: float | None
    kind: str
    source: str = "choices"
    statements: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """A question answered for all pictures: how many got which answer, and how many none (``unanswered``)."""

    column: str
    question: str
    kind: str
    pictures: int
    answers: Mapping[str, int]
    unanswered: int
    version: int
    notes: tuple[str, ...] = ()


class Asker:
    """A question made ready for any number of pictures."""

    def __init__(
        self,
        snapshot: Snapshot,
        encoder: Encoder,
        question: str,
        choices: Sequence[str] | None = None,
        like: Ints | None = None,
    ) -> None:
        """Turn the question into statements, embed them, and see how they score on the collection.

        Args:
            snapshot: the version.
            encoder: the collection's.
            question: as ``read_question`` takes it.
            choices: likewise.
            like: (n,) row ids of the pictures that stand for the collection; None draws a sample. ``sample`` has them.

        Raises:
            InputError: the question or a choice cannot be used, or the collection has too few pictures.
        """
        self.asked: Asked = read_question(question, choices)
        if snapshot.count("images") < MIN_PICTURES:
            raise InputError(
                f"The collection has {count(snapshot.count('images'), 'picture')}; at least {MIN_PICTURES} are needed\n"
                "to know what a statement scores on pictures in general. Index more pictures."
            )
        self.notes = _notes(encoder, self.asked)
        self.sample = sampled_ids(snapshot, SAMPLE) if like is None else like[snapshot.contains("images", like)]
        some, known = widened(snapshot.embeddings("images", self.sample)), Embedded(encoder)
        self._choices = Stated.of(self.asked.statements, self.asked.fillers, known, some)
        taken = self.asked.taken
        self._taken = None if taken is None else Stated.of(taken.statements, taken.fillers, known, some)

    def rank(self, rows: Floats) -> Ranked:
        """Compare the choices for pictures (n, D)."""
        return rank(*self._choices.compared(rows))

    def is_there(self, rows: Floats) -> Bools:
        """Say for each picture (n, D) whether it may show what the question takes for granted."""
        if self._taken is None:
            return np.ones(len(rows), bool)
        return smallest_alone(*self._taken.compared(rows)) <= TAKEN

    def answers(self, rows: Floats) -> list[str | None]:
        """Return the answer for each picture (n, D), None where none of these fits."""
        ranked = self.rank(rows)
        if self.asked.is_yes_no:
            return [yes_or_no(float(p)) for p in ranked.p_values]
        there = self.is_there(rows)
        return [answer_of(ranked, n, self.asked.choices) if there[n] else None for n in range(len(rows))]

    def best(self, rows: Floats) -> list[str]:
        """Return the choice that ranks first for each picture (n, D), whether or not it fits."""
        ranked = self.rank(rows)
        if self.asked.is_yes_no:
            return [YES_NO[int(p > NO)] for p in ranked.p_values]
        return [self.asked.choices[n] for n in ranked.scores.argmax(axis=1).tolist()]

    def answer(self, picture: str, row: Floats) -> Answer:
        """Answer for one picture (D,)."""
        ranked, asked = self.rank(row[None]), self.asked
        p = float(ranked.p_values[0])
        statements = dict(zip(asked.choices, asked.statements, strict=False))
        missing = None if asked.taken is None or self.is_there(row[None])[0] else asked.taken.what
        if asked.is_yes_no:
            found = yes_or_no(p)
            score = float(ranked.scores[0, 0])
            choices = (Choice("yes", score, 1 - p), Choice("no", -score, p))
            choices = choices if p <= NO else choices[::-1]
        else:
            found = answer_of(ranked, 0, asked.choices) if missing is None else None
            order = np.argsort(-ranked.scores[0], kind="stable").tolist()
            choices = tuple(
                Choice(asked.choices[n], float(ranked.scores[0, n]), float(ranked.shares[0, n])) for n in order
            )
        return Answer(
            picture, asked.question, found, choices, p, asked.kind, "choices", statements, self.notes, missing
        )


def ask_all(
    store: Store,
    encoder: Encoder,
    question: str,
    choices: Sequence[str] | None,
    column: str | None,
    *,
    wait: bool = False,
    tell: Callable[[Progress], None] | None = None,
) -> ColumnReport:
    """Answer a question for all pictures, as a column; pictures for which none of the choices fits have no value.

    Others may write to the collection while pictures are compared.

    Raises:
        InputError: the question cannot be used.
        LockedError: another process is writing to the collection when this begins, or for long when this is done.
    """
    snapshot, start = not_busy(store, wait), time.monotonic()
    name = column or _own_name(snapshot, question, choices)
    is_own = _is_answers if column else partial(_is_of, question=question, choices=choices)  # by what name was chosen
    check_replaces(snapshot, name, is_own)
    asker = Asker(snapshot, encoder, question, choices)
    ids, found = [], []
    for some, rows in picture_chunks(snapshot):
        ids.append(some)
        found += asker.answers(rows)
        if tell is not None:
            tell(Progress("answers", len(found), snapshot.count("images")))
    made = AddedColumn(name, np.concatenate(ids), found, "text", _made(question, choices, asker, encoder))
    done = commit_given(store, snapshot, [(made, asker.answers)], is_own=is_own, wait=wait, since=start)
    found = list(done.columns[0].values)
    counts = {choice: found.count(choice) for choice in asker.asked.choices}
    return ColumnReport(
        name, question, asker.asked.kind, len(found), counts, found.count(None), done.version, asker.notes
    )


@dataclass(frozen=True, slots=True, eq=False)
class AnswerGiver:
    """Answers the question of a column that is there for pictures that came later."""

    asker: Asker
    type_: str = "text"

    def give(self, rows: Floats) -> list[str | None]:
        """Return the answer for each picture (n, D), None where none of the choices fits."""
        return self.asker.answers(rows)


def _made(question: str, choices: Sequence[str] | None, asker: Asker, encoder: Encoder) -> bytes:
    """Return what is kept of a question: enough to ask it again as it was asked."""
    facts = {
        "made_by": _MADE_BY,
        "question": question,
        "choices": None if choices is None else list(choices),
        "fingerprint": encoder.fingerprint(),
        "sample": asker.sample.tolist(),
    }
    return json.dumps(facts).encode()


def ask_giver(made: bytes, snapshot: Snapshot, encoder: Callable[[], Encoder]) -> AnswerGiver | None:
    """Return what answers the question of a column, measured on the same pictures; None where it is no question's.

    Raises:
        InputError: it was asked of other weights, or too few of those pictures are left.
    """
    try:
        facts = json.loads(made)
        if facts["made_by"] != _MADE_BY:
            return None
        question, choices = facts["question"], facts["choices"]
        like = np.array(facts["sample"], dtype=np.int64)
    except (ValueError, TypeError, KeyError):
        return None
    if facts.get("fingerprint") != encoder().fingerprint():
        raise InputError("its question was embedded with other weights.")
    if np.count_nonzero(snapshot.contains("images", like)) < MIN_PICTURES:
        raise InputError("the pictures that its question was measured on are gone.")
    return AnswerGiver(Asker(snapshot, encoder(), question, choices, like))


def column_name(question: str) -> str:
    """Return the name of a question's column: ask_ and its first words."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in question.lower()).split()
    return "_".join(["ask", *words])[:40].rstrip("_")


def _notes(encoder: Encoder, asked: Asked) -> tuple[str, ...]:
    """Return what a person should know of a model's answers to a question."""
    notes = []
    strange = next((text for text in (asked.question, *asked.choices) if not encoder.covers_text(text)), None)
    if strange is not None:
        notes.append(f"The model {encoder.name!r} may not understand {strange!r}.")
    if asked.kind in encoder.card.weak_at:
        notes.append(
            f"The model {encoder.name!r} answers {asked.kind!r} no better than the commonest answer would; "
            "measured in docs/words.md."
        )
    return tuple(notes)


def _own_name(snapshot: Snapshot, question: str, choices: Sequence[str] | None) -> str:
    """Return the name of a question's column; where another question has it, with a number behind."""
    base, n = column_name(question), 1
    name = base
    while name in snapshot.added_columns() and not _is_of(snapshot.made_of(name), question, choices):
        n += 1
        name = f"{base}_{n}"
    return name


def _is_answers(made: bytes) -> bool:
    """Tell whether a column was made by a question."""
    try:
        return str(json.loads(made)["made_by"]).startswith("clipsearch ask")
    except (ValueError, TypeError, KeyError):
        return False


def _is_of(made: bytes | None, question: str, choices: Sequence[str] | None) -> bool:
    """Tell whether a column was made by this very question."""
    try:
        facts = json.loads(made or b"null")
        return facts["question"] == question and facts["choices"] == (None if choices is None else list(choices))
    except (ValueError, TypeError, KeyError):
        return False
