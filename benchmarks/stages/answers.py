"""How often `clipsearch ask` is right, beside chance, and how often it withholds an answer where it should.

    python benchmarks/stages/answers.py DATA --work DIR [--part all] [--out benchmarks/results/answers.jsonl]

DATA has flickr8k/dev.tar and dev.csv (1,000 photographs, five captions each) and clothing/images.tar and labels.csv.
The questions are made by rule from captions and labels (``answer_sets.py``) and measured by what
``clipsearch evaluate answers`` runs. One JSON line a set and form. ``--part choose`` takes one half of the photographs
and the training and validation split of the clothes: templates and settings are chosen on these, and judged on the
others, ``--part judge``. ``--work`` keeps the collections, and the questions as CSV files that the command takes too.
"""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))
from answer_sets import Captions, Question, classes, questions
from results import append, machine

import clipsearch
from clipsearch.embed.base import Encoder
from clipsearch.flows.evaluate_answers import AnswerAccuracy, evaluate_answers

WORDS = {
    "dress": "dress",
    "hat": "hat",
    "longsleeve": "long-sleeved top",
    "outwear": "jacket",
    "pants": "trousers",
    "shirt": "shirt",
    "shoes": "shoes",
    "shorts": "shorts",
    "skirt": "skirt",
    "t-shirt": "T-shirt",
}
PARTS = ("all", "choose", "judge")
SHARES = ("first", "right", "right_of_answered", "withheld_there", "withheld_absent")


class Remembering:  # stands in for an Encoder, as far as answers ask for one
    """An encoder that embeds each text once: the fillers of a question are those of the next one too."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._known = encoder, {}

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_texts(self, texts):
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode_texts(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def indexed(source: Path, place: Path, model: str) -> clipsearch.Collection:
    """Return the collection of a tar, made now where it is not there."""
    if not place.is_dir():
        with clipsearch.create(place, model=model) as made:
            made.index(source)
    return clipsearch.open(place)


def photographs(folder: Path, part: str) -> Captions:
    """Return the names of dev pictures, all or one half of them, with their captions."""
    captions: dict[str, list[str]] = {}
    with open(folder / "dev.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], []).append(row["caption"].strip())
    names = sorted(captions)
    order = np.random.default_rng(0).permutation(len(names)).tolist()
    half = {"all": order, "choose": order[: len(names) // 2], "judge": order[len(names) // 2 :]}[part]
    return {names[n]: captions[names[n]] for n in sorted(half)}


def clothes(folder: Path, part: str) -> list[tuple[str, str]]:
    """Return (picture, label) of the clothes."""
    splits = {"all": ("train", "validation", "test"), "choose": ("train", "validation"), "judge": ("test",)}[part]
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        return [(row["image"], row["label"]) for row in csv.DictReader(file) if row["split"] in splits]


def measured(
    collection: clipsearch.Collection, encoder: Encoder, asked: Sequence[Question], file: Path
) -> AnswerAccuracy:
    """Write questions as CSV and measure them."""
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["image", "question", "choices", "answer"])
        writer.writerows(one.row() for one in asked)
    return evaluate_answers(collection._current().snapshot, encoder, file)


def line(group: str, form: str, found: AnswerAccuracy) -> str:
    """Return a row of the table that is printed."""
    shares = [(name, getattr(found, name)) for name in SHARES]
    told = [f"{name} {100 * s.value:.1f} ({100 * s.low:.0f}-{100 * s.high:.0f})" for name, s in shares if s is not None]
    if found.chance is not None:
        told.insert(0, f"chance {100 * found.chance:.1f} commonest {100 * (found.commonest or 0):.1f}")
    return f"{group:16} {form:8} n {found.questions:5}  {'  '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--part", choices=PARTS, default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="benchmarks/results/answers.jsonl")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    dev = indexed(options.data / "flickr8k/dev.tar", options.work / "dev", options.model)
    worn = indexed(options.data / "clothing/images.tar", options.work / "clothes", options.model)
    encoder = cast(Encoder, Remembering(dev.encoder))
    asked = questions(photographs(options.data / "flickr8k", options.part), options.seed)
    asked += classes(clothes(options.data / "clothing", options.part), WORDS, "what is it?")
    forms: dict[tuple[str, str], list[Question]] = {}
    for one in asked:
        forms.setdefault((one.group, one.form), []).append(one)
        if one.form != "there" and one.group != "clothes":
            forms.setdefault(("all photographs", one.form), []).append(one)
    for (group, form), some in forms.items():
        collection = worn if group == "clothes" else dev
        file = options.work / f"{options.part}-{group}-{form}.csv".replace(" ", "-")
        found = measured(collection, encoder, some, file)
        print(line(group, form, found), flush=True)
        if not options.out:
            continue
        record = {"stage": "answers", "model": dev.encoder.name, "fingerprint": dev.encoder.fingerprint()[:12]}
        record |= {"set": group, "form": form, "part": options.part, "seed": options.seed, **rounded(asdict(found))}
        append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})


def rounded(value: Any) -> Any:  # Any: what JSON can hold
    """Return figures with four digits behind the point."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
