"""Measure answers against true ones: which are right, beside what guessing would give, and when none was given.

Three shares tell apart what can go wrong. *First*: the right choice ranks first, whatever "none of these" says; that is
the model's. *Right*: it is the answer that was given. *Withheld*: none was given, once where the right one was among
the choices (a loss), once where it was not (as it should be).
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clipsearch.describe.statements import read_question
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.evaluation.intervals import Share, grouped_share
from clipsearch.flows.ask import Asker
from clipsearch.flows.captions import ImagePlaces
from clipsearch.flows.tagger import widened
from clipsearch.scan.captions import Problems
from clipsearch.scan.csv_rows import opened_csv, read_rows
from clipsearch.store import Snapshot

NONE = "none of these"


@dataclass(frozen=True, slots=True)
class AnswerAccuracy:
    """Answers against true ones; shares are None where there is nothing to take one of.

    Attributes:
        questions: how many were asked.
        right: the share answered rightly; "none of these" is right where it is the true answer.
        right_of_answered: the same, of those that got an answer.
        unanswered: how many got none.
        missing: questions about pictures that the collection lacks.
        first: of those whose true answer is a choice: the share where it ranks first.
        chance: what ``first`` would be by drawing a choice.
        commonest: what it would be by always giving the commonest true answer to a question.
        withheld_there: of those whose true answer is a choice: the share that got none.
        withheld_absent: of those whose true answer is "none of these": the share that got none.
        impossible: questions whose true answer is neither a choice nor "none of these".
        notes: lines that were left out, and why.
    """

    questions: int
    right: Share
    right_of_answered: Share | None
    unanswered: int
    missing: int
    first: Share | None = None
    chance: float | None = None
    commonest: float | None = None
    withheld_there: Share | None = None
    withheld_absent: Share | None = None
    impossible: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class _Answered:
    """What came of questions, one after the other: the picture, whether its true answer is a choice, and so on."""

    pictures: list[int] = field(default_factory=list)
    there: list[bool] = field(default_factory=list)
    given: list[bool] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    chance: list[float] = field(default_factory=list)
    commonest: list[bool] = field(default_factory=list)
    impossible: int = 0

    def add(self, asker: Asker, snapshot: Snapshot, asked: Sequence[tuple[int, str]]) -> None:
        """Ask one question about pictures, given with their true answers."""
        ids = [id_ for id_, _ in asked]
        rows = widened(snapshot.embeddings("images", ids))
        choices = {choice.lower() for choice in asker.asked.choices}
        truth = [answer.lower() for _, answer in asked]
        common = Counter(answer for answer in truth if answer in choices).most_common(1)
        for answer, given, best in zip(truth, asker.answers(rows), asker.best(rows), strict=True):
            self.there.append(answer != NONE or answer in choices)
            self.given.append(given is not None)
            self.right.append((given or NONE).lower() == answer)
            self.first.append(best.lower() == answer)
            self.chance.append(1 / len(choices) if answer in choices else 0.0)
            self.commonest.append(bool(common) and answer == common[0][0])
        self.impossible += sum(answer != NONE and answer not in choices for answer in truth)
        self.pictures += ids

    def share(self, hits: Sequence[bool], of: Sequence[bool]) -> Share | None:
        """Return the share of hits among some; questions about one picture stand or fall together."""
        some = np.array(of, dtype=bool)
        if not some.any():
            return None
        return grouped_share(np.array(hits, dtype=bool)[some], np.array(self.pictures)[some], int(some.sum()))


def evaluate_answers(snapshot: Snapshot, encoder: Encoder, path: str | os.PathLike[str]) -> AnswerAccuracy:
    """Measure answers on a CSV with the columns image, question, choices (with | between) and answer.

    The true answer may be "none of these". Lines whose question cannot be asked are left out and named.

    Raises:
        InputError: it has no such columns, or no row can be used.
    """
    problems = Problems()
    groups, missing = _questions(snapshot, path, problems)
    notes = problems.notes(os.fspath(path))
    if not groups:
        raise InputError("\n".join((f"{path} has no question about a picture of this collection.", *notes)))
    found = _Answered()
    for (question, choices), asked in groups.items():
        found.add(Asker(snapshot, encoder, question, _choices(choices)), snapshot, asked)
    withheld = [not given for given in found.given]
    all_ = [True] * len(withheld)
    right = found.share(found.right, all_)
    assert right is not None
    there = np.array(found.there)
    return AnswerAccuracy(
        questions=len(withheld),
        right=right,
        right_of_answered=found.share(found.right, found.given),
        unanswered=sum(withheld),
        missing=missing,
        first=found.share(found.first, found.there),
        chance=float(np.array(found.chance)[there].mean()) if there.any() else None,
        commonest=float(np.array(found.commonest)[there].mean()) if there.any() else None,
        withheld_there=found.share(withheld, found.there),
        withheld_absent=found.share(withheld, [not one for one in found.there]),
        impossible=found.impossible,
        notes=notes,
    )


Groups = dict[tuple[str, str], list[tuple[int, str]]]


def _questions(snapshot: Snapshot, path: str | os.PathLike[str], problems: Problems) -> tuple[Groups, int]:
    """Return (question, choices) → pictures' row ids and true answers, and how many pictures are not there."""
    places = ImagePlaces.of(snapshot)
    beside = os.path.dirname(os.path.abspath(os.fsencode(path)))
    folders = [*(snapshot.root_path(root.id) for root in snapshot.manifest.roots), beside]
    groups: Groups = {}
    missing = 0
    for row in _read_answers(path, problems):
        id_ = places.find(os.fsencode(row["image"]), folders)
        if id_ is None:
            missing += 1
        else:
            groups.setdefault((row["question"], row["choices"]), []).append((id_, row["answer"].strip()))
    return groups, missing


def _choices(written: str) -> list[str] | None:
    return written.split("|") if written else None


def _cannot_ask(question: str, choices: str) -> str | None:
    """Say why a question cannot be asked; None where it can."""
    try:
        read_question(question, _choices(choices))
    except InputError as problem:
        return str(problem).splitlines()[0].split(". ")[0].rstrip(".")[:120]
    return None


def _read_answers(path: str | os.PathLike[str], problems: Problems) -> list[dict[str, str]]:
    with opened_csv(path, f"There is no file of questions {path}.", "a CSV of questions") as file:
        columns, rows = read_rows(file, problems.add)
        lacking = {"image", "question", "choices", "answer"} - set(columns)
        if lacking:
            raise InputError(
                f"{path} has no column {', '.join(sorted(lacking))}.\n"
                "The first line is: image,question,choices,answer; choices have | between, and none for yes or no."
            )
        known: dict[tuple[str, str], str | None] = {}
        return [row for line, row in rows if _is_usable(line, row, known, problems)]


def _is_usable(line: int, row: dict[str, str], known: dict[tuple[str, str], str | None], problems: Problems) -> bool:
    """Say whether a line can be asked; ``known`` keeps what is wrong with a question, which many lines may share."""
    lacking = next((name for name in ("image", "question", "answer") if not row[name].strip()), None)
    asked = row["question"], row["choices"]
    if lacking is None and asked not in known:
        known[asked] = _cannot_ask(*asked)
    wrong = known[asked] if lacking is None else f"no {lacking} in it"
    if wrong is not None:
        problems.add(f"line {line} ({wrong})")
    return wrong is None
