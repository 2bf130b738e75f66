"""Captions against references: BLEU, ROUGE-L and CIDEr-D, each as its paper and its common implementation have it.

A text is taken as its words in lower case; punctuation is left out, as COCO's evaluation does.

- BLEU-n (Papineni et al. 2002), by sacrebleu: the geometric mean of the clipped precisions of 1- to n-grams over the
  whole set, times a penalty where the captions are shorter than the references nearest in length. No smoothing.
- ROUGE-L (Lin 2004): the longest common subsequence as F1, best of the references, mean over captions. Written here, as
  is CIDEr-D: their packages are no longer kept, or need torch or Java; tests compare with the values of theirs.
- CIDEr-D (Vedantam et al. 2015): cosine of tf-idf weighted n-grams (n = 1 to 4), clipped, times a Gaussian of the
  difference in length (sigma 6), mean over n and references, times 10. Document frequencies: of the references.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from clipsearch.errors import InputError

Words = Sequence[str]
Grams = Counter[tuple[str, ...]]
MAX_N = 4
SIGMA = 6.0
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of a set of captions: BLEU-1 to BLEU-4 and ROUGE-L from 0 to 1, CIDEr-D from 0 to 10.

    ``bleu`` is None where sacrebleu is not installed (extra ``evaluate``).
    """

    bleu: tuple[float, ...] | None
    rouge_l: float
    cider_d: float
    n: int


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score captions, each against its references.

    Raises:
        InputError: there is none, or one has no reference.
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise InputError("Each caption needs a reference to be compared with.")
    said = [words_of(text) for text in captions]
    wanted = [[words_of(text) for text in texts] for texts in references]
    return CaptionScores(bleu(said, wanted), rouge_l(said, wanted), cider_d(said, wanted), len(said))


def bleu(said: Sequence[Words], wanted: Sequence[Sequence[Words]]) -> tuple[float, ...] | None:
    """Return BLEU-1 to BLEU-4 of a corpus, 0 to 1; None where sacrebleu is not installed."""
    if find_spec("sacrebleu") is None:
        return None
    from sacrebleu.metrics.bleu import BLEU

    captions = [" ".join(words) for words in said]
    streams = [
        [" ".join(texts[n]) if n < len(texts) else None for texts in wanted] for n in range(max(map(len, wanted)))
    ]
    measures = (BLEU(tokenize="none", smooth_method="none", max_ngram_order=n + 1) for n in range(MAX_N))
    return tuple(
        measure.corpus_score(captions, streams).score / 100  # pyright: ignore[reportArgumentType] (None is allowed)
        for measure in measures
    )


def rouge_l(said: Sequence[Words], wanted: Sequence[Sequence[Words]]) -> float:
    """Return the mean over captions of the best F1 of the longest common subsequence, 0 to 1."""
    return _mean(
        max(_rouge(words, reference) for reference in texts) for words, texts in zip(said, wanted, strict=True)
    )


def cider_d(said: Sequence[Words], wanted: Sequence[Sequence[Words]]) -> float:
    """Return CIDEr-D, 0 to 10."""
    frequencies: Counter[tuple[str, ...]] = Counter()
    for references in wanted:
        frequencies.update(
            {gram for reference in references for n in range(1, MAX_N + 1) for gram in _grams(reference, n)}
        )
    whole = math.log(len(wanted)) if len(wanted) > 1 else 0.0
    scores = []
    for words, references in zip(said, wanted, strict=True):
        own = _weighed(words, frequencies, whole)
        scores.append(_mean(_alike(own, _weighed(reference, frequencies, whole)) for reference in references))
    return 10 * _mean(scores)


@dataclass(frozen=True, slots=True)
class _Vectors:
    """The tf-idf vectors of a text's n-grams, their norms, and its length in bigrams."""

    by_n: tuple[dict[tuple[str, ...], float], ...]
    norms: tuple[float, ...]
    length: int


def _weighed(words: Words, frequencies: Counter[tuple[str, ...]], whole: float) -> _Vectors:
    by_n = tuple(
        {gram: count * (whole - math.log(max(1, frequencies[gram]))) for gram, count in _grams(words, n).items()}
        for n in range(1, MAX_N + 1)
    )
    norms = tuple(math.sqrt(sum(value * value for value in vector.values())) for vector in by_n)
    return _Vectors(by_n, norms, max(len(words) - 1, 0))


def _alike(own: _Vectors, other: _Vectors) -> float:
    near = math.exp(-((own.length - other.length) ** 2) / (2 * SIGMA**2))
    cosines = []
    for mine, theirs, a, b in zip(own.by_n, other.by_n, own.norms, other.norms, strict=True):
        product = sum(min(value, theirs[gram]) * theirs[gram] for gram, value in mine.items() if gram in theirs)
        cosines.append(product / (a * b) * near if a and b else product * near)
    return _mean(cosines)


def _rouge(words: Words, reference: Words) -> float:
    common = _longest_common(words, reference)
    return 2 * common / (len(words) + len(reference)) if common else 0.0


def _longest_common(a: Words, b: Words) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def _grams(words: Words, n: int) -> Grams:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
